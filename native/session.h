// A model with its context: decodes plans and reads off what was asked for.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cells.h"
#include "hook.h"
#include "llama-cpp.h"
#include "model.h"
#include "sampling.h"

namespace steercpp {

// llama.cpp could not make a context or decode a batch; the message carries its own words.
struct decode_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Another thread is using the session, or this one is already in the middle of a decode.
struct busy_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct session_params {
    uint32_t n_ctx = 512; // of each sequence where kv_unified is off, else of all together
    uint32_t n_batch = 512;
    uint32_t n_seq_max = 256;
    int32_t n_threads = 1;
    llama_flash_attn_type flash_attn = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    bool offload_kqv = true;
    bool kv_unified = true;   // one K/V buffer for all sequences; off: a stream of its own for each
    bool hook = true;         // off: no callback at all, for comparison
    bool always_copy = false; // see hook
    bool in_graph = false;    // steer inside the graph where that can be: see inject.h
};

// Positions 0..n_positions-1 of sequence `from` belong to sequence `to` as well.
struct sequence_copy {
    int32_t from;
    int32_t to;
    int32_t n_positions;
};

// One llama_decode: some rows of a plan.
struct plan_piece {
    int32_t n_rows = 0;
    std::vector<sequence_copy> copies; // made before it
    int32_t trunk = -1;                // the only sequence kept after it; -1: all are

    // Where rows are placed, in pieces that all are: the two highest sequences are not the plan's own then.
    std::vector<int32_t> places;  // (n_rows), ascending: each row's cell; empty: the first ones that are free
    int32_t n_held = 0;           // cells that the trunk before it has, the first ones
    std::vector<tail_copy> tails; // stored before the copies are made
    int32_t settle = -1;          // after it, the trunk from this position on moves to the first free cells
};

// A run of rows. Row = token; rows of one sequence come in the order of their positions.
struct plan {
    int32_t n_tokens = 0;
    const int32_t * tokens = nullptr;      // (n_tokens)
    const int32_t * positions = nullptr;   // (n_tokens)
    const int32_t * seq_offsets = nullptr; // (n_tokens + 1): token i is in sequences seq_ids[seq_offsets[i]...]
    const int32_t * seq_ids = nullptr;     // (seq_offsets[n_tokens])
    const int8_t * outputs = nullptr;      // (n_tokens): 1 where logits are wanted
    std::vector<plan_piece> pieces;        // their n_rows add up to n_tokens
    bool fresh = true;                     // from an empty memory; else it goes on from the plan before

    std::vector<operation> operations;
    std::vector<int32_t> capture_layers;
    std::vector<int32_t> capture_rows;

    int32_t keep_il = -1;     // base pass: keep what is needed to start where this layer is steered
    bool keep_logits = false; // and the logits, for KL
    const kept * base = nullptr;
    // K and V of what the base leaves out are in the cells already: copied with copy_sequence from where the base was
    // run, and the positions given up by cut_sequence. So a plan may go on from this one.
    bool keeps_below = false;

    int32_t n_queries = 0;
    const int32_t * query_rows = nullptr;   // (n_queries), ascending, each an output
    const int32_t * query_tokens = nullptr; // (n_queries): the next token whose probability is wanted

    bool want_logits = false;
    bool want_entropy = false;
    bool want_kl = false;           // KL(steered || unsteered), against the logits that the base kept
    bool want_kl_from_base = false; // KL(unsteered || steered), likewise
    int32_t n_top = 0;
    std::vector<int32_t> sampler_rows; // ascending, each an output
    std::vector<sampler *> samplers;   // one for each of these rows
    bool want_sampled_logprobs = false;

    bool want_attention_bits = false; // a hash for each row, of one graph for each piece

    std::function<void()> go_on; // called after each piece; what it throws ends the decode
};

// n_outputs rows are the plan's outputs, in order.
struct decode_result {
    std::vector<double> logprobs;         // (n_queries), nats
    std::vector<float> captures;          // (n_capture_layers, n_capture_rows, n_embd)
    std::vector<float> logits;            // (n_outputs, n_vocab) if wanted
    std::vector<double> entropy;          // (n_outputs) if wanted
    std::vector<double> kl;               // (n_outputs) if wanted
    std::vector<double> kl_from_base;     // (n_outputs) if wanted
    std::vector<int32_t> top_tokens;      // (n_outputs, n_top)
    std::vector<double> top_logprobs;     // (n_outputs, n_top)
    std::vector<uint64_t> attention_bits; // (n_tokens) if wanted
    std::vector<int32_t> sampled;         // (n_samplers): the next token of each
    std::shared_ptr<kept> base;           // of a base pass
    int64_t token_layers = 0;             // tokens times blocks computed
    int64_t n_cuts = 0;                   // times that the graph was cut for the callback
    int64_t n_writes = 0;                 // tensors written for steering inside the graph
    bool resumed = false;
    std::string reason;               // why not, where a base was given
    int32_t nonfinite_row = -1;       // first of failed_rows
    std::vector<int32_t> failed_rows; // ascending: rows out of float32's range; what is read off them means nothing
    int32_t n_capture_layers = 0;
    int32_t n_capture_rows = 0;
    int32_t n_embd = 0;
    int32_t n_vocab = 0;
    int32_t n_top = 0;
    std::vector<double> sampled_logprobs; // (n_samplers) if wanted: of each token drawn, before any sampler
};

class session {
  public:
    session(std::shared_ptr<const model> model, const session_params & params);

    session(const session &) = delete;
    session & operator=(const session &) = delete;

    // Throws std::invalid_argument for a plan that cannot be, decode_error, unsteerable_error, busy_error, or what
    // go_on throws. After any of them the session can be used as before, from an empty memory.
    decode_result decode(const plan & plan);

    // Makes sequence `to` what sequence `from` is, K and V of all its positions; each must have a stream of its own.
    void copy_sequence(int32_t from, int32_t to);

    // Gives up the positions of a sequence from n_positions on. Their K and V stay where they are until other
    // positions take their cells.
    void cut_sequence(int32_t sequence, int32_t n_positions);

    // llama.cpp's own control vector, for comparison: n_embd * (n_layer - 1) values from layer 1 on, or nullptr for
    // none.
    void set_control_vector(const float * data);

    int32_t n_embd() const { return model_->n_embd(); }
    int32_t n_layer() const { return model_->n_layer(); }

  private:
    void try_out();
    void rest_control_vector();
    void check(const plan & plan) const;
    void check_rows(const plan & plan) const;
    void check_places(const plan & plan, const plan_piece & piece) const;
    void check_base(const plan & plan) const;
    void attempt(const plan & plan, const kept * base, decode_result & result);
    void run(const plan & plan, const kept * base, decode_result & result);
    bool decode_piece(const plan & plan, const plan_piece & piece, int32_t row_first);
    std::vector<ubatch_rows> ubatches_of(const plan & plan, const plan_piece & piece, int32_t row_first) const;
    void give_up_rows(const plan & plan);
    void mark_partial(const plan & plan, bool is_partial);
    bool decode_batch(const llama_batch & batch);
    cells piece_cells();
    int64_t n_blocks(const plan & plan, const kept_piece * resume) const;
    void
    read_outputs(const plan & plan, int32_t row_first, const std::vector<int32_t> & outputs, decode_result & result);
    void read_row(const plan & plan, int32_t row, const float * logits, decode_result & result);

    std::shared_ptr<const model> model_; // before the context, which borrows it
    session_params params_;
    hook hook_;
    draw_buffers draw_buffers_;
    llama_context_ptr context_;
    std::vector<int32_t> n_seq_id_;
    std::vector<llama_seq_id *> seq_id_;
    int32_t next_query_ = 0;
    int32_t next_output_ = 0;
    size_t next_sampler_ = 0;
    uint64_t control_vector_ = 0; // 0: none of a caller's, else a number of its own
    uint64_t n_control_vectors_ = 0;
    bool tainted_ = false;        // K/V cells may hold values that are not finite, which masking does not hide
    std::vector<int8_t> partial_; // (n_seq_max): 1 where K/V of some blocks is not the sequence's own, or incomplete
    std::atomic<bool> in_use_{false};
};

} // namespace steercpp
