// Natural-log probabilities from a row of logits.

#pragma once

#include <cstdint>

namespace steercpp {

// log(sum(exp(logits))) over n_vocab logits, in nats. Exponentials are float32 and summed in double: within
// 1e-6 of the exact value. NaN or infinite where the logits hold NaN or +infinity.
double log_sum_exp(const float * logits, int32_t n_vocab);

} // namespace steercpp
