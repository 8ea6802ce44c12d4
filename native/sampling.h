// llama.cpp's own sampler chain for one row of a side-by-side generation.

#pragma once

#include <cstdint>

#include "llama-cpp.h"

namespace steercpp {

struct sampler_params {
    float temperature = 0.0f; // 0: the most likely token
    int32_t top_k = 0;        // 0: all tokens
    float top_p = 1.0f;
    float min_p = 0.0f;
    uint32_t seed = 0;
};

class sampler {
  public:
    explicit sampler(const sampler_params & params);

    sampler(const sampler &) = delete;
    sampler & operator=(const sampler &) = delete;

    // A token for output row i of the context's last batch; the chain remembers it.
    llama_token sample(llama_context * context, int32_t i) { return llama_sampler_sample(chain_.get(), context, i); }

  private:
    llama_sampler_ptr chain_;
};

} // namespace steercpp
