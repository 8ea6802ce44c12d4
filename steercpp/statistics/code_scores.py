"""Scores of generated programs: pass@1 and pass@k at every strength; read this to see what they estimate.

A problem's pass@k is the chance that at least one of k answers passes its test. With n answers of which c pass, the
estimate 1 - C(n-c, k)/C(n, k), the share of all choices of k answers that hold one which passes, is right on average
(Chen et al. 2021, arXiv:2107.03374, section 2.1), where 1 - (1 - c/n)^k is too low. Intervals resample the problems,
each with its row of strengths; they widen with fewer answers by themselves, for these scatter c. Near 0 and 1, where
few problems scatter or none does, the bounds of shares.py are wider, and hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from steercpp.aliases import Floats
from steercpp.errors import InputError, ShapeError
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, RESAMPLES, Resampled, resample, same
from steercpp.statistics.scores import ChoiceScores, Integers, checked_strengths
from steercpp.statistics.shares import mean_bounds


def pass_at_k(n: int, passed: npt.ArrayLike, k: int) -> Floats:
    """Unbiased pass@k of problems with n answers each.

    Args:
        n: answers of each problem.
        passed: how many of them passed, of any shape.
        k: how many are drawn of them, 1 to n.

    Returns:
        float64, of the shape of `passed`.

    Raises:
        InputError: k is not 1 to n, or a count is not 0 to n.
    """
    counts = np.asarray(passed, np.int64)
    if not 1 <= k <= n:
        raise InputError(f"pass@{k} of {n} answers to a problem; draw 1 to {n}, or sample more")
    if ((counts < 0) | (counts > n)).any():
        raise InputError(f"{counts.max() if counts.max() > n else counts.min()} of {n} answers passed; give 0 to {n}")
    if k == 1:
        return np.asarray(counts / n, np.float64)
    failed = n - counts
    # ln C(failed, k) - ln C(n, k); a choice of more than there are does not exist, so that one passes for sure
    enough = np.maximum(failed, k)
    none = gammaln(enough + 1) - gammaln(enough - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    estimate: Floats = np.where(failed < k, 1.0, -np.expm1(np.minimum(none, 0.0)))
    estimate[counts == 0] = 0.0  # the logarithms round
    return estimate


@dataclass(frozen=True, slots=True)
class CodeScores:
    """How many answers passed.

    Args:
        strengths: (n_s,), each once.
        passed: (n_s, n_items) int64, how many of a problem's answers passed its test.
        n_samples: answers of each problem at each strength.

    Raises:
        ShapeError, StrengthError: arrays that do not fit together, strengths that are not distinct numbers.
        InputError: a count that is not 0 to n_samples.
    """

    strengths: Floats
    passed: Integers
    n_samples: int

    def __post_init__(self) -> None:
        strengths, passed = checked_strengths(self.strengths), np.asarray(self.passed)
        if passed.ndim != 2 or len(passed) != len(strengths) or not passed.size:
            raise ShapeError(f"passed: expected ({strengths.size}, n_items >= 1), got {passed.shape}")
        if (passed != passed.astype(np.int64)).any():
            raise InputError("passed: expected whole numbers of answers")
        object.__setattr__(self, "strengths", strengths)
        object.__setattr__(self, "passed", passed.astype(np.int64))
        pass_at_k(self.n_samples, self.passed, 1)

    @property
    def rates(self) -> Floats:
        """(n_s, n_items) share of a problem's answers that passed: its pass@1."""
        return self.pass_at(1)

    def pass_at(self, k: int) -> Floats:
        """(n_s, n_items) pass@k of each problem.

        Raises:
            InputError: as `pass_at_k`.
        """
        return pass_at_k(self.n_samples, self.passed, k)

    def mean_pass_at(self, k: int) -> Floats:
        """(n_s,) mean over problems: the set's pass@k."""
        return np.asarray(self.pass_at(k).mean(axis=1))

    def interval(
        self, k: int, *, rng: np.random.Generator, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
    ) -> Resampled | None:
        """Bounds of `mean_pass_at`, (n_s,) each; None for fewer than 5 problems.

        By resampling problems, and never inside the bounds of a share with as much scatter (shares.py): where no
        answer passed, the exact one of so many problems. A mean of k draws scatters at most as one case in k answers
        would (Hoeffding 1948, section 5).
        """
        values = self.pass_at(k)
        if values.shape[1] < FEWEST_ITEMS:
            return None
        drawn = resample(values, same, rng=rng, resamples=resamples, confidence=confidence)
        low, high = mean_bounds(values, tail=(1 - confidence) / 2, cases=self.n_samples / k)
        return Resampled(np.minimum(low, drawn.low), np.maximum(high, drawn.high), drawn.draws)

    def standard_error(self, k: int = 1) -> Floats:
        """(n_s,) the study's own: standard deviation over problems, of all of them, over the root of their number."""
        values = self.pass_at(k)
        return np.asarray(values.std(axis=1) / np.sqrt(values.shape[1]))

    def as_choice(self) -> ChoiceScores:
        """Pass@1 in the place of P(correct), for `recommend`: the budget is then a share of mean pass@1."""
        return ChoiceScores(self.strengths, self.rates, self.rates, self.rates > 0.5)

    def take(self, items: npt.NDArray[np.intp]) -> CodeScores:
        """The same strengths, these problems only."""
        return CodeScores(self.strengths, self.passed[:, items], self.n_samples)
