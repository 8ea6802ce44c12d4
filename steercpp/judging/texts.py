"""Generated texts, and what became of generated code: plain data, for whoever judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from steercpp.judging.answers import BEGUN, Reply, parted

TextFinish: TypeAlias = Literal["length", "stop", "end", "nonfinite"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How likely the unsteered model finds the tokens of a text, asked in words for one side or the other.

    Attributes:
        llr: ln P after the prompt with the instruction, less ln P after the prompt with its opposite, in nats.
        nats_words: the former of the two.
    """

    llr: float
    nats_words: float


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """One continuation of one item's prompt.

    Attributes:
        strength: of the vector while it was generated.
        item: number of the item within its kind.
        sample: which of the continuations at this strength, from 0.
        text: without the stop string; "" where the strength left float32's range.
        n_tokens: tokens drawn, those of a stop string among them, an end-of-generation token not.
        finish: "length" at the most tokens allowed, "stop" at a stop string, "end" at an end-of-generation token,
            "nonfinite" where the strength left float32's range, so that there is no text.
        nats: ln P of the tokens after the prompt under the unsteered model; None where there are none.
        in_thought: whether the prompt ends inside a thought, so that the text begins there.
        reading: by the unsteered model asked for either side; None where it was not asked, or there are no tokens.
    """

    strength: float
    item: int
    sample: int
    text: str
    n_tokens: int
    finish: TextFinish
    nats: float | None
    in_thought: bool = False
    reading: Reading | None = None

    @property
    def whole(self) -> str:
        """The text as it is judged: with the opening mark of a thought that its prompt has begun."""
        return BEGUN + self.text if self.in_thought and self.finish != "nonfinite" else self.text

    @property
    def reply(self) -> Reply:
        """Its thoughts and its answer."""
        return parted(self.whole)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the code of one text passed its tests, and why not ("" where it did)."""

    strength: float
    item: int
    sample: int
    passed: bool
    reason: str
