"""A control vector from a model and contrast pairs: the flow behind `steercpp extract`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from steercpp.activations import collect
from steercpp.control_vector import ControlVector, FloatArray, default_layers
from steercpp.directions import METHODS, explained_share
from steercpp.errors import DegenerateError, InputError, LayerError
from steercpp.pairs import ContrastPair, pairs_sha256
from steercpp.prompts import Template

if TYPE_CHECKING:
    from steercpp.activations import Activations
    from steercpp.engine import Engine


def extract(
    engine: Engine,
    pairs: Iterable[ContrastPair],
    *,
    method: str = "mean",
    layers: Sequence[int] | None = None,
    template: Template = "auto",
    progress: Callable[[int, int, str], None] | None = None,
) -> ControlVector:
    """Directions of unit length from the activations of each prompt's last token.

    Args:
        engine: the model.
        pairs: read once, kept in memory.
        method: a name in `directions.METHODS`.
        layers: where to steer, out of 0..n_layer-1; by default the paper's band of layers.
        template: whether prompts go through the model's chat template.
        progress: called with the number of prompts done, of all, and a label.

    Returns:
        A vector whose metadata tell how and from what it was made, and for each layer the share of the pair
        differences' squared length that lies along the direction (`explained`).

    Raises:
        InputError: an unknown method.
        LayerError: a layer that the model lacks.
        DegenerateError: at one layer the pairs have no direction; the message names it.
        PairsError, PromptError, EngineError, UnsteerableError: as `activations.collect`.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; use one of {', '.join(METHODS)}")
    wanted = _checked(layers, engine.n_layer)
    pairs = tuple(pairs)

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, "prompts")

    activations = collect(engine, pairs, template=template, layers=wanted, progress=report)
    directions, explained = _directions(activations, method)
    return ControlVector(directions, engine.architecture, engine.n_layer).with_metadata(
        method=method,
        layer_convention="applied",
        token="last",
        template=template,
        unit="length",
        explained=explained,
        n_pairs=len(pairs),
        pairs_sha256=pairs_sha256(pairs),
        model_file=engine.path.name,
        model_sha256=engine.sha256,
        version=version("steercpp"),
    )


def _checked(layers: Sequence[int] | None, n_layer: int) -> tuple[int, ...]:
    if layers is None:
        return default_layers(n_layer)
    wanted = tuple(sorted(set(layers)))
    if not wanted or wanted[0] < 0 or wanted[-1] >= n_layer:
        raise LayerError(f"layers {list(wanted)}: the model has layers 0..{n_layer - 1}; name at least one of them")
    return wanted


def _directions(activations: Activations, method: str) -> tuple[dict[int, FloatArray], tuple[float, ...]]:
    directions: dict[int, FloatArray] = {}
    explained = []
    for il in activations.layers:
        positive, negative = activations.at(il)
        try:
            directions[il] = METHODS[method](positive, negative)
            explained.append(explained_share(positive, negative, directions[il]))
        except DegenerateError as error:
            raise DegenerateError(f"layer {il}: {error}") from error
    return directions, tuple(explained)


def in_norm_units(
    engine: Engine, vector: ControlVector, prompts: Sequence[Sequence[int]]
) -> tuple[ControlVector, dict[int, float]]:
    """The vector with each tensor brought to the residual stream's median norm at its layer.

    Args:
        engine: the model.
        vector: directions of any length.
        prompts: tokens over which the norms are taken.

    Returns:
        the vector, whose strength 1 is one residual norm at each layer, and those norms.

    Raises:
        DegenerateError, ...: as `Engine.residual_norms`.
    """
    lengths = engine.residual_norms(prompts, vector.layers)
    factors = {il: lengths[il] / norm if norm else 0.0 for il, norm in vector.norms.items()}
    return vector.scaled(factors), lengths
