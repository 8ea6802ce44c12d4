"""Model files whose keys are wrong: each is refused in one sentence or computes; none ends the process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from architectures import ARCHITECTURES
from gguf.constants import GGUFValueType
from gguf_keys import write_with_keys
from hostile_models import Tensor, fit, read
from places import ROOT
from tiny_model import Shape, write_tiny_model

from steercpp.engine.engine import Engine
from steercpp.errors import ModelError
from steercpp.vectors.gguf_header import Value, read_header

HELPERS = str(ROOT / "tests" / "helpers")

# Loads, decodes, steers, captures and generates, as a file may end the process at any of these. Each file has a process
# of its own, by fork, which says how it went; a signal says it too.
USE = """
import os, sys
os.environ["GGML_NO_BACKTRACE"] = "1"
import numpy as np
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.errors import SteerError
from steercpp.vectors.control_vector import ControlVector

def use(path):
    with Engine(path, threads=1, n_ctx=64) as engine:
        il = min(1, engine.n_layer - 1)
        vector = ControlVector({il: np.ones(engine.n_embd, np.float32)}, engine.architecture, engine.n_layer)
        for batch in engine.pack([Query((1, 5, 6, 7), ((8,), (9,))), Query((1, 5, 9), ((8,),))]):
            engine.logprobs(batch, vector=vector, strengths=0.5)
        engine.activations([(1, 5, 6)])
        generate(engine, (1, 5, 6), [Steering(vector, 0.0), Steering(vector, 0.1)], max_tokens=3)
        engine.detokenize(engine.encode("once upon a time"))

for path in sys.stdin.read().splitlines():
    child = os.fork()
    if child == 0:
        try:
            use(path)
            said = "fine"
        except SteerError as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:
            said = f"RAW {type(error).__name__}: {error}"
        os.write(1, (" ".join(said.split()) + "\\n").encode())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        os.write(1, f"ENDED BY {status}\\n".encode())
"""


def uses(paths: list[Path]) -> list[str]:
    """How each file went."""
    code = [sys.executable, "-c", f"import sys; sys.path.insert(0, {HELPERS!r})\n{USE}"]
    run = subprocess.run(code, input="\n".join(map(str, paths)), capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == len(paths), run.stderr
    return lines


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("headers") / "model.gguf"
    return write_tiny_model(path, shape=Shape(n_layer=2, n_embd=64, n_ff=64, n_head=4, n_head_kv=2))


def u32(value: int) -> Value:
    return Value(GGUFValueType.UINT32, value)


def f32(value: float) -> Value:
    return Value(GGUFValueType.FLOAT32, value)


REFUSALS = [
    ("block_count", u32(0), "block_count is 0, llama.cpp takes 1 to 512"),
    ("block_count", u32(513), "block_count is 513, llama.cpp takes 1 to 512"),
    ("block_count", u32(2**31 - 1), "block_count is 2147483647, llama.cpp takes 1 to 512"),
    ("block_count", u32(2**32 - 1), "block_count is 4294967295, llama.cpp takes 1 to 512"),
    ("context_length", u32(0), "context_length is 0, llama.cpp takes 1 to 2147483647"),
    ("context_length", u32(2**31), "context_length is 2147483648, llama.cpp takes 1 to 2147483647"),
    ("embedding_length", u32(0), "embedding_length is 0, llama.cpp takes 1 to"),
    ("embedding_length", u32(2**32 - 1), "embedding_length is 4294967295, llama.cpp takes 1 to"),
    ("attention.layer_norm_rms_epsilon", f32(-1.0), "layer_norm_rms_epsilon is -1, llama.cpp takes 0 to"),
    ("attention.layer_norm_rms_epsilon", f32(math.nan), "layer_norm_rms_epsilon is not a number"),
    ("attention.layer_norm_rms_epsilon", f32(math.inf), "layer_norm_rms_epsilon is inf, llama.cpp takes 0 to"),
    ("attention.sliding_window", u32(2**31 - 1), "sliding_window is 2147483647, llama.cpp takes 0 to 1073741824"),
    ("rope.freq_base", f32(math.nan), "rope.freq_base is not a number"),
    ("rope.scaling.type", Value(GGUFValueType.STRING, "cubic"), "rope.scaling.type is 'cubic', llama.cpp takes none,"),
    ("nextn_predict_layers", u32(3), "nextn_predict_layers is more than the model's blocks"),
    ("expert_count", u32(2**31), "expert_count is 2147483648, llama.cpp takes 0 to 1024"),
    ("expert_used_count", u32(1), "expert_used_count is 1 of 0 experts"),
    ("expert_used_count", Value(GGUFValueType.UINT32, (0, 2)), "expert_used_count is 2 of 0 experts"),
    ("expert_group_count", u32(4), "expert_group_count is 4 for 0 experts"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSALS)
def test_a_key_out_of_range_is_refused_before_loading(
    model: Path, tmp_path: Path, key: str, value: Value, message: str
) -> None:
    path = write_with_keys(model, tmp_path / "changed.gguf", {f"llama.{key}": value})
    with pytest.raises(ModelError) as caught:
        Engine(path, threads=1)
    assert str(caught.value).startswith(f"{path}: llama.") and "\n" not in str(caught.value)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; download the model again, or convert it again")


@pytest.mark.parametrize(
    ("name", "key", "value", "reason"),
    [
        ("llama-moe", "expert_used_count", 0, "GGML_ASSERT(n_expert_used_max > 0) failed"),
        ("jamba", "ssm.inner_size", 64, "GGML_ASSERT(2 * n_embd == d_inner) failed"),
        ("gemma4-shared", "attention.shared_kv_layers", 3, "llama-kv-cache.cpp:"),  # while the context is made
        ("hy-v4", "attention.key_length", 47, "ggml.c:"),  # from C code
    ],
)
def test_what_an_architecture_asserts_is_caught(tmp_path: Path, name: str, key: str, value: int, reason: str) -> None:
    """An assertion that fails while a model is loaded or a context made is an error like others; the next one works."""
    architecture = ARCHITECTURES[name]
    whole = architecture.write(tmp_path / "whole.gguf")
    path = write_with_keys(whole, tmp_path / "changed.gguf", {f"{architecture.name}.{key}": u32(value)})
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            Engine(path, threads=1)
        assert str(caught.value).startswith(f"{path}: llama.cpp cannot use this model: ")
        assert reason in str(caught.value) and "\n" not in str(caught.value)
        assert "/src/" not in str(caught.value)
    with Engine(whole, threads=1) as engine:
        assert engine.encode("once")


def test_a_vocabulary_that_claims_a_token_twice(model: Path, tmp_path: Path) -> None:
    with open(model, "rb") as file:
        tokens = read_header(file, model).values["tokenizer.ggml.tokens"]
    assert isinstance(tokens.value, tuple)
    changes = {"tokenizer.ggml.tokens": Value(tokens.type, ("a",) * len(tokens.value))}
    path = write_with_keys(model, tmp_path / "changed.gguf", changes)
    with pytest.raises(ModelError, match="id_to_token"):
        Engine(path, threads=1)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bert", "error loading model vocabulary: llama-vocab.cpp:"),  # bytes as tokens, of which it has none
        ("t5", "its vocabulary cannot be used: llama-vocab.cpp:"),  # found out with the first text
    ],
)
def test_a_vocabulary_of_another_kind(model: Path, tmp_path: Path, kind: str, reason: str) -> None:
    changes = {
        "tokenizer.ggml.model": Value(GGUFValueType.STRING, kind),
        "tokenizer.ggml.add_bos_token": Value(GGUFValueType.BOOL, True),
        "tokenizer.ggml.bos_token_id": None,
    }
    path = write_with_keys(model, tmp_path / "changed.gguf", changes)
    with pytest.raises(ModelError) as caught:
        Engine(path, threads=1)
    assert reason in str(caught.value)


def wrong_values(value: Value) -> Iterator[Value | None]:
    """Others of the same type, at the ends of its range and near the right one; another type; none."""
    yield None
    yield Value(GGUFValueType.STRING, "x")
    yield Value(GGUFValueType.INT32, -1)
    yield Value(GGUFValueType.UINT64, 2**63)
    yield Value(value.type, ())
    if value.type == GGUFValueType.FLOAT32:
        yield from map(f32, (0.0, -1.0, 1e38, 1e-45, math.nan, math.inf, -math.inf))
    elif value.type == GGUFValueType.UINT32 and not isinstance(value.value, tuple):
        right = int(value.value)
        others = {0, 1, 3, right - 1, right + 1, 2 * right, 65536, 2**31 - 1, 2**31, 2**32 - 1}
        yield from (u32(other) for other in sorted(others) if 0 <= other < 2**32)
        yield Value(value.type, (right, right))
        yield Value(value.type, (0, 0))


KEYS_THAT_ARE_NOT_THERE = [  # and a right value
    *((key, u32(0)) for key in (
        "vocab_size", "embedding_length_out", "pooling_type", "nextn_predict_layers", "expert_count",
        "expert_used_count", "expert_group_count", "expert_group_used_count", "attention.sliding_window",
        "attention.key_length", "attention.value_length", "rope.scaling.original_context_length",
    )),
    *((key, f32(1.0)) for key in (
        "rope.freq_base", "rope.scaling.factor", "rope.scaling.attn_factor", "attention.layer_norm_epsilon",
        "attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale", "logit_scale", "residual_scale",
    )),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each file needs a process of its own")
@pytest.mark.parametrize("which", ["there", "not there"])
def test_no_number_of_a_header_ends_the_process(model: Path, tmp_path: Path, which: str) -> None:
    with open(model, "rb") as file:
        header = read_header(file, model).values
    keys = [(key, value) for key, value in header.items() if not isinstance(value.value, tuple | str)]
    if which == "not there":
        keys = [(f"llama.{key}", value) for key, value in KEYS_THAT_ARE_NOT_THERE]
    changes = [(key, value) for key, right in keys for value in wrong_values(right)]
    paths = [
        write_with_keys(model, tmp_path / f"{place}.gguf", {key: value}) for place, (key, value) in enumerate(changes)
    ]
    found = dict(zip(changes, uses(paths), strict=True))
    unclear = {change: said for change, said in found.items() if said.startswith(("RAW", "ENDED"))}
    assert not unclear
    assert sum(said.startswith("ModelError: ") for said in found.values()) > len(found) // 4


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each file needs a process of its own")
@pytest.mark.parametrize("name", ["llama-moe", "gemma4-shared", "jamba", "hy-v4"])
def test_no_number_of_other_architectures_ends_the_process(tmp_path: Path, name: str) -> None:
    model = ARCHITECTURES[name].write(tmp_path / "model.gguf")
    prefix = f"{ARCHITECTURES[name].name}."
    with open(model, "rb") as file:
        keys = [(key, value) for key, value in read_header(file, model).values.items() if key.startswith(prefix)]
    ends = (u32(0), u32(1), u32(2**31 - 1), u32(2**32 - 1), f32(-1.0), f32(math.nan))
    changes = [(key, value) for key, right in keys for value in ends if value.type == right.type]
    paths = [
        write_with_keys(model, tmp_path / f"{place}.gguf", {key: value}) for place, (key, value) in enumerate(changes)
    ]
    found = dict(zip(changes, uses(paths), strict=True))
    assert not {change: said for change, said in found.items() if said.startswith(("RAW", "ENDED"))}


def changed(source: Path, target: Path, change: Callable[[list[Tensor]], object]) -> Path:
    """The file with other tensors, whose places in it and data are as they must be."""
    file = read(source)
    change(file.tensors)
    fit(file)
    target.write_bytes(file.to_bytes())
    return target


@pytest.mark.parametrize(("type_", "called"), [(27, "i64"), (24, "i8"), (26, "i32"), (28, "f64")])
def test_a_tensor_of_a_type_without_products(model: Path, tmp_path: Path, type_: int, called: str) -> None:
    """llama.cpp calls a function that is not there, in the middle of a decode."""

    def retype(tensors: list[Tensor]) -> None:
        tensors[-1].type = type_

    path = changed(model, tmp_path / "changed.gguf", retype)
    with pytest.raises(ModelError, match=f" has the type {called}, with which llama.cpp cannot multiply; download the"):
        Engine(path, threads=1)


def test_a_norm_of_a_type_without_sums(model: Path, tmp_path: Path) -> None:
    """llama.cpp finds out while it computes; tried out in one thread, that is an error, and the next model works."""

    def retype(tensors: list[Tensor]) -> None:
        next(tensor for tensor in tensors if tensor.name == b"blk.1.attn_norm.weight").type = 30

    path = changed(model, tmp_path / "changed.gguf", retype)
    for threads in (1, 2):
        with pytest.raises(ModelError, match=r"binary_op: unsupported types: dst: f32, src0: f32, src1: bf16; check"):
            Engine(path, threads=threads)
        with Engine(model, threads=threads) as engine:
            assert engine.encode("once")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_tensor_that_is_taken_for_granted(tmp_path: Path) -> None:
    """llama.cpp reads through a null pointer for it while it makes a context."""
    whole = ARCHITECTURES["phi3"].write(tmp_path / "whole.gguf")

    def drop(tensors: list[Tensor]) -> None:
        tensors[:] = [tensor for tensor in tensors if tensor.name != b"blk.5.attn_qkv.weight"]

    path = changed(whole, tmp_path / "changed.gguf", drop)
    for _ in range(2):
        with pytest.raises(ModelError, match="it reads a tensor that the file lacks; check"):
            Engine(path, threads=1)
    with Engine(whole, threads=1) as engine:
        assert engine.encode("once")


def test_a_head_of_which_nothing_is_rotated(tmp_path: Path) -> None:
    """ggml goes round for ever over it."""
    whole = ARCHITECTURES["gemma2"].write(tmp_path / "whole.gguf")
    path = write_with_keys(whole, tmp_path / "changed.gguf", {"gemma2.rope.dimension_count": u32(0)})
    with pytest.raises(ModelError, match="rope.dimension_count is 0, and this architecture rotates"):
        Engine(path, threads=1)


def test_texts_that_are_no_utf_8(model: Path, tmp_path: Path) -> None:
    """Bytes become U+FFFD where a text is read, and are spelled in errors."""
    texts = ("general.name", "tokenizer.chat_template", "llama.odd")
    changes = {key: Value(GGUFValueType.STRING, "BYTES") for key in texts}
    path = write_with_keys(model, tmp_path / "changed.gguf", changes)
    path.write_bytes(path.read_bytes().replace(b"BYTES", b"\xff\xed\xa0\x80b"))
    with Engine(path, threads=1) as engine:
        assert engine.chat_template == "\ufffd\ufffd\ufffd\ufffdb"
        assert all(isinstance(piece, str) for piece in engine.vocabulary.pieces)
    path = write_with_keys(model, path, {"general.architecture": Value(GGUFValueType.STRING, "BYTES")})
    path.write_bytes(path.read_bytes().replace(b"BYTES", b"\xff\n\x1b[m"))
    with pytest.raises(ModelError) as caught:
        Engine(path, threads=1)
    assert r"unknown model architecture: '\xff \x1b[m'" in str(caught.value)


ABORT = """
import ctypes, resource, sys
from steercpp.doctor.installation import loaded_libraries
from steercpp.engine import model
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if sys.argv[1] == "code":
    model.end_with_code()
else:
    model._native.aborts_exit(False)
(library,) = (file for file in loaded_libraries() if "libggml-base" in file)
ctypes.CDLL(library).ggml_abort(b"/build/src/ops.cpp", 7, b"GGML_ASSERT(%s) failed", b"x")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="libraries have other names elsewhere")
@pytest.mark.parametrize(("way", "code"), [("code", 1), ("signal", -6)])
def test_an_abort_outside_of_loading_is_one_sentence(way: str, code: int) -> None:
    """No dump: exit code 1 of the command line, an abort of a library's process."""
    run = subprocess.run([sys.executable, "-c", ABORT, way], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert run.stderr == (
        "steercpp: llama.cpp could not go on computing and ends the process (ops.cpp:7: GGML_ASSERT(x) failed); what "
        "was stored is kept: examine the model with steercpp doctor --model\n"
    )
