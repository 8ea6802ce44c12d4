#include "inject.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

namespace steercpp {

namespace {

ggml_backend_buffer_type_t memory_of(const ggml_tensor * tensor) {
    ggml_backend_buffer_t buffer = tensor->view_src ? tensor->view_src->buffer : tensor->buffer;
    return buffer == nullptr ? nullptr : ggml_backend_buffer_get_type(buffer);
}

// A tensor that nobody named: ggml calls it "leaf_<n>", and the scheduler's copy of it "CUDA0#leaf_<n>#0". Weights have
// names, so this tells a control vector's direction from a bias that a model adds to a block's output.
bool is_unnamed(const ggml_tensor * tensor) {
    const char * name = tensor->name;
    const char * of_copy = std::strchr(name, '#');
    constexpr char prefix[] = "leaf_";
    return std::strncmp(of_copy == nullptr ? name : of_copy + 1, prefix, sizeof(prefix) - 1) == 0;
}

} // namespace

device_rows::device_rows(ggml_backend_buffer_type_t memory, int32_t n_embd, int64_t n_rows)
    : n_rows_(n_rows) {
    ggml_init_params params{ggml_tensor_overhead(), nullptr, true};
    context_.reset(ggml_init(params));
    tensor_ = context_ ? ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, n_embd, n_rows) : nullptr;
    if (tensor_ != nullptr) {
        buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), memory));
    }
    if (!buffer_) {
        throw std::bad_alloc();
    }
}

ggml_tensor * device_rows::first(int64_t n_rows) {
    tensor_->ne[1] = n_rows;
    tensor_->nb[2] = tensor_->nb[1] * static_cast<size_t>(n_rows);
    tensor_->nb[3] = tensor_->nb[2];
    return tensor_;
}

void device_rows::write(const std::vector<float> & values) {
    first(n_rows_);
    ggml_backend_tensor_set(tensor_, values.data(), 0, values.size() * sizeof(float));
}

bool device_rows::lies_in(ggml_backend_buffer_type_t memory) const {
    return ggml_backend_buffer_get_type(buffer_.get()) == memory;
}

injector::injector(int32_t n_embd, size_t most_bytes)
    : n_embd_(n_embd)
    , most_bytes_(most_bytes) {}

bool injector::add(
    ggml_tensor * node, int32_t il, const std::vector<operation> & operations, const std::vector<double> & lengths,
    const std::vector<int32_t> & rows, size_t ubatch
) {
    if (!enabled_ || !adds_control_vector(node) || !find_pushes(operations, lengths, rows)) {
        return false;
    }
    if (std::all_of(wanted_.along.begin(), wanted_.along.end(), [](int32_t place) { return place < 0; })) {
        return true;
    }
    layer_sum & sum = sums_[{il, ubatch}];
    const auto n_rows = static_cast<int64_t>(wanted_.along.size());
    device_rows * room = room_for(sum, memory_of(node->src[1]), n_rows);
    if (room == nullptr) {
        return false;
    }
    if (!(sum.written == wanted_)) {
        sum.written = {}; // until it is
        room->write(products());
        sum.written = wanted_;
        n_writes_ += 1;
    }
    exchange_source(node, 1, room->first(n_rows));
    return true;
}

bool injector::give(ggml_tensor * node, const kept_piece & kept) {
    if (!enabled_ || !adds_control_vector(node) || kept.rows.size() * sizeof(float) != ggml_nbytes(node)) {
        return false;
    }
    ggml_backend_buffer_type_t memory = memory_of(node->src[0]);
    if (memory == nullptr) {
        return false;
    }
    const auto found = std::find_if(copies_.begin(), copies_.end(), [&](const copy_of_kept & copy) {
        return copy.life.lock() == kept.life && copy.rows->lies_in(memory);
    });
    device_rows * rows = found == copies_.end() ? nullptr : found->rows.get();
    if (rows == nullptr) {
        try {
            auto made = std::make_unique<device_rows>(memory, n_embd_, node->ne[1]);
            made->write(kept.rows);
            rows = made.get();
            n_writes_ += 1;
            copies_.push_back({kept.life, std::move(made)});
        } catch (const std::bad_alloc &) { return false; }
    }
    exchange_source(node, 0, rows->first(node->ne[1]));
    return true;
}

// Only where the node still has our source: a graph may have been built anew in the same memory meanwhile.
void injector::put_back() {
    for (const exchange & done : exchanged_) {
        if (done.node->src[done.source] == done.ours) {
            done.node->src[done.source] = done.own;
        }
    }
    exchanged_.clear();
}

void injector::forget_lost() {
    const auto is_lost = [](const copy_of_kept & copy) { return copy.life.expired(); };
    copies_.erase(std::remove_if(copies_.begin(), copies_.end(), is_lost), copies_.end());
}

bool injector::adds_control_vector(const ggml_tensor * node) const {
    const ggml_tensor * direction = node->op == GGML_OP_ADD ? node->src[1] : nullptr;
    return direction != nullptr && direction->op == GGML_OP_NONE && direction->type == GGML_TYPE_F32 &&
           direction->ne[0] == n_embd_ && ggml_nelements(direction) == n_embd_ && node->type == GGML_TYPE_F32 &&
           ggml_are_same_shape(node, node->src[0]) && memory_of(direction) != nullptr && is_unnamed(direction);
}

// Sets wanted_; one row stands for all where all are pushed alike.
bool injector::find_pushes(
    const std::vector<operation> & operations, const std::vector<double> & lengths, const std::vector<int32_t> & rows
) {
    wanted_.along.assign(rows.size(), -1);
    wanted_.strengths.assign(rows.size(), 0.0f);
    wanted_.directions.clear();
    for (size_t k = 0; k < operations.size(); ++k) {
        const operation & op = operations[k];
        if (op.kind != operator_kind::add || op.side != 0) {
            return false;
        }
        bool is_active = false;
        const auto place = static_cast<int32_t>(wanted_.directions.size() / static_cast<size_t>(n_embd_));
        for (size_t i = 0; i < rows.size(); ++i) {
            if (op.active[rows[i]] == 0) {
                continue;
            }
            const double strength = op.strengths[rows[i]];
            const bool is_short = strength * strength * lengths[k] <= longest_push * longest_push; // false for NaN
            if (wanted_.along[i] >= 0 || !is_short) {
                return false;
            }
            wanted_.along[i] = place;
            wanted_.strengths[i] = op.strengths[rows[i]];
            is_active = true;
        }
        if (is_active) {
            wanted_.directions.insert(wanted_.directions.end(), op.direction, op.direction + n_embd_);
        }
    }
    const auto all_are = [](const auto & values) {
        return std::all_of(values.begin(), values.end(), [&](auto value) { return value == values.front(); });
    };
    if (!rows.empty() && all_are(wanted_.along) && all_are(wanted_.strengths)) {
        wanted_.along.resize(1);
        wanted_.strengths.resize(1);
    }
    return true;
}

// nullptr: there is none.
device_rows * injector::room_for(layer_sum & sum, ggml_backend_buffer_type_t memory, int64_t n_rows) {
    if (sum.rows && sum.rows->lies_in(memory) && sum.rows->n_rows() >= n_rows) {
        return sum.rows.get();
    }
    sum.rows.reset();
    sum.written = {};
    const size_t taken =
        std::accumulate(sums_.begin(), sums_.end(), size_t{0}, [](size_t bytes, const auto & of_layer) {
            return bytes + (of_layer.second.rows ? of_layer.second.rows->n_bytes() : 0);
        });
    const size_t needed = static_cast<size_t>(n_rows) * static_cast<size_t>(n_embd_) * sizeof(float);
    if (sum.has_no_room || taken + needed > most_bytes_) {
        return nullptr;
    }
    try {
        sum.rows = std::make_unique<device_rows>(memory, n_embd_, n_rows);
    } catch (const std::bad_alloc &) {
        sum.has_no_room = true; // asked once: a device that is full takes long to say so
    }
    return sum.rows.get();
}

// (rows, n_embd): each rounded once, as the callback does before it adds. -0 changes nothing.
std::vector<float> injector::products() const {
    const auto n = static_cast<size_t>(n_embd_);
    std::vector<float> values(wanted_.along.size() * n, -0.0f);
    for (size_t i = 0; i < wanted_.along.size(); ++i) {
        if (wanted_.along[i] < 0) {
            continue;
        }
        const float * direction = wanted_.directions.data() + static_cast<size_t>(wanted_.along[i]) * n;
        for (size_t j = 0; j < n; ++j) {
            values[i * n + j] = wanted_.strengths[i] * direction[j];
        }
    }
    return values;
}

void injector::exchange_source(ggml_tensor * node, int32_t source, ggml_tensor * ours) {
    exchanged_.push_back({node, source, node->src[source], ours});
    node->src[source] = ours;
}

} // namespace steercpp
