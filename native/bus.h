// A file that is mapped into memory and cut, or whose disk fails, ends the process by SIGBUS wherever it is read next.

#pragma once

namespace steercpp {

// Has that be told in a sentence on stderr before the process ends, with exit code 1; once for the process, and only
// where nobody else handles the signal.
void bus_install();

} // namespace steercpp
