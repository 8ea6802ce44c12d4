"""The picture of a scan: effect against loss, and effect over depth or by method; read this to change how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from steercpp.experiments.scan_result import Band, Scan
from steercpp.reports.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from steercpp.statistics.scores import Floats

Box: TypeAlias = tuple[float, float, float, float]  # left, low, right, high

COLOURS = (BLUE, ORANGE, "#4c956c", "#7b5ea7", "#b5485d", "#2a9d9d", "#8a6d3b")
CROWD = 24  # bands; with more of them their curves are paler, and only the best is labelled


def scan_figure(found: Scan) -> Figure:
    """Each sweep's way from strength 0 outwards, gain against loss; beside it what each gains within the budget."""
    one_window = len(found.windows) == 1 and len(found.methods) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        colours = _colours(found)
        _draw_ways(left, found, colours, by_method=len(found.methods) > 1)
        if one_window:
            _draw_methods(right, found, colours)
        else:
            _draw_depth(right, found, colours)
    return figure


def _colours(found: Scan) -> dict[Band, str]:
    """By method where there are several, random in grey; otherwise single layers and bands apart."""
    if len(found.methods) == 1:
        return {band: BLUE if len(band.layers) == 1 else ORANGE for band in found.bands}
    others = [method for method in found.methods if method != "random"]
    by_method = {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(others)} | {"random": GREY}
    return {band: by_method[band.method] for band in found.bands}


def _draw_ways(axes: Axes, found: Scan, colours: dict[Band, str], *, by_method: bool) -> None:
    """Gain against loss, a line for each sweep, its chosen strength marked."""
    crowded = len(found.bands) > CROWD
    axes.set(title="What is gained for what is lost", xlabel="loss of P(correct)", ylabel="gain in P+ − P−, all items")
    axes.axvspan(-1, found.max_loss, color=GREEN, zorder=0, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    marked: list[tuple[float, float, str, str]] = []
    for band in sorted(found.bands, key=lambda each: each is found.best):
        is_best = band is found.best
        losses, gains, place = _way(band, found.direction)
        single = len(band.layers) == 1
        end = 0 if place is None else place + 1
        axes.plot(
            losses[:end], gains[:end], color=colours[band], linewidth=2.2 if is_best else 1.2,
            alpha=0.4 if crowded and not is_best else 0.9, zorder=4 if is_best else 2,
        )  # fmt: skip
        beyond = slice(max(end - 1, 0), None)
        axes.plot(losses[beyond], gains[beyond], color=colours[band], linewidth=0.8, alpha=0.3)
        if place is None:
            continue
        x, y = losses[place], gains[place]
        axes.plot(x, y, marker="o" if single else "s", color=colours[band], markersize=9 if is_best else 5, zorder=5)
        if is_best or not crowded:
            marked.append((float(x), float(y), band.method if by_method else band.name, colours[band]))
    shown = [y for _, y, _, _ in marked] or [0.0, 1.0]
    axes.set_xlim(-0.35 * found.max_loss, 2 * found.max_loss)
    spread = max(*shown, 0.0) - min(*shown, 0.0)
    axes.set_ylim(min(*shown, 0.0) - 0.12 * spread, max(*shown, 0.0) + 0.12 * spread)
    _label(axes, list(reversed(marked)))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
    axes.text(
        found.max_loss, axes.get_ylim()[0], f" budget {found.max_loss:.0%} ", ha="right", va="bottom", fontsize=8,
        color="#5b7f5b",
    )  # fmt: skip


def _way(band: Band, direction: int) -> tuple[Floats, Floats, int | None]:
    """Losses and gains from strength 0 outwards, and where on the way the chosen strength is."""
    wanted = np.flatnonzero(band.strengths * direction >= 0)
    wanted = wanted[np.argsort(np.abs(band.strengths[wanted]))]
    place = (
        None if band.found.strength is None else int(np.flatnonzero(band.strengths[wanted] == band.found.strength)[0])
    )
    return band.losses[wanted], band.gains[wanted], place


def _draw_depth(axes: Axes, found: Scan, colours: dict[Band, str]) -> None:
    """What each band gains at its strength, over the layers it covers; whiskers reach down to the lower bounds."""
    axes.set(title="Over depth", xlabel="layer", ylabel=f"gain in P+ − P− within {found.max_loss:.0%} loss")
    axes.axhline(0, color=GREY, linewidth=0.8)
    for method in found.methods:
        mine = [band for band in found.bands if band.method == method and band.found.reported_on is not None]
        singles = [band for band in mine if len(band.layers) == 1]
        axes.plot(
            [band.layers[0] for band in singles], [_gain(band) for band in singles], linewidth=1, alpha=0.5,
            color=colours[singles[0]] if singles else GREY,
        )  # fmt: skip
        for band in mine:
            centre = (band.layers[0] + band.layers[-1]) / 2
            if len(band.layers) > 1:
                ends = [band.layers[0], band.layers[-1]]
                axes.plot(ends, [_gain(band)] * 2, color=colours[band], linewidth=4, alpha=0.8, solid_capstyle="round")
            else:
                axes.plot(centre, _gain(band), "o", color=colours[band], markersize=6)
            axes.vlines(centre, _low(band), _gain(band), color=colours[band], linewidth=1)
    if (best := found.best) is not None:
        centre = (best.layers[0] + best.layers[-1]) / 2
        axes.annotate(
            f"best: {best.name} ", (centre, _gain(best)), xytext=(0, 9), textcoords="offset points", ha="right",
            fontsize=9, fontweight="bold",
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)
    _legend(axes, found, colours)


def _draw_methods(axes: Axes, found: Scan, colours: dict[Band, str]) -> None:
    """What each method gains at its strength, the best on top; whiskers reach down to the lower bounds."""
    axes.set(
        title=f"By method, layer{'s' if len(found.windows[0]) > 1 else ''} {found.bands[0].name}",
        xlabel=f"gain in P+ − P− within {found.max_loss:.0%} loss",
    )
    axes.axvline(0, color=GREY, linewidth=0.8)
    ordered = sorted(found.bands, key=lambda band: _gain(band) if band.found.reported_on else -np.inf)
    for y, band in enumerate(ordered):
        if band.found.reported_on is None:
            axes.text(0, y, " nothing within the budget", va="center", fontsize=8, color=GREY)
            continue
        axes.plot(_gain(band), y, "o", color=colours[band], markersize=9 if band is found.best else 6)
        axes.hlines(y, _low(band), _gain(band), color=colours[band], linewidth=1.4)
        axes.annotate(
            f"at {band.found.strength:+g}", (_gain(band), y), xytext=(9, 0), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(ordered)), [band.method for band in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.margins(x=0.16)
    axes.grid(axis="y", visible=False)


def _legend(axes: Axes, found: Scan, colours: dict[Band, str]) -> None:
    if len(found.methods) > 1:
        for method in found.methods:
            colour = next(colours[band] for band in found.bands if band.method == method)
            axes.plot([], [], "o", color=colour, label=method)
    else:
        if any(len(band.layers) == 1 for band in found.bands):
            axes.plot([], [], "o-", color=BLUE, label="single layers", linewidth=1)
        if any(len(band.layers) > 1 for band in found.bands):
            axes.plot([], [], color=ORANGE, linewidth=4, label="bands", marker="s", markersize=5)
    axes.legend(loc="best")


def _label(axes: Axes, marked: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside points (x, y, name, colour), the first ones first; where there is no room, none.

    Boxes are told in shares of the axes, by the width of a letter and the height of a line in a panel of this size.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = [((x - left) / (right - left), (y - low) / (high - low)) for x, y, _, _ in marked]
    taken = [(a - 0.012, b - 0.018, a + 0.012, b + 0.018) for a, b in points]
    for (a, b), (x, y, name, colour) in zip(points, marked, strict=True):
        width, height = 0.008 + 0.016 * len(name), 0.04
        for side, rise in ((1, 0.5), (-1, 0.5), (1, -1.5), (-1, -1.5), (1, 1.6), (-1, 1.6)):
            near = a + side * 0.016
            box = (min(near, near + side * width), b + (rise - 0.5) * height, max(near, near + side * width), 0.0)
            box = (*box[:3], box[1] + height)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    name, (x, y), xytext=(near, box[1] + height / 2), textcoords="axes fraction", fontsize=8.5,
                    ha="left" if side > 0 else "right", va="center", color=colour, zorder=6,
                    fontweight="bold" if x == marked[0][0] and y == marked[0][1] else "normal",
                )  # fmt: skip
                break


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _gain(band: Band) -> float:
    assert band.found.reported_on is not None
    return band.found.reported_on.gain


def _low(band: Band) -> float:
    assert band.found.reported_on is not None
    return band.found.reported_on.gain_low
