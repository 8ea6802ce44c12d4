#include "sampling.h"

namespace steercpp {

// The order is that of llama.cpp's own programs (common/sampling.cpp): top-k, top-p, min-p, temperature.
sampler::sampler(const sampler_params & params)
    : chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())) {
    llama_sampler * chain = chain_.get();
    if (!(params.temperature > 0.0f)) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    if (params.top_k > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(params.top_k));
    }
    if (params.top_p < 1.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(params.top_p, 1));
    }
    if (params.min_p > 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(params.min_p, 1));
    }
    llama_sampler_chain_add(chain, llama_sampler_init_temp(params.temperature));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(params.seed));
}

} // namespace steercpp
