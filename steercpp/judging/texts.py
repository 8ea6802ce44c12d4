"""Generated texts, and what became of generated code: plain data, for whoever judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

TextFinish: TypeAlias = Literal["length", "stop", "end", "nonfinite"]


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
    """

    strength: float
    item: int
    sample: int
    text: str
    n_tokens: int
    finish: TextFinish
    nats: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the code of one text passed its tests, and why not ("" where it did)."""

    strength: float
    item: int
    sample: int
    passed: bool
    reason: str
