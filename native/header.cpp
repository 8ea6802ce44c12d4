#include "header.h"

#include <cstdint>
#include <memory>

#include "aborts.h"
#include "gguf.h"
#include "weights.h"

namespace steercpp {

namespace {

constexpr char architecture_key[] = "general.architecture";
constexpr char table_name[] = "ffn_gate_tid2eid"; // of whole numbers, which are looked up

struct gguf_deleter {
    void operator()(gguf_context * context) const { gguf_free(context); }
};

double number_at(gguf_type type, const void * data, size_t i) {
    switch (type) {
    case GGUF_TYPE_UINT8:
        return static_cast<const uint8_t *>(data)[i];
    case GGUF_TYPE_INT8:
        return static_cast<const int8_t *>(data)[i];
    case GGUF_TYPE_UINT16:
        return static_cast<const uint16_t *>(data)[i];
    case GGUF_TYPE_INT16:
        return static_cast<const int16_t *>(data)[i];
    case GGUF_TYPE_UINT32:
        return static_cast<const uint32_t *>(data)[i];
    case GGUF_TYPE_INT32:
        return static_cast<const int32_t *>(data)[i];
    case GGUF_TYPE_FLOAT32:
        return static_cast<double>(static_cast<const float *>(data)[i]);
    case GGUF_TYPE_UINT64:
        return static_cast<double>(static_cast<const uint64_t *>(data)[i]);
    case GGUF_TYPE_INT64:
        return static_cast<double>(static_cast<const int64_t *>(data)[i]);
    case GGUF_TYPE_FLOAT64:
        return static_cast<const double *>(data)[i];
    default:
        return 0.0;
    }
}

bool is_number(gguf_type type) {
    return type != GGUF_TYPE_BOOL && type != GGUF_TYPE_STRING && type != GGUF_TYPE_ARRAY;
}

header_value value_of(const gguf_context * context, int64_t id, gguf_type type) {
    header_value value;
    value.key = gguf_get_key(context, id);
    value.is_text = type == GGUF_TYPE_STRING;
    value.is_list = type == GGUF_TYPE_ARRAY;
    if (value.is_text) {
        value.text = gguf_get_val_str(context, id);
    } else if (value.is_list) {
        const size_t n = gguf_get_arr_n(context, id);
        for (size_t i = 0; i < n; ++i) {
            value.numbers.push_back(number_at(gguf_get_arr_type(context, id), gguf_get_arr_data(context, id), i));
        }
    } else {
        value.numbers.push_back(number_at(type, gguf_get_val_data(context, id), 0));
    }
    return value;
}

std::vector<odd_tensor> odd_tensors(const gguf_context * context) {
    std::vector<odd_tensor> odd;
    for (int64_t id = 0; id < gguf_get_n_tensors(context); ++id) {
        const ggml_type type = gguf_get_tensor_type(context, id);
        const std::string name = gguf_get_tensor_name(context, id);
        const bool is_table = type == GGML_TYPE_I32 && name.find(table_name) != std::string::npos;
        if (!is_of_weights(type) && !is_table) {
            odd.push_back({name, ggml_type_name(type)});
        }
    }
    return odd;
}

} // namespace

header read_header(const std::string & path) {
    header found;
    const aborts_throw guard;
    const std::unique_ptr<gguf_context, gguf_deleter> context(gguf_init_from_file(path.c_str(), {true, nullptr}));
    if (!context) {
        return found;
    }
    found.odd = odd_tensors(context.get());
    const int64_t named = gguf_find_key(context.get(), architecture_key);
    if (named < 0 || gguf_get_kv_type(context.get(), named) != GGUF_TYPE_STRING) {
        return found;
    }
    const std::string prefix = std::string(gguf_get_val_str(context.get(), named)) + ".";
    for (int64_t id = 0; id < gguf_get_n_kv(context.get()); ++id) {
        const std::string key = gguf_get_key(context.get(), id);
        const gguf_type type = gguf_get_kv_type(context.get(), id);
        const bool is_kept = type == GGUF_TYPE_STRING || is_number(type) ||
                             (type == GGUF_TYPE_ARRAY && is_number(gguf_get_arr_type(context.get(), id)));
        if (is_kept && (id == named || key.compare(0, prefix.size(), prefix) == 0)) {
            found.values.push_back(value_of(context.get(), id, type));
        }
    }
    return found;
}

} // namespace steercpp
