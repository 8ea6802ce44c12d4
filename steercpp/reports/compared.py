"""Runs that are compared: what each comes to, and what of them may be compared at all.

Gains and costs are those of each run's own verdict. Two runs are compared fairly only where they measured the same
items; where they did not, `differences` says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steercpp.errors import InputError
from steercpp.reports.grids import Grid
from steercpp.runs.judgement import Judgement
from steercpp.runs.labels import strengths_in
from steercpp.runs.verdict import Verdict, VerdictKind, layers_phrase, layers_text, verdict_of
from steercpp.statistics.rounded import percent, plus, strength_text

NO_USE: Mapping[VerdictKind, str] = {  # what stands in place of a strength, by the kind of the verdict
    "use": "", "unproved": "not proved", "costs": "too costly", "nothing": "nothing", "unmeasurable": "not measurable",
    "partial": "no verdict", "unfinished": "unfinished",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run of a comparison.

    Attributes:
        name: what tells it from the others: the end of its path.
        judgement: the run, judged.
        verdict: what it comes to.
    """

    name: str
    judgement: Judgement
    verdict: Verdict

    def record(self) -> dict[str, Any]:
        """Plain data: a row of comparison.csv."""
        manifest, verdict = self.judgement.result.manifest, self.verdict
        gain, cost, prompt, random = verdict.gain, verdict.cost, verdict.prompt, verdict.random
        return {
            "run": self.name, "model": manifest.model.file, "layers": layers_phrase(manifest.vector.layers),
            "unit": manifest.plan.unit, "operator": manifest.plan.operator, "verdict": verdict.kind,
            "recommended": verdict.strength, "at": verdict.at,
            "gain": gain and gain.value, "gain_low": gain and gain.low,
            "loss": cost and cost.value, "loss_high": cost and cost.high, "max_loss": cost and cost.budget,
            "prompt_gain": prompt and prompt.b, "prompt_loss": prompt and prompt.cost,
            "random_gain": random and random.b, "random_gain_most": random and random.b_most,
            "n_behavior": gain and gain.n_items, "n_helpful": cost and cost.n_items,
        }  # fmt: skip


def compared_runs(judgements: Sequence[Judgement]) -> tuple[ComparedRun, ...]:
    """Runs with names that tell them apart.

    Raises:
        InputError: fewer than two, or one twice.
        RunError: a store cannot be read.
    """
    folders = [judgement.result.folder.resolve() for judgement in judgements]
    if len(folders) < 2:
        raise InputError(f"a comparison takes two runs at least, not {len(folders)}")
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f"{folder}: given twice; a run is not compared with itself")
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    names = ["/".join(folder.parts[-parts:]) for folder in folders]
    return tuple(
        ComparedRun(name, judgement, verdict_of(judgement)) for name, judgement in zip(names, judgements, strict=True)
    )


def verdict_grid(runs: Sequence[ComparedRun]) -> Grid:
    """What each run comes to, in a table."""
    headings = ("run", "model", "layers", "use", "gain in B", "at least", "cost", "at most", "prompt baseline")
    rows = []
    for run in runs:
        verdict, manifest = run.verdict, run.judgement.result.manifest
        gain, cost, prompt = verdict.gain, verdict.cost, verdict.prompt
        at = "" if verdict.at is None else f" (at {strength_text(verdict.at)})"
        use = f"{NO_USE[verdict.kind]}{at}" if verdict.strength is None else strength_text(verdict.strength)
        rows.append((
            run.name, manifest.model.file, layers_text(manifest.vector.layers), use,
            "–" if gain is None else plus(gain.value, 2), "–" if gain is None else plus(gain.low, 2),
            "–" if cost is None else percent(cost.value),
            "–" if cost is None else loss_bound_text(cost.high),
            "–" if prompt is None else plus(prompt.b, 2),
        ))  # fmt: skip
    return Grid(headings, tuple(rows), (True, True, True, True, *(False,) * 5))


def differences(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """What the runs have in common and where they differ, as far as it says what may be compared."""
    plans = [run.judgement.result.manifest.plan for run in runs]
    rows: list[tuple[str, str]] = []

    def row(name: str, values: Sequence[str], warning: str = "") -> None:
        if len(set(values)) == 1:
            rows.append((name, f"the same: {values[0]}"))
            return
        listed = "; ".join(f"{run.name} {value}" for run, value in zip(runs, values, strict=True))
        rows.append((name, f"{listed}.{warning and f' {warning}'}"))

    row("model", [run.judgement.result.manifest.model.file for run in runs])
    row("layers", [layers_text(run.judgement.result.manifest.vector.layers) for run in runs])
    row("behavior items", [_short_hash(plan.items.get("behavior")) for plan in plans],
        "Gains in B are not of the same items, so that they say less of each other.")  # fmt: skip
    helpful = [
        ", ".join(f"{kind} {_short_hash(digest)}" for kind, digest in plan.items.items() if kind != "behavior")
        for plan in plans
    ]
    row("helpfulness items", helpful, "Costs are not of the same items; own answers are those of each model.")
    row("strengths in", [strengths_of(run) for run in runs], "Equal strengths are not equal pushes.")
    row("operator", [plan.operator for plan in plans])
    row("tokens", [", ".join(filter(None, (plan.positions, "" if plan.side == "both" else plan.side, plan.gate)))
                   for plan in plans])  # fmt: skip
    row("budget of loss", [percent(run.judgement.max_loss) for run in runs], "The verdicts ask for different things.")
    row("instruction", [f"“{plan.instruction}”" if plan.instruction else "none" for plan in plans])
    return rows


def strengths_of(run: ComparedRun) -> str:
    """What strengths count in a run; runs that count alike have common curves."""
    plan, norms = run.judgement.result.manifest.plan, run.judgement.result.manifest.vector.norms
    return strengths_in(plan.unit, operator=plan.operator, kl=plan.kl, norms=norms)


def loss_bound_text(high: float) -> str:
    """The upper bound of a loss, for a cell."""
    return percent(high) if math.isfinite(high) else "anything"


def _short_hash(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]
