// The keys of a GGUF file that say what shape of model it holds, read before the model is.

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

// "general.architecture" and the keys under its name; those of other types are left out. Empty where llama.cpp cannot
// read the file, which loading it will explain.
std::vector<header_value> read_header(const std::string & path);

} // namespace steercpp
