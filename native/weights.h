// What types the weights of a model file have, and how fast this CPU multiplies with weights of a type.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ggml.h"

namespace steercpp {

// Whether ggml multiplies with weights of this type; with others it ends the process, by a signal or an assertion.
bool is_of_weights(ggml_type type);

struct weight_tensor {
    std::string name;
    std::string type; // as ggml names it: "q4_1"
    int64_t n_in;     // elements of a row
    int64_t n_out;    // rows, of all experts together
};

// The tensors of a GGUF file; none where llama.cpp cannot read it, which loading it will explain.
std::vector<weight_tensor> read_tensors(const std::string & path);

struct weight_speed {
    std::string type;
    double bits = 0.0;           // a weight, its share of the blocks' factors included
    std::string buffer;          // "CPU_REPACK" where the weights are laid out for kernels of their own
    std::vector<double> seconds; // of the products, in the order of the rounds
};

// Seconds of products of n_tokens rows of float32 with (n_out, n_in) weights of each type, laid out on the CPU as
// llama.cpp lays out a model's; the types take turns. Throws std::invalid_argument for a type that ggml does not
// know, cannot multiply with or cannot cut n_in into blocks of, and what go_on throws, which is called between rounds.
std::vector<weight_speed> time_weights(
    const std::vector<std::string> & types, int64_t n_in, int64_t n_out, int64_t n_tokens, int32_t n_threads,
    int32_t n_rounds, const std::function<void()> & go_on
);

} // namespace steercpp
