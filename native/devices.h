// The devices that a model is spread over, on this machine and, through llama.cpp's RPC backend, on others.

#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "llama-cpp.h"

namespace steercpp {

// The devices asked for are not there. The message says what is.
struct device_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Connects to the servers, each "host:port", and gives their devices in the order of the servers, then this machine's
// GPUs: llama.cpp's own order. The servers stay out of ggml's registry, where any model of the process would use them.
// llama.cpp ends the process where a server cannot be reached: find out before.
std::vector<ggml_backend_dev_t> devices_for(const std::vector<std::string> & servers);

// Free memory, in bytes, of this machine's GPUs that a model is spread over.
std::vector<size_t> free_gpu_memory();

// Whether other code has put RPC devices into ggml's registry: llama.cpp would use them unless told what to use.
bool any_rpc_device_registered();

bool is_rpc_device(ggml_backend_dev_t device);

// A model's claim to its servers. All models of a process share one connection to a server, which serves one client at
// a time: while one of them holds it, no test of the connection is answered.
class server_claim {
  public:
    explicit server_claim(std::vector<std::string> servers);
    ~server_claim();

    server_claim(const server_claim &) = delete;
    server_claim & operator=(const server_claim &) = delete;

    static bool exists(const std::string & server);

  private:
    std::vector<std::string> servers_;
};

} // namespace steercpp
