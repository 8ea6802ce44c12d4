#include "model.h"

#include <exception>
#include <mutex>
#include <numeric>

#include "aborts.h"
#include "log.h"

namespace steercpp {

namespace {

// Only what would be ignored or read beyond its end; llama.cpp checks the rest.
void check_devices(const load_params & params, size_t n_devices) {
    const auto count = std::to_string(n_devices);
    if (params.tensor_split.size() > n_devices) {
        throw device_error(
            "tensor_split has " + std::to_string(params.tensor_split.size()) + " shares for " + count + " devices"
        );
    }
    if (params.split_mode == LLAMA_SPLIT_MODE_NONE && n_devices > 0 &&
        params.main_gpu >= static_cast<int32_t>(n_devices)) {
        throw device_error("main_gpu is " + std::to_string(params.main_gpu) + " of " + count + " devices");
    }
}

// llama.cpp asks after each tensor whether to go on.
struct load_watch {
    const std::function<void()> & go_on;
    std::exception_ptr error;

    static bool on_progress(float /*share*/, void * watch_) noexcept {
        auto & watch = *static_cast<load_watch *>(watch_);
        try {
            watch.go_on();
        } catch (...) { watch.error = std::current_exception(); }
        return watch.error == nullptr;
    }
};

} // namespace

model::model(const std::string & path, load_params options)
    : servers_(options.rpc) {
    static std::once_flag once;
    std::call_once(once, llama_backend_init);

    std::vector<ggml_backend_dev_t> devices = devices_for(options.rpc);
    check_devices(options, devices.size());
    uses_devices_ = !devices.empty() && options.n_gpu_layers != 0;
    devices.push_back(nullptr);

    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = options.n_gpu_layers;
    params.main_gpu = options.main_gpu;
    params.split_mode = options.split_mode;
    params.load_mode = options.use_mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    if (!options.tensor_split.empty()) {
        options.tensor_split.resize(llama_max_devices(), 0.0f); // so many are read
        params.tensor_split = options.tensor_split.data();
    }
    if (!options.rpc.empty() || any_rpc_device_registered()) {
        params.devices = devices.data();
    }

    load_watch watch{options.go_on, nullptr};
    if (options.go_on) {
        params.progress_callback = load_watch::on_progress;
        params.progress_callback_user_data = &watch;
    }

    const aborts_throw guard;
    log_forget();
    try {
        call_on_file([&] { model_.reset(llama_model_load_from_file(path.c_str(), params)); });
    } catch (const abort_error & error) { throw model_error(as_line(error.what())); }
    if (watch.error) {
        std::rethrow_exception(watch.error);
    }
    if (!model_) {
        throw model_error(log_errors());
    }
    vocab_ = llama_model_get_vocab(get());
    if (llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_NONE) {
        throw model_error("it has no vocabulary");
    }
    if (llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_RWKV) {
        bytes_.resize(256, false);
        for (llama_token token = 0; token < n_vocab(); ++token) {
            if (const std::string text = spell({token}); text.size() == 1) {
                bytes_[static_cast<uint8_t>(text[0])] = true;
            }
        }
    }
    if (llama_model_has_encoder(get()) || !llama_model_has_decoder(get())) {
        throw model_error("it has an encoder; only plain decoders can be steered");
    }
    check_rotation();
    check_vocabulary();
    const std::string n_expert = metadata(metadata("general.architecture") + ".expert_count");
    has_experts_ = !n_expert.empty() && n_expert != "0";
}

// ggml goes round for ever where no value of a head is to be rotated (its ggml_compute_forward_rope_flt).
void model::check_rotation() const {
    const bool rotates = llama_model_rope_type(get()) != LLAMA_ROPE_TYPE_NONE;
    for (const char * key : {".rope.dimension_count", ".rope.dimension_count_swa"}) {
        if (rotates && metadata(metadata("general.architecture") + key) == "0") {
            throw model_error(std::string(key + 1) + " is 0, and this architecture rotates");
        }
    }
}

// Writes every token and tokenizes once: of a vocabulary that claims what it cannot do, llama.cpp finds out only then.
void model::check_vocabulary() const {
    std::vector<llama_token> tokens(static_cast<size_t>(n_vocab()));
    std::iota(tokens.begin(), tokens.end(), 0);
    try {
        spell(tokens);
        tokenize("", true, true);
    } catch (const std::exception & error) {
        throw model_error(as_line(std::string("its vocabulary cannot be used: ") + error.what()));
    }
}

bool model::is_recurrent() const {
    return llama_model_is_recurrent(get()) || llama_model_is_hybrid(get());
}

std::string model::description() const {
    char buffer[256];
    llama_model_desc(get(), buffer, sizeof(buffer));
    return buffer;
}

std::string model::chat_template() const {
    const char * text = llama_model_chat_template(get(), nullptr);
    return text ? text : "";
}

std::string model::metadata(const std::string & key) const {
    const int32_t size = llama_model_meta_val_str(get(), key.c_str(), nullptr, 0);
    if (size < 0) {
        return "";
    }
    std::string value(static_cast<size_t>(size) + 1, '\0');
    llama_model_meta_val_str(get(), key.c_str(), value.data(), value.size());
    value.resize(static_cast<size_t>(size));
    return value;
}

// llama.cpp's tokenizer of rwkv never ends where a byte only begins longer tokens, and none of them fits.
void model::check_bytes(const std::string & text) const {
    for (const char byte : text) {
        if (!bytes_.empty() && !bytes_[static_cast<uint8_t>(byte)]) {
            throw std::out_of_range("a byte has no token");
        }
    }
}

std::vector<llama_token> model::tokenize(const std::string & text, bool add_special, bool parse_special) const {
    check_bytes(text);
    const auto size = static_cast<int32_t>(text.size());
    std::vector<llama_token> tokens(text.size() + 2); // no token is empty; BOS and EOS may be added
    int32_t n = llama_tokenize(
        vocab_, text.data(), size, tokens.data(), static_cast<int32_t>(tokens.size()), add_special, parse_special
    );
    if (n < 0) {
        tokens.resize(static_cast<size_t>(-n));
        n = llama_tokenize(vocab_, text.data(), size, tokens.data(), -n, add_special, parse_special);
    }
    if (n < 0) {
        throw std::runtime_error("llama_tokenize failed");
    }
    tokens.resize(static_cast<size_t>(n));
    for (const llama_token token : tokens) {
        if (token < 0) { // a vocabulary that has no unknown token either
            throw std::out_of_range("a byte has no token");
        }
    }
    return tokens;
}

void model::check_tokens(const std::vector<llama_token> & tokens) const {
    for (const llama_token token : tokens) {
        if (token < 0 || token >= n_vocab()) {
            throw std::invalid_argument("token " + std::to_string(token) + " is outside the vocabulary");
        }
    }
}

std::string model::detokenize(const std::vector<llama_token> & tokens) const {
    check_tokens(tokens);
    const bool is_whole_text = !tokens.empty() && tokens.front() == bos();
    return is_whole_text ? whole_text(tokens.data() + 1, static_cast<int32_t>(tokens.size()) - 1) : spell(tokens);
}

// llama_detokenize drops the space that the tokenizer puts before a text.
std::string model::whole_text(const llama_token * tokens, int32_t n_tokens) const {
    std::string text(16 * static_cast<size_t>(n_tokens) + 16, '\0');
    auto size = static_cast<int32_t>(text.size());
    int32_t n = llama_detokenize(vocab_, tokens, n_tokens, text.data(), size, false, true);
    if (n < 0) {
        text.resize(static_cast<size_t>(-n));
        n = llama_detokenize(vocab_, tokens, n_tokens, text.data(), -n, false, true);
    }
    if (n < 0) {
        throw std::runtime_error("llama_detokenize failed");
    }
    text.resize(static_cast<size_t>(n));
    return text;
}

std::string model::spell(const std::vector<llama_token> & tokens) const {
    check_tokens(tokens);
    std::string text;
    std::string piece(64, '\0');
    for (const llama_token token : tokens) {
        int32_t n = llama_token_to_piece(vocab_, token, piece.data(), static_cast<int32_t>(piece.size()), 0, true);
        if (n < 0) {
            piece.resize(static_cast<size_t>(-n));
            n = llama_token_to_piece(vocab_, token, piece.data(), -n, 0, true);
        }
        text.append(piece, 0, static_cast<size_t>(n));
    }
    return text;
}

std::string model::piece(llama_token token) const {
    if (token < 0 || token >= n_vocab()) {
        return "";
    }
    const char * text = llama_vocab_get_text(vocab_, token);
    return text ? text : "";
}

std::string model::kind() const {
    switch (llama_vocab_type(vocab_)) {
    case LLAMA_VOCAB_TYPE_SPM:
        return "spm";
    case LLAMA_VOCAB_TYPE_BPE:
        return "bpe";
    case LLAMA_VOCAB_TYPE_WPM:
        return "wpm";
    case LLAMA_VOCAB_TYPE_UGM:
        return "ugm";
    case LLAMA_VOCAB_TYPE_RWKV:
        return "rwkv";
    case LLAMA_VOCAB_TYPE_PLAMO2:
        return "plamo2";
    default:
        return "";
    }
}

std::vector<llama_token> model::unknown_tokens() const {
    const std::string named = metadata("tokenizer.ggml.unknown_token_id");
    std::vector<llama_token> tokens;
    for (llama_token token = 0; token < n_vocab(); ++token) {
        if ((llama_vocab_get_attr(vocab_, token) & LLAMA_TOKEN_ATTR_UNKNOWN) || std::to_string(token) == named) {
            tokens.push_back(token);
        }
    }
    return tokens;
}

} // namespace steercpp
