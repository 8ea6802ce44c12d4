"""A control vector from contrast pairs and a model, or from their activations alone: what `steercpp extract` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from steercpp.aliases import FloatArray, Progress
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Template
from steercpp.errors import InputError, LayerError
from steercpp.extraction.activations import collect
from steercpp.extraction.methods import BY_MAJORITY, METHODS, majority
from steercpp.extraction.quality import MOST_PAIRS, NAMES, LayerQuality, direction_with_quality
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.layers import default_layers, format_layers

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine
    from steercpp.extraction.activations import Activations
    from steercpp.extraction.capture import Token


_NOTES = (  # that a vector takes over
    "token", "template", "n_pairs", "pairs_sha256", "model_file", "model_sha256", "template_kwargs", "thinking", "date",
)  # fmt: skip


def extract(
    engine: Engine,
    pairs: Iterable[ContrastPair],
    *,
    method: str = "mean",
    layers: Sequence[int] | None = None,
    template: Template = "auto",
    token: Token = "last",
    progress: Progress | None = None,
) -> ControlVector:
    """Directions of unit length from the activations of one token of each prompt.

    Args:
        engine: the model.
        pairs: gone through twice; an iterator is read into memory first.
        method: a name in `methods.METHODS`.
        layers: where to steer, out of 0..n_layer-1; by default the paper's band of layers.
        template: whether prompts go through the model's chat template.
        token: whose activations, as in `activations.collect`.
        progress: called with the number of prompts done, of all, and a label.

    Returns:
        as `extract_from`.

    Raises:
        LayerError: a layer that the model lacks.
        PairsError, PromptError, EngineError, UnsteerableError: as `activations.collect`.
        InputError, DegenerateError: as `extract_from`.

    >>> found = extract(engine, pairs[:8], layers=[5])
    >>> found.layers, round(found.norms[5], 3)  # unit length
    ((5,), 1.0)
    """
    _check_method(method)
    wanted = _of_model(layers, engine.n_layer)

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, "reading the pairs")

    activations = collect(engine, pairs, template=template, layers=wanted, token=token, progress=report)
    return extract_from(activations, method=method, layers=wanted)


def extract_from(
    activations: Activations,
    *,
    method: str = "mean",
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> ControlVector:
    """Directions of unit length from activations that were captured before; no model is needed.

    Args:
        activations: one layer after the other is brought into memory.
        method: a name in `methods.METHODS`.
        layers: out of those that the activations have; by default the paper's band of layers, and where they lack a
            part of it all that they have.
        progress: called with the number of layers done, of all, and a label.

    Returns:
        A vector whose metadata tell how and from what it was made, as far as the activations tell, and for each layer
        the figures of `quality.LayerQuality`, but those that so few pairs cannot tell. Of a method that takes its sign
        from most pairs it tells their share, too.

    Raises:
        InputError: an unknown method.
        LayerError: a layer that the activations lack.
        DegenerateError, ShapeError, InputError: at one layer the pairs have no direction; the message names it.

    >>> stored = dump(engine, pairs[:8], "pairs.safetensors", layers=[5])
    >>> extract_from(stored, method="pca").metadata["method"]
    'pca'
    """
    _check_method(method)
    n_layer = int(activations.notes.get("n_layer", max(activations.layers) + 1))
    wanted = _of_activations(layers, activations, n_layer)
    directions: dict[int, FloatArray] = {}
    qualities: list[LayerQuality] = []
    majorities: list[float] = []
    # Threads wait by spinning: on small matrices they gain nothing, and where not all cores are free they take 15 times
    # as long.
    with threadpool_limits(1 if activations.n_pairs <= MOST_PAIRS else None, user_api="blas"):
        for place, il in enumerate(wanted):
            positive, negative = activations.at(il)
            try:
                direction, quality = direction_with_quality(positive, negative, method)
            except InputError as error:
                raise type(error)(f"layer {il}: {error}") from error
            directions[il] = direction
            qualities.append(quality)
            if method in BY_MAJORITY:
                majorities.append(majority(positive, negative, direction))
            if progress is not None:
                progress(place + 1, len(wanted), "finding directions")
    architecture = str(activations.notes.get("architecture", ""))
    return ControlVector(directions, architecture, n_layer).with_metadata(
        method=method, layer_convention="applied", unit="length",
        **{key: activations.notes[key] for key in _NOTES if key in activations.notes}, **_by_figure(qualities),
        **({"majority": tuple(majorities)} if majorities else {}), version=version("steercpp"),
    )  # fmt: skip


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; use one of {', '.join(METHODS)}")


def _of_model(layers: Sequence[int] | None, n_layer: int) -> tuple[int, ...]:
    if layers is None:
        return default_layers(n_layer)
    wanted = tuple(sorted(set(layers)))
    if not wanted or wanted[0] < 0 or wanted[-1] >= n_layer:
        raise LayerError(f"layers {list(wanted)}: the model has layers 0..{n_layer - 1}; name at least one of them")
    return wanted


def _of_activations(layers: Sequence[int] | None, activations: Activations, n_layer: int) -> tuple[int, ...]:
    there = tuple(sorted(activations.layers))
    if layers is None:
        band = default_layers(n_layer) if n_layer > 1 else there
        return band if set(band) <= set(there) else there
    wanted = tuple(sorted(set(layers)))
    missing = sorted(set(wanted) - set(there))
    if missing or not wanted:
        problem = f"layer {format_layers(missing)} is not there" if missing else "no layer was named"
        raise LayerError(f"{activations.place}: {problem}; name some of {format_layers(there)}")
    return wanted


def _by_figure(qualities: Sequence[LayerQuality]) -> dict[str, MetaValue]:
    """A tuple parallel to the layers for each figure that every layer has."""
    rows = [asdict(quality) for quality in qualities]
    return {name: tuple(row[name] for row in rows) for name in NAMES if all(row[name] is not None for row in rows)}
