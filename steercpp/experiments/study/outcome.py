"""What a study found: the figures of each run, beside those of the authors' own data where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.aliases import NAN, Floats
from steercpp.data.items import HARMFUL
from steercpp.experiments.study.preset import FIGURES, Preset, RunSpec
from steercpp.runs.result import SweepResult
from steercpp.statistics.fits import FitResult, fit_alignment, fit_helpfulness
from steercpp.statistics.recipes import follow, named_recipe


@dataclass(frozen=True, slots=True)
class StudyRow:
    """Figures of a run, B by "probabilities" or by a matcher's verdicts on texts.

    Attributes:
        measure: which.
        figures: by the names of `preset.FIGURES`; NaN where there is none.
        reasons: why a fit has no figures, in sentences.
    """

    measure: str
    figures: Mapping[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class StudyOutcome:
    """One measured run of a preset."""

    preset: str
    name: str
    spec: RunSpec
    result: SweepResult

    @property
    def title(self) -> str:
        """The preset's name and the run's."""
        return f"{self.preset}: {self.name}"

    def rows(self) -> tuple[StudyRow, ...]:
        """Figures by probabilities, then by generated texts under each matcher that the preset names.

        A fit is the recipe's where the run has one; B is aligned minus misaligned in all of them, and where the items
        are harmful and harmless requests it is of the harmful ones.
        """
        result = self.result
        chosen = slice(None) if result.side_items is None else result.side_items[HARMFUL]
        curves: dict[str, tuple[Floats | None, Floats | None]] = {
            "probabilities": (
                None if result.behavior is None else result.behavior.normalized[:, chosen],
                None if result.choice is None else result.choice.p_free,
            )
        }
        for matcher in self.spec.matchers:
            if (scores := result.text_scores(matcher)) is not None:
                curves[matcher] = (scores.outcomes.astype(np.float64)[:, chosen], None)
        return tuple(self._row(name, b, p) for name, (b, p) in curves.items())

    def _row(self, measure: str, b: Floats | None, p: Floats | None) -> StudyRow:
        strengths = self.result.strengths
        at_0 = int(np.flatnonzero(strengths == 0)[0])
        figures, reasons = dict.fromkeys(FIGURES, NAN), []
        if b is not None:
            means = b.mean(axis=1)
            fit, sign = self._fit("alignment", strengths, b)
            figures |= {name: sign * fit.params[name].value for name in ("delta_lambda", "b0")}
            figures |= {"b_at_0": float(means[at_0]), "crossing": -figures["b0"] / figures["delta_lambda"]}
            if not strengths.min() <= figures["crossing"] <= strengths.max():
                figures["crossing"] = NAN  # nothing was measured there
            reasons += [] if fit.valid else [f"B has no tanh: {self._why_not(strengths, b) or fit.reason}"]
        if p is not None:
            fit, _ = self._fit("p_correct", strengths, p)
            figures |= {"p_at_0": float(p.mean(axis=1)[at_0]), "b": fit.params["b"].value}
            reasons += [] if fit.valid else [f"P(correct) has no fit: {fit.reason}"]
        return StudyRow(measure, figures, tuple(reasons))

    def _fit(self, measure: str, strengths: Floats, values: Floats) -> tuple[FitResult, float]:
        """The fit of a measure, the recipe's if there is one, and the sign that makes B aligned minus misaligned."""
        if self.spec.recipe:
            (followed,) = follow(named_recipe(self.spec.recipe), strengths, {measure: values})
            return followed.fit, -1.0 if followed.turned else 1.0
        fit = fit_alignment if measure == "alignment" else fit_helpfulness
        return fit(strengths, values), 1.0

    def _why_not(self, strengths: Floats, b: Floats) -> str:
        """Why there is no tanh, of B as it is and not as a recipe turns it over; "" where that has one."""
        window = named_recipe(self.spec.recipe).windows["alignment"] if self.spec.recipe else None
        return fit_alignment(strengths, b, window=window).reason

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "preset": self.preset, "run": self.name, "folder": str(self.result.folder),
            "measures": [
                {"measure": row.measure, **_named(row.figures), "reasons": row.reasons} for row in self.rows()
            ],
            "paper": _named(self.spec.paper), "recipe": self.spec.recipe,
        }  # fmt: skip


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures by the names of docs/measures.md; presets and what is stored keep those of `FIGURES`."""
    names = {"b_at_0": "alignment_at_0", "p_at_0": "p_correct_at_0"}
    return {names.get(name, name): value for name, value in figures.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A finished study."""

    folder: Path
    preset: Preset
    outcomes: tuple[StudyOutcome, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "folder": str(self.folder), "preset": self.preset.name, "about": self.preset.about,
            "source": self.preset.source, "runs": [outcome.record() for outcome in self.outcomes],
        }  # fmt: skip
