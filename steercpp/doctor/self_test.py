"""Checks that steering really happens; read this when `steercpp doctor` reports a failure.

llama.cpp accepts a control vector for models whose graph never uses it, silently. These checks decode a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from steercpp.engine.packing import Batch, Query
from steercpp.errors import VocabularyError
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import default_layers

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine

SENTENCE = "What is measured can be trusted."


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check: what was checked, whether it held, and what was found."""

    name: str
    ok: bool
    detail: str


def run_self_test(engine: Engine) -> tuple[Check, ...]:
    """Three checks on an engine: no steering leaves no trace, steering leaves one, and it is llama.cpp's own.

    Raises:
        UnsteerableError: the model's graph has no activations to steer.
    """
    tokens = sentence_tokens(engine)
    (batch,) = engine.pack([Query(tokens)])
    vector = _test_vector(engine, tokens)
    plain = engine.logits(batch)
    to_zero, moved = _zero(engine, batch, vector, plain), _moves(engine, batch, vector, plain)
    return to_zero, moved, _equals_stock(engine, batch, vector)


def sentence_tokens(engine: Engine) -> tuple[int, ...]:
    """A sentence to decode, or, where the vocabulary lacks some of its characters, tokens from all over it."""
    try:
        return engine.encode(SENTENCE, template="raw")[: engine.n_ctx]
    except VocabularyError:
        return tuple(np.linspace(0, engine.n_vocab - 1, 8).astype(int).tolist())[: engine.n_ctx]


def _test_vector(engine: Engine, tokens: tuple[int, ...]) -> ControlVector:
    """Random directions as long as the residual stream, at the default layers."""
    rng = np.random.default_rng(0)
    layers = default_layers(engine.n_layer)
    norms = engine.residual_norms([tokens], layers)
    directions = {}
    for il in layers:
        row = rng.standard_normal(engine.n_embd)
        directions[il] = (norms[il] / np.linalg.norm(row) * row).astype(np.float32)
    return ControlVector(directions, engine.architecture, engine.n_layer)


def _zero(engine: Engine, batch: Batch, vector: ControlVector, plain: np.ndarray) -> Check:
    zero = engine.logits(batch, vector=vector.scaled(0.0), strengths=1.0)
    n_different = int((zero != plain).sum())
    return Check("a zero vector leaves the logits bit-equal", n_different == 0, f"{n_different} of {plain.size} differ")


def _moves(engine: Engine, batch: Batch, vector: ControlVector, plain: np.ndarray) -> Check:
    largest = float(np.abs(engine.logits(batch, vector=vector, strengths=1.0) - plain).max())
    return Check("a nonzero vector moves the logits", largest > 0, f"by up to {largest:.3g}")


def _equals_stock(engine: Engine, batch: Batch, vector: ControlVector) -> Check:
    ours = engine.logits(batch, vector=vector, strengths=1.0)
    n_different = int((ours != engine.stock_logits(batch, vector)).sum())
    name = "steering equals llama.cpp's own control vector bit for bit"
    return Check(name, n_different == 0, f"{n_different} of {ours.size} logits differ")
