"""Model files that nobody's converter writes: seeded mutations of small models, of their keys, tensors and bytes."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from architectures import ARCHITECTURES
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from tiny_model import Shape, write_tiny_model

from steercpp.data.sets.embedded import load
from steercpp.vectors.gguf_header import read_header

_FORMATS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_TEXT, _LIST = int(GGUFValueType.STRING), int(GGUFValueType.ARRAY)
_SIZES = (
    0,
    1,
    2,
    3,
    5,
    31,
    64,
    255,
    512,
    513,
    1024,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
)
_REALS = (0.0, -0.0, -1.0, 1.0, 1e-45, 1e38, -1e38, math.nan, math.inf, -math.inf, 1e-6, 1e6)
_TEXTS = (
    b"", b"x", b"\xff\xfe", b"a\0b", b"\xed\xa0\x80", b"llama", b"bert", b"t5", b"gpt2", b"rwkv", b"none", b"no_vocab",
    b"mamba", b"clip", b"default", b"A" * 5000, "\u202e\u0007ü".encode(), b"\x1b[31m", b"%s%n", b"../../x", b"yarn",
)  # fmt: skip
_KEYS = (
    "vocab_size", "embedding_length_out", "pooling_type", "nextn_predict_layers", "expert_count", "expert_used_count",
    "expert_group_count", "expert_group_used_count", "expert_shared_count", "attention.sliding_window",
    "attention.key_length", "attention.value_length", "rope.scaling.original_context_length", "rope.freq_base",
    "rope.scaling.factor", "rope.scaling.attn_factor", "rope.scaling.type", "attention.layer_norm_epsilon",
    "attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale", "attention.causal", "logit_scale",
    "residual_scale", "attn_logit_softcapping", "rope.dimension_sections", "ssm.conv_kernel", "ssm.inner_size",
    "feed_forward_length", "attention.head_count", "attention.head_count_kv", "rope.dimension_count", "block_count",
    "embedding_length", "context_length", "leading_dense_block_count", "wkv.head_size", "use_parallel_residual",
)  # fmt: skip
_TOKENIZER_KEYS = (
    "model", "pre", "bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "eot_token_id",
    "add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces", "precompiled_charsmap", "merges",
    "token_type_count", "fim_pre_token_id", "seperator_token_id", "mask_token_id",
)  # fmt: skip
Item: TypeAlias = "bytes | int | float"


@dataclass(slots=True)
class Tensor:
    """A tensor's description as it is written."""

    name: bytes
    dims: list[int]
    type: int
    offset: int


@dataclass(slots=True)
class File:
    """A GGUF file as it is written: keys in order with their types, which need not be right."""

    version: int
    keys: list[tuple[bytes, int, Any]]  # of a list the element's type and its items
    tensors: list[Tensor]
    data: bytes
    claimed: dict[str, int] = field(default_factory=dict)  # numbers of tensors and keys, where they are wrong

    def to_bytes(self) -> bytes:
        n_tensors = self.claimed.get("tensors", len(self.tensors))
        n_keys = self.claimed.get("keys", len(self.keys))
        head = [struct.pack("<4sIQQ", b"GGUF", self.version, n_tensors, n_keys)]
        for key, kind, value in self.keys:
            head += [_text(key), struct.pack("<I", kind), _value(kind, value)]
        for tensor in self.tensors:
            head += [_text(tensor.name), struct.pack("<I", len(tensor.dims))]
            head += [struct.pack("<Q", dim % 2**64) for dim in tensor.dims]
            head += [struct.pack("<IQ", tensor.type % 2**32, tensor.offset % 2**64)]
        whole = b"".join(head)
        return whole + bytes(-len(whole) % 32) + self.data


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _item(kind: int, value: Item) -> bytes:
    if kind == _TEXT:
        return _text(value if isinstance(value, bytes) else str(value).encode())
    form = _FORMATS.get(kind)
    if form is None:
        return bytes(8)
    if form in "fd":
        number = float(0 if isinstance(value, bytes) else value)
        try:
            return struct.pack(f"<{form}", number)
        except OverflowError:
            return struct.pack(f"<{form}", math.inf)
    size = struct.calcsize(form)
    whole: int = 0 if isinstance(value, bytes) or not math.isfinite(value) else int(value)
    return int(whole % 2 ** (8 * size)).to_bytes(size, "little")


def _value(kind: int, value: Any) -> bytes:
    if kind != _LIST or not isinstance(value, tuple):
        return _item(kind, value)
    inner, items, *claimed = value
    n = claimed[0] if claimed else len(items)
    whole: bytes = struct.pack("<IQ", inner, n % 2**64) + b"".join(_item(inner, item) for item in items)
    return whole


def read(path: Path) -> File:
    """A right file."""
    with open(path, "rb") as file:
        header = read_header(file, path)
    keys: list[tuple[bytes, int, Any]] = []
    for name, value in header.values.items():
        if isinstance(value.value, tuple):
            keys.append((name.encode(), _LIST, (int(value.type), [_raw(item) for item in value.value])))
        else:
            keys.append((name.encode(), int(value.type), _raw(value.value)))
    tensors = [Tensor(t.name.encode(), list(t.shape), t.type, t.offset) for t in header.tensors]
    return File(3, keys, tensors, path.read_bytes()[header.data_start :])


def _raw(value: Any) -> Item:
    return value.encode() if isinstance(value, str) else value


@lru_cache(maxsize=1)
def bases() -> dict[str, File]:
    """Small models of several architectures, and the embedded one."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        shape = Shape(n_layer=2, n_embd=64, n_ff=64, n_head=4, n_head_kv=2)
        found = {"tiny": read(write_tiny_model(path, shape=shape))}
        for name in ("llama-moe", "qwen3", "gemma2", "gemma4-shared", "phi3", "mamba2", "jamba", "lfm2", "hy-v4"):
            path.unlink()
            found[name] = read(ARCHITECTURES[name].write(path))
    return found | {"embedded": read(load().path)}


def _number(rng: random.Random) -> Item:
    return rng.choice((rng.choice(_SIZES), rng.choice(_REALS), rng.randrange(2**16), -rng.randrange(1, 9)))


def _any_value(rng: random.Random, depth: int = 0) -> tuple[int, Any]:
    kind = rng.choice((*_FORMATS, _TEXT, _TEXT, 4, 4, 6, _LIST if depth == 0 else 4, rng.randrange(20)))
    if kind == _LIST:
        inner, item = _any_value(rng, 1)
        n = rng.choice((0, 1, 2, 6, 512, 600))
        claimed = [rng.choice((n, n, n + 1, 2**40, 2**62))] if rng.random() < 0.1 else []
        return kind, (inner, [item] * n, *claimed)
    return kind, rng.choice(_TEXTS) if kind == _TEXT else _number(rng)


def _change_key(rng: random.Random, file: File) -> None:
    """Another value under a key, most often of the same type and one of the model's sizes."""
    sizes = [i for i, (key, kind, _) in enumerate(file.keys) if not key.startswith(b"tokenizer") and kind != _TEXT]
    place = rng.choice(sizes if rng.random() < 0.7 else range(len(file.keys)))
    key, kind, value = file.keys[place]
    if kind in _FORMATS and rng.random() < 0.75:
        near = [value - 1, value + 1, value * 2, value // 2] if isinstance(value, int) else [-value, value * 1e9]
        file.keys[place] = (key, kind, rng.choice((_number(rng), rng.choice(near))))
    elif kind == _LIST and rng.random() < 0.8:
        _change_list(rng, file, place)
    else:
        file.keys[place] = (key, *_any_value(rng))


def _change_list(rng: random.Random, file: File, place: int) -> None:
    key, kind, (inner, items, *_) = file.keys[place]
    items = list(items)
    way = rng.randrange(6)
    if way == 0:
        items = items[: rng.randrange(len(items) + 1)]
    elif way == 1:
        items += items[: rng.randrange(1, 9)]
    elif way == 2:
        items.reverse()
    elif items:
        for _ in range(rng.choice((1, 1, 5, 50))):
            other = rng.choice(_TEXTS) if inner == _TEXT else _number(rng)
            items[rng.randrange(len(items))] = rng.choice((other, rng.choice(items)))
    file.keys[place] = (key, kind, (inner, items))


def _change_vocabulary(rng: random.Random, file: File) -> None:
    lists = [i for i, (key, kind, _) in enumerate(file.keys) if key.startswith(b"tokenizer") and kind == _LIST]
    if lists and rng.random() < 0.5:
        _change_list(rng, file, rng.choice(lists))
        return
    key = f"tokenizer.ggml.{rng.choice(_TOKENIZER_KEYS)}".encode()
    known = {name: kind for name, kind, _ in file.keys}
    file.keys = [entry for entry in file.keys if entry[0] != key]
    if rng.random() < 0.9:
        kind = known.get(key, 4 if key.endswith(b"_id") else _TEXT)
        item = rng.choice(_TEXTS) if kind == _TEXT else _number(rng)
        file.keys.append((key, *(_any_value(rng) if kind == _LIST else (kind, item))))


def _add_key(rng: random.Random, file: File) -> None:
    architecture = next((value for key, _, value in file.keys if key == b"general.architecture"), b"llama")
    name = architecture if isinstance(architecture, bytes) else b"llama"
    value = _any_value(rng) if rng.random() < 0.4 else rng.choice(((4, _number(rng)), (6, _number(rng))))
    named = name + b"." + rng.choice(_KEYS).encode()
    file.keys = [entry for entry in file.keys if entry[0] != named] + [(named, *value)]


def _change_text(rng: random.Random, file: File) -> None:
    """Bytes that are no text, where a text is."""
    key = rng.choice((b"tokenizer.chat_template", b"general.name", b"general.architecture", b"general.license"))
    texts = (b"{{ messages[0].content }}\xff", b"\xff\xfe", b"{% for", b"{{ 1/0 }}", b"\0", *_TEXTS)
    file.keys = [entry for entry in file.keys if entry[0] != key] + [(key, _TEXT, rng.choice(texts))]


def _drop_key(rng: random.Random, file: File) -> None:
    del file.keys[rng.randrange(len(file.keys))]


def _repeat_key(rng: random.Random, file: File) -> None:
    file.keys.append(rng.choice(file.keys))


def _name_key(rng: random.Random, file: File) -> None:
    place = rng.randrange(len(file.keys))
    file.keys[place] = (rng.choice((*_TEXTS, b"general.alignment")), *file.keys[place][1:])


def _align(rng: random.Random, file: File) -> None:
    file.keys.append((b"general.alignment", rng.choice((4, 4, 4, 5, 10)), rng.choice((*_SIZES, 8, 16, 24, 48))))


def _split(rng: random.Random, file: File) -> None:
    for name, kind in ((b"split.no", 2), (b"split.count", 2), (b"split.tensors.count", 5)):
        if rng.random() < 0.8:
            file.keys.append((name, kind if rng.random() < 0.8 else rng.randrange(13), rng.choice((0, 1, 2, 3, 65535))))


def _change_tensor(rng: random.Random, file: File) -> None:
    tensor = rng.choice(file.tensors)
    way = rng.randrange(7)
    if way == 0:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((*_SIZES, -1, 32, 33))
    elif way == 1:
        tensor.dims.reverse()
    elif way == 2:
        tensor.dims = rng.choice(([], [0], [1], tensor.dims * 2, [*tensor.dims, 1], [1] * 5, [2**16] * 4))
    elif way == 3:
        tensor.type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 14, 16, 24, 27, 28, 30, 34, 39, 40, 41, 99, 2**31, -1))
    elif way == 4:
        tensor.offset = rng.choice((*_SIZES, 32, tensor.offset + 1, tensor.offset + 32, -32))
    elif way == 5:
        tensor.name = rng.choice((*_TEXTS, rng.choice(file.tensors).name, b"blk.99999.attn_q.weight"))
    else:
        factor = rng.choice((2, 3))
        tensor.dims = [max(1, dim // factor) for dim in tensor.dims]
    if rng.random() < 0.6:
        fit(file)


def fit(file: File) -> None:
    """Offsets and data as these tensors need them, as far as that takes no more room than models of this kind do."""
    offset = 0
    for tensor in file.tensors:
        if not all(0 < dim < 2**20 for dim in tensor.dims) or tensor.type not in set(GGMLQuantizationType):
            return
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
        tensor.offset = offset
        offset += -(-math.prod(tensor.dims) // block) * size
        offset += -offset % 32
        if offset > 2**23:
            return
    file.data = (file.data * (1 + offset // max(1, len(file.data))))[:offset]


def _drop_tensor(rng: random.Random, file: File) -> None:
    del file.tensors[rng.randrange(len(file.tensors))]
    if rng.random() < 0.7:
        fit(file)


def _claim(rng: random.Random, file: File) -> None:
    file.claimed[rng.choice(("tensors", "keys"))] = rng.choice((*_SIZES, len(file.keys) - 1, len(file.tensors) + 1))


def _version(rng: random.Random, file: File) -> None:
    file.version = rng.choice((0, 1, 2, 4, 2**24 * 3, 2**32 - 1))


def _weights(rng: random.Random, file: File) -> None:
    """Numbers that are none, huge, or whatever the bits say."""
    data = bytearray(file.data)
    start = rng.randrange(max(1, len(data) - 4096)) & ~3
    size = min(4096, len(data) - start)
    way = rng.choice((struct.pack("<f", math.nan), struct.pack("<f", math.inf), struct.pack("<f", 3e38), b"\xff" * 4))
    data[start : start + size] = (rng.randbytes(size) if rng.random() < 0.4 else way * (size // 4 + 1))[:size]
    file.data = bytes(data)


CHANGES: tuple[tuple[Callable[[random.Random, File], None], int], ...] = (
    (_change_key, 30), (_change_vocabulary, 14), (_add_key, 12), (_change_tensor, 14), (_change_text, 6),
    (_drop_key, 4), (_drop_tensor, 3), (_repeat_key, 1), (_name_key, 2), (_align, 2), (_split, 3), (_claim, 2),
    (_version, 1), (_weights, 3),
)  # fmt: skip


def hostile_model(rng: random.Random) -> bytes:
    """A model file."""
    names = [*bases()]
    base = bases()[rng.choice((*names[:-1], "tiny", names[-1]))]
    file = File(base.version, list(base.keys), [Tensor(t.name, list(t.dims), t.type, t.offset) for t in base.tensors],
                base.data)  # fmt: skip
    changes, weights = zip(*CHANGES, strict=True)
    for change in rng.choices(changes, weights, k=rng.choice((1, 1, 1, 2, 3))):
        change(rng, file)
    whole = file.to_bytes()
    way = rng.random()
    if way < 0.08:  # bytes of the head
        raw = bytearray(whole)
        for _ in range(rng.choice((1, 4, 32))):
            raw[rng.randrange(min(len(raw), len(whole) - len(file.data)) or 1)] = rng.randrange(256)
        return bytes(raw)
    return whole[: rng.randrange(len(whole))] if way < 0.12 else whole
