// What is read off a row of n_vocab logits, in nats. Exponentials are float32 and summed in double: within 1e-6 of
// the exact value.

#pragma once

#include <cstdint>

namespace steercpp {

// log(sum(exp(logits))). NaN or infinite where the logits hold NaN or +infinity.
double log_sum_exp(const float * logits, int32_t n_vocab);

// Entropy of the distribution; `norm` is its log_sum_exp.
double entropy(const float * logits, double norm, int32_t n_vocab);

// KL(p || q) of the distributions of two rows, each with its log_sum_exp.
double kl_divergence(const float * p, double p_norm, const float * q, double q_norm, int32_t n_vocab);

// The k most likely tokens, most likely first, the lower one first among equals; k <= n_vocab.
void top_tokens(const float * logits, int32_t n_vocab, int32_t k, int32_t * tokens);

} // namespace steercpp
