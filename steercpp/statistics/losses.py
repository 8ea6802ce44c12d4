"""How much helpfulness is lost, and how much at most; read this for what a budget of 5% takes to be kept.

Helpfulness is counted from chance: P over the choices ends at 1/choices when a model only guesses.

    loss = 1 - (mean P(s) - chance) / (mean P(0) - chance)

A few items may carry the whole loss: most answers stay, some collapse. Resampling never draws an item that the sample
lacks, and calls a loss impossible that simply was not met. So the bound is that of the mean of a bounded variable
(Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable";
Learned-Miller and Thomas 2019, arXiv:1905.06208): the items are weighted at random (the spacings of uniform numbers),
together with one more item that had P = 1 and lost all of it. For answers that are right or wrong this is the exact
bound of Clopper and Pearson 1934: where none of n items loses anything and all had P = 1, the loss is at most
1 - 0.05^(1/n), so that 59 such items prove a loss of at most 5%.
"""

from __future__ import annotations

import math

import numpy as np

from steercpp.aliases import Floats
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, t_low
from steercpp.statistics.scores import ChoiceScores, HelpfulScores

DRAWS = 4000  # random weights: the bound's own error is a few hundredths of its distance from the estimate
BLOCK = 4_000_000  # numbers in one block of weights


def loss_of(p: Floats, p_0: Floats, chance: Floats | float = 0.0) -> Floats:
    """Loss of mean helpfulness `p` against `p_0` without steering, both counted from `chance`; arrays broadcast.

    1 where there is nothing above chance to lose: all of it is lost. Above 1 where an answer falls below chance.

    >>> loss_of(np.array([0.57, 0.25]), np.array(0.65), 0.25)
    array([0.2, 1. ])
    """
    base = np.asarray(p_0 - chance, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = 1.0 - (p - chance) / base
    return np.where(base > 0, lost, 1.0)


def loss_bound(
    p: Floats,
    p_0: Floats,
    chance: Floats,
    *,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
) -> Floats:
    """Upper bounds of the loss, each one-sided.

    Args:
        p: (n_s, n_items) helpfulness in [0, 1] at each strength.
        p_0: (n_items,) without steering.
        chance: (n_items,) what a guess earns.
        rng: draws the weights.
        confidence: chance that the true loss is not above a bound.
        draws: how many weights to draw.

    Returns:
        (n_s,) at least what unseen items can hide; infinite where so few items cannot exclude that there is nothing to
        lose.
    """
    n_items = p.shape[1]
    # One more item, of the highest chance level there is, fell from P = 1 to P = 0
    worst = float(chance.max(initial=0.0))
    above = np.hstack([p - chance, np.full((len(p), 1), -worst)])
    above_0 = np.append(p_0 - chance, 1.0 - worst)
    # Its share of the weight is at most x with chance 1 - (1 - x)^n. Taken at every quantile in turn it is no matter of
    # luck: where no item loses anything it is the bound.
    quantiles = np.minimum(np.arange(1, draws + 1), draws - 0.5) / draws
    odds = (1.0 - quantiles) ** (-1.0 / n_items) - 1.0
    lost = []
    for start in range(0, draws, size := max(1, BLOCK // (n_items + 1))):
        items = rng.exponential(size=(min(size, draws - start), n_items))
        weights = np.column_stack([items, odds[start : start + size] * items.sum(axis=1)])
        base = (weights @ above_0)[:, None]
        lost.append(np.where(base > 0, 1.0 - weights @ above.T / np.where(base > 0, base, 1.0), np.inf))
    return np.asarray(np.quantile(np.concatenate(lost), confidence, axis=0, method="inverted_cdf"))


def items_to_prove(max_loss: float, p_0: float, *, chance: float = 0.0, confidence: float = CONFIDENCE) -> int:
    """How many items that lose nothing prove a loss of at most `max_loss`.

    Args:
        max_loss: the budget, a share.
        p_0: mean helpfulness without steering.
        chance: mean of what a guess earns; below `p_0`.
        confidence: of the proof.

    >>> items_to_prove(0.05, 1.0)
    59
    """
    hidden = min(max_loss * (p_0 - chance), 1.0)  # the share of items that may collapse unseen
    return math.ceil(math.log(1.0 - confidence) / math.log1p(-hidden)) if hidden < 1 else 1


def guessing(scores: HelpfulScores, *, confidence: float = CONFIDENCE) -> str:
    """Why P(correct) says nothing of a model: without steering it does no better than guessing. Else "".

    All items count together; `kinds_at_chance` judges each kind apart. Among the choices is where guessing shows: over
    the whole vocabulary P(correct) of a guess is whatever share of the probability the letters happen to hold. The
    lower bound of the mean, by Student's t, has to be above chance.

    Args:
        scores: what was measured; only choices whose number is known can be guessed, and too few items show nothing.
        confidence: of the bound, one-sided.
    """
    if not isinstance(scores, ChoiceScores) or not (guesses := _guesses(scores, confidence)):
        return ""
    return (
        f"without steering {guesses}: the model does no better than guessing, so these items cannot tell what steering "
        "costs; use easier ones"
    )


def kinds_at_chance(scores: HelpfulScores | None, *, confidence: float = CONFIDENCE) -> dict[str, str]:
    """The kinds of choice items that the model only guesses, with the figures, where there are both kinds.

    Items by letter and items by text (their words are scored) are judged apart: one kind may be at chance beside
    another that carries the mean. Arguments as of `guessing`.
    """
    if not isinstance(scores, ChoiceScores) or not 0 < scores.by_text.sum() < len(scores.by_text):
        return {}
    of_kind = {"by letter": np.flatnonzero(~scores.by_text), "by text": np.flatnonzero(scores.by_text)}
    figures = {kind: _guesses(scores.take(items), confidence) for kind, items in of_kind.items()}
    return {kind: figure for kind, figure in figures.items() if figure}


def guessing_notes(scores: HelpfulScores, *, confidence: float = CONFIDENCE) -> tuple[str, ...]:
    """What `guessing` and `kinds_at_chance` say, a sentence each."""
    pooled, kinds = guessing(scores, confidence=confidence), kinds_at_chance(scores, confidence=confidence)
    of_kinds = (
        f"choice items {kind}: without steering {figures}: the model only guesses these, so they cannot tell what "
        "steering costs; use easier ones"
        for kind, figures in kinds.items()
    )
    return (*([pooled] if pooled else []), *of_kinds)


def letters_hold(scores: ChoiceScores, at: int) -> float:
    """Mean share of the probability that the letters of items hold, at one row of the strengths."""
    restricted = np.maximum(scores.p_restricted[at], np.finfo(np.float64).tiny)
    return float(np.mean(scores.p_free[at] / restricted))


def _guesses(scores: ChoiceScores, confidence: float) -> str:
    """How these items are at chance without steering, in figures; "" where they are above it, or where nobody knows."""
    if not len(scores.n_choices) or 0.0 not in scores.strengths:
        return ""
    at_0 = int(np.flatnonzero(scores.strengths == 0.0)[0])
    chance, p, right = 1.0 / scores.n_choices, scores.p_restricted[at_0], scores.correct[at_0]
    above, n_items = p - chance, len(p)
    if n_items < 2 * FEWEST_ITEMS:
        return ""
    if t_low(above, confidence) > 0:
        return ""
    hold = ""
    if not scores.by_text.any():
        hold = f", and the letters hold {letters_hold(scores, at_0):.1%} of the probability"
    return (
        f"P over the choices is {p.mean():.3f} where guessing earns {chance.mean():.3f}, {int(right.sum())} of "
        f"{n_items} items are right{hold}"
    )
