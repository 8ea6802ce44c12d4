"""Figures of vectors: cosines between several over all layers and at each, and how good one is over its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from steercpp.aliases import Floats
from steercpp.errors import InputError
from steercpp.extraction.quality import NAMES
from steercpp.reports.labels import cell_text, number_text, short_names
from steercpp.reports.style import BLUE, DASHED, DIVERGING, GREY, LEAF, ORANGE, STYLE, VIOLET, blank_figure, heat_map
from steercpp.vectors.algebra import cosines, overall_cosines
from steercpp.vectors.control_vector import ControlVector

_LINES = 6  # pairs of vectors that are drawn as lines; more are a map
_LINE_COLORS = (BLUE, ORANGE, "#5b8c5a", "#8a5a9e", "#b0a14a", GREY)
_LETTERS = 12  # of the list of names to an inch
_MOST = 1e6  # of a share, a cosine or a ratio of norms
_SEPARATION = {"accuracy": (BLUE, "accuracy"), "auc": (ORANGE, "AUC")}
_DIRECTION = {
    "agreement": (BLUE, "agreement of the pairs"),
    "explained": (ORANGE, "explained share"),
    "stability": (LEAF, "stability"),
    "norm_ratio": (VIOLET, "mean difference / norm"),
}


def cosine_figure(names: Sequence[str], vectors: Sequence[ControlVector]) -> Figure:
    """On the left the matrix over all layers; on the right each layer, pair by pair.

    Args:
        names: of the vectors, by which they are listed below the matrix; the pictures number them from 1.
        vectors: two or more, of one width.
    """
    n = len(vectors)
    by_layer = cosines(vectors, names=names)
    layers = np.array(sorted({il for vector in vectors for il in vector.layers}))
    pairs = list(combinations(range(n), 2))
    rows = np.array([by_layer[i, j, layers] for i, j in pairs])
    labels = [f"{i + 1}·{j + 1}" for i, j in pairs]
    side = 1.4 + 0.42 * n
    width = max(4.2, 1.2 + 0.13 * len(layers))
    height = max(side + 0.8 + 0.18 * n, 1.4 + 0.17 * len(pairs) if len(pairs) > _LINES else 0)
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(side + width + 0.6, height)
        left, right = figure.subplots(1, 2, width_ratios=[side, width])
        image = _matrix(left, overall_cosines(vectors))
        _list(left, short_names(names, int(_LETTERS * side) - 4))
        if len(pairs) <= _LINES:
            _lines(right, layers, rows, labels, 1.96 / np.sqrt(vectors[0].n_embd))
        else:
            _map(right, layers, rows, labels)
            figure.colorbar(image, ax=right, shrink=0.8, label="cosine")
    return figure


def _list(axes: Axes, names: Sequence[str]) -> None:
    """The names in the room below the matrix."""
    words = "\n".join(f"{place}  {name}" for place, name in enumerate(names, start=1))
    listed = axes.annotate(
        words, (0, 0), xytext=(0, -28), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=9
    )
    listed.set_in_layout(False)


def _matrix(axes: Axes, overall: Floats) -> AxesImage:
    """The cosines over all layers, numbered as the list below."""
    numbers = [str(place) for place in range(1, len(overall) + 1)]
    image = heat_map(axes, overall)
    axes.set(title="Over all layers", xticks=range(len(overall)), yticks=range(len(overall)))
    axes.set(xticklabels=numbers, yticklabels=numbers)
    axes.set_anchor("N")
    for (i, j), cosine in np.ndenumerate(overall):
        cell_text(axes, j, i, number_text(cosine, sign="-"), on_dark=bool(abs(cosine) > 0.6), fontsize=8)
    return image


def _lines(axes: Axes, layers: npt.NDArray[np.int_], rows: Floats, labels: Sequence[str], chance: float) -> None:
    axes.axhspan(-chance, chance, color=GREY, alpha=0.25, linewidth=0, label="chance (95%)")
    for row, label, color in zip(rows, labels, _LINE_COLORS, strict=False):
        axes.plot(layers, row, color=color, linewidth=1.2, marker="o", markersize=3.5, label=label)
    axes.set(title="At each layer", xlabel="layer", ylabel="cosine", ylim=(-1.05, 1.05))
    axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _map(axes: Axes, layers: npt.NDArray[np.int_], rows: Floats, labels: Sequence[str]) -> None:
    axes.imshow(rows, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    step = -(-len(layers) // 20)
    places = range(0, len(layers), step)
    axes.set(title="At each layer (hatched: not in both)", xlabel="layer", ylabel="vectors")
    axes.patch.set(facecolor="white", edgecolor="#dddfe2", hatch="////", linewidth=0)
    axes.set_xticks(list(places), [str(layers[place]) for place in places])
    axes.set_yticks(range(len(labels)), labels, fontsize=7 if len(labels) > 15 else 9)
    axes.grid(False)


def quality_figure(vector: ControlVector) -> Figure:
    """How well a direction separates held-out pairs, and how sure and strong it is, over the layers.

    Raises:
        InputError: the vector's metadata has no figure of `extraction.quality.LayerQuality`.
    """
    figures = {name: values for name in NAMES if (values := _of(vector, name))}
    if not figures:
        raise InputError("the vector does not tell how good its directions are; extract it with steercpp to know")
    method, n_pairs = vector.metadata.get("method"), vector.metadata.get("n_pairs")
    words = ", ".join([*([f"{method}"] if method else ()), *([f"{n_pairs} pairs"] if n_pairs else ())])
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(10.4, 4.2)
        left, right = figure.subplots(1, 2)
        left.axhline(0.5, color=GREY, linewidth=0.8, linestyle=DASHED, label="chance")
        _draw(left, vector, figures, _SEPARATION)
        left.set(title=f"Held-out pairs separated{f' ({words})' if words else ''}", ylabel="share")
        left.set_ylim(min(0.45, *(np.nanmin(figures.get(name, (1.0,))) - 0.05 for name in _SEPARATION)), 1.02)
        _draw(right, vector, figures, _DIRECTION)
        lowest = min((np.nanmin(figures[name]) for name in _DIRECTION if name in figures), default=0.0)
        highest = max((np.nanmax(figures[name]) for name in _DIRECTION if name in figures), default=1.0)
        right.set(title="The direction and the pairs' differences", ylabel="share or cosine")
        right.set_ylim(min(0.0, lowest - 0.05), max(1.02, highest + 0.05))
    return figure


def _of(vector: ControlVector, name: str) -> tuple[float, ...]:
    """The values of a figure at the vector's layers; none where one is missing."""
    values = vector.metadata.get(name)
    if not isinstance(values, tuple) or len(values) != len(vector.layers):
        return ()
    drawn = [float(value) for value in values if isinstance(value, int | float)]
    drawn = [value if abs(value) < _MOST else math.nan for value in drawn]  # a gap: a file may say anything
    return tuple(drawn) if any(value == value for value in drawn) else ()


def _draw(
    axes: Axes, vector: ControlVector, figures: dict[str, tuple[float, ...]], which: dict[str, tuple[str, str]]
) -> None:
    for place, (name, (color, label)) in enumerate(which.items()):
        width, size = (2.8, 7) if place == 0 else (1.3, 4)  # the second line often lies on the first
        if name in figures:
            axes.plot(
                vector.layers, figures[name], color=color, linewidth=width, marker="o", markersize=size, label=label
            )
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(vector.layers) == 1:
        axes.set_xlim(vector.layers[0] - 1, vector.layers[0] + 1)
    axes.legend(loc="best")
