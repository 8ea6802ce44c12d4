#include "logprob.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace steercpp {

double log_sum_exp(const float * logits, int32_t n_vocab) {
    const float highest = *std::max_element(logits, logits + n_vocab);
    double sum = 0.0;
    for (int32_t i = 0; i < n_vocab; ++i) {
        sum += std::exp(logits[i] - highest);
    }
    return static_cast<double>(highest) + std::log(sum);
}

double entropy(const float * logits, double norm, int32_t n_vocab) {
    double sum = 0.0;
    for (int32_t i = 0; i < n_vocab; ++i) {
        const double logprob = static_cast<double>(logits[i]) - norm;
        const double p = std::exp(logprob);
        sum -= p > 0.0 ? p * logprob : 0.0; // a logit of -infinity has no share
    }
    return sum;
}

double kl_divergence(const float * p, double p_norm, const float * q, double q_norm, int32_t n_vocab) {
    double sum = 0.0;
    for (int32_t i = 0; i < n_vocab; ++i) {
        const double logprob = static_cast<double>(p[i]) - p_norm;
        const double share = std::exp(logprob);
        if (share > 0.0) {
            sum += share * (logprob - (static_cast<double>(q[i]) - q_norm));
        }
    }
    return std::max(sum, 0.0); // roundings
}

void top_tokens(const float * logits, int32_t n_vocab, int32_t k, int32_t * tokens) {
    std::vector<int32_t> order(static_cast<size_t>(n_vocab));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + k, order.end(), [logits](int32_t a, int32_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    std::copy_n(order.begin(), k, tokens);
}

} // namespace steercpp
