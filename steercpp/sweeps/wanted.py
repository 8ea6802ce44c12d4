"""What is asked for of a model before its first sweep, and what is left to be found on it; prepare.py finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from steercpp.data.items import BehaviorItem, ChoiceItem, OwnItem, item_json, items_sha256
from steercpp.data.prompts import prompt_json
from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.provenance import json_sha256
from steercpp.runs.preparation import FORMAT
from steercpp.sweeps.own_continuations import Request
from steercpp.sweeps.trimming import Size, drawn
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for; what is empty or None is found on the model.

    Attributes:
        directions: makes the control vector at these layers.
        vector_id: identity of what it is made from, without the layers.
        behavior: listed behavior items, taken as they are without an instruction and its opposite; or, for own
            continuations, bare prompts.
        own_behavior: True for continuations in the model's own words, False for the listed ones, None for the listed
            ones where they hold enough of the probability.
        instruction, opposite: ask in words for either side; "" where nothing is known that does.
        choice: candidates for helpfulness, each way of asking with its items, in order of preference.
        everyday: requests that the model answers itself, the last candidate for helpfulness.
        helps_otherwise: whether items of another kind, which are given, tell helpfulness.
        layers: where to steer.
        strengths: the grid, in residual norms.
        direction, max_loss, seed: as in `SweepOptions`.
        quick: a first answer of fewer items and strengths, in about a third of the work.
        budget_s: seconds that finding and sweeping may take; items are left out where they do not fit. None: any time.
        n_directions, in_words: of the sweep that follows, for a budget: random directions and the orthogonal one, and
            whether the prompt baseline is measured where there is an instruction.
    """

    directions: Callable[[Sequence[int]], ControlVector]
    vector_id: str
    behavior: Sequence[BehaviorItem | Request]
    own_behavior: bool | None = None
    instruction: str = ""
    opposite: str = ""
    choice: Mapping[str, Sequence[ChoiceItem]] = field(default_factory=dict)
    everyday: Sequence[OwnItem] = ()
    helps_otherwise: bool = False
    layers: Window | None = None
    strengths: tuple[float, ...] | None = None
    direction: int = 1
    max_loss: float = 0.05
    seed: int = 0
    quick: bool = False
    budget_s: float | None = None
    n_directions: int = 9
    in_words: bool = True

    def __post_init__(self) -> None:
        if self.budget_s is not None and not 0 < self.budget_s < float("inf"):
            raise InputError(f"`budget_s` is {self.budget_s}: give seconds above 0, or None for any time")

    @property
    def counts(self) -> dict[str, int]:
        """How many items of each kind are asked for; of choices those of the longest way of asking."""
        n_choice = max(map(len, self.choice.values()), default=0)
        return {"behavior": len(self.behavior), "choice": n_choice, "own": len(self.everyday)}

    def of_size(self, size: Size) -> Wanted:
        """The same with so many items of each kind, drawn by lot."""
        n = size.counts
        return replace(
            self, behavior=drawn(self.behavior, n["behavior"], self.seed),
            choice={name: drawn(items, n["choice"], self.seed) for name, items in self.choice.items()},
            everyday=drawn(self.everyday, n["own"], self.seed),
        )  # fmt: skip

    def identity(self, engine: Engine) -> str:
        """Hash of all that decides what is found, but for the day: a run that was begun goes on as on its own."""
        return json_sha256({
            "format": FORMAT, "model": engine.sha256, "vector": self.vector_id,
            "behavior": [_deciding(item) for item in self.behavior], "own_behavior": self.own_behavior,
            "words": [self.instruction, self.opposite],
            "choice": {name: items_sha256(items) for name, items in self.choice.items()},
            "everyday": items_sha256(self.everyday), "otherwise": self.helps_otherwise,
            "layers": self.layers, "strengths": self.strengths,
            "direction": self.direction, "max_loss": self.max_loss, "seed": self.seed,
            "chat": {key: value for key, value in engine.vocabulary.chat_settings.items() if key != "date"},
            **({"quick": True} if self.quick else {}),
            **({"budget": [self.budget_s, self.n_directions, self.in_words]} if self.budget_s is not None else {}),
        })  # fmt: skip


def _deciding(item: BehaviorItem | Request) -> Any:
    """What decides an item's part of what is found."""
    if isinstance(item, BehaviorItem):
        return item_json(item)
    return [item.id, prompt_json(item.prompt), item.template, item.subject, item.couple]
