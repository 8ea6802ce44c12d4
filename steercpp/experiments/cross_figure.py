"""The picture of `steercpp cross`: heat maps of what each vector does to each behaviour; read this to change it."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from steercpp.experiments.cross_result import Change, CrossEffects
from steercpp.reports.figures import BLUE, INK, ORANGE, STYLE

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
