"""What a sweep measured, read from its run directory; read this to fit, recommend or rescore without a model.

result = open_run(Path("runs/refusal"))
result.behavior.normalized.mean(axis=1)     # B at each strength
result.recommend(max_loss=0.1).strength
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.errors import RunError
from steercpp.recommend import Recommendation, recommend
from steercpp.run_folder import NEXT, STORE, VECTOR_FILE, Manifest, read_manifest, read_swept_vector
from steercpp.scoring import BehaviorScores, ChoiceScores
from steercpp.store import Store
from steercpp.sweep_scores import behavior_scores, complete, first_missing, stored_choice_scores
from steercpp.tasks import ChoiceItem
from steercpp.theory import FitResult, fit_alignment, fit_helpfulness_forms

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """What random directions of the same norms do to B at one strength.

    Attributes:
        strength: where they were measured.
        raw_changes, normalized_changes: (n_random,) change of mean B against strength 0, by each direction.
    """

    strength: float
    raw_changes: Floats
    normalized_changes: Floats

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, with the median and the largest size of the changes."""
        found: dict[str, Any] = {"strength": self.strength, "n": len(self.raw_changes)}
        for name, changes in (("b", self.normalized_changes), ("b_raw", self.raw_changes)):
            sizes = np.abs(changes)
            found[name] = {
                "changes": changes.tolist(), "median": float(np.median(sizes)), "maximum": float(sizes.max())
            }  # fmt: skip
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """Means over items at one strength; None where the kind of item is not in the sweep.

    Attributes:
        strength: of the vector.
        b, b_raw, mass: normalised B, P+ - P-, and P+ + P-.
        p_free, p_restricted, accuracy: P(correct) over the vocabulary and over the choices, share of right choices.
    """

    strength: float
    b: float | None
    b_raw: float | None
    mass: float | None
    p_free: float | None
    p_restricted: float | None
    accuracy: float | None


class SweepResult:
    """A run's measurements with what follows from them; every strength is here at which all items are measured.

    Attributes:
        folder, manifest: the run directory and what its manifest says.
        behavior, choice: scores at `strengths`, None where the sweep has no such items.
        controls: the random directions measured so far, None without any.
        decoded_now: tokens decoded by the call that returned this; 0 where everything was read.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        behavior: BehaviorScores | None,
        choice: ChoiceScores | None,
        controls: Controls | None,
        n_choices: int | None,
        decoded_now: int = 0,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.behavior = behavior
        self.choice = choice
        self.controls = controls
        self.decoded_now = decoded_now
        self._n_choices = n_choices
        self._recommended: dict[tuple[float, int], Recommendation] = {}

    @property
    def finished(self) -> bool:
        """Whether everything that was planned is measured."""
        return self.manifest["finished"] is not None

    @property
    def strengths(self) -> Floats:
        """Strengths, ascending."""
        scores = self.behavior or self.choice
        return np.array([]) if scores is None else scores.strengths

    @property
    def vector_path(self) -> Path:
        """The control vector that was swept."""
        return self.folder / VECTOR_FILE

    @cached_property
    def _fits(self) -> dict[str, tuple[FitResult, ...]]:
        fits: dict[str, tuple[FitResult, ...]] = {}
        if self.behavior is not None:
            fits["alignment"] = (fit_alignment(self.strengths, self.behavior.normalized, rng=self._rng()),)
        if self.choice is not None:
            fits["helpfulness"] = fit_helpfulness_forms(self.strengths, self.choice.p_free, rng=self._rng())
            if self._n_choices is not None:
                fits["helpfulness_restricted"] = fit_helpfulness_forms(
                    self.strengths,
                    self.choice.p_restricted,
                    restricted=True,
                    n_choices=self._n_choices,
                    rng=self._rng(),
                )
        return fits

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self.manifest["plan"]["seed"])

    def fit(self) -> Mapping[str, tuple[FitResult, ...]]:
        """The theory's curves fitted to the measured ones, best first.

        Returns:
            "alignment": tanh over normalised B; "helpfulness": the forms over free P(correct), by AICc;
            "helpfulness_restricted": over restricted P(correct), where all items have as many choices.
        """
        return self._fits

    def recommend(self, *, max_loss: float | None = None, direction: int | None = None) -> Recommendation | None:
        """The strength to use under a loss budget; without arguments the plan's own.

        Returns:
            None where there are no behaviour items or no choice items to decide by.
        """
        if self.behavior is None or self.choice is None:
            return None
        plan = self.manifest["plan"]
        budget = plan["max_loss"] if max_loss is None else max_loss
        sign: Literal[1, -1] = 1 if (direction or plan["direction"]) > 0 else -1
        if (budget, sign) not in self._recommended:
            self._recommended[budget, sign] = recommend(
                self.behavior, self.choice, direction=sign, max_loss=budget, rng=self._rng()
            )
        return self._recommended[budget, sign]

    def rows(self) -> tuple[Row, ...]:
        """Means at each strength."""
        b, c = self.behavior, self.choice
        columns = (
            *((b.mean_normalized, b.mean_raw, b.mean_mass) if b else (None,) * 3),
            *((c.mean_p_free, c.mean_p_restricted, c.accuracy) if c else (None,) * 3),
        )
        return tuple(
            Row(float(s), *(None if column is None else float(column[i]) for column in columns))
            for i, s in enumerate(self.strengths)
        )

    def to_json(self, *, max_loss: float | None = None, direction: int | None = None) -> dict[str, Any]:
        """Everything that follows from the run, as plain data; NaN stands where a number would mean nothing."""
        found = self.recommend(max_loss=max_loss, direction=direction)
        controls = self.controls
        return {
            "run": str(self.folder),
            "finished": self.finished,
            "model": self.manifest["model"],
            "vector": self.manifest["vector"] | {"file": str(self.vector_path)},
            "items": self.manifest["items"],
            "plan": self.manifest["plan"],
            "tokens": self.manifest["tokens"],
            "resume": self.manifest["resume"],
            "gate_open": self.manifest["gate_open"],
            "strengths": [asdict(row) for row in self.rows()],
            "fits": {measure: [fit.record() for fit in fits] for measure, fits in self.fit().items()},
            "recommendation": None if found is None else found.record(),
            "controls": None if controls is None else controls.record(),
        }


def open_run(folder: Path | str, *, strengths: Sequence[float] | None = None, decoded_now: int = 0) -> SweepResult:
    """Read a run directory, finished or not.

    Args:
        folder: the directory.
        strengths: only these; by default all that are finished.
        decoded_now: see `SweepResult`.

    Raises:
        RunError: it is none, it is damaged, no strength is finished in it, or it says that it is finished but lacks
            measurements or its vector.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    finished = manifest["finished"] is not None
    if finished:
        read_swept_vector(folder, manifest)
    with Store.read(folder / STORE, settled=finished) as store:
        if store.plan_sha256 != manifest["plan_sha256"]:
            raise RunError(f"{folder}: {STORE} belongs to another plan than the manifest; use --force to start again")
        kinds = [kind for kind in ("behavior", "choice") if manifest["plan"][f"{kind}_sha256"]]
        if finished and (lacking := first_missing(store, manifest["plan"], manifest["items"])):
            raise RunError(f"{folder / STORE}: lacks {lacking}, though the run is marked as finished; {NEXT}")
        wanted = manifest["plan"]["strengths"] if strengths is None else strengths
        found = [s for s in wanted if all(complete(store, "vector", kind, s) for kind in kinds)]
        if not found:
            raise RunError(f"{folder}: no strength is finished yet; run the same sweep again to go on")
        n_choices = {len(item.choices) for item in store.items("choice") if isinstance(item, ChoiceItem)}
        return SweepResult(
            folder,
            manifest,
            behavior=behavior_scores(store, "vector", found) if "behavior" in kinds else None,
            choice=stored_choice_scores(store, found) if "choice" in kinds else None,
            controls=_controls(store) if "behavior" in kinds and 0.0 in found else None,
            n_choices=n_choices.pop() if len(n_choices) == 1 else None,
            decoded_now=decoded_now,
        )


def _controls(store: Store) -> Controls | None:
    """The finished random directions, all of them measured at one strength."""
    found = sorted({(g.label, g.strength) for g in store.finished() if g.label != "vector"}, key=_number)
    rows = [(label, s) for label, s in found if complete(store, label, "behavior", s)]
    if not rows:
        return None
    base = behavior_scores(store, "vector", [0.0])
    scores = [behavior_scores(store, label, [s]) for label, s in rows]
    return Controls(
        strength=rows[0][1],
        raw_changes=np.array([each.mean_raw[0] - base.mean_raw[0] for each in scores]),
        normalized_changes=np.array([each.mean_normalized[0] - base.mean_normalized[0] for each in scores]),
    )


def _number(row: tuple[str, float]) -> int:
    return int(row[0].rpartition("-")[2])
