// Where llama.cpp gives up: a failed GGML_ASSERT ends the process, unless the callback that it tells throws instead.
//
// A hostile or damaged model file fails many of these while it is loaded, each architecture's own among them, and no
// list of them stays whole. llama.cpp loads a model and makes a context in the calling thread, inside handlers for
// std::exception of its own, so an exception there is one more error. A decode computes in several threads and C code:
// there the process ends as before, with a sentence on stderr.

#pragma once

#include <stdexcept>
#include <string>

namespace steercpp {

// An assertion of llama.cpp that failed: "FILE:LINE: GGML_ASSERT(...) failed".
struct abort_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Installs the callback, once for the process.
void aborts_install();

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

} // namespace steercpp
