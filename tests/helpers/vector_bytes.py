"""GGUF control vectors by hand, from the format's description alone: no code of steercpp or gguf-py is used.

`gguf_bytes` builds files, broken ones too; `load_like_llama_cpp` follows common_control_vector_load_one and
gguf_init_from_file (llama.cpp 0c1e57098) line by line and is what checks the files that steercpp writes.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

U32, I32, F32_VALUE, BOOL, STRING, ARRAY, I64, F64 = 4, 5, 6, 7, 8, 9, 11, 12  # enum gguf_type
F32, F16 = 0, 1  # enum ggml_type
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, payload: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + payload


def keys(
    architecture: str = "controlvector", hint: str | None = "llama", count: int = 3, kind: int = U32
) -> list[bytes]:
    made = [key("general.architecture", STRING, text(architecture))]
    if hint is not None:
        made.append(key(f"{architecture}.model_hint", STRING, text(hint)))
    return [*made, key(f"{architecture}.layer_count", kind, struct.pack("<I", count))]


def tensor(
    name: str, values: Sequence[float], *, kind: int = F32, shape: Sequence[int] | None = None
) -> tuple[str, bytes, int, Sequence[int]]:
    data = np.asarray(values, dtype="<f4" if kind == F32 else "<f2").tobytes()
    return name, data, kind, (len(values),) if shape is None else shape


def gguf_bytes(
    key_values: Sequence[bytes],
    tensors: Sequence[tuple[str, bytes, int, Sequence[int]]],
    *,
    version: int = 3,
    alignment: int = 32,
    offset_error: int = 0,
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(key_values)) + b"".join(key_values)
    body = b""
    for name, data, kind, shape in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", kind, len(body) + offset_error)
        body += data + bytes(-len(data) % alignment)
    return head + bytes(-len(head) % alignment) + body if tensors else head


class Refused(Exception):
    """llama.cpp would not load this file."""


def load_like_llama_cpp(path: Path, strength: float = 1.0) -> npt.NDArray[np.float32]:
    """What llama.cpp hands to llama_set_adapter_cvec: (highest layer, n_embd) float32, row 0 = layer 1."""
    values, tensors, data = parse(path.read_bytes())
    rows: dict[int, npt.NDArray[np.float32]] = {}
    n_embd = -1
    for name, shape, kind, offset in tensors:
        il = stoi(name.partition(".")[2]) if name.split(".")[0] == "direction" and "." in name else -1
        if il < 1 or kind != F32 or any(n != 1 for n in shape[1:]):
            raise Refused(name)
        length = shape[0] if shape else 1
        if n_embd not in (-1, length):
            raise Refused(f"{name}: length")
        n_embd = length
        row = np.frombuffer(data[offset : offset + 4 * n_embd], dtype="<f4")
        with np.errstate(over="ignore"):
            rows[il] = rows.get(il, np.zeros(n_embd, dtype=np.float32)) + row * np.float32(strength)  # type: ignore[assignment]
    if n_embd == -1:
        raise Refused("no tensors")
    return np.stack([rows.get(il, np.zeros(n_embd, dtype=np.float32)) for il in range(1, max(rows) + 1)])


def stoi(digits: str) -> int:
    match = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", digits)
    return int(match[1]) if match and -(2**31) <= int(match[1]) < 2**31 else -1


def parse(raw: bytes) -> tuple[dict[str, tuple[int, object]], list[tuple[str, tuple[int, ...], int, int]], bytes]:
    """Keys with their types, tensors (name, shape, type, offset) and the data section; Refused if not well-formed."""
    try:
        return _parse(raw)
    except struct.error as error:
        raise Refused("truncated") from error


def _parse(raw: bytes) -> tuple[dict[str, tuple[int, object]], list[tuple[str, tuple[int, ...], int, int]], bytes]:
    at = 0

    def take(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, raw, at)
        at += struct.calcsize("<" + code)
        return value  # type: ignore[no-any-return]

    def take_text() -> str:
        nonlocal at
        size = take("Q")
        if size > len(raw) - at:
            raise Refused("truncated text")
        at += size
        return raw[at - size : at].decode(errors="surrogateescape")

    def take_value(kind: int) -> object:
        if kind != STRING and kind not in SCALARS:
            raise Refused(f"value type {kind}")
        return take_text() if kind == STRING else take(SCALARS[kind])

    if raw[:4] != b"GGUF" or struct.unpack_from("<I", raw, 4)[0] not in (2, 3):
        raise Refused("magic or version")
    at = 8
    n_tensors, n_values = take("Q"), take("Q")
    values: dict[str, tuple[int, object]] = {}
    for _ in range(n_values):
        name, kind = take_text(), take("I")
        if name in values or not name:
            raise Refused(f"key {name!r}")
        if kind == ARRAY:
            kind = take("I")
            values[name] = kind, [take_value(kind) for _ in range(take("Q"))]
        else:
            values[name] = kind, take_value(kind)
    tensors: list[tuple[str, tuple[int, ...], int, int]] = []
    for _ in range(n_tensors):
        name = take_text()
        shape = tuple(take("Q") for _ in range(take("I")))
        if name in {other[0] for other in tensors}:
            raise Refused(f"tensor {name} twice")
        tensors.append((name, shape, take("I"), take("Q")))
    alignment = int(str(values.get("general.alignment", (U32, 32))[1]))
    if alignment <= 0 or alignment & (alignment - 1):
        raise Refused(f"alignment {alignment}")
    data = raw[at + -at % alignment :]
    end = 0
    for name, shape, kind, offset in tensors:
        size = math.prod(shape) * (4 if kind == F32 else 2)
        if offset != end:
            raise Refused(f"{name}: offset {offset}, expected {end}")
        end += size + -size % alignment
    if len(data) < end:
        raise Refused("truncated data")
    return values, tensors, data
