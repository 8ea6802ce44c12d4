// llama.cpp's top-p without its sort of the whole vocabulary. Where the likely tokens are more than 256, llama.cpp
// sorts all there are: 3.5 ms for 49,152 words. Here only those are sorted that can be among the likely ones.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "llama-cpp.h"

namespace steercpp {

// Reused from draw to draw, and by all samplers of a thread.
struct draw_buffers {
    std::vector<llama_token_data> candidates; // (n_vocab), in the vocabulary's order
    std::vector<llama_token_data> likely;     // the nucleus, most likely first
    std::vector<float> shares;                // (n_vocab): exp(logit - highest)
    std::vector<uint64_t> keys;               // logit and token of each in question, most likely first
    std::vector<uint64_t> other_keys;
};

// Puts the fewest most likely candidates that hold p of the probability into `likely`. They are those that llama.cpp
// finds, to the last one, as the sum is built of the same float32 numbers in the same order; of equal logits it may
// take others.
void find_nucleus(float p, draw_buffers & buffers);

// Whether another candidate has the logit of the i-th in the nucleus, so that llama.cpp may have another token there.
bool is_tied(size_t i, const draw_buffers & buffers);

} // namespace steercpp
