"""How every figure looks: colours, the style of text and axes, and the size in which a figure is drawn."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from steercpp.aliases import Floats

BLUE, ORANGE, VIOLET, GREEN, GREY, INK = "#2f6690", "#d1783c", "#7d5ba6", "#e9f2e9", "#9aa0a6", "#30363d"
LEAF = "#4c956c"
BELOW_PT = 38  # from the axes to a legend: the ticks' and the axis' labels are between them
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e6e8eb", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "legend.fontsize": 9,
    "svg.hashsalt": "steercpp", "figure.dpi": 100, "savefig.dpi": 160,
}  # fmt: skip


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as a "png" or "svg" file, without date or version: the same figure gives the same bytes."""
    data = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format=kind, metadata=metadata)
    return data.getvalue()


def dodged(s: Floats, i: int, n: int) -> Floats:
    """Strengths (n_s,) moved a little, so that the bars of series i of n stand beside those of the others."""
    gap = max(float(np.diff(np.sort(s)).min()), float(np.ptp(s)) / 20) if len(s) > 1 else 1.0
    return np.asarray(s + (i - (n - 1) / 2) * 0.14 * gap)


def new_figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, and room for a legend below them."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def legend_below(figure: Figure, axes: Axes, *, ncols: int = 3) -> None:
    """A legend under the axes' label, where it covers nothing; what was measured comes before what was fitted to it."""
    handles, labels = axes.get_legend_handles_labels()
    fitted = ["fit," in label or label.startswith("recommended") for label in labels]
    order = sorted(range(len(labels)), key=lambda i: (fitted[i], not isinstance(handles[i], ErrorbarContainer)))
    place = axes.transAxes + ScaledTranslation(0, -BELOW_PT / 72, figure.dpi_scale_trans)
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], ncols=ncols, loc="upper left", borderaxespad=0,
        bbox_to_anchor=(0, 0), bbox_transform=place, columnspacing=1.5,
    )  # fmt: skip
