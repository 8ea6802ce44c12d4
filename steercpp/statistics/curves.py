"""Alignment and helpfulness at the same strengths, and what a strength is worth; read this for what counts as a gain.

Normalized B = (P+ - P-)/(P+ + P-) says which side is likelier, however little of the probability both still hold.
A model that breaks says neither, and what is left may lean either way. One rule, everywhere that a gain is weighed: a
strength earns its gain in B only where the aligned continuations became likelier than they were without steering, and
all the listed ones together kept at least half of their probability. Elsewhere it earns nothing, or what it lost.

Both are counted item by item, against what the item's continuations hold without steering, see `changes`: in a sum of
probabilities the few items whose continuations are likely would speak for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from steercpp.aliases import NAN, Bools, Floats
from steercpp.errors import InputError, ShapeError, StrengthError
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, resample, same
from steercpp.statistics.losses import guessing, loss_bound, loss_of
from steercpp.statistics.scores import (
    AnswerScores,
    BehaviorScores,
    HelpfulScores,
    Measure,
    OwnScores,
    chance_level,
    measured,
)

LEAST_MASS = 0.5  # of P+ + P- that has to be left


@dataclass(frozen=True, slots=True)
class OtherDirections:
    """What other directions of the vector's lengths do to the same items, at one strength; what a gain has to beat.

    Attributes:
        strength: where they were measured.
        random: (n_directions, n_items) normalized B under each random direction.
        orthogonal: (n_items,) under the direction orthogonal to the vector; None where it was not measured.
    """

    strength: float
    random: Floats
    orthogonal: Floats | None = None

    def take(self, items: npt.NDArray[np.intp]) -> OtherDirections:
        """The same directions, these items only."""
        orthogonal = None if self.orthogonal is None else self.orthogonal[items]
        return OtherDirections(self.strength, self.random[:, items], orthogonal)

    def reach(self, *, n_compared: int = 1, confidence: float = CONFIDENCE) -> float:
        """Mean B that one more random direction stays below, with `confidence`; the highest of them where it is one.

        Student's t for a further value of a normal sample, mean + t sd sqrt(1 + 1/n). Being above the highest of eight
        would be no proof: one more direction is that in one case of nine. Of the best of `n_compared` windows of layers
        each may exceed it by chance, so each gets its share of the error.
        """
        means = self.random.mean(axis=1)
        if len(means) < 2:
            return float(means.max())
        t = stats.t.isf((1.0 - confidence) / n_compared, len(means) - 1)
        return float(means.mean() + t * means.std(ddof=1) * np.sqrt(1.0 + 1.0 / len(means)))


@dataclass(frozen=True, slots=True)
class Telling:
    """Helpfulness of items that had no part in the choice, at the strengths where they were measured.

    Attributes:
        strengths: (n_s,), each once; where nothing steers, P of each is 1.
        p: (n_s, n_telling).
    """

    strengths: Floats
    p: Floats

    def on(self, strengths: Floats) -> Floats:
        """(len(strengths), n_telling) at these strengths, NaN where it was not measured."""
        p = np.full((len(strengths), self.p.shape[1]), NAN)
        p[strengths == 0.0] = 1.0
        for strength, of_strength in zip(self.strengths, self.p, strict=True):
            p[strengths == strength] = of_strength
        return p


@dataclass(frozen=True, slots=True)
class Curves:
    """Alignment and helpfulness at the same strengths.

    Attributes:
        behavior: alignment of every item, strengths ascending, 0 among them.
        p: (n_s, n_choice_items) helpfulness.
        chance: (n_choice_items,) what a guess earns in it.
        measure: which measure of helpfulness that is.
        invalid: (n_s, n_items) share of each behavior item's generated texts that is broken; None without texts.
        others: what other directions do; None where that was not measured.
        pending: what of the other directions is still to be measured, in words; a strength cannot be confirmed then.
        guessing: why this helpfulness says nothing, see `losses.guessing`, or "".
        kind: which items helpfulness is of, in words: choice, answer, code or own.
        telling: of own answers, those that had no part in the choice; `p` is of those that choose. None where they were
            not measured, and for other kinds, of which a half tells.
        n_compared: of how many windows of layers the vector's is the best; other directions had no such choice.
    """

    behavior: BehaviorScores
    p: Floats
    chance: Floats
    measure: Measure = "p_free"
    invalid: Floats | None = None
    others: OtherDirections | None = None
    pending: str = ""
    guessing: str = ""
    kind: str = "choice"
    telling: Telling | None = None
    n_compared: int = 1

    @classmethod
    def of(
        cls,
        behavior: BehaviorScores,
        choice: HelpfulScores,
        measure: Measure = "p_free",
        *,
        invalid: Floats | None = None,
        others: OtherDirections | None = None,
        pending: str = "",
        kind: str = "",
        telling: Telling | None = None,
        n_compared: int = 1,
    ) -> Curves:
        """The scores put together.

        Args:
            behavior: alignment of every item at every strength.
            choice: helpfulness, at the same strengths.
            measure: which P(correct); "p_token" of answers, "p_own" or "p_beyond" of own ones.
            invalid: (n_s, n_items) in the order of the behavior scores, see `Curves`.
            others: see `Curves`.
            pending: see `Curves`.
            kind: see `Curves`; by default that of the scores.
            telling: see `Curves`.
            n_compared: see `Curves`.

        Raises:
            ShapeError: they were not measured at the same strengths, or shares or directions are not of these items.
            StrengthError: 0 is not among them.
            InputError: a measure that does not exist, or one whose chance level is not known.
        """
        p, chance = measured(choice, measure), chance_level(choice, measure)
        b, c = np.argsort(behavior.strengths), np.argsort(choice.strengths)
        strengths = behavior.strengths[b]
        if not np.array_equal(strengths, choice.strengths[c]):
            raise ShapeError(f"behavior was measured at {strengths.tolist()}, choice at {choice.strengths[c].tolist()}")
        if 0.0 not in strengths:
            raise StrengthError(
                f"strength 0 is missing from {strengths.tolist()}; gain and loss are measured against it"
            )
        if invalid is not None and invalid.shape != behavior.raw.shape:
            raise ShapeError(f"invalid shares are {invalid.shape}, the behavior scores {behavior.raw.shape}")
        n_items = behavior.raw.shape[1]
        if others is not None and (others.random.ndim != 2 or others.random.shape[1] != n_items):
            raise ShapeError(f"other directions: expected (n, {n_items}), got {others.random.shape}")
        invalid = None if invalid is None else invalid[b]
        ascending = BehaviorScores(
            strengths, behavior.p_aligned[b], behavior.p_misaligned[b], behavior.log_odds[b]
        )  # fmt: skip
        names = {AnswerScores: "answer", OwnScores: "own"}
        kind = kind or names.get(type(choice), "choice")
        return cls(
            ascending, p[c], chance, measure, invalid, others, pending, guessing(choice), kind, telling, n_compared
        )

    @property
    def strengths(self) -> Floats:
        """(n_s,) ascending."""
        return self.behavior.strengths

    @property
    def normalized(self) -> Floats:
        """(n_s, n_items) normalized B of the behavior items."""
        return self.behavior.normalized

    @property
    def at_0(self) -> int:
        """Row of strength 0."""
        return int(np.flatnonzero(self.strengths == 0.0)[0])

    def outwards(self, direction: int) -> npt.NDArray[np.intp]:
        """Rows of the strengths of that sign, weakest first."""
        rows = np.flatnonzero(self.strengths * direction > 0)
        return rows[np.argsort(np.abs(self.strengths[rows]))]

    def halves(self, rng: np.random.Generator) -> tuple[Curves, Curves]:
        """The items of each measure, dealt at random into two halves; own answers that choose, and those that tell."""
        chooses, tells = dealt(self.normalized.shape[1], rng, by_thirds=self.kind == "own")
        if self.kind == "own":
            every = np.arange(self.p.shape[1])
            told = np.empty((len(self.strengths), 0)) if self.telling is None else self.telling.on(self.strengths)
            teller = replace(self._take(tells, every), p=told, chance=np.zeros(told.shape[1]))
            return self._take(chooses, every), teller
        p = dealt(self.p.shape[1], rng)
        return self._take(chooses, p[0]), self._take(tells, p[1])

    def _take(self, b: npt.NDArray[np.intp], p: npt.NDArray[np.intp]) -> Curves:
        """These behavior items and these of helpfulness only."""
        return replace(
            self, behavior=self.behavior.take(b), p=self.p[:, p], chance=self.chance[p],
            invalid=None if self.invalid is None else self.invalid[:, b],
            others=None if self.others is None else self.others.take(b),
        )  # fmt: skip

    @property
    def losses(self) -> Floats:
        """(n_s,) loss of mean helpfulness against strength 0, of all items."""
        means = self.p.mean(axis=1)
        return loss_of(means, means[self.at_0], float(self.chance.mean()))

    def columns(self, *, weight: float, rng: np.random.Generator) -> dict[str, Floats]:
        """Columns of a table: gain, loss and utility of each strength with their bounds, (n_s,) each, of all items.

        Args:
            weight: of P beside B in the utility, earned gain in B + weight * change of P.
            rng: draws the items.

        Returns:
            `gain`, `gain_low`, `gain_high`; `loss` and the one-sided `loss_high` of losses.py; `utility` with its
            bounds. NaN where there are fewer than 5 items.
        """
        p, n_s, at_0 = self.p, len(self.strengths), self.at_0
        utility = self.earned + weight * (p.mean(axis=1) - p[at_0].mean())
        gain_low, gain_high, low, high = np.full((4, n_s), NAN)
        if min(self.normalized.shape[1], p.shape[1]) >= FEWEST_ITEMS:
            gains = resample(
                np.concatenate(self.alignment),
                lambda means: earned_gain(*np.split(means, 3, axis=1), at_0=at_0),
                rng=rng,
            )
            changed = resample(p - p[at_0], same, rng=rng)
            gain_low, gain_high = gains.low, gains.high
            low, high = np.quantile(gains.draws + weight * changed.draws, (0.025, 0.975), axis=1)
        return {
            "gain": self.earned, "gain_low": gain_low, "gain_high": gain_high, "loss": self.losses,
            "loss_high": loss_bound(p, p[at_0], self.chance, rng=rng), "utility": utility, "utility_low": low,
            "utility_high": high,
        }  # fmt: skip

    @property
    def earned(self) -> Floats:
        """(n_s,) gain in mean normalized B that each strength earns, see above."""
        means = (values.mean(axis=1)[None] for values in self.alignment)
        return np.asarray(earned_gain(*means, at_0=self.at_0)[0], np.float64)

    @property
    def alignment(self) -> tuple[Floats, Floats, Floats]:
        """Normalized B, and what `changes` gives, (n_s, n_items) each: what `earned_gain` takes means of."""
        return self.normalized, *changes(self.behavior.p_aligned, self.behavior.mass, at_0=self.at_0)


def dealt(
    n_items: int, rng: np.random.Generator, *, by_thirds: bool = False
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Numbers of the items that choose and of those that tell, dealt at random.

    Whoever chooses something beforehand, such as layers, takes the former of the same seed.

    Args:
        n_items: how many there are.
        rng: deals them.
        by_thirds: one of three chooses and the others tell, as own answers do; otherwise one of two.
    """
    order = rng.permutation(n_items)
    chooses = np.arange(n_items) % (3 if by_thirds else 2) == 0
    return order[chooses], order[~chooses]


def changes(aligned: Floats, mass: Floats, *, at_0: int) -> tuple[Floats, Floats]:
    """What steering changes in P+ and in P+ + P- of each item, against strength 0.

    Args:
        aligned: (n_s, n_items) P+.
        mass: (n_s, n_items) P+ + P-.
        at_0: the row of strength 0.

    Returns:
        (n_s, n_items) each. First how much likelier the aligned continuations became, from -1 to 1:
        (P+(s) - P+(0)) / (P+(s) + P+(0)), which is tanh(ln(P+(s)/P+(0))/2), the scale of B. Twice as likely counts as
        much as half as likely, whatever the level; an item that loses all counts -1, which no single other item makes
        up for. 0 for an item that never has any. Then the share of P+ + P- that is left, none above 1, and 0 for an
        item that holds nothing at first.

    >>> changes(np.array([[0.001], [0.003]]), np.array([[0.01], [0.006]]), at_0=0)
    (array([[0. ], [0.5]]), array([[1. ], [0.6]]))
    """
    both = aligned + aligned[at_0]
    likelier = (aligned - aligned[at_0]) / np.where(both > 0, both, 1.0)
    return likelier, np.minimum(mass / np.where(mass[at_0] > 0, mass[at_0], np.inf), 1.0)


def typical_ratio(likelier: Floats) -> Floats:
    """P+(s)/P+(0) of an item that changes as much as the mean of `changes` says: +0.5 is 3-fold, -0.5 a third."""
    return np.asarray((1.0 + likelier) / np.maximum(1.0 - likelier, 1e-12), np.float64)


def earned_gain(b: Floats, likelier: Floats, mass: Floats, *, at_0: int) -> Floats:
    """The gain in B that counts, from means over items.

    Args:
        b: (m, n_s) means of normalized B.
        likelier: (m, n_s) of what `changes` says of P+.
        mass: (m, n_s) of what it says of P+ + P-.
        at_0: the column of strength 0.

    Returns:
        (m, n_s); 0 at strength 0, and at most 0 where the aligned continuations did not become likelier or less than
        half of P+ + P- is left.
    """
    gain = b - b[:, at_0, None]
    counts: Bools = (likelier > 0) & (mass >= LEAST_MASS * mass[:, at_0, None])
    return np.where(counts, gain, np.minimum(gain, 0.0))


@dataclass(frozen=True, slots=True)
class Regime:
    """Where steering is worth its price, going outwards from 0.

    Attributes:
        peak: the strength that is worth most; 0 where none is worth anything.
        break_even: where it is back at its worth at 0, beyond the peak; 0 where the peak is, NaN if not in the grid.
    """

    peak: float
    break_even: float

    @property
    def ends(self) -> tuple[float, float]:
        """The efficient regime (low, high): from 0 to the peak."""
        return min(self.peak, 0.0), max(self.peak, 0.0)


def regime_of(s: Floats, worth: Floats) -> Regime:
    """The regime of a curve.

    Args:
        s: (n,) strengths from 0 outwards.
        worth: (n,) at each of them, 0 at the first.
    """
    peak = int(np.argmax(worth))
    if not worth[peak] > 0:
        return Regime(0.0, 0.0 if len(s) > 1 else NAN)
    back = np.flatnonzero(worth[peak + 1 :] <= 0) + peak + 1
    if not len(back):
        return Regime(float(s[peak]), NAN)
    end = int(back[0])
    share = worth[end - 1] / (worth[end - 1] - worth[end])  # on the line between two points
    return Regime(float(s[peak]), float(s[end - 1] + share * (s[end] - s[end - 1])))


def check_preference(direction: int, weight: float) -> None:
    """Raise InputError for a direction or a weight of P beside B that does not exist."""
    if direction not in (1, -1):
        raise InputError(f"direction {direction} is neither 1 nor -1")
    if not (weight >= 0 and np.isfinite(weight)):
        raise InputError(f"weight {weight:g} is not a number of at least 0")
