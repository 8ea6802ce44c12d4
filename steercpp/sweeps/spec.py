"""What a sweep is asked for: items, grid, unit, controls, steering, texts, seed; made and checked once.

    spec = SweepSpec(behavior=read_behavior("refusal.behavior.jsonl"), strengths=(-1, 0, 1), unit="norm")
    sweep(engine, vector, spec, out="runs/refusal")

`spec.plan(...)` adds the hashes and settings that decide the numbers, and is what the manifest holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steercpp.data.items import (
    AnswerItem,
    BehaviorItem,
    ChoiceItem,
    CodeItem,
    Item,
    Kind,
    OwnItem,
    TextItem,
    items_sha256,
    named,
)
from steercpp.data.requests import Request, requests_sha256
from steercpp.encoding import refuse_half_characters
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Gate, Steering, check_manner
from steercpp.errors import InputError, TaskError
from steercpp.runs.labels import OWN_TELLING, ControlName, Label, continued
from steercpp.runs.plan import Plan, PlannedSettings, SweepOptions
from steercpp.runs.scores import NO_INSTRUCTION, SWITCHED_OFF
from steercpp.sweeps.own_answers import choosing, telling
from steercpp.sweeps.strengths import normal_strengths
from steercpp.sweeps.texts import TextPlan
from steercpp.sweeps.units import check_unit
from steercpp.vectors.control_vector import ControlVector


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec(SweepOptions):
    """What a sweep is asked for; the other attributes are those of `SweepOptions`.

    Attributes:
        behavior: items to measure B on.
        choice: items to measure P(correct) on.
        answer: items to measure the P of free answers on, token by token.
        text: texts to measure perplexity on.
        code: functions to be completed, whose programs are run; items of one kind at least are needed.
        own: requests with the answers that the unsteered model itself gave, see `own_answers`.
        gate: steer only the prompts that pass it, decided on the unsteered model.
        text_plan: how the prompts of behavior and code items are continued; None: no texts are generated.
        showcase: requests that are continued at a few strengths and only shown, see sweeps/showcase.py.
        showcase_tokens: of each of these texts, at most.

    Raises:
        InputError: no items, code items without a text plan, the opposite of an instruction where there is none or no
            text of behavior items to read, or a value out of range.
        TaskError: an own item is not answered yet.

    >>> spec = SweepSpec(behavior=behavior, choice=choice, strengths=(0.5, -0.5), unit="norm")
    >>> spec.strengths  # 0 is always measured
    (-0.5, 0.0, 0.5)
    """

    behavior: Sequence[BehaviorItem] = ()
    choice: Sequence[ChoiceItem] = ()
    answer: Sequence[AnswerItem] = ()
    text: Sequence[TextItem] = ()
    code: Sequence[CodeItem] = ()
    own: Sequence[OwnItem] = ()
    gate: Gate | None = None
    text_plan: TextPlan | None = None
    showcase: Sequence[Request] = ()
    showcase_tokens: int = 48

    def __post_init__(self) -> None:
        object.__setattr__(self, "strengths", normal_strengths(self.strengths))
        if not self.prompt_baseline or not self.instruction.strip():
            object.__setattr__(self, "instruction", "")
        object.__setattr__(self, "opposite", self.opposite.strip() and self.opposite)
        refuse_half_characters(self.instruction, InputError, where="`instruction`: ")
        refuse_half_characters(self.opposite, InputError, where="`opposite`: ")
        check_unit(self.unit, self.kl, self.operator)
        check_manner(self.operator, self.positions, self.side)
        if self.direction not in (1, -1):
            raise InputError(f"direction {self.direction!r}: use 1 or -1")
        if not 0 < self.max_loss < 1:
            raise InputError(f"max loss {self.max_loss}: a share between 0 and 1 is expected, 0.05 for 5%")
        if self.random_directions < 0 or self.seed < 0:
            raise InputError("the number of random directions and the seed must not be negative")
        if self.showcase_tokens < 1:
            raise InputError(f"`showcase_tokens` is {self.showcase_tokens}: give at least 1, or leave `showcase` out")
        if not self.items:
            raise InputError("nothing to measure: give behavior, choice, answer, text, code or own items")
        if unanswered := [item for item in self.own if not item.tokens]:
            raise TaskError(
                f"{named(unanswered[0])}: is not answered yet, as {len(unanswered)} of {len(self.own)} own items; have "
                "the model answer them with `own_answers`"
            )
        if self.text_plan is None and self.code:
            raise InputError("code items are answered with generated text; give its length with `max_tokens`")
        if self.opposite and not (self.instruction and self.text_plan is not None and self.behavior):
            raise InputError(
                "the model judges texts by an instruction and its opposite: with `opposite` give `instruction`, "
                "`max_tokens` and behavior items, and leave the prompt baseline on"
            )
        if self.text_plan is not None and not continued(self.items):
            raise InputError(
                "no text to generate: `max_tokens` is for behavior and code items and answers with a number, and there "
                "are none"
            )

    @property
    def items(self) -> dict[Kind, Sequence[Item]]:
        """The items by kind, without kinds of which there are none."""
        by_kind: dict[Kind, Sequence[Item]] = {kind: getattr(self, kind) for kind in Kind}
        return {kind: items for kind, items in by_kind.items() if items}

    @property
    def stored_items(self) -> dict[str, Sequence[Item]]:
        """The items by the name under which a run keeps them: own ones by whether they choose or tell."""
        stored: dict[str, Sequence[Item]] = {str(kind): items for kind, items in self.items.items()}
        if self.own:
            stored |= {str(Kind.OWN): choosing(self.own), OWN_TELLING: telling(self.own)}
        return {kind: items for kind, items in stored.items() if items}

    @property
    def outwards(self) -> list[float]:
        """The strengths, from 0 outwards."""
        return sorted(self.strengths, key=lambda s: (abs(s), s))

    def strengths_of_texts(self, label: str) -> list[float]:
        """Where prompts are continued under a label: at every strength, or unsteered."""
        return self.outwards if label == Label.VECTOR else [0.0]

    def steering(self, vector: ControlVector) -> Steering:
        """How a vector acts, at strength 1."""
        return Steering(vector, operator=self.operator, positions=self.positions, side=self.side, gate=self.gate)

    @property
    def controls_off(self) -> dict[str, str]:
        """Controls that are not wanted or cannot be, with the reason."""
        off: dict[str, str] = {}
        if not self.random_directions:
            off[ControlName.RANDOM] = SWITCHED_OFF
        if not self.orthogonal:
            off[ControlName.ORTHOGONAL] = SWITCHED_OFF
        if not self.prompt_baseline:
            off[ControlName.PROMPT] = SWITCHED_OFF
        elif not self.instruction:
            off[ControlName.PROMPT] = NO_INSTRUCTION
        return off

    @property
    def _planned_showcase(self) -> dict[str, Any]:
        if not self.showcase:
            return {}
        return {"requests": requests_sha256(self.showcase), "max_tokens": self.showcase_tokens}

    def plan(self, engine: Engine, *, model_sha256: str, vector_id: str) -> Plan:
        """What decides the numbers of this sweep on a model.

        Args:
            engine: the model; its settings are part of the plan.
            model_sha256: hash of its file.
            vector_id: identity of the vector.
        """
        settings: Mapping[str, str | int] = engine.settings()
        return Plan.of(
            self, model_sha256=model_sha256, vector=vector_id,
            items={str(kind): items_sha256(items) for kind, items in self.items.items()},
            gate="" if self.gate is None else self.gate.identity,
            engine=PlannedSettings(
                n_ctx=int(settings["n_ctx"]), n_batch=int(settings["n_batch"]), n_group=int(settings["n_group"]),
                devices=" ".join(f"{name}={value}" for name, value in engine.devices.settings().items()),
                flash_attn=str(settings["flash_attn"]), llama_cpp=str(settings["llama_cpp"]),
                packing=str(settings.get("packing", "")),
            ),
            texts=self.text_plan, chat=engine.vocabulary.chat_settings, showcase=self._planned_showcase,
        )  # fmt: skip
