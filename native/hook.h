// The eval callback: steers and captures rows of the residual stream while llama.cpp computes.
//
// Layer il is the output of block il, the graph node named exactly "l_out-<il>". llama.cpp adds its own control
// vector just before that node (src/llama-graph.cpp, build_cvec), so adding to the node's rows once they are
// computed gives the same bits, with a strength of its own for every row.

#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <vector>

#include "ggml-backend.h"
#include "ggml.h"

namespace steercpp {

// The graph lacks a node that was asked for, or its shape is not that of a residual stream.
struct unsteerable_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// x += strength * direction at layer il.
struct operation {
    int32_t il;
    const float * direction; // (n_embd)
    const float * strengths; // (n_tokens): one per row of the plan; 0 leaves the row's bits alone
};

// Which rows of which layers to copy, and where to.
struct capture {
    std::vector<int32_t> layers; // (n_layers), each at most once
    std::vector<int32_t> rows;   // (n_rows), rows of the plan, each at most once
    float * data = nullptr;      // (n_layers, n_rows, n_embd)
};

class hook {
  public:
    // `always_copy` treats every tensor as if it lay on a device, for tests of that path.
    hook(int32_t n_layer, int32_t n_embd, bool always_copy);

    // Arms the hook for a plan of n_tokens rows. What the arguments point to must outlive the decode.
    void arm(int32_t n_tokens, const std::vector<operation> & operations, const capture & capture);

    // Says which rows the next llama_decode computes: n_rows from row_first on, of which `outputs` give logits.
    void start_piece(int32_t row_first, int32_t n_rows, std::vector<int32_t> outputs);

    // Call after every llama_decode: rethrows what went wrong inside it.
    void finish_piece();

    // Call after the plan's last piece: throws unless every layer asked for was met and every row captured.
    void finish_plan() const;

    void disarm();

    // First row that steering drove out of float32's range (its squared norm is not finite); -1: none.
    int32_t nonfinite_row() const { return nonfinite_row_; }

    // Called by ggml for every graph node in the middle of a decode; noexcept because C calls it. `hook` is user_data.
    static bool on_node(ggml_tensor * node, bool ask, void * hook) noexcept;

  private:
    struct layer_work {
        std::vector<operation> operations;
        float * captured = nullptr; // (n_rows, n_embd)
        int32_t n_captured = 0;
        bool met = false;

        bool idle() const { return operations.empty() && captured == nullptr; }
    };

    void visit(ggml_tensor * node, layer_work & work);
    void check_shape(const ggml_tensor * node) const;
    int32_t row_of(int64_t i, int64_t n_rows) const;
    bool concerns(const layer_work & work, int32_t row) const;
    bool treat_row(layer_work & work, int32_t row, float * x);

    const int32_t n_embd_;
    const bool always_copy_;
    std::vector<layer_work> layers_;
    std::vector<int32_t> capture_slot_; // (n_tokens): place of a row among the captured ones; -1: not captured
    int32_t n_capture_rows_ = 0;
    int32_t row_first_ = 0;
    int32_t n_rows_ = 0;
    std::vector<int32_t> outputs_;
    std::vector<float> copied_; // rows on their way from a device and back
    int32_t nonfinite_row_ = -1;
    std::exception_ptr error_;
};

} // namespace steercpp
