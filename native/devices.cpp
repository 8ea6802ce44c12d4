#include "devices.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "aborts.h"

namespace steercpp {

namespace {

using add_server_fn = ggml_backend_reg_t (*)(const char * endpoint);

std::mutex claims_mutex;
std::multiset<std::string> claims;

add_server_fn find_add_server() {
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("RPC");
    void * function = reg ? ggml_backend_reg_get_proc_address(reg, "ggml_backend_rpc_add_server") : nullptr;
    if (function == nullptr) {
        throw device_error("this build of llama.cpp has no RPC backend");
    }
    return reinterpret_cast<add_server_fn>(function);
}

void add_server(add_server_fn add, const std::string & server, std::vector<ggml_backend_dev_t> & devices) {
    ggml_backend_reg_t reg = add(server.c_str());
    if (reg == nullptr) {
        throw device_error("RPC server " + server + " has no devices");
    }
    for (size_t i = 0; i < ggml_backend_reg_dev_count(reg); ++i) {
        devices.push_back(ggml_backend_reg_dev_get(reg, i));
    }
}

const char * device_id(ggml_backend_dev_t device) {
    ggml_backend_dev_props props;
    ggml_backend_dev_get_props(device, &props);
    return props.device_id;
}

// Two backends may see the same GPU.
bool holds_id_of(const std::vector<ggml_backend_dev_t> & devices, ggml_backend_dev_t device) {
    const char * id = device_id(device);
    return id != nullptr && std::any_of(devices.begin(), devices.end(), [id](ggml_backend_dev_t other) {
               const char * other_id = device_id(other);
               return other_id != nullptr && std::strcmp(id, other_id) == 0;
           });
}

// As llama_prepare_model_devices of llama.cpp 0.5.0 chooses: integrated GPUs of one backend, and only without others.
std::vector<ggml_backend_dev_t> local_gpus() {
    std::vector<ggml_backend_dev_t> gpus;
    std::vector<ggml_backend_dev_t> integrated;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        const enum ggml_backend_dev_type type = ggml_backend_dev_type(device);
        if (type == GGML_BACKEND_DEVICE_TYPE_GPU && !is_rpc_device(device) && !holds_id_of(gpus, device)) {
            gpus.push_back(device);
        } else if (
            type == GGML_BACKEND_DEVICE_TYPE_IGPU &&
            (integrated.empty() ||
             ggml_backend_dev_backend_reg(device) == ggml_backend_dev_backend_reg(integrated.back()))
        ) {
            integrated.push_back(device);
        }
    }
    return gpus.empty() ? integrated : gpus;
}

} // namespace

bool is_rpc_device(ggml_backend_dev_t device) {
    return std::strcmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), "RPC") == 0;
}

bool any_rpc_device_registered() {
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        if (is_rpc_device(ggml_backend_dev_get(i))) {
            return true;
        }
    }
    return false;
}

std::vector<size_t> free_gpu_memory() {
    std::vector<size_t> all;
    for (ggml_backend_dev_t device : local_gpus()) {
        size_t free = 0;
        size_t total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        all.push_back(free);
    }
    return all;
}

std::vector<ggml_backend_dev_t> devices_for(const std::vector<std::string> & servers) {
    std::vector<ggml_backend_dev_t> devices;
    if (!servers.empty()) {
        aborts_install();
        const add_server_fn add = find_add_server();
        for (const std::string & server : servers) {
            add_server(add, server, devices);
        }
    }
    const std::vector<ggml_backend_dev_t> local = local_gpus();
    devices.insert(devices.end(), local.begin(), local.end());
    return devices;
}

server_claim::server_claim(std::vector<std::string> servers)
    : servers_(std::move(servers)) {
    const std::lock_guard<std::mutex> lock(claims_mutex);
    claims.insert(servers_.begin(), servers_.end());
}

server_claim::~server_claim() {
    const std::lock_guard<std::mutex> lock(claims_mutex);
    for (const std::string & server : servers_) {
        claims.erase(claims.find(server));
    }
}

bool server_claim::exists(const std::string & server) {
    const std::lock_guard<std::mutex> lock(claims_mutex);
    return claims.count(server) > 0;
}

} // namespace steercpp
