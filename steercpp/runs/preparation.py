"""What was found on a model before its run was begun: which measures tell anything, its own words, layers, strengths.

It lies in the run's folder as prepared.json, items and all; sweeps/prepare.py finds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from steercpp.data.items import BehaviorItem, ChoiceItem, Item, OwnItem, item_json, parse_item
from steercpp.errors import InputError, RunError
from steercpp.files import write_atomically
from steercpp.inputs import read_input, reading
from steercpp.runs.database import AGAIN
from steercpp.runs.folder import PREPARED
from steercpp.runs.scope import Scope
from steercpp.statistics.signals import Signal
from steercpp.vectors.layers import Window

FORMAT = "steercpp prepared 1"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was found.

    Attributes:
        identity: of what was asked for.
        signals: what each measure tells on this model, in the order in which they were asked.
        behavior, choice, own: the items to sweep, with the model's own words and answers in them.
        layers, strengths: where and how far to steer.
        windows: what was tried for the layers; empty where they were given.
        sides: what was tried for the strengths, as records of `bracket.Cliff`, by sign; empty where they were given.
        continuations: how own continuations were found; None where listed ones are used.
        token_layers: tokens times blocks computed, by stage.
        reason: why the model cannot be measured so; "" where it can.
        scope: how much of a full sweep is measured.
    """

    identity: str
    signals: tuple[Signal, ...]
    behavior: tuple[BehaviorItem, ...]
    choice: tuple[ChoiceItem, ...]
    own: tuple[OwnItem, ...]
    layers: Window
    strengths: tuple[float, ...]
    windows: tuple[Mapping[str, Any], ...] = ()
    sides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    continuations: Mapping[str, Any] | None = None
    token_layers: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    scope: Scope = Scope()

    @property
    def items(self) -> dict[str, tuple[Item, ...]]:
        """Keywords of `sweep`: the items of each kind, without kinds of which there are none."""
        by_kind: dict[str, tuple[Item, ...]] = {"behavior": self.behavior, "choice": self.choice, "own": self.own}
        return {kind: items for kind, items in by_kind.items() if items}

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, without the items."""
        return {
            "signals": [signal.record() for signal in self.signals], "layers": list(self.layers),
            "strengths": list(self.strengths), "windows": [dict(window) for window in self.windows],
            "sides": {sign: dict(side) for sign, side in self.sides.items()},
            "continuations": None if self.continuations is None else dict(self.continuations),
            "token_layers": dict(self.token_layers), "reason": self.reason,
            **({"scope": self.scope.record()} if self.scope != Scope() else {}),
        }  # fmt: skip

    def write(self, folder: Path) -> None:
        """Keep it in a run's folder.

        Raises:
            RunError: it cannot be written.
        """
        items = {kind: [item_json(item) for item in items] for kind, items in self.items.items()}
        document = {"format": FORMAT, "identity": self.identity, **self.record(), "items": items}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / PREPARED, json.dumps(document, ensure_ascii=False, indent=1).encode())
        except OSError as error:
            raise RunError(
                f"{folder / PREPARED}: cannot be written ({error.strerror}); choose another folder with `out`"
            ) from error


def read_preparation(folder: Path) -> Preparation | None:
    """What was found before a run was begun; None where nothing was.

    Raises:
        RunError: it is damaged.
    """
    with reading(folder / PREPARED, RunError, again=AGAIN):
        path = folder / PREPARED
        try:
            document = json.loads(read_input(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read ({error}); {AGAIN}") from error
        try:
            if document["format"] != FORMAT:
                return None
            items = {kind: tuple(map(parse_item, records)) for kind, records in document["items"].items()}
            return Preparation(
                identity=document["identity"], signals=tuple(Signal(**signal) for signal in document["signals"]),
                behavior=cast("tuple[BehaviorItem, ...]", items.get("behavior", ())),
                choice=cast("tuple[ChoiceItem, ...]", items.get("choice", ())),
                own=cast("tuple[OwnItem, ...]", items.get("own", ())),
                layers=tuple(document["layers"]), strengths=tuple(document["strengths"]),
                windows=tuple(document["windows"]), sides=document["sides"], continuations=document["continuations"],
                token_layers=document["token_layers"], reason=document["reason"],
                scope=Scope.from_record(document.get("scope")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise RunError(f"{path}: is damaged ({error}); {AGAIN}") from error
