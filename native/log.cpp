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
    return joined;
}

} // namespace steercpp
