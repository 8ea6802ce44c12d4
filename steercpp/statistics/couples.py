"""Whether the items whose behavior moves most are those that lose most helpfulness; read this for what is correlated.

Items of one couple share its name. A couple has a behavior item and a choice item, or a harmful and a harmless
request; of the latter, P of complying with the harmless one is helpfulness. Over the couples, the change of B against
strength 0 is correlated with the change of helpfulness, strength by strength.

A correlation says nothing of cause: strengths at which the model breaks move everything at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from steercpp.aliases import NAN, Floats
from steercpp.data.items import HARMFUL, HARMLESS, BehaviorItem, ChoiceItem
from steercpp.errors import ShapeError, StrengthError
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, RESAMPLES, Interval, level
from steercpp.statistics.scores import BehaviorScores, ChoiceScores

FEWEST_COUPLES = FEWEST_ITEMS
FLAT = 1e-12  # a spread of changes that is rounding
Helpful: TypeAlias = Literal["choice", "harmless"]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Change of B against change of helpfulness over the couples, at one strength.

    pearson and spearman are NaN where one of the two does not change, or changes alike in every couple.
    """

    strength: float
    pearson: Interval
    spearman: Interval

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"strength": self.strength, "pearson": self.pearson.named(), "spearman": self.spearman.named()}


@dataclass(frozen=True, slots=True, eq=False)
class Coupled:
    """Couples of a run.

    Attributes:
        helpful: what stands for helpfulness: P(correct) of a "choice" item, or P(comply) with a "harmless" request.
        names: of the couples.
        changes_b, changes_p: (n_s, n_couples) changes against strength 0.
        correlations: for every strength but 0; empty where `reason` says why.
        reason: why there is no correlation, or "".
        confidence: of the intervals.
    """

    helpful: Helpful
    names: tuple[str, ...]
    strengths: Floats
    changes_b: Floats
    changes_p: Floats
    correlations: tuple[Correlation, ...]
    reason: str
    confidence: float

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "helpful": self.helpful, "n": len(self.names), "reason": self.reason, "confidence": self.confidence,
            "correlations": [correlation.record() for correlation in self.correlations],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Couples:
    """B and helpfulness of each couple, (n_s, n_couples) each."""

    helpful: Helpful
    names: tuple[str, ...]
    b: Floats
    p: Floats


def coupled(
    behavior: BehaviorScores,
    behavior_items: Sequence[BehaviorItem],
    choice: ChoiceScores | None = None,
    choice_items: Sequence[ChoiceItem] = (),
    *,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Coupled | None:
    """Correlate, over couples, the change of normalized B with the change of helpfulness.

    Args:
        behavior: scores of the behavior items.
        behavior_items: theirs, in order.
        choice: scores of the choice items, at the same strengths; P(correct) over the vocabulary counts.
        choice_items: theirs, in order.
        rng: draws the couples; None: seeded with 0.
        resamples: samples of couples.
        confidence: of the intervals.

    Returns:
        None where nothing is coupled.

    Raises:
        ShapeError: the two were not measured at the same strengths, or the items are not theirs.
        StrengthError: 0 is not among them.
    """
    if 0.0 not in behavior.strengths:
        raise StrengthError(
            f"strength 0 is missing from {behavior.strengths.tolist()}; changes are measured against it"
        )
    if len(behavior_items) != behavior.normalized.shape[1]:
        raise ShapeError(f"{len(behavior_items)} behavior items for {behavior.normalized.shape[1]} columns of scores")
    couples = _with_choices(behavior, behavior_items, choice, choice_items) or _with_harmless(behavior, behavior_items)
    if couples is None:
        return None
    helpful, names, b, p = couples.helpful, couples.names, couples.b, couples.p
    at_0 = int(np.flatnonzero(behavior.strengths == 0.0)[0])
    b, p = b - b[at_0], p - p[at_0]
    if reason := _too_few(len(names)):
        return Coupled(helpful, names, behavior.strengths, b, p, (), reason, confidence)
    rng = rng or np.random.default_rng(0)

    def correlation(i: int) -> Correlation:
        figures = (_interval(way, b[i], p[i], rng, resamples, confidence) for way in (pearson, spearman))
        return Correlation(float(behavior.strengths[i]), *figures)

    correlations = tuple(correlation(i) for i in range(len(behavior.strengths)) if i != at_0)
    return Coupled(helpful, names, behavior.strengths, b, p, correlations, "", confidence)


def pearson(x: Floats, y: Floats, axis: int = -1) -> Floats:
    """Product-moment correlation along an axis; 0 where one side does not vary, which says nothing of the other."""
    x, y = x - x.mean(axis=axis, keepdims=True), y - y.mean(axis=axis, keepdims=True)
    size = np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))
    return np.asarray((x * y).sum(axis=axis) / np.where(size > 0, size, 1.0))


def spearman(x: Floats, y: Floats, axis: int = -1) -> Floats:
    """Rank correlation along an axis, ties sharing their mean rank."""
    return pearson(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis), axis)


def _too_few(n: int) -> str:
    if n >= FEWEST_COUPLES:
        return ""
    return f"{n} couple{'s are' if n != 1 else ' is'} too few to correlate; it takes {FEWEST_COUPLES}"


def _interval(
    statistic: Callable[..., Floats], x: Floats, y: Floats, rng: np.random.Generator, resamples: int, confidence: float
) -> Interval:
    """A correlation with its interval by resampling couples (BCa, at the level for few of them, see intervals.py)."""
    if np.ptp(x) <= FLAT or np.ptp(y) <= FLAT:
        return Interval(NAN, NAN, NAN, confidence)
    with warnings.catch_warnings():
        # couples on one line have the same correlation in every resample, and no BCa interval
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.filterwarnings("ignore", "invalid value|divide by zero", RuntimeWarning)
        drawn = stats.bootstrap(
            (x, y), statistic, paired=True, vectorized=True, n_resamples=resamples, rng=rng, method="BCa",
            confidence_level=level(confidence, len(x), "two-sided"),
        )  # fmt: skip
    value, ends = float(statistic(x, y)), drawn.confidence_interval
    low, high = (value if np.isnan(end) else float(end) for end in (ends.low, ends.high))
    return Interval(value, low, high, confidence)


def _with_choices(
    behavior: BehaviorScores,
    behavior_items: Sequence[BehaviorItem],
    choice: ChoiceScores | None,
    choice_items: Sequence[ChoiceItem],
) -> _Couples | None:
    """Couples of behavior and choice items; of several in a couple the mean counts."""
    if choice is None:
        return None
    b_of, c_of = _by_couple(behavior_items), _by_couple(choice_items)
    names = tuple(name for name in b_of if name in c_of)
    if not names:
        return None
    if not np.array_equal(behavior.strengths, choice.strengths):
        raise ShapeError(
            f"behavior was measured at {behavior.strengths.tolist()}, choice at {choice.strengths.tolist()}"
        )
    b = np.column_stack([behavior.normalized[:, b_of[name]].mean(axis=1) for name in names])
    p = np.column_stack([choice.p_free[:, c_of[name]].mean(axis=1) for name in names])
    return _Couples("choice", names, b, p)


def _with_harmless(behavior: BehaviorScores, items: Sequence[BehaviorItem]) -> _Couples | None:
    """Couples of a harmful and a harmless request: B of the one, P of complying with the other."""
    sides_of = [_by_couple(items, subject) for subject in (HARMFUL, HARMLESS)]
    names = tuple(name for name in sides_of[0] if name in sides_of[1])
    if not names:
        return None
    b = np.column_stack([behavior.normalized[:, sides_of[0][name]].mean(axis=1) for name in names])
    p = np.column_stack([behavior.p_aligned[:, sides_of[1][name]].mean(axis=1) for name in names])
    return _Couples("harmless", names, b, p)


def _by_couple(items: Sequence[BehaviorItem | ChoiceItem], subject: str | None = None) -> dict[str, list[int]]:
    """Indices of the items of each couple, of one subject alone where it is given."""
    places: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        if item.couple and subject in (None, item.subject):
            places.setdefault(item.couple, []).append(i)
    return places
