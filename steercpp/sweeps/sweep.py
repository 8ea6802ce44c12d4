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

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.aliases import Progress
from steercpp.choices import CODE_WAYS
from steercpp.data.items import CodeItem, Item, Kind, code_prompt, prompt_of
from steercpp.data.prompts import Prompt, Template, with_instruction
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering, check_gate
from steercpp.errors import ContextOverflowError, InputError, PromptError
from steercpp.files import fenced
from steercpp.locks import writing
from steercpp.parameters import refuse_unknown
from steercpp.provenance import command, machine, now, versions
from steercpp.runs.code import judge_code
from steercpp.runs.folder import (
    STORE,
    VECTOR_FILE,
    beginning,
    examine,
    prepare,
    read_swept_vector,
    tidy,
    tidy_unused,
)
from steercpp.runs.labels import CONTROLLED, OWN_TELLING, RANDOM, ControlName, Label, controlled, random_label
from steercpp.runs.manifest import (
    MANIFEST,
    Manifest,
    ModelRecord,
    ResumeCounts,
    TokenCounts,
    VectorRecord,
    read_manifest,
    write_manifest,
)
from steercpp.runs.plan import Plan
from steercpp.runs.recommended import with_recommendation
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.scores import NO_ITEMS, NO_STRENGTH, StrengthMeans
from steercpp.runs.showcase import showcase_strengths
from steercpp.runs.store import Group, Store
from steercpp.runs.stored_scores import stored_scores
from steercpp.sweeps.alone import compared_with_alone
from steercpp.sweeps.auto_strengths import found_strengths
from steercpp.sweeps.growing import (
    Growth,
    add_missing_items,
    as_added,
    grown,
    refuse_asked_otherwise,
    refuse_other_tokens,
)
from steercpp.sweeps.measure import Bases, Here, Measurer, Task, Variant, chunks, packed_for
from steercpp.sweeps.showcase import ShowcaseJob, show_texts, showcase_job
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.spread import Spreading, spread
from steercpp.sweeps.stages import CONTROLS, STRENGTHS, TEXTS, OnStage, Stage
from steercpp.sweeps.texts import TextJob, missing_draws, text_jobs
from steercpp.sweeps.units import in_unit
from steercpp.sweeps.work import FROM_THE_FIRST, WORKS, Work, prompted_work
from steercpp.vectors.control_vector import (
    ControlVector,
    orthogonal_vector,
    random_vector,
    vector_sha256,
    without_strengths,
)
from steercpp.vectors.formats import check_vector
from steercpp.vectors.gguf import write_vector
from steercpp.vectors.notes import small_majorities

OnStrength = Callable[[StrengthMeans], None]
TEXTS_OF = {  # as progress tells them
    Label.PROMPT: "of the prompt baseline", Label.WORDS: "under the instruction", Label.OPPOSITE: "under its opposite"
}  # fmt: skip


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
                prepared = _prepared(engine, spec, _work(engine, spec.stored_items, manifest, growth))
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
        run = Run(out, manifest, spec, engine, steering, prepared, store, progress, on_strength, on_stage, spreading)
        if note is not None and (n_rows := store.n_rows()):
            does = f"adds {growth} to" if growth else "resumes"
            note(f"{does} {out}: {n_rows} of {run.n_rows} rows are there")
        run.complete(allow_code=allow_code)
    return open_run(out, decoded_now=run.n_now)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a sweep decodes, as tokens.

    Attributes:
        work: the items by kind, but for testing own answers.
        baseline: those that controls are measured on, with the instruction before their prompts; empty without one.
        jobs: prompts to be continued by generated text.
        controls_off: controls that are not to be had, with the reason.
        showcase: requests that are only shown; None without any.
        telling: testing own answers, at most one.
    """

    work: Sequence[Work]
    baseline: Sequence[Work]
    jobs: Sequence[TextJob]
    controls_off: dict[str, str]
    showcase: ShowcaseJob | None = None
    telling: Sequence[Work] = ()

    @property
    def all_work(self) -> Sequence[Work]:
        """Those that tell too."""
        return [*self.work, *self.telling]

    @property
    def prompts(self) -> Sequence[Sequence[int]]:
        """Those that norms and KL are taken over."""
        return self.work[0].prompts if self.work else self.jobs[0].prompts


def _prepared(engine: Engine, spec: SweepSpec, work: Sequence[Work]) -> Prepared:
    """The work with its prompt baseline, or why there is none."""
    showcase = showcase_job(engine, spec.showcase, max_tokens=spec.showcase_tokens)
    off = spec.controls_off
    telling = [of_kind for of_kind in work if of_kind.kind == OWN_TELLING]
    work = [of_kind for of_kind in work if of_kind.kind != OWN_TELLING]
    in_controls = [of_kind for of_kind in work if of_kind.kind in CONTROLLED]
    if not in_controls:
        off = dict.fromkeys(map(str, ControlName), NO_ITEMS) | off
    sides = (spec.instruction, spec.opposite) if spec.opposite else None
    jobs = text_jobs(engine, spec.text_plan, spec.items, instruction="", sides=sides)
    if ControlName.PROMPT in off:
        return Prepared(work, [], jobs, off, showcase, telling)
    baseline: list[Work] = []
    reason = ""
    for of_kind in in_controls:
        prompted = prompted_work(engine, of_kind, spec.instruction)
        if isinstance(prompted, str):
            reason = reason or prompted
        else:
            baseline.append(prompted)
    try:
        jobs_of_both = text_jobs(engine, spec.text_plan, spec.items, instruction=spec.instruction, sides=sides)
    except (ContextOverflowError, PromptError) as error:
        reason = reason or f"with the instruction before it, {error}"
    if reason:
        return Prepared(work, [], jobs, off | {ControlName.PROMPT: reason}, showcase, telling)
    return Prepared(work, baseline, jobs_of_both, off, showcase, telling)


def _work(engine: Engine, items: Mapping[str, Sequence[Item]], manifest: Manifest | None, growth: Growth) -> list[Work]:
    """Items of a run as what is decoded, packed as its manifest says, those that are added now apart from others."""
    work = []
    for kind, of_kind in items.items():
        starts: tuple[int, ...] = FROM_THE_FIRST
        if manifest is not None:
            n_before = manifest.items.get(kind, 0)
            starts = (*manifest.starts(kind), *([n_before] if growth and 0 < n_before < len(of_kind) else []))
        if kind in WORKS:
            work.append(WORKS[kind](engine, of_kind, starts=starts))
    return work


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
            *_item_notes(engine, spec, spec.items, prepared.all_work, prompted=bool(prepared.baseline)), *notes,
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
        before = _work(engine, {kind: items for kind, items in stored.items() if items}, manifest, Growth())
        asked = {kind: items[: len(items) - growth.items.get(kind, 0)] for kind, items in spec.items.items()}
        had_baseline = ControlName.PROMPT not in manifest.controls_off
        old = set(_item_notes(engine, spec, asked, before, prompted=had_baseline))
        new = _item_notes(engine, spec, spec.items, prepared.all_work, prompted=bool(prepared.baseline))
        notes = (*new, *(note for note in notes if note not in {*old, *new}))
    return grown(
        out, manifest, plan, growth, items={kind: len(items) for kind, items in spec.stored_items.items()},
        controls_off=prepared.controls_off, notes=notes,
    )  # fmt: skip


def _item_notes(
    engine: Engine, spec: SweepSpec, items: Mapping[Kind, Sequence[Item]], work: Iterable[Work], *, prompted: bool
) -> tuple[str, ...]:
    """What is unusual about how items are asked and scored, in sentences."""
    chats = engine.vocabulary.chat_notes(_prompts(spec, items, prompted=prompted))
    return (*chats, *(note for of_kind in work for note in of_kind.notes))


def _prompts(
    spec: SweepSpec, items_of: Mapping[Kind, Sequence[Item]], *, prompted: bool
) -> Iterator[tuple[Prompt, Template]]:
    """The prompts that are measured, and one of each kind with the instruction before it."""
    for kind, items in items_of.items():
        for number, item in enumerate(items):
            prompt, template, _ = prompt_of(item)
            if isinstance(item, CodeItem) and spec.text_plan is not None:
                prompt, template = code_prompt(item, spec.text_plan.code_template)
            yield prompt, template
            if prompted and number == 0 and kind in CONTROLLED:
                yield with_instruction(prompt, spec.instruction, template=template), template


def directions_for(like: ControlVector, *, n_random: int, orthogonal: bool, seed: int) -> dict[str, ControlVector]:
    """The vectors that controls are measured with, by label; all of the norms of `like`.

    Each is drawn from the seed and its own number, so that more random directions leave the first ones as they are.
    """
    vectors = {random_label(i): random_vector(like, np.random.default_rng([seed, i])) for i in range(n_random)}
    if orthogonal:
        vectors[Label.ORTHOGONAL] = orthogonal_vector(like, np.random.default_rng([seed, 0, 1]))
    return vectors


@dataclass(slots=True)
class Run:
    """A run in work: what is measured in which order, and how it ends.

    Attributes:
        out, manifest, store: its directory, what that says, and where the numbers go.
        spec, engine, steering: what is asked for, what measures, and what is swept.
        prepared: the items, the prompt baseline and the prompts to continue.
        progress, on_strength, on_stage: see `sweep`.
        spreading: makes what measures in other processes, see spread.py; None to measure here.
        n_done: token-layers that are finished, about, from the beginning with those of earlier calls.
        n_all: token-layers of the whole run, about.
        n_now: tokens decoded now.
    """

    out: Path
    manifest: Manifest
    spec: SweepSpec
    engine: Engine
    steering: Steering
    prepared: Prepared
    store: Store
    progress: Progress | None
    on_strength: OnStrength | None
    on_stage: OnStage | None = None
    spreading: Spreading | None = None
    n_done: int = 0
    n_all: int = 0
    n_now: int = 0

    @property
    def strengths(self) -> list[float]:
        """The grid, from 0 outwards."""
        return sorted(self.spec.strengths, key=lambda s: (abs(s), s))

    def complete(self, *, allow_code: bool = False) -> None:
        """Measure what is missing, and mark the run as finished.

        Args:
            allow_code: whether the model's code may run.

        Raises:
            RunError: nothing can be written.
            EngineError: a decode failed.
            SandboxError: there is code to run, and it may not or cannot.
        """
        finished = self.store.finished()
        self.n_done = sum(n * self._depth(group.label, group.strength) for group, n in finished.items())
        self.n_done += self.engine.n_layer * self._n_text_tokens_finished()
        first_layer = self.steering.vector.layers[0]
        here = Here(self.store, Bases(self.engine, first_layer), set(finished))
        away = None if self.spreading is None else self.spreading(self.engine, here)
        if away is None:
            self.store.note_host(platform.node(), str(self.engine.settings()["cpu"]))
        with away or nullcontext(here) as measurer:
            self._measure_all(measurer, allow_code)
        self._show()
        self._finish()

    def _measure_all(self, measurer: Measurer, allow_code: bool) -> None:
        """All but what is only shown, in the order in which one thing needs another."""
        self._enter(STRENGTHS)
        chunked = chunks(self.engine, self.prepared.work)
        n = len(self.strengths)
        variants = [
            Variant(Label.VECTOR, self.steering.at(strength), f"measuring {_signed(strength)}, {place} of {n}")
            for place, strength in enumerate(self.strengths, start=1)
        ]
        measurer.measure(chunked, variants, tick=self._tick, after=self._tell)
        if not self._is_lost_in_code:
            self._measure_controls(measurer, chunked)
            self._measure_telling(measurer)
        self._generate_texts(measurer)
        self._judge_code(allow_code)
        if self._is_lost_in_code:
            self._measure_controls(measurer, chunked)
            self._measure_telling(measurer)

    @property
    def _is_lost_in_code(self) -> bool:
        """Whether programs alone tell what steering costs: no candidate is known before they were run."""
        return Kind.CODE in self.spec.items and not {Kind.CHOICE, Kind.ANSWER} & set(self.spec.items)

    def _enter(self, name: str) -> None:
        """Tell that a stage begins; what was found since the last one may have changed how much there is."""
        total = self.n_all = self._n_token_layers()
        if self.on_stage is not None:
            self.on_stage(Stage(name, lambda: float(total - self.n_done)))

    def _tell(self, variant: Variant) -> None:
        """Pass on what a strength has brought, once all of it is there."""
        if self.prepared.work and self.on_strength is not None:
            self.on_strength(self._means(variant.strength))

    def _tick(self, variant: Variant, n_tokens: int, is_new: bool) -> None:
        """Count a group of items."""
        self._count(self._depth(variant.label, variant.strength) * n_tokens, n_tokens, is_new, variant.words)

    def _depth(self, label: str, strength: float) -> int:
        """The blocks that a pass computes, about: steered ones start above the layers below."""
        n_layer = self.engine.n_layer
        return n_layer if label == Label.PROMPT or not strength else n_layer - self.steering.vector.layers[0]

    def _ticking(self, words: str) -> Callable[[int, bool], None]:
        """What counts tokens of generated texts."""

        def tick(n_tokens: int, is_new: bool) -> None:
            self._count(self.engine.n_layer * n_tokens, n_tokens, is_new, words)

        tick(0, False)
        return tick

    def _count(self, n_token_layers: int, n_tokens: int, is_new: bool, words: str) -> None:
        """Count what is decoded now, and pass on how much is finished."""
        self.n_done += n_token_layers if is_new else 0
        self.n_now += n_tokens if is_new else 0
        if self.progress is not None:
            self.progress(self.n_done, self.n_all, words)

    def _measure_controls(self, measurer: Measurer, chunked: Sequence[Sequence[Task]]) -> None:
        """The prompt baseline, then the directions at the strength that follows from what was swept."""
        self._enter(CONTROLS)
        baseline = Variant(Label.PROMPT, self.steering.at(0.0), "measuring the prompt baseline")
        if self.prepared.baseline:
            measurer.measure(
                chunks(self.engine, self.prepared.baseline), [baseline], keeps=False, tick=self._tick
            )  # fmt: skip
        off = dict(self.manifest.controls_off)
        vectors = directions_for(
            self.steering.vector, n_random=0 if ControlName.RANDOM in off else self.spec.random_directions,
            orthogonal=ControlName.ORTHOGONAL not in off, seed=self.spec.seed,
        )  # fmt: skip
        if not vectors:
            return
        strength = open_run(self.out).control_strength()
        if self.manifest.additions:  # it may be another one than before
            self.manifest = replace(self.manifest, control_strength=strength)
            write_manifest(self.out, self.manifest)
            self.n_all = self._n_token_layers()
        if strength is None:
            lacking = {str(ControlName.RANDOM), str(ControlName.ORTHOGONAL)} - set(off)
            self.manifest = replace(self.manifest, controls_off=off | dict.fromkeys(lacking, NO_STRENGTH))
            return
        kinds = controlled([of_kind.kind for of_kind in self.prepared.work], RANDOM)
        directed = [[task for task in tasks if task.kind in kinds] for tasks in chunked]
        variants = [
            Variant(
                label, replace(self.steering, vector=vector, strength=strength),
                _described(label, strength, self.spec.random_directions),
            )
            for label, vector in vectors.items()
        ]  # fmt: skip
        measurer.measure(directed, variants, tick=self._tick)

    def _measure_telling(self, measurer: Measurer) -> None:
        """Own answers that had no part in the choice, at 0 and at the candidate that the others propose."""
        recommendation = open_run(self.out).recommend() if self.prepared.telling else None
        candidate = None if recommendation is None else recommendation.candidate
        self.manifest = replace(self.manifest, telling_strength=candidate)
        if candidate is not None:
            variants = [
                Variant(Label.VECTOR, self.steering.at(strength), f"measuring {_signed(strength)} on other answers")
                for strength in (0.0, candidate)
            ]
            measurer.measure(chunks(self.engine, self.prepared.telling), variants, tick=self._tick)

    def _generate_texts(self, measurer: Measurer) -> None:
        """Continue prompts: at every strength, or unsteered under the prompt baseline."""
        if self.prepared.jobs:
            self._enter(TEXTS)
        for job in self.prepared.jobs:
            assert self.spec.text_plan is not None
            is_steered, strengths = job.label == Label.VECTOR, self._strengths_of(job)
            words = f"writing texts {f'for {job.kind} items' if is_steered else TEXTS_OF[Label(job.label)]}"
            measurer.write(
                job, self.spec.text_plan, steering=self.steering if is_steered else None,
                strengths=strengths, tick=self._ticking(words),
            )  # fmt: skip

    def _show(self) -> None:
        """Continue the requests that are only shown, where what was measured says."""
        job = self.prepared.showcase
        if job is None:
            return
        if not self.prepared.jobs:
            self._enter(TEXTS)
        show_texts(
            self.engine, self.store, job, steering=self.steering, strengths=showcase_strengths(open_run(self.out)),
            tick=self._ticking("writing texts to show"),
        )  # fmt: skip

    def _strengths_of(self, job: TextJob) -> list[float]:
        """Where the prompts of a job are continued: at every strength, or unsteered."""
        return self.strengths if job.label == Label.VECTOR else [0.0]

    def _n_text_tokens_finished(self) -> int:
        """Tokens of the texts that are in the store already."""
        n_tokens = 0
        for job in self.prepared.jobs:
            assert self.spec.text_plan is not None
            strengths = self._strengths_of(job)
            n_draws = len(strengths) * self.spec.text_plan.samples
            missing = missing_draws(self.store, job, self.spec.text_plan, strengths)
            each = zip(job.n_tokens_of_a_text(self.spec.text_plan), missing, strict=True)
            n_tokens += sum(n * (n_draws - len(draws)) for n, draws in each)
        if (shown := self.prepared.showcase) is not None:
            n_tokens += sum(shown.n_tokens[i] for i in self.store.items_with_texts(shown.texts.label, shown.texts.kind))
        return n_tokens

    def _judge_code(self, allow: bool) -> None:
        """Run the generated programs; those asked for in the study's words are read in its way too."""
        items = [item for item in self.store.items(Kind.CODE) if isinstance(item, CodeItem)]
        if not items:
            return
        assert self.spec.text_plan is not None
        ways = CODE_WAYS if self.spec.text_plan.code_template.startswith("wolf2024/") else CODE_WAYS[:1]
        for way in ways:
            self.n_now += judge_code(self.store, items, allow=allow, way=way, progress=self.progress)

    def _finish(self) -> None:
        """Write into the vector what to use it with, and into the manifest that all is there."""
        vector = with_recommendation(self.steering.vector, open_run(self.out).recommend())
        if vector.metadata != self.steering.vector.metadata:
            write_vector(self.out / VECTOR_FILE, vector, force=True)
        self.manifest = replace(
            self.manifest, tokens=self._token_counts(), resume=self._resume(), finished=now(),
            notes=tuple(dict.fromkeys((*self.manifest.notes, *self._notes_of_hosts()))),
            packing=compared_with_alone(self.engine, self.prepared.work, self.store),
            rows_sha256=self.store.rows_sha256(),
        )  # fmt: skip
        write_manifest(self.out, self.manifest)

    def _notes_of_hosts(self) -> Iterator[str]:
        """Where CPUs of several types have measured: bits may differ."""
        hosts = self.store.hosts()
        if len(set(hosts.values())) > 1:
            yield (
                f"measured on CPUs of several types ({', '.join(sorted(hosts))}): rows of one may differ from "
                "another's in their last bits"
            )

    def _means(self, strength: float) -> StrengthMeans:
        kinds = [of_kind.kind for of_kind in self.prepared.work]
        return stored_scores(self.store, Label.VECTOR, kinds, [strength]).rows()[0]

    def _left_behind(self) -> dict[Group, int]:
        """Groups at the candidate of before something was added to the run, with the tokens decoded for them."""
        at, told_at = self.manifest.control_strength, (0.0, self.manifest.telling_strength)
        if not self.manifest.additions:
            return {}
        return {
            group: n
            for group, n in self.store.finished().items()
            if (group.label not in (Label.VECTOR, Label.PROMPT) and at is not None and group.strength != at)
            or (group.kind == OWN_TELLING and group.strength not in told_at)
        }

    @property
    def n_rows(self) -> int:
        """Rows of the whole run, as `Store.n_rows` counts them."""
        text_plan = self.spec.text_plan
        n_samples = 0 if text_plan is None else text_plan.samples
        batches = {of_kind.kind: of_kind.batches for of_kind in self.prepared.all_work}
        n_left_behind = sum(len(batches[group.kind][group.batch].members) for group in self._left_behind())
        return n_left_behind + self._planned(
            lambda of_kind, _: len(of_kind.items), lambda job, n_strengths: n_strengths * n_samples * len(job.prompts)
        )

    def _n_token_layers(self) -> int:
        """Token-layers of the whole run, about."""
        n_layer = self.engine.n_layer

        def of_texts(job: TextJob, n_strengths: int) -> int:
            assert self.spec.text_plan is not None
            return n_layer * sum(job.n_tokens(self.spec.text_plan, n_strengths))

        shown = 0 if self.prepared.showcase is None else n_layer * sum(self.prepared.showcase.n_tokens)
        left_behind = sum(n * self._depth(of.label, of.strength) for of, n in self._left_behind().items())
        return left_behind + shown + self._planned(lambda of_kind, depth: depth * of_kind.n_tokens, of_texts)

    def _planned(self, of_pass: Callable[[Work, int], int], of_texts: Callable[[TextJob, int], int]) -> int:
        """How much a whole run takes; the controls are not counted where there will be none.

        Args:
            of_pass: what one pass over the items of a kind takes, through so many blocks.
            of_texts: what the texts of a job take, at so many strengths.
        """
        off, work = self.manifest.controls_off, self.prepared.work
        whole, above = self._depth(Label.PROMPT, 0.0), self._depth(Label.VECTOR, 1.0)
        depths = [above if strength else whole for strength in self.strengths]
        n = sum(of_pass(of_kind, depth) for of_kind in work for depth in depths)
        n += sum(of_pass(of_kind, whole) for of_kind in self.prepared.baseline)
        n += sum(of_pass(of_kind, depth) for of_kind in self.prepared.telling for depth in (whole, above))
        for job in self.prepared.jobs:
            n += of_texts(job, len(self._strengths_of(job)))
        if any(s * self.spec.direction > 0 for s in self.strengths):
            n_random = 0 if ControlName.RANDOM in off else self.spec.random_directions
            n_directions = n_random + (ControlName.ORTHOGONAL not in off)
            kinds = controlled([of_kind.kind for of_kind in work], RANDOM)
            n += n_directions * sum(of_pass(of_kind, above) for of_kind in work if of_kind.kind in kinds)
        return n

    def _token_counts(self) -> TokenCounts:
        finished = self.store.finished()
        plain = {(of_kind.kind, False): of_kind.n_tokens_plain_of_batches for of_kind in self.prepared.all_work}
        plain |= {(of_kind.kind, True): of_kind.n_tokens_plain_of_batches for of_kind in self.prepared.baseline}
        n_plain = sum(plain[group.kind, group.label == Label.PROMPT][group.batch] for group in finished)
        of_texts, of_texts_plain = (
            self.store.text_work() if self.prepared.jobs or self.prepared.showcase else (None, None)
        )
        return TokenCounts(
            decoded=sum(finished.values()), plain_loop=n_plain, token_layers=self.store.token_layers(),
            token_layers_plain=n_plain * self.engine.n_layer, token_layers_texts=of_texts,
            token_layers_texts_plain=of_texts_plain,
        )  # fmt: skip

    def _resume(self) -> ResumeCounts | None:
        """How many steered passes were resumed, and the commonest reason why others were not; None: none steered."""
        counts = self.store.in_full()
        if not counts:
            return None
        return ResumeCounts(
            resumed="" in counts, first_layer=self.steering.vector.layers[0],
            reason=max((reason for reason in counts if reason), key=lambda reason: counts[reason], default=""),
            n_resumed=counts.get("", 0), n_in_full=sum(n for reason, n in counts.items() if reason),
        )  # fmt: skip


def _described(label: str, strength: float, n_random: int) -> str:
    """What progress calls a direction to compare with."""
    name = f"the {label} direction"
    if label.startswith(RANDOM):
        name = f"random direction {int(label.removeprefix(RANDOM)) + 1} of {n_random}"
    return f"measuring {name} at {_signed(strength)}"


def _signed(strength: float) -> str:
    return f"{strength:+.4g}" if strength else "0"
