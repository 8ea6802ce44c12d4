"""Activations of contrast pairs; read this for what a direction is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.errors import ContextOverflowError, PairsError, PromptError, ShapeError
from steercpp.pairs import ContrastPair
from steercpp.prompts import Prompt, Template

if TYPE_CHECKING:
    from steercpp.engine import Engine, Progress

FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """Last-token activations of contrast pairs.

    Attributes:
        values: (n_pairs, 2, n_layers, n_embd) float32, the positive prompt first.
        layers: the layer of each row along the third axis.
    """

    values: FloatArray
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.shape[1] != 2 or self.values.shape[2] != len(self.layers):
            expected = f"(n_pairs, 2, {len(self.layers)}, n_embd)"
            raise ShapeError(f"activations: expected {expected}, got {self.values.shape}")

    def at(self, layer: int) -> tuple[FloatArray, FloatArray]:
        """Activations of the positive and of the negative prompts at a layer, (n_pairs, n_embd) each."""
        place = self.layers.index(layer)
        return self.values[:, 0, place], self.values[:, 1, place]


def collect(
    engine: Engine,
    pairs: Sequence[ContrastPair],
    *,
    template: Template = "auto",
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Activations:
    """Decode both prompts of every pair and keep the activations of their last tokens.

    Args:
        engine: the model.
        pairs: at least one.
        template: how prompts become text, see `Vocabulary.render`.
        layers: which layers; by default all.
        progress: called with the number of prompts done and of all.

    Raises:
        PairsError: no pairs.
        PromptError, ContextOverflowError: a prompt that cannot be rendered or is too long, with the pair's place or id.
        LayerError, UnsteerableError: layers that the model lacks.
    """
    if not pairs:
        raise PairsError("no pairs were given; a direction needs at least one")
    prompts = [
        _tokens(engine, prompt, f"{pair.place or f'pair {pair.id}'}: {side} prompt", template)
        for pair in pairs
        for side, prompt in (("positive", pair.positive), ("negative", pair.negative))
    ]
    chosen = tuple(range(engine.n_layer)) if layers is None else tuple(layers)
    values = engine.activations(prompts, layers=chosen, progress=progress)
    return Activations(values.reshape(len(pairs), 2, len(chosen), engine.n_embd), chosen)


def _tokens(engine: Engine, prompt: Prompt, place: str, template: Template) -> tuple[int, ...]:
    try:
        tokens = engine.encode(prompt, template=template)
    except PromptError as error:
        raise PromptError(f"{place}: {error}") from error
    if len(tokens) > engine.n_ctx:
        raise ContextOverflowError(
            f"{place}: {len(tokens)} tokens, the context holds {engine.n_ctx}; shorten it or raise --n-ctx"
        )
    return tokens
