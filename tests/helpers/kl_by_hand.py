"""KL after each token, the long way: whole logits of each text on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.vectors.control_vector import ControlVector

Tokens = tuple[int, ...]


def kl_by_hand(engine: Engine, vector: ControlVector, strength: float, texts: Sequence[Tokens]) -> np.ndarray:
    """(n,) KL(steered || unsteered) after each token but BOS at the start; with the same before it, one counts once."""
    found: dict[Tokens, float] = {}
    for text in texts:
        (batch,) = engine.pack([Query(text[:1], ((*text[1:], 0),))])
        steered, plain = (
            log_softmax(engine.logits(batch, vector=vector, strengths=s).astype(np.float64), axis=1)
            for s in (strength, 0.0)
        )
        kl = (np.exp(steered) * (steered - plain)).sum(axis=1)
        found |= {text[: i + 1]: value for i, value in enumerate(kl) if i or text[0] != engine.bos}
    return np.array(list(found.values()))
