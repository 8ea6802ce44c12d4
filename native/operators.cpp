#include "operators.h"

#include <cmath>

namespace steercpp {

namespace {

double dot(const float * a, const float * b, int32_t n) {
    double sum = 0.0;
    for (int32_t j = 0; j < n; ++j) {
        sum += static_cast<double>(a[j]) * static_cast<double>(b[j]);
    }
    return sum;
}

// Two roundings per element, as ggml_add of a scaled vector has: this file is compiled with -ffp-contract=off.
void add_scaled(float * x, const float * t, float s, int32_t n) {
    for (int32_t j = 0; j < n; ++j) {
        const float step = s * t[j];
        x[j] += step;
    }
}

// x = a x + b t, rounded once.
void combine(float * x, double a, const float * t, double b, int32_t n) {
    for (int32_t j = 0; j < n; ++j) {
        x[j] = static_cast<float>(a * static_cast<double>(x[j]) + b * static_cast<double>(t[j]));
    }
}

bool add_keep_norm(float * x, const float * t, double s, double length, double xt, int32_t n) {
    const double before = dot(x, x, n);
    const double after = before + 2.0 * s * xt + s * s * length; // |x + s t|^2
    if (!(after > 0.0)) {
        return false;
    }
    const double scale = std::sqrt(before / after);
    combine(x, scale, t, scale * s, n);
    return true;
}

// By s radians in the plane of x and t, from x towards t.
bool rotate(float * x, const float * t, double s, double length, double xt, int32_t n) {
    const double xx = dot(x, x, n);
    const double orthogonal = length - xt * xt / xx; // |t - (t.x/x.x) x|^2
    if (!(orthogonal > 1e-12 * length)) {
        return false; // x is zero or lies along t: there is no plane
    }
    const double towards = std::sin(s) * std::sqrt(xx / orthogonal);
    combine(x, std::cos(s) - towards * xt / xx, t, towards, n);
    return true;
}

} // namespace

double squared_length(const float * t, int32_t n) {
    return dot(t, t, n);
}

bool steer_row(const operation & op, double length, float s, float * x, int32_t n) {
    const float * t = op.direction;
    if (op.kind == operator_kind::add && op.side == 0) {
        add_scaled(x, t, s, n);
        return true;
    }
    if (!(length > 0.0)) {
        return false; // no direction, so no projection
    }
    const double xt = dot(x, t, n);
    const double c = xt / length;
    if ((op.side > 0 && !(c > 0.0)) || (op.side < 0 && !(c < 0.0))) {
        return false;
    }
    const auto strength = static_cast<double>(s);
    switch (op.kind) {
    case operator_kind::add:
        add_scaled(x, t, s, n);
        return true;
    case operator_kind::add_keep_norm:
        return add_keep_norm(x, t, strength, length, xt, n);
    case operator_kind::ablate:
        combine(x, 1.0, t, -strength * c, n);
        return true;
    case operator_kind::cap:
        if (!(c > strength)) {
            return false;
        }
        [[fallthrough]];
    case operator_kind::clamp:
        combine(x, 1.0, t, strength - c, n);
        return true;
    case operator_kind::rotate:
        return rotate(x, t, strength, length, xt, n);
    }
    return false;
}

bool has_finite_norm(const float * x, int32_t n) {
    float sums[8] = {};
    int32_t j = 0;
    for (; j + 8 <= n; j += 8) {
        for (int32_t k = 0; k < 8; ++k) {
            sums[k] += x[j + k] * x[j + k];
        }
    }
    for (; j < n; ++j) {
        sums[0] += x[j] * x[j];
    }
    float sum = 0.0f;
    for (const float part : sums) {
        sum += part;
    }
    return std::isfinite(sum);
}

} // namespace steercpp
