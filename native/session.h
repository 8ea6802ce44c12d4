// A model with its context: decodes plans and reads off what was asked for.

#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "hook.h"
#include "llama-cpp.h"
#include "model.h"

namespace steercpp {

// llama.cpp could not make a context or decode a batch; the message carries its own words.
struct decode_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Another thread is using the session.
struct busy_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct session_params {
    uint32_t n_ctx = 512;
    uint32_t n_batch = 512;
    uint32_t n_seq_max = 256;
    int32_t n_threads = 1;
    llama_flash_attn_type flash_attn = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    ggml_type cache_type = GGML_TYPE_F16; // of K and V
    bool always_copy = false;             // see hook
};

// One decode from an empty memory. Row = token; rows of one sequence come in the order of their positions.
struct plan {
    int32_t n_tokens = 0;
    const int32_t * tokens = nullptr;      // (n_tokens)
    const int32_t * positions = nullptr;   // (n_tokens)
    const int32_t * seq_offsets = nullptr; // (n_tokens + 1): token i is in sequences seq_ids[seq_offsets[i]...]
    const int32_t * seq_ids = nullptr;     // (seq_offsets[n_tokens])
    const int8_t * outputs = nullptr;      // (n_tokens): 1 where logits are wanted

    std::vector<operation> operations;
    std::vector<int32_t> capture_layers;
    std::vector<int32_t> capture_rows;

    int32_t n_queries = 0;
    const int32_t * query_rows = nullptr;   // (n_queries), ascending, each an output
    const int32_t * query_tokens = nullptr; // (n_queries): the next token whose probability is wanted

    bool want_logits = false;
};

struct decode_result {
    std::vector<double> logprobs; // (n_queries), nats
    std::vector<float> captures;  // (n_capture_layers, n_capture_rows, n_embd)
    std::vector<float> logits;    // (n_outputs, n_vocab) if wanted
    int32_t nonfinite_row = -1;   // first row that is no longer a number; then the rest means nothing
    int32_t n_capture_layers = 0;
    int32_t n_capture_rows = 0;
    int32_t n_embd = 0;
    int32_t n_vocab = 0;
};

class session {
  public:
    session(std::shared_ptr<const model> model, const session_params & params);

    session(const session &) = delete;
    session & operator=(const session &) = delete;

    // Throws std::invalid_argument for a plan that cannot be, decode_error, unsteerable_error or busy_error.
    // After any of them the session can be used as before.
    decode_result decode(const plan & plan);

    // llama.cpp's own control vector, for comparison: n_embd * (n_layer - 1) values from layer 1 on, or nullptr for
    // none.
    void set_control_vector(const float * data);

    int32_t n_embd() const { return model_->n_embd(); }
    int32_t n_layer() const { return model_->n_layer(); }
    uint32_t n_ctx() const { return llama_n_ctx(context_.get()); }
    uint32_t n_batch() const { return params_.n_batch; }
    uint32_t n_seq_max() const { return params_.n_seq_max; }

  private:
    void check(const plan & plan) const;
    void run(const plan & plan, decode_result & result);
    void decode_piece(const plan & plan, int32_t row_first, int32_t n_rows);
    void
    read_outputs(const plan & plan, int32_t row_first, const std::vector<int32_t> & outputs, decode_result & result);

    std::shared_ptr<const model> model_; // before the context, which borrows it
    session_params params_;
    hook hook_;
    llama_context_ptr context_;
    std::vector<int32_t> n_seq_id_;
    std::vector<llama_seq_id *> seq_id_;
    int32_t next_query_ = 0;
    bool tainted_ = false; // K/V cells may hold values that are not finite, which masking does not hide
    std::mutex in_use_;
};

} // namespace steercpp
