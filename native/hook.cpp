#include "hook.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace steercpp {

namespace {

constexpr size_t most_pushes = size_t{512} << 20; // bytes, over all layers

bool lies_in_host_memory(const ggml_tensor * node) {
    const ggml_backend_buffer_t buffer = node->view_src ? node->view_src->buffer : node->buffer;
    return buffer != nullptr && ggml_backend_buffer_is_host(buffer);
}

// What attention gives before it meets weights again, which round it (src/llama-graph.cpp, build_attn).
bool is_attention(const ggml_tensor * node) {
    constexpr char prefix[] = "kqv_out-";
    return std::strncmp(node->name, prefix, sizeof(prefix) - 1) == 0 && ggml_is_contiguous(node);
}

} // namespace

hook::hook(int32_t n_layer, int32_t n_embd, bool always_copy)
    : n_embd_(n_embd)
    , always_copy_(always_copy)
    , layers_(static_cast<size_t>(n_layer))
    , injector_(n_embd, most_pushes)
    , n_visits_(static_cast<size_t>(n_layer), 0)
    , before_(static_cast<size_t>(n_embd)) {}

void hook::arm(int32_t n_tokens, const std::vector<operation> & operations, const capture & capture) {
    disarm();
    n_cuts_ = 0;
    n_writes_before_ = injector_.n_writes();
    for (const operation & op : operations) {
        layer_work & work = layers_.at(static_cast<size_t>(op.il));
        work.operations.push_back(op);
        work.lengths.push_back(squared_length(op.direction, n_embd_));
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
    put_back();
    for (layer_work & work : layers_) {
        work = layer_work{};
    }
    piece_ = piece_work{};
    nodes_.clear();
    rows_below_ = {};
    injector_.forget_lost();
    error_ = nullptr;
    failed_rows_.clear();
}

void hook::start_piece(piece_work work) {
    piece_ = std::move(work);
    nodes_.clear();
    std::fill(n_visits_.begin(), n_visits_.end(), size_t{0});
    n_asked_ = 0;
    past_last_ = !piece_.computes;
    mismatch_ = false;
    given_ = false;
    ubatch_ = 0;
}

bool hook::finish_piece() {
    put_back();
    if (error_) {
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
    if (piece_.resume && n_asked_ <= piece_.resume->plan.signatures.size()) {
        mismatch_ = true; // the graph ended before the layer to start from
    }
    if (piece_.keep && !nodes_.empty()) {
        settle_keep();
    }
    return !mismatch_;
}

// Steering acts on the output of a block, so the first steered block's own rows are the same at every strength. But
// where blocks above read its K/V too, it is needed whole, and starting below it leaves out more.
void hook::settle_keep() {
    kept_piece & keep = *piece_.keep;
    keep.plan = plan_skips(nodes_, piece_.keep_il);
    if (piece_.keep_il > 0 && keep.plan.n_blocks_skipped <= piece_.keep_il) {
        skip_plan below = plan_skips(nodes_, piece_.keep_il - 1);
        if (below.n_blocks_skipped > keep.plan.n_blocks_skipped) {
            keep.plan = std::move(below);
            std::swap(keep.rows, rows_below_);
        }
    }
    if (!keep.plan.reason.empty()) {
        keep.rows.clear();
        keep.rows.shrink_to_fit();
    }
}

void hook::finish_plan() const {
    for (size_t il = 0; il < layers_.size(); ++il) {
        const layer_work & work = layers_[il];
        if (work.idle()) {
            continue;
        }
        const bool left_out = piece_.last_il >= 0 && static_cast<int32_t>(il) > piece_.last_il;
        if (!work.met && !left_out) {
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
        if (self.error_) {
            return false;
        }
        if (ask) {
            return self.asked(node);
        }
        self.n_cuts_ += 1;
        self.visit(node);
        return true;
    } catch (...) {
        // Returning false ends one split of the graph and llama_decode still reports success
        // (ggml/src/ggml-backend.cpp, ggml_backend_sched_compute_splits): finish_piece() tells.
        self.error_ = std::current_exception();
        return false;
    }
}

// Whether the callback is wanted once the node is computed.
bool hook::asked(ggml_tensor * node) {
    const size_t ordinal = n_asked_++;
    if (piece_.keep) {
        nodes_.push_back(node);
    }
    if (mismatch_ || past_last_) {
        leave_out(node);
        return false;
    }
    if (piece_.resume && ordinal < piece_.resume->plan.signatures.size()) {
        return asked_below(node, ordinal);
    }
    if (piece_.attention_bits && is_attention(node)) {
        return true;
    }
    const int32_t il = layer_of(node->name);
    if (il < 0 || static_cast<size_t>(il) >= layers_.size()) {
        return false;
    }
    past_last_ = il == piece_.last_il;
    const bool is_kept = piece_.keep && (il == piece_.keep_il || il == piece_.keep_il - 1);
    return is_kept || wants(node, il);
}

// Whether the layer is left to the callback: there is something to do that is not done inside the graph.
bool hook::wants(ggml_tensor * node, int32_t il) {
    layer_work & work = layers_[static_cast<size_t>(il)];
    size_t & n_visits = n_visits_[static_cast<size_t>(il)];
    if (work.idle() || work.captured || n_visits >= piece_.ubatches.size()) {
        return !work.idle();
    }
    if (n_visits > ubatch_) { // the next graph, which may be the same one again
        ubatch_ = n_visits;
        injector_.put_back();
    }
    if (!injector_.add(node, il, work.operations, work.lengths, rows_of(node, piece_.ubatches[n_visits]), n_visits)) {
        return true;
    }
    n_visits += 1;
    work.met = true;
    return false;
}

// Below the layer to start from, and at it.
bool hook::asked_below(ggml_tensor * node, size_t ordinal) {
    const skip_plan & plan = piece_.resume->plan;
    if (node_signature(node) != plan.signatures[ordinal]) {
        mismatch_ = true;
        leave_out(node);
        return false;
    }
    const bool is_start = ordinal + 1 == plan.signatures.size();
    given_ = is_start && injector_.give(node, *piece_.resume);
    if (given_) {
        return wants(node, plan.il);
    }
    if (plan.skipped[ordinal] != 0) {
        leave_out(node);
    }
    return is_start;
}

void hook::leave_out(ggml_tensor * node) {
    if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) != 0) {
        node->flags &= ~GGML_TENSOR_FLAG_COMPUTE;
        left_out_.push_back(node);
    }
}

void hook::put_back() {
    injector_.put_back();
    for (ggml_tensor * node : left_out_) {
        node->flags |= GGML_TENSOR_FLAG_COMPUTE;
    }
    left_out_.clear();
}

void hook::visit(ggml_tensor * node) {
    if (piece_.attention_bits && is_attention(node)) {
        add_attention_bits(node);
        return;
    }
    const int32_t il = layer_of(node->name);
    const size_t n_visits = n_visits_.at(static_cast<size_t>(il))++;
    if (n_visits >= piece_.ubatches.size()) { // a graph that loops, or llama.cpp cuts the batch in another way
        throw unsteerable_error(
            "its graph node " + std::string(node->name) +
            " is computed more than once for a batch, so that its rows "
            "cannot be told apart"
        );
    }
    if (piece_.resume && !given_ && il == piece_.resume->plan.il && !give_rows(node)) {
        return;
    }
    const std::vector<int32_t> & rows = rows_of(node, piece_.ubatches[n_visits]);
    if (piece_.keep && il == piece_.keep_il) {
        keep_rows(node, piece_.keep->rows);
    } else if (piece_.keep && il == piece_.keep_il - 1) {
        keep_rows(node, rows_below_);
    }
    layer_work & work = layers_.at(static_cast<size_t>(il));
    if (!work.idle()) {
        treat(node, work, rows);
    }
}

// Returns false where the node is not the one that was kept.
bool hook::give_rows(ggml_tensor * node) {
    const std::vector<float> & rows = piece_.resume->rows;
    const size_t size = rows.size() * sizeof(float);
    if (ggml_nbytes(node) != size) {
        mismatch_ = true;
        return false;
    }
    ggml_backend_tensor_set(node, rows.data(), 0, size);
    return true;
}

void hook::keep_rows(ggml_tensor * node, std::vector<float> & rows) {
    rows.resize(ggml_nbytes(node) / sizeof(float));
    ggml_backend_tensor_get(node, rows.data(), 0, ggml_nbytes(node));
}

void hook::treat(ggml_tensor * node, layer_work & work, const std::vector<int32_t> & rows) {
    work.met = true;

    const int64_t n_rows = node->ne[1];
    int64_t first = n_rows;
    int64_t last = -1;
    for (int64_t i = 0; i < n_rows; ++i) {
        if (concerns(work, rows[static_cast<size_t>(i)])) {
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
        changed |= treat_row(work, rows[static_cast<size_t>(i)], x);
    }
    if (!in_place && changed) {
        ggml_backend_tensor_set(node, copied_.data(), offset, size);
    }
}

// The rows that a layer's node holds. The last block of most graphs keeps only the rows whose logits were asked for;
// where both counts are equal the rows are the same ones.
const std::vector<int32_t> & hook::rows_of(const ggml_tensor * node, const ubatch_rows & ubatch) const {
    const bool plain = node->type == GGML_TYPE_F32 && node->ne[0] == n_embd_ && node->ne[2] == 1 && node->ne[3] == 1 &&
                       ggml_is_contiguous(node);
    for (const std::vector<int32_t> * rows : {&ubatch.rows, &ubatch.outputs}) {
        if (plain && node->ne[1] == static_cast<int64_t>(rows->size())) {
            return *rows;
        }
    }
    std::string shape = std::string(ggml_type_name(node->type)) + " [";
    for (const int64_t & n : node->ne) {
        shape += std::to_string(n) + (&n == &node->ne[GGML_MAX_DIMS - 1] ? "]" : ", ");
    }
    throw unsteerable_error(
        std::string("its graph node ") + node->name + " is " + shape + ", not the residual stream of " +
        std::to_string(ubatch.rows.size()) + " tokens by " + std::to_string(n_embd_)
    );
}

bool hook::concerns(const layer_work & work, int32_t row) const {
    if (work.captured && capture_slot_[static_cast<size_t>(row)] >= 0) {
        return true;
    }
    return std::any_of(work.operations.begin(), work.operations.end(), [row](const operation & op) {
        return op.active[row] != 0;
    });
}

// FNV-1a over each row's bytes.
void hook::add_attention_bits(const ggml_tensor * node) {
    std::vector<unsigned char> bytes(ggml_nbytes(node));
    ggml_backend_tensor_get(node, bytes.data(), 0, bytes.size());
    const size_t n_rows = piece_.ubatches.front().rows.size();
    const size_t row_bytes = bytes.size() / n_rows;
    for (size_t row = 0; row < n_rows; ++row) {
        for (size_t i = row * row_bytes; i < (row + 1) * row_bytes; ++i) {
            piece_.attention_bits[row] = (piece_.attention_bits[row] ^ bytes[i]) * 1099511628211U;
        }
    }
}

// Returns whether the row was changed.
bool hook::treat_row(layer_work & work, int32_t row, float * x) {
    bool changed = false;
    if (!work.operations.empty()) {
        std::copy_n(x, n_embd_, before_.data());
    }
    for (size_t k = 0; k < work.operations.size(); ++k) {
        const operation & op = work.operations[k];
        if (op.active[row] != 0) {
            changed |= steer_row(op, work.lengths[k], op.strengths[row], x, n_embd_);
        }
    }
    if (changed && !has_finite_norm(x, n_embd_)) {
        std::copy_n(before_.data(), n_embd_, x);
        failed_rows_.push_back(row);
    }
    const int32_t slot = capture_slot_[static_cast<size_t>(row)];
    if (work.captured && slot >= 0) {
        std::copy_n(x, n_embd_, work.captured + static_cast<size_t>(slot) * static_cast<size_t>(n_embd_));
        work.n_captured += 1;
    }
    return changed;
}

} // namespace steercpp
