r"""The model as a judge of generated text: what its readings say, and whether to believe them.

The unsteered model reads a text y asked in words for the behavior (+) and asked for its opposite (-):

    LLR(y)  = ln P(y | +) - ln P(y | -)        of all its tokens
    LLR'(y) = LLR(y) - the mean LLR of the unsteered texts of the same requests
    B(y)    = tanh(LLR'(y) / 2) = P(+ | y) - P(- | y)   at equal priors, by Bayes' theorem
    loss    = 1 - exp(mean over texts of ln P(y | +) per token, less that of texts generated under +)

The second line takes away what favours one instruction whatever is asked, so that B of unsteered texts is about 0. Of
whole texts |B| is mostly near 1: each token adds its share of LLR. So LLR' per token stands beside it, and the share
of texts with |B| above 0.99. Arrays are (n_s, n_items, n_samples), NaN where a text has no tokens.

The judge is believed where it tells texts generated under + from those under -, by the area under the ROC curve, and
where it agrees with a matcher that knows the items' answers, by Cohen's kappa; both by their one-sided lower bounds
over resampled requests. The AUC of n requests is never called surer than n of n cases are: 0.05^(1/n), see shares.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Bools, Floats
from steercpp.errors import InputError
from steercpp.judging.texts import GeneratedText
from steercpp.statistics.intervals import CONFIDENCE, FEWEST_ITEMS, resample, same
from steercpp.statistics.shares import share_bounds

SATURATED = 0.99  # |B| above which a text tells no more by being longer
LEAST_AUC = 0.75  # lower bounds above which the judge is believed
LEAST_KAPPA = 0.4


def posterior_difference(llr: Floats) -> Floats:
    """P(+) - P(-) at equal priors from log-likelihood ratios in nats, of any shape.

    For example of ln 3 it is 0.5: odds of 3 to 1 are 75% against 25%.
    """
    return np.asarray(np.tanh(np.asarray(llr) / 2))


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Texts as the unsteered model reads them.

    Attributes:
        strengths: (n_s,), ascending.
        llr: (n_s, n_items, n_samples) nats.
        n_tokens: the same shape; 0 where there are none.
        nats_words: the same shape, ln P asked in words for the behavior.
    """

    strengths: Floats
    llr: Floats
    n_tokens: Floats
    nats_words: Floats

    @classmethod
    def of(cls, texts: Sequence[GeneratedText], n_items: int) -> Readings:
        """The readings of texts, all of which were read.

        Raises:
            InputError: no texts, or one that has tokens and was not read.
        """
        if not texts:
            raise InputError("no texts were generated; sweep with `max_tokens`")
        strengths = sorted({text.strength for text in texts})
        row_of = {strength: row for row, strength in enumerate(strengths)}
        shape = len(strengths), n_items, max(text.sample for text in texts) + 1
        llr, nats, n_tokens = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
        for text in texts:
            if text.reading is not None:
                place = row_of[text.strength], text.item, text.sample
                llr[place], nats[place], n_tokens[place] = text.reading.llr, text.reading.nats_words, text.n_tokens
            elif text.n_tokens:
                raise InputError(
                    "the model did not read the texts under the instruction and its opposite; sweep again, with an "
                    "`instruction` and its `opposite`"
                )
        return cls(np.array(strengths), llr, n_tokens, nats)

    @property
    def unsteered(self) -> float:
        """Mean LLR of the texts at strength 0; NaN where all of them are empty."""
        llr = self.llr[self.strengths == 0.0]
        return float(llr[np.isfinite(llr)].mean()) if np.isfinite(llr).any() else np.nan

    @property
    def rates(self) -> Floats:
        """How likely a token of each text is, asked in words for the behavior: mean ln P, in nats."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.nats_words / self.n_tokens)


@dataclass(frozen=True, slots=True)
class Bound:
    """A number with its one-sided lower bound of 95%, NaN where too few items tell one."""

    value: float
    low: float

    def record(self) -> dict[str, float]:
        """Plain data for JSON."""
        return {"value": self.value, "low": self.low}


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodScores:
    """What readings say at each strength, (n_s,) each; bounds are two-sided 95% over resampled requests.

    Attributes:
        strengths: ascending.
        unsteered: mean LLR of the unsteered texts, in nats, which LLR' is counted from.
        b, b_low, b_high: mean B over texts; a text that is no language, or is empty, counts 0.
        saturated, saturated_low, saturated_high: share of the read texts with |B| above 0.99.
        per_token, per_token_low, per_token_high: mean LLR' over mean tokens of a text, nats per token.
        loss, loss_low, loss_high: the text loss; below 0 where texts are likelier than those generated in words.
    """

    strengths: Floats
    unsteered: float
    b: Floats
    saturated: Floats
    per_token: Floats
    per_token_low: Floats
    per_token_high: Floats
    loss: Floats
    loss_low: Floats
    loss_high: Floats
    b_low: Floats
    b_high: Floats
    saturated_low: Floats
    saturated_high: Floats

    def record(self) -> dict[str, Any]:
        """Plain data for JSON: columns over the strengths."""
        columns = {"strengths": self.strengths, **self.columns()}
        return {"unsteered": self.unsteered, **{name: values.tolist() for name, values in columns.items()}}

    def columns(self) -> dict[str, Floats]:
        """(n_s,) each, by the names of docs/measures.md."""
        return {
            "llr_per_token": self.per_token, "llr_per_token_low": self.per_token_low,
            "llr_per_token_high": self.per_token_high, "alignment_likelihood": self.b,
            "alignment_likelihood_low": self.b_low, "alignment_likelihood_high": self.b_high,
            "saturated": self.saturated, "saturated_low": self.saturated_low, "saturated_high": self.saturated_high,
            "text_loss": self.loss, "text_loss_low": self.loss_low, "text_loss_high": self.loss_high,
        }  # fmt: skip


def likelihood_scores(
    steered: Readings, words: Readings, language: Bools, *, rng: np.random.Generator
) -> LikelihoodScores:
    """Scores at each strength.

    Args:
        steered: the texts of the sweep, strength 0 among them.
        words: those generated unsteered, asked for the behavior in words.
        language: (n_s, n_items, n_samples) which of the former are language.
        rng: draws the requests.
    """
    b = posterior_difference(steered.llr - steered.unsteered)
    is_read = np.isfinite(b)
    per_token = llr_per_token(steered, rng=rng)
    loss = text_loss(steered.rates, words.rates[0], rng=rng)
    mean_b = _bounded(np.where(language & is_read, b, 0.0).mean(axis=2), same, rng)
    with np.errstate(invalid="ignore"):
        counts = np.concatenate([(np.abs(b) > SATURATED).sum(axis=2), is_read.sum(axis=2)]).astype(np.float64)
    saturated = _bounded(counts, lambda means: np.divide(*np.split(means, 2, axis=1)), rng)
    return LikelihoodScores(
        steered.strengths, steered.unsteered, mean_b[0], saturated[0], *per_token, *loss, *mean_b[1:], *saturated[1:]
    )


def llr_per_token(steered: Readings, *, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Mean LLR' of the texts at each strength over their mean tokens, with its bounds: (n_s,) nats each, 0 at 0."""
    is_read = np.isfinite(steered.llr)
    sums = (np.nansum(steered.llr, axis=2), steered.n_tokens.sum(axis=2), is_read.sum(axis=2))
    at_0 = int(np.flatnonzero(steered.strengths == 0.0)[0])

    def statistic(means: Floats) -> Floats:
        llr, n_tokens, n_read = np.split(means, 3, axis=1)
        relative = llr / n_read - llr[:, [at_0]] / n_read[:, [at_0]]
        return relative / (n_tokens / n_read)

    return _bounded(np.concatenate(sums), statistic, rng)


def text_loss(steered: Floats, words: Floats, *, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """1 - exp(mean ln P per token of steered texts, less that of in-words texts), at each strength.

    Both are read by the unsteered model asked for the behavior in words. A request is resampled with all its texts.

    Args:
        steered: (n_s, n_items, n_samples) nats per token; NaN of an empty text, which is left out.
        words: (n_items, n_samples) likewise, of the texts generated under the instruction.
        rng: draws the requests.

    Returns:
        (n_s,) loss and its two-sided bounds; NaN where every text is empty. For example a text whose every token is
        5% less likely than those of in-words texts has a loss of 0.05.
    """
    rates = np.concatenate([steered, np.broadcast_to(words, (1, *words.shape))])
    n_rows = len(rates)
    sums = np.concatenate([np.nansum(rates, axis=2), np.isfinite(rates).sum(axis=2)])

    def statistic(means: Floats) -> Floats:
        mean_rates = means[:, :n_rows] / means[:, n_rows:]
        return 1 - np.exp(mean_rates[:, :-1] - mean_rates[:, -1:])

    return _bounded(sums, statistic, rng)


def separation(plus: Floats, minus: Floats, *, rng: np.random.Generator) -> Bound:
    """Whether LLR tells the texts generated under an instruction from those under its opposite: the AUC.

    Args:
        plus: (n_items, n_samples) LLR of the former; NaN of an empty text.
        minus: likewise of the latter, of the same requests, which are resampled together.
        rng: draws the requests.
    """
    from sklearn.metrics import roc_auc_score

    n_items = len(plus)
    if not (np.isfinite(plus).any() and np.isfinite(minus).any()):
        return Bound(np.nan, np.nan)
    scores = np.concatenate([plus.ravel(), minus.ravel()])
    is_plus = np.repeat([True, False], [plus.size, minus.size])
    is_read = np.isfinite(scores)
    value = float(roc_auc_score(is_plus[is_read], scores[is_read]))
    if n_items < FEWEST_ITEMS:
        return Bound(value, np.nan)
    wins, pairs = np.zeros((2, n_items, n_items))  # of a text of the row's request over one of the column's
    for of_plus in plus.T:
        for of_minus in minus.T:
            both = np.isfinite(of_plus)[:, None] & np.isfinite(of_minus)
            difference = np.where(both, of_plus[:, None] - of_minus, 0.0)
            wins += np.where(both, (np.sign(difference) + 1) / 2, 0.0)
            pairs += both

    def statistic(shares: Floats) -> Floats:
        won, of = (((shares @ table) * shares).sum(axis=1, keepdims=True) for table in (wins, pairs))
        return np.asarray(won / of)

    low = resample(np.eye(n_items), statistic, rng=rng, alternative="greater").low[0]
    certain, _ = share_bounds(np.ones(1), np.full(1, float(n_items)), tail=1 - CONFIDENCE)
    return Bound(value, float(min(low, certain[0])))


def agreement(
    ours: npt.NDArray[np.intp], theirs: npt.NDArray[np.intp], items: npt.NDArray[np.intp], *, rng: np.random.Generator
) -> Bound:
    """Cohen's kappa of two judges over the same texts.

    Args:
        ours: (n_texts,) outcome of each by one judge, numbered from 0.
        theirs: likewise by the other.
        items: (n_texts,) which request each is of; a request is resampled with all its texts.
        rng: draws the requests.

    Returns:
        NaN where there are no texts, or both judges give all of them one and the same outcome.
    """
    from sklearn.metrics import cohen_kappa_score

    n_outcomes = int(max(ours.max(initial=0), theirs.max(initial=0))) + 1
    if not len(ours) or (ours == ours[0]).all() and (theirs == ours[0]).all():
        return Bound(np.nan, np.nan)
    value = float(cohen_kappa_score(ours, theirs, labels=np.arange(n_outcomes)))
    numbers, places = np.unique(items, return_inverse=True)
    if len(numbers) < FEWEST_ITEMS:
        return Bound(value, np.nan)
    counts = np.zeros((n_outcomes, n_outcomes, len(numbers)))
    np.add.at(counts, (ours, theirs, places), 1.0)

    def statistic(means: Floats) -> Floats:
        table = means.reshape(-1, n_outcomes, n_outcomes)
        table = table / table.sum(axis=(1, 2), keepdims=True)
        same, chance = np.trace(table, axis1=1, axis2=2), (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1)
        # requests of one outcome alone, by both: agreement is whole, and chance's too
        kappa = np.where(chance < 1, (same - chance) / np.where(chance < 1, 1 - chance, 1.0), 1.0)
        return kappa[:, None]

    drawn = resample(counts.reshape(n_outcomes**2, -1), statistic, rng=rng, alternative="greater")
    return Bound(value, float(drawn.low[0]))


def _bounded(rows: Floats, statistic: Any, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Numbers of the rows' means over items, with their bounds; NaN where there are too few items."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(statistic(rows.mean(axis=1)[None])[0])
        if rows.shape[1] < FEWEST_ITEMS:
            return values, np.full(len(values), np.nan), np.full(len(values), np.nan)
        drawn = resample(rows, statistic, rng=rng)
    return values, drawn.low, drawn.high
