"""A sweep in work: what is measured in which order, and how it ends; read this to follow a run step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from steercpp.data.tasks import CodeItem
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.judging.programs import WAYS
from steercpp.provenance import now
from steercpp.runs.code import judge_code
from steercpp.runs.controls import CONTROLLED, NO_STRENGTH, PROMPT, directions_for
from steercpp.runs.folder import VECTOR_FILE, Manifest, write_manifest
from steercpp.runs.result import Row, open_run
from steercpp.runs.store import Group, Store
from steercpp.runs.stored_scores import stored_scores
from steercpp.sweeps.measure import VECTOR, Bases, Groups, Work, chunks, measure
from steercpp.sweeps.texts import Saying, Speech, say
from steercpp.vectors.gguf import write_vector

Progress: TypeAlias = Callable[[int, int, str], None]


@dataclass(slots=True)
class Run:
    """A run in work.

    Attributes:
        out, manifest, store: its directory, what that says, and where the numbers go.
        engine, steering, work: what measures, what is swept at which strength, and on which items.
        baseline: the controlled items with the instruction before their prompts; empty where there is none.
        progress, on_strength: see `sweeping.sweep`.
        spoken, saying: prompts to be continued in words, and how.
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
    spoken: Sequence[Speech] = ()
    saying: Saying | None = None
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
        for speech in self.spoken:
            assert self.saying is not None
            asks = speech.label == PROMPT
            say(
                self.engine, self.store, speech, self.saying, steering=None if asks else self.steering,
                strengths=[0.0] if asks else self.strengths,
                tick=self._ticking("texts, prompt baseline" if asks else f"texts, {speech.kind}"),
            )  # fmt: skip

    def _judge_code(self, allow: bool) -> None:
        items = [item for item in self.store.items("code") if isinstance(item, CodeItem)]
        ways = WAYS if self.saying and self.saying.code_template.startswith("wolf2024/") else WAYS[:1]
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
        for speech in self.spoken:
            assert self.saying is not None
            n += sum(speech.n_tokens(self.saying, 1 if speech.label == PROMPT else len(self.strengths)))
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
        said, said_plain = self.store.said_work()
        texts = {"token_layers_texts": said, "token_layers_texts_plain": said_plain} if self.spoken else {}
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
