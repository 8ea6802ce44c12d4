#include "sampling.h"

#include <algorithm>

namespace steercpp {

namespace {

llama_sampler * new_chain() {
    return llama_sampler_chain_init(llama_sampler_chain_default_params());
}

bool has_penalties(const sampler_params & params) {
    const bool some =
        params.repeat_penalty != 1.0f || params.frequency_penalty != 0.0f || params.presence_penalty != 0.0f;
    return some && params.repeat_last_n > 0;
}

} // namespace

sampler::sampler(const sampler_params & params)
    : n_vocab_(params.n_vocab)
    , is_greedy_(!(params.temperature > 0.0f))
    , top_p_(is_greedy_ || params.top_k > 0 ? 1.0f : params.top_p)
    , adjustments_(new_chain())
    , own_top_p_(llama_sampler_init_top_p(top_p_, 1))
    , chain_(new_chain()) {
    if (!params.logit_bias.empty()) {
        std::vector<llama_logit_bias> bias;
        for (const auto & [token, amount] : params.logit_bias) {
            bias.push_back({token, amount});
        }
        const auto n = static_cast<int32_t>(bias.size());
        llama_sampler_chain_add(adjustments_.get(), llama_sampler_init_logit_bias(n_vocab_, n, bias.data()));
    }
    if (has_penalties(params)) {
        llama_sampler * penalties = llama_sampler_init_penalties(
            n_vocab_, params.repeat_last_n, params.repeat_penalty, params.frequency_penalty, params.presence_penalty
        );
        llama_sampler_chain_add(adjustments_.get(), penalties);
    }

    llama_sampler * chain = chain_.get();
    if (is_greedy_) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    if (params.top_k > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(params.top_k));
    }
    if (params.top_p < top_p_) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(params.top_p, 1));
    }
    if (params.min_p > 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(params.min_p, 1));
    }
    llama_sampler_chain_add(chain, llama_sampler_init_temp(params.temperature));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(params.seed));
}

void sampler::accept(llama_token token) {
    llama_sampler_accept(adjustments_.get(), token);
    llama_sampler_accept(chain_.get(), token);
}

llama_token sampler::sample(const float * logits, draw_buffers & buffers) {
    const bool adjusts = llama_sampler_chain_n(adjustments_.get()) > 0;
    if (is_greedy_ && !adjusts) {
        return static_cast<llama_token>(std::max_element(logits, logits + n_vocab_) - logits);
    }
    auto & candidates = buffers.candidates;
    candidates.resize(static_cast<size_t>(n_vocab_));
    for (int32_t i = 0; i < n_vocab_; ++i) {
        candidates[static_cast<size_t>(i)] = {i, logits[i], 0.0f};
    }
    llama_token_data_array row{candidates.data(), candidates.size(), -1, false};
    if (adjusts) {
        llama_sampler_apply(adjustments_.get(), &row);
    }
    llama_token drawn = 0;
    if (top_p_ < 1.0f) {
        drawn = draw_likely(buffers);
    } else {
        llama_sampler_apply(chain_.get(), &row);
        drawn = row.data[row.selected].id;
    }
    accept(drawn);
    return drawn;
}

llama_token sampler::draw_likely(draw_buffers & buffers) {
    find_nucleus(top_p_, buffers);
    llama_token_data_array likely{buffers.likely.data(), buffers.likely.size(), -1, true};
    llama_sampler_apply(chain_.get(), &likely);
    const auto selected = static_cast<size_t>(likely.selected);
    if (!is_tied(selected, buffers)) {
        return likely.data[selected].id;
    }
    llama_token_data_array row{buffers.candidates.data(), buffers.candidates.size(), -1, false};
    llama_sampler_apply(own_top_p_.get(), &row); // its order among equals
    return row.data[selected].id;
}

} // namespace steercpp
