"""The picture of a scan: effect against loss, and effect over depth or by method; read this to change how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from steercpp.aliases import Floats
from steercpp.experiments.cross import Change, CrossEffects
from steercpp.experiments.scan import Band, Scan
from steercpp.experiments.transfer import Transfer
from steercpp.reports.style import BLUE, GREEN, GREY, INK, ORANGE, STYLE

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


# FOLD: The picture of a transfer: how alike directions are over depth, and the effect of each vector; read to chan  # noqa
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


# FOLD: The picture of `steercpp cross`: heat maps of what each vector does to each behaviour; read this to change it.
_COLOURS = LinearSegmentedColormap.from_list("change", [ORANGE, "#f6f7f8", BLUE])
_LETTERS = 18  # of a name
_CELL, _HEIGHT = 1.15, 0.62  # inches


def cross_figure(found: CrossEffects) -> Figure:
    """Change of raw B and of P(correct), of normalised B, and the cosines between the vectors, side by side."""
    names = [short(name) for name in found.behaviors]
    rows = [f"{short(row.name)}\nat {row.strength:+g}" for row in found.rows]
    rows += [f"largest of\n{found.n_random} random"] if found.n_random else []
    raw = [list(row.raw.values()) + ([row.p_correct] if row.p_correct else []) for row in found.rows]
    normalized = [list(row.normalized.values()) for row in found.rows]
    columns = names + (["P(correct)"] if found.n_choice else [])
    widths = [len(columns), len(names), len(found.rows)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_CELL * sum(widths) + 2.4, _HEIGHT * len(rows) + 1.4), layout="constrained")
        FigureCanvasAgg(figure)
        left, middle, right = figure.subplots(1, 3, width_ratios=widths)
        _changes(left, raw, rows, columns, "Change of P+ − P−" + (", of P(correct)" if found.n_choice else ""))
        _changes(middle, normalized, [""] * len(rows), names, "Change of B, normalised")
        _cosines(right, np.array(found.cosines), [short(row.name) for row in found.rows], len(rows))
        told = (
            "bold: surely not 0, and larger than under each random direction of the same lengths; below, 95 % intervals"
        )
        figure.supxlabel(told if found.n_random else "below each change its 95 % interval", fontsize=9)
    return figure


def short(name: str, n_letters: int = _LETTERS) -> str:
    """The end of a name, which tells most of it, with nothing that matplotlib would take for mathematics."""
    printable = "".join(letter if letter.isprintable() and letter != "$" else "?" for letter in name)
    return printable if len(printable) <= n_letters else f"…{printable[1 - n_letters :]}"


def signed(value: float, places: int = 2) -> str:
    """A number with its sign, none before a zero."""
    return "–" if value != value else f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")


def _changes(
    axes: Axes, changes: Sequence[Sequence[Change]], rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    values = np.array([[one.value for one in row] for row in changes])
    floors = np.array([[max(map(abs, one.floor), default=np.nan) for one in row] for row in changes]).max(axis=0)
    span = max(float(np.abs(values).max()), 1e-6)  # each map by its own largest change
    shown = np.vstack([values / span, np.zeros((len(rows) - len(values), len(columns)))])
    _map(axes, shown, rows, columns, title)
    for (i, j), value in np.ndenumerate(values):
        one = changes[i][j]
        colour = "white" if abs(value) > 0.6 * span else INK
        weight = "bold" if one.beyond else "normal"
        axes.text(j, i - 0.12, signed(value), ha="center", va="center", color=colour, fontsize=10, fontweight=weight)
        if one.low == one.low:
            words = f"{signed(one.low)} … {signed(one.high)}"
            axes.text(j, i + 0.24, words, ha="center", va="center", color=colour, fontsize=7)
    for j, floor in enumerate(floors if len(rows) > len(values) else ()):
        axes.text(j, len(values), f"±{floor:.2f}", ha="center", va="center", color=INK, fontsize=9)


def _cosines(axes: Axes, cosines: npt.NDArray[np.float64], names: Sequence[str], n_rows: int) -> None:
    blank = np.full((n_rows - len(cosines), len(names)), np.nan)
    _map(axes, np.vstack([cosines, blank]), [""] * n_rows, names, "Cosine of the vectors")
    for (i, j), value in np.ndenumerate(cosines):
        strong = abs(value) > 0.6
        axes.text(j, i, signed(value), ha="center", va="center", fontsize=10, color="white" if strong else INK)


def _map(axes: Axes, values: npt.NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    axes.imshow(values, cmap=_COLOURS, vmin=-1, vmax=1, aspect="auto")
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(columns)), columns, rotation=0 if max(map(len, columns)) <= 10 else 20, fontsize=9,
                    ha="center" if max(map(len, columns)) <= 10 else "right")  # fmt: skip
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
