// What the head of a GGUF file says of the model it holds, read before the model is.

#pragma once

#include <string>
#include <vector>

namespace steercpp {

// A text, a number, or a list of numbers.
struct header_value {
    std::string key;
    std::string text;
    std::vector<double> numbers;
    bool is_text = false;
    bool is_list = false;
};

// A tensor of a type that no weights have.
struct odd_tensor {
    std::string name;
    std::string type; // as ggml names it: "i64"
};

struct header {
    std::vector<header_value> values; // "general.architecture" and the keys under its name, but for other types
    std::vector<odd_tensor> odd;
};

// Empty where llama.cpp cannot read the file, which loading it will explain.
header read_header(const std::string & path);

} // namespace steercpp
