#include "aborts.h"

#include <cstdio>
#include <cstring>
#include <mutex>

#include "ggml.h"

namespace steercpp {

namespace {

ggml_abort_callback_t outer_callback = nullptr;
thread_local aborts_throw * innermost = nullptr;

// "/build/llama.cpp/src/llama-model.cpp:1328: GGML_ASSERT(n > 0) failed" without the folders
std::string without_folders(const char * message) {
    const std::string text = message;
    const size_t colon = text.find(": ");
    const size_t slash = text.find_last_of("/\\", colon);
    return colon == std::string::npos || slash == std::string::npos ? text : text.substr(slash + 1);
}

} // namespace

struct abort_handler {
    // Called by ggml_abort(), which ends the process once it returns.
    static void on_abort(const char * message) {
        if (std::strstr(message, "ggml-rpc") != nullptr) { // freeing what is there would ask the lost server again
            std::fprintf(
                stderr,
                "steercpp: an RPC server was lost, and llama.cpp ends the process then; what was stored is kept: start "
                "the server again and repeat the command (%s)\n",
                message
            );
        } else if (innermost != nullptr) {
            const std::string reason = without_folders(message);
            if (innermost->reason_.empty()) {
                innermost->reason_ = reason;
            }
            throw abort_error(reason);
        } else if (outer_callback == nullptr) {
            std::fprintf(stderr, "%s\n", message);
        }
        if (outer_callback != nullptr) {
            outer_callback(message);
        }
    }
};

void aborts_install() {
    static std::once_flag once;
    std::call_once(once, [] { outer_callback = ggml_set_abort_callback(abort_handler::on_abort); });
}

aborts_throw::aborts_throw()
    : outer_(innermost) {
    aborts_install();
    innermost = this;
}

aborts_throw::~aborts_throw() {
    innermost = outer_;
}

} // namespace steercpp
