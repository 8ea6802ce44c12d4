"""What can be said about a model file before llama.cpp reads it; read this when a model is refused.

llama.cpp explains a failed load in its own words, and some files it should refuse only crash later. The first 24
bytes of a GGUF file settle the usual cases: magic, version (uint32), number of tensors (uint64), of keys (uint64).
Source: ggml/include/gguf.h of llama.cpp 0.5.0.
"""

from __future__ import annotations

import struct
from pathlib import Path

from steercpp.errors import ModelError

OLDEST_VERSION = 2  # llama.cpp refuses version 1
_SIGNS_OF_DAMAGE = ("not within the file bounds", "exceeds remaining file size", "failed to read key-value pairs")
_NO_DECODER = "decoders can be steered"  # of our own two refusals, in native/model.cpp and native/session.cpp
_HEADER = struct.Struct("<4sIQQ")


def check_model_file(path: Path) -> None:
    """Do nothing for a file that looks like a GGUF model with weights.

    Raises:
        ModelError: missing, a folder, unreadable, cut off, not GGUF, of a version llama.cpp refuses, without weights.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER.size)
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read: {error.strerror or error}; check the path") from error
    if head[:4] != b"GGUF":
        fault = "empty" if not head else f"not a GGUF file, it starts with {head[:4]!r}"
        raise ModelError(f"{path}: the file is {fault}; give a model in GGUF form")
    if len(head) < _HEADER.size:
        raise ModelError(f"{path}: the file ends after {len(head)} bytes, inside its header; copy or download it again")
    _, version, n_tensors, _ = _HEADER.unpack(head)
    if version & 0xFFFF == 0:
        raise ModelError(f"{path}: the file is GGUF of the other byte order; convert it for this machine")
    if version < OLDEST_VERSION:
        raise ModelError(f"{path}: GGUF version {version} is too old for llama.cpp; convert the model again")
    if n_tensors == 0:
        raise ModelError(f"{path}: the file holds a vocabulary but no weights; give the model itself")


def load_failure(path: Path, log: str) -> ModelError:
    """The error for a file that llama.cpp refused; `log` is what it logged, parts joined by "; ", maybe nothing."""
    lines = [line.removeprefix("error loading model: ") for line in log.split("; ")]
    reasons = [line for line in lines if "failed to load model" not in line] or ["it gives no reason"]
    if _NO_DECODER in log:
        why = "; ".join(reason for reason in reasons if _NO_DECODER not in reason)
        return ModelError(f"{path}: the model is no decoder: {why}; use a decoder, a model that writes text")
    is_broken = any(sign in log for sign in _SIGNS_OF_DAMAGE)
    step = "copy or download it again" if is_broken else "check that llama.cpp itself can run it"
    return ModelError(f"{path}: llama.cpp cannot use this model: {'; '.join(reasons)}; {step}")
