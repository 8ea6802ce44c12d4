"""The model that steercpp ships, with its pairs and questions; read this for what a bare `steercpp sweep` runs on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from steercpp import models
from steercpp.data.items import BehaviorItem, ChoiceItem, read_behavior, read_choices
from steercpp.data.pairs import ContrastPair, read_pairs
from steercpp.data.requests import Request, read_requests
from steercpp.errors import ModelError
from steercpp.provenance import file_sha256

CARD = "embedded.json"


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """The embedded model and what it is steered and measured with by default.

    Attributes:
        path: the GGUF file; its sha256 is the card's.
        card: where it comes from and its measured figures.
        strengths: the default grid, in shares of the residual stream's median norm at each layer; finer near 0, where B
            turns.
        layers: where it is steered. Above the paper's band, which is blocks 2 to 4 here: steered there, it leaves the
            format of its answers before it loses what it knows.
        showcase_tokens: as many as its answers have, at most.
    """

    path: Path
    card: dict[str, Any]
    strengths: tuple[float, ...] = (
        *(-1.5, -1.25, -1.0, -0.75, -0.5, -0.375, -0.25, -0.125),
        0.0,
        *(0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.25, 1.5),
    )
    unit: Literal["norm"] = "norm"
    layers: tuple[int, ...] = (5, 6)
    showcase_tokens: int = 20

    def pairs(self) -> tuple[ContrastPair, ...]:
        """Held-out requests under a careful (positive) and a reckless (negative) persona."""
        return read_pairs(self.path.parent / "refusal.pairs.jsonl")

    @property
    def instruction(self) -> str:
        """What asks for refusals in words: a careful persona of the pairs, which the model was trained to act as."""
        first = self.pairs()[0].positive
        assert isinstance(first, tuple) and first[0].role == "system"
        return first[0].content

    def behavior(self) -> tuple[BehaviorItem, ...]:
        """Other held-out requests, without a persona: refused or answered?"""
        return read_behavior(self.path.parent / "refusal.behavior.jsonl")

    def requests(self) -> tuple[Request, ...]:
        """Twelve held-out requests that are in neither the pairs nor the items, to look at texts."""
        return read_requests(self.path.parent / "refusal.requests.jsonl")

    def choice(self) -> tuple[ChoiceItem, ...]:
        """Multiple-choice questions of four subjects, in a wording that was not trained on."""
        return read_choices(self.path.parent / "knowledge.choice.jsonl")


def load(folder: Path | None = None) -> DefaultModel:
    """Find the embedded model, in the package or in `folder`, and check that it is the one its card describes.

    Raises:
        ModelError: the model or its card is missing, or the file's sha256 is another.
    """
    folder = folder or Path(models.__file__).parent
    card_path = folder / CARD
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        path, expected = folder / card["file"], card["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{card_path}: the embedded model's card cannot be read ({error}); reinstall steercpp"
        ) from error
    if not path.is_file():
        raise ModelError(f"{path}: the embedded model is missing; reinstall steercpp")
    if (sha256 := file_sha256(path)) != expected:
        raise ModelError(
            f"{path}: its sha256 is {sha256[:16]}…, its card says {expected[:16]}…; reinstall steercpp or `make model`"
        )
    return DefaultModel(path, card)
