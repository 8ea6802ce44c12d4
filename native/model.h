// A model file and its vocabulary: everything that needs no context.

#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "devices.h"
#include "llama-cpp.h"

namespace steercpp {

// The file cannot be loaded, or is no decoder that can be steered. The message says why, not which file.
struct model_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Named and meant as in llama_model_params.
struct load_params {
    int32_t n_gpu_layers = 0; // 0 none, negative all
    int32_t main_gpu = 0;
    llama_split_mode split_mode = LLAMA_SPLIT_MODE_LAYER;
    bool use_mmap = false;           // mapped weights that llama.cpp lays out anew are in memory twice
    std::vector<float> tensor_split; // a share for each device; empty: by free memory
    std::vector<std::string> rpc;    // servers, each "host:port", whose devices come before this machine's GPUs
    std::function<void()> go_on;     // called again and again meanwhile; what it throws ends the loading
};

class model {
  public:
    model(const std::string & path, load_params params);

    model(const model &) = delete;
    model & operator=(const model &) = delete;

    llama_model * get() const { return model_.get(); }

    int32_t n_layer() const { return llama_model_n_layer(get()); }
    int32_t n_embd() const { return llama_model_n_embd(get()); }
    int32_t n_vocab() const { return llama_vocab_n_tokens(vocab_); }
    int32_t n_ctx_train() const { return llama_model_n_ctx_train(get()); }
    // Tokens that a block with a sliding window sees; 0: it has none.
    int32_t n_swa() const { return llama_model_n_swa(get()); }

    bool has_experts() const { return has_experts_; }
    bool uses_devices() const { return uses_devices_; } // for some of its blocks at least

    // llama.cpp regroups the rows of such a model's batches by sequence, so a row's place says nothing of its token.
    bool is_recurrent() const;

    std::string description() const;
    std::string chat_template() const;                   // empty: the file has none
    std::string metadata(const std::string & key) const; // empty: no such key, or an array

    // Throws std::out_of_range where SentencePiece's or rwkv's vocabulary cannot write a byte; the others lose it
    // without a word, see engine/characters.py.
    std::vector<llama_token> tokenize(const std::string & text, bool add_special, bool parse_special) const;
    // Bytes of tokens one after the other, wherever they stand; special ones are spelled out.
    std::string spell(const std::vector<llama_token> & tokens) const;
    // Bytes of a text, which may end inside a character. Tokens that start with BOS are a whole text; others are the
    // inside of one and keep their leading space. Special tokens but that first BOS are spelled out.
    std::string detokenize(const std::vector<llama_token> & tokens) const;
    // As the vocabulary writes it: "▁A". Empty for none.
    std::string piece(llama_token token) const;
    std::string kind() const; // of tokenizer: "spm", "bpe", "wpm", "ugm", "rwkv", "plamo2", or "" for a newer one
    std::vector<llama_token> unknown_tokens() const;            // those that stand for what the vocabulary lacks
    llama_token bos() const { return llama_vocab_bos(vocab_); } // -1: none
    llama_token eos() const { return llama_vocab_eos(vocab_); }
    bool adds_bos() const { return llama_vocab_get_add_bos(vocab_); }
    bool ends_generation(llama_token token) const { return llama_vocab_is_eog(vocab_, token); }

  private:
    void check_rotation() const;
    void check_vocabulary() const;
    std::string whole_text(const llama_token * tokens, int32_t n_tokens) const;
    void check_bytes(const std::string & text) const;
    void check_tokens(const std::vector<llama_token> & tokens) const;

    server_claim servers_; // before the model, which is freed first
    llama_model_ptr model_;
    const llama_vocab * vocab_ = nullptr;
    bool has_experts_ = false;
    bool uses_devices_ = false;
    std::vector<bool> bytes_; // of an rwkv vocabulary: whether each byte is a token by itself; empty: not asked
};

} // namespace steercpp
