#include "logprob.h"

#include <algorithm>
#include <cmath>

namespace steercpp {

double log_sum_exp(const float * logits, int32_t n_vocab) {
    const float highest = *std::max_element(logits, logits + n_vocab);
    double sum = 0.0;
    for (int32_t i = 0; i < n_vocab; ++i) {
        sum += std::exp(logits[i] - highest);
    }
    return static_cast<double>(highest) + std::log(sum);
}

} // namespace steercpp
