"""The same GGUF file with other keys, byte for byte: for headers that nobody's writer would write."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from gguf.constants import GGUFValueType

from steercpp.vectors.gguf_header import Scalar, Value, read_header

_FORMATS = {
    GGUFValueType.UINT8: "B", GGUFValueType.INT8: "b", GGUFValueType.UINT16: "H", GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I", GGUFValueType.INT32: "i", GGUFValueType.FLOAT32: "f", GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q", GGUFValueType.INT64: "q", GGUFValueType.FLOAT64: "d",
}  # fmt: skip


def write_with_keys(source: Path, target: Path, changes: Mapping[str, Value | None]) -> Path:
    """Write a file's tensors under changed keys; None takes a key away."""
    with open(source, "rb") as file:
        header = read_header(file, source)
    values = {key: value for key, value in (header.values | dict(changes)).items() if value is not None}
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(header.tensors), len(values))
    for key, value in values.items():
        head += _item(GGUFValueType.STRING, key)
        if isinstance(value.value, tuple):
            head += struct.pack("<IIQ", GGUFValueType.ARRAY, value.type, len(value.value))
            head += b"".join(_item(value.type, item) for item in value.value)
        else:
            head += struct.pack("<I", value.type) + _item(value.type, value.value)
    for tensor in header.tensors:
        head += _item(GGUFValueType.STRING, tensor.name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, tensor.type, tensor.offset)
    head += bytes(-len(head) % header.alignment)
    target.write_bytes(head + source.read_bytes()[header.data_start :])
    return target


def _item(kind: GGUFValueType, value: Scalar) -> bytes:
    if kind != GGUFValueType.STRING:
        return struct.pack(f"<{_FORMATS[kind]}", value)
    text = str(value).encode()
    return struct.pack("<Q", len(text)) + text
