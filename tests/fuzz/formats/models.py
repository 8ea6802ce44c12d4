"""Model files: headers, vocabularies and tensors that no converter writes, through the library and the commands."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from campaign import Format, command
from hostile_models import bases, hostile_model
from tiny_model import Shape, write_tiny_model

from steercpp.data.prompts import Message
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.engine.template_remarks import template_remarks
from steercpp.errors import SteerError
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

PAIRS = [{"positive": f"I like it, {word}", "negative": f"I hate it, {word}"} for word in ("yes", "no", "very")]

BEHAVIOR = b"".join(
    b'{"kind": "behavior", "prompt": "Is it %s?", "aligned": [" yes"], "misaligned": [" no"]}\n' % word
    for word in (b"good", b"bad", b"new")
)


def prepare(folder: Path) -> dict[str, bytes]:
    """Pairs and a vector for the commands; uses an intact model in each way."""
    pairs = "".join(json.dumps(pair) + "\n" for pair in PAIRS)
    vector = ControlVector({1: np.ones(64, np.float32)}, "llama", n_layer=2)
    write_vector(folder / "v.gguf", vector)
    prepared = {"pairs.jsonl": pairs.encode(), "b.jsonl": BEHAVIOR, "v.gguf": (folder / "v.gguf").read_bytes()}
    for name, data in prepared.items():
        (folder / name).write_bytes(data)
    write_tiny_model(folder / "model.gguf", shape=Shape(n_layer=2, n_embd=64, n_ff=64, n_head=4, n_head_kv=2))
    for way in WAYS:
        way(folder)
    bases()
    return prepared


def make(rng: np.random.Generator, prepared: object, folder: Path) -> None:
    """Draw a model."""
    assert isinstance(prepared, dict)
    for name, data in prepared.items():
        (folder / name).write_bytes(data)
    (folder / "model.gguf").write_bytes(hostile_model(random.Random(int(rng.integers(2**63)))))


def use(folder: Path) -> None:
    """Use it in one way, which its bytes decide."""
    way = zlib.crc32((folder / "model.gguf").read_bytes()) % (3 * len(WAYS))
    (WAYS[way] if way < len(WAYS) else _library)(folder)


def _library(folder: Path) -> None:
    """Decode, steer, capture, generate, write texts and chats; each may be refused, and the others are tried."""
    refused: list[SteerError] = []

    def attempt(call: Callable[[], Any]) -> None:
        try:
            call()
        except SteerError as error:
            assert "\n" not in str(error)
            refused.append(error)

    with Engine(folder / "model.gguf", threads=1) as engine:
        a, b, c, d, e, f = (min(token, engine.n_vocab - 1) for token in (1, 5, 6, 7, 8, 9))
        il = min(1, engine.n_layer - 1)
        vector = ControlVector({il: np.ones(engine.n_embd, np.float32)}, engine.architecture, engine.n_layer)
        chat = (Message("user", "hi"),)

        def decode(**steered: Any) -> None:
            for batch in engine.pack([Query((a, b, c, d), ((e,), (f,))), Query((a, b, f), ((e,),))]):
                engine.logprobs(batch, **steered)

        attempt(decode)
        attempt(lambda: decode(vector=vector, strengths=0.5))
        attempt(lambda: engine.activations([(a, b, c)]))
        attempt(lambda: generate(engine, (a, b, c), [Steering(vector, 0.0), Steering(vector, 0.1)], max_tokens=3))
        attempt(lambda: engine.detokenize(engine.encode("once upon a time")))
        attempt(lambda: engine.encode(chat))
        attempt(lambda: template_remarks(engine.vocabulary))
        json.dumps([engine.settings(), engine.description, engine.vocabulary.pieces], ensure_ascii=False).encode()
    if refused:
        raise refused[-1]


def _extract(folder: Path) -> None:
    command(
        "extract", folder / "model.gguf", "--pairs", folder / "pairs.jsonl", "-o", folder / "new.gguf", "--threads", "1"
    )


def _generate(folder: Path) -> None:
    command("generate", folder / "model.gguf", "--vector", folder / "v.gguf", "-p", "I think", "--unit", "norm",
            "--strengths=0,1", "--max-tokens", "3", "--threads", "1")  # fmt: skip


def _sweep(folder: Path) -> None:
    command("sweep", folder / "model.gguf", "--pairs", folder / "pairs.jsonl", "--out", folder / "run", "--limit", "2",
            "--behavior", folder / "b.jsonl", "--unit", "norm", "--strengths=0,1", "--threads", "1")  # fmt: skip


WAYS = (_library, _extract, _generate, _sweep)
FORMATS = (Format("models", prepare, make, use),)
