#include "hook.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace steercpp {

namespace {

// "l_out-12" -> 12. Exact: views and copies of the node are named "l_out-12 (view)" and must not be steered again.
int32_t layer_of(const char * name) {
    constexpr char prefix[] = "l_out-";
    if (std::strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return -1;
    }
    const char * digit = name + sizeof(prefix) - 1;
    int32_t il = 0;
    int32_t n_digits = 0;
    for (; *digit >= '0' && *digit <= '9' && n_digits < 6; ++digit, ++n_digits) {
        il = 10 * il + (*digit - '0');
    }
    return n_digits > 0 && *digit == '\0' ? il : -1;
}

bool lies_in_host_memory(const ggml_tensor * node) {
    const ggml_backend_buffer_t buffer = node->view_src ? node->view_src->buffer : node->buffer;
    return buffer != nullptr && ggml_backend_buffer_is_host(buffer);
}

// Two roundings per element, as ggml_add of a scaled vector has: this file is compiled with -ffp-contract=off.
void add_scaled(float * x, const float * v, float s, int32_t n) {
    for (int32_t j = 0; j < n; ++j) {
        const float step = s * v[j];
        x[j] += step;
    }
}

// ggml's RMS norm squares in float32; where that overflows it returns zeros, and quantized products turn NaN
// into zeros too, so a row out of range would pass unnoticed in the logits.
bool has_finite_norm(const float * x, int32_t n) {
    float sums[8] = {};
    int32_t j = 0;
    for (; j + 8 <= n; j += 8) {
        for (int32_t k = 0; k < 8; ++k) {
            sums[k] += x[j + k] * x[j + k];
        }
    }
    for (; j < n; ++j) {
        sums[0] += x[j] * x[j];
    }
    float sum = 0.0f;
    for (const float part : sums) {
        sum += part;
    }
    return std::isfinite(sum);
}

} // namespace

hook::hook(int32_t n_layer, int32_t n_embd, bool always_copy)
    : n_embd_(n_embd)
    , always_copy_(always_copy)
    , layers_(static_cast<size_t>(n_layer)) {}

void hook::arm(int32_t n_tokens, const std::vector<operation> & operations, const capture & capture) {
    disarm();
    for (const operation & op : operations) {
        layers_.at(static_cast<size_t>(op.il)).operations.push_back(op);
    }
    n_capture_rows_ = static_cast<int32_t>(capture.rows.size());
    capture_slot_.assign(static_cast<size_t>(n_tokens), -1);
    for (int32_t k = 0; k < n_capture_rows_; ++k) {
        capture_slot_.at(static_cast<size_t>(capture.rows[static_cast<size_t>(k)])) = k;
    }
    float * data = capture.data;
    for (const int32_t il : capture.layers) {
        layers_.at(static_cast<size_t>(il)).captured = data;
        data += static_cast<size_t>(n_capture_rows_) * static_cast<size_t>(n_embd_);
    }
}

void hook::disarm() {
    for (layer_work & work : layers_) {
        work = layer_work{};
    }
    error_ = nullptr;
    nonfinite_row_ = -1;
}

void hook::start_piece(int32_t row_first, int32_t n_rows, std::vector<int32_t> outputs) {
    row_first_ = row_first;
    n_rows_ = n_rows;
    outputs_ = std::move(outputs);
}

void hook::finish_piece() {
    if (error_) {
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
}

void hook::finish_plan() const {
    for (size_t il = 0; il < layers_.size(); ++il) {
        const layer_work & work = layers_[il];
        if (work.idle()) {
            continue;
        }
        if (!work.met) {
            throw unsteerable_error("its graph has no node l_out-" + std::to_string(il));
        }
        if (work.captured && work.n_captured != n_capture_rows_) {
            throw std::invalid_argument("rows captured at the last layer must be outputs");
        }
    }
}

bool hook::on_node(ggml_tensor * node, bool ask, void * hook_) noexcept {
    auto & self = *static_cast<hook *>(hook_);
    try {
        const int32_t il = layer_of(node->name);
        if (il < 0 || static_cast<size_t>(il) >= self.layers_.size() || self.error_) {
            return false;
        }
        layer_work & work = self.layers_[static_cast<size_t>(il)];
        if (ask) {
            return !work.idle();
        }
        self.visit(node, work);
        return true;
    } catch (...) {
        // Returning false ends one split of the graph and llama_decode still reports success
        // (ggml/src/ggml-backend.cpp, ggml_backend_sched_compute_splits): finish_piece() tells.
        self.error_ = std::current_exception();
        return false;
    }
}

void hook::visit(ggml_tensor * node, layer_work & work) {
    check_shape(node);
    work.met = true;

    const int64_t n_rows = node->ne[1];
    int64_t first = n_rows;
    int64_t last = -1;
    for (int64_t i = 0; i < n_rows; ++i) {
        if (concerns(work, row_of(i, n_rows))) {
            first = std::min(first, i);
            last = i;
        }
    }
    if (last < 0) {
        return;
    }
    const bool in_place = !always_copy_ && lies_in_host_memory(node);
    const size_t row_bytes = static_cast<size_t>(n_embd_) * sizeof(float);
    const size_t offset = static_cast<size_t>(first) * row_bytes;
    const size_t size = static_cast<size_t>(last - first + 1) * row_bytes;
    auto * x = reinterpret_cast<float *>(static_cast<char *>(node->data) + offset);
    if (!in_place) {
        copied_.resize(size / sizeof(float));
        x = copied_.data();
        ggml_backend_tensor_get(node, x, offset, size);
    }
    bool changed = false;
    for (int64_t i = first; i <= last; ++i, x += n_embd_) {
        changed |= treat_row(work, row_of(i, n_rows), x);
    }
    if (!in_place && changed) {
        ggml_backend_tensor_set(node, copied_.data(), offset, size);
    }
}

void hook::check_shape(const ggml_tensor * node) const {
    const auto n_outputs = static_cast<int64_t>(outputs_.size());
    const bool rows_match = node->ne[1] == n_rows_ || node->ne[1] == n_outputs;
    const bool plain = node->type == GGML_TYPE_F32 && node->ne[0] == n_embd_ && node->ne[2] == 1 && node->ne[3] == 1 &&
                       ggml_is_contiguous(node);
    if (plain && rows_match) {
        return;
    }
    std::string shape = std::string(ggml_type_name(node->type)) + " [";
    for (const int64_t n : node->ne) {
        shape += std::to_string(n) + (&n == &node->ne[GGML_MAX_DIMS - 1] ? "]" : ", ");
    }
    throw unsteerable_error(
        std::string("its graph node ") + node->name + " is " + shape + ", not the residual stream of " +
        std::to_string(n_rows_) + " tokens by " + std::to_string(n_embd_)
    );
}

// The last block of most graphs keeps only the rows whose logits were asked for; where both counts are equal the
// rows are the same ones.
int32_t hook::row_of(int64_t i, int64_t n_rows) const {
    return n_rows == n_rows_ ? row_first_ + static_cast<int32_t>(i) : outputs_[static_cast<size_t>(i)];
}

bool hook::concerns(const layer_work & work, int32_t row) const {
    if (work.captured && capture_slot_[static_cast<size_t>(row)] >= 0) {
        return true;
    }
    return std::any_of(work.operations.begin(), work.operations.end(), [row](const operation & op) {
        return op.strengths[row] != 0.0f;
    });
}

// Returns whether the row was changed.
bool hook::treat_row(layer_work & work, int32_t row, float * x) {
    bool changed = false;
    for (const operation & op : work.operations) {
        if (op.strengths[row] != 0.0f) {
            add_scaled(x, op.direction, op.strengths[row], n_embd_);
            changed = true;
        }
    }
    if (changed && !has_finite_norm(x, n_embd_) && (nonfinite_row_ < 0 || row < nonfinite_row_)) {
        nonfinite_row_ = row;
    }
    const int32_t slot = capture_slot_[static_cast<size_t>(row)];
    if (work.captured && slot >= 0) {
        std::copy_n(x, n_embd_, work.captured + static_cast<size_t>(slot) * static_cast<size_t>(n_embd_));
        work.n_captured += 1;
    }
    return changed;
}

} // namespace steercpp
