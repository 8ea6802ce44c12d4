"""What decides a sweep's numbers; read this for what makes two sweeps the same run.

A `Plan` is what a user asks for, with hashes in place of the model, the vector and the items, and the engine's settings
that reach the bits. Two commands with the same plan are the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from steercpp.choices import Operator, Positions, Side, Unit
from steercpp.provenance import json_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """What is asked for beside the items, the vector, its gate and the generated texts.

    Attributes:
        unit: what strength 1 adds: "length", "norm" or "kl"; norms and KL are taken over the items' prompts.
        strengths: the grid, ascending; 0 is always measured.
        random_directions: how many, as a control; 0 for none.
        orthogonal: whether a direction orthogonal to the vector is a control.
        prompt_baseline: whether `instruction` before every prompt, unsteered, is a control.
        instruction: asks for the behavior in words; "" where there is none.
        opposite: asks for its opposite in words; where it is given, texts are generated under it too, and the
            unsteered model reads every text asked for either side; "" for neither.
        seed: of the random directions and of all resampling.
        direction: +1 or -1, the sign of the strengths that are wanted.
        max_loss: the loss budget, a share of mean P(correct), or without choice items of the answers' P per token.
        operator: what is done with the vector, see `Steering`. Strength 0 is the operator switched off; to bring a
            projection to 0 or below, ablate at strength 1.
        positions: which tokens are steered, by their place; a text has its first token for a prompt.
        side: which tokens are steered, by the sign of their projection.
        kl: for the unit "kl": how many nats strength 1, of the wanted sign, has.
    """

    unit: Unit = "length"
    strengths: tuple[float, ...]
    random_directions: int = 8
    orthogonal: bool = True
    prompt_baseline: bool = True
    instruction: str = ""
    opposite: str = ""
    seed: int = 0
    direction: int = 1
    max_loss: float = 0.05
    operator: Operator = "add"
    positions: Positions = "all"
    side: Side = "both"
    kl: float = 0.1


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How prompts are continued by generated text.

    Attributes:
        max_tokens: of each text.
        samples: texts at each strength; more than one only with a temperature.
        temperature: 0 takes the most likely token.
        top_p: the share of probability that stays.
        seed: of the draws.
        stop: strings that end a text.
        code_template: how code items are asked: "raw", "chat", or a template with one place (data/templates.py).
    """

    max_tokens: int
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    code_template: str = "raw"

    def record(self) -> dict[str, Any]:
        """Plain data for a plan, in JSON's own types."""
        return {**asdict(self), "stop": list(self.stop)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSettings:
    """Settings of the engine that decide which rows a batch holds, or reach the bits in another way."""

    n_ctx: int
    n_batch: int
    n_group: int
    devices: str
    flash_attn: str
    llama_cpp: str
    packing: str = ""  # see `Engine.packing`; "" where rows are shared as is cheapest

    def record(self) -> dict[str, str | int]:
        """Plain data for a plan."""
        return {name: value for name, value in asdict(self).items() if name != "packing" or value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(SweepOptions):
    """What decides a sweep's numbers.

    Attributes:
        model_sha256: hash of the model file.
        vector: identity of the vector: a hash of its tensors, or of the pairs and method that it comes from.
        items: kind of item to hash of all its items, for each kind that there is.
        gate: identity of the gate, "" for none.
        engine: what of the engine's settings decides.
        texts: how prompts are continued; None where no text is generated. Its key in JSON is "said".
        chat: what decides how the model's template writes chats, see `Vocabulary.chat_settings`. Its keys are the
            plan's own in JSON; a plan of an earlier version has none.
        showcase: of requests that are only continued, to be shown, their hash and the tokens of each text; empty
            without any.
    """

    model_sha256: str
    vector: str
    items: Mapping[str, str]
    gate: str
    engine: PlannedSettings
    texts: TextOptions | None = None
    chat: Mapping[str, Any] = field(default_factory=dict)
    showcase: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: SweepOptions, **others: Any) -> Plan:
        """The plan with these options; `others` are its own attributes."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(SweepOptions)}, **others)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Plan:
        """The plan that a manifest holds.

        Raises:
            KeyError, TypeError: it is not complete.
        """
        options = {field.name: record[field.name] for field in fields(SweepOptions) if field.name not in _OPTIONAL}
        settings = PlannedSettings(
            **{key.name: record[key.name] for key in fields(PlannedSettings) if key.name != "packing"},
            packing=record.get("packing", ""),
        )
        names = {name: record[name] for name in ("model_sha256", "vector", "gate")}
        said = record.get("said")
        texts = None if said is None else TextOptions(**{**said, "stop": tuple(said["stop"])})
        return cls(
            **{**options, "strengths": tuple(options["strengths"])}, **names, items=dict(record["items"]),
            **{key: record.get(key, absent) for key, absent in _OPTIONAL.items()}, engine=settings, texts=texts,
            chat={key: record[key] for key in _CHAT if key in record}, showcase=dict(record.get("showcase", {})),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """JSON's own types, as the manifest holds them: optional keys and those of `chat` only where they apply."""
        options = {field.name: getattr(self, field.name) for field in fields(SweepOptions)}
        unit, strengths, kl = options.pop("unit"), list(options.pop("strengths")), options.pop("kl")
        opposite = options.pop("opposite")
        return {
            "model_sha256": self.model_sha256, "vector": self.vector, "unit": unit, "strengths": strengths,
            "items": dict(self.items), **options, "gate": self.gate, **self.engine.record(),
            **({"kl": kl} if unit == "kl" else {}), **({"opposite": opposite} if opposite else {}),
            **({"said": self.texts.record()} if self.texts else {}),
            **self.chat, **({"showcase": dict(self.showcase)} if self.showcase else {}),
        }  # fmt: skip

    @property
    def sha256(self) -> str:
        """Hash of the whole plan."""
        return json_sha256(self.to_json())


_OPTIONAL: Mapping[str, Any] = {"kl": 0.0, "opposite": ""}  # in JSON where they apply, and what stands for none
_CHAT = ("template_kwargs", "thinking", "date")
_NAMES = {  # what a user calls a key of the plan, where that differs
    "model_sha256": "model", "random_directions": "number of random directions",
    "orthogonal": "orthogonal direction", "prompt_baseline": "prompt baseline", "max_loss": "max loss",
    "n_ctx": "n-ctx", "n_batch": "n-batch", "n_group": "keep-mib", "flash_attn": "flash attention",
    "llama_cpp": "version of llama.cpp", "said": "text settings", "opposite": "opposite of the instruction",
    "template_kwargs": "variables of the chat template",
    "date": "date of the chat template", "showcase": "texts to show",
}  # fmt: skip


def differing(stored: Plan, wanted: Plan) -> list[str]:
    """What one plan has otherwise than another, in a user's words."""

    def flat(plan: Plan) -> dict[str, Any]:
        record = plan.to_json()
        return {**record, **{f"{kind} items": sha256 for kind, sha256 in record["items"].items()}, "items": None}

    old, new = flat(stored), flat(wanted)
    return [_NAMES.get(key, key) for key in {**new, **old} if old.get(key) != new.get(key)]
