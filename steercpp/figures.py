"""The drawing of a report's figures with matplotlib; read this to change how they look."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from steercpp.recommend import Recommendation
from steercpp.scoring import Floats
from steercpp.sweep_result import SweepResult
from steercpp.sweep_scores import standard_error
from steercpp.theory import FitResult

BLUE, ORANGE, GREEN, GREY, INK = "#2f6690", "#d1783c", "#e9f2e9", "#9aa0a6", "#30363d"
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e6e8eb", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "legend.fontsize": 9,
    "svg.hashsalt": "steercpp", "figure.dpi": 100, "savefig.dpi": 160,
}  # fmt: skip


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as a "png" or "svg" file, without date or version: the same figure gives the same bytes."""
    data = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format=kind, metadata=metadata)
    return data.getvalue()


def alignment_figure(result: SweepResult, *, max_loss: float | None = None, direction: int | None = None) -> Figure:
    """B against strength: items' means with their standard errors, the tanh fit with its band, the controls."""
    scores = result.behavior
    assert scores is not None
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure("Alignment", _strength_label(result), "B: aligned minus misaligned")
        axes.axhline(0, color=GREY, linewidth=0.8)
        fit = result.fit()["alignment"][0]
        if fit.valid:
            _curve(axes, result.strengths, fit, BLUE, f"{fit.form} fit, R² {fit.r2:.3f}")
        _points(axes, result.strengths, scores.normalized, BLUE, "B, normalised")
        axes.plot(result.strengths, scores.mean_raw, color=ORANGE, linewidth=1, marker=".", label="P+ − P−")
        if result.controls.random:
            heights = scores.mean_normalized[result.strengths == 0] + result.controls.normalized_changes
            where = np.full(len(heights), result.controls.strength)
            axes.plot(where, heights, linestyle="", marker="x", color=GREY, markersize=5, label="random directions")
        _mark_recommended(axes, result, max_loss, direction)
        axes.set_ylim(-1.06, 1.06)
        _legend(axes)
    return figure


def helpfulness_figure(result: SweepResult) -> Figure:
    """P(correct) against strength, over the vocabulary and over the choices, each with its best fit."""
    scores = result.choice
    assert scores is not None
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure("Helpfulness", _strength_label(result), "P(correct)")
        for name, values, color, words in (
            ("helpfulness", scores.p_free, BLUE, "over the vocabulary"),
            ("helpfulness_restricted", scores.p_restricted, ORANGE, "over the choices"),
        ):
            _points(axes, result.strengths, values, color, words)
            best = next((fit for fit in result.fit().get(name, ()) if fit.valid), None)
            if best is not None:
                _curve(axes, result.strengths, best, color, f"{best.form} fit, R² {best.r2:.3f}")
        axes.plot(result.strengths, scores.accuracy, color=GREY, linewidth=1, marker=".", label="accuracy")
        axes.set_ylim(0, 1.02)
        _legend(axes)
    return figure


def tradeoff_figure(result: SweepResult, *, max_loss: float | None = None, direction: int | None = None) -> Figure:
    """P(correct) relative to strength 0 against B, strength along the curve, with the budget."""
    assert result.behavior is not None and result.choice is not None
    budget = result.manifest["plan"]["max_loss"] if max_loss is None else max_loss
    b, p = result.behavior.mean_normalized, result.choice.mean_p_free
    p = p / p[result.strengths == 0]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure("Trade-off", "B, normalised", "P(correct) relative to strength 0")
        top = max(1.05, float(p.max()) * 1.02)
        axes.axhspan(1 - budget, top, color=GREEN, zorder=0, linewidth=0, label=f"loss at most {budget:.0%}")
        axes.plot(b, p, color=BLUE, linewidth=1.2, marker="o", markersize=4)
        found = result.recommend(max_loss=max_loss, direction=direction)
        if found is not None:
            _mark_regime(axes, result, found, p)
        for i in _spread(b, p):
            label = f"{result.strengths[i]:+g}" if result.strengths[i] else "0"
            axes.annotate(label, (b[i], p[i]), xytext=(5, 5), textcoords="offset points", fontsize=8)
        axes.set_xlim(-1.06, 1.06)
        axes.set_ylim(0, top)
        axes.legend(loc="lower center")
    return figure


def _mark_regime(axes: Axes, result: SweepResult, found: Recommendation, p: Floats) -> None:
    """The strengths that gain more than they cost, the point where that is used up, and the recommended one."""
    assert result.behavior is not None
    b, s = result.behavior.mean_normalized, result.strengths
    low, high = found.efficient_regime
    inside = (s >= low) & (s <= high)
    if inside.sum() > 1:
        axes.plot(b[inside], p[inside], color=BLUE, linewidth=7, alpha=0.2, label="efficient regime")
    if np.isfinite(found.break_even):
        place = np.interp(found.break_even, s, b), np.interp(found.break_even, s, p)
        axes.plot(*place, "X", color=GREY, markersize=8, linestyle="", label=f"break-even {found.break_even:+.3g}")
    if found.strength is not None:
        i = int(np.flatnonzero(s == found.strength)[0])
        label = f"recommended {found.strength:+g}"
        axes.plot(b[i], p[i], "o", markersize=11, mfc="none", mec=ORANGE, mew=1.8, linestyle="", label=label)


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _strength_label(result: SweepResult) -> str:
    plan = result.manifest["plan"]
    if plan["unit"] == "norm":
        return "strength (share of the residual norm per layer)"
    if plan["unit"] == "kl":
        return f"strength (1: the push that has {plan['kl']:g} nats of KL)"
    is_unit = np.allclose(result.manifest["vector"]["norms"], 1.0, atol=1e-3)
    return f"strength ({'length' if is_unit else 'multiple of the vector'} added per layer)"


def _points(axes: Axes, strengths: Floats, values: Floats, color: str, label: str) -> None:
    means, errors = values.mean(axis=1), standard_error(values)
    axes.errorbar(strengths, means, yerr=errors, fmt="o", color=color, markersize=4, elinewidth=0.8, label=label)


def _curve(axes: Axes, strengths: Floats, fit: FitResult, color: str, label: str) -> None:
    fine = np.linspace(strengths.min(), strengths.max(), 200)
    axes.plot(fine, fit.predict(fine), color=color, linewidth=1.3, label=label)
    low, high = fit.band(fine)
    axes.fill_between(fine, low, high, color=color, alpha=0.15, linewidth=0)


def _mark_recommended(axes: Axes, result: SweepResult, max_loss: float | None, direction: int | None) -> None:
    found = result.recommend(max_loss=max_loss, direction=direction)
    if found is not None and found.strength is not None:
        axes.axvline(
            found.strength, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"recommended {found.strength:+g}"
        )


def _legend(axes: Axes) -> None:
    """A legend that names what was measured before what was fitted to it."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: "fit," in labels[i] or labels[i].startswith("recommended"))
    axes.legend([handles[i] for i in order], [labels[i] for i in order], loc="best")


def _spread(x: Floats, y: Floats) -> list[int]:
    """Points far enough from each other for a label each, the ends first."""
    kept: list[int] = []
    for i in sorted(range(len(x)), key=lambda i: (0 < i < len(x) - 1, i)):
        if all(np.hypot((x[i] - x[j]) / 2.1, (y[i] - y[j]) / 1.1) > 0.06 for j in kept):
            kept.append(i)
    return kept
