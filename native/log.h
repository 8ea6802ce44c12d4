// llama.cpp's log, kept quiet: needed when a failure has to be explained.
//
// llama.cpp reports why a load or a decode failed only through its log callback, which is global to the
// process. Ours prints nothing and keeps the last error lines.

#pragma once

#include <string>

namespace steercpp {

// Installs the callback. With `to_stderr` every line but debugging ones is also printed.
void log_install(bool to_stderr);

// Forgets the lines kept so far; call it before the step whose failure is to be explained.
void log_forget();

// A text in one line, its bytes that are no UTF-8 and its control characters spelled \xNN, as an error needs it: what
// llama.cpp says of a model file holds texts of that file.
std::string as_line(const std::string & text);

// The error lines kept since then, joined by "; ", without llama.cpp's function-name prefixes, as UTF-8. May be empty.
std::string log_errors();

} // namespace steercpp
