// Steering inside the graph: what is added to a layer's rows becomes a source of the graph's own node.
//
// A control vector of llama.cpp puts ADD(x, direction) at l_out-<il> of every block but the first (src/llama-graph.cpp,
// build_cvec). When the scheduler asks about that node, before it is computed, its second source is exchanged for a
// tensor of ours in the same kind of memory, which holds for each row what is added to it; so nothing is cut out of the
// graph, copied back or waited for. The direction itself holds -0 throughout: x + -0 is x, bit for bit, whatever x is.
// Passes are resumed in the same way: the first source becomes the rows that the base kept.
//
// llama.cpp uses a graph again, so put_back() must restore the sources after each decode.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"
#include "operators.h"
#include "resume.h"

namespace steercpp {

// The longest push that is made inside the graph, where nobody looks whether a row stays within float32's range. A
// row's squares must sum up to less than 3e38. Pushes of 1e9 at each of 1,000 layers sum up to squares of 1e24; and
// where a block multiplies two such rows unnormalized, as a gated product does, the squares are still below 1e37.
constexpr double longest_push = 1e9;

// A float32 matrix in a buffer of its own.
class device_rows {
  public:
    // Throws std::bad_alloc where this kind of memory has no room.
    device_rows(ggml_backend_buffer_type_t memory, int32_t n_embd, int64_t n_rows);

    // The first n_rows rows, (n_rows, n_embd).
    ggml_tensor * first(int64_t n_rows);
    void write(const std::vector<float> & values); // from the first row on

    int64_t n_rows() const { return n_rows_; }
    size_t n_bytes() const { return ggml_backend_buffer_get_size(buffer_.get()); }
    bool lies_in(ggml_backend_buffer_type_t memory) const;

  private:
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_;
    ggml_tensor * tensor_ = nullptr;
    int64_t n_rows_;
};

class injector {
  public:
    // Layers whose pushes need more memory than that, all together, are left to the callback.
    injector(int32_t n_embd, size_t most_bytes);

    void enable(bool on) { enabled_ = on; }

    // Lets the node of layer il add what its operations add; false: they are left to the callback, for they are no
    // additions, or several to one row, which are rounded one by one, or too long, or the graph has no control vector.
    // rows: (node's rows) the row of the plan that each of them is. lengths: squared_length of each direction. ubatch:
    // its place among the graphs of one decode; each has memory of its own, so that what does not change is not sent.
    bool
    add(ggml_tensor * node, int32_t il, const std::vector<operation> & operations, const std::vector<double> & lengths,
        const std::vector<int32_t> & rows, size_t ubatch);

    // Lets the node start from the kept rows; false: it cannot.
    bool give(ggml_tensor * node, const kept_piece & kept);

    void put_back();

    int64_t n_writes() const { return n_writes_; } // of tensors, ever

    // Frees copies of rows whose base is gone.
    void forget_lost();

  private:
    // What is added to a layer's rows: for each row the direction it is pushed along, and how far.
    struct pushes {
        std::vector<int32_t> along;    // (rows): the place of a direction; -1: none
        std::vector<float> strengths;  // (rows)
        std::vector<float> directions; // (n_directions, n_embd)

        bool operator==(const pushes & other) const {
            return along == other.along && strengths == other.strengths && directions == other.directions;
        }
    };
    struct layer_sum {
        std::unique_ptr<device_rows> rows;
        pushes written; // what it holds
        bool has_no_room = false;
    };
    struct copy_of_kept {
        std::weak_ptr<const void> life; // of the kept rows
        std::unique_ptr<device_rows> rows;
    };
    struct exchange {
        ggml_tensor * node;
        int32_t source;
        ggml_tensor * own;
        ggml_tensor * ours;
    };

    bool adds_control_vector(const ggml_tensor * node) const;
    bool find_pushes(
        const std::vector<operation> & operations, const std::vector<double> & lengths,
        const std::vector<int32_t> & rows
    );
    device_rows * room_for(layer_sum & sum, ggml_backend_buffer_type_t memory, int64_t n_rows);
    std::vector<float> products() const;
    void exchange_source(ggml_tensor * node, int32_t source, ggml_tensor * ours);

    const int32_t n_embd_;
    const size_t most_bytes_;
    bool enabled_ = false;
    int64_t n_writes_ = 0;
    pushes wanted_;
    std::map<std::pair<int32_t, size_t>, layer_sum> sums_; // by layer and ubatch
    std::vector<copy_of_kept> copies_;
    std::vector<exchange> exchanged_;
};

} // namespace steercpp
