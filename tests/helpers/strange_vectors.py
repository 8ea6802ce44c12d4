"""Files of control vectors that are damaged, hostile or merely unusual, and what must be told of each."""

from __future__ import annotations

import struct

import numpy as np
from vector_bytes import (
    ARRAY,
    F16,
    STRING,
    U32,
    gguf_bytes,
    key,
    keys,
    tensor,
)

ONE = [1.0, 0.0, 0.0, 0.0]
TWO = [0.0, 0.5, 0.0, -0.5]
GOOD = gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.3", TWO)])
HUGE = struct.pack("<Q", 2**60)
STRANGE = {  # name: (bytes, what the sentence must say, does llama.cpp load it?)
    "empty": (b"", "the file is empty", False),
    "not GGUF": (b"PK\x03\x04" + bytes(60), "not a GGUF file", False),
    "text": (b"positive,negative\n", "not a GGUF file", False),
    "magic only": (b"GGUF", "truncated", False),
    "version 1": (gguf_bytes(keys(), [tensor("direction.1", ONE)], version=1), "of GGUF version 1", False),
    "version 4": (gguf_bytes(keys(), [tensor("direction.1", ONE)], version=4), "of GGUF version 4", False),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian", False),
    "a model": (gguf_bytes(keys("llama"), [tensor("output.weight", ONE)]), "general.architecture: 'llama'", False),
    "another architecture": (
        gguf_bytes(keys("adapter"), [tensor("direction.1", ONE)]), "general.architecture: 'adapter'", True),
    "no architecture": (gguf_bytes([], [tensor("direction.1", ONE)]), "architecture: missing", True),
    "architecture is a number": (
        gguf_bytes([key("general.architecture", U32, bytes(4))], [tensor("direction.1", ONE)]),
        "general.architecture: 0", True),
    "direction.0": (
        gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.0", ONE)]), "direction.0: layer 0", False),
    "hexadecimal": (gguf_bytes(keys(), [tensor("direction.0x5", ONE)]), "direction.0x5: layer 0", False),
    "negative layer": (gguf_bytes(keys(), [tensor("direction.-1", ONE)]), "direction.-1: not a name", False),
    "no layer": (gguf_bytes(keys(), [tensor("direction.", ONE)]), "direction.: not a name", False),
    "no dot": (gguf_bytes(keys(), [tensor("direction", ONE)]), "direction: not a name", False),
    "other name": (
        gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("bias.1", ONE)]), "bias.1: not a name", False),
    "prefixed name": (gguf_bytes(keys(), [tensor("my.direction.1", ONE)]), "my.direction.1: not a name", False),
    "unnamed": (gguf_bytes(keys(), [tensor("", ONE)]), "'': not a name", False),
    "terminal codes in a name": (
        gguf_bytes(keys(), [tensor("\x1b[2Jdirection.1", ONE)]), "'\\x1b[2Jdirection.1': not a name", False),
    "terminal codes behind a layer": (
        gguf_bytes(keys(), [tensor("direction.1\x1b[2J", [np.nan])]), "'direction.1\\x1b[2J': element 0", True),
    "long name": (gguf_bytes(keys(), [tensor("direction.1" + "x" * 60, ONE)]), "71 letters", False),
    "NUL in name": (gguf_bytes(keys(), [tensor("direction.1\0", ONE)]), "llama.cpp refuses", True),
    "layer 512": (gguf_bytes(keys(), [tensor("direction.512", ONE)]), "direction.512: no model has", True),
    "layer 3000000000": (gguf_bytes(keys(), [tensor("direction.3000000000", ONE)]), "no model has", False),
    "same tensor twice": (
        gguf_bytes(keys(), [tensor("direction.1", ONE)] * 2), "direction.1: the tensor is there twice", False),
    "same key twice": (
        gguf_bytes(keys() * 2, [tensor("direction.1", ONE)]), "architecture: the key is there twice", False),
    "F16": (gguf_bytes(keys(), [tensor("direction.1", ONE, kind=F16)]), "direction.1: type F16", False),
    "two axes": (gguf_bytes(keys(), [tensor("direction.1", ONE, shape=(2, 2))]), "direction.1: shape [2, 2]", False),
    "one row of many": (gguf_bytes(keys(), [tensor("direction.1", ONE, shape=(1, 4))]), "shape [1, 4]", False),
    "five axes": (gguf_bytes(keys(), [tensor("direction.1", ONE, shape=(4, 1, 1, 1, 1))]), "5 dimensions", False),
    "no axis": (gguf_bytes(keys(), [tensor("direction.1", [1.0], shape=())]), "shape []", True),
    "no elements": (gguf_bytes(keys(), [tensor("direction.1", [])]), "shape [0]", True),
    "mixed n_embd": (
        gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.2", ONE[:3])]),
        "direction.2: 3 elements where direction.1 has 4; all have one length; extract", False),
    "NaN": (gguf_bytes(keys(), [tensor("direction.1", [1, 2, np.nan, 4])]), "direction.1: element 2 is nan", True),
    "infinity": (gguf_bytes(keys(), [tensor("direction.1", [np.inf, 2])]), "direction.1: element 0 is inf", True),
    "sum overflows": (
        gguf_bytes(keys(), [tensor("direction.1", [3e38]), tensor("direction.01", [3e38])]), "element 0 is inf", True),
    "no tensors": (gguf_bytes(keys(), []), "no tensors direction.<layer>", False),
    "zeros only": (gguf_bytes(keys(), [tensor("direction.1", [0.0] * 4)]), "every direction is zero", True),
    "offset": (gguf_bytes(keys(), [tensor("direction.1", ONE)], offset_error=32), "start at byte 32", False),
    "no padding at the end": (GOOD[:-16], "direction.3: truncated", False),
    "huge tensor": (
        gguf_bytes(keys(), [tensor("direction.1", ONE, shape=(2**60,))]), "direction.1: truncated", False),
    "2^60 keys": (b"GGUF\x03\0\0\0" + bytes(8) + HUGE, "truncated", False),
    "2^60 tensors": (b"GGUF\x03\0\0\0" + HUGE + bytes(8), "truncated", False),
    "2^60 array": (
        gguf_bytes([*keys(), key("steercpp.a", ARRAY, struct.pack("<I", 0) + HUGE)], []), "truncated", False),
    "2^60 letters": (gguf_bytes([*keys(), key("steercpp.a", STRING, HUGE)], []), "truncated", False),
    "array of arrays": (
        gguf_bytes([*keys(), key("steercpp.a", ARRAY, struct.pack("<IQ", ARRAY, 1))], []), "value type 9", False),
    "unknown value type": (gguf_bytes([*keys(), key("steercpp.a", 77, b"")], []), "value type 77", False),
    "nameless key": (gguf_bytes([*keys(), key("", U32, bytes(4))], [tensor("direction.1", ONE)]), "key ''", False),
    "key not UTF-8": (
        gguf_bytes([*keys(), key("a", STRING, struct.pack("<Q", 2) + b"\xff\xfe")], [tensor("direction.1", ONE)]),
        "not UTF-8", True),
    "alignment 3": (
        gguf_bytes([*keys(), key("general.alignment", U32, struct.pack("<I", 3))], [tensor("direction.1", ONE)]),
        "general.alignment: 3", False),
    "alignment 0": (
        gguf_bytes([*keys(), key("general.alignment", U32, bytes(4))], [tensor("direction.1", ONE)]),
        "general.alignment: 0", False),
    "block 0 of another length": (
        gguf_bytes([*keys(), key("steercpp.direction.0", ARRAY, struct.pack("<IQf", 6, 1, 1.0))],
                   [tensor("direction.1", ONE)]), "steercpp.direction.0: 1 elements where the tensors have 4", True),
    "block 0 of integers": (
        gguf_bytes([*keys(), key("steercpp.direction.0", ARRAY, struct.pack("<IQI", 4, 1, 1))],
                   [tensor("direction.1", ONE)]), "steercpp.direction.0: not an array of floats", True),
    "depth below its layers": (
        gguf_bytes([*keys(), key("steercpp.n_layer", U32, struct.pack("<I", 1))], [tensor("direction.1", ONE)]),
        "steercpp.n_layer: 1", True),
    "odd key of ours": (
        gguf_bytes([*keys(), key("steercpp.A b", U32, bytes(4))], [tensor("direction.1", ONE)]), "metadata key", True),
}  # fmt: skip
