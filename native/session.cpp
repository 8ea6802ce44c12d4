#include "session.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "aborts.h"
#include "log.h"
#include "logprob.h"

namespace steercpp {

namespace {

constexpr const char * another_graph = "the graph differs from that of the base pass";

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

// The session's, for as long as it lives.
class sole_use {
  public:
    explicit sole_use(std::atomic<bool> & in_use)
        : in_use_(in_use) {
        if (in_use_.exchange(true)) {
            throw busy_error("another thread is using this session");
        }
    }
    ~sole_use() { in_use_ = false; }

    sole_use(const sole_use &) = delete;
    sole_use & operator=(const sole_use &) = delete;

  private:
    std::atomic<bool> & in_use_;
};

// Without outputs nothing above the last captured layer is needed: that layer, else -1.
int32_t last_layer(const plan & plan) {
    const bool has_outputs = std::any_of(plan.outputs, plan.outputs + plan.n_tokens, [](int8_t is) { return is != 0; });
    const auto & layers = plan.capture_layers;
    return has_outputs || layers.empty() ? -1 : *std::max_element(layers.begin(), layers.end());
}

llama_context_params context_params(const session_params & params, bool has_experts, hook & hook) {
    llama_context_params out = llama_context_default_params();
    out.n_ctx = params.kv_unified ? params.n_ctx : params.n_ctx * params.n_seq_max;
    out.n_batch = params.n_batch;
    // One ubatch per llama_decode: only then does every node hold the rows in the order given. With streams it also
    // needs one token, or equally many, of each sequence in order.
    out.n_ubatch = params.n_batch;
    out.kv_unified = params.kv_unified;
    out.n_seq_max = params.n_seq_max;
    out.n_threads = params.n_threads;
    out.n_threads_batch = params.n_threads;
    out.flash_attn_type = params.flash_attn;
    out.type_k = params.type_k;
    out.type_v = params.type_v;
    out.offload_kqv = params.offload_kqv;
    // Of experts in host memory the scheduler copies those that are used to a device before any node of that split is
    // asked about, and aborts where the node that picks them was left out (ggml/src/ggml-backend.cpp, compute_splits).
    out.op_offload = out.op_offload && !(params.hook && has_experts);
    out.no_perf = true;
    if (params.hook) {
        out.cb_eval = hook::on_node;
        out.cb_eval_user_data = &hook;
    }
    return out;
}

} // namespace

session::session(std::shared_ptr<const model> model, const session_params & params)
    : model_(std::move(model))
    , params_(params)
    , hook_(model_->n_layer(), model_->n_embd(), params.always_copy)
    , partial_(params.n_seq_max, 0) {
    // llama.cpp reserves an output for every sequence and aborts the process where a batch cannot hold them
    require(params_.n_seq_max >= 1 && params_.n_seq_max <= params_.n_batch, "n_seq_max must lie in 1..n_batch");
    require(params_.n_seq_max <= llama_max_parallel_sequences(), "n_seq_max is beyond llama_max_parallel_sequences");
    // llama.cpp counts cells in 32 bits, and takes 0 of them to mean as many as the model was trained for
    const uint64_t n_cells = static_cast<uint64_t>(params_.n_ctx) * (params_.kv_unified ? 1 : params_.n_seq_max);
    require(n_cells >= 1, "n_ctx must be at least 1");
    constexpr auto most_cells = static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
    require(n_cells <= most_cells, "n_ctx times n_seq_max is beyond 2147483647 cells");
    const aborts_throw guard;
    log_forget();
    const llama_context_params wanted = context_params(params_, model_->has_experts(), hook_);
    try {
        call_on_file([&] { context_.reset(llama_init_from_model(model_->get(), wanted)); });
    } catch (const abort_error & error) { throw model_error(as_line(error.what())); }
    if (!context_ && !guard.reason().empty()) {
        throw model_error(as_line(guard.reason()));
    }
    if (!context_) {
        throw decode_error(log_errors());
    }
    if (llama_get_memory(context_.get()) == nullptr) {
        throw model_error("it keeps no memory of earlier tokens, as embedding models do; only decoders can be steered");
    }
    rest_control_vector();
    try_out();
}

// Decodes the vocabulary's ends in this thread alone, where what llama.cpp asserts of a model while it computes, such
// as the types of its tensors, is still an error; with several threads it would end the process.
void session::try_out() {
    std::vector<llama_token> tokens = {0, model_->n_vocab() - 1};
    tokens.resize(std::min<size_t>({tokens.size(), params_.n_ctx, params_.n_batch}));
    llama_set_n_threads(context_.get(), 1, 1);
    hook_.arm(static_cast<int32_t>(tokens.size()), {}, {});
    const aborts_throw guard;
    try {
        call_on_file([&] {
            llama_decode(context_.get(), llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size())));
            llama_synchronize(context_.get());
        });
    } catch (const abort_error & error) {
        static_cast<void>(context_.release()); // in the middle of a decode, which nothing can undo
        throw model_error(as_line(error.what()));
    } catch (const std::exception & error) { // out of memory, say
        throw decode_error(as_line(std::string("llama_decode failed: ") + error.what()));
    }
    hook_.disarm();
    const float * logits = llama_get_logits_ith(context_.get(), -1);
    tainted_ = logits == nullptr ||
               !std::all_of(logits, logits + model_->n_vocab(), [](float logit) { return std::isfinite(logit); });
    llama_memory_clear(llama_get_memory(context_.get()), false);
    llama_set_n_threads(context_.get(), params_.n_threads, params_.n_threads);
}

decode_result session::decode(const plan & plan) {
    const sole_use use(in_use_);
    check(plan);
    decode_result result;
    const kept * base = plan.base;
    if (base) {
        result.reason = base->control_vector == control_vector_ ? base->reason() : another_graph;
        base = result.reason.empty() && base->il >= 0 ? base : nullptr;
    }
    attempt(plan, base, result);
    return result;
}

// Resumes from the base; where the graph turns out to be another one, runs in full.
void session::attempt(const plan & plan, const kept * base, decode_result & result) {
    decode_result fresh;
    fresh.reason = result.reason;
    fresh.token_layers = result.token_layers; // computed in vain, if this is the second attempt
    result = std::move(fresh);
    result.n_capture_layers = static_cast<int32_t>(plan.capture_layers.size());
    result.n_capture_rows = static_cast<int32_t>(plan.capture_rows.size());
    result.n_embd = model_->n_embd();
    result.n_vocab = model_->n_vocab();
    result.n_top = plan.n_top;
    result.resumed = base != nullptr;
    result.logprobs.resize(static_cast<size_t>(plan.n_queries));
    result.attention_bits.resize(plan.want_attention_bits ? static_cast<size_t>(plan.n_tokens) : 0);
    result.captures.resize(plan.capture_layers.size() * plan.capture_rows.size() * static_cast<size_t>(result.n_embd));
    if (plan.keep_il >= 0 || plan.keep_logits) {
        result.base = std::make_shared<kept>();
        result.base->il = plan.keep_il;
        result.base->control_vector = control_vector_;
        result.base->pieces.resize(plan.pieces.size());
    }

    if (plan.fresh) {
        llama_memory_clear(llama_get_memory(context_.get()), tainted_);
    }
    std::vector<int8_t> before(partial_.size(), 0);
    if (!plan.fresh) {
        before = partial_;
    }
    const bool was_tainted = tainted_ && !plan.fresh;
    tainted_ = true; // both until the end is reached
    std::fill(partial_.begin(), partial_.end(), static_cast<int8_t>(1));
    hook_.arm(plan.n_tokens, plan.operations, {plan.capture_layers, plan.capture_rows, result.captures.data()});
    try {
        run(plan, base, result);
    } catch (...) {
        hook_.disarm();
        throw;
    }
    hook_.disarm();
    tainted_ = was_tainted || !result.failed_rows.empty();
    partial_ = before;
    mark_partial(plan, (base != nullptr && !plan.keeps_below) || last_layer(plan) >= 0);
    if (base && !result.resumed) {
        result.reason = another_graph;
        if (!plan.fresh) {
            give_up_rows(plan);
        }
        attempt(plan, nullptr, result);
    }
}

void session::set_control_vector(const float * data) {
    const sole_use use(in_use_);
    if (data == nullptr) {
        rest_control_vector();
        return;
    }
    // always the whole buffer: a shorter one leaves the old values of later layers in place
    const auto size = static_cast<size_t>(n_embd()) * static_cast<size_t>(n_layer() - 1);
    hook_.steer_in_graph(false); // whose sources would take the vector's place
    control_vector_ = ++n_control_vectors_;
    if (llama_set_adapter_cvec(context_.get(), data, size, n_embd(), 1, n_layer() - 1) != 0) {
        rest_control_vector();
        throw decode_error("llama_set_adapter_cvec failed");
    }
}

// None; in a session that steers inside the graph one that changes nothing, and without room for it none.
void session::rest_control_vector() {
    const auto size = static_cast<size_t>(n_embd()) * static_cast<size_t>(n_layer() - 1);
    const std::vector<float> nothing(params_.hook && params_.in_graph ? size : 0, -0.0f);
    const bool in_graph = !nothing.empty() &&
                          llama_set_adapter_cvec(context_.get(), nothing.data(), size, n_embd(), 1, n_layer() - 1) == 0;
    if (!in_graph && control_vector_ != 0) {
        llama_set_adapter_cvec(context_.get(), nullptr, 0, n_embd(), 1, n_layer() - 1);
    }
    hook_.steer_in_graph(in_graph);
    control_vector_ = 0;
}

void session::check(const plan & plan) const {
    check_rows(plan);
    check_base(plan);
    const auto n_layer = model_->n_layer();
    for (const operation & op : plan.operations) {
        require(op.il >= 0 && op.il < n_layer, "an operation's layer is outside the model");
    }
    const auto & layers = plan.capture_layers;
    const auto & rows = plan.capture_rows;
    require(
        all_below(layers.data(), static_cast<int32_t>(layers.size()), n_layer), "a captured layer is outside the model"
    );
    require(
        all_below(rows.data(), static_cast<int32_t>(rows.size()), plan.n_tokens), "a captured row is outside the plan"
    );
    require(all_distinct(layers) && all_distinct(rows), "a layer or row is captured twice");
    require(all_below(plan.query_rows, plan.n_queries, plan.n_tokens), "a query's row is outside the plan");
    require(
        all_below(plan.query_tokens, plan.n_queries, model_->n_vocab()), "a query's token is outside the vocabulary"
    );
    for (int32_t q = 0; q < plan.n_queries; ++q) {
        require(plan.outputs[plan.query_rows[q]] != 0, "a query's row is not an output");
        require(q == 0 || plan.query_rows[q - 1] <= plan.query_rows[q], "queries must be sorted by row");
    }
    const auto n_samplers = static_cast<int32_t>(plan.sampler_rows.size());
    require(plan.samplers.size() == plan.sampler_rows.size(), "each sampler needs a row");
    require(
        std::find(plan.samplers.begin(), plan.samplers.end(), nullptr) == plan.samplers.end(), "a sampler is missing"
    );
    for (const sampler * sampler : plan.samplers) {
        require(sampler->n_vocab() == model_->n_vocab(), "a sampler is for another vocabulary");
    }
    require(all_below(plan.sampler_rows.data(), n_samplers, plan.n_tokens), "a sampler's row is outside the plan");
    require(
        std::is_sorted(plan.sampler_rows.begin(), plan.sampler_rows.end()) &&
            std::all_of(
                plan.sampler_rows.begin(), plan.sampler_rows.end(),
                [&plan](int32_t row) { return plan.outputs[row] != 0; }
            ),
        "the samplers' rows must be outputs in ascending order"
    );
    require(plan.n_top >= 0 && plan.n_top <= model_->n_vocab(), "more top tokens than the vocabulary has");
    // where the graph is another one, a plan with a base runs twice, and samplers would draw twice
    require(plan.base == nullptr || plan.samplers.empty(), "a plan that starts from a base draws no tokens");
}

void session::check_rows(const plan & plan) const {
    const int32_t n = plan.n_tokens;
    require(n > 0, "a plan needs at least one token");
    require(all_below(plan.tokens, n, model_->n_vocab()), "a token is outside the vocabulary");
    require(all_below(plan.positions, n, static_cast<int32_t>(params_.n_ctx)), "a position is outside the context");
    require(plan.seq_offsets[0] == 0, "the first token's sequences must begin at offset 0");
    for (int32_t i = 0; i < n; ++i) {
        require(plan.seq_offsets[i] < plan.seq_offsets[i + 1], "a token belongs to no sequence");
    }
    const auto n_seq_max = static_cast<int32_t>(params_.n_seq_max);
    require(all_below(plan.seq_ids, plan.seq_offsets[n], n_seq_max), "a sequence id is outside 0..n_seq_max-1");
    require(
        plan.fresh || std::none_of(
                          plan.seq_ids, plan.seq_ids + plan.seq_offsets[n],
                          [this](int32_t id) { return partial_[static_cast<size_t>(id)] != 0; }
                      ),
        "a plan cannot go on from one that computed some blocks only, or that did not reach its end"
    );
    int64_t n_rows = 0;
    for (const plan_piece & piece : plan.pieces) {
        require(
            piece.n_rows > 0 && static_cast<uint32_t>(piece.n_rows) <= params_.n_batch,
            "a piece needs 1..n_batch tokens"
        );
        require(piece.trunk < n_seq_max, "a piece keeps a sequence outside 0..n_seq_max-1");
        // between streams llama.cpp copies whole buffers alone, and ends the process otherwise
        require(piece.copies.empty() || params_.kv_unified, "copies of sequences need a unified K/V buffer");
        for (const sequence_copy & copy : piece.copies) {
            require(
                copy.from >= 0 && copy.from < n_seq_max && copy.to >= 0 && copy.to < n_seq_max,
                "a piece copies a sequence outside 0..n_seq_max-1"
            );
            require(copy.n_positions >= 1, "a piece copies no positions of a sequence");
            require(
                plan.fresh || partial_[static_cast<size_t>(copy.from)] == 0,
                "a piece copies a sequence of which some blocks were computed only"
            );
        }
        check_places(plan, piece);
        n_rows += piece.n_rows;
    }
    require(n_rows == n, "the pieces do not add up to the tokens");
    int32_t first = 0;
    for (const plan_piece & piece : plan.pieces) {
        require(
            params_.kv_unified || (plan.keep_il < 0 && plan.base == nullptr && last_layer(plan) < 0) ||
                ubatches_of(plan, piece, first).size() == 1,
            "llama.cpp cuts a piece into several batches; give one of whose sequences each has as many tokens"
        );
        first += piece.n_rows;
    }
}

void session::check_places(const plan & plan, const plan_piece & piece) const {
    if (piece.places.empty()) {
        require(piece.tails.empty() && piece.settle < 0, "a piece stores K and V again, but places no rows");
        return;
    }
    const auto n_cells = static_cast<int32_t>(params_.n_ctx);
    const auto n_own = static_cast<int32_t>(params_.n_seq_max) - 2; // without those of fillers and of what is moved
    require(params_.kv_unified, "rows are placed in a unified K/V buffer only");
    require(plan.fresh, "a plan that places rows begins with an empty memory");
    require(
        all_below(plan.seq_ids, plan.seq_offsets[plan.n_tokens], n_own), "a plan that places rows needs two sequences"
    );
    require(static_cast<int32_t>(piece.places.size()) == piece.n_rows, "a piece places some of its rows only");
    require(all_below(piece.places.data(), piece.n_rows, n_cells), "a row is placed outside the context");
    require(piece.n_held >= 0 && piece.places.front() >= piece.n_held, "a row is placed where the trunk is");
    require(
        std::adjacent_find(piece.places.begin(), piece.places.end(), std::greater_equal<int32_t>()) ==
            piece.places.end(),
        "the places of rows must ascend"
    );
    int32_t end = piece.n_held;
    for (const tail_copy & tail : piece.tails) {
        require(
            tail.from >= 0 && tail.from < n_own && tail.to >= 0 && tail.to < n_own && tail.from != tail.to,
            "a piece stores K and V again for no sequence of the plan"
        );
        require(tail.first >= 0 && tail.first < tail.stop && tail.stop <= n_cells, "a piece stores no positions again");
        require(
            tail.cell >= end && tail.cell <= n_cells - (tail.stop - tail.first), "what is stored again must ascend"
        );
        end = tail.cell + tail.stop - tail.first;
    }
    require(piece.settle < 0 || piece.trunk >= 0, "a piece moves no trunk");
}

void session::check_base(const plan & plan) const {
    require(plan.keep_il < model_->n_layer(), "the layer to keep is outside the model");
    require(plan.keep_il < 0 || params_.hook, "a session without the hook keeps nothing");
    if (!plan.base) {
        require(!plan.want_kl && !plan.want_kl_from_base, "KL needs a base");
        return;
    }
    const kept & base = *plan.base;
    require(base.pieces.size() == plan.pieces.size(), "the base is that of other pieces");
    const auto n_outputs = std::count(plan.outputs, plan.outputs + plan.n_tokens, 1);
    const auto n_logits = static_cast<size_t>(n_outputs) * static_cast<size_t>(model_->n_vocab());
    const bool wants_kl = plan.want_kl || plan.want_kl_from_base;
    require(!wants_kl || base.logits.size() == n_logits, "the base kept no logits of these outputs");
    for (const operation & op : plan.operations) {
        require(op.il >= base.il, "an operation lies below the layer that the base kept");
    }
    for (const int32_t il : plan.capture_layers) {
        require(il >= base.il, "a captured layer lies below the one that the base kept");
    }
}

// Blocks computed for every token; without outputs nothing above the last captured layer is.
int64_t session::n_blocks(const plan & plan, const kept_piece * resume) const {
    return (last_layer(plan) < 0 ? n_layer() : last_layer(plan) + 1) - (resume ? resume->plan.n_blocks_skipped : 0);
}

void session::run(const plan & plan, const kept * base, decode_result & result) {
    next_query_ = 0;
    next_output_ = 0;
    next_sampler_ = 0;
    llama_memory_t memory = llama_get_memory(context_.get());
    int32_t first = 0;
    for (size_t k = 0; k < plan.pieces.size(); ++k) {
        const plan_piece & piece = plan.pieces[k];
        if (!piece.places.empty()) {
            piece_cells().prepare(piece.n_held, piece.places, piece.tails);
        }
        // Before its decode, so that all cells that it needs belong to two sequences: under a sliding window llama.cpp
        // takes cells for new tokens that a sequence alone holds and no longer sees.
        for (const sequence_copy & copy : piece.copies) {
            llama_memory_seq_cp(memory, copy.from, copy.to, 0, copy.n_positions);
        }
        piece_work work;
        work.ubatches = ubatches_of(plan, piece, first);
        std::vector<int32_t> outputs;
        for (int32_t i = first; i < first + piece.n_rows; ++i) {
            if (plan.outputs[i] != 0) {
                outputs.push_back(i);
            }
        }
        if (plan.keep_il >= 0) {
            work.keep_il = plan.keep_il;
            work.keep = &result.base->pieces[k];
        }
        work.resume = base ? &base->pieces[k] : nullptr;
        work.last_il = last_layer(plan);
        work.attention_bits = plan.want_attention_bits ? result.attention_bits.data() + first : nullptr;
        hook_.start_piece(std::move(work));
        if (!decode_piece(plan, piece, first)) {
            result.resumed = false;
            return;
        }
        result.token_layers += piece.n_rows * n_blocks(plan, base ? &base->pieces[k] : nullptr);
        read_outputs(plan, first, outputs, result);
        if (piece.trunk >= 0) {
            llama_memory_seq_keep(memory, piece.trunk);
        }
        if (piece.settle >= 0) {
            piece_cells().settle(piece.trunk, piece.settle);
        }
        first += piece.n_rows;
        if (plan.go_on) {
            plan.go_on();
        }
    }
    hook_.finish_plan();
    result.n_cuts = hook_.n_cuts();
    result.n_writes = hook_.n_writes();
    std::vector<int32_t> & failed = result.failed_rows;
    failed.insert(failed.end(), hook_.failed_rows().begin(), hook_.failed_rows().end());
    std::sort(failed.begin(), failed.end());
    failed.erase(std::unique(failed.begin(), failed.end()), failed.end());
    // one that steering drove out, if any: what follows from its prompt may have no finite logits either
    const auto & driven_out = hook_.failed_rows();
    if (!driven_out.empty()) {
        result.nonfinite_row = *std::min_element(driven_out.begin(), driven_out.end());
    } else if (!failed.empty()) {
        result.nonfinite_row = failed.front();
    }
}

// The batches into which llama.cpp cuts a piece, with the order of rows in each. A unified buffer leaves it whole.
// With streams each takes equally many tokens of sequences with consecutive ids, as many as all of them have left
// (src/llama-batch.cpp, split_equal).
std::vector<ubatch_rows> session::ubatches_of(const plan & plan, const plan_piece & piece, int32_t row_first) const {
    std::vector<ubatch_rows> ubatches;
    const auto add_row = [&plan](ubatch_rows & ubatch, int32_t row) {
        ubatch.rows.push_back(row);
        if (plan.outputs[row] != 0) {
            ubatch.outputs.push_back(row);
        }
    };
    if (params_.kv_unified) {
        ubatches.emplace_back();
        for (int32_t row = row_first; row < row_first + piece.n_rows; ++row) {
            add_row(ubatches.back(), row);
        }
        return ubatches;
    }
    std::vector<int32_t> waiting; // rows
    for (int32_t row = row_first; row < row_first + piece.n_rows; ++row) {
        waiting.push_back(row);
    }
    while (!waiting.empty()) {
        std::vector<int32_t> sequences; // taken: the first row's, and those whose ids follow on as rows are met
        for (const int32_t row : waiting) {
            const int32_t sequence = plan.seq_ids[plan.seq_offsets[row]];
            if (sequences.empty() || sequence == sequences.back() + 1) {
                sequences.push_back(sequence);
            }
        }
        std::vector<std::vector<int32_t>> rows_of(sequences.size());
        for (const int32_t row : waiting) {
            const int32_t place = plan.seq_ids[plan.seq_offsets[row]] - sequences.front();
            if (place >= 0 && static_cast<size_t>(place) < sequences.size()) {
                rows_of[static_cast<size_t>(place)].push_back(row);
            }
        }
        size_t n_each = params_.n_batch;
        for (const std::vector<int32_t> & rows : rows_of) {
            n_each = std::min(n_each, rows.size());
        }
        ubatch_rows ubatch;
        for (const std::vector<int32_t> & rows : rows_of) {
            for (size_t i = 0; i < n_each; ++i) {
                add_row(ubatch, rows[i]);
                waiting.erase(std::find(waiting.begin(), waiting.end(), rows[i]));
            }
        }
        ubatches.push_back(std::move(ubatch));
    }
    return ubatches;
}

// Of a plan that goes on from others, before it is run again.
void session::give_up_rows(const plan & plan) {
    for (int32_t i = 0; i < plan.n_tokens; ++i) {
        for (int32_t k = plan.seq_offsets[i]; k < plan.seq_offsets[i + 1]; ++k) {
            llama_memory_seq_rm(llama_get_memory(context_.get()), plan.seq_ids[k], plan.positions[i], -1);
        }
    }
}

void session::mark_partial(const plan & plan, bool is_partial) {
    for (int32_t i = 0; i < plan.seq_offsets[plan.n_tokens]; ++i) {
        partial_[static_cast<size_t>(plan.seq_ids[i])] = static_cast<int8_t>(is_partial);
    }
}

void session::copy_sequence(int32_t from, int32_t to) {
    const sole_use use(in_use_);
    const auto n_seq_max = static_cast<int32_t>(params_.n_seq_max);
    require(from >= 0 && from < n_seq_max && to >= 0 && to < n_seq_max, "a sequence is outside 0..n_seq_max-1");
    require(!params_.kv_unified && from != to, "whole sequences are copied between streams");
    llama_memory_seq_cp(llama_get_memory(context_.get()), from, to, -1, -1);
    partial_[static_cast<size_t>(to)] = partial_[static_cast<size_t>(from)];
}

void session::cut_sequence(int32_t sequence, int32_t n_positions) {
    const sole_use use(in_use_);
    require(
        sequence >= 0 && sequence < static_cast<int32_t>(params_.n_seq_max), "a sequence is outside 0..n_seq_max-1"
    );
    require(n_positions >= 0, "a sequence keeps at least 0 positions");
    if (!llama_memory_seq_rm(llama_get_memory(context_.get()), sequence, n_positions == 0 ? -1 : n_positions, -1)) {
        throw decode_error("the model's state cannot go back to an earlier position");
    }
    if (n_positions == 0) {
        partial_[static_cast<size_t>(sequence)] = 0;
    }
}

cells session::piece_cells() {
    const auto filler = static_cast<llama_seq_id>(params_.n_seq_max) - 1;
    return {context_.get(), filler, filler - 1, [this](const llama_batch & batch) {
                piece_work work;
                work.computes = false;
                hook_.start_piece(std::move(work));
                decode_batch(batch);
            }};
}

// Returns false where it was to be resumed and the graph was not the one that was planned for.
bool session::decode_piece(const plan & plan, const plan_piece & piece, int32_t row_first) {
    const auto n_rows = static_cast<size_t>(piece.n_rows);
    n_seq_id_.resize(n_rows);
    seq_id_.resize(n_rows);
    for (size_t i = 0; i < n_rows; ++i) {
        const int32_t * offset = plan.seq_offsets + row_first + i;
        n_seq_id_[i] = offset[1] - offset[0];
        seq_id_[i] = const_cast<llama_seq_id *>(plan.seq_ids + offset[0]);
    }
    llama_batch batch{}; // llama_decode reads it only, whatever its pointer types say
    batch.n_tokens = piece.n_rows;
    batch.token = const_cast<llama_token *>(plan.tokens + row_first);
    batch.pos = const_cast<llama_pos *>(plan.positions + row_first);
    batch.n_seq_id = n_seq_id_.data();
    batch.seq_id = seq_id_.data();
    batch.logits = const_cast<int8_t *>(plan.outputs + row_first);
    return decode_batch(batch);
}

bool session::decode_batch(const llama_batch & batch) {
    log_forget();
    int32_t status = 0;
    try {
        status = llama_decode(context_.get(), batch);
        llama_synchronize(context_.get());
    } catch (const std::exception & error) { // out of memory, say
        throw decode_error(as_line(std::string("llama_decode failed: ") + error.what()));
    }
    const bool as_planned = hook_.finish_piece();
    if (status != 0 && as_planned) {
        const std::string errors = log_errors();
        throw decode_error("llama_decode returned " + std::to_string(status) + (errors.empty() ? "" : ": " + errors));
    }
    return as_planned;
}

void session::read_outputs(
    const plan & plan, int32_t row_first, const std::vector<int32_t> & outputs, decode_result & result
) {
    for (const int32_t row : outputs) {
        const float * logits = llama_get_logits_ith(context_.get(), row - row_first);
        if (logits == nullptr) {
            throw decode_error("the model gives no logits");
        }
        read_row(plan, row, logits, result);
        for (; next_sampler_ < plan.samplers.size() && plan.sampler_rows[next_sampler_] == row; ++next_sampler_) {
            sampler * sampler = plan.samplers[next_sampler_];
            const bool is_finite = result.failed_rows.empty() || result.failed_rows.back() != row;
            const llama_token drawn = is_finite ? sampler->sample(logits, draw_buffers_) : -1;
            result.sampled.push_back(drawn);
            if (plan.want_sampled_logprobs) {
                result.sampled_logprobs.push_back(
                    drawn < 0 ? NAN : logits[drawn] - log_sum_exp(logits, result.n_vocab)
                );
            }
        }
        ++next_output_;
    }
}

void session::read_row(const plan & plan, int32_t row, const float * logits, decode_result & result) {
    const int32_t n_vocab = result.n_vocab;
    bool is_finite = !std::isnan(logits[0]); // a NaN in the last activation reaches every logit
    const bool asked = next_query_ < plan.n_queries && plan.query_rows[next_query_] == row;
    const bool wants_kl = plan.want_kl || plan.want_kl_from_base;
    if (asked || plan.want_entropy || wants_kl || plan.keep_logits || plan.n_top > 0) {
        const double norm = log_sum_exp(logits, n_vocab);
        is_finite = is_finite && std::isfinite(norm);
        for (; next_query_ < plan.n_queries && plan.query_rows[next_query_] == row; ++next_query_) {
            const float logit = logits[plan.query_tokens[next_query_]];
            result.logprobs[static_cast<size_t>(next_query_)] = static_cast<double>(logit) - norm;
        }
        if (plan.want_entropy) {
            result.entropy.push_back(entropy(logits, norm, n_vocab));
        }
        if (wants_kl) {
            const auto output = static_cast<size_t>(next_output_);
            const float * before = plan.base->logits.data() + output * static_cast<size_t>(n_vocab);
            const double before_norm = plan.base->norms[output];
            if (plan.want_kl) {
                result.kl.push_back(kl_divergence(logits, norm, before, before_norm, n_vocab));
            }
            if (plan.want_kl_from_base) {
                result.kl_from_base.push_back(kl_divergence(before, before_norm, logits, norm, n_vocab));
            }
        }
        if (plan.keep_logits) {
            result.base->norms.push_back(norm);
        }
        if (plan.n_top > 0 && is_finite) {
            const size_t end = result.top_tokens.size();
            result.top_tokens.resize(end + static_cast<size_t>(plan.n_top));
            top_tokens(logits, n_vocab, plan.n_top, result.top_tokens.data() + end);
            for (size_t i = end; i < result.top_tokens.size(); ++i) {
                result.top_logprobs.push_back(static_cast<double>(logits[result.top_tokens[i]]) - norm);
            }
        }
    }
    if (!is_finite) {
        result.failed_rows.push_back(row);
    }
    if (plan.want_logits) {
        result.logits.insert(result.logits.end(), logits, logits + n_vocab);
    }
    if (plan.keep_logits) {
        result.base->logits.insert(result.base->logits.end(), logits, logits + n_vocab);
    }
}

} // namespace steercpp
