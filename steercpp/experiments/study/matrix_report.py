"""What a matrix comes to: the best combination of each model and set, and every run beside the others.

    study.html      the page: what is best, the matrix as a table, trade-offs, links to the runs' own pages
    matrix.csv      a row for each run
    matrix.json     the same, with what is best

Of the runs whose strength is recommended the best is the one whose gain is surest on the items that chose the strength.
What is told of it is measured on the other items, so that the best of many does not look better for being chosen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from steercpp.encoding import json_ready
from steercpp.experiments.study.matrix import AXES, Cell, MatrixSpec
from steercpp.experiments.study.page import PAGE
from steercpp.experiments.study.preset import Preset
from steercpp.files import write_together
from steercpp.reports.compared import NO_USE, ComparedRun, loss_bound_text
from steercpp.reports.report import PAGE as RUN_PAGE
from steercpp.reports.templates import rendered_page
from steercpp.runs.verdict import Verdict
from steercpp.spreadsheets import csv_bytes
from steercpp.statistics.rounded import percent, plus, strength_text

CSV, JSON = "matrix.csv", "matrix.json"
FAILED = "failed"  # in place of a verdict's kind
DRAWN = 8  # runs in a figure
CAPTION = (
    "Each point is a strength; a ring marks the one to use. Further right is more aligned, further down less helpful."
)
_OF_RUN = ("run", "model", "operator")  # what a row says by itself


@dataclass(frozen=True, slots=True, eq=False)
class MatrixOutcome:
    """A run of a matrix.

    Attributes:
        cell: which.
        folder: where it is.
        run: what it comes to; None where it could not be measured.
        reason: why not.
    """

    cell: Cell
    folder: Path
    run: ComparedRun | None
    reason: str = ""

    @property
    def kind(self) -> str:
        """The kind of its verdict, or `FAILED`."""
        return FAILED if self.run is None else self.run.verdict.kind

    @property
    def chosen_by(self) -> float:
        """What recommended runs are compared by: at least so much B is gained on the choosing items."""
        recommendation = None if self.run is None else self.run.judgement.recommendation
        if recommendation is None or recommendation.strength is None or recommendation.chosen_on is None:
            return -float("inf")
        return recommendation.chosen_on.gain_low

    def use(self) -> str:
        """The strength to use, or what there is in place of one."""
        if self.run is None:
            return FAILED
        verdict = self.run.verdict
        return NO_USE[verdict.kind] if verdict.strength is None else strength_text(verdict.strength)

    def gain(self) -> tuple[str, str]:
        """How much B is gained, and at least."""
        gain = None if self.run is None else self.run.verdict.gain
        return ("", "") if gain is None else (plus(gain.value, 2), plus(gain.low, 2))

    def loss(self) -> tuple[str, str]:
        """Which share of helpfulness is lost, and at most."""
        cost = None if self.run is None else self.run.verdict.cost
        return ("", "") if cost is None else (percent(cost.value), loss_bound_text(cost.high))


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """What a model comes to on a set.

    Attributes:
        model, set: which.
        outcome: the best run whose strength is recommended; None without any.
        outcomes: all of them.
    """

    model: str
    set: str
    outcome: MatrixOutcome | None
    outcomes: Sequence[MatrixOutcome]

    @property
    def verdict(self) -> Verdict | None:
        """That of the best run."""
        return None if self.outcome is None or self.outcome.run is None else self.outcome.run.verdict

    def headline(self) -> str:
        """One sentence."""
        if self.outcome is None or self.verdict is None:
            return f"{self.model} on {self.set}: no combination has a strength to recommend."
        vector, band, operator = self.outcome.cell.manner
        return f"{self.model} on {self.set}: {vector}, {band}, {operator}. {self.verdict.headline}"

    @property
    def nearest(self) -> str:
        """Of runs without a strength to recommend the one that gains most, and what keeps it; "" where one is best."""
        tried = [outcome for outcome in self.outcomes if outcome.run and outcome.run.verdict.gain]
        if self.outcome is not None or not tried:
            return ""
        most = max(tried, key=_surest)
        assert most.run is not None
        return f"Most is gained by {', '.join(most.cell.manner)}. {most.run.verdict.headline} {most.run.verdict.reason}"

    def reason(self) -> str:
        """What became of the runs, counted."""
        counts = Counter(outcome.kind for outcome in self.outcomes)
        words = {str(kind): what for kind, what in NO_USE.items()} | {"use": "recommended", FAILED: FAILED}
        told = ", ".join(
            f"{n} {words[kind]}" for kind, n in sorted(counts.items(), key=lambda of: (of[0] != "use", of))
        )
        return f"Of {len(self.outcomes)} combination{'s' if len(self.outcomes) > 1 else ''}: {told}."

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model, "set": self.set, "run": self.outcome and self.outcome.cell.name,
            "verdict": self.verdict and self.verdict.record(), "headline": self.headline(), "reason": self.reason(),
            "nearest": self.nearest,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class MatrixResult:
    """A matrix, measured as far as it can be.

    Attributes:
        folder: of the study.
        preset: with the matrix.
        files: of its models, by name.
        outcomes: every run, in the matrix's order.
    """

    folder: Path
    preset: Preset
    files: Mapping[str, Path]
    outcomes: tuple[MatrixOutcome, ...]

    @property
    def matrix(self) -> MatrixSpec:
        """What was measured."""
        assert self.preset.matrix is not None
        return self.preset.matrix

    @property
    def failed(self) -> dict[str, tuple[MatrixOutcome, ...]]:
        """The runs that could not be measured, by the reason."""
        by_reason: dict[str, tuple[MatrixOutcome, ...]] = {}
        for outcome in self.outcomes:
            if outcome.run is None:
                by_reason[outcome.reason] = (*by_reason.get(outcome.reason, ()), outcome)
        return by_reason

    @property
    def failure(self) -> str:
        """What could not be measured, in a sentence; "" where all was."""
        missing = [outcome for outcomes in self.failed.values() for outcome in outcomes]
        if not missing:
            return ""
        names = ", ".join(outcome.cell.name for outcome in missing[:3])
        names += f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return (
            f"{self.folder}: {len(missing)} of {len(self.outcomes)} runs could not be measured ({names}); the others "
            "were, and the same study again tries these once more"
        )

    @property
    def best(self) -> tuple[Best, ...]:
        """What each model comes to on each set."""
        found = []
        for model, name in self.columns:
            outcomes = [each for each in self.outcomes if (each.cell.model, each.cell.set) == (model, name)]
            used = [outcome for outcome in outcomes if outcome.kind == "use"]
            found.append(Best(model, name, max(used, key=lambda of: of.chosen_by, default=None), outcomes))
        return tuple(found)

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Model and set of each column of the matrix."""
        there = {(outcome.cell.model, outcome.cell.set) for outcome in self.outcomes}
        return tuple(
            (model, name) for model in self.matrix.models for name in self.matrix.sets if (model, name) in there
        )

    def rows(self) -> list[dict[str, Any]]:
        """Plain data of each run: a row of matrix.csv, with the columns of comparison.csv behind its own."""
        empty: dict[str, Any] = {}
        records = [outcome.run.record() if outcome.run else None for outcome in self.outcomes]
        for record in records:
            empty = empty or dict.fromkeys(record or ())
        rows = []
        for outcome, record in zip(self.outcomes, records, strict=True):
            tokens = None if outcome.run is None else outcome.run.judgement.result.manifest.tokens
            told = {key: value for key, value in (record or empty).items() if key not in _OF_RUN}
            rows.append({
                "run": outcome.cell.name, **{axis: getattr(outcome.cell, axis) for axis in AXES},
                "folder": outcome.folder.relative_to(self.folder).as_posix(), **told, "verdict": outcome.kind,
                "token_layers": tokens and tokens.token_layers,
                "token_layers_texts": tokens and tokens.token_layers_texts, "reason": outcome.reason,
            })  # fmt: skip
        return rows

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "folder": str(self.folder), "preset": self.preset.name, "about": self.preset.about,
            "source": self.preset.source, "models": {name: path.name for name, path in self.files.items()},
            "best": [best.record() for best in self.best], "runs": self.rows(),
            "failed": [
                {"runs": [outcome.cell.name for outcome in outcomes], "reason": reason}
                for reason, outcomes in self.failed.items()
            ],
        }  # fmt: skip


def write_matrix(found: MatrixResult) -> None:
    """Write the page and the tables of a matrix into its folder; the same runs give the same bytes.

    Raises:
        RunError: a run cannot be read, or the files cannot be written.
    """
    rows = found.rows()
    data = {**found.to_json(), "folder": ""}  # it may be moved
    write_together(found.folder, {
        CSV: csv_bytes({name: [row[name] for row in rows] for name in rows[0]}),
        JSON: (json.dumps(json_ready(data), indent=2, allow_nan=False) + "\n").encode(),
        PAGE: rendered_page("matrix.html", _content(found)).encode(),
    })  # fmt: skip


def _content(found: MatrixResult) -> dict[str, Any]:
    """What the page says, by the names of its template."""
    best = found.best
    chosen = {id(one.outcome) for one in best}
    by_place = {(outcome.cell.manner, outcome.cell.model, outcome.cell.set): outcome for outcome in found.outcomes}
    manners = dict.fromkeys(outcome.cell.manner for outcome in found.outcomes)
    columns = found.columns
    models = dict.fromkeys(model for model, _ in columns)
    return {
        "title": f"Study {found.preset.name}", "about": found.preset.about, "source": found.preset.source,
        "best": [
            {
                "kind": "use" if one.outcome else "none", "headline": one.headline(), "reason": one.reason(),
                "nearest": one.nearest, "facts": one.verdict.facts if one.verdict else (),
                "page": _page(found, one.outcome) if one.outcome else "",
            } for one in best
        ],
        "models": [(model, found.files[model].name, sum(of == model for of, _ in columns)) for model in models],
        "sets": [name for _, name in columns],
        "rows": [
            (manner, [_cell(found, by_place.get((manner, *column)), chosen) for column in columns])
            for manner in manners
        ],
        "max_loss": percent(found.matrix.max_loss, 0),
        "failed": [
            ([outcome.cell.name for outcome in outcomes], reason) for reason, outcomes in found.failed.items()
        ],
        "figures": [
            {"name": f"tradeoffs-{i}", "title": f"{one.model} on {one.set}", "drawing": drawing, "numbers": None,
             "caption": f"{one.model} on {one.set}. {CAPTION}{said}"}
            for i, one in enumerate(best) for drawing, said in _drawing(one, f"tradeoffs-{i}")
        ],
        "runs": [
            {
                "name": outcome.cell.name, "page": _page(found, outcome), "headline": outcome.run.verdict.headline,
                "reason": outcome.run.verdict.reason,
            } for outcome in found.outcomes if outcome.run
        ],
    }  # fmt: skip


def _cell(found: MatrixResult, outcome: MatrixOutcome | None, chosen: set[int]) -> dict[str, Any] | None:
    """A cell of the table; None where the combination is excluded."""
    if outcome is None:
        return None
    return {
        "kind": outcome.kind, "use": outcome.use(), "gain": outcome.gain(), "loss": outcome.loss(),
        "page": "" if outcome.run is None else _page(found, outcome), "is_best": id(outcome) in chosen,
        "reason": outcome.reason if outcome.run is None else outcome.run.verdict.headline,
    }  # fmt: skip


def _surest(outcome: MatrixOutcome) -> tuple[bool, float]:
    """By what runs without a recommended strength are compared: within the budget, as measured, then by their gain."""
    verdict = None if outcome.run is None else outcome.run.verdict
    if verdict is None or verdict.gain is None:
        return False, -float("inf")
    return verdict.cost is not None and verdict.cost.value <= verdict.cost.budget, verdict.gain.low


def _page(found: MatrixResult, outcome: MatrixOutcome) -> str:
    return (outcome.folder / RUN_PAGE).relative_to(found.folder).as_posix()


def _drawing(best: Best, name: str) -> list[tuple[Markup, str]]:
    """The trade-offs of a model's runs on a set in one figure, with what it leaves out; nothing where there is none."""
    there = [outcome for outcome in best.outcomes if outcome.run and outcome.run.judgement.result.curves() is not None]
    if not there:
        return []
    from steercpp.reports.comparison_figures import tradeoffs
    from steercpp.reports.style import CSS_COLORS, rendered
    from steercpp.reports.svg import inline

    shown = sorted(there, key=lambda outcome: -outcome.chosen_by)[:DRAWN]
    runs = [
        ComparedRun("/".join(outcome.cell.manner), outcome.run.judgement, outcome.run.verdict)
        for outcome in there if outcome in shown and outcome.run
    ]  # fmt: skip
    said = f" The {DRAWN} best of {len(there)} runs." if len(there) > DRAWN else ""
    return [(inline(rendered(tradeoffs(runs), "svg"), name, CAPTION, CSS_COLORS), said)]
