"""The main job: measure behaviour and helpfulness over a grid of strengths; read this to run a sweep from Python.

    with Engine("model.gguf") as engine:
        vector = extract(engine, read_pairs("refusal.jsonl"))
        result = sweep(
            engine, vector, behavior=read_behavior(...), choice=read_choices(...),
            strengths=grid("-4:4:0.5"), out=Path("runs/refusal"),
        )
    result.recommend(max_loss=0.05).strength

A sweep measures strength 0, goes outwards, and then measures random directions of the same norms on the behaviour
items at the recommended strength. The same call again goes on where it was interrupted, or reads what is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steercpp.calibration import KL
from steercpp.control_vector import ControlVector, without_strengths
from steercpp.engine import Engine
from steercpp.errors import InputError, LayerError, ShapeError
from steercpp.gguf_vector import write_vector
from steercpp.measure import Work, behavior_work, choice_work, packed_for
from steercpp.provenance import command, items_sha256, machine, model_identity, now, vector_sha256, versions
from steercpp.run_folder import (
    STORE,
    VECTOR_FILE,
    Manifest,
    Plan,
    clear,
    examine,
    new_folder_removed_on_failure,
    prepare,
    read_swept_vector,
    refuse_other_plan,
    write_manifest,
)
from steercpp.steering import Gate, Operator, Positions, Side, Steering, check_gate, check_manner
from steercpp.store import FORMAT, Store
from steercpp.strengths import normal_strengths
from steercpp.sweep_result import Row, SweepResult, open_run
from steercpp.sweep_run import Progress, Run
from steercpp.tasks import BehaviorItem, ChoiceItem
from steercpp.units import Unit, check_unit, in_unit


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for, beside the model, the vector and the items.

    Attributes:
        strengths: the grid; 0 is always measured.
        unit: what strength 1 adds, see units.py; norms and KL are taken over the items' prompts.
        random_directions: how many, as a control.
        direction: +1 or -1, the sign that is wanted.
        max_loss: the budget, a share of mean P(correct).
        seed: of the random directions and of all resampling.
        operator, positions, side, gate: how the vector acts, and where; see `Steering`.
        kl: nats, see calibration.py; of no account in other units.
    """

    strengths: tuple[float, ...]
    unit: Unit = "length"
    random_directions: int = 8
    direction: int = 1
    max_loss: float = 0.05
    seed: int = 0
    operator: Operator = "add"
    positions: Positions = "all"
    side: Side = "both"
    gate: Gate | None = None
    kl: float = KL

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

    def steering(self, vector: ControlVector) -> Steering:
        """How the vector acts."""
        return Steering(vector, operator=self.operator, positions=self.positions, side=self.side, gate=self.gate)


def sweep(
    engine: Engine,
    vector: ControlVector | Callable[[], ControlVector],
    *,
    behavior: Sequence[BehaviorItem] = (),
    choice: Sequence[ChoiceItem] = (),
    strengths: Sequence[float],
    out: Path | str,
    unit: Unit = "length",
    kl: float = KL,
    random_directions: int = 8,
    direction: int = 1,
    max_loss: float = 0.05,
    seed: int = 0,
    operator: Operator = "add",
    positions: Positions = "all",
    side: Side = "both",
    gate: Gate | None = None,
    force: bool = False,
    vector_id: str | None = None,
    progress: Progress | None = None,
    on_strength: Callable[[Row], None] | None = None,
) -> SweepResult:
    """Measure the items at every strength into a run directory, or go on with one that was begun.

    Args:
        engine: the model.
        vector: what to steer with, or a function that makes it, called only where it is needed.
        behavior: items to measure B on.
        choice: items to measure P(correct) on; one kind at least is needed.
        strengths: the grid; 0 is always measured.
        out: the run directory.
        unit: what strength 1 adds, see units.py; norms and KL are taken over the tokens of the items' prompts.
        kl: for the unit "kl": how many nats strength 1, of the wanted sign, has.
        random_directions: how many, as a control; 0 for none.
        direction: +1 or -1, the sign of the strengths that are wanted.
        max_loss: the loss budget, a share of mean P(correct).
        seed: of the random directions and of all resampling.
        operator: what is done with the vector, see `Steering`. Strength 0 is the operator switched off; to bring a
            projection to 0 or below, ablate at strength 1.
        positions: which tokens are steered, by their place.
        side: which tokens are steered, by the sign of their projection.
        gate: steer only the prompts that pass it, decided on the unsteered model.
        force: replace what is in `out`.
        vector_id: identity of the vector for the plan; needed where `vector` is a function.
        progress: called with (tokens done, of how many, what is being measured).
        on_strength: called with the means at each strength, as soon as it is finished.

    Raises:
        RunError: `out` cannot be used: another plan, other files, damaged, full, read-only.
        InputError: no items, or an option out of range; ShapeError, LayerError: the vector is not for this model.
        CalibrationError: in the unit "kl", no strength has so many nats.
        EngineError: a decode failed. Everything finished before is kept in all cases.
    """
    out = Path(out)
    settings = Settings(
        tuple(strengths), unit, random_directions, direction, max_loss, seed, operator, positions, side, gate, kl
    )
    if not behavior and not choice:
        raise InputError("nothing to measure: give behavior items, choice items or both")
    if isinstance(vector, ControlVector):
        check_vector(engine, vector)
        vector_id = vector_sha256(vector)
    if vector_id is None:
        raise InputError("a function that makes the vector needs a vector_id, for the plan")
    if gate is not None:
        check_gate(gate, n_layer=engine.n_layer, n_embd=engine.n_embd)
    manifest = None if force else examine(out)
    model = model_identity(engine.path, lambda: engine.sha256, manifest and manifest["model"])
    plan = _plan(engine, settings, model["sha256"], vector_id, behavior, choice)
    if manifest is not None:
        refuse_other_plan(out, manifest, plan)
        if manifest["finished"] is not None:
            return _shown(open_run(out), on_strength)
    work = [behavior_work(engine, behavior)] if behavior else []
    work += [choice_work(engine, choice)] if choice else []
    with new_folder_removed_on_failure(out):
        prepare(out)
        if manifest is None:
            made = vector if isinstance(vector, ControlVector) else vector()
            manifest = _begin(engine, made, out, plan, model, work, unit, progress)
    steering = settings.steering(read_swept_vector(out, manifest))
    if not steering.is_plain:
        work = [packed_for(engine, part, steering) for part in work]
        manifest["gate_open"] = {part.kind: sum(part.is_open) for part in work} if gate is not None else None
    with Store.reopen(out / STORE) as store:
        run = Run(out, manifest, engine, steering, work, store, progress, on_strength)
        run.complete()
    return open_run(out, decoded_now=run.n_now)


def check_vector(engine: Engine, vector: ControlVector, *, name: str = "the vector") -> None:
    """Make sure that a vector fits a model, before anything is decoded.

    Raises:
        ShapeError, LayerError: it has another width, or layers that the model lacks.
    """
    if vector.n_embd != engine.n_embd:
        raise ShapeError(
            f"{name}: has {vector.n_embd} values per layer, but n_embd of {engine.path} is {engine.n_embd}; "
            "use a vector made for this model"
        )
    if vector.layers[-1] >= engine.n_layer:
        raise LayerError(
            f"{name}: steers layer {vector.layers[-1]}, but {engine.path} has layers 0..{engine.n_layer - 1}; "
            "use a vector made for this model, or leave layers out"
        )


def _plan(
    engine: Engine,
    settings: Settings,
    model_sha256: str,
    vector_id: str,
    behavior: Sequence[BehaviorItem],
    choice: Sequence[ChoiceItem],
) -> Plan:
    options = engine.settings()
    return Plan(
        model_sha256=model_sha256,
        vector=vector_id,
        unit=settings.unit,
        strengths=settings.strengths,
        behavior_sha256=items_sha256(behavior) if behavior else "",
        choice_sha256=items_sha256(choice) if choice else "",
        random_directions=settings.random_directions,
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
    )


def _shown(result: SweepResult, on_strength: Callable[[Row], None] | None) -> SweepResult:
    """A finished run, its strengths told as if they were just measured."""
    for row in result.rows() if on_strength else ():
        assert on_strength is not None
        on_strength(row)
    return result


def _begin(
    engine: Engine,
    vector: ControlVector,
    out: Path,
    plan: Plan,
    model: dict[str, Any],
    work: Sequence[Work],
    unit: Unit,
    progress: Progress | None,
) -> Manifest:
    """Write the files of a new run, the manifest last, and return it; a failure leaves none of them."""
    check_vector(engine, vector)
    prompts = [query.tokens for query in work[0].queries]
    vector = replace(vector, metadata=without_strengths(vector.metadata))  # this run finds its own
    vector, measured = in_unit(engine, vector, prompts, unit, kl=plan.kl, sign=plan.direction, progress=progress)
    vector = vector.with_metadata(
        unit=plan.unit, model_sha256=plan.model_sha256, operator=plan.operator, positions=plan.positions,
        side=plan.side, gate=plan.gate,
    )  # fmt: skip
    manifest: Manifest = {
        "format": FORMAT,
        "command": command(),
        "begun": now(),
        "finished": None,
        "plan": plan.to_json(),
        "plan_sha256": plan.sha256,
        "seed": plan.seed,
        "model": model | {"architecture": engine.architecture, "description": engine.description},
        "vector": {
            "sha256": vector_sha256(vector),
            "layers": list(vector.layers),
            "norms": list(vector.norms.values()),
            **measured,
        },
        "items": {part.kind: len(part.items) for part in work},
        "engine": engine.settings(),
        "versions": versions(),
        "machine": machine(),
        "tokens": None,
        "resume": None,
        "gate_open": None,
    }
    clear(out)
    try:
        write_vector(out / VECTOR_FILE, vector)
        with Store.create(out / STORE, plan_sha256=plan.sha256) as store:
            for part in work:
                store.add_items(part.kind, part.items, part.continuations)
        write_manifest(out, manifest)
    except BaseException:
        clear(out)  # all of it was written here
        raise
    return manifest
