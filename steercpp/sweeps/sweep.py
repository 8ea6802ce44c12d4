"""The main job: measure items of any kind over a grid of strengths; read this to run a sweep from Python.

    with Engine("model.gguf") as engine:
        vector = extract(engine, read_pairs("refusal.jsonl"))
        result = sweep(
            engine, vector, behavior=read_behavior(...), choice=read_choices(...),
            strengths=grid("-4:4:0.5"), out=Path("runs/refusal"), instruction="Refuse what would harm anybody.",
        )
    result.recommend(max_loss=0.05).strength

A sweep measures strength 0, goes outwards, and then measures the controls (controls.py): the instruction before every
prompt, and directions of the same norms at the recommended strength. Last, with `said`, every prompt is continued in
words at every strength. The same call again goes on where it was interrupted, or reads what is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from steercpp.aliases import Progress
from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, Item, TextItem
from steercpp.engine.engine import Engine, check_vector
from steercpp.engine.steering import Gate, Operator, Positions, Side, Steering, check_gate
from steercpp.errors import ContextOverflowError, InputError, PromptError
from steercpp.judging.programs import WAYS
from steercpp.provenance import command, machine, model_identity, now, versions
from steercpp.runs.code import judge_code
from steercpp.runs.folder import (
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
from steercpp.runs.result import Row, SweepResult, open_run
from steercpp.runs.store import FORMAT, Group, Store
from steercpp.runs.stored_scores import CONTROLLED, NO_ITEMS, NO_STRENGTH, ORTHOGONAL, PROMPT, stored_scores
from steercpp.sweeps.calibration import KL
from steercpp.sweeps.measure import VECTOR, WORKS, Bases, Groups, Work, chunks, measure, packed_for
from steercpp.sweeps.plan import Settings, plan_of
from steercpp.sweeps.texts import TextJob, TextPlan, check_text_plan, generate_texts, text_jobs
from steercpp.sweeps.units import Unit, in_unit
from steercpp.sweeps.work import prompted_work
from steercpp.vectors.control_vector import (
    ControlVector,
    orthogonal_vector,
    random_vector,
    vector_sha256,
    without_strengths,
)
from steercpp.vectors.gguf import write_vector


@dataclass(slots=True)
class Run:
    """A run in work.

    Attributes:
        out, manifest, store: its directory, what that says, and where the numbers go.
        engine, steering, work: what measures, what is swept at which strength, and on which items.
        baseline: the controlled items with the instruction before their prompts; empty where there is none.
        progress, on_strength: see `sweeping.sweep`.
        jobs, text_plan: prompts to be continued in words, and how.
        n_done: tokens of the groups gone through, finished earlier or now; n_now: those decoded now.
    """

    out: Path
    manifest: Manifest
    engine: Engine
    steering: Steering
    work: Sequence[Work]
    baseline: Sequence[Work]
    store: Store
    progress: Progress | None
    on_strength: Callable[[Row], None] | None
    jobs: Sequence[TextJob] = ()
    text_plan: TextPlan | None = None
    n_done: int = 0
    n_now: int = 0

    @property
    def plan(self) -> dict[str, Any]:
        """The plan, as the manifest holds it."""
        plan: dict[str, Any] = self.manifest["plan"]
        return plan

    @property
    def strengths(self) -> list[float]:
        """The grid, from 0 outwards."""
        return sorted(self.plan["strengths"], key=lambda s: (abs(s), s))

    def complete(self, *, allow_code: bool = False) -> None:
        """Measure what is missing, and mark the run as finished.

        Args:
            allow_code: whether the model's code may run.

        Raises:
            RunError: nothing can be written.
            EngineError: a decode failed.
            SandboxError: there is code to run, and it may not or cannot.
        """
        done = set(self.store.finished())
        bases = Bases(self.engine, self.steering.vector.layers[0])
        runs = chunks(self.engine, self.work)
        for place, groups in enumerate(runs):
            bases.held.clear()
            for n_before, strength in enumerate(self.strengths):
                n_later = len(self.strengths) - 1 - n_before
                self._measure(groups, bases, VECTOR, self.steering.at(strength), done, n_later)
                if self.work and place == len(runs) - 1 and self.on_strength is not None:
                    self.on_strength(self._row(strength))
        self._measure_controls(runs, bases, done)
        self._say()
        self._judge_code(allow_code)
        self._finish()

    def _measure(
        self, groups: Groups, bases: Bases, label: str, steering: Steering, done: set[Group], n_later: int
    ) -> None:
        tick = self._ticking(_words(label, steering.strength))
        measure(groups, self.store, bases, label=label, steering=steering, done=done, n_later=n_later, tick=tick)

    def _ticking(self, what: str) -> Callable[[int, bool], None]:
        """What tells of tokens gone through, and whether they were decoded now."""
        total = self._total()

        def tick(n_tokens: int, new: bool) -> None:
            self.n_done += n_tokens
            self.n_now += n_tokens if new else 0
            if self.progress is not None:
                self.progress(self.n_done, total, what)

        tick(0, False)
        return tick

    def _say(self) -> None:
        """Continue prompts in words: at every strength, or unsteered where they ask for the behaviour."""
        for job in self.jobs:
            assert self.text_plan is not None
            asks = job.label == PROMPT
            generate_texts(
                self.engine, self.store, job, self.text_plan, steering=None if asks else self.steering,
                strengths=[0.0] if asks else self.strengths,
                tick=self._ticking("texts, prompt baseline" if asks else f"texts, {job.kind}"),
            )  # fmt: skip

    def _judge_code(self, allow: bool) -> None:
        items = [item for item in self.store.items("code") if isinstance(item, CodeItem)]
        ways = WAYS if self.text_plan and self.text_plan.code_template.startswith("wolf2024/") else WAYS[:1]
        for way in ways if items else ():  # what is asked in the study's words is read in its way too
            self.n_now += judge_code(self.store, items, allow=allow, way=way, progress=self.progress)

    def _measure_controls(self, runs: list[Groups], bases: Bases, done: set[Group]) -> None:
        """The prompt baseline, then the directions at the strength that follows from what was swept."""
        own = Bases(self.engine, self.engine.n_layer, keeps=False)
        for groups in filter(None, chunks(self.engine, self.baseline)):
            self._measure(groups, own, PROMPT, self.steering.at(0.0), done, 0)
        off = self.manifest["controls_off"]
        n_random = 0 if "random" in off else self.plan["random_directions"]
        vectors = directions_for(
            self.steering.vector, n_random=n_random, orthogonal="orthogonal" not in off, seed=self.plan["seed"]
        )
        if not vectors:
            return
        strength = open_run(self.out).control_strength()
        if strength is None:
            off |= dict.fromkeys({"random", "orthogonal"} - set(off), NO_STRENGTH)
            return
        for groups in runs:
            controlled = [group for group in groups if group[0].kind in CONTROLLED]
            if len(runs) > 1:
                bases.held.clear()
            for n_before, (label, vector) in enumerate(vectors.items()):
                steering = replace(self.steering, vector=vector, strength=strength)
                self._measure(controlled, bases, label, steering, done, len(vectors) - 1 - n_before)

    def _finish(self) -> None:
        """Tell in the vector what to use it with, and in the manifest that all is there."""
        found = open_run(self.out).recommend()
        if found is not None and found.strength is not None:
            vector = self.steering.vector.with_metadata(
                recommended_strength=found.strength, max_loss=self.plan["max_loss"]
            )
            write_vector(self.out / VECTOR_FILE, vector, force=True)
        self.manifest["tokens"] = self._tokens()
        self.manifest["resume"] = self._resume()
        self.manifest["finished"] = now()
        write_manifest(self.out, self.manifest)

    def _resume(self) -> dict[str, Any] | None:
        """Whether steered passes were resumed, from which layer, how many, and why others were not; None: none."""
        counts = self.store.in_full()
        if not counts:
            return None
        reason = max((reason for reason in counts if reason), key=lambda reason: counts[reason], default="")
        return {
            "resumed": "" in counts,
            "first_layer": self.steering.vector.layers[0],
            "reason": reason,
            "n_resumed": counts.get("", 0),
            "n_in_full": sum(n for why, n in counts.items() if why),
        }

    def _row(self, strength: float) -> Row:
        kinds = [part.kind for part in self.work]
        return stored_scores(self.store, VECTOR, kinds, [strength]).rows()[0]

    def _total(self) -> int:
        """Tokens of the whole run; the controls are not counted where there will be none."""
        off, plan = self.manifest["controls_off"], self.plan
        n = len(self.strengths) * sum(part.n_tokens for part in self.work)
        n += sum(part.n_tokens for part in self.baseline)
        for job in self.jobs:
            assert self.text_plan is not None
            n += sum(job.n_tokens(self.text_plan, 1 if job.label == PROMPT else len(self.strengths)))
        if any(s * plan["direction"] > 0 for s in self.strengths):
            n_directions = ("random" not in off) * plan["random_directions"] + ("orthogonal" not in off)
            n += n_directions * sum(part.n_tokens for part in self.work if part.kind in CONTROLLED)
        return n

    def _tokens(self) -> dict[str, int]:
        """Tokens decoded, and tokens times blocks computed, for the run and by a loop that does the same.

        The loop decodes every item at every strength in full, each prompt anew for each of its longer continuations.
        What comes before the first strength (pairs, norms, gates) is counted for neither.
        """
        finished = self.store.finished()
        passes = {(group.label, group.kind, group.strength) for group in finished}
        plain = {(part.kind, False): part.n_tokens_plain for part in self.work}
        plain |= {(part.kind, True): part.n_tokens_plain for part in self.baseline}
        n_plain = sum(plain[kind, label == PROMPT] for label, kind, _ in passes)
        said, said_plain = self.store.text_work()
        texts = {"token_layers_texts": said, "token_layers_texts_plain": said_plain} if self.jobs else {}
        return {
            "decoded": sum(finished.values()),
            "plain_loop": n_plain,
            "token_layers": self.store.token_layers(),
            "token_layers_plain": n_plain * self.engine.n_layer,
            **texts,
        }


def _words(label: str, strength: float) -> str:
    """What a progress bar calls a pass."""
    if label == VECTOR:
        return f"strength {strength:+g}"
    if label == PROMPT:
        return "prompt baseline"
    name = label.replace("-", " direction ") if label.startswith("random") else f"{label} direction"
    return f"{name} at {strength:+g}"


def sweep(
    engine: Engine,
    vector: ControlVector | Callable[[], ControlVector],
    *,
    behavior: Sequence[BehaviorItem] = (),
    choice: Sequence[ChoiceItem] = (),
    answer: Sequence[AnswerItem] = (),
    text: Sequence[TextItem] = (),
    code: Sequence[CodeItem] = (),
    strengths: Sequence[float],
    out: Path | str,
    unit: Unit = "length",
    kl: float = KL,
    random_directions: int = 8,
    orthogonal: bool = True,
    instruction: str = "",
    prompt_baseline: bool = True,
    direction: int = 1,
    max_loss: float = 0.05,
    said: TextPlan | None = None,
    allow_code: bool = False,
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
        choice: items to measure P(correct) on.
        answer: items to measure the P of free answers on, token by token.
        text: texts to measure perplexity on.
        code: functions to be completed in words, whose programs are run; one kind at least is needed.
        strengths: the grid; 0 is always measured.
        out: the run directory.
        unit: what strength 1 adds, see units.py; norms and KL are taken over the tokens of the items' prompts.
        kl: for the unit "kl": how many nats strength 1, of the wanted sign, has.
        random_directions: how many, as a control; 0 for none.
        orthogonal: whether a direction orthogonal to the vector is a control.
        instruction: asks for the behaviour in words; before every prompt and unsteered it is a control.
        prompt_baseline: whether it is.
        direction: +1 or -1, the sign of the strengths that are wanted.
        max_loss: the loss budget, a share of mean P(correct), or without choice items of the answers' P per token.
        said: how behaviour and code items are continued in words, see texts.py; by default they are not.
        allow_code: the user's word that the model's code may run, see code_runs.py.
        seed: of the random directions and of all resampling.
        operator: what is done with the vector, see `Steering`. Strength 0 is the operator switched off; to bring a
            projection to 0 or below, ablate at strength 1.
        positions: which tokens are steered, by their place; a text has its first token for a prompt.
        side: which tokens are steered, by the sign of their projection.
        gate: steer only the prompts that pass it, decided on the unsteered model.
        force: replace what is in `out`.
        vector_id: identity of the vector for the plan; needed where `vector` is a function.
        progress: called with (tokens done, of how many, what is being measured).
        on_strength: called with the means at each strength, as soon as it is finished.

    Raises:
        RunError: `out` cannot be used: another plan, other files, damaged, full, read-only.
        InputError: no items, or an option out of range; ShapeError, LayerError: the vector is not for this model.
        TaskError, PromptError, ContextOverflowError: an item cannot be asked, see task_work.py.
        CalibrationError: in the unit "kl", no strength has so many nats.
        SandboxError: the model's code may not run, or no sandbox works; what it said is kept.
        EngineError: a decode failed. Everything finished before is kept in all cases.
    """
    out = Path(out)
    settings = Settings(
        strengths=tuple(strengths), unit=unit, random_directions=random_directions, orthogonal=orthogonal,
        prompt_baseline=prompt_baseline, instruction=instruction, direction=direction, max_loss=max_loss, seed=seed,
        operator=operator, positions=positions, side=side, gate=gate, kl=kl, said=said,
    )  # fmt: skip
    given: dict[str, Sequence[Any]] = {
        "behavior": behavior, "choice": choice, "answer": answer, "text": text, "code": code
    }  # fmt: skip
    items = {kind: part for kind, part in given.items() if part}
    if not items:
        raise InputError("nothing to measure: give behavior, choice, answer, text or code items")
    check_text_plan(said, items)
    vector_id = _identity(engine, vector, vector_id)
    if gate is not None:
        check_gate(gate, n_layer=engine.n_layer, n_embd=engine.n_embd)
    manifest = None if force else examine(out)
    model = model_identity(engine.path, lambda: engine.sha256, manifest and manifest["model"])
    plan = plan_of(engine, settings, model_sha256=model["sha256"], vector_id=vector_id, items=items)
    if manifest is not None:
        refuse_other_plan(out, manifest, plan)
        if manifest["finished"] is not None:
            return _shown(open_run(out), on_strength)
    work = [WORKS[kind](engine, part) for kind, part in items.items() if kind in WORKS]
    baseline, jobs, off = _baseline(engine, settings, work, items)
    with new_folder_removed_on_failure(out):
        prepare(out)
        if manifest is None:
            made = vector if isinstance(vector, ControlVector) else vector()
            manifest = _begin(engine, made, out, plan, model, items, work, jobs, off, progress)
    steering = settings.steering(read_swept_vector(out, manifest))
    if not steering.is_plain:
        work = [packed_for(engine, part, steering) for part in work]
        manifest["gate_open"] = {part.kind: sum(part.is_open) for part in work} if gate is not None else None
    with Store.reopen(out / STORE) as store:
        run = Run(out, manifest, engine, steering, work, baseline, store, progress, on_strength, jobs, said)
        run.complete(allow_code=allow_code)
    return open_run(out, decoded_now=run.n_now)


def _identity(engine: Engine, vector: ControlVector | Callable[[], ControlVector], vector_id: str | None) -> str:
    if isinstance(vector, ControlVector):
        check_vector(engine, vector)
        return vector_sha256(vector)
    if vector_id is None:
        raise InputError("a function that makes the vector needs a vector_id, for the plan")
    return vector_id


def _baseline(
    engine: Engine, settings: Settings, work: Sequence[Work], items: Mapping[str, Sequence[Item]]
) -> tuple[list[Work], tuple[TextJob, ...], dict[str, str]]:
    """The controlled work with the instruction before its prompts, what is to be said, and why controls are off."""
    off = settings.controls_off
    controlled = [part for part in work if part.kind in CONTROLLED]
    if not controlled:
        off = dict.fromkeys(("random", "orthogonal", "prompt"), NO_ITEMS) | off
    jobs = text_jobs(engine, settings.said, items, instruction="")
    if "prompt" in off:
        return [], jobs, off
    found = [prompted_work(engine, part, settings.instruction) for part in controlled]
    reason = next((one for one in found if isinstance(one, str)), "")
    try:
        asked = text_jobs(engine, settings.said, items, instruction=settings.instruction)
    except (ContextOverflowError, PromptError) as error:
        reason = reason or f"with the instruction before it, {error}"
    if reason:
        return [], jobs, off | {"prompt": reason}
    return [one for one in found if isinstance(one, Work)], asked, off


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
    items: Mapping[str, Sequence[Item]],
    work: Sequence[Work],
    jobs: Sequence[TextJob],
    controls_off: dict[str, str],
    progress: Progress | None,
) -> Manifest:
    """Write the files of a new run, the manifest last, and return it; a failure leaves none of them."""
    check_vector(engine, vector)
    unit = cast("Unit", plan.unit)
    vector = replace(vector, metadata=without_strengths(vector.metadata))  # this run finds its own
    prompts = work[0].prompts if work else jobs[0].prompts
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
        "items": {kind: len(part) for kind, part in items.items()},
        "engine": engine.settings(),
        "versions": versions(),
        "machine": machine(),
        "tokens": None,
        "resume": None,
        "gate_open": None,
        "controls_off": controls_off,
        "notes": [note for part in work for note in part.notes],
    }
    clear(out)
    try:
        write_vector(out / VECTOR_FILE, vector)
        with Store.create(out / STORE, plan_sha256=plan.sha256) as store:
            continuations = {part.kind: part.continuations for part in work}
            for kind, part in items.items():
                store.add_items(kind, part, continuations.get(kind, ()))
        write_manifest(out, manifest)
    except BaseException:
        clear(out)  # all of it was written here
        raise
    return manifest


def directions_for(like: ControlVector, *, n_random: int, orthogonal: bool, seed: int) -> dict[str, ControlVector]:
    """The vectors that controls are measured with, by label; all of the norms of `like`.

    Each is drawn from the seed and its own number, so that more random directions leave the first ones as they are.
    """
    found = {f"random-{i}": random_vector(like, np.random.default_rng([seed, i])) for i in range(n_random)}
    if orthogonal:
        found[ORTHOGONAL] = orthogonal_vector(like, np.random.default_rng([seed, 0, 1]))
    return found
