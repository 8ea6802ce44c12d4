#include "nucleus.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace steercpp {

namespace {

constexpr size_t n_bins = 1024;
constexpr float bins_per_nat = 64.0f;
constexpr double slack = 1e-3; // of the probability: more than float32 sums over a vocabulary are off by
constexpr size_t few = 2048;   // keys up to which std::sort is the faster one

// Ascends as the logit descends.
uint32_t descending_bits(float logit) {
    uint32_t bits = 0;
    std::memcpy(&bits, &logit, sizeof(bits));
    return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}

// Of a logit; never falls as the logit does, so that the first bins hold the most likely tokens.
size_t bin_of(float logit, float highest) {
    const float place = (highest - logit) * bins_per_nat;
    return place < static_cast<float>(n_bins - 1) ? static_cast<size_t>(place) : n_bins - 1; // NaN: the last one
}

// By the upper 32 bits, in three passes of 11 bits.
void sort_keys(std::vector<uint64_t> & keys, std::vector<uint64_t> & other) {
    if (keys.size() <= few) {
        std::sort(keys.begin(), keys.end());
        return;
    }
    constexpr size_t n_digits = 2048;
    other.resize(keys.size());
    for (const int shift : {32, 43, 54}) {
        std::array<uint32_t, n_digits> places{};
        for (const uint64_t key : keys) {
            ++places[(key >> shift) % n_digits];
        }
        uint32_t place = 0;
        for (uint32_t & count : places) {
            const uint32_t next = place + count;
            count = place;
            place = next;
        }
        for (const uint64_t key : keys) {
            other[places[(key >> shift) % n_digits]++] = key;
        }
        keys.swap(other);
    }
}

uint32_t token_of(uint64_t key) {
    return static_cast<uint32_t>(key);
}

// Candidates of the first bins into the keys, sorted.
void collect(size_t last_bin, float highest, draw_buffers & buffers) {
    const auto & candidates = buffers.candidates;
    buffers.keys.resize(candidates.size());
    size_t n = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
        const float logit = candidates[i].logit;
        buffers.keys[n] = static_cast<uint64_t>(descending_bits(logit)) << 32 | i;
        n += bin_of(logit, highest) <= last_bin ? 1 : 0;
    }
    buffers.keys.resize(n);
    sort_keys(buffers.keys, buffers.other_keys);
}

// How many of the keys hold p of the probability; 0: all of them do not.
size_t count_likely(float p, float total, const draw_buffers & buffers) {
    float sum = 0.0f;
    for (size_t i = 0; i < buffers.keys.size(); ++i) {
        sum += buffers.shares[token_of(buffers.keys[i])] / total;
        if (sum >= p) {
            return i + 1;
        }
    }
    return 0;
}

} // namespace

void find_nucleus(float p, draw_buffers & buffers) {
    const auto & candidates = buffers.candidates;
    float highest = candidates[0].logit;
    for (const llama_token_data & candidate : candidates) {
        highest = std::max(highest, candidate.logit);
    }
    buffers.shares.resize(candidates.size());
    std::array<double, n_bins> bins{};
    float total = 0.0f;
    for (size_t i = 0; i < candidates.size(); ++i) {
        const float share = expf(candidates[i].logit - highest);
        buffers.shares[i] = share;
        total += share;
        bins[bin_of(candidates[i].logit, highest)] += static_cast<double>(share);
    }

    // as many bins as hold p, and a little more, as sums of float32 are rounded; if that was not enough, all
    const double enough = (static_cast<double>(p) + slack) * static_cast<double>(total);
    size_t last_bin = 0;
    for (double sum = bins[0]; last_bin < n_bins - 1 && !(sum >= enough); sum += bins[last_bin]) {
        ++last_bin;
    }
    collect(last_bin, highest, buffers);
    size_t n_likely = count_likely(p, total, buffers);
    if (n_likely == 0 && last_bin < n_bins - 1) {
        collect(n_bins - 1, highest, buffers);
        n_likely = count_likely(p, total, buffers);
    }
    n_likely = n_likely == 0 ? candidates.size() : n_likely;
    buffers.likely.resize(n_likely);
    for (size_t i = 0; i < n_likely; ++i) {
        buffers.likely[i] = candidates[token_of(buffers.keys[i])];
    }
}

bool is_tied(size_t i, const draw_buffers & buffers) {
    const auto & keys = buffers.keys;
    const auto logit = [&](size_t at) { return buffers.candidates[token_of(keys[at])].logit; };
    return (i > 0 && logit(i - 1) == logit(i)) || (i + 1 < keys.size() && logit(i + 1) == logit(i));
}

} // namespace steercpp
