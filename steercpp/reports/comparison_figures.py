"""Figures with several runs in one, which color, marker and line tell apart, in black and white too."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from steercpp.reports.compared import ComparedRun
from steercpp.reports.figures import at_strengths, strength_label
from steercpp.reports.labels import short_names
from steercpp.reports.style import BLUE, GREY, INK, LEAF, ORANGE, STYLE, VIOLET, legend_below, new_figure
from steercpp.reports.svg import title_points
from steercpp.statistics.intervals import standard_error
from steercpp.statistics.rounded import percent, plus, rounded
from steercpp.statistics.scores import chance_level

COLORS = (BLUE, ORANGE, LEAF, VIOLET, INK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
LETTERS = 28  # of a run's name in a legend


def tradeoffs(runs: Sequence[ComparedRun]) -> Figure:
    """What is lost of helpfulness against the change of B; a ring at each recommended strength."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Trade-offs", "change of B", "helpfulness lost, as a share of that at 0")
        for i, (run, name) in enumerate(zip(runs, _names(runs), strict=True)):
            result, curves = run.judgement.result, run.judgement.result.curves()
            if curves is None or result.behavior is None:
                continue
            color, marker, line = _look(i)
            strengths, losses, b = result.strengths, curves.losses, result.behavior.mean_normalized
            gains = b - b[strengths == 0]
            points = axes.plot(
                gains, losses, color=color, marker=marker, linestyle=line, markersize=4, linewidth=1.2, label=name
            )
            shown = [f"B {plus(gain)}, loss {percent(loss)}" for gain, loss in zip(gains, losses, strict=True)]
            title_points(points[0], at_strengths(strengths, name, shown))
            if run.verdict.strength is not None:
                at = int(np.flatnonzero(strengths == run.verdict.strength)[0])
                axes.plot(gains[at], losses[at], "o", markersize=11, mfc="none", mec=color, mew=1.8)
        budgets = {run.judgement.max_loss for run in runs}
        if len(budgets) == 1:
            budget = budgets.pop()
            axes.axhline(budget, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=f"budget {percent(budget, 0)}")
        axes.invert_yaxis()
        legend_below(figure, axes)
    return figure


def over_strength(runs: Sequence[ComparedRun], name: str) -> Figure | None:
    """B ("alignments"), or helpfulness as a share of that at 0, against strength; None where fewer than two have it."""
    is_b = name == "alignments"
    measured = []
    for i, run in enumerate(runs):
        result = run.judgement.result
        items = (
            (None if result.behavior is None else result.behavior.normalized) if is_b else run.judgement.helpful_items
        )
        if items is not None:
            values = np.asarray(items)
            if not is_b and run.judgement.helpful is not None:  # what is above chance can be lost, as in the trade-off
                values = values - chance_level(run.judgement.helpful, run.judgement.measure)
            base = 1.0 if is_b else float(values[result.strengths == 0].mean())
            if base > 0:  # else there is nothing to lose
                measured.append((i, run, values / base))
    if len(measured) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        title, y = ("Alignment", "B, normalized") if is_b else ("Helpfulness", "helpfulness, relative to strength 0")
        figure, axes = new_figure(title, strength_label(runs[0].judgement.result), y)
        names = _names(runs)
        for i, run, items in measured:
            color, marker, line = _look(i)
            strengths, means, errors = run.judgement.result.strengths, items.mean(axis=1), standard_error(items)
            bars = axes.errorbar(
                strengths, means, yerr=errors, color=color, marker=marker, linestyle=line, markersize=4, linewidth=1.1,
                elinewidth=0.8, label=names[i],
            )  # fmt: skip
            shown = [
                f"{rounded(mean, error)} ± {rounded(error, error)}" for mean, error in zip(means, errors, strict=True)
            ]
            title_points(bars.lines[0], at_strengths(strengths, names[i], shown))
        if is_b:
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.set_ylim(-1.06, 1.06)
        else:
            axes.set_ylim(bottom=0)
        legend_below(figure, axes)
    return figure


def _names(runs: Sequence[ComparedRun]) -> list[str]:
    return short_names([run.name for run in runs], LETTERS)


def _look(i: int) -> tuple[str, str, str]:
    """Color, marker and line of run i."""
    return COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)]
