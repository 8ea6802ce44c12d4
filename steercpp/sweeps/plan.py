"""What a sweep is asked for, checked, and the plan that follows; read this for what makes two sweeps the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steercpp.data.items import Item, items_sha256
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Gate, Operator, Positions, Side, Steering, check_manner
from steercpp.errors import InputError
from steercpp.runs.folder import Plan
from steercpp.runs.stored_scores import NO_INSTRUCTION, SWITCHED_OFF, Name
from steercpp.sweeps.calibration import KL
from steercpp.sweeps.strengths import normal_strengths
from steercpp.sweeps.texts import TextPlan
from steercpp.sweeps.units import Unit, check_unit
from steercpp.vectors.control_vector import ControlVector


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for, beside the model, the vector and the items.

    Attributes:
        strengths: the grid; 0 is always measured.
        unit: what strength 1 adds, see units.py; norms and KL are taken over the items' prompts.
        random_directions: how many, as a control; 0 for none.
        orthogonal: whether a direction orthogonal to the vector is one too.
        prompt_baseline: whether `instruction` before every prompt is one too.
        instruction: asks for the behaviour in words; "" where there are none.
        direction: +1 or -1, the sign that is wanted.
        max_loss: the budget, a share of mean P(correct).
        seed: of the random directions and of all resampling.
        operator, positions, side, gate: how the vector acts, and where; see `Steering`.
        kl: nats, see calibration.py; of no account in other units.
        said: how behaviour and code items are continued in words; None where they are not.
    """

    strengths: tuple[float, ...]
    unit: Unit = "length"
    random_directions: int = 8
    orthogonal: bool = True
    prompt_baseline: bool = True
    instruction: str = ""
    direction: int = 1
    max_loss: float = 0.05
    seed: int = 0
    operator: Operator = "add"
    positions: Positions = "all"
    side: Side = "both"
    gate: Gate | None = None
    kl: float = KL
    said: TextPlan | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "strengths", normal_strengths(self.strengths))
        check_unit(self.unit, self.kl, self.operator)
        if self.direction not in (1, -1):
            raise InputError(f"direction {self.direction!r}: use 1 or -1")
        if not 0 < self.max_loss < 1:
            raise InputError(f"max loss {self.max_loss}: a share between 0 and 1 is expected, 0.05 for 5 %")
        if self.random_directions < 0 or self.seed < 0:
            raise InputError("the number of random directions and the seed must not be negative")
        check_manner(self.operator, self.positions, self.side)
        if not self.prompt_baseline or not self.instruction.strip():
            object.__setattr__(self, "instruction", "")

    def steering(self, vector: ControlVector) -> Steering:
        """How the vector acts."""
        return Steering(vector, operator=self.operator, positions=self.positions, side=self.side, gate=self.gate)

    @property
    def controls_off(self) -> dict[str, str]:
        """Controls that are not wanted or cannot be, with the reason."""
        wanted: dict[Name, bool] = {
            "random": self.random_directions > 0, "orthogonal": self.orthogonal, "prompt": self.prompt_baseline
        }  # fmt: skip
        off: dict[str, str] = {name: SWITCHED_OFF[name] for name, is_wanted in wanted.items() if not is_wanted}
        return off | ({} if self.instruction or not self.prompt_baseline else {"prompt": NO_INSTRUCTION})


def plan_of(
    engine: Engine, settings: Settings, *, model_sha256: str, vector_id: str, items: Mapping[str, Sequence[Item]]
) -> Plan:
    """The plan of a sweep over these items by kind, each of which has some."""
    options = engine.settings()
    return Plan(
        model_sha256=model_sha256,
        vector=vector_id,
        unit=settings.unit,
        strengths=settings.strengths,
        items={kind: items_sha256(part) for kind, part in items.items()},
        random_directions=settings.random_directions,
        orthogonal=settings.orthogonal,
        prompt_baseline=settings.prompt_baseline,
        instruction=settings.instruction,
        seed=settings.seed,
        direction=settings.direction,
        max_loss=settings.max_loss,
        operator=settings.operator,
        positions=settings.positions,
        side=settings.side,
        gate="" if settings.gate is None else settings.gate.identity,
        n_ctx=int(options["n_ctx"]),
        n_batch=int(options["n_batch"]),
        n_group=int(options["n_group"]),
        devices=" ".join(f"{name}={value}" for name, value in engine.devices.settings().items()),
        flash_attn=str(options["flash_attn"]),
        llama_cpp=str(options["llama_cpp"]),
        kl=settings.kl if settings.unit == "kl" else 0.0,
        said=None if settings.said is None else settings.said.record(),
    )
