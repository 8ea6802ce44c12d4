// Where llama.cpp gives up: a failed GGML_ASSERT ends the process, unless the callback that it tells throws instead.
//
// A hostile or damaged model file fails many of these while it is loaded, each architecture's own among them, and no
// list of them stays whole. llama.cpp loads a model and makes a context in the calling thread, inside handlers for
// std::exception of its own, so an exception there is one more error; so does a session's first decode. Later ones
// compute in several threads, and there the process ends as before, with a sentence on stderr.

#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace steercpp {

// An assertion of llama.cpp that failed, "FILE:LINE: GGML_ASSERT(...) failed", or what it did instead of asserting.
struct abort_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Installs the callback, once for the process.
void aborts_install();

// How the process ends where nothing can be thrown: with exit code 1, as the command line's errors, or with SIGABRT,
// which a debugger and the parent of a library's user see. By default the latter.
void aborts_exit(bool with_code);

// While one lives, what would end the process on this thread throws abort_error.
class aborts_throw {
  public:
    aborts_throw();
    ~aborts_throw();

    aborts_throw(const aborts_throw &) = delete;
    aborts_throw & operator=(const aborts_throw &) = delete;

    // The first assertion that failed meanwhile, also where llama.cpp itself handled the exception; empty: none.
    const std::string & reason() const { return reason_; }

  private:
    friend struct abort_handler;

    std::string reason_;
    aborts_throw * outer_;
};

// Calls llama.cpp, in this thread alone, on what a file holds. Where the file lacks a tensor that its architecture
// takes for granted, llama.cpp reads through a null pointer; where a size of it is 0, it divides by that. Both would
// end the process by a signal; here they throw abort_error, and what the call had made until then is never freed.
// On Windows it only calls.
void call_on_file(const std::function<void()> & call);

} // namespace steercpp
