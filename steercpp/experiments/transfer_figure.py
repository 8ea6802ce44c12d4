"""The picture of a transfer: how alike directions are over depth, and the effect of each vector; read to change it."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from steercpp.experiments.transfer_result import Transfer
from steercpp.reports.figures import BLUE, GREEN, GREY, ORANGE, STYLE

LOOKS = {
    "vector-on-a": ("the vector on A", GREY, "s", (0, (4, 2))),
    "vector-on-b": ("the vector on B", BLUE, "o", "-"),
    "own-on-b": ("B's own vector on B", ORANGE, "D", "-"),
}

_TICKS = 9  # strengths that are named below the axis


def transfer_figure(found: Transfer) -> Figure:
    """Cosines over the layers, and B against strength, whichever of them there are."""
    drawn = [draw for draw, there in ((_draw_cosines, found.cosines), (_draw_effect, found.bands)) if there]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(drawn), 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, draw in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            draw(axes, found)
    return figure


def _draw_cosines(axes: Axes, found: Transfer) -> None:
    axes.set(title="How alike the directions are", xlabel="layer", ylabel="cosine")
    layers = [row.layer for row in found.cosines]
    for start, end in _runs(found.layers):
        axes.axvspan(start - 0.4, end + 0.4, color=GREEN, zorder=0, linewidth=0)
    axes.plot(layers, [row.between for row in found.cosines], color=BLUE, marker="o", markersize=4, label="A and B")
    for name, words, colour, marker in (
        ("with_a", "the vector and A", GREY, "s"),
        ("with_b", "the vector and B", ORANGE, "D"),
    ):
        axes.plot(
            layers, [getattr(row, name) for row in found.cosines], color=colour, marker=marker, markersize=5,
            linestyle="", label=words, mfc="none", mew=1.4,
        )  # fmt: skip
    values = np.array([[row.between, row.with_a, row.with_b] for row in found.cosines])
    low = float(np.nanmin(values))
    axes.set_ylim(max(-1.02, low - 0.15 * (1 - low) - 0.002), 1.0 + 0.1 * (1 - low) + 0.002)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")


def _runs(layers: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive layers."""
    starts = [il for il in layers if il - 1 not in layers]
    ends = [il for il in layers if il + 1 not in layers]
    return list(zip(starts, ends, strict=True))


def _draw_effect(axes: Axes, found: Transfer) -> None:
    axes.set(title="What it does", xlabel="strength (share of the residual norm per layer)", ylabel="B, normalised")
    axes.axhline(0, color=GREY, linewidth=0.8)
    for name, band in found.bands.items():
        words, colour, marker, line = LOOKS[name]
        wide = 3.2 if name == "vector-on-b" else 1.3  # so that it is seen below a curve that is the same
        axes.plot(
            band.strengths, band.b, color=colour, marker=marker, markersize=4, linestyle=line, label=words, lw=wide
        )
        if band.found.strength is not None:
            at = band.strengths == band.found.strength
            axes.plot(
                band.strengths[at], band.b[at], marker="o", markersize=12, mfc="none", mec=colour, mew=1.6, linestyle=""
            )
    strengths = next(iter(found.bands.values())).strengths
    axes.set_xscale("symlog", linthresh=float(np.abs(strengths[strengths != 0]).min()), linscale=0.5)
    shown = strengths if len(strengths) <= _TICKS else strengths[:: -(-len(strengths) // _TICKS)]
    axes.set_xticks(shown, [f"{s:g}" for s in shown], fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(-1.06, 1.06)
    axes.plot([], [], "o", markersize=9, mfc="none", mec=GREY, label="surest within the budget")
    axes.legend(loc="lower right")
