#include "log.h"

#include <atomic>
#include <cstdio>
#include <deque>

#include "llama.h"

namespace steercpp {

namespace {

constexpr size_t n_lines_kept = 8;

// One list per thread: llama.cpp logs a failure on the thread that called it, and two engines may fail at once.
thread_local std::deque<std::string> lines;
std::atomic<bool> echo{false};

// "llama_model_load: error loading model: x\n" -> "error loading model: x"
std::string without_prefix(std::string line) {
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) {
        line.pop_back();
    }
    const size_t colon = line.find(": ");
    const bool is_function = colon != std::string::npos && line.find(' ') == colon + 1;
    return is_function ? line.substr(colon + 2) : line;
}

// How many bytes the UTF-8 character at this place has, 0 where there is none.
size_t character_size(const std::string & text, size_t place) {
    const auto first = static_cast<unsigned char>(text[place]);
    const size_t size = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
    if (size == 0 || place + size > text.size()) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((static_cast<unsigned char>(text[place + i]) & 0xc0) != 0x80) {
            return 0;
        }
    }
    const auto second = static_cast<unsigned char>(size > 1 ? text[place + 1] : 0);
    const bool is_overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
    const bool is_no_character = (first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f);
    return is_overlong || is_no_character ? 0 : size;
}

void on_log(ggml_log_level level, const char * text, void * /*user_data*/) noexcept {
    try {
        if (echo && level != GGML_LOG_LEVEL_DEBUG) {
            std::fputs(text, stderr);
        }
        if (level != GGML_LOG_LEVEL_ERROR) {
            return;
        }
        std::string line = without_prefix(text);
        if (line.empty() || (!lines.empty() && lines.back() == line)) {
            return;
        }
        lines.push_back(std::move(line));
        if (lines.size() > n_lines_kept) {
            lines.pop_front();
        }
    } catch (...) {
        // out of memory while logging: the line is lost, the caller's own error still stands
    }
}

} // namespace

std::string as_line(const std::string & text) {
    std::string line;
    for (size_t place = 0; place < text.size();) {
        const auto first = static_cast<unsigned char>(text[place]);
        const size_t size = character_size(text, place);
        if (first == ' ' || (first >= '\t' && first <= '\r')) {
            line.append(line.empty() || line.back() == ' ' ? "" : " ");
            place += 1;
        } else if (size != 0 && first >= 0x20 && first != 0x7f) {
            line.append(text, place, size);
            place += size;
        } else {
            char code[5];
            std::snprintf(code, sizeof(code), "\\x%02x", first);
            line += code;
            place += 1;
        }
    }
    while (!line.empty() && line.back() == ' ') {
        line.pop_back();
    }
    return line;
}

void log_install(bool to_stderr) {
    echo = to_stderr;
    llama_log_set(on_log, nullptr);
}

void log_forget() {
    lines.clear();
}

std::string log_errors() {
    std::string joined;
    for (const std::string & line : lines) {
        joined += (joined.empty() ? "" : "; ") + line;
    }
    return as_line(joined);
}

} // namespace steercpp
