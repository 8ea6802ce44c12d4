// The eval callback: steers, captures and leaves out parts of the graph while llama.cpp computes.
//
// Layer il is the output of block il, the graph node named exactly "l_out-<il>". llama.cpp adds its own control
// vector just before that node (src/llama-graph.cpp, build_cvec), so adding to the node's rows once they are
// computed gives the same bits, with a strength of its own for every row.
//
// A node is left out by taking GGML_TENSOR_FLAG_COMPUTE from it when the scheduler asks about it, before it is
// computed. llama.cpp uses a graph again, so finish_piece() must put every flag back after each decode.

#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ggml-backend.h"
#include "ggml.h"
#include "inject.h"
#include "operators.h"
#include "resume.h"

namespace steercpp {

// The graph lacks a node that was asked for, or its shape is not that of a residual stream.
struct unsteerable_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Which rows of which layers to copy, and where to.
struct capture {
    std::vector<int32_t> layers; // (n_layers), each at most once
    std::vector<int32_t> rows;   // (n_rows), rows of the plan, each at most once
    float * data = nullptr;      // (n_layers, n_rows, n_embd)
};

// Rows of the plan that one graph computes, in the order in which its nodes hold them.
struct ubatch_rows {
    std::vector<int32_t> rows;
    std::vector<int32_t> outputs; // those that give logits
};

// What one llama_decode computes, and how much of the graph.
struct piece_work {
    std::vector<ubatch_rows> ubatches;   // graphs, one after the other; only one with keep, resume or last_il
    int32_t keep_il = -1;                // base pass: keep the rows of this layer, or of the one below where that
    kept_piece * keep = nullptr;         // leaves out more, and plan what may be left out
    const kept_piece * resume = nullptr; // start from these rows
    int32_t last_il = -1;                // leave out all above this layer; -1: nothing
    bool computes = true;                // false: leave out everything
    uint64_t * attention_bits = nullptr; // (rows of the piece), changed by what attention gives each; one ubatch only
};

class hook {
  public:
    // `always_copy` treats every tensor as if it lay on a device, for tests of that path.
    hook(int32_t n_layer, int32_t n_embd, bool always_copy);

    // Makes what can be made of it inside the graph, which has a control vector of -0 then.
    void steer_in_graph(bool on) { injector_.enable(on); }

    // Arms the hook for a plan of n_tokens rows. What the arguments point to must outlive the decode.
    void arm(int32_t n_tokens, const std::vector<operation> & operations, const capture & capture);

    void start_piece(piece_work work);

    // Call after every llama_decode, whatever it returned: puts the graph back as it was and rethrows what went wrong.
    // Returns false where the graph was not the one that was planned for: nothing of this piece counts then.
    bool finish_piece();

    // Call after the plan's last piece: throws unless every layer asked for was met and every row captured.
    void finish_plan() const;

    // Puts the graph back too, where a decode threw and finish_piece() was not reached.
    void disarm();

    // Rows that steering drives out of float32's range (their squared norm is not finite), as often as it does. They
    // are left unsteered where it would, so that no other row meets what is not a number.
    const std::vector<int32_t> & failed_rows() const { return failed_rows_; }

    // Since arm(): how often the graph was cut, and tensors of the injector written.
    int64_t n_cuts() const { return n_cuts_; }
    int64_t n_writes() const { return injector_.n_writes() - n_writes_before_; }

    // Called by ggml for every graph node in the middle of a decode; noexcept because C calls it. `hook` is user_data.
    static bool on_node(ggml_tensor * node, bool ask, void * hook) noexcept;

  private:
    struct layer_work {
        std::vector<operation> operations;
        std::vector<double> lengths; // squared_length of each operation's direction
        float * captured = nullptr;  // (n_rows, n_embd)
        int32_t n_captured = 0;
        bool met = false; // in this plan

        bool idle() const { return operations.empty() && captured == nullptr; }
    };

    bool asked(ggml_tensor * node);
    bool asked_below(ggml_tensor * node, size_t ordinal);
    bool wants(ggml_tensor * node, int32_t il);
    void leave_out(ggml_tensor * node);
    void put_back();
    void visit(ggml_tensor * node);
    void add_attention_bits(const ggml_tensor * node);
    bool give_rows(ggml_tensor * node);
    void keep_rows(ggml_tensor * node, std::vector<float> & rows);
    void settle_keep();
    void treat(ggml_tensor * node, layer_work & work, const std::vector<int32_t> & rows);
    const std::vector<int32_t> & rows_of(const ggml_tensor * node, const ubatch_rows & ubatch) const;
    bool concerns(const layer_work & work, int32_t row) const;
    bool treat_row(layer_work & work, int32_t row, float * x);

    const int32_t n_embd_;
    const bool always_copy_;
    std::vector<layer_work> layers_;
    std::vector<int32_t> capture_slot_; // (n_tokens): place of a row among the captured ones; -1: not captured
    int32_t n_capture_rows_ = 0;
    piece_work piece_;
    std::vector<ggml_tensor *> nodes_; // of a base pass, in the order asked
    std::vector<float> rows_below_;    // of a base pass, of the layer below keep_il
    std::vector<ggml_tensor *> left_out_;
    injector injector_;
    bool given_ = false;           // the rows to start from are a source in the graph
    std::vector<size_t> n_visits_; // (n_layer): how often met in this piece
    size_t ubatch_ = 0;            // that the injector is at
    size_t n_asked_ = 0;
    bool past_last_ = false;
    bool mismatch_ = false;
    std::vector<float> copied_; // rows on their way from a device and back
    std::vector<float> before_; // (n_embd): a row before it is steered
    std::vector<int32_t> failed_rows_;
    int64_t n_cuts_ = 0;
    int64_t n_writes_before_ = 0;
    std::exception_ptr error_;
};

} // namespace steercpp
