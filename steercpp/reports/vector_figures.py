"""The picture of `steercpp compare`: cosines between vectors over all layers and at each; read this to change it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeAlias

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from steercpp.reports.figures import BLUE, GREY, INK, ORANGE, STYLE
from steercpp.vectors.algebra import cosines, overall_cosines
from steercpp.vectors.control_vector import ControlVector

Floats: TypeAlias = npt.NDArray[np.float64]

_COLOURS = LinearSegmentedColormap.from_list("cosine", [ORANGE, "#f6f7f8", BLUE])
_LINES = 6  # pairs of vectors that are drawn as lines; more are a map
_LINE_COLOURS = (BLUE, ORANGE, "#5b8c5a", "#8a5a9e", "#b0a14a", GREY)
_LETTERS = 12  # of the list of names to an inch


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
        figure = Figure(figsize=(side + width + 0.6, height), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=[side, width])
        image = _matrix(left, overall_cosines(vectors))
        _list(left, [_short(name, int(_LETTERS * side) - 4) for name in names])
        if len(pairs) <= _LINES:
            _lines(right, layers, rows, labels, 1.96 / np.sqrt(vectors[0].n_embd))
        else:
            _map(right, layers, rows, labels)
            figure.colorbar(image, ax=right, shrink=0.8, label="cosine")
    return figure


def _short(name: str, n_letters: int) -> str:
    """The end of a name, which tells most of it."""
    printable = "".join(letter if letter.isprintable() and letter != "$" else "?" for letter in name)
    return printable if len(printable) <= n_letters else f"…{printable[1 - n_letters :]}"


def _list(axes: Axes, names: Sequence[str]) -> None:
    """The names in the room below the matrix."""
    words = "\n".join(f"{place}  {name}" for place, name in enumerate(names, start=1))
    listed = axes.annotate(
        words, (0, 0), xytext=(0, -28), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=9
    )
    listed.set_in_layout(False)


def _matrix(axes: Axes, overall: Floats) -> AxesImage:
    n = len(overall)
    image = axes.imshow(overall, cmap=_COLOURS, vmin=-1, vmax=1)
    for i in range(n):
        for j in range(n):
            known = np.isfinite(overall[i, j])
            words = f"{round(overall[i, j], 2) + 0.0:.2f}".replace("-", "−") if known else "–"
            strong = known and abs(overall[i, j]) > 0.6
            axes.text(j, i, words, ha="center", va="center", fontsize=8, color="white" if strong else INK)
    ticks = [str(place + 1) for place in range(n)]
    axes.set(title="Over all layers", xticks=range(n), yticks=range(n), xticklabels=ticks, yticklabels=ticks)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_anchor("N")
    return image


def _lines(axes: Axes, layers: npt.NDArray[np.int_], rows: Floats, labels: Sequence[str], chance: float) -> None:
    axes.axhspan(-chance, chance, color=GREY, alpha=0.25, linewidth=0, label="chance (95 %)")
    for row, label, colour in zip(rows, labels, _LINE_COLOURS, strict=False):
        axes.plot(layers, row, color=colour, linewidth=1.2, marker="o", markersize=3.5, label=label)
    axes.set(title="At each layer", xlabel="layer", ylabel="cosine", ylim=(-1.05, 1.05))
    axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _map(axes: Axes, layers: npt.NDArray[np.int_], rows: Floats, labels: Sequence[str]) -> None:
    axes.imshow(rows, cmap=_COLOURS, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    step = -(-len(layers) // 20)
    places = range(0, len(layers), step)
    axes.set(title="At each layer (hatched: not in both)", xlabel="layer", ylabel="vectors")
    axes.patch.set(facecolor="white", edgecolor="#dddfe2", hatch="////", linewidth=0)
    axes.set_xticks(list(places), [str(layers[place]) for place in places])
    axes.set_yticks(range(len(labels)), labels, fontsize=7 if len(labels) > 15 else 9)
    axes.grid(False)
