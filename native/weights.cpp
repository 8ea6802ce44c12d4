#include "weights.h"

#include <memory>
#include <stdexcept>

#include "aborts.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "gguf.h"

namespace steercpp {

namespace {

constexpr size_t n_tensors = 8; // of one product: more than it has

ggml_type type_of(const std::string & name) {
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const auto found = static_cast<ggml_type>(type);
        if (is_of_weights(found) && name == ggml_type_name(found)) {
            return found;
        }
    }
    throw std::invalid_argument("ggml has no weights of type " + name);
}

ggml_context_ptr new_context() {
    const size_t size = n_tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_tensors, false);
    return ggml_context_ptr(ggml_init({size, nullptr, true}));
}

// Buffer types of the CPU in the order in which llama.cpp tries them (src/llama-model.cpp, make_cpu_buft_list).
std::vector<ggml_backend_buffer_type_t> cpu_buffer_types(ggml_backend_dev_t cpu) {
    std::vector<ggml_backend_buffer_type_t> types;
    void * address =
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    if (address != nullptr) {
        const auto get_extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(address);
        for (ggml_backend_buffer_type_t * type = get_extra(cpu); type != nullptr && *type != nullptr; ++type) {
            types.push_back(*type);
        }
    }
    types.push_back(ggml_backend_dev_buffer_type(cpu));
    return types;
}

// One type's product. What the weights are does not change its time, as long as they are ordinary numbers.
class product {
  public:
    product(ggml_backend_dev_t cpu, ggml_type type, int64_t n_in, int64_t n_out, int64_t n_tokens)
        : weight_context_(new_context())
        , context_(new_context()) {
        if (n_in % ggml_blck_size(type) != 0) {
            throw std::invalid_argument(std::string("rows cannot be cut into blocks of ") + ggml_type_name(type));
        }
        ggml_tensor * weights = ggml_new_tensor_2d(weight_context_.get(), type, n_in, n_out);
        ggml_tensor * rows = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, n_in, n_tokens);
        ggml_tensor * made = ggml_mul_mat(context_.get(), weights, rows);
        ggml_backend_buffer_type_t chosen = choose(cpu, weights, made);
        buffer_name_ = ggml_backend_buft_name(chosen);
        weight_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(weight_context_.get(), chosen));
        buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), ggml_backend_dev_buffer_type(cpu)));
        if (!weight_buffer_ || !buffer_) {
            throw std::bad_alloc();
        }
        const std::vector<char> bytes(ggml_nbytes(weights), 0x11); // 0x1111 is 0.00065 as a float16 factor
        ggml_backend_tensor_set(weights, bytes.data(), 0, bytes.size());
        const std::vector<float> ones(static_cast<size_t>(ggml_nelements(rows)), 1.0f);
        ggml_backend_tensor_set(rows, ones.data(), 0, ggml_nbytes(rows));
        graph_ = ggml_new_graph_custom(context_.get(), n_tensors, false);
        ggml_build_forward_expand(graph_, made);
    }

    const std::string & buffer_name() const { return buffer_name_; }

    double seconds(ggml_backend_t backend) {
        const int64_t start = ggml_time_us();
        if (ggml_backend_graph_compute(backend, graph_) != GGML_STATUS_SUCCESS) {
            throw std::runtime_error("ggml could not compute a product");
        }
        return static_cast<double>(ggml_time_us() - start) * 1e-6;
    }

  private:
    static ggml_backend_buffer_type_t choose(ggml_backend_dev_t cpu, ggml_tensor * weights, ggml_tensor * made) {
        for (ggml_backend_buffer_type_t type : cpu_buffer_types(cpu)) {
            const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(type, 0));
            weights->buffer = empty.get();
            const bool fits = ggml_backend_dev_supports_op(cpu, made);
            weights->buffer = nullptr;
            if (fits) {
                return type;
            }
        }
        throw std::invalid_argument(std::string("the CPU does not multiply with ") + ggml_type_name(weights->type));
    }

    ggml_context_ptr weight_context_;
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr weight_buffer_;
    ggml_backend_buffer_ptr buffer_;
    std::string buffer_name_;
    ggml_cgraph * graph_ = nullptr;
};

ggml_backend_ptr open_cpu(ggml_backend_dev_t cpu, int32_t n_threads) {
    ggml_backend_ptr backend(ggml_backend_dev_init(cpu, nullptr));
    void * address = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_set_n_threads");
    if (!backend || address == nullptr) {
        throw std::runtime_error("llama.cpp gives no CPU to compute on");
    }
    reinterpret_cast<ggml_backend_set_n_threads_t>(address)(backend.get(), n_threads);
    return backend;
}

} // namespace

bool is_of_weights(ggml_type type) {
    const bool is_plain = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16;
    const bool is_of_rows = type == GGML_TYPE_Q8_1 || type == GGML_TYPE_Q8_K; // what they are multiplied with
    return is_plain || (ggml_is_quantized(type) && !is_of_rows && ggml_blck_size(type) > 0);
}

std::vector<weight_tensor> read_tensors(const std::string & path) {
    std::vector<weight_tensor> tensors;
    const aborts_throw guard;
    ggml_context * made = nullptr;
    const gguf_context_ptr file(gguf_init_from_file(path.c_str(), {true, &made}));
    const ggml_context_ptr context(made);
    if (file && context) {
        for (ggml_tensor * tensor = ggml_get_first_tensor(made); tensor; tensor = ggml_get_next_tensor(made, tensor)) {
            tensors.push_back({tensor->name, ggml_type_name(tensor->type), tensor->ne[0], ggml_nrows(tensor)});
        }
    }
    return tensors;
}

std::vector<weight_speed> time_weights(
    const std::vector<std::string> & types, int64_t n_in, int64_t n_out, int64_t n_tokens, int32_t n_threads,
    int32_t n_rounds, const std::function<void()> & go_on
) {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    const ggml_backend_ptr backend = open_cpu(cpu, n_threads);
    std::vector<std::unique_ptr<product>> products;
    std::vector<weight_speed> speeds;
    for (const std::string & name : types) {
        const ggml_type type = type_of(name);
        products.push_back(std::make_unique<product>(cpu, type, n_in, n_out, n_tokens));
        weight_speed speed;
        speed.type = name;
        speed.bits = 8.0 * static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
        speed.buffer = products.back()->buffer_name();
        speeds.push_back(std::move(speed));
    }
    for (int32_t round = -1; round < n_rounds; ++round) { // the first one warms up
        for (size_t i = 0; i < products.size(); ++i) {
            const double seconds = products[i]->seconds(backend.get());
            if (round >= 0) {
                speeds[i].seconds.push_back(seconds);
            }
        }
        go_on();
    }
    return speeds;
}

} // namespace steercpp
