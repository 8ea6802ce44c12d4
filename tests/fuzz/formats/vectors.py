"""Vectors as GGUF and safetensors, and files of activations."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from campaign import Format, command
from mutations import odd_value, spoil_bytes, spoil_document, spoil_json
from vector_bytes import ARRAY, F32_VALUE, F64, I64, STRING, U32, gguf_bytes, key, keys, tensor, text

from steercpp import ControlVector
from steercpp.doctor.loose_vector import read_loosely
from steercpp.extraction.activations_file import FORMAT, read_activations
from steercpp.vectors.formats import read_any_vector, write_any_vector

KINDS = ("gguf", "safetensors")
ALL = {"offsets": (0, 2, 4, 6, 8), "answer_tokens": (1, 0, 1, 1), "tokens": range(8)}


def _intact(folder: Path, kind: str) -> bytes:
    rng = np.random.default_rng(0)
    rows = {il: rng.standard_normal(64).astype(np.float32) for il in (1, 2, 3)}
    metadata = {"method": "mean", "n_pairs": 4, "explained": (0.5, 0.25, 0.125), "auc": (1.0, 1.0, 0.5)}
    path = folder / f"v.{kind}"
    write_any_vector(path, ControlVector(rows, "llama", 8, metadata))  # type: ignore[arg-type]
    _use(path)
    command("show", path)
    return path.read_bytes()


def _number(rng: np.random.Generator) -> int:
    return (
        int(rng.choice([0, 1, 2, 7, 64, 2**16, 2**31 - 1]))
        if rng.random() < 0.8
        else 2 ** int(rng.choice([32, 40, 62]))
    )


def _made_gguf(rng: np.random.Generator) -> bytes:
    """A file from its parts, one or more of them odd."""
    values = np.asarray(rng.standard_normal(64) * float(rng.choice([1, 1, 1e38, np.inf, np.nan])), "f")
    kind, count = (int(rng.choice([0, 1, U32, F32_VALUE, STRING, ARRAY, I64, F64, 13, 255])) for _ in range(2))
    added = [
        key("steercpp.n_layer", U32, struct.pack("<I", _number(rng) % 2**32)),
        key("steercpp.quality", ARRAY, struct.pack("<IQ", kind, _number(rng)) + bytes(int(rng.choice([0, 1 << 20])))),
        key("steercpp.method", STRING, text(str(odd_value(rng))[:1000].encode("utf-8", "replace").decode())),
        key("steercpp.direction.0", ARRAY, struct.pack("<IQ", F32_VALUE, 64) + values.tobytes()),
        key("steercpp.agreement", ARRAY, struct.pack("<IQ3d", F64, 3, np.inf, -1.0, np.nan)),
        key("controlvector.easysteer", STRING, text("[" * int(rng.choice([3, 100_000])))),
        key("general.alignment", U32, struct.pack("<I", _number(rng) % 2**32)),
        key(str(rng.choice(["", "a" * 70_000, "steercpp.", "general.architecture"])), kind, bytes(64)),
    ]  # fmt: skip
    chosen = [one for one in added if rng.random() < 0.25]
    names = [
        "direction.1",
        "direction.1",
        "direction.x",
        "direction.0",
        "direction.511",
        "direction.99999999999",
        "\x00",
    ]
    tensors = [tensor(f"direction.{il}", values.tolist()) for il in (2, 3)]
    if rng.random() < 0.5:
        shape = [_number(rng) for _ in range(int(rng.integers(0, 6)))]
        tensors.append(tensor(names[int(rng.integers(len(names)))], values.tolist(), shape=shape))
    head = keys(str(rng.choice(["controlvector", "controlvector", "steeringvector", "llama"])), count=count)
    data = gguf_bytes([*head, *chosen], tensors, version=int(rng.choice([2, 3, 3, 3, 4])))
    return data if rng.random() < 0.7 else spoil_bytes(data, rng)


def _spoiled_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """Another header, and its length right or not."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    document = json.loads(header)
    if rng.random() < 0.7:
        changed = json.dumps(spoil_document(document, rng)).encode()
    else:
        changed = spoil_json(header.decode(), rng).encode("utf-8", "surrogatepass")
    claimed = len(changed) if rng.random() < 0.9 else _number(rng)
    return struct.pack("<Q", claimed) + changed + body


def _make_vector(kind: str, rng: np.random.Generator, prepared: object, folder: Path) -> None:
    assert isinstance(prepared, bytes)
    if rng.random() < 0.4:
        data = spoil_bytes(prepared, rng)
    else:
        data = _made_gguf(rng) if kind == "gguf" else _spoiled_safetensors(prepared, rng)
    (folder / f"v.{kind}").write_bytes(data)


def _use(path: Path) -> None:
    """As commands read it; one in eight by them."""
    if path.stat().st_size % 8 == 1:
        command("show", path)
    elif path.stat().st_size % 8 == 2:
        command("doctor", path)
    elif path.stat().st_size % 8 == 3:
        command("show", path, "--figure", path.with_suffix(".png"))
    if path.suffix == ".gguf":
        try:
            read_any_vector(path)
        finally:
            read_loosely(path)
    read_any_vector(path)


def _activations(folder: Path) -> tuple[bytes, bytes]:
    """Files with one token of each prompt, and with all."""
    rng = np.random.default_rng(0)
    notes = {"format": FORMAT, "layers": "1,2", "n_layer": "4", "n_pairs": "2", "n_batch": "64", "bos": "1"}
    one = {"activations": rng.standard_normal((2, 2, 2, 16)).astype("f")}
    every = {
        "rows": rng.standard_normal((8, 2, 16)).astype("f"), "tokens": np.array(ALL["tokens"], "i4"),
        "offsets": np.array(ALL["offsets"], "i8"), "answer_tokens": np.array(ALL["answer_tokens"], "i8"),
    }  # fmt: skip
    files = []
    for name, tensors, token in (("one", one, "last"), ("all", every, "all")):
        path = folder / f"{name}.safetensors"
        path.write_bytes(safetensors.numpy.save(tensors, metadata={**notes, "token": token}))
        _use_activations(path)
        files.append(path.read_bytes())
    return files[0], files[1]


def _make_activations(rng: np.random.Generator, prepared: Any, folder: Path) -> None:
    data = prepared[int(rng.integers(2))]
    spoil = _spoiled_safetensors if rng.random() < 0.6 else spoil_bytes
    (folder / "a.safetensors").write_bytes(spoil(data, rng))


def _use_activations(path: Path) -> None:
    read = read_activations(path)
    for il in read.layers:
        read.at(il)
    if b'"token":"all"' in path.read_bytes()[:4096]:
        read_activations(path, token="mean").at(read.layers[0])


FORMATS = (
    *(
        Format(
            kind,
            lambda folder, kind=kind: _intact(folder, kind),  # type: ignore[misc]
            lambda rng, prepared, folder, kind=kind: _make_vector(kind, rng, prepared, folder),  # type: ignore[misc]
            lambda folder, kind=kind: _use(folder / f"v.{kind}"),  # type: ignore[misc]
        )
        for kind in KINDS
    ),
    Format("activations", _activations, _make_activations, lambda folder: _use_activations(folder / "a.safetensors")),
)
