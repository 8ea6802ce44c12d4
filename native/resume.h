// Starting a decode above a layer: what a base pass keeps, and what of the graph below may then be left out.
//
// The rows of l_out-<il> are written in place of being computed, and every node before it that nothing above needs is
// left out. "Needs" goes through the sources of a node, through views, and through buffers: a node that reads a K/V or
// state buffer needs the nodes that wrote into it, though no edge of the graph says so.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ggml.h"

namespace steercpp {

// Which nodes of a graph may be left out when the rows of l_out-<il> are given.
struct skip_plan {
    int32_t il = -1;
    std::vector<uint64_t> signatures; // one for each node up to and including l_out-<il>: name and op
    std::vector<int8_t> skipped;      // likewise: 1 where the node is left out
    int32_t n_blocks_skipped = 0;     // blocks none of whose weights are multiplied any more
    std::string reason;               // not empty: nothing can be gained, run in full
};

// What a base pass leaves behind, piece by piece.
struct kept_piece {
    skip_plan plan;
    std::vector<float> rows; // (rows of the piece, n_embd) of l_out-<plan.il>; empty where the plan has a reason
    std::shared_ptr<const void> life = std::make_shared<char>(); // held weakly by whoever has copies of the rows
};

struct kept {
    int32_t il = -1;             // the lowest layer that may be steered; pieces start at it, or at the one below
    uint64_t control_vector = 0; // that of the session when it was made
    std::vector<kept_piece> pieces;
    std::vector<float> logits; // (n_outputs, n_vocab) where wanted, for KL
    std::vector<double> norms; // (n_outputs) log_sum_exp of each of these rows

    std::string reason() const; // the first one; empty: passes can be resumed
    size_t n_bytes() const;
};

// "l_out-12" -> 12; -1 for all other names. Exact: views and copies of the node are named "l_out-12 (view)".
int32_t layer_of(const char * name);

uint64_t node_signature(const ggml_tensor * node);

// The plan for a graph whose nodes were computed in this order.
skip_plan plan_skips(const std::vector<ggml_tensor *> & nodes, int32_t il);

} // namespace steercpp
