"""The picture of a run: helpfulness against alignment, strength along the curve; read this to change how it looks."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steercpp.aliases import Floats
from steercpp.reports.figures import at_strengths, caption, drawn_controls, helpful_name
from steercpp.reports.labels import places
from steercpp.reports.style import BLUE, GREEN, GREY, INK, ORANGE, STYLE, legend_below, new_figure, true_minus
from steercpp.reports.svg import title_points
from steercpp.runs.judgement import Judgement
from steercpp.statistics.intervals import standard_error
from steercpp.statistics.losses import loss_of
from steercpp.statistics.rounded import interval, percent, plus, rounded, significant
from steercpp.statistics.scores import chance_level

NORMAL = 1.96  # standard errors on each side of an interval of 95%
MARKER_PT, RING_PT = 6.0, 11.0  # diameters


def tradeoff_figure(judgement: Judgement) -> Figure:
    """P relative to strength 0 against B, with intervals of 95% both ways, the budget, the regime and the controls."""
    result, p_items = judgement.result, judgement.helpful_items
    assert result.behavior is not None and p_items is not None and judgement.helpful is not None
    b, at_0 = result.behavior.mean_normalized, result.strengths == 0
    above = p_items - chance_level(judgement.helpful, judgement.measure)  # what is above chance can be lost
    p = above.mean(axis=1) / above[at_0].mean()
    errors = NORMAL * np.stack([standard_error(result.behavior.normalized), ratio_error(above, at_0)])
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Trade-off", "B, normalized", f"{helpful_name(judgement)}, relative to strength 0")
        bars = axes.errorbar(
            b, p, *errors[::-1], color=BLUE, linewidth=1.2, marker="o", markersize=4, elinewidth=0.8,
            label="vector, 95% intervals",
        )  # fmt: skip
        title_points(bars.lines[0], at_strengths(result.strengths, "B", _shown(b, p, errors)))
        marked = _draw_controls(axes, judgement)
        # P of own answers is drawn whole, and what the prompt baseline changes of it is no loss
        allowed = math.exp(-(result.prompt_kl or 0.0)) if result.loss_measure == "p_beyond" else 1.0
        below_budget = allowed * (1 - 1.3 * judgement.max_loss)
        _limits(axes, np.concatenate([p - errors[1], p + errors[1], marked[:, 1], [below_budget]]))
        label = f"loss at most {judgement.max_loss:.0%}"
        axes.axhspan(
            allowed * (1 - judgement.max_loss), axes.get_ylim()[1], color=GREEN, zorder=0, linewidth=0, label=label
        )
        marked = np.vstack([marked, _mark_regime(axes, judgement, b, p)])
        legend_below(figure, axes)
        best = judgement.recommendation
        why = f"No recommended strength: {best.reason}." if best is not None and best.strength is None else ""
        if allowed < 1:
            why = f"The loss is what is beyond the prompt baseline. {why}".rstrip()
        caption(figure, judgement, first=why)
        _label(figure, axes, judgement, np.column_stack([b, p]), errors.T, marked)
    return figure


def _shown(b: Floats, p: Floats, errors: Floats) -> list[str]:
    """B and what is left of helpfulness, each with its interval; errors are (2, n_s) half widths."""
    return [
        f"{rounded(b[i], errors[0, i] / NORMAL)} ({interval(b[i] - errors[0, i], b[i] + errors[0, i])}), helpfulness "
        f"{percent(p[i])} ({percent(p[i] - errors[1, i])} to {percent(p[i] + errors[1, i])}) of that at 0"
        for i in range(len(b))
    ]


def ratio_error(items: Floats, at_0: Floats) -> Floats:
    """(n_s,) standard errors of mean P(s) / mean P(0) over items (n_s, n_items), paired, by the delta method."""
    base = items[at_0][0]
    mean = base.mean()
    if not mean:
        return np.zeros(len(items))
    ratio = items.mean(axis=1, keepdims=True) / mean
    return standard_error((items - ratio * base) / mean)


def _limits(axes: Axes, heights: Floats) -> None:
    """Room for all heights and for 1, and a little more."""
    heights = np.append(heights[np.isfinite(heights)], 1.0)
    low, high = float(heights.min()), float(heights.max())
    margin = max(0.08 * (high - low), 0.02)
    axes.set_xlim(-1.12, 1.12)
    axes.set_ylim(max(-margin, low - margin), high + margin)


def _draw_controls(axes: Axes, judgement: Judgement) -> Floats:
    """Controls on the same axes; (n, 2) where they are."""
    marked = [np.empty((0, 2))]
    curves = judgement.result.curves()
    assert curves is not None
    p_0, chance = float(curves.p[curves.at_0].mean()), float(curves.chance.mean())
    for kind in drawn_controls(judgement.result.controls):
        b, p = kind.values("b"), 1 - loss_of(kind.values("helpful"), np.array(p_0), chance)
        if np.isfinite(p).any():
            lines = axes.plot(b, p, kind.marker, color=INK, mfc="none", ms=MARKER_PT, linestyle="", label=kind.label)
            shown = [f"B {plus(x)}, helpfulness {percent(y)} of that at 0" for x, y in zip(b, p, strict=True)]
            title_points(lines[0], at_strengths(kind.strengths, kind.label, shown))
            marked.append(np.column_stack([b, p]))
    return np.concatenate(marked)


def _mark_regime(axes: Axes, judgement: Judgement, b: Floats, p: Floats) -> Floats:
    """Where strengths gain more than they cost, where that is used up, the recommended one; (n, 2) the last two."""
    best, s = judgement.recommendation, judgement.result.strengths
    if best is None:
        return np.empty((0, 2))
    marked = []
    low, high = best.efficient_regime
    inside = (s >= low) & (s <= high)
    if inside.sum() > 1:
        axes.plot(b[inside], p[inside], color=BLUE, linewidth=7, alpha=0.2, label="efficient regime")
    if np.isfinite(best.break_even):
        place = float(np.interp(best.break_even, s, b)), float(np.interp(best.break_even, s, p))
        axes.plot(
            *place,
            "X",
            color=GREY,
            markersize=8,
            linestyle="",
            label=f"break-even {significant(best.break_even, sign='+')}",
        )
        marked.append(place)
    if best.candidate is not None:
        i = int(np.flatnonzero(s == best.candidate)[0])
        label = f"recommended {s[i]:+g}" if best.confirmed else f"candidate {s[i]:+g}, not confirmed"
        color = ORANGE if best.confirmed else GREY
        axes.plot(b[i], p[i], "o", markersize=RING_PT, mfc="none", mec=color, mew=1.8, linestyle="", label=label)
        marked.append((float(b[i]), float(p[i])))
    return np.array(marked).reshape(-1, 2)


def _label(figure: Figure, axes: Axes, judgement: Judgement, points: Floats, errors: Floats, marked: Floats) -> None:
    """Strengths beside the points of the curve (n_s, 2) where they touch nothing: the recommended, 0 and ends first."""
    s, best = judgement.result.strengths, judgement.recommendation
    recommended = [] if best is None or best.candidate is None else [int(np.flatnonzero(s == best.candidate)[0])]
    order = dict.fromkeys([*recommended, int(np.flatnonzero(s == 0)[0]), 0, len(s) - 1, *range(len(s))])
    texts = [
        axes.text(
            0.5,
            0.5,
            true_minus(f"{strength:+g}") if strength else "0",
            transform=axes.transAxes,
            fontsize=8,
            va="bottom",
        )
        for strength in s
    ]
    figure.draw_without_rendering()  # lays the axes out, which fixes where a pixel is
    to_pixels, half = axes.transData.transform, MARKER_PT / 2 * figure.dpi / 72
    # Labels touch neither the curve nor a marker, and lie on few of the error bars
    fine = np.linspace(0, len(s) - 1, 40 * len(s))
    curve = to_pixels(np.column_stack([np.interp(fine, np.arange(len(s)), column) for column in points.T]))
    marks = to_pixels(np.concatenate([points, marked[np.isfinite(marked).all(axis=1)]]))
    bars = np.concatenate([points + x * errors * y for x in np.linspace(-1, 1, 81) for y in np.eye(2)])
    corners = places(
        to_pixels(points), np.array([text.get_window_extent().size for text in texts]), order=list(order),
        taken=np.concatenate([np.hstack([curve, curve]), np.hstack([marks - half, marks + half])]),
        crossed=to_pixels(bars), frame=np.concatenate([axes.bbox.min, axes.bbox.max]),
        reach=(RING_PT + 5) / 2 * figure.dpi / 72,
    )  # fmt: skip
    for i, text in enumerate(texts):
        if i in corners:
            x, y = axes.transAxes.inverted().transform(corners[i])
            text.set_position((float(x), float(y)))
        else:
            text.remove()
