"""Figures of single items: how they respond, what became of them, couples and both sides; read this to change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from steercpp.aliases import Floats
from steercpp.reports.figures import at_strengths, mark_recommended, strength_label
from steercpp.reports.style import BLUE, GREY, INK, ORANGE, PALE, STYLE, VIOLET, blank_figure, dodged, legend_below
from steercpp.reports.svg import title_points
from steercpp.runs.judgement import Judgement
from steercpp.statistics.intervals import Interval
from steercpp.statistics.rounded import significant, within
from steercpp.statistics.slopes import Slopes

Draw: TypeAlias = Callable[[Axes, Judgement], None]


def items_figure(judgement: Judgement) -> Figure:
    """Slopes of the behavior items, and what became of choice items and of texts at every strength."""
    sides = judgement.by_side or ({} if judgement.slopes is None else {"": judgement.slopes})
    parts: list[Draw] = [partial(_slopes, of=of, slopes=slopes) for of, slopes in sides.items()]
    if judgement.failures is not None:
        parts.append(_choices)
    if judgement.text_scores is not None:
        parts.append(_texts)
    return _figure(parts, judgement)


def couples_figure(judgement: Judgement) -> Figure:
    """Over-refusal and compliance, and the correlations over couples, at every strength."""
    parts: list[Draw] = []
    if judgement.sides is not None or judgement.text_sides is not None:
        parts.append(_sides)
    if judgement.coupled is not None and judgement.coupled.correlations:
        parts.append(_correlations)
    return _figure(parts, judgement)


def _figure(parts: list[Draw], judgement: Judgement) -> Figure:
    """Parts side by side, two in a row, each with its legend below."""
    columns = min(len(parts), 2)
    rows = -(-len(parts) // columns)
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(5.8 * columns, 4.8 * rows)
        for i, draw in enumerate(parts):
            axes = figure.add_subplot(rows, columns, i + 1)
            draw(axes, judgement)
            legend_below(figure, axes, ncols=2)
    return figure


def _slopes(axes: Axes, judgement: Judgement, *, of: str, slopes: Slopes) -> None:
    """Histogram of the items' slopes, those that move the wrong way apart."""
    is_wrong = slopes.items * judgement.direction < 0
    groups = [slopes.items[~is_wrong], slopes.items[is_wrong]]
    ways = ["right way", "wrong way"]
    edges = _edges(slopes.items)
    _, _, bars = axes.hist(groups, edges, stacked=True, color=[BLUE, ORANGE], label=ways)
    for group, words, patches in zip(groups, ways, bars, strict=True):  # type: ignore[arg-type]
        counts = np.histogram(group, edges)[0]
        for count, left, right, patch in zip(counts, edges[:-1], edges[1:], patches, strict=True):
            if count:
                title_points(patch, [f"{significant(left)} to {significant(right)}: {count} items, the {words}"])
    axes.axvline(0, color=GREY, linewidth=0.8)
    for mean, style, words in ((slopes.mean, "-", "mean of the items"), (slopes.fitted, "--", "fit of the mean curve")):
        if np.isfinite(mean.value):
            axes.axvline(mean.value, color=INK, linewidth=1.2, linestyle=style, label=f"{words}: {_shown(mean)}")
    low, high = slopes.window
    axes.set(
        title=f"Anti-steerable: {slopes.anti.n} of {slopes.anti.of} {of or 'items'}",
        xlabel=f"slope of half ln(P+/P-) at {low:+g} to {high:+g}", ylabel=f"{of or 'behavior'} items",
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _shown(mean: Interval) -> str:
    """A mean in three digits, 0 where it is noise beside its interval."""
    return significant(mean.value, error=(mean.high - mean.low) / 4)


def _edges(items: Floats) -> list[float]:
    """Ends of the histogram's bins, none of which holds items of both ways; of items that are alike a single one."""
    if np.ptp(items) > 1e-6 * np.abs(items).max():
        automatic = np.histogram_bin_edges(items, "auto")
        width = float(automatic[1] - automatic[0])
        first, last = (round_(float(end) / width) for round_, end in ((np.floor, items.min()), (np.ceil, items.max())))
        return [float(width * edge) for edge in range(int(first), int(last) + 1)]
    middle, half = float(items.mean()), 0.05 * float(np.abs(items).max()) or 0.05
    return [middle - half, middle + half]


def _choices(axes: Axes, judgement: Judgement) -> None:
    """What became of the choice items at each strength."""
    failures = judgement.failures
    assert failures is not None
    words = {"right": "right", "wrong": "another choice", "format": "no choice named"}
    _stacked(axes, judgement, failures.strengths, failures.counts, words)
    axes.set(title="Choice items", ylabel="items")


def _texts(axes: Axes, judgement: Judgement) -> None:
    """How the generated texts were judged at each strength."""
    scores = judgement.text_scores
    assert scores is not None
    words = {name: name for name in ("aligned", "misaligned", "neither", "broken")}
    _stacked(axes, judgement, scores.strengths, judgement.texts, words)
    axes.set(title=f"Generated texts, by {scores.matcher}", ylabel="texts")


def _stacked(axes: Axes, judgement: Judgement, s: Floats, rows: Sequence[Any], words: Mapping[str, str]) -> None:
    """Counts at each strength on top of each other, by the attributes of their rows."""
    stack = [[getattr(row, name) for row in rows] for name in words]
    axes.stackplot(s, stack, labels=list(words.values()), colors=[BLUE, ORANGE, PALE, GREY], linewidth=0)
    for label, counts, tops in zip(words.values(), stack, np.cumsum(stack, axis=0), strict=True):
        edge = axes.plot(s, tops, ".", color=INK, markersize=2.5)
        title_points(edge[0], at_strengths(s, label, [str(count) for count in counts]))
    axes.set_xlim(s.min(), s.max() if len(s) > 1 else s.max() + 1)
    axes.set_ylim(0, sum(column[0] for column in stack))
    mark_recommended(axes, judgement)
    axes.set_xlabel(strength_label(judgement.result))


def _sides(axes: Axes, judgement: Judgement) -> None:
    """Over-refusal and compliance, by probabilities as lines and by generated texts as dashes."""
    measured = [(judgement.sides, "-", ""), (judgement.text_sides, "--", ", generated text")]
    known = [(sides, style, by) for sides, style, by in measured if sides is not None]
    for i, (sides, style, by) in enumerate(known):
        for j, (values, color, words) in enumerate((
            (sides.over_refusal, ORANGE, f"over-refusal, {sides.n_harmless} harmless{by}"),
            (sides.compliance, VIOLET, f"compliance, {sides.n_harmful} harmful{by}"),
        )):  # fmt: skip
            _intervals(
                axes, sides.strengths, values, 2 * i + j, 2 * len(known), color=color, fmt=f"o{style}",
                mfc="white" if by else color, label=words,
            )  # fmt: skip
    mark_recommended(axes, judgement)
    axes.set(
        title=f"Both sides, {_within(known[0][0].confidence)}", xlabel=strength_label(judgement.result),
        ylabel="share of requests",
    )  # fmt: skip
    axes.set_ylim(-0.03, 1.03)


def _within(confidence: float) -> str:
    return f"{100 * confidence:g}% intervals"


def _intervals(axes: Axes, strengths: Floats, values: Floats, i: int, n: int, **look: Any) -> None:
    """Values (n_s, 3) with low and high as thin bars, series i of n; of few items, without bars."""
    value, low, high = values.T
    s = dodged(strengths, i, n)
    bars = np.clip([value - low, high - value], 0, None)
    drawn = axes.errorbar(s, value, yerr=bars if np.isfinite(bars).any() else None, ms=4, lw=1, elinewidth=0.7, **look)
    shown = [within(Interval(*map(float, numbers)), least=2) for numbers in values]
    title_points(drawn.lines[0], at_strengths(strengths, look["label"], shown))


def _correlations(axes: Axes, judgement: Judgement) -> None:
    """How the changes of both items of a couple go together at each strength."""
    coupled = judgement.coupled
    assert coupled is not None
    axes.axhline(0, color=GREY, linewidth=0.8)
    s = np.array([row.strength for row in coupled.correlations])
    for i, (key, color, words) in enumerate((("pearson", BLUE, "Pearson"), ("spearman", ORANGE, "Spearman, ranks"))):
        numbers = [getattr(row, key) for row in coupled.correlations]
        values = np.array([[number.value, number.low, number.high] for number in numbers])
        _intervals(axes, s, values, i, 2, color=color, fmt="o", label=words)
    mark_recommended(axes, judgement)
    of = "P(correct)" if coupled.helpful == "choice" else "P(comply), harmless"
    axes.set(
        title=f"{len(coupled.names)} couples: changes of B and {of}", xlabel=strength_label(judgement.result),
        ylabel=f"correlation, {_within(coupled.confidence)}",
    )  # fmt: skip
    axes.set_ylim(-1.05, 1.05)
