"""The picture of a run: helpfulness against alignment, strength along the curve; read this to change how it looks."""

from __future__ import annotations

import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steercpp.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    STYLE,
    caption,
    drawn_controls,
    helpful_key,
    helpful_name,
    new_figure,
)
from steercpp.judgement import Judgement
from steercpp.scoring import Floats
from steercpp.sweep_scores import standard_error

NORMAL = 1.96  # standard errors on each side of an interval of 95 %


def tradeoff_figure(judgement: Judgement) -> Figure:
    """P relative to strength 0 against B, with intervals of 95 % both ways, the budget, the regime and the controls."""
    result, p_items = judgement.result, judgement.helpful_items
    assert result.behavior is not None and p_items is not None
    b, at_0 = result.behavior.mean_normalized, result.strengths == 0
    p = p_items.mean(axis=1) / p_items[at_0].mean()
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Trade-off", "B, normalised", f"{helpful_name(judgement)}, relative to strength 0")
        top = max(1.05, float(p.max()) * 1.04)
        label = f"loss at most {judgement.max_loss:.0%}"
        axes.axhspan(1 - judgement.max_loss, top, color=GREEN, zorder=0, linewidth=0, label=label)
        axes.errorbar(
            b, p, xerr=NORMAL * standard_error(result.behavior.normalized), yerr=NORMAL * ratio_error(p_items, at_0),
            color=BLUE, linewidth=1.2, marker="o", markersize=4, elinewidth=0.8, label="vector, 95 % intervals",
        )  # fmt: skip
        top = _draw_controls(axes, judgement, float(p_items[at_0].mean()), top)
        _mark_regime(axes, judgement, b, p)
        for i in spread(b, p):
            label = f"{result.strengths[i]:+g}" if result.strengths[i] else "0"
            axes.annotate(label, (b[i], p[i]), xytext=(5, 5), textcoords="offset points", fontsize=8)
        axes.set_xlim(-1.12, 1.12)
        axes.set_ylim(max(0.0, float(p.min()) - 0.6 * (top - float(p.min()))), top)  # room for the legend
        axes.legend(loc="lower center", ncols=2, fontsize=8)
        caption(figure, judgement)
    return figure


def ratio_error(items: Floats, at_0: Floats) -> Floats:
    """(n_s,) standard errors of mean P(s) / mean P(0) over items (n_s, n_items), paired, by the delta method."""
    base = items[at_0][0]
    mean = base.mean()
    if not mean:
        return np.zeros(len(items))
    ratio = items.mean(axis=1, keepdims=True) / mean
    return standard_error((items - ratio * base) / mean)


def _draw_controls(axes: Axes, judgement: Judgement, p_0: float, top: float) -> float:
    """Controls on the same axes; the top of the axes that leaves room for them."""
    for each in drawn_controls(judgement.result.controls):
        b, p = each.values("b"), each.values(helpful_key(judgement)) / (p_0 or np.nan)
        if np.isfinite(p).any():
            axes.plot(b, p, each.marker, color=INK, mfc="none", ms=6, linestyle="", label=each.label)
            top = max(top, float(np.nanmax(p)) * 1.02)
    return top


def _mark_regime(axes: Axes, judgement: Judgement, b: Floats, p: Floats) -> None:
    """The strengths that gain more than they cost, where that is used up, and the recommended one; or why none is."""
    found, s = judgement.recommendation, judgement.result.strengths
    if found is None:
        return
    low, high = found.efficient_regime
    inside = (s >= low) & (s <= high)
    if inside.sum() > 1:
        axes.plot(b[inside], p[inside], color=BLUE, linewidth=7, alpha=0.2, label="efficient regime")
    if np.isfinite(found.break_even):
        place = np.interp(found.break_even, s, b), np.interp(found.break_even, s, p)
        axes.plot(*place, "X", color=GREY, markersize=8, linestyle="", label=f"break-even {found.break_even:+.3g}")
    if found.strength is None:
        told = "\n".join(textwrap.wrap(f"No recommended strength: {found.reason}.", 60))
        axes.text(0.02, 0.97, told, transform=axes.transAxes, va="top", fontsize=8, color=ORANGE)
        return
    i = int(np.flatnonzero(s == found.strength)[0])
    label = f"recommended {found.strength:+g}" + ("" if found.confirmed else ", not confirmed")
    axes.plot(b[i], p[i], "o", markersize=11, mfc="none", mec=ORANGE, mew=1.8, linestyle="", label=label)


def spread(x: Floats, y: Floats) -> list[int]:
    """Points far enough from each other for a label each, the ends first."""
    kept: list[int] = []
    for i in sorted(range(len(x)), key=lambda i: (0 < i < len(x) - 1, i)):
        if all(np.hypot((x[i] - x[j]) / 2.1, (y[i] - y[j]) / 1.1) > 0.06 for j in kept):
            kept.append(i)
    return kept
