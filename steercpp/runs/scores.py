"""What was measured of a run, as data: scores by kind of item, means at each strength, and the controls.

A steering vector is compared with random and orthogonal directions of its norms, and with the prompt baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from steercpp.aliases import Bools, Floats
from steercpp.runs.labels import ControlName
from steercpp.statistics.curves import OtherDirections, changes, earned_gain
from steercpp.statistics.intervals import mean_columns
from steercpp.statistics.names import renamed
from steercpp.statistics.scores import (
    AnswerScores,
    BehaviorScores,
    ChoiceScores,
    OwnScores,
    PerplexityScores,
    measured,
    perplexity_columns,
)
from steercpp.statistics.shares import share_columns

SWITCHED_OFF = "switched off"  # why a control is not to be had
NO_INSTRUCTION = "no instruction that asks for the behavior was given"
NO_STRENGTH = "no strength of the wanted sign was measured, so there is none to compare at"
NO_ITEMS = "there are neither behavior, choice, answer nor own items to compare on"


@dataclass(frozen=True, slots=True)
class StrengthMeans:
    """Means over items at one strength; None where the kind of item is not in the sweep.

    Attributes:
        strength: of the vector.
        b, b_raw, mass: normalized B, P+ - P-, and P+ + P-.
        p_free, p_restricted, accuracy: P(correct) over the vocabulary and over the choices, share of right choices.
        p_answer, nats_answer: of free answers, the geometric mean P per token, and ln P of the whole answer.
        perplexity: of the texts, over all their tokens.
        p_restricted_norm, accuracy_norm: as p_restricted and accuracy, by length-normalized ln P; None where all
            choices are by letter.
        helpful: the one of these that the loss is counted in: of choices by letter p_free, by text p_restricted, of
            both each by its own kind; without choices p_answer, without these p_own.
        p_own: of own answers that choose, exp(-KL per token) from the unsteered model.
    """

    strength: float
    b: float | None = None
    b_raw: float | None = None
    mass: float | None = None
    p_free: float | None = None
    p_restricted: float | None = None
    accuracy: float | None = None
    p_answer: float | None = None
    nats_answer: float | None = None
    perplexity: float | None = None
    helpful: float | None = None
    p_restricted_norm: float | None = None
    accuracy_norm: float | None = None
    p_own: float | None = None

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, by the names of docs/measures.md."""
        return renamed(asdict(self))


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of each kind of item, all at the same strengths; None where the kind was not measured."""

    behavior: BehaviorScores | None = None
    choice: ChoiceScores | None = None
    answer: AnswerScores | None = None
    text: PerplexityScores | None = None
    own: OwnScores | None = None

    @property
    def strengths(self) -> Floats:
        """(n_s,) as they were measured."""
        return next(
            (kind.strengths for kind in (self.behavior, self.choice, self.answer, self.text, self.own) if kind),
            np.array([]),
        )

    def by_name(self) -> dict[str, Floats]:
        """(n_s, n_items) of every quantity that is a mean over items, by the names of docs/measures.md."""
        values: dict[str, Floats | Bools] = {}
        if (b := self.behavior) is not None:
            values |= {"alignment": b.normalized, "alignment_raw": b.raw, "mass": b.mass}
        if (c := self.choice) is not None:
            values |= {"p_correct": c.p_free, "p_correct_restricted": c.p_restricted, "accuracy": c.correct}
            if c.by_text.any():
                values |= {"p_correct_restricted_norm": c.p_restricted_norm, "accuracy_norm": c.correct_norm}
        if (a := self.answer) is not None:
            values |= {"p_token": a.p_token, "nats": a.nats}
        if (o := self.own) is not None:
            values |= {"p_own": o.p_own, "kl": o.kl} | ({"kl_twin": o.twin} if o.twin.size else {})
        if (h := c or a or o) is not None:
            measure = c.own_measure if c else "p_token" if a else "p_own"
            values["helpfulness"] = measured(h, measure)
        return {name: np.asarray(items, np.float64) for name, items in values.items()}

    def columns(self, rng: Callable[[], np.random.Generator], *names: str) -> dict[str, Floats]:
        """Means over items at each strength with their standard errors and intervals, (n_s,) each.

        Args:
            rng: gives a generator that draws items, a new one for each quantity.
            names: of the quantities; by default all.
        """
        columns: dict[str, Floats] = {}
        for name, items in self.by_name().items():
            if not names or name in names:
                is_share = name.startswith("accuracy")
                columns |= share_columns(name, items) if is_share else mean_columns(name, items, rng=rng())
        if self.text is not None and (not names or "perplexity" in names):
            columns |= perplexity_columns("perplexity", self.text.nats, self.text.n_tokens, rng=rng())
        return columns

    def rows(self) -> tuple[StrengthMeans, ...]:
        """Means at each strength."""
        b, c, a, t, o = self.behavior, self.choice, self.answer, self.text, self.own
        of_own = o.mean_p_own if o else None
        columns = (
            *((b.mean_normalized, b.mean_raw, b.mean_mass) if b else (None,) * 3),
            *((c.mean_p_free, c.mean_p_restricted, c.accuracy) if c else (None,) * 3),
            *((a.mean_p_token, a.mean_nats) if a else (None,) * 2),
            t.perplexity if t else None,
            measured(c, c.own_measure).mean(axis=1) if c else a.mean_p_token if a else of_own,
            *((c.mean_p_restricted_norm, c.accuracy_norm) if c and c.by_text.any() else (None,) * 2),
            of_own,
        )
        return tuple(
            StrengthMeans(float(s), *(None if column is None else float(column[i]) for column in columns))
            for i, s in enumerate(self.strengths)
        )


@dataclass(frozen=True, slots=True)
class Control:
    """What was measured under one label at one strength; None for a kind of item that the sweep lacks."""

    label: str
    behavior: BehaviorScores | None
    choice: ChoiceScores | None
    answer: AnswerScores | None = None
    own: OwnScores | None = None

    @property
    def scores(self) -> Scores:
        """All kinds of items together."""
        return Scores(self.behavior, self.choice, self.answer, own=self.own)

    @property
    def row(self) -> StrengthMeans:
        """Means over items."""
        return self.scores.rows()[0]


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """The controls of a sweep, as far as they are measured.

    Attributes:
        strength: where the directions were measured; None where none were.
        random: each random direction.
        orthogonal: the direction orthogonal to the vector at every layer.
        prompt: the instruction before every prompt, at strength 0.
        off: for each of "random", "orthogonal" and "prompt" that is not to be had, why.
        unsteered: the same items at strength 0 without an instruction, which changes are counted from.
        n_planned: how many random directions there will be.
    """

    strength: float | None
    random: tuple[Control, ...]
    orthogonal: Control | None
    prompt: Control | None
    off: Mapping[str, str]
    unsteered: Control | None = None
    n_planned: int = 1

    @property
    def other_directions(self) -> tuple[OtherDirections | None, str]:
        """What the vector's gain has to beat, and in words what of it is still to be measured, or ""."""
        missing = [
            name for name, there in (
                (ControlName.RANDOM, len(self.random) >= max(self.n_planned, 1)),
                (ControlName.ORTHOGONAL, self.orthogonal is not None),
            )
            if not there and name not in self.off
        ]  # fmt: skip
        if missing:
            return (
                None,
                f"the {' and '.join(missing)} directions are not measured yet; run the same sweep again to go on",
            )
        b = [control.behavior.normalized[0] for control in self.random if control.behavior is not None]
        orthogonal = None if self.orthogonal is None else self.orthogonal.behavior
        if self.strength is None or not (b or orthogonal):
            return None, ""
        n_items = len(b[0]) if b else orthogonal.normalized.shape[1] if orthogonal else 0
        of_orthogonal = None if orthogonal is None else orthogonal.normalized[0]
        return OtherDirections(self.strength, np.array(b).reshape(len(b), n_items), of_orthogonal), ""

    @property
    def raw_changes(self) -> Floats:
        """(n_random,) change of mean raw B by each random direction; empty without behavior items."""
        return self._changes("b_raw")

    @property
    def normalized_changes(self) -> Floats:
        """(n_random,) change of mean normalized B, likewise."""
        return self._changes("b")

    def _changes(self, key: str) -> Floats:
        base = None if self.unsteered is None else getattr(self.unsteered.row, key)
        if base is None:
            return np.array([])
        return np.array([getattr(control.row, key) - base for control in self.random])

    def record(self) -> dict[str, Any]:
        """Plain data for JSON: the means under each control; of the random directions also how much they change B."""

        def means(control: Control | None) -> dict[str, Any] | None:
            return None if control is None else {"label": control.label, **control.row.record()}

        record: dict[str, Any] = {
            "strength": self.strength, "n": len(self.random), "off": dict(self.off),
            "unsteered": means(self.unsteered), "random": [means(control) for control in self.random],
            "orthogonal": means(self.orthogonal), "prompt": means(self.prompt),
        }  # fmt: skip
        for name, of_directions in (("alignment", self.normalized_changes), ("alignment_raw", self.raw_changes)):
            sizes = np.abs(of_directions)
            record[name] = None if not len(of_directions) else {
                "changes": of_directions.tolist(), "median": float(np.median(sizes)), "maximum": float(sizes.max())
            }  # fmt: skip
        return record


def control_strength(
    strengths: Floats,
    behavior: BehaviorScores | None,
    helpful: Floats | None,
    *,
    direction: int,
    candidate: float | None,
) -> float | None:
    """Where directions are compared: at the candidate to recommend; else where the gain in B that counts is largest.

    Without behavior items it is the farthest strength from 0 up to which half of the unsteered helpfulness is left:
    beyond, any push of that size has done its damage.

    Args:
        strengths: (n_s,) as they were measured.
        behavior: there, None without such items.
        helpful: (n_s, n_items) helpfulness there, between 0 and 1; None without such items.
        direction: 1 or -1, the wanted sign.
        candidate: the strength that may be recommended, None without one.

    Returns:
        None where no strength of the wanted sign was measured, or only texts.
    """
    if candidate is not None:
        return candidate
    wanted = sorted((i for i, s in enumerate(strengths) if s * direction > 0), key=lambda i: abs(strengths[i]))
    if not wanted:
        return None
    if 0.0 not in strengths:
        return None
    if behavior is not None:
        at_0 = int(np.flatnonzero(strengths == 0.0)[0])
        items = (behavior.normalized, *changes(behavior.p_aligned, behavior.mass, at_0=at_0))
        gains = earned_gain(*(of_all.mean(axis=1)[None] for of_all in items), at_0=at_0)[0]
        return float(strengths[max(wanted, key=lambda i: gains[i])])
    if helpful is None:
        return None
    means = helpful.mean(axis=1)
    half = means[strengths == 0.0][0] / 2
    lost = next((place for place, i in enumerate(wanted) if means[i] < half), len(wanted))
    return float(strengths[wanted[max(lost - 1, 0)]])
