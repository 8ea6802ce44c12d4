"""What the default sweep finds on a real chat model, for each built-in behavior; shown in docs/real-models.md.

`python tests/tables/real_models_table.py MODEL.gguf RUNS` sweeps the model once for each behavior into RUNS/BEHAVIOR,
by the command that the document shows, and writes panels, times, the law's figures and the drawings into the document.
Runs that are finished are only read.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from places import ROOT

from steercpp.aliases import Bools, Floats
from steercpp.data.sets.builtin import BEHAVIOR_SETS
from steercpp.reports.style import BLUE, GREY, ORANGE, STYLE, blank_figure, rendered
from steercpp.reports.tradeoff_figure import tradeoff_figure
from steercpp.runs.judgement import Judgement, judge
from steercpp.runs.manifest import is_finished
from steercpp.runs.preparation import read_preparation
from steercpp.runs.result import open_run
from steercpp.statistics.intervals import resample

DOCUMENT = ROOT / "docs" / "real-models.md"
FIGURES = ROOT / "docs" / "figures"
NEAR = 0.1  # loss of everyday answers up to which a strength counts as near 0
GOOD = 0.9  # R² from which an item's log odds are called straight


@dataclass(frozen=True, slots=True)
class Law:
    """Theorems 1 and 2 on one run.

    Attributes:
        s: strengths, ascending.
        half_odds: (n_s, n_items) half ln(P+/P-), each item's less its own at 0.
        kl: (n_s,) mean KL per token of the everyday answers.
        near: which strengths are near 0.
        slope: of the mean, with its interval: Delta*lambda; slope_r2 of the line.
        curvature: c of KL = c s²; curvature_r2 of the parabola.
        n_straight, n_wrong: items of an R² of at least `GOOD` near 0, and of a slope below 0.
        breaks: the strengths nearest to 0, one a side, at which the line leaves the interval of the mean.
    """

    s: Floats
    half_odds: Floats
    kl: Floats
    near: Bools
    slope: tuple[float, float, float]
    slope_r2: float
    curvature: tuple[float, float, float]
    curvature_r2: float
    n_straight: int
    n_wrong: int
    breaks: tuple[float, ...]


def law_of(judgement: Judgement) -> Law | None:
    """The law's figures; None where helpfulness is not that of everyday answers."""
    result = judgement.result
    if result.behavior is None or result.own is None:
        return None
    s, kl_items = result.strengths, result.own.kl
    at_0 = int(np.flatnonzero(s == 0)[0])
    half = result.behavior.log_odds / 2
    half_odds, kl = half - half[at_0], kl_items.mean(axis=1)
    near = 1 - np.exp(-kl) <= NEAR
    x = s[near]

    def slope(means: Floats) -> Floats:
        return np.asarray(means @ (x - x.mean()) / ((x - x.mean()) ** 2).sum())[:, None]

    def curvature(means: Floats) -> Floats:
        return np.asarray(means @ x**2 / (x**4).sum())[:, None]

    bounds = [
        resample(items[near], of, rng=np.random.default_rng(0))
        for items, of in ((half_odds, slope), (kl_items, curvature))
    ]
    values = [
        float(of(items[near].mean(axis=1)[None])[0, 0]) for items, of in ((half_odds, slope), (kl_items, curvature))
    ]
    means = half_odds.mean(axis=1)
    line = means[near].mean() + values[0] * (s - x.mean())
    of_items = np.array([slope(item[None])[0, 0] for item in half_odds[near].T])
    residual = half_odds[near] - half_odds[near].mean(axis=0) - np.outer(x - x.mean(), of_items)
    spread = ((half_odds[near] - half_odds[near].mean(axis=0)) ** 2).sum(axis=0)
    straight = 1 - (residual**2).sum(axis=0) / np.where(spread > 0, spread, np.inf) >= GOOD
    error = 1.96 * half_odds.std(axis=1) / np.sqrt(half_odds.shape[1])
    off = (np.abs(means - line) > error) & ~near
    breaks = [min(s[off & (s * sign > 0)], key=abs) for sign in (-1, 1) if (off & (s * sign > 0)).any()]
    return Law(
        s, half_odds, kl, near,
        (values[0], float(bounds[0].low[0]), float(bounds[0].high[0])), _r2(means[near], line[near]),
        (values[1], float(bounds[1].low[0]), float(bounds[1].high[0])), _r2(kl[near], values[1] * x**2),
        int(straight.sum()), int((of_items < 0).sum()), tuple(map(float, breaks)),
    )  # fmt: skip


def _r2(values: Floats, fitted: Floats) -> float:
    return float(1 - ((values - fitted) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def law_figure(law: Law) -> Figure:
    """Half the log odds with their line, and KL with its parabola; what is near 0 is filled."""
    with matplotlib.rc_context(STYLE):
        figure = blank_figure(7.2, 3.4)
        odds, cost = figure.subplots(1, 2)
        means, x = law.half_odds.mean(axis=1), law.s[law.near]
        error = law.half_odds.std(axis=1) / np.sqrt(law.half_odds.shape[1])
        odds.plot(law.s, means[law.near].mean() + law.slope[0] * (law.s - x.mean()), color=GREY, label="line near 0")
        odds.errorbar(law.s, means, yerr=error, fmt="o", color=BLUE, mfc="none", markersize=4)
        odds.plot(x, means[law.near], "o", color=BLUE, markersize=4)
        odds.set(title="Half ln(P+/P−), less that at 0", xlabel="strength (residual norms per layer)")
        odds.set_ylim(1.3 * min(means.min(), 0), 1.3 * max(means.max(), 0.1))
        fine = np.linspace(law.s.min(), law.s.max(), 200)
        cost.plot(fine, law.curvature[0] * fine**2, color=GREY, label="parabola near 0")
        cost.plot(law.s, law.kl, "o", color=ORANGE, mfc="none", markersize=4)
        cost.plot(x, law.kl[law.near], "o", color=ORANGE, markersize=4)
        cost.set(title="KL of everyday answers, nats a token", xlabel="strength (residual norms per layer)")
        cost.set_ylim(0, 1.3 * law.kl.max())
        for axes in (odds, cost):
            axes.legend(loc="best")
    return figure


def swept(model: Path, name: str, folder: Path) -> tuple[str, float]:
    """What the command prints, and the seconds that it took; of an earlier run those of its folder."""
    minutes, panel = folder / "seconds.txt", folder / "panel.txt"
    if not (is_finished(folder) or (panel.exists() and read_preparation(folder) is not None)):
        began = time.monotonic()
        command = [
            str(Path(sys.executable).with_name("steercpp")),
            "sweep",
            str(model),
            "--pairs",
            name,
            "-o",
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        panel.write_text(done.stdout)
        minutes.write_text(f"{time.monotonic() - began:.0f}")
    return panel.read_text(), float(minutes.read_text())


def section(model: Path, name: str, folder: Path) -> list[str]:
    """The lines of one behavior."""
    text, seconds = swept(model, name, folder)
    shown = re.sub(rf"\S*/(?={re.escape(model.name)})", "", text)  # wherever the files lie
    shown = re.sub(rf"\S*{re.escape(folder.name)}/(?=vector|report)", f"runs/{name}/", shown)
    head = [f"### {name}", "", f"    steercpp sweep {model.name} --pairs {name}", ""]
    panel = ["```", *(line.rstrip() for line in shown.strip().splitlines()), "```", ""]
    found = read_preparation(folder)
    prepared = 0 if found is None else sum(found.token_layers.values())
    if not is_finished(folder):
        return [*head, *panel, f"{seconds / 60:.1f} minutes, {prepared / 1e6:.2f} million token-layers.", ""]
    judgement = judge(open_run(folder))
    tokens = judgement.result.manifest.tokens
    sweep = 0 if tokens is None else tokens.token_layers + (tokens.token_layers_texts or 0)
    stages = {} if found is None else found.token_layers
    parts = ", ".join(f"{stage} {n / 1e6:.2f}" for stage, n in stages.items())
    in_all = f"{(prepared + sweep) / 1e6:.2f} million token-layers: {sweep / 1e6:.2f} of the sweep"
    words = [f"{seconds / 60:.1f} minutes, {in_all}, {prepared / 1e6:.2f} before it ({parts}).", ""]
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.svg").write_bytes(rendered(tradeoff_figure(judgement), "svg"))
    words += [f"![Everyday answers kept against B: {name}](figures/{name}.svg)", ""]
    law = law_of(judgement)
    if law is not None:
        (FIGURES / f"{name}-law.svg").write_bytes(rendered(law_figure(law), "svg"))
        words += [*law_lines(law), "", f"![Half ln(P+/P−) and KL against strength: {name}](figures/{name}-law.svg)", ""]
    return [*head, *panel, *words]


def law_lines(law: Law) -> list[str]:
    """The law in a table and a sentence."""
    n = law.half_odds.shape[1]
    where = " and ".join(f"{s:+g}" for s in law.breaks)
    breaks = f"the line leaves the interval of the mean at {where}" if law.breaks else "the line holds over the grid"
    if law.slope[1] <= 0 <= law.slope[2]:
        breaks = "there is no line to follow, because the interval of the slope includes 0"
    slope, curvature = (f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in (law.slope, law.curvature))
    near = f"{law.s[law.near].min():+g} to {law.s[law.near].max():+g}"
    return [
        "| near 0 | per residual norm | R² |",
        "|---|---|---|",
        f"| Δλ, the slope of half ln(P+/P−) | {slope} | {law.slope_r2:.3f} |",
        f"| c of KL = c s² | {curvature} | {law.curvature_r2:.3f} |",
        "",
        f"Near 0 means from {near}: there at most {NEAR:.0%} of the everyday answers is lost. Beyond that, {breaks}.",
        f"{law.n_straight} of {n} items are straight by themselves (R² of at least {GOOD:g}); {law.n_wrong} fall.",
    ]


def write(sections: list[str], document: Path = DOCUMENT) -> None:
    """Put the lines between the document's marks."""
    marks = re.compile(r"(<!-- runs: .*? -->\n).*?(\n<!-- runs end -->)", re.DOTALL)
    text = document.read_text(encoding="utf-8")
    document.write_text(
        marks.sub(lambda match: match[1] + "\n".join(sections).rstrip() + match[2], text), encoding="utf-8"
    )


if __name__ == "__main__":
    model, runs = Path(sys.argv[1]), Path(sys.argv[2])
    write([line for name in BEHAVIOR_SETS for line in section(model, name, runs / name)])
