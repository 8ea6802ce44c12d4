// How the token after a row is drawn: llama.cpp's own samplers, in the order of its programs (common/sampling.cpp).

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "llama-cpp.h"
#include "nucleus.h"

namespace steercpp {

struct sampler_params {
    int32_t n_vocab = 0;
    float temperature = 0.0f; // 0: the most likely token
    int32_t top_k = 0;        // 0: all tokens
    float top_p = 1.0f;
    float min_p = 0.0f;
    uint32_t seed = 0;
    float repeat_penalty = 1.0f; // a logit above 0 is divided by it, one below multiplied
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    int32_t repeat_last_n = 0; // tokens that penalties look back over
    std::vector<std::pair<int32_t, float>> logit_bias;
};

class sampler {
  public:
    explicit sampler(const sampler_params & params);

    sampler(const sampler &) = delete;
    sampler & operator=(const sampler &) = delete;

    int32_t n_vocab() const { return n_vocab_; }

    // A token as if drawn: penalties count it.
    void accept(llama_token token);

    // The token after a row with these logits, (n_vocab), none of them NaN. Penalties count it from now on.
    llama_token sample(const float * logits, draw_buffers & buffers);

  private:
    llama_token draw_likely(draw_buffers & buffers);

    int32_t n_vocab_;
    bool is_greedy_;
    float top_p_;                   // of find_nucleus; 1: the chain has it all
    llama_sampler_ptr adjustments_; // of logits: bias and penalties
    llama_sampler_ptr own_top_p_;   // llama.cpp's, for a token with the logit of another
    llama_sampler_ptr chain_;
};

} // namespace steercpp
