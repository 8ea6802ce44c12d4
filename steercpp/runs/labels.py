"""Under which names a run keeps what it measures: kinds of items, and labels of what steered them.

A row of the store is of one kind of item, measured under one label at one strength.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from steercpp.data.items import Kind

MEASURED = (Kind.BEHAVIOR, Kind.CHOICE, Kind.ANSWER, Kind.TEXT)  # what is measured of them are log-probabilities
CONTROLLED = (Kind.BEHAVIOR, Kind.CHOICE, Kind.ANSWER)  # controls are measured on these
CONTINUED = (Kind.BEHAVIOR, Kind.CODE)  # their prompts may be continued by generated text


class Label(StrEnum):
    """What steered the items; random directions have labels of their own, see `random_label`."""

    VECTOR = "vector"
    ORTHOGONAL = "orthogonal"  # a direction orthogonal to the vector at every layer
    PROMPT = "prompt"  # the prompt baseline: nothing steers, an instruction stands before every prompt


RANDOM = "random-"  # labels of random directions begin so


def random_label(number: int) -> str:
    """The label of a random direction, by its number from 0."""
    return f"{RANDOM}{number}"


class ControlName(StrEnum):
    """The controls as a user switches them on and off."""

    RANDOM = "random"
    ORTHOGONAL = "orthogonal"
    PROMPT = "prompt"


CONTROL_WORDS: Mapping[str, str] = {  # what a user calls them
    ControlName.RANDOM: "random directions",
    ControlName.ORTHOGONAL: "orthogonal direction",
    ControlName.PROMPT: "prompt baseline",
}
