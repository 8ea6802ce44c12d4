"""Figures over strength: alignment, helpfulness and generated code, and what every figure of a run shares.

Each shows means over items with their standard errors, the fitted curve, the controls and the recommended strength.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steercpp.aliases import Floats
from steercpp.choices import CODE_WAYS
from steercpp.reports.style import (
    BLUE,
    DASHED,
    GREY,
    INK,
    LEAF,
    ORANGE,
    STYLE,
    VIOLET,
    dodged,
    legend_below,
    new_figure,
)
from steercpp.reports.svg import title_points
from steercpp.runs.code_report import bounds, largest_k, ways_of
from steercpp.runs.judgement import Judgement
from steercpp.runs.labels import CONTROL_WORDS
from steercpp.runs.result import SweepResult
from steercpp.runs.scores import Controls, StrengthMeans
from steercpp.statistics.fits import FitResult
from steercpp.statistics.forms import WORDS
from steercpp.statistics.intervals import Interval, standard_error
from steercpp.statistics.rounded import fixed, rounded, significant, strength_text, within


def alignment_figure(judgement: Judgement) -> Figure:
    """B against strength: items' means with their standard errors, the tanh fit with its band, texts, the controls."""
    result, scores = judgement.result, judgement.result.behavior
    assert scores is not None
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Alignment", strength_label(result), "B: aligned minus misaligned")
        axes.axhline(0, color=GREY, linewidth=0.8)
        if result.side_items:
            _by_side(axes, result)
        else:
            _fitted(axes, result.strengths, scores.normalized, result.fit()["alignment"][0], BLUE, "B, normalized")
        _line(axes, result.strengths, scores.mean_raw, ".-", "P+ − P−", color=ORANGE, linewidth=1)
        if (texts := judgement.text_scores) is not None:
            _line(axes, texts.strengths, texts.b, "^", f"texts, by {texts.matcher}", color=VIOLET, markersize=5)
        _draw_controls(axes, result, "b")
        mark_recommended(axes, judgement)
        axes.set_ylim(-1.06, 1.06)
        legend_below(figure, axes)
        caption(figure, judgement)
    return figure


def _fitted(axes: Axes, s: Floats, items: Floats, fit: FitResult, color: str, words: str) -> None:
    if fit.valid:
        _curve(axes, s, fit, color, f"{fit.form} fit, R² {fixed(fit.r2, 3)}")
    _points(axes, s, items, color, words)


def _by_side(axes: Axes, result: SweepResult) -> None:
    """Each side with its own fit, and the mean over both without one: no tanh is the mean of two that part."""
    scores, sides = result.behavior, result.side_items
    assert scores is not None and sides is not None
    for (name, places), color in zip(sides.items(), (BLUE, LEAF), strict=True):
        b = scores.normalized[:, places]
        _fitted(axes, result.strengths, b, result.side_fits[name], color, f"B, {name} items")
    _line(axes, result.strengths, scores.mean_normalized, ".-", "B of both", color=GREY, linewidth=1)


def helpfulness_figure(judgement: Judgement) -> Figure:
    """P(correct) against strength, free and over the choices, or that of answers; each with its best fit."""
    result = judgement.result
    assert judgement.helpful is not None
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Helpfulness", strength_label(result), helpful_name(judgement))
        if result.choice is not None:
            measures = [("helpfulness_restricted", result.choice.p_restricted, ORANGE, "over the choices")]
            if judgement.measure != "p_restricted":
                words = "over the vocabulary" if judgement.measure == "p_free" else "counted by each item's kind"
                measures.insert(0, ("helpfulness", np.asarray(judgement.helpful_items), BLUE, words))
        else:
            measures = [("helpfulness", np.asarray(judgement.helpful_items), BLUE, "mean of items")]
        for name, values, color, words in measures:
            _points(axes, result.strengths, values, color, words)
            best = next((fit for fit in result.fit().get(name, ()) if fit.valid), None)
            if best is not None:
                _curve(axes, result.strengths, best, color, f"{WORDS[best.form]} fit, R² {fixed(best.r2, 3)}")
        if result.choice is not None:
            _line(axes, result.strengths, result.choice.accuracy, ".-", "accuracy", color=GREY, linewidth=1)
        if judgement.measure == "p_own" and (telling := result.telling) is not None:
            _line(axes, telling.strengths, telling.mean_p_own, "s", "testing answers", color=BLUE, mfc="none", ms=6)
        _draw_controls(axes, result, "helpful")
        mark_recommended(axes, judgement)
        axes.set_ylim(0, 1.02)
        legend_below(figure, axes)
        caption(figure, judgement)
    return figure


def code_figure(result: SweepResult) -> Figure:
    """pass@1 with its interval, and pass@k, against strength; by the study's extraction too where it was run."""
    ways = ways_of(result)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Code", strength_label(result), "share of problems solved")
        for i, (way, color) in enumerate(zip(ways, (BLUE, ORANGE), strict=False)):
            scores, words = ways[way], "" if way == CODE_WAYS[0] else f", {way}"
            s, p, k = dodged(scores.strengths, i, len(ways)), scores.mean_pass_at(1), largest_k(scores)
            low, high = bounds(result, scores, 1)
            has_interval = bool(np.isfinite(low).all() and np.isfinite(high).all())
            bars = axes.errorbar(
                s, p, yerr=np.clip([p - low, high - p], 0, None) if has_interval else None, color=color, marker="o",
                markersize=4, elinewidth=0.8, label=f"pass@1{words}{', 95% intervals' if has_interval else ''}",
            )  # fmt: skip
            bounded = [Interval(*numbers) for numbers in np.stack([p, low, high], axis=1).tolist()]
            shown = [within(number, least=3) for number in bounded]
            title_points(bars.lines[0], at_strengths(scores.strengths, f"pass@1{words}", shown))
            if k > 1:
                _line(
                    axes, s, scores.mean_pass_at(k), ".", f"pass@{k}{words}", color=color, linestyle=(0, (4, 2)),
                    linewidth=1,
                )  # fmt: skip
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_ylim(-0.03, 1.03)
        legend_below(figure, axes)
    return figure


@dataclass(frozen=True, slots=True)
class DrawnControls:
    """Controls of one kind, as they are drawn: strengths (n,), and rows with the means of each."""

    label: str
    marker: str
    strengths: Floats
    rows: tuple[StrengthMeans, ...]

    def values(self, key: str) -> Floats:
        """(n,) one mean of each; NaN where it was not measured."""
        means = [getattr(row, key) for row in self.rows]
        return np.array([np.nan if mean is None else mean for mean in means])


def drawn_controls(controls: Controls) -> tuple[DrawnControls, ...]:
    """Each kind of control that was measured, with its sign in every figure."""
    drawn = []
    for label, marker, controls_of_kind in (
        (f"{len(controls.random)} random directions", "x", controls.random),
        ("orthogonal direction", "s", (controls.orthogonal,)),
        ("prompt baseline", "D", (controls.prompt,)),
    ):
        rows = tuple(control.row for control in controls_of_kind if control is not None)
        if rows:
            drawn.append(DrawnControls(label, marker, np.array([row.strength for row in rows]), rows))
    return tuple(drawn)


def _draw_controls(axes: Axes, result: SweepResult, key: str) -> None:
    """The means of every control under `key`, at their strengths."""
    for kind in drawn_controls(result.controls):
        _line(axes, kind.strengths, kind.values(key), kind.marker, kind.label, color=INK, mfc="none", ms=6)


def helpful_name(judgement: Judgement) -> str:
    """What stands for helpfulness in this run, for an axis."""
    subjects = {item.subject for item in judgement.choice_items}
    of = f", {subjects.pop()}" if len(subjects) == 1 and subjects != {""} else ""
    if judgement.result.choice is not None:
        return f"P(correct){of}"
    if judgement.measure == "p_own":
        return "own answers, exp(-KL per token)"
    return "P of the answer, per token" if judgement.result.answer is not None else "pass@1"


def caption(figure: Figure, judgement: Judgement, *, first: str = "") -> None:
    """Write `first` below a figure, then which controls are not in it and why."""
    off = [f"{CONTROL_WORDS[name]}: {why.replace('`', '')}" for name, why in judgement.result.controls.off.items()]
    sentences = [first, *(["Not measured: " + "; ".join(off) + "."] if off else [])]
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, 110, break_on_hyphens=False)]
    if lines:
        figure.supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=8, color=INK)


def mark_recommended(axes: Axes, judgement: Judgement) -> None:
    """A dashed line at the recommended strength, or a grey one at a candidate that was not confirmed."""
    recommendation = judgement.recommendation
    if recommendation is not None and (s := recommendation.candidate) is not None:
        label = f"recommended {s:+g}" if recommendation.confirmed else f"candidate {s:+g}, not confirmed"
        color = INK if recommendation.confirmed else GREY
        axes.axvline(s, color=color, linewidth=1, linestyle=DASHED, label=label)


def strength_label(result: SweepResult) -> str:
    """What strength means in this run, for an axis."""
    plan = result.manifest.plan
    if plan.unit == "norm":
        return "strength (share of the residual norm per layer)"
    if plan.unit == "kl":
        return f"strength (1: the push that has {plan.kl:g} nats of KL)"
    is_unit = np.allclose(result.manifest.vector.norms, 1.0, atol=1e-3)
    return f"strength ({'length' if is_unit else 'multiple of the vector'} added per layer)"


def _points(axes: Axes, strengths: Floats, values: Floats, color: str, label: str) -> None:
    means, errors = values.mean(axis=1), standard_error(values)
    bars = axes.errorbar(strengths, means, yerr=errors, fmt="o", color=color, markersize=4, elinewidth=0.8, label=label)
    shown = [f"{rounded(mean, error)} ± {rounded(error, error)}" for mean, error in zip(means, errors, strict=True)]
    title_points(bars.lines[0], at_strengths(strengths, label, shown))


def at_strengths(strengths: Floats, label: str, shown: Sequence[str]) -> list[str]:
    """Titles of points at strengths (n_s,): where each lies, what it is, and its number."""
    places = [f"at {strength_text(s)}" for s in strengths]
    return [f"{place}: {label} {number}" for place, number in zip(places, shown, strict=True)]


def _line(axes: Axes, strengths: Floats, values: Floats, look: str, label: str, **looks: Any) -> None:
    """Values (n_s,) without errors."""
    lines = axes.plot(strengths, values, look, label=label, **looks)
    title_points(lines[0], at_strengths(strengths, label, [significant(value) for value in values]))


def _curve(axes: Axes, strengths: Floats, fit: FitResult, color: str, label: str) -> None:
    fine = np.linspace(strengths.min(), strengths.max(), 200)
    axes.plot(fine, fit.predict(fine), color=color, linewidth=1.3, label=label)
    low, high = fit.band(fine)
    axes.fill_between(fine, low, high, color=color, alpha=0.15, linewidth=0)
