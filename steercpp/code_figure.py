"""The picture of generated code: pass@k against strength."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from steercpp.code_answers import WAYS
from steercpp.code_report import bounds, largest_k, ways_of
from steercpp.figures import BLUE, GREY, ORANGE, STYLE
from steercpp.sweep_result import SweepResult


def code_figure(result: SweepResult) -> Figure:
    """pass@1 with its interval, and pass@k, against strength; by the study's extraction too where it was run."""
    ways = ways_of(result)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set(title="Code", xlabel="strength", ylabel="share of problems solved")
        top = 0.05
        for way, colour in zip(ways, (BLUE, ORANGE), strict=False):
            scores, words = ways[way], "" if way == WAYS[0] else f", {way}"
            k, (low, high) = largest_k(scores), bounds(result, scores, 1)
            axes.fill_between(scores.strengths, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(scores.strengths, scores.mean_pass_at(1), color=colour, marker="o", label=f"pass@1{words}")
            if k > 1:
                axes.plot(
                    scores.strengths, scores.mean_pass_at(k), color=colour, linestyle=(0, (4, 2)), linewidth=1,
                    marker=".", label=f"pass@{k}{words}",
                )  # fmt: skip
            top = max(top, float(scores.mean_pass_at(k).max()), float(np.nanmax(np.append(high, 0.0))))
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_ylim(0, min(1.02, 1.1 * top))
        axes.legend(loc="best")
    return figure
