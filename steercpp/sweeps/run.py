"""A run in work: what is measured in which order, how controls and texts follow from it, and how it ends."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from steercpp.choices import CODE_WAYS
from steercpp.data.items import CodeItem, Kind
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.provenance import now
from steercpp.runs.code import judge_code
from steercpp.runs.folder import VECTOR_FILE
from steercpp.runs.labels import RANDOM, ControlName, Label, controlled, random_label
from steercpp.runs.manifest import Manifest, write_manifest
from steercpp.runs.recommended import with_recommendation
from steercpp.runs.result import open_run
from steercpp.runs.scores import NO_STRENGTH, StrengthMeans
from steercpp.runs.showcase import showcase_strengths
from steercpp.runs.store import Store
from steercpp.runs.stored_scores import stored_scores
from steercpp.sweeps.alone import compared_with_alone
from steercpp.sweeps.amounts import Amounts
from steercpp.sweeps.measure import Bases, Here, Measurer, Task, Variant, chunks
from steercpp.sweeps.prepared import Prepared
from steercpp.sweeps.showcase import show_texts
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.spread import Spreading
from steercpp.sweeps.stages import CONTROLS, STRENGTHS, TEXTS, OnStage, Stage
from steercpp.vectors.control_vector import ControlVector, orthogonal_vector, random_vector
from steercpp.vectors.gguf import write_vector

OnStrength = Callable[[StrengthMeans], None]
TEXTS_OF = {  # as progress tells them
    Label.PROMPT: "of the prompt baseline", Label.WORDS: "under the instruction", Label.OPPOSITE: "under its opposite"
}  # fmt: skip


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
        on_strength, on_stage: see `sweep`.
        spreading: makes what measures in other processes, see spread.py; None to measure here.
        amounts: how much there is to do, and how much of it is done.
    """

    out: Path
    manifest: Manifest
    spec: SweepSpec
    engine: Engine
    steering: Steering
    prepared: Prepared
    store: Store
    amounts: Amounts
    on_strength: OnStrength | None
    on_stage: OnStage | None = None
    spreading: Spreading | None = None

    def complete(self, *, allow_code: bool = False) -> None:
        """Measure what is missing, and mark the run as finished.

        Args:
            allow_code: whether the model's code may run.

        Raises:
            RunError: nothing can be written.
            EngineError: a decode failed.
            SandboxError: there is code to run, and it may not or cannot.
        """
        self.amounts.begin()
        here = Here(self.store, Bases(self.engine, self.steering.vector.layers[0]), set(self.store.finished()))
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
        strengths = self.spec.outwards
        variants = [
            Variant(
                Label.VECTOR, self.steering.at(strength), f"measuring {_signed(strength)}, {place} of {len(strengths)}"
            )
            for place, strength in enumerate(strengths, start=1)
        ]  # fmt: skip
        measurer.measure(chunked, variants, tick=self.amounts.tick, after=self._tell)
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
        amounts = self.amounts
        total = amounts.n_all = amounts.n_token_layers(self.manifest)
        if self.on_stage is not None:
            self.on_stage(Stage(name, lambda: float(total - amounts.n_done)))

    def _tell(self, variant: Variant) -> None:
        """Pass on what a strength has brought, once all of it is there."""
        if self.prepared.work and self.on_strength is not None:
            self.on_strength(self._means(variant.strength))

    def _measure_controls(self, measurer: Measurer, chunked: Sequence[Sequence[Task]]) -> None:
        """The prompt baseline, then the directions at the strength that follows from what was swept."""
        self._enter(CONTROLS)
        baseline = Variant(Label.PROMPT, self.steering.at(0.0), "measuring the prompt baseline")
        if self.prepared.baseline:
            measurer.measure(
                chunks(self.engine, self.prepared.baseline), [baseline], keeps=False, tick=self.amounts.tick
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
            self.amounts.n_all = self.amounts.n_token_layers(self.manifest)
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
        measurer.measure(directed, variants, tick=self.amounts.tick)

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
            measurer.measure(chunks(self.engine, self.prepared.telling), variants, tick=self.amounts.tick)

    def _generate_texts(self, measurer: Measurer) -> None:
        """Continue prompts: at every strength, or unsteered under the prompt baseline."""
        if self.prepared.jobs:
            self._enter(TEXTS)
        for job in self.prepared.jobs:
            assert self.spec.text_plan is not None
            is_steered, strengths = job.label == Label.VECTOR, self.spec.strengths_of_texts(job.label)
            words = f"writing texts {f'for {job.kind} items' if is_steered else TEXTS_OF[Label(job.label)]}"
            measurer.write(
                job, self.spec.text_plan, steering=self.steering if is_steered else None,
                strengths=strengths, tick=self.amounts.ticking(words),
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
            tick=self.amounts.ticking("writing texts to show"),
        )  # fmt: skip

    def _judge_code(self, allow: bool) -> None:
        """Run the generated programs; those asked for in the study's words are read in its way too."""
        items = [item for item in self.store.items(Kind.CODE) if isinstance(item, CodeItem)]
        if not items:
            return
        assert self.spec.text_plan is not None
        ways = CODE_WAYS if self.spec.text_plan.code_template.startswith("wolf2024/") else CODE_WAYS[:1]
        for way in ways:
            self.amounts.n_now += judge_code(self.store, items, allow=allow, way=way, progress=self.amounts.progress)

    def _finish(self) -> None:
        """Write into the vector what to use it with, and into the manifest that all is there."""
        vector = with_recommendation(self.steering.vector, open_run(self.out).recommend())
        if vector.metadata != self.steering.vector.metadata:
            write_vector(self.out / VECTOR_FILE, vector, force=True)
        self.manifest = replace(
            self.manifest, tokens=self.amounts.token_counts(), resume=self.amounts.resume_counts(), finished=now(),
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


def _described(label: str, strength: float, n_random: int) -> str:
    """What progress calls a direction to compare with."""
    name = f"the {label} direction"
    if label.startswith(RANDOM):
        name = f"random direction {int(label.removeprefix(RANDOM)) + 1} of {n_random}"
    return f"measuring {name} at {_signed(strength)}"


def _signed(strength: float) -> str:
    return f"{strength:+.4g}" if strength else "0"
