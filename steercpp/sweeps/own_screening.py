"""Which of a model's own answers are fit to be continuations: their length, their words, their balance.

own_continuations.py finds the answers and tells why each step is taken; here is what needs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steercpp.aliases import Tokens
from steercpp.judging.language import words
from steercpp.statistics.scores import drop_extensions, total_logprob

NEARLY = 0.8  # of the best AUC's distance from chance: a length with so much of it is long enough
BALANCE = 1.0  # nats that ln(P+/P-) of an item may be away from 0
QUOTED = 3  # words of the instruction in a row that make a text a quotation of it
_INNER = ("'", "\u2019")  # what stands inside words, beside letters


@dataclass(frozen=True, slots=True)
class Candidate:
    """The beginning of an answer.

    Attributes:
        text, tokens: the same, in both forms.
        of_aligned, of_misaligned, plain: ln P of it after the instruction, the opposite and the plain prompt, in nats.
    """

    text: str
    tokens: Tokens
    of_aligned: float
    of_misaligned: float
    plain: float = 0.0

    @property
    def margin(self) -> float:
        """Nats by which it is more likely when the aligned side is asked for."""
        return self.of_aligned - self.of_misaligned


def enough(auc_by_length: Sequence[float]) -> int:
    """The smallest length with nearly the separation of the best one: 4 fifths of its AUC's distance from a half.

    Of AUCs .6, .72, .76, .8 it is 3: .26 is the first to reach 4 fifths of .3. 1 where nothing is told apart.
    """
    auc = np.asarray(auc_by_length, np.float64)
    if not len(auc) or auc.max() <= 0.5:
        return 1
    return int(np.argmax(auc - 0.5 >= NEARLY * (auc.max() - 0.5))) + 1


def auc_of(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How often a number of the first is above one of the second; a tie counts half."""
    left, right = np.asarray(positive)[:, None], np.asarray(negative)[None]
    return float(((left > right) + 0.5 * (left == right)).mean())


def whole_words(tokens: Tokens, n_tokens: int, bytes_of: Callable[[int], bytes]) -> Tokens:
    """The first tokens, without the last ones where they begin a word, or a character, that goes on behind them.

    All `n_tokens` of them where no word ends among them.
    """
    for n in range(min(n_tokens, len(tokens)), 0, -1):
        before = b"".join(map(bytes_of, tokens[:n]))
        behind = b"".join(map(bytes_of, tokens[: n + 4]))  # a character has up to 4 bytes, of a token each
        try:
            text = before.decode()
        except UnicodeDecodeError:
            continue
        following = behind.decode("utf-8", "replace")[len(text) :]
        if not _one_word(text[-1:], following[:1]):
            return tokens[:n]
    return tokens[:n_tokens]


def _one_word(left: str, right: str) -> bool:
    """Whether two characters that stand side by side are of one word."""
    return all(each.isalnum() or each in _INNER for each in (left, right)) and len(words(left + right)) == 1


def quotes(text: str, instruction: str) -> bool:
    """Whether three words in a row of a text stand so in the instruction."""
    asked = words(instruction)
    runs = {tuple(asked[i : i + QUOTED]) for i in range(len(asked) - QUOTED + 1)}
    in_order = words(text)
    return any(tuple(in_order[i : i + QUOTED]) in runs for i in range(len(in_order) - QUOTED + 1))


def exclusive(aligned: Sequence[Candidate], misaligned: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Both sides without what extends a continuation of either: its probability is counted there."""
    together = [*aligned, *misaligned]
    kept = set(drop_extensions([text.tokens for text in together]))
    return (
        [text for i, text in enumerate(aligned) if i in kept],
        [text for i, text in enumerate(misaligned, len(aligned)) if i in kept],
    )


def balanced(aligned: Sequence[Candidate], misaligned: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Both sides, with continuations of the likelier one left out until they are within `BALANCE` nats.

    Each time it is the one whose removal brings them nearest; a side keeps one at least. The likeliest come first.
    """
    sides = tuple(sorted(side, key=lambda text: -text.plain) for side in (aligned, misaligned))
    while all(sides):
        gap = total(sides[0]) - total(sides[1])
        heavy, light = (sides[0], sides[1]) if gap > 0 else (sides[1], sides[0])
        if abs(gap) <= BALANCE or len(heavy) == 1:
            break
        gaps = [abs(total([*heavy[:i], *heavy[i + 1 :]]) - total(light)) for i in range(len(heavy))]
        if min(gaps) >= abs(gap):
            break
        del heavy[int(np.argmin(gaps))]
    return sides[0], sides[1]


def total(texts: Sequence[Candidate], of: str = "plain") -> float:
    """Natural log of the summed probabilities of exclusive texts, in nats; `of` is the context, see `Candidate`."""
    return float(total_logprob(np.array([getattr(text, of) for text in texts])))
