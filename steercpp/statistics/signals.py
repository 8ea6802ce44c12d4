"""Whether a measure can tell anything on a model, before anything is swept; read this for why one is not used.

    choice_signal(scores, "letters").tells     # False: the model does no better than guessing
    choice_signal(scores, "letters").figure    # "31 of 128 right, guessing gets 25.0%; the letters hold 9.5% of ..."

A measure without signal is named with its figure and not used: whatever steering did to it, nothing would follow.
All of it is read off the unsteered model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from steercpp.aliases import Floats
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, t_low
from steercpp.statistics.losses import items_to_prove, letters_hold
from steercpp.statistics.rounded import chosen_percent
from steercpp.statistics.scores import BehaviorScores, ChoiceScores

LEAST_LISTED = 0.1  # of the probability: below it listed continuations are not how the model answers
FEWEST_CONTINUED = 3 * FEWEST_ITEMS  # items: a third of them chooses
_TOO_FEW = f"too few items: {FEWEST_CONTINUED} are needed, a third of which chooses"
SignalName: TypeAlias = Literal[
    "letters", "choices by text", "continuations", "own continuations", "own answers", "pairs"
]


@dataclass(frozen=True, slots=True)
class Signal:
    """What one measure tells on one model.

    Attributes:
        measure: its name.
        tells: whether it can tell anything.
        figure: what was measured, in words with numbers.
        reason: why it tells nothing, or what it is short of; "" where all is well.
    """

    measure: SignalName
    tells: bool
    figure: str
    reason: str = ""

    @property
    def words(self) -> str:
        """Figure and reason in one line."""
        return f"{self.figure}; {self.reason}" if self.reason else self.figure

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def choice_signal(
    scores: ChoiceScores, measure: Literal["letters", "choices by text"], *, max_loss: float = 0.05,
    n_telling: int | None = None, confidence: float = CONFIDENCE,
) -> Signal:  # fmt: skip
    """Whether the model knows more than a guess: an exact test of how many answers are right.

    Args:
        scores: of the unsteered model, strength 0 among them, with `n_choices`.
        measure: how the items are asked.
        max_loss: the budget; whether as many testing items as there are can prove it is told.
        n_telling: how many items will tell what is lost; None: half of these.
        confidence: of the test, one-sided.
    """
    at_0 = int(np.flatnonzero(scores.strengths == 0.0)[0])
    n_right, n_items, chances = int(scores.correct[at_0].sum()), scores.correct.shape[1], 1.0 / scores.n_choices
    figure = f"{n_right} of {n_items} right, guessing gets {chances.mean():.1%}"
    if measure == "letters":
        figure += f"; the letters hold {letters_hold(scores, at_0):.1%} of the probability"
    if at_least(n_right, chances) > 1.0 - confidence:
        return Signal(measure, False, figure, "no better than guessing")
    p = scores.p_free if measure == "letters" else scores.p_restricted
    chance = 0.0 if measure == "letters" else float(chances.mean())
    if (p_0 := float(p[at_0].mean())) <= chance:
        return Signal(measure, False, figure, f"mean P(correct) is {p_0:.3f}, not above chance")
    n_needed = items_to_prove(max_loss, p_0, chance=chance, confidence=confidence)
    n_telling = n_items // 2 if n_telling is None else n_telling
    if n_needed > n_telling:
        return Signal(
            measure, False, figure,
            f"too weak: it takes {n_needed} testing items to prove a loss of {chosen_percent(max_loss)}, there are "
            f"{n_telling}",
        )  # fmt: skip
    return Signal(measure, True, figure)


def at_least(n_right: int, chances: Floats) -> float:
    """Probability that guesses get so many right or more: exact, each item with its own chance (Poisson binomial).

    Args:
        n_right: how many are right.
        chances: (n_items,) chance of each guess.

    >>> round(at_least(2, np.array([0.5, 0.5])), 10)
    0.25
    """
    pmf = np.ones(1)
    for chance in chances:
        pmf = np.convolve(pmf, (1.0 - chance, chance))
    return float(min(1.0, pmf[n_right:].sum()))


def continuation_signal(
    unsteered: BehaviorScores, in_words: BehaviorScores | None, *, n_items: int | None = None,
    confidence: float = CONFIDENCE,
) -> Signal:  # fmt: skip
    """Whether listed continuations are how the model answers, and whether asking for the behavior in words moves B.

    Args:
        unsteered: at strength 0.
        in_words: the same items with the instruction before every prompt; None where there is no instruction.
        n_items: how many items there are, of which these are some; None: these are all.
        confidence: of the reaction, one-sided, by Student's t over items.
    """
    at_0 = int(np.flatnonzero(unsteered.strengths == 0.0)[0])
    mass, b = float(unsteered.mass[at_0].mean()), unsteered.normalized[at_0]
    n_items = len(b) if n_items is None else n_items
    figure = f"{len(b)} items" if n_items == len(b) else f"{len(b)} of {n_items} items"
    figure += f", B {b.mean():+.3f}; the continuations hold {mass:.1%} of the probability"
    reaction = ""
    if in_words is not None:
        changes = in_words.normalized[0] - b
        low = t_low(changes, confidence)
        figure += f"; the instruction changes B by {changes.mean():+.3f}, at least by {low:+.3f}"
        reaction = "" if low > 0 else "it is not certain that the instruction raises B"
    if n_items < FEWEST_CONTINUED:
        return Signal("continuations", False, figure, _TOO_FEW)
    if mass < LEAST_LISTED:
        reason = f"the model answers otherwise: they hold less than {LEAST_LISTED:.0%}"
        return Signal("continuations", False, figure, reason)
    return Signal("continuations", True, figure, reaction)


def own_continuation_signal(n_items: int, n_asked: int, n_tokens: int, b: float, mass: float) -> Signal:
    """Whether enough prompts have continuations in the model's own words.

    Args:
        n_items: prompts with continuations of both sides.
        n_asked: prompts that were asked.
        n_tokens: of a continuation.
        b: mean B of the items without steering.
        mass: mean P+ + P- of the items. However little the likeliest texts of several tokens hold, they are the
            model's own; a low mass says that B is of few of its answers.
    """
    figure = f"{n_items} of {n_asked} prompts, {n_tokens} tokens, B {b:+.3f}; they hold {mass:.1%} of the probability"
    reason = "" if n_items >= FEWEST_CONTINUED else _TOO_FEW
    return Signal("own continuations", not reason, figure, reason)


def own_signal(words_kl: Floats | None, n_items: int, *, max_loss: float = 0.05) -> Signal:
    """Whether everyday answers tell harm: not where asking in words alone changes them by more than the budget.

    Args:
        words_kl: (n_items,) nats per token that asking in words moves each answer; None without an instruction.
        n_items: how many answers there are.
        max_loss: the budget.
    """
    if words_kl is None:
        return Signal("own answers", True, f"{n_items} everyday answers of the model itself")
    nats = float(words_kl.mean())
    figure = f"{n_items} everyday answers; the instruction changes them by {nats:.3f} nats a token"
    if 1.0 - np.exp(-nats) > max_loss:
        return Signal(
            "own answers", True, figure, f"the instruction alone changes them by more than {chosen_percent(max_loss)}"
        )
    return Signal("own answers", True, figure)


def pairs_signal(auc: Floats, agreement: Floats, n_pairs: int, *, confidence: float = CONFIDENCE) -> Signal:
    """Whether the contrast pairs separate at any of the layers.

    They do not where every layer's AUC is within what chance gives one layer. Where one is above that, but not above
    what chance gives the best of so many layers, the pairs are too few to be sure, and that is told.

    Args:
        auc: (n_layers,) held-out AUC of the pairs' sides.
        agreement: (n_layers,) mean cosine between the differences of two pairs.
        n_pairs: how many pairs there are.
        confidence: of the tests, one-sided.
    """
    figure = (
        f"{n_pairs} pairs, held-out AUC {auc.min():.2f} to {auc.max():.2f}, agreement {agreement.min():.2f} to "
        f"{agreement.max():.2f}"
    )
    if auc.max() <= auc_by_chance(n_pairs, confidence=confidence):
        return Signal("pairs", False, figure, "the two sides do not separate at any layer, so there is no direction")
    if auc.max() <= auc_by_chance(n_pairs, len(auc), confidence=confidence):
        return Signal("pairs", True, figure, "too few pairs to be sure that the two sides separate")
    return Signal("pairs", True, figure)


def auc_by_chance(n_pairs: int, n_layers: int = 1, *, confidence: float = CONFIDENCE) -> float:
    """What the highest AUC of pairs that do not separate stays below: Mann and Whitney's normal approximation.

    Args:
        n_pairs: how many pairs there are.
        n_layers: of how many layers the highest is taken.
        confidence: one-sided.

    >>> round(auc_by_chance(72), 3), round(auc_by_chance(72, 29), 3)
    (0.579, 0.641)
    """
    error = np.sqrt((2 * n_pairs + 1) / (12 * n_pairs**2))
    return float(0.5 + stats.norm.isf((1.0 - confidence) / n_layers) * error)
