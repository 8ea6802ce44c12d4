"""The pictures of a scan, of a transfer and of a matrix of cross effects; read this to change how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from steercpp.aliases import Floats
from steercpp.experiments.cross import Change, CrossEffects
from steercpp.experiments.scan import Band, Scan
from steercpp.experiments.transfer import Transfer
from steercpp.reports.labels import beside, cell_text, free_boxes, number_text, short_names
from steercpp.reports.style import BLUE, GREEN, GREY, LEAF, ORANGE, STYLE, VIOLET, blank_figure, heat_map
from steercpp.statistics.rounded import chosen_percent

COLORS = (BLUE, ORANGE, LEAF, VIOLET, "#56b4e9", "#e69f00", "#8a6d3b")
CROWD = 24  # bands; with more of them their curves are paler, and only the best is labeled
SIDES = ((1, 0.5), (-1, 0.5), (1, -1.5), (-1, -1.5), (1, 1.6), (-1, 1.6))  # of a point: to the right or left, lines up
LINE = 0.04  # height of a line of text, in heights of the axes

# Of a transfer's runs: words, color, marker and line.
LOOKS = {
    "vector-on-a": ("the vector on A", GREY, "s", (0, (4, 2))),
    "vector-on-b": ("the vector on B", BLUE, "o", "-"),
    "own-on-b": ("B's own vector on B", ORANGE, "D", "-"),
}
_TICKS = 9  # strengths that are named below the axis

_LETTERS = 18  # of a name in a matrix of cross effects
_CELL, _HEIGHT = 1.15, 0.62  # inches


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a point."""

    x: float
    y: float
    name: str
    color: str


def scan_figure(scan: Scan) -> Figure:
    """Each sweep's way from strength 0 outwards, gain against loss; beside it what each gains within the budget."""
    one_window = len(scan.windows) == 1 and len(scan.methods) > 1
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(10.4, 4.6)
        left, right = figure.subplots(1, 2)
        colors = _colors(scan)
        _draw_ways(left, scan, colors, by_method=len(scan.methods) > 1)
        if one_window:
            _draw_methods(right, scan, colors)
        else:
            _draw_depth(right, scan, colors)
    return figure


def _colors(scan: Scan) -> dict[Band, str]:
    """By method where there are several, random in grey; otherwise single layers and bands apart."""
    if len(scan.methods) == 1:
        return {band: BLUE if len(band.layers) == 1 else ORANGE for band in scan.bands}
    others = [method for method in scan.methods if method != "random"]
    by_method = {method: COLORS[i % len(COLORS)] for i, method in enumerate(others)} | {"random": GREY}
    return {band: by_method[band.method] for band in scan.bands}


def _draw_ways(axes: Axes, scan: Scan, colors: dict[Band, str], *, by_method: bool) -> None:
    """Gain against loss, a line for each sweep, its chosen strength marked."""
    crowded = len(scan.bands) > CROWD
    axes.set(
        title="What is gained for what is lost", xlabel=f"loss of {scan.helpfulness}", ylabel="gain in B, all items"
    )
    axes.axvspan(-1, scan.max_loss, color=GREEN, zorder=0, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    marked: list[Label] = []
    for band in sorted(scan.bands, key=lambda band: band is scan.best):  # the best is drawn last, over the others
        is_best = band is scan.best
        losses, gains, place = _way(band, scan.direction)
        single = len(band.layers) == 1
        end = 0 if place is None else place + 1
        axes.plot(
            losses[:end], gains[:end], color=colors[band], linewidth=2.2 if is_best else 1.2,
            alpha=0.4 if crowded and not is_best else 0.9, zorder=4 if is_best else 2,
        )  # fmt: skip
        beyond = slice(max(end - 1, 0), None)
        axes.plot(losses[beyond], gains[beyond], color=colors[band], linewidth=0.8, alpha=0.3)
        if place is None:
            continue
        x, y = losses[place], gains[place]
        axes.plot(x, y, marker="o" if single else "s", color=colors[band], markersize=9 if is_best else 5, zorder=5)
        if is_best or not crowded:
            marked.append(Label(float(x), float(y), band.method if by_method else band.name, colors[band]))
    shown = [label.y for label in marked] or [0.0, 1.0]
    axes.set_xlim(-0.35 * scan.max_loss, 2 * scan.max_loss)
    spread = (max(*shown, 0.0) - min(*shown, 0.0)) or 1.0
    axes.set_ylim(min(*shown, 0.0) - 0.12 * spread, max(*shown, 0.0) + 0.12 * spread)
    if marked:
        _label(axes, marked[::-1])
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.text(
        scan.max_loss, axes.get_ylim()[0], f" budget {chosen_percent(scan.max_loss)} ", ha="right", va="bottom",
        fontsize=8, color="#5b7f5b",
    )  # fmt: skip


def _way(band: Band, direction: int) -> tuple[Floats, Floats, int | None]:
    """Losses and gains from strength 0 outwards, and where on the way the chosen strength is."""
    wanted = np.flatnonzero(band.strengths * direction >= 0)
    wanted = wanted[np.argsort(np.abs(band.strengths[wanted]))]
    place = (
        None if band.found.strength is None else int(np.flatnonzero(band.strengths[wanted] == band.found.strength)[0])
    )
    return band.losses[wanted], band.gains[wanted], place


def _draw_depth(axes: Axes, scan: Scan, colors: dict[Band, str]) -> None:
    """What each band gains at its strength, over the layers it covers; whiskers reach down to the lower bounds."""
    axes.set(title="Over depth", xlabel="layer", ylabel=f"gain in B within {chosen_percent(scan.max_loss)} loss")
    axes.axhline(0, color=GREY, linewidth=0.8)
    for method in scan.methods:
        mine = [band for band in scan.bands if band.method == method and band.found.reported_on is not None]
        singles = [band for band in mine if len(band.layers) == 1]
        axes.plot(
            [band.layers[0] for band in singles], [_gain(band) for band in singles], linewidth=1, alpha=0.5,
            color=colors[singles[0]] if singles else GREY,
        )  # fmt: skip
        for band in mine:
            centre = (band.layers[0] + band.layers[-1]) / 2
            if len(band.layers) > 1:
                ends = [band.layers[0], band.layers[-1]]
                axes.plot(ends, [_gain(band)] * 2, color=colors[band], linewidth=4, alpha=0.8, solid_capstyle="round")
            else:
                axes.plot(centre, _gain(band), "o", color=colors[band], markersize=6)
            axes.vlines(centre, _low(band), _gain(band), color=colors[band], linewidth=1)
    if (best := scan.best) is not None:
        centre = (best.layers[0] + best.layers[-1]) / 2
        beside(axes, f"best: {best.name} ", (centre, _gain(best)), (0, 9), ha="right", fontsize=9, fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)
    _legend(axes, scan, colors)


def _draw_methods(axes: Axes, scan: Scan, colors: dict[Band, str]) -> None:
    """What each method gains at its strength, the best on top; whiskers reach down to the lower bounds."""
    axes.set(
        title=f"By method, layer{'s' if len(scan.windows[0]) > 1 else ''} {scan.bands[0].name}",
        xlabel=f"gain in B within {chosen_percent(scan.max_loss)} loss",
    )
    axes.axvline(0, color=GREY, linewidth=0.8)
    ordered = sorted(scan.bands, key=lambda band: _gain(band) if band.found.reported_on else -np.inf)
    for y, band in enumerate(ordered):
        if band.found.reported_on is None:
            axes.text(0, y, " nothing within the budget", va="center", fontsize=8, color=GREY)
            continue
        axes.plot(_gain(band), y, "o", color=colors[band], markersize=9 if band is scan.best else 6)
        axes.hlines(y, _low(band), _gain(band), color=colors[band], linewidth=1.4)
        beside(axes, f"at {band.found.strength:+g}", (_gain(band), y), (9, 0), va="center", fontsize=8)
    axes.set_yticks(range(len(ordered)), [band.method for band in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.margins(x=0.16)
    axes.grid(axis="y", visible=False)


def _legend(axes: Axes, scan: Scan, colors: dict[Band, str]) -> None:
    if len(scan.methods) > 1:
        for method in scan.methods:
            color = next(colors[band] for band in scan.bands if band.method == method)
            axes.plot([], [], "o", color=color, label=method)
    else:
        if any(len(band.layers) == 1 for band in scan.bands):
            axes.plot([], [], "o-", color=BLUE, label="single layers", linewidth=1)
        if any(len(band.layers) > 1 for band in scan.bands):
            axes.plot([], [], color=ORANGE, linewidth=4, label="bands", marker="s", markersize=5)
    axes.legend(loc="best")


def _label(axes: Axes, marked: Sequence[Label]) -> None:
    """Names beside points, the first ones first; where there is no room, none.

    Boxes are in shares of the axes, by the width of a letter and the height of a line in a panel of this size.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = [((label.x - left) / (right - left), (label.y - low) / (high - low)) for label in marked]
    boxes = np.array([_boxes(*point, label.name) for point, label in zip(points, marked, strict=True)])
    taken = np.array([(x - 0.012, y - 0.018, x + 0.012, y + 0.018) for x, y in points])
    for i, k in free_boxes(boxes, order=range(len(marked)), taken=taken).items():
        label, on_right = marked[i], SIDES[k][0] > 0
        axes.annotate(
            label.name, (label.x, label.y), xytext=(boxes[i, k, 0 if on_right else 2], boxes[i, k, 1] + LINE / 2),
            textcoords="axes fraction", fontsize=8.5, ha="left" if on_right else "right", va="center",
            color=label.color, zorder=6,
            fontweight="bold" if (label.x, label.y) == (marked[0].x, marked[0].y) else "normal",
        )  # fmt: skip


def _boxes(x: float, y: float, name: str) -> list[tuple[float, float, float, float]]:
    """Where a name may stand beside a point, the best first: left, bottom, right, top."""
    width = 0.008 + 0.016 * len(name)
    boxes = []
    for side, rise in SIDES:
        near, bottom = x + side * 0.016, y + (rise - 0.5) * LINE
        boxes.append((min(near, near + side * width), bottom, max(near, near + side * width), bottom + LINE))
    return boxes


def _gain(band: Band) -> float:
    assert band.found.reported_on is not None
    return band.found.reported_on.gain


def _low(band: Band) -> float:
    assert band.found.reported_on is not None
    return band.found.reported_on.gain_low


def transfer_figure(transfer: Transfer) -> Figure:
    """Cosines over the layers, and B against strength, whichever of them there are."""
    drawn = [draw for draw, there in ((_draw_cosines, transfer.cosines), (_draw_effect, transfer.bands)) if there]
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(5.2 * len(drawn), 4.4)
        for axes, draw in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            draw(axes, transfer)
    return figure


def _draw_cosines(axes: Axes, transfer: Transfer) -> None:
    axes.set(title="How alike the directions are", xlabel="layer", ylabel="cosine")
    layers = [row.layer for row in transfer.cosines]
    for start, end in _runs(transfer.layers):
        axes.axvspan(start - 0.4, end + 0.4, color=GREEN, zorder=0, linewidth=0)
    axes.plot(layers, [row.between for row in transfer.cosines], color=BLUE, marker="o", markersize=4, label="A and B")
    for name, words, color, marker in (
        ("with_a", "the vector and A", GREY, "s"),
        ("with_b", "the vector and B", ORANGE, "D"),
    ):
        axes.plot(
            layers, [getattr(row, name) for row in transfer.cosines], color=color, marker=marker, markersize=5,
            linestyle="", label=words, mfc="none", mew=1.4,
        )  # fmt: skip
    values = np.array([[row.between, row.with_a, row.with_b] for row in transfer.cosines])
    low = float(np.nanmin(values))
    axes.set_ylim(max(-1.02, low - 0.15 * (1 - low) - 0.002), 1.0 + 0.1 * (1 - low) + 0.002)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")


def _runs(layers: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive layers."""
    starts = [il for il in layers if il - 1 not in layers]
    ends = [il for il in layers if il + 1 not in layers]
    return list(zip(starts, ends, strict=True))


def _draw_effect(axes: Axes, transfer: Transfer) -> None:
    axes.set(title="What it does", xlabel="strength (share of the residual norm per layer)", ylabel="B, normalized")
    axes.axhline(0, color=GREY, linewidth=0.8)
    for name, band in transfer.bands.items():
        words, color, marker, line = LOOKS[name]
        wide = 3.2 if name == "vector-on-b" else 1.3  # so that it is seen below a curve that is the same
        axes.plot(
            band.strengths, band.b, color=color, marker=marker, markersize=4, linestyle=line, label=words, lw=wide
        )
        if band.found.strength is not None:
            at = band.strengths == band.found.strength
            axes.plot(
                band.strengths[at], band.b[at], marker="o", markersize=12, mfc="none", mec=color, mew=1.6, linestyle=""
            )
    strengths = next(iter(transfer.bands.values())).strengths
    axes.set_xscale("symlog", linthresh=float(np.abs(strengths[strengths != 0]).min()), linscale=0.5)
    shown = strengths if len(strengths) <= _TICKS else strengths[:: -(-len(strengths) // _TICKS)]
    axes.set_xticks(shown, [f"{s:g}" for s in shown], fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(-1.06, 1.06)
    axes.plot([], [], "o", markersize=9, mfc="none", mec=GREY, label="largest certain gain within the budget")
    axes.legend(loc="lower right")


def cross_figure(effects: CrossEffects) -> Figure:
    """Change of raw B and of P(correct), of normalized B, and the cosines between the vectors, side by side."""
    names = short_names(effects.behaviors, _LETTERS)
    vectors = short_names([row.name for row in effects.rows], _LETTERS)
    rows = [f"{name}\nat {row.strength:+g}" for name, row in zip(vectors, effects.rows, strict=True)]
    rows += [f"largest of\n{effects.n_random} random"] if effects.n_random else []
    raw = [list(row.raw.values()) + ([row.p_correct] if row.p_correct else []) for row in effects.rows]
    normalized = [list(row.normalized.values()) for row in effects.rows]
    columns = names + (["P(correct)"] if effects.n_choice else [])
    widths = [len(columns), len(names), len(effects.rows)]
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(_CELL * sum(widths) + 2.4, _HEIGHT * len(rows) + 1.4)
        left, middle, right = figure.subplots(1, 3, width_ratios=widths)
        _changes(left, raw, rows, columns, "Change of P+ − P−" + (", of P(correct)" if effects.n_choice else ""))
        _changes(middle, normalized, [""] * len(rows), names, "Change of B, normalized")
        _cosines(right, np.array(effects.cosines), vectors, len(rows))
        marks = "bold: not 0, and larger than under each random direction of the same lengths; below, 95% intervals"
        figure.supxlabel(marks if effects.n_random else "below each change its 95% interval", fontsize=9)
    return figure


def _changes(
    axes: Axes, changes: Sequence[Sequence[Change]], rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Changes with their intervals, a row for each vector; below them the largest of the random directions."""
    values = np.array([[change.value for change in row] for row in changes])
    floors = np.array([[max(map(abs, change.floor), default=np.nan) for change in row] for row in changes]).max(axis=0)
    span = max(float(np.abs(values).max()), 1e-6)  # each map by its own largest change
    shown = np.vstack([values / span, np.zeros((len(rows) - len(values), len(columns)))])
    _matrix(axes, shown, rows, columns, title)
    for (i, j), value in np.ndenumerate(values):
        change, on_dark = changes[i][j], bool(abs(value) > 0.6 * span)
        weight = "bold" if change.beyond else "normal"
        cell_text(axes, j, i - 0.12, number_text(value), on_dark=on_dark, fontsize=10, fontweight=weight)
        if change.low == change.low:
            interval = f"{number_text(change.low)} … {number_text(change.high)}"
            cell_text(axes, j, i + 0.24, interval, on_dark=on_dark, fontsize=7)
    for j, floor in enumerate(floors if len(rows) > len(values) else ()):
        cell_text(axes, j, len(values), f"±{floor:.2f}", fontsize=9)


def _cosines(axes: Axes, cosines: Floats, names: Sequence[str], n_rows: int) -> None:
    """Cosines between the vectors, in as many rows as the maps beside have."""
    blank = np.full((n_rows - len(cosines), len(names)), np.nan)
    _matrix(axes, np.vstack([cosines, blank]), [""] * n_rows, names, "Cosine of the vectors")
    for (i, j), cosine in np.ndenumerate(cosines):
        cell_text(axes, j, i, number_text(cosine), on_dark=bool(abs(cosine) > 0.6), fontsize=10)


def _matrix(axes: Axes, values: Floats, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """A heat map with a name beside each row and below each column; long names below are slanted."""
    heat_map(axes, values, aspect="auto")
    axes.set_title(title, fontsize=10)
    turn, end = (20, "right") if max(map(len, columns)) > 10 else (0, "center")
    axes.set_xticks(range(len(columns)), columns, rotation=turn, fontsize=9, ha=end)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
