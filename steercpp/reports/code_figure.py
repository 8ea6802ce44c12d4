"""The picture of generated code: pass@k against strength."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from steercpp.judging.programs import WAYS
from steercpp.reports.figures import BLUE, GREY, ORANGE, STYLE, dodged, legend_below, new_figure, strength_label
from steercpp.runs.code_report import bounds, largest_k, ways_of
from steercpp.runs.result import SweepResult


def code_figure(result: SweepResult) -> Figure:
    """pass@1 with its interval, and pass@k, against strength; by the study's extraction too where it was run."""
    ways = ways_of(result)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure("Code", strength_label(result), "share of problems solved")
        for i, (way, colour) in enumerate(zip(ways, (BLUE, ORANGE), strict=False)):
            scores, words = ways[way], "" if way == WAYS[0] else f", {way}"
            s, p, k = dodged(scores.strengths, i, len(ways)), scores.mean_pass_at(1), largest_k(scores)
            low, high = bounds(result, scores, 1)
            has_interval = bool(np.isfinite(low).all() and np.isfinite(high).all())
            axes.errorbar(
                s, p, yerr=np.clip([p - low, high - p], 0, None) if has_interval else None, color=colour, marker="o",
                markersize=4, elinewidth=0.8, label=f"pass@1{words}{', 95 % intervals' if has_interval else ''}",
            )  # fmt: skip
            if k > 1:
                axes.plot(
                    s, scores.mean_pass_at(k), color=colour, linestyle=(0, (4, 2)), linewidth=1, marker=".",
                    label=f"pass@{k}{words}",
                )  # fmt: skip
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_ylim(-0.03, 1.03)
        legend_below(figure, axes)
    return figure
