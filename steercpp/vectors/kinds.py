"""What a GGUF file is by its keys; read this for how a file is told that is not of the kind which is needed."""

from __future__ import annotations

from steercpp.vectors.gguf_header import Header
from steercpp.vectors.notes import ARCHITECTURES

VECTOR, MODEL = "a control vector", "a model"
_BY_TYPE = {"adapter": "a LoRA adapter", "mmproj": "the part of a model that sees images (mmproj)",
            "imatrix": "an importance matrix"}  # fmt: skip
_BY_ARCHITECTURE = {**dict.fromkeys(ARCHITECTURES, VECTOR), "clip": _BY_TYPE["mmproj"], "imatrix": _BY_TYPE["imatrix"]}


def kind_of(header: Header) -> str:
    """What the file is, with its article, such as "a model"; "" where its keys do not say.

    Source: general.type and general.architecture as gguf-py 0.17 and llama.cpp 0c1e57098 write them.
    """
    architecture = header.text("general.architecture")
    if kind := _BY_ARCHITECTURE.get(architecture) or _BY_TYPE.get(header.text("general.type")):
        return kind
    return MODEL if f"{architecture}.block_count" in header.values else ""
