"""The picture of a vector's quality over its layers; read this to change how it looks."""

from __future__ import annotations

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from steercpp.errors import InputError
from steercpp.extraction.quality import NAMES
from steercpp.reports.figures import BLUE, GREY, ORANGE, STYLE
from steercpp.vectors.control_vector import ControlVector

_GREEN, _VIOLET = "#4c956c", "#7b5ea7"
_SEPARATION = {"accuracy": (BLUE, "accuracy"), "auc": (ORANGE, "AUC")}
_DIRECTION = {
    "agreement": (BLUE, "agreement of the pairs"),
    "explained": (ORANGE, "explained share"),
    "stability": (_GREEN, "stability"),
    "norm_ratio": (_VIOLET, "mean difference / norm"),
}


def quality_figure(vector: ControlVector) -> Figure:
    """How well a direction separates held-out pairs, and how sure and strong it is, over the layers.

    Raises:
        InputError: the vector tells no figure of `quality.LayerQuality`.
    """
    figures = {name: values for name in NAMES if (values := _of(vector, name))}
    if not figures:
        raise InputError("the vector does not tell how good its directions are; extract it with steercpp to know")
    method, n_pairs = vector.metadata.get("method"), vector.metadata.get("n_pairs")
    words = ", ".join([*([f"{method}"] if method else ()), *([f"{n_pairs} pairs"] if n_pairs else ())])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        left.axhline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="chance")
        _draw(left, vector, figures, _SEPARATION)
        left.set(title=f"Held-out pairs told apart{f' ({words})' if words else ''}", ylabel="share")
        left.set_ylim(min(0.45, *(min(figures.get(name, (1.0,))) - 0.05 for name in _SEPARATION)), 1.02)
        _draw(right, vector, figures, _DIRECTION)
        lowest = min((min(figures[name]) for name in _DIRECTION if name in figures), default=0.0)
        highest = max((max(figures[name]) for name in _DIRECTION if name in figures), default=1.0)
        right.set(title="The direction and the pairs' differences", ylabel="share or cosine")
        right.set_ylim(min(0.0, lowest - 0.05), max(1.02, highest + 0.05))
    return figure


def _of(vector: ControlVector, name: str) -> tuple[float, ...]:
    """The values of a figure at the vector's layers; none where it is not told for each of them."""
    values = vector.metadata.get(name)
    if not isinstance(values, tuple) or len(values) != len(vector.layers):
        return ()
    return tuple(float(value) for value in values if isinstance(value, int | float))


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
