#include "aborts.h"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#ifndef _WIN32
#include <csetjmp>
#include <csignal>
#endif

#include "ggml.h"
#include "log.h"

namespace steercpp {

namespace {

ggml_abort_callback_t outer_callback = nullptr;
thread_local aborts_throw * innermost = nullptr;
std::atomic<bool> exits{false};

// "/build/llama.cpp/src/llama-model.cpp:1328: GGML_ASSERT(n > 0) failed" without the folders
std::string without_folders(const char * message) {
    const std::string text = message;
    const size_t colon = text.find(": ");
    const size_t slash = text.find_last_of("/\\", colon);
    return as_line(colon == std::string::npos || slash == std::string::npos ? text : text.substr(slash + 1));
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
                without_folders(message).c_str()
            );
        } else if (innermost != nullptr) {
            const std::string reason = without_folders(message);
            if (innermost->reason_.empty()) {
                innermost->reason_ = reason;
            }
            throw abort_error(reason);
        } else {
            std::fprintf(
                stderr,
                "steercpp: llama.cpp could not go on computing and ends the process (%s); what was stored is kept: "
                "examine the model with steercpp doctor --model\n",
                without_folders(message).c_str()
            );
        }
        if (outer_callback != nullptr) {
            outer_callback(message);
        }
        if (exits) {
            std::fflush(stderr);
            std::_Exit(1);
        }
    }
};

void aborts_install() {
    static std::once_flag once;
    std::call_once(once, [] { outer_callback = ggml_set_abort_callback(abort_handler::on_abort); });
}

void aborts_exit(bool with_code) {
    aborts_install();
    exits = with_code;
}

aborts_throw::aborts_throw()
    : outer_(innermost) {
    aborts_install();
    innermost = this;
}

aborts_throw::~aborts_throw() {
    innermost = outer_;
}

#ifdef _WIN32

void call_on_file(const std::function<void()> & call) {
    call();
}

#else

namespace {

constexpr uintptr_t null_page = 65536; // no system maps what lies below it, where members of nothing lie

struct landing {
    sigjmp_buf place;
    landing * outer;
};

thread_local landing * innermost_landing = nullptr;
std::mutex handlers_lock;
int n_calls = 0; // under the lock
struct sigaction outer_segv;
struct sigaction outer_fpe;

// Async-signal-safe: it jumps, or leaves the signal to whoever handled it before.
void on_signal(int signal, siginfo_t * info, void * /*context*/) {
    const bool is_null = signal == SIGSEGV && reinterpret_cast<uintptr_t>(info->si_addr) < null_page;
    const bool is_division = signal == SIGFPE && info->si_code == FPE_INTDIV;
    if (innermost_landing != nullptr && (is_null || is_division)) {
        siglongjmp(innermost_landing->place, signal);
    }
    sigaction(signal, signal == SIGSEGV ? &outer_segv : &outer_fpe, nullptr); // and the instruction is tried again
}

class handlers {
  public:
    handlers() {
        const std::lock_guard<std::mutex> locked(handlers_lock);
        if (n_calls++ == 0) {
            struct sigaction action = {};
            action.sa_sigaction = on_signal;
            action.sa_flags = SA_SIGINFO;
            sigemptyset(&action.sa_mask);
            sigaction(SIGSEGV, &action, &outer_segv);
            sigaction(SIGFPE, &action, &outer_fpe);
        }
    }

    ~handlers() {
        const std::lock_guard<std::mutex> locked(handlers_lock);
        if (--n_calls == 0) {
            sigaction(SIGSEGV, &outer_segv, nullptr);
            sigaction(SIGFPE, &outer_fpe, nullptr);
        }
    }

    handlers(const handlers &) = delete;
    handlers & operator=(const handlers &) = delete;
};

} // namespace

void call_on_file(const std::function<void()> & call) {
    const handlers installed;
    landing own = {};
    own.outer = innermost_landing;
    const int signal = sigsetjmp(own.place, 1);
    if (signal != 0) {
        innermost_landing = own.outer;
        throw abort_error(
            signal == SIGSEGV ? "it reads a tensor that the file lacks" : "it divides by a size that is 0 in the file"
        );
    }
    innermost_landing = &own;
    try {
        call();
    } catch (...) {
        innermost_landing = own.outer;
        throw;
    }
    innermost_landing = own.outer;
}

#endif

} // namespace steercpp
