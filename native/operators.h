// What steering does to one row of the residual stream. Formulas and their NumPy twins: steercpp/engine/reference.py.

#pragma once

#include <cstdint>

namespace steercpp {

enum class operator_kind : int32_t { add, add_keep_norm, ablate, clamp, cap, rotate };

// One operator with one direction at one layer. t = direction; c = (x . t) / |t|^2, the projection of a row x in
// lengths of t.
struct operation {
    int32_t il;
    operator_kind kind;
    int32_t side;            // 0: every row; 1 or -1: only rows whose projection is above or below 0
    const float * direction; // (n_embd)
    const float * strengths; // (n_tokens): one per row of the plan
    const int8_t * active;   // (n_tokens): 0 leaves a row's bits alone
};

// |t|^2 of n values.
double squared_length(const float * t, int32_t n);

// Steers one row x (n) at strength s; `length` is squared_length(op.direction, n). Returns whether x was changed.
bool steer_row(const operation & op, double length, float s, float * x, int32_t n);

// Whether the squares of x sum up to a finite float32. ggml's RMS norm squares in float32; where that overflows it
// returns zeros, and quantized products turn NaN into zeros too, so a row out of range would pass unnoticed in the
// logits.
bool has_finite_norm(const float * x, int32_t n);

} // namespace steercpp
