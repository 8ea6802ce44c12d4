"""The figures of measured constants; read this to change how they look.

constants-norms         |delta| against strength, with its lines: lambda
constants-noise         spread and mean of the noise against strength, and its quantiles: sigma, normality
constants-separation    the gap against |delta|, and what each layer tells apart: Delta
constants-predicted     B and P(correct) as measured, and as the constants predict them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from steercpp.aliases import Floats
from steercpp.experiments.constants.derive import Constants
from steercpp.experiments.constants.words import number
from steercpp.files import write_together
from steercpp.locks import DRAWING, DRAWING_WAIT_S, writing
from steercpp.reports.style import BLUE, GREY, LEAF, ORANGE, STYLE, VIOLET, blank_figure, rendered
from steercpp.statistics.rounded import fixed

_UNITS = {
    "norm": "strength (share of the residual norm per layer)",
    "kl": "strength (pushes of equal KL)",
    "length": "strength (multiple of the vector per layer)",
}
_KINDS = {"choice": (BLUE, "choice items"), "behavior": (ORANGE, "behavior items")}
_TOKENS = {"top10": (BLUE, "10 likeliest tokens"), "choices": (ORANGE, "wrong choices"), "all": (LEAF, "all, by P")}
_DASHED, _DOTTED = (0, (5, 3)), (0, (1.5, 2))


def write_figures(folder: Path, constants: Constants) -> tuple[Path, ...]:
    """Draw what the constants allow, as PNG and SVG; the same constants give the same bytes.

    Raises:
        RunError: they cannot be written.
    """
    files: dict[str, bytes] = {}
    for name, draw in figures(constants).items():
        figure = draw()
        files |= {f"{name}.{kind}": rendered(figure, kind) for kind in ("png", "svg")}
    with writing(folder, lock=DRAWING, wait_s=DRAWING_WAIT_S, otherwise=""):
        write_together(folder, files)
    return tuple(folder / name for name in files)


def figures(constants: Constants) -> dict[str, Callable[[], Figure]]:
    """How to draw each figure that there is something for."""
    record = constants.record
    drawing: dict[str, Callable[[], Figure]] = {"constants-norms": lambda: norms_figure(constants)}
    if record["noise"] is not None:
        drawing["constants-noise"] = lambda: noise_figure(constants)
    if record["separation"] is not None:
        drawing["constants-separation"] = lambda: separation_figure(constants)
    drawing["constants-predicted"] = lambda: predicted_figure(constants)
    return drawing


def norms_figure(constants: Constants) -> Figure:
    """|U delta| and |delta| against strength: means over queries with their spread, and the lines in their windows."""
    record, s = constants.record, constants.strengths
    last = record["norm"]
    which = "after the final norm" if last == "normed" else "before the final norm"
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(2)
        for panel, name, title in (
            (axes[0], "logits", "|U δ|: change of the logits"),
            (axes[1], last, f"|δ|: change of the last activation, {which}"),
        ):
            for kind, (color, words) in _KINDS.items():
                if kind in record["norms"]:
                    _growth(panel, s, record["norms"][kind][name], color, words)
            panel.set(title=title, xlabel=_UNITS[record["unit"]], ylabel="length")
            panel.set_ylim(bottom=0)
            panel.legend(loc="upper center")
    return figure


def _growth(axes: Axes, s: Floats, growth: Mapping[str, Any], color: str, words: str) -> None:
    axes.errorbar(s, growth["mean"], yerr=growth["std"], fmt="o", color=color, markersize=3.5, elinewidth=0.8)
    slopes = []
    for name, sign in (("negative", -1), ("positive", 1)):
        if (line := growth[name]) is not None:
            x = np.array([0.0, line["reach"]])
            slope, intercept = line["slope"][0], line["intercept"]
            axes.plot(x, intercept + slope * np.abs(x), color=color, linewidth=1.4)
            beyond = np.array([line["reach"], s.max() if sign > 0 else s.min()])
            axes.plot(beyond, intercept + slope * np.abs(beyond), color=color, linewidth=1, linestyle=_DOTTED)
            slopes.append(f"{slope:.3g}")
    axes.plot([], [], "o-", color=color, markersize=3.5, label=f"{words}: slopes {' and '.join(slopes) or 'none'}")


def noise_figure(constants: Constants) -> Figure:
    """The noise's spread and mean against strength, and its quantiles beside the normal distribution's."""
    record, s = constants.record, constants.strengths
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = _panels(2)
        left.axhline(0, color=GREY, linewidth=0.8)
        for name, (color, words) in _TOKENS.items():
            at, rate = record["noise"][name]["at"], record["noise"][name]["lambda_sigma"][0]
            for key, marker, filled in (("std", "o", color), ("mean", "s", "white")):
                values = np.array([[0.0] * 3 if shape is None else shape[key] for shape in at], np.float64)
                bars = np.nan_to_num(np.abs(values[:, 1:].T - values[:, 0]))
                left.errorbar(s, values[:, 0], yerr=bars, fmt=marker, color=color, mfc=filled, markersize=3.5,
                              elinewidth=0.8)  # fmt: skip
            left.plot(s, rate * np.abs(s), color=color, linewidth=1.2, label=f"{words}: λσ = {number(rate)}")
        left.plot([], [], "o", color=GREY, markersize=3.5, label="standard deviation")
        left.plot([], [], "s", color=GREY, mfc="white", markersize=3.5, label="mean")
        left.set(title="Noise x = d − d(correct) on wrong tokens", xlabel=_UNITS[record["unit"]], ylabel="nats")
        left.legend(loc="best", fontsize=8)
        _quantiles(right, record["noise"]["top10"]["at"], s)
    return figure


def _quantiles(axes: Axes, at: Sequence[Any], s: Floats) -> None:
    axes.plot([-3.1, 3.1], [-3.1, 3.1], color=GREY, linewidth=1, label="normal")
    near = [int(np.abs(s - wanted).argmin()) for wanted in (s.min(), s.min() / 2, s.max() / 2, s.max())]
    for place, color in zip(dict.fromkeys(near), (VIOLET, ORANGE, BLUE, LEAF), strict=False):
        if at[place] is not None and at[place]["quantiles"]["normal"]:
            quantiles = at[place]["quantiles"]
            label = f"s = {s[place]:+g}, kurtosis {at[place]['excess_kurtosis'][0]:+.2g}"
            axes.plot(quantiles["normal"], quantiles["measured"], color=color, linewidth=1.4, label=label)
    axes.set(title="Is it normal? (10 likeliest tokens, pooled)", xlabel="quantile of the normal distribution",
             ylabel="quantile of x, standardised")  # fmt: skip
    axes.legend(loc="upper left", fontsize=8)


def separation_figure(constants: Constants) -> Figure:
    """The gap against |delta| at the end of the network, and how well each layer separates the answers."""
    record = constants.record
    separation, layers = record["separation"], record["layers"]
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(3)
        _gaps(axes[0], constants)
        _lens(axes[1], separation["layers"], layers)
        words = {"accuracy": (ORANGE, "queries, own two answers"), "auc": (BLUE, "AUC, any two answers")}
        axes[2].axhline(0.5, color=GREY, linewidth=0.8, linestyle=_DASHED, label="chance")
        for name, (color, label) in words.items():
            _bars(axes[2], layers, [layer[name] for layer in separation["layers"]], color, label)
        axes[2].set(title="Answers separated by δ of the layer", ylabel="share", ylim=(-0.03, 1.03))
        for panel in axes[1:]:
            panel.set_xlabel(f"layer, at strength {record['reference_strength']:+g}")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(layers) == 1:
                panel.set_xlim(layers[0] - 1, layers[0] + 1)
        axes[2].legend(loc="best", fontsize=8)
    return figure


def _gaps(axes: Axes, constants: Constants) -> None:
    separation, s = constants.record["separation"], constants.strengths
    norm = constants.arrays[f"behavior_norms_{constants.record['norm']}"]
    log_odds = constants.arrays["behavior_log_odds"]
    if separation["of"] == "harmful":
        is_harmful = constants.arrays["behavior_harmful"] > 0
        norm, log_odds = norm[:, is_harmful], log_odds[:, is_harmful]
    gap = log_odds - log_odds[s == 0]
    x = np.sign(s)[:, None] * norm
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(x, gap, color=BLUE, linewidth=0.5, alpha=min(1.0, 12 / gap.shape[1] + 0.05))
    axes.plot([], [], color=BLUE, linewidth=0.8, label="each query")
    axes.plot(x.mean(axis=1), gap.mean(axis=1), "o", color=BLUE, markersize=4, label="mean")
    delta = separation["gaps"]["continuations"]["delta_gap"][0]
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, delta * ends, color=ORANGE, linewidth=1.3, label=f"Δ = {number(delta)} nats per unit of |δ|")
    of = "" if separation["of"] == "all" else f", {separation['of']} items"
    axes.set(title=f"Gap at the end of the network{of}", xlabel="sign(s) |δ|", ylabel="change of ln(P+/P−), nats")
    axes.set_ylim(*np.array([1.15, 1.35]) * [min(gap.min(), 0), max(gap.max(), 0)])
    axes.legend(loc="upper left", fontsize=8)


def _lens(axes: Axes, records: Sequence[Mapping[str, Any]], layers: Sequence[int]) -> None:
    axes.axhline(0, color=GREY, linewidth=0.8)
    if records[0]["lens"] is not None:
        rows = [record["lens"]["gap"] for record in records]
        _bars(axes, layers, rows, LEAF, "gap through the final norm and head")
        axes.set(title="Gap read at each layer", ylabel="nats, first tokens")
    else:
        rows = [record["cosine"] for record in records]
        _bars(axes, layers, rows, VIOLET, "cosine of δ and the answers' difference")
        axes.set(title="Margin at each layer", ylabel="cosine")
    axes.set_ylim(*_around(rows))
    axes.legend(loc="best", fontsize=8)


def _around(rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Limits with room for a legend above what is drawn."""
    values = np.nan_to_num(np.array(rows, np.float64))
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    height = high - low or 1.0
    return low - 0.06 * height, high + 0.25 * height


def _bars(axes: Axes, x: Sequence[int], rows: Sequence[Sequence[float]], color: str, label: str) -> None:
    values = np.array(rows, np.float64)
    errors = np.nan_to_num(np.abs(values[:, 1:].T - values[:, 0]))
    axes.errorbar(x, values[:, 0], yerr=errors, fmt="o-", color=color, markersize=4, linewidth=1.2, elinewidth=0.8,
                  label=label)  # fmt: skip


def predicted_figure(constants: Constants) -> Figure:
    """B and P(correct) as measured, beside what the measured constants predict."""
    record, s = constants.record, constants.strengths
    measures = [name for name in ("alignment", "helpfulness") if name in record["predicted"]]
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(len(measures))
        for panel, measure in zip(axes, measures, strict=True):
            curves = record["predicted"][measure]
            if measure == "alignment":
                panel.axhline(0, color=GREY, linewidth=0.8)
                _curve(panel, s, curves["queries"], BLUE, f"slopes at 0: R² {_shown(curves['queries']['r2'])}")
                is_bound = np.isfinite(np.array(curves["bound"]["mean"], np.float64)[s != 0]).any()
                words = "Theorem 1's bound" if is_bound else "no bound: some item is steered the other way"
                _curve(panel, s, curves["bound"], ORANGE, words, linestyle=_DASHED)
                panel.set(title="Alignment", ylabel="B: aligned minus misaligned", ylim=(-1.06, 1.06))
            else:
                for name, law, color, words, linestyle in (
                    ("top10", "quadratic", BLUE, "quadratic, λσ of 10 likeliest tokens", "-"),
                    ("top10", "gaussian", ORANGE, "Gaussian, the same λσ", _DASHED),
                    ("all", "gaussian_with_mean", LEAF, "Gaussian with the mean of x, all tokens", _DOTTED),
                ):
                    curve = curves[name][law]
                    _curve(panel, s, curve, color, f"{words}: R² {_shown(curve['r2'])}", linestyle=linestyle)
                panel.set(title="Helpfulness", ylabel="P(correct)")
                panel.set_ylim(0, min(1.02, 1.6 * max(curves["measured"])))
            panel.plot(s, curves["measured"], "o", color="black", markersize=4, label="measured")
            panel.set_xlabel(_UNITS[record["unit"]])
            panel.legend(loc="best" if measure == "alignment" else "upper center", fontsize=8)
    return figure


def _curve(axes: Axes, s: Floats, curve: Mapping[str, Any], color: str, label: str, *, linestyle: Any = "-") -> None:
    mean, low, high = (np.array(curve[name], np.float64) for name in ("mean", "low", "high"))
    axes.plot(s, mean, color=color, linewidth=1.5, linestyle=linestyle, label=label)
    axes.fill_between(s, low, high, color=color, alpha=0.12, linewidth=0)


def _shown(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else fixed(value, 3) if value > -10 else f"{value:.0f}"


def _panels(n: int) -> tuple[Figure, Sequence[Axes]]:
    figure = blank_figure(5.4 if n == 1 else 4.9 * n, 4.2)
    panels: Sequence[Axes] = np.atleast_1d(figure.subplots(1, n)).tolist()
    return figure, panels
