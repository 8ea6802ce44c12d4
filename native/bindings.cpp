// The Python face of native/. Everything here converts; nothing here computes.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "log.h"
#include "session.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace steercpp {

namespace {

template <typename T> using array_1d = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T> using numpy_view = nb::ndarray<nb::numpy, T>;
using operation_args = std::tuple<int32_t, array_1d<float>, array_1d<float>>;

std::shared_ptr<model> load_model(const std::string & path, int32_t n_gpu_layers) {
    const nb::gil_scoped_release unlocked;
    return std::make_shared<model>(path, n_gpu_layers);
}

std::unique_ptr<session> make_session(
    std::shared_ptr<model> model, uint32_t n_ctx, uint32_t n_batch, uint32_t n_seq_max, int32_t n_threads,
    int32_t flash_attn, int32_t cache_type, bool always_copy
) {
    const nb::gil_scoped_release unlocked;
    const session_params params{
        n_ctx,
        n_batch,
        n_seq_max,
        n_threads,
        static_cast<llama_flash_attn_type>(flash_attn),
        static_cast<ggml_type>(cache_type),
        always_copy
    };
    return std::make_unique<session>(std::move(model), params);
}

void require_size(size_t size, size_t expected, const char * name) {
    if (size != expected) {
        throw nb::value_error((std::string(name) + ": expected " + std::to_string(expected) + " elements, got " +
                               std::to_string(size))
                                  .c_str());
    }
}

decode_result decode(
    session & self, const array_1d<int32_t> & tokens, const array_1d<int32_t> & positions,
    const array_1d<int32_t> & seq_offsets, const array_1d<int32_t> & seq_ids, const array_1d<int8_t> & outputs,
    const std::vector<operation_args> & operations, std::vector<int32_t> capture_layers,
    std::vector<int32_t> capture_rows, const array_1d<int32_t> & query_rows, const array_1d<int32_t> & query_tokens,
    bool want_logits
) {
    const size_t n_tokens = tokens.size();
    require_size(positions.size(), n_tokens, "positions");
    require_size(outputs.size(), n_tokens, "outputs");
    require_size(seq_offsets.size(), n_tokens + 1, "seq_offsets");
    require_size(seq_ids.size(), static_cast<size_t>(seq_offsets.data()[n_tokens]), "seq_ids");
    require_size(query_tokens.size(), query_rows.size(), "query_tokens");

    plan plan;
    plan.n_tokens = static_cast<int32_t>(n_tokens);
    plan.tokens = tokens.data();
    plan.positions = positions.data();
    plan.seq_offsets = seq_offsets.data();
    plan.seq_ids = seq_ids.data();
    plan.outputs = outputs.data();
    for (const auto & [il, direction, strengths] : operations) {
        require_size(direction.size(), static_cast<size_t>(self.n_embd()), "direction");
        require_size(strengths.size(), n_tokens, "strengths");
        plan.operations.push_back({il, direction.data(), strengths.data()});
    }
    plan.capture_layers = std::move(capture_layers);
    plan.capture_rows = std::move(capture_rows);
    plan.n_queries = static_cast<int32_t>(query_rows.size());
    plan.query_rows = query_rows.data();
    plan.query_tokens = query_tokens.data();
    plan.want_logits = want_logits;

    const nb::gil_scoped_release unlocked;
    return self.decode(plan);
}

nb::list devices() {
    nb::list found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free = 0;
        size_t total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        found.append(nb::make_tuple(ggml_backend_dev_name(device), ggml_backend_dev_description(device), free, total));
    }
    return found;
}

nb::list pieces(const model & self) {
    nb::list all;
    for (llama_token token = 0; token < self.n_vocab(); ++token) {
        const std::string text = self.piece(token);
        all.append(nb::bytes(text.data(), text.size()));
    }
    return all;
}

void bind_model(nb::module_ & m) {
    nb::class_<model>(m, "Model")
        .def_prop_ro("n_layer", &model::n_layer)
        .def_prop_ro("n_embd", &model::n_embd)
        .def_prop_ro("n_vocab", &model::n_vocab)
        .def_prop_ro("n_ctx_train", &model::n_ctx_train)
        .def_prop_ro("is_recurrent", &model::is_recurrent)
        .def_prop_ro("description", &model::description)
        .def_prop_ro("chat_template", &model::chat_template)
        .def_prop_ro("bos", &model::bos)
        .def_prop_ro("eos", &model::eos)
        .def_prop_ro("adds_bos", &model::adds_bos)
        .def("metadata", &model::metadata, "key"_a)
        .def("tokenize", &model::tokenize, "text"_a, "add_special"_a, "parse_special"_a)
        .def(
            "detokenize",
            [](const model & self, const std::vector<llama_token> & tokens) {
                const std::string text = self.detokenize(tokens);
                return nb::bytes(text.data(), text.size());
            },
            "tokens"_a
        )
        .def("pieces", &pieces);
    m.def("load_model", &load_model, "path"_a, "n_gpu_layers"_a);
}

void bind_session(nb::module_ & m) {
    nb::class_<decode_result>(m, "DecodeResult")
        .def_ro("nonfinite_row", &decode_result::nonfinite_row)
        .def_prop_ro(
            "logprobs",
            [](decode_result & self) { return numpy_view<double>(self.logprobs.data(), {self.logprobs.size()}); },
            nb::rv_policy::reference_internal
        )
        .def_prop_ro(
            "captures",
            [](decode_result & self) {
                return numpy_view<float>(
                    self.captures.data(), {static_cast<size_t>(self.n_capture_layers),
                                           static_cast<size_t>(self.n_capture_rows), static_cast<size_t>(self.n_embd)}
                );
            },
            nb::rv_policy::reference_internal
        )
        .def_prop_ro(
            "logits",
            [](decode_result & self) {
                const auto n_vocab = static_cast<size_t>(self.n_vocab);
                return numpy_view<float>(self.logits.data(), {self.logits.size() / n_vocab, n_vocab});
            },
            nb::rv_policy::reference_internal
        );
    nb::class_<session>(m, "Session")
        .def_prop_ro("n_ctx", &session::n_ctx)
        .def_prop_ro("n_batch", &session::n_batch)
        .def_prop_ro("n_seq_max", &session::n_seq_max)
        .def(
            "decode", &decode, "tokens"_a, "positions"_a, "seq_offsets"_a, "seq_ids"_a, "outputs"_a, nb::kw_only(),
            "operations"_a, "capture_layers"_a, "capture_rows"_a, "query_rows"_a, "query_tokens"_a, "want_logits"_a
        )
        .def(
            "set_control_vector",
            [](session & self, const array_1d<float> & data) {
                require_size(data.size(), static_cast<size_t>(self.n_embd() * (self.n_layer() - 1)), "data");
                self.set_control_vector(data.data());
            },
            "data"_a
        )
        .def("clear_control_vector", [](session & self) { self.set_control_vector(nullptr); });
    m.def(
        "make_session", &make_session, "model"_a, nb::kw_only(), "n_ctx"_a, "n_batch"_a, "n_seq_max"_a, "n_threads"_a,
        "flash_attn"_a, "cache_type"_a, "always_copy"_a
    );
}

} // namespace

NB_MODULE(_native, m) {
    m.doc() = "Steering and capturing inside llama.cpp's decode; use steercpp.Engine.";
    nb::exception<model_error>(m, "ModelFileError", PyExc_RuntimeError);
    nb::exception<unsteerable_error>(m, "UnsteerableGraphError", PyExc_RuntimeError);
    nb::exception<decode_error>(m, "DecodeError", PyExc_RuntimeError);
    nb::exception<busy_error>(m, "BusyError", PyExc_RuntimeError);
    bind_model(m);
    bind_session(m);
    m.def("log_install", &log_install, "to_stderr"_a);
    m.def("system_info", [] { return std::string(llama_print_system_info()); });
    m.def("llama_version", [] { return std::string(llama_version()); });
    m.def("supports_gpu_offload", &llama_supports_gpu_offload);
    m.def("devices", &devices);
}

} // namespace steercpp
