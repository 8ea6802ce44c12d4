#include "session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "log.h"
#include "logprob.h"

namespace steercpp {

namespace {

void require(bool condition, const char * what) {
    if (!condition) {
        throw std::invalid_argument(what);
    }
}

bool all_below(const int32_t * values, int32_t n, int32_t limit) {
    return std::all_of(values, values + n, [limit](int32_t value) { return value >= 0 && value < limit; });
}

bool all_distinct(std::vector<int32_t> values) {
    std::sort(values.begin(), values.end());
    return std::adjacent_find(values.begin(), values.end()) == values.end();
}

llama_context_params context_params(const session_params & params, hook & hook) {
    llama_context_params out = llama_context_default_params();
    out.n_ctx = params.n_ctx;
    out.n_batch = params.n_batch;
    // One ubatch per llama_decode and one K/V buffer for all sequences: only then does every node hold the batch's
    // rows in the order given.
    out.n_ubatch = params.n_batch;
    out.kv_unified = true;
    out.n_seq_max = params.n_seq_max;
    out.n_threads = params.n_threads;
    out.n_threads_batch = params.n_threads;
    out.flash_attn_type = params.flash_attn;
    out.type_k = params.cache_type;
    out.type_v = params.cache_type;
    out.no_perf = true;
    out.cb_eval = hook::on_node;
    out.cb_eval_user_data = &hook;
    return out;
}

} // namespace

session::session(std::shared_ptr<const model> model, const session_params & params)
    : model_(std::move(model))
    , params_(params)
    , hook_(model_->n_layer(), model_->n_embd(), params.always_copy) {
    // llama.cpp reserves an output for every sequence and aborts the process where a batch cannot hold them
    require(params_.n_seq_max >= 1 && params_.n_seq_max <= params_.n_batch, "n_seq_max must lie in 1..n_batch");
    require(params_.n_seq_max <= llama_max_parallel_sequences(), "n_seq_max is beyond llama_max_parallel_sequences");
    log_forget();
    context_.reset(llama_init_from_model(model_->get(), context_params(params_, hook_)));
    if (!context_) {
        throw decode_error(log_errors());
    }
    if (llama_get_memory(context_.get()) == nullptr) {
        throw model_error("it keeps no memory of earlier tokens, as embedding models do; only decoders can be steered");
    }
}

decode_result session::decode(const plan & plan) {
    const std::unique_lock<std::mutex> lock(in_use_, std::try_to_lock);
    if (!lock.owns_lock()) {
        throw busy_error("another thread is using this session");
    }
    check(plan);

    decode_result result;
    result.n_capture_layers = static_cast<int32_t>(plan.capture_layers.size());
    result.n_capture_rows = static_cast<int32_t>(plan.capture_rows.size());
    result.n_embd = model_->n_embd();
    result.n_vocab = model_->n_vocab();
    result.logprobs.resize(static_cast<size_t>(plan.n_queries));
    result.captures.resize(plan.capture_layers.size() * plan.capture_rows.size() * static_cast<size_t>(result.n_embd));

    llama_memory_clear(llama_get_memory(context_.get()), tainted_);
    tainted_ = true; // until the end is reached
    hook_.arm(plan.n_tokens, plan.operations, {plan.capture_layers, plan.capture_rows, result.captures.data()});
    try {
        run(plan, result);
    } catch (...) {
        hook_.disarm();
        throw;
    }
    hook_.disarm();
    tainted_ = result.nonfinite_row >= 0;
    return result;
}

void session::set_control_vector(const float * data) {
    const std::unique_lock<std::mutex> lock(in_use_, std::try_to_lock);
    if (!lock.owns_lock()) {
        throw busy_error("another thread is using this session");
    }
    // always the whole buffer: a shorter one leaves the old values of later layers in place
    const auto size = static_cast<size_t>(n_embd()) * static_cast<size_t>(n_layer() - 1);
    if (llama_set_adapter_cvec(context_.get(), data, data ? size : 0, n_embd(), 1, n_layer() - 1) != 0) {
        throw decode_error("llama_set_adapter_cvec failed");
    }
}

void session::check(const plan & plan) const {
    const int32_t n = plan.n_tokens;
    const auto n_layer = model_->n_layer();
    require(n > 0, "a plan needs at least one token");
    require(static_cast<uint32_t>(n) <= n_ctx(), "a plan has more tokens than the context holds");
    require(all_below(plan.tokens, n, model_->n_vocab()), "a token is outside the vocabulary");
    require(all_below(plan.positions, n, static_cast<int32_t>(n_ctx())), "a position is outside the context");
    for (int32_t i = 0; i < n; ++i) {
        require(plan.seq_offsets[i] < plan.seq_offsets[i + 1], "a token belongs to no sequence");
    }
    require(
        all_below(plan.seq_ids, plan.seq_offsets[n], static_cast<int32_t>(params_.n_seq_max)),
        "a sequence id is outside 0..n_seq_max-1"
    );
    for (const operation & op : plan.operations) {
        require(op.il >= 0 && op.il < n_layer, "an operation's layer is outside the model");
    }
    const auto & layers = plan.capture_layers;
    const auto & rows = plan.capture_rows;
    require(
        all_below(layers.data(), static_cast<int32_t>(layers.size()), n_layer), "a captured layer is outside the model"
    );
    require(all_below(rows.data(), static_cast<int32_t>(rows.size()), n), "a captured row is outside the plan");
    require(all_distinct(layers) && all_distinct(rows), "a layer or row is captured twice");
    require(all_below(plan.query_rows, plan.n_queries, n), "a query's row is outside the plan");
    require(
        all_below(plan.query_tokens, plan.n_queries, model_->n_vocab()), "a query's token is outside the vocabulary"
    );
    for (int32_t q = 0; q < plan.n_queries; ++q) {
        require(plan.outputs[plan.query_rows[q]] != 0, "a query's row is not an output");
        require(q == 0 || plan.query_rows[q - 1] <= plan.query_rows[q], "queries must be sorted by row");
    }
}

void session::run(const plan & plan, decode_result & result) {
    next_query_ = 0;
    const auto n_batch = static_cast<int32_t>(params_.n_batch);
    for (int32_t first = 0; first < plan.n_tokens; first += n_batch) {
        const int32_t n_rows = std::min(n_batch, plan.n_tokens - first);
        std::vector<int32_t> outputs;
        for (int32_t i = first; i < first + n_rows; ++i) {
            if (plan.outputs[i] != 0) {
                outputs.push_back(i);
            }
        }
        hook_.start_piece(first, n_rows, outputs);
        decode_piece(plan, first, n_rows);
        hook_.finish_piece();
        read_outputs(plan, first, outputs, result);
    }
    hook_.finish_plan();
    const int32_t steered_out = hook_.nonfinite_row();
    if (steered_out >= 0 && (result.nonfinite_row < 0 || steered_out < result.nonfinite_row)) {
        result.nonfinite_row = steered_out;
    }
}

void session::decode_piece(const plan & plan, int32_t row_first, int32_t n_rows) {
    n_seq_id_.resize(static_cast<size_t>(n_rows));
    seq_id_.resize(static_cast<size_t>(n_rows));
    for (int32_t i = 0; i < n_rows; ++i) {
        const int32_t * offset = plan.seq_offsets + row_first + i;
        n_seq_id_[static_cast<size_t>(i)] = offset[1] - offset[0];
        seq_id_[static_cast<size_t>(i)] = const_cast<llama_seq_id *>(plan.seq_ids + offset[0]);
    }
    llama_batch batch{}; // llama_decode reads it only, whatever its pointer types say
    batch.n_tokens = n_rows;
    batch.token = const_cast<llama_token *>(plan.tokens + row_first);
    batch.pos = const_cast<llama_pos *>(plan.positions + row_first);
    batch.n_seq_id = n_seq_id_.data();
    batch.seq_id = seq_id_.data();
    batch.logits = const_cast<int8_t *>(plan.outputs + row_first);

    log_forget();
    const int32_t status = llama_decode(context_.get(), batch);
    if (status != 0) {
        const std::string errors = log_errors();
        throw decode_error("llama_decode returned " + std::to_string(status) + (errors.empty() ? "" : ": " + errors));
    }
    llama_synchronize(context_.get());
}

void session::read_outputs(
    const plan & plan, int32_t row_first, const std::vector<int32_t> & outputs, decode_result & result
) {
    const int32_t n_vocab = result.n_vocab;
    for (const int32_t row : outputs) {
        const float * logits = llama_get_logits_ith(context_.get(), row - row_first);
        if (logits == nullptr) {
            throw decode_error("the model gives no logits");
        }
        bool is_finite = !std::isnan(logits[0]); // a NaN in the last activation reaches every logit
        if (next_query_ < plan.n_queries && plan.query_rows[next_query_] == row) {
            const double norm = log_sum_exp(logits, n_vocab);
            is_finite = is_finite && std::isfinite(norm);
            for (; next_query_ < plan.n_queries && plan.query_rows[next_query_] == row; ++next_query_) {
                const float logit = logits[plan.query_tokens[next_query_]];
                result.logprobs[static_cast<size_t>(next_query_)] = static_cast<double>(logit) - norm;
            }
        }
        if (!is_finite && (result.nonfinite_row < 0 || row < result.nonfinite_row)) {
            result.nonfinite_row = row;
        }
        if (plan.want_logits) {
            result.logits.insert(result.logits.end(), logits, logits + n_vocab);
        }
    }
}

} // namespace steercpp
