"""Random queries and vectors for any model, drawn from a seed."""

from __future__ import annotations

import numpy as np

from steercpp.engine.engine import Engine
from steercpp.engine.packing import Batch, Query
from steercpp.engine.steering import Steering
from steercpp.vectors.control_vector import ControlVector

STRENGTHS = (-4.0, -1.0, -0.3, 0.0, 0.1, 0.5, 1.0, 3.0)  # 0.1 and 0.3 are no float32 numbers: they are rounded first


def random_queries(engine: Engine, rng: np.random.Generator, n_queries: int = 8) -> list[Query]:
    """Prompts of different lengths, each with two continuations of several tokens that share their first one."""
    queries = []
    for length in rng.integers(5, 20, n_queries):
        tokens = rng.integers(3, engine.n_vocab, length + 6).tolist()
        shared, *rest = tokens[length:]
        queries.append(Query((1, *tokens[:length]), ((shared, *rest[:2]), (shared, *rest[2:]))))
    return queries


def random_vector(engine: Engine, rng: np.random.Generator, layers: tuple[int, ...] | None = None) -> ControlVector:
    """Directions as long as the residual stream, so that the strengths above change a lot and destroy nothing."""
    if layers is None:
        layers = (1, engine.n_layer // 2, engine.n_layer - 1)
    norms = engine.residual_norms([query.tokens for query in random_queries(engine, rng)], layers)
    directions = {}
    for il in layers:
        row = rng.standard_normal(engine.n_embd)
        directions[il] = (norms[il] / np.linalg.norm(row) * row).astype(np.float32)
    return ControlVector(directions, engine.architecture, engine.n_layer)


def one_batch(engine: Engine, rng: np.random.Generator, *, apart: bool = False) -> Batch:
    """Eight queries that share their first token; `apart`: none, so that each may have its own strength."""
    vector = ControlVector({1: np.ones(engine.n_embd, np.float32)}, engine.architecture, engine.n_layer)
    own = [Steering(vector, 1.0 + place) for place in range(8)] if apart else None
    (batch,) = engine.pack(random_queries(engine, rng), own)
    return batch


def output_owners(batch: Batch) -> np.ndarray:
    return np.concatenate([part.owners[part.outputs == 1] for part in batch.passes])
