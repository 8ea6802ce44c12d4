// The Python face of native/. Everything here converts; nothing here computes.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "aborts.h"
#include "bus.h"
#include "ggml-rpc.h"
#include "header.h"
#include "log.h"
#include "session.h"
#include "weights.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace steercpp {

namespace {

template <typename T> using array_1d = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T> using numpy_view = nb::ndarray<nb::numpy, T>;
// layer, operator, side, direction, strengths, active
using operation_args = std::tuple<int32_t, int32_t, int32_t, array_1d<float>, array_1d<float>, array_1d<int8_t>>;
using tail_args = std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t>; // from, to, first, stop, cell
// places, cells held, tails, what is settled
using cells_args = std::tuple<std::vector<int32_t>, int32_t, std::vector<tail_args>, int32_t>;
// rows, copies (from, to, positions), trunk
using piece_args = std::tuple<int32_t, std::vector<std::tuple<int32_t, int32_t, int32_t>>, int32_t>;

// Ctrl-C, which Python notes but hears only when asked, and other signals with a handler.
void heed_signals() {
    const nb::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) {
        throw nb::python_error();
    }
}

// A model file's text may hold any bytes: those that are no UTF-8 become U+FFFD.
nb::str text_of(const std::string & text) {
    return nb::steal<nb::str>(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

// The path as the file system's bytes, which need not be UTF-8.
std::shared_ptr<model> load_model(
    const nb::bytes & path_bytes, int32_t n_gpu_layers, int32_t main_gpu, int32_t split_mode, bool use_mmap,
    std::vector<float> tensor_split, std::vector<std::string> rpc
) {
    const std::string path(path_bytes.c_str(), path_bytes.size());
    const nb::gil_scoped_release unlocked;
    load_params params;
    params.n_gpu_layers = n_gpu_layers;
    params.main_gpu = main_gpu;
    params.split_mode = static_cast<llama_split_mode>(split_mode);
    params.use_mmap = use_mmap;
    params.tensor_split = std::move(tensor_split);
    params.rpc = std::move(rpc);
    params.go_on = heed_signals;
    return std::make_shared<model>(path, std::move(params));
}

std::unique_ptr<session> make_session(
    std::shared_ptr<model> model, uint32_t n_ctx, uint32_t n_batch, uint32_t n_seq_max, int32_t n_threads,
    int32_t flash_attn, int32_t type_k, int32_t type_v, bool offload_kqv, bool kv_unified, bool hook, bool always_copy,
    bool in_graph
) {
    const nb::gil_scoped_release unlocked;
    session_params params;
    params.n_ctx = n_ctx;
    params.n_batch = n_batch;
    params.n_seq_max = n_seq_max;
    params.n_threads = n_threads;
    params.flash_attn = static_cast<llama_flash_attn_type>(flash_attn);
    params.type_k = static_cast<ggml_type>(type_k);
    params.type_v = static_cast<ggml_type>(type_v);
    params.offload_kqv = offload_kqv;
    params.kv_unified = kv_unified;
    params.hook = hook;
    params.always_copy = always_copy;
    params.in_graph = in_graph;
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
    const std::vector<piece_args> & pieces, bool fresh, const std::vector<operation_args> & operations,
    std::vector<int32_t> capture_layers, std::vector<int32_t> capture_rows, int32_t keep_layer, bool keep_logits,
    const kept * base, bool keeps_below, const array_1d<int32_t> & query_rows, const array_1d<int32_t> & query_tokens,
    bool want_logits, bool want_entropy, bool want_kl, bool want_kl_from_base, int32_t n_top,
    std::vector<int32_t> sampler_rows, std::vector<sampler *> samplers, bool want_sampled_logprobs,
    const std::vector<cells_args> & cells, bool want_attention_bits
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
    require_size(cells.empty() ? pieces.size() : cells.size(), pieces.size(), "cells");
    for (const auto & [n_rows, copies, trunk] : pieces) {
        plan_piece piece;
        piece.n_rows = n_rows;
        piece.trunk = trunk;
        if (!cells.empty()) {
            const auto & [places, n_held, tails, settle] = cells[plan.pieces.size()];
            piece.places = places;
            piece.n_held = n_held;
            piece.settle = settle;
            for (const auto & [from, to, first, stop, cell] : tails) {
                piece.tails.push_back({from, to, first, stop, cell});
            }
        }
        for (const auto & [from, to, n_positions] : copies) {
            piece.copies.push_back({from, to, n_positions});
        }
        plan.pieces.push_back(std::move(piece));
    }
    plan.fresh = fresh;
    for (const auto & [il, kind, side, direction, strengths, active] : operations) {
        require_size(direction.size(), static_cast<size_t>(self.n_embd()), "direction");
        require_size(strengths.size(), n_tokens, "strengths");
        require_size(active.size(), n_tokens, "active");
        const auto op = static_cast<operator_kind>(kind);
        plan.operations.push_back({il, op, side, direction.data(), strengths.data(), active.data()});
    }
    plan.capture_layers = std::move(capture_layers);
    plan.capture_rows = std::move(capture_rows);
    plan.keep_il = keep_layer;
    plan.keep_logits = keep_logits;
    plan.base = base;
    plan.keeps_below = keeps_below;
    plan.n_queries = static_cast<int32_t>(query_rows.size());
    plan.query_rows = query_rows.data();
    plan.query_tokens = query_tokens.data();
    plan.want_logits = want_logits;
    plan.want_entropy = want_entropy;
    plan.want_kl = want_kl;
    plan.want_kl_from_base = want_kl_from_base;
    plan.n_top = n_top;
    plan.want_attention_bits = want_attention_bits;
    plan.sampler_rows = std::move(sampler_rows);
    plan.samplers = std::move(samplers);
    plan.want_sampled_logprobs = want_sampled_logprobs;
    plan.go_on = heed_signals;

    const nb::gil_scoped_release unlocked;
    return self.decode(plan);
}

nb::list devices() {
    nb::list found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free = 0;
        size_t total = 0;
        if (!is_rpc_device(device)) { // which would be asked over the network, and llama.cpp ends the process if lost
            ggml_backend_dev_memory(device, &free, &total);
        }
        const nb::str name = text_of(ggml_backend_dev_name(device));
        found.append(nb::make_tuple(name, text_of(ggml_backend_dev_description(device)), free, total));
    }
    return found;
}

nb::tuple header_of(const nb::bytes & path) {
    const header found = read_header(std::string(path.c_str(), path.size()));
    nb::dict all;
    for (const header_value & value : found.values) {
        const nb::str key = text_of(value.key);
        if (value.is_text) {
            all[key] = nb::bytes(value.text.data(), value.text.size());
        } else if (value.is_list) {
            all[key] = nb::cast(value.numbers);
        } else {
            all[key] = value.numbers.front();
        }
    }
    nb::list odd;
    for (const odd_tensor & tensor : found.odd) {
        odd.append(nb::make_tuple(text_of(tensor.name), text_of(tensor.type)));
    }
    return nb::make_tuple(all, odd);
}

nb::list tensors(const nb::bytes & path) {
    nb::list all;
    for (const weight_tensor & tensor : read_tensors(std::string(path.c_str(), path.size()))) {
        const nb::bytes name(tensor.name.data(), tensor.name.size());
        all.append(nb::make_tuple(name, tensor.type, tensor.n_in, tensor.n_out));
    }
    return all;
}

nb::list weight_speeds(
    const std::vector<std::string> & types, int64_t n_in, int64_t n_out, int64_t n_tokens, int32_t n_threads,
    int32_t n_rounds
) {
    std::vector<weight_speed> speeds;
    {
        const nb::gil_scoped_release unlocked;
        speeds = time_weights(types, n_in, n_out, n_tokens, n_threads, n_rounds, heed_signals);
    }
    nb::list all;
    for (const weight_speed & speed : speeds) {
        all.append(nb::make_tuple(speed.type, speed.bits, speed.buffer, speed.seconds));
    }
    return all;
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
        .def_prop_ro("n_swa", &model::n_swa)
        .def_prop_ro("is_recurrent", &model::is_recurrent)
        .def_prop_ro("uses_devices", &model::uses_devices)
        .def_prop_ro("description", [](const model & self) { return text_of(self.description()); })
        .def_prop_ro("chat_template", [](const model & self) { return text_of(self.chat_template()); })
        .def_prop_ro("bos", &model::bos)
        .def_prop_ro("eos", &model::eos)
        .def_prop_ro("adds_bos", &model::adds_bos)
        .def("ends_generation", &model::ends_generation, "token"_a)
        .def(
            "metadata", [](const model & self, const std::string & key) { return text_of(self.metadata(key)); }, "key"_a
        )
        .def("tokenize", &model::tokenize, "text"_a, "add_special"_a, "parse_special"_a)
        .def(
            "detokenize",
            [](const model & self, const std::vector<llama_token> & tokens) {
                const std::string text = self.detokenize(tokens);
                return nb::bytes(text.data(), text.size());
            },
            "tokens"_a
        )
        .def(
            "spell",
            [](const model & self, const std::vector<llama_token> & tokens) {
                const std::string text = self.spell(tokens);
                return nb::bytes(text.data(), text.size());
            },
            "tokens"_a
        )
        .def("pieces", &pieces)
        .def_prop_ro("kind", &model::kind)
        .def("unknown_tokens", &model::unknown_tokens);
    m.def(
        "load_model", &load_model, "path"_a, nb::kw_only(), "n_gpu_layers"_a, "main_gpu"_a, "split_mode"_a,
        "use_mmap"_a, "tensor_split"_a, "rpc"_a
    );
}

template <typename T> numpy_view<T> rows_of(std::vector<T> & values, int32_t width) {
    const auto n_columns = static_cast<size_t>(width);
    return numpy_view<T>(values.data(), {n_columns ? values.size() / n_columns : 0, n_columns});
}

void bind_result(nb::module_ & m) {
    constexpr auto internal = nb::rv_policy::reference_internal;
    using result = decode_result;
    nb::class_<result>(m, "DecodeResult")
        .def_ro("nonfinite_row", &result::nonfinite_row)
        .def_ro("failed_rows", &result::failed_rows)
        .def_ro("token_layers", &result::token_layers)
        .def_ro("n_cuts", &result::n_cuts)
        .def_ro("n_writes", &result::n_writes)
        .def_ro("reason", &result::reason)
        .def_ro("base", &result::base)
        .def_ro("sampled", &result::sampled)
        .def_ro("sampled_logprobs", &result::sampled_logprobs)
        .def_prop_ro(
            "logprobs", [](result & self) { return numpy_view<double>(self.logprobs.data(), {self.logprobs.size()}); },
            internal
        )
        .def_prop_ro(
            "attention_bits",
            [](result & self) {
                return numpy_view<uint64_t>(self.attention_bits.data(), {self.attention_bits.size()});
            },
            internal
        )
        .def_prop_ro(
            "captures",
            [](result & self) {
                return numpy_view<float>(
                    self.captures.data(), {static_cast<size_t>(self.n_capture_layers),
                                           static_cast<size_t>(self.n_capture_rows), static_cast<size_t>(self.n_embd)}
                );
            },
            internal
        )
        .def_prop_ro(
            "logits", [](result & self) { return rows_of(self.logits, self.n_vocab); }, internal
        )
        .def_prop_ro(
            "entropy", [](result & self) { return numpy_view<double>(self.entropy.data(), {self.entropy.size()}); },
            internal
        )
        .def_prop_ro(
            "kl", [](result & self) { return numpy_view<double>(self.kl.data(), {self.kl.size()}); }, internal
        )
        .def_prop_ro(
            "kl_from_base",
            [](result & self) { return numpy_view<double>(self.kl_from_base.data(), {self.kl_from_base.size()}); },
            internal
        )
        .def_prop_ro(
            "top_tokens", [](result & self) { return rows_of(self.top_tokens, self.n_top); }, internal
        )
        .def_prop_ro("top_logprobs", [](result & self) { return rows_of(self.top_logprobs, self.n_top); }, internal);
    nb::class_<kept>(m, "Base").def_prop_ro("reason", &kept::reason).def_prop_ro("n_bytes", &kept::n_bytes);
    nb::class_<sampler>(m, "Sampler")
        .def(
            "__init__",
            [](sampler * self, int32_t n_vocab, float temperature, int32_t top_k, float top_p, float min_p,
               uint32_t seed, float repeat_penalty, float frequency_penalty, float presence_penalty,
               int32_t repeat_last_n, std::vector<std::pair<int32_t, float>> logit_bias) {
                new (self) sampler(
                    {n_vocab, temperature, top_k, top_p, min_p, seed, repeat_penalty, frequency_penalty,
                     presence_penalty, repeat_last_n, std::move(logit_bias)}
                );
            },
            nb::kw_only(), "n_vocab"_a, "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "seed"_a, "repeat_penalty"_a,
            "frequency_penalty"_a, "presence_penalty"_a, "repeat_last_n"_a, "logit_bias"_a
        )
        .def("accept", &sampler::accept, "token"_a)
        .def(
            "sample",
            [](sampler & self, const array_1d<float> & logits) {
                require_size(logits.size(), static_cast<size_t>(self.n_vocab()), "logits");
                draw_buffers buffers;
                return self.sample(logits.data(), buffers);
            },
            "logits"_a
        );
}

void bind_session(nb::module_ & m) {
    nb::class_<session>(m, "Session")
        .def(
            "decode", &decode, "tokens"_a, "positions"_a, "seq_offsets"_a, "seq_ids"_a, "outputs"_a, "pieces"_a,
            nb::kw_only(), "fresh"_a, "operations"_a, "capture_layers"_a, "capture_rows"_a, "keep_layer"_a,
            "keep_logits"_a, "base"_a.none(), "keeps_below"_a, "query_rows"_a, "query_tokens"_a, "want_logits"_a,
            "want_entropy"_a, "want_kl"_a, "want_kl_from_base"_a, "n_top"_a, "sampler_rows"_a, "samplers"_a,
            "want_sampled_logprobs"_a, "cells"_a, "want_attention_bits"_a
        )
        .def("copy_sequence", &session::copy_sequence, "source"_a, "target"_a)
        .def("cut_sequence", &session::cut_sequence, "sequence"_a, "n_positions"_a)
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
        "flash_attn"_a, "type_k"_a, "type_v"_a, "offload_kqv"_a, "kv_unified"_a, "hook"_a, "always_copy"_a, "in_graph"_a
    );
}

} // namespace

NB_MODULE(_native, m) {
    m.doc() = "Steering and capturing inside llama.cpp's decode; use steercpp.Engine.";
    nb::exception<model_error>(m, "ModelFileError", PyExc_RuntimeError);
    nb::exception<device_error>(m, "DeviceError", PyExc_RuntimeError);
    nb::exception<unsteerable_error>(m, "UnsteerableGraphError", PyExc_RuntimeError);
    nb::exception<decode_error>(m, "DecodeError", PyExc_RuntimeError);
    nb::exception<busy_error>(m, "BusyError", PyExc_RuntimeError);
    bind_model(m);
    bind_result(m);
    bind_session(m);
    m.def("log_install", &log_install, "to_stderr"_a);
    m.def("bus_install", &bus_install);
    m.def("aborts_exit", &aborts_exit, "with_code"_a);
    m.def("header", &header_of, "path"_a);
    m.def("tensors", &tensors, "path"_a);
    m.def(
        "weight_speeds", &weight_speeds, "types"_a, nb::kw_only(), "n_in"_a, "n_out"_a, "n_tokens"_a, "n_threads"_a,
        "n_rounds"_a
    );
    m.def("system_info", [] { return std::string(llama_print_system_info()); });
    m.def("llama_version", [] { return std::string(llama_version()); });
    m.def("devices", &devices);
    m.def("free_gpu_memory", &free_gpu_memory);
    m.def("supports_rpc", &llama_supports_rpc);
    m.def("rpc_protocol", [] { return std::make_tuple(RPC_PROTO_MAJOR_VERSION, RPC_PROTO_MINOR_VERSION); });
    m.def("holds_rpc_server", &server_claim::exists, "server"_a);
}

} // namespace steercpp
