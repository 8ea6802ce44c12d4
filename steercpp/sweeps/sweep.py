"""The main job: measure items of any kind over a grid of strengths; read this to run a sweep from Python.

    with Engine("model.gguf") as engine:
        vector = extract(engine, read_pairs("refusal.jsonl"))
        result = sweep(
            engine, vector, behavior=read_behavior(...), choice=read_choices(...),
            strengths=grid("-4:4:0.5"), out=Path("runs/refusal"), instruction="Refuse what would harm anybody.",
        )
    result.recommend(max_loss=0.05).strength

A sweep measures strength 0, goes outwards, and then measures the controls: the instruction before every prompt, and
directions of the same norms at the candidate for a recommendation. Of own answers those that tell are measured at the
candidate alone. Last, with a text plan, every prompt is continued by generated text at every strength; where programs
alone tell what steering costs, the controls come after them. At the very end requests are continued that are only shown
(showcase.py). The same call again goes on where it was interrupted, or reads what is finished; with more strengths,
items or texts it adds to the run (growing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from steercpp.aliases import Progress
from steercpp.engine.engine import Engine
from steercpp.engine.steering import check_gate
from steercpp.errors import InputError
from steercpp.files import fenced
from steercpp.locks import writing
from steercpp.parameters import refuse_unknown
from steercpp.provenance import command, machine, now, versions
from steercpp.runs.folder import STORE, VECTOR_FILE, beginning, examine, prepare, read_swept_vector, tidy, tidy_unused
from steercpp.runs.labels import ControlName
from steercpp.runs.manifest import MANIFEST, Manifest, ModelRecord, VectorRecord, read_manifest, write_manifest
from steercpp.runs.plan import Plan
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.store import Store
from steercpp.sweeps.amounts import Amounts
from steercpp.sweeps.auto_strengths import found_strengths
from steercpp.sweeps.growing import (
    Growth,
    add_missing_items,
    as_added,
    grown,
    refuse_asked_otherwise,
    refuse_other_tokens,
)
from steercpp.sweeps.measure import packed_for
from steercpp.sweeps.prepared import Prepared, item_notes, prepared_for, work_of
from steercpp.sweeps.run import OnStrength, Run
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.spread import Spreading, check_executor, spread
from steercpp.sweeps.stages import OnStage
from steercpp.sweeps.units import in_unit
from steercpp.vectors.control_vector import ControlVector, vector_sha256, without_strengths
from steercpp.vectors.formats import check_vector
from steercpp.vectors.gguf import write_vector
from steercpp.vectors.notes import small_majorities


def sweep(
    engine: Engine,
    vector: ControlVector | Callable[[], ControlVector],
    spec: SweepSpec | None = None,
    *,
    out: Path | str,
    allow_code: bool = False,
    force: bool = False,
    vector_id: str | None = None,
    progress: Progress | None = None,
    on_strength: OnStrength | None = None,
    on_stage: OnStage | None = None,
    note: Callable[[str], None] | None = None,
    executor: Executor | int | None = None,
    models: Sequence[Path | str] = (),
    **fields: Any,
) -> SweepResult:
    """Measure the items at every strength into a run directory, or go on with one that was begun, or add to it.

    Args:
        engine: the model.
        vector: what to steer with, or a function that makes it, called only where it is needed.
        spec: what to measure. Instead of one its attributes may be given as keywords, such as `behavior=` and
            `strengths=`, see `SweepSpec`; `said=` is the older name of `text_plan=`. `strengths="auto"`, beside a spec
            too, finds a grid as far as half of the helpfulness is left, see auto_strengths.py.
        out: the run directory.
        allow_code: the user's word that the model's code may run, see runs/code.py.
        force: replace what is in `out`.
        vector_id: identity of the vector for the plan; needed where `vector` is a function.
        progress: called with (token-layers done, of how many, what is being measured), tokens times the blocks that
            they pass, about; what an earlier call has finished is done from the first time on.
        on_strength: called with the means at each strength, as soon as it is finished.
        on_stage: called when a stage begins, see stages.py.
        note: called with a sentence where a begun run is resumed or added to, which says how much of it is there.
        executor: other processes that measure, see spread.py: any of `concurrent.futures`, or how many to run here;
            None to measure in this one. Rows are the same where the CPU is of the same type.
        models: folders in which those look for the model, beside its path here.
        fields: attributes of a `SweepSpec`.

    Raises:
        RunError: `out` cannot be used: another plan, other files, damaged, full, read-only, written by another process.
        InputError: no items, or an option out of range; ShapeError, LayerError: the vector is not for this model.
        TaskError, PromptError, ContextOverflowError: an item cannot be asked, see work.py.
        CalibrationError: in the unit "kl", no strength has so many nats.
        SandboxError: the model's code may not run, or no sandbox works; the generated texts are kept.
        WorkerError: a process that measures has another version or no such model, or is lost again and again.
        EngineError: a decode failed. Everything finished before is kept in all cases.

    >>> found = sweep(
    ...     engine, vector, behavior=behavior, choice=choice, strengths=(0.5,), unit="norm", out="half",
    ...     random_directions=0, orthogonal=False, prompt_baseline=False,
    ... )
    >>> found.strengths.tolist(), found.finished
    ([0.0, 0.5], True)
    >>> more = sweep(
    ...     engine, vector, behavior=behavior, choice=choice, strengths=(0.5, 1.0), unit="norm", out="half",
    ...     random_directions=0, orthogonal=False, prompt_baseline=False,
    ... )
    >>> more.strengths.tolist(), more.decoded_now == found.decoded_now // 2
    ([0.0, 0.5, 1.0], True)
    """
    check_executor(executor)
    is_open = isinstance(strengths := fields.get("strengths"), str) and strengths == "auto"
    if is_open and spec is not None:
        del fields["strengths"]
    elif is_open:
        fields |= {"strengths": (0.0,), "unit": fields.get("unit", "norm")}
    if spec is None:
        if "said" in fields:
            fields["text_plan"] = fields.pop("said")
        refuse_unknown(sweep, fields, SweepSpec)
        spec = SweepSpec(**fields)
    elif fields:
        raise InputError(f"give {sorted(fields)[0]!r} in the spec, or the whole spec as keywords")
    out = Path(out)
    vector_id = _identity(engine, vector, vector_id)
    if spec.gate is not None:
        check_gate(spec.gate, n_layer=engine.n_layer, n_embd=engine.n_embd)
    if is_open:
        make = (lambda made=vector: made) if isinstance(vector, ControlVector) else vector
        found = found_strengths(engine, make, spec, out=out, vector_id=vector_id, force=force)
        spec = replace(spec, strengths=found)

    # A finished run of this plan is read, also where nothing can be written. Chats tell the day that it was begun on.
    manifest = read_manifest(out) if not force and (out / MANIFEST).is_file() else None
    with engine.on_day(None if manifest is None else manifest.plan.chat.get("date")):
        return _swept(
            engine, vector, spec, manifest, out=out, force=force, allow_code=allow_code, vector_id=vector_id,
            progress=progress, on_strength=on_strength, on_stage=on_stage, note=note,
            spreading=None if executor is None else partial(spread, executor, models=tuple(map(str, models))),
        )  # fmt: skip


def _swept(
    engine: Engine,
    vector: ControlVector | Callable[[], ControlVector],
    spec: SweepSpec,
    manifest: Manifest | None,
    *,
    out: Path,
    force: bool,
    allow_code: bool,
    vector_id: str,
    progress: Progress | None,
    on_strength: OnStrength | None,
    on_stage: OnStage | None,
    note: Callable[[str], None] | None,
    spreading: Spreading | None,
) -> SweepResult:
    """Read a finished run, or measure what is missing of one that goes on, or of a new one without a manifest."""
    plan, model = _plan(engine, spec, vector_id, manifest)
    growth = Growth()
    if manifest is not None:
        spec, plan, growth = as_added(out, manifest, spec, plan)
    if manifest is None or manifest.finished is None or growth:
        with writing(out), fenced(out, engine.model.files.refuse_changed):
            tidy(out)
            manifest = None if force else examine(out)  # as another process may have left it since
            if manifest is not None:
                spec, plan, growth = as_added(out, manifest, spec, plan)
            if manifest is None or manifest.finished is None or growth:
                # Everything that can be wrong with an item is found before anything is written
                prepared = prepared_for(engine, spec, work_of(engine, spec.stored_items, manifest, growth))
                prepare(out)
                if manifest is None:
                    made = vector if isinstance(vector, ControlVector) else vector()
                    doubts = () if made is vector else small_majorities(made)  # a file's are told when it is read
                    manifest = _begin(engine, made, out, plan, model, spec, prepared, doubts, progress)
                    note = None
                else:
                    refuse_other_tokens(out, manifest, prepared.all_work)
                if growth:
                    refuse_asked_otherwise(engine, out, manifest, spec, growth, prepared.controls_off)
                    manifest = _grown(engine, spec, out, manifest, plan, growth, prepared)
                return _measured(
                    engine, spec, out, manifest, prepared, growth, allow_code, progress, on_strength, on_stage, note,
                    spreading,
                )  # fmt: skip
    tidy_unused(out)
    result = open_run(out)
    if on_strength is not None:
        for means in result.rows():
            on_strength(means)  # as if they were just measured
    return result


def _plan(engine: Engine, spec: SweepSpec, vector_id: str, manifest: Manifest | None) -> tuple[Plan, dict[str, Any]]:
    """What decides the numbers, and the model's identity."""
    model = engine.model.files.identity()
    plan = spec.plan(engine, model_sha256=model["sha256"], vector_id=vector_id)
    if manifest is not None and "date" not in manifest.plan.chat and not engine.vocabulary.chat_options.date:
        plan = replace(plan, chat={key: value for key, value in plan.chat.items() if key != "date"})
    return plan, model


def _measured(
    engine: Engine,
    spec: SweepSpec,
    out: Path,
    manifest: Manifest,
    prepared: Prepared,
    growth: Growth,
    allow_code: bool,
    progress: Progress | None,
    on_strength: OnStrength | None,
    on_stage: OnStage | None,
    note: Callable[[str], None] | None,
    spreading: Spreading | None,
) -> SweepResult:
    """Measure what a begun run lacks, with what is added to it now."""
    steering = spec.steering(read_swept_vector(out, manifest))
    if not steering.is_plain:
        prepared = replace(
            prepared, work=[packed_for(engine, of_kind, steering) for of_kind in prepared.work],
            telling=[packed_for(engine, of_kind, steering) for of_kind in prepared.telling],
        )  # fmt: skip
        if spec.gate is not None:
            gate_open = {of_kind.kind: sum(of_kind.is_open) for of_kind in prepared.all_work}
            manifest = replace(manifest, gate_open=gate_open)
    with Store.reopen(out / STORE) as store:
        if manifest.additions:
            add_missing_items(store, spec.stored_items, prepared.all_work)
        amounts = Amounts(spec, prepared, store, engine.n_layer, steering.vector.layers[0], progress)
        if note is not None and (n_rows := store.n_rows()):
            does = f"adds {growth} to" if growth else "resumes"
            note(f"{does} {out}: {n_rows} of {amounts.n_rows(manifest)} rows are there")
        run = Run(out, manifest, spec, engine, steering, prepared, store, amounts, on_strength, on_stage, spreading)
        run.complete(allow_code=allow_code)
    return open_run(out, decoded_now=amounts.n_now)


def _identity(engine: Engine, vector: ControlVector | Callable[[], ControlVector], vector_id: str | None) -> str:
    if isinstance(vector, ControlVector):
        check_vector(engine, vector)
        return vector_sha256(vector)
    if vector_id is None:
        raise InputError("a function that makes the vector needs a vector_id, for the plan")
    return vector_id


def _begin(
    engine: Engine,
    vector: ControlVector,
    out: Path,
    plan: Plan,
    model: dict[str, Any],
    spec: SweepSpec,
    prepared: Prepared,
    notes: tuple[str, ...],
    progress: Progress | None,
) -> Manifest:
    """Write the files of a new run and return its manifest; a failure leaves none of them, and an earlier run whole."""
    check_vector(engine, vector)
    vector = replace(vector, metadata=without_strengths(vector.metadata))  # this run finds its own
    vector, measured = in_unit(
        engine, vector, prepared.prompts, plan.unit, kl=plan.kl, sign=plan.direction, progress=progress
    )
    vector = vector.with_metadata(
        unit=plan.unit, model_sha256=plan.model_sha256, operator=plan.operator, positions=plan.positions,
        side=plan.side, gate=plan.gate,
    )  # fmt: skip
    manifest = Manifest(
        command=command(), begun=now(), plan=plan,
        model=ModelRecord(**model, architecture=engine.architecture, description=engine.description),
        vector=VectorRecord(
            sha256=vector_sha256(vector), layers=vector.layers, norms=tuple(vector.norms.values()),
            residual_norms=measured.residual_norms, calibration=measured.calibration,
        ),
        items={kind: len(items) for kind, items in spec.stored_items.items()}, engine=engine.settings(),
        versions=versions(), machine=machine(), controls_off=prepared.controls_off,
        notes=(
            *item_notes(engine, spec, spec.items, prepared.all_work, prompted=bool(prepared.baseline)), *notes,
            *((measured.doubt,) if measured.doubt else ()),
            *(() if prepared.showcase is None else prepared.showcase.notes),
        ),
    )  # fmt: skip
    with beginning(out) as aside:
        write_vector(aside / VECTOR_FILE, vector)
        with Store.create(aside / STORE, plan_sha256=plan.sha256) as store:
            continuations = {of_kind.kind: of_kind.continuations for of_kind in prepared.all_work}
            for kind, items in spec.stored_items.items():
                store.add_items(kind, items, continuations.get(kind, ()))
            if prepared.showcase is not None:
                store.add_requests(prepared.showcase.requests)
        write_manifest(aside, manifest)
    return manifest


def _grown(
    engine: Engine, spec: SweepSpec, out: Path, manifest: Manifest, plan: Plan, growth: Growth, prepared: Prepared
) -> Manifest:
    """Begin to add to a run; what was told of its items is told of all of them."""
    notes = manifest.notes
    if growth.items:
        stored = {kind: items[: manifest.items.get(kind, 0)] for kind, items in spec.stored_items.items()}
        before = work_of(engine, {kind: items for kind, items in stored.items() if items}, manifest, Growth())
        asked = {kind: items[: len(items) - growth.items.get(kind, 0)] for kind, items in spec.items.items()}
        had_baseline = ControlName.PROMPT not in manifest.controls_off
        old = set(item_notes(engine, spec, asked, before, prompted=had_baseline))
        new = item_notes(engine, spec, spec.items, prepared.all_work, prompted=bool(prepared.baseline))
        notes = (*new, *(note for note in notes if note not in {*old, *new}))
    return grown(
        out, manifest, plan, growth, items={kind: len(items) for kind, items in spec.stored_items.items()},
        controls_off=prepared.controls_off, notes=notes,
    )  # fmt: skip
