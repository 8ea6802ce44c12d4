#include "bus.h"

#ifdef _WIN32

namespace steercpp {
void bus_install() {}
} // namespace steercpp

#else

#include <csignal>
#include <unistd.h>

namespace steercpp {

namespace {

constexpr char SENTENCE[] =
    "steercpp: a file that is in use, such as the model, was cut or cannot be read any more; what was stored is kept: "
    "put the file back and repeat the command\n";

// Only what may be called in a handler: nothing can go on, since the read would fail again.
void on_bus(int) {
    const ssize_t written = ::write(STDERR_FILENO, SENTENCE, sizeof SENTENCE - 1);
    ::_exit(written < 0 ? 2 : 1);
}

} // namespace

void bus_install() {
    struct sigaction current = {};
    if (::sigaction(SIGBUS, nullptr, &current) != 0 || current.sa_handler != SIG_DFL) {
        return;
    }
    struct sigaction ours = {};
    ours.sa_handler = on_bus;
    ::sigaction(SIGBUS, &ours, nullptr);
}

} // namespace steercpp

#endif
