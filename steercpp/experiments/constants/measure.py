"""Measuring the theory's constants on the model of a finished sweep; read this to see what is read off it.

    result = open_run("runs/refusal")
    with Engine(result.manifest.model.path) as engine:
        constants = measure_constants(engine, result)

Every prompt is decoded once per strength, above the layers below the first steered one; logits and activations of its
last token are reduced to a few numbers there and then, so that no more than a chunk of them is in memory. Behaviour
items are besides read with each of their answers, unsteered: the activation at an answer's last token stands for the
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import FloatArray, Floats, Progress
from steercpp.choices import ConstantsRecipe
from steercpp.data.items import HARMFUL, BehaviorItem, ChoiceItem
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import RunError
from steercpp.experiments.constants.derive import BehaviorReadings, ChoiceReadings, Constants, Readings, arrays, derive
from steercpp.experiments.constants.noise import moments
from steercpp.experiments.constants.output_head import Head, read_head
from steercpp.experiments.constants.separation import circular, first_token_gap
from steercpp.runs.folder import STORE, read_swept_vector
from steercpp.runs.result import SweepResult
from steercpp.runs.store import Continuation, Store
from steercpp.sweeps.work import Work, behavior_work, choice_work

Ends: TypeAlias = tuple[list[int], int, FloatArray, FloatArray, FloatArray, FloatArray]

N_TOP = 10  # tokens whose noise the paper looks at
N_CIRCULAR_ITEMS = 10  # instructions that the authors took their Delta from
_CHUNK_BYTES = 64 * 2**20


def measure_constants(
    engine: Engine, result: SweepResult, *, recipe: ConstantsRecipe = "steercpp", progress: Progress | None = None
) -> Constants:
    """Measure lambda, sigma and Delta on the model, vector, items and strengths of a sweep.

    Args:
        engine: the sweep's model.
        result: a finished run, of a vector that was added.
        recipe: "wolf2024" for the authors' window, and their choice of tokens for Delta beside ours.
        progress: called with passes done and of all, and what is done.

    Raises:
        RunError: the run is not finished, has no items to measure, is of another model, or steered otherwise.
        ContextOverflowError, EngineError: as `Engine.logprobs`.
    """
    check_run(result)
    if engine.sha256 != result.manifest.model.sha256:
        raise RunError(
            f"{engine.path}: not the model of {result.folder}, whose sha256 is "
            f"{result.manifest.model.sha256[:16]}…; give that one as `model`"
        )
    task = _Task.of(engine, result, recipe, progress)
    head = task.head()
    choice = task.choice(head) if result.choice is not None else None
    behavior = task.behavior(head) if result.behavior is not None else None
    readings = Readings(result.strengths, tuple(task.layers), choice, behavior, head if isinstance(head, str) else "")
    plan = result.manifest.plan
    record = {
        "plan_sha256": result.manifest.plan.sha256,
        "model_sha256": engine.sha256,
        "vector_sha256": result.manifest.vector.sha256,
        "unit": plan.unit,
        "items": {kind: len(result.items(kind)) for kind in ("choice", "behavior")},
        **derive(readings, recipe=recipe, direction=plan.direction),
    }
    return Constants(record, arrays(readings))


def check_run(result: SweepResult) -> None:
    """See whether a run has constants to be measured, before its model is loaded.

    Raises:
        RunError: it has none.
    """
    folder, plan = result.folder, result.manifest.plan
    if not result.finished:
        raise RunError(f"{folder}: the sweep is not finished; run it again to go on, then measure its constants")
    if result.choice is None and result.behavior is None:
        raise RunError(f"{folder}: has neither choice nor behavior items, which constants are measured on")
    if plan.operator != "add" or plan.gate:
        how = f"`operator={plan.operator}`" if plan.operator != "add" else "`gate`"
        raise RunError(f"{folder}: steered with {how}; the theory is of a vector that is added to every prompt")
    if plan.positions == "generated":
        raise RunError(f"{folder}: steered with `positions=generated`; constants are read at the prompts' last tokens")
    if len(result.strengths) < 3:
        raise RunError(f"{folder}: has {len(result.strengths)} strengths; a slope needs 0 and two more")


@dataclass(slots=True)
class _Task:
    """What is measured, and how far it has come.

    Attributes:
        layers: from the first steered one up.
        steering: the run's, at strength 1.
        works: the items with their prompts, by kind.
        parts: each item's continuations, as the run scored them.
    """

    engine: Engine
    result: SweepResult
    recipe: ConstantsRecipe
    layers: list[int]
    steering: Steering
    works: dict[str, Work]
    parts: dict[str, tuple[tuple[Continuation, ...], ...]]
    progress: Progress | None
    n_done: int = 0

    @classmethod
    def of(cls, engine: Engine, result: SweepResult, recipe: ConstantsRecipe, progress: Progress | None) -> _Task:
        plan = result.manifest.plan
        vector = read_swept_vector(result.folder, result.manifest)
        works: dict[str, Work] = {}
        if choice := [item for item in result.items("choice") if isinstance(item, ChoiceItem)]:
            works["choice"] = choice_work(engine, choice)
        if behavior := [item for item in result.items("behavior") if isinstance(item, BehaviorItem)]:
            works["behavior"] = behavior_work(engine, behavior)
        with Store.read(result.folder / STORE, settled=True) as store:
            parts = {kind: store.continuations(kind) for kind in works}
        for kind, work in works.items():
            if tuple(part for item in parts[kind] for part in item) != work.continuations:
                raise RunError(
                    f"{result.folder}: its {kind} items fall into other tokens now; sweep again with `force=True`"
                )
        steering = Steering(vector, positions=plan.positions, side=plan.side)
        layers = list(range(vector.layers[0], engine.n_layer))
        return cls(engine, result, recipe, layers, steering, works, parts, progress)

    def head(self) -> Head | str:
        """The model's own norm and head for the answers' first tokens, once they have proved to be the model's."""
        firsts = {part.tokens[0] for parts in self.parts.values() for item in parts for part in item}
        head = read_head(self.engine.path, sorted(firsts))
        if isinstance(head, str):
            return head
        work = next(iter(self.works.values()))
        (batch, *_) = self.engine.pack(_ends(work, range(min(8, len(work.items)))))
        logits, values = self.engine.prompt_ends(batch, layers=[self.engine.n_layer - 1])
        if not head.explains(values[:, 0], logits):
            return "the model makes its logits in another way than by the norm and matrix of its file"
        return head

    def choice(self, head: Head | str) -> ChoiceReadings:
        """Norms and noise of the choice questions."""
        work, scores = self.works["choice"], self.result.choice
        assert scores is not None
        n_s, n = len(scores.strengths), len(work.items)
        norms = self._norms(head, n)
        answers = [item.answer for item in work.items if isinstance(item, ChoiceItem)]
        wide = max(max(int(part.side) for part in item) for item in self.parts["choice"])
        values = {"top10": np.full((n_s, n, N_TOP), np.nan), "choices": np.full((n_s, n, wide), np.nan)}
        weighted = np.zeros((n_s, n, 4))
        for members, i, logits, logits_0, h, h_0 in self._ends("choice", self.layers[-1:]):
            change = logits.astype(np.float64) - logits_0
            _put_norms(norms, head, i, members, change, h[:, -1], h_0[:, -1])
            for row, member in enumerate(members):
                correct, wrong = _tokens(self.parts["choice"][member], answers[member], logits_0[row])
                x = change[row] - change[row, correct]
                top = [t for t in np.argsort(-logits_0[row], kind="stable")[:N_TOP] if t != correct]
                values["top10"][i, member, : len(top)] = x[top]
                values["choices"][i, member, : len(wrong)] = x[wrong]
                p_0 = np.exp(logits_0[row].astype(np.float64) - logits_0[row].max())
                p_0[correct] = 0.0
                weighted[i, member] = moments(x, p_0)
        raw = {name: moments(x) for name, x in values.items()}
        return ChoiceReadings(norms, {**raw, "all": weighted}, values, scores.p_free)

    def behavior(self, head: Head | str) -> BehaviorReadings:
        """Norms, gaps and separation of the behaviour items."""
        work, scores = self.works["behavior"], self.result.behavior
        assert scores is not None
        n_s, n_l, n = len(scores.strengths), len(self.layers), len(work.items)
        norms = self._norms(head, n)
        gaps, shape = np.full((2, n_s, n), np.nan), (n_s, n_l, n)
        delta_norm, lens = np.zeros(shape), np.zeros(shape)
        sides, length = np.full((2, *shape), np.nan), np.zeros((n_l, n))
        width = self.engine.n_vocab if self.recipe == "wolf2024" else 0
        kept = np.zeros((n_s, min(N_CIRCULAR_ITEMS, n), width), np.float32)
        answers: dict[int, tuple[Floats, Floats]] = {}
        for members, i, logits, logits_0, h, h_0 in self._ends("behavior", self.layers):
            if members[0] not in answers:
                answers = dict(zip(members, self._answers(members), strict=True))
                length[:, members] = np.array([np.linalg.norm(a - b, axis=1) for a, b in answers.values()]).T
            change, s = logits.astype(np.float64) - logits_0, scores.strengths[i]
            _put_norms(norms, head, i, members, change, h[:, -1], h_0[:, -1])
            moved = h.astype(np.float64) - h_0
            delta_norm[i][:, members] = np.linalg.norm(moved, axis=2).T
            for row, member in enumerate(members):
                good, bad = _firsts(self.parts["behavior"][member])
                gaps[:, i, member] = first_token_gap(change[row], good, bad, float(s))
                if kept.shape[2] and member < kept.shape[1]:
                    kept[i, member] = logits[row]
                if s:
                    size = delta_norm[i][:, member, None]
                    unit = np.sign(s) * moved[row] / np.where(size > 0, size, np.nan)
                    sides[:, i, :, member] = [(unit * one).sum(axis=1) for one in answers[member]]
                if isinstance(head, Head):
                    seen = head.logits(h[row]) - head.logits(h_0[row])
                    good, bad = head.places(good), head.places(bad)
                    lens[i, :, member] = [first_token_gap(one, good, bad)[0] for one in seen]
        return BehaviorReadings(
            norms, scores.log_odds, gaps[0], gaps[1], delta_norm, sides[0], sides[1], length,
            lens if isinstance(head, Head) else None,
            circular(scores.strengths, kept) if kept.shape[2] else None,
            None if (two := self.result.side_items) is None else np.isin(np.arange(n), two[HARMFUL]).astype(float),
        )  # fmt: skip

    def _norms(self, head: Head | str, n: int) -> dict[str, Floats]:
        names = ("logits", "hidden", *(("normed",) if isinstance(head, Head) else ()))
        return {name: np.zeros((len(self.result.strengths), n)) for name in names}

    def _ends(self, kind: str, layers: Sequence[int]) -> Iterator[Ends]:
        """What each prompt ends in, chunk by chunk and strength by strength.

        Yields:
            members: items of the chunk; place of the strength; logits (n, n_vocab) and those at strength 0; activations
            (n, n_layers, n_embd) and those at strength 0.
        """
        work, strengths, engine = self.works[kind], self.result.strengths, self.engine
        most = max(len(item) for item in self.parts[kind]) + 2
        size = _CHUNK_BYTES // max(16 * engine.n_vocab, 4 * most * len(layers) * engine.n_embd)
        size = max(size, 1)
        total = sum(len(w.items) for w in self.works.values()) * len(strengths)
        first = self.layers[0]
        at_0 = int(np.flatnonzero(strengths == 0)[0])
        for start in range(0, len(work.items), size):
            members = range(start, min(start + size, len(work.items)))
            for batch in engine.pack(_ends(work, members)):
                own = [members[member] for member in batch.members]
                base = engine.base(batch, first_layer=first)
                logits_0, h_0 = engine.prompt_ends(batch, layers=layers, base=base)
                for place in sorted(range(len(strengths)), key=lambda place: place != at_0):
                    steering = self.steering.at(float(strengths[place]))
                    found = (logits_0, h_0)
                    if strengths[place]:
                        found = engine.prompt_ends(batch, layers=layers, steering=steering, base=base)
                    yield own, place, found[0], logits_0, found[1], h_0
                    self.n_done += len(own)
                    if self.progress is not None:
                        self.progress(self.n_done, total, f"{kind} items at {strengths[place]:+g}")

    def _answers(self, members: Sequence[int]) -> list[tuple[Floats, Floats]]:
        """For each item the mean activation after its aligned and its misaligned answers, (n_layers, n_embd) each."""
        work, parts = self.works["behavior"], self.parts["behavior"]
        read = [(*work.queries[m].tokens, *part.tokens) for m in members for part in parts[m]]
        values = self.engine.activations(read, layers=self.layers)
        found, start = [], 0
        for member in members:
            own = values[start : start + len(parts[member])].astype(np.float64)
            start += len(own)
            sides = np.array([part.side == "aligned" for part in parts[member]])
            found.append((own[sides].mean(axis=0), own[~sides].mean(axis=0)))
        return found


def _ends(work: Work, members: Sequence[int]) -> list[Query]:
    """Prompts whose ends are outputs; any token will do as what continues them."""
    return [Query(work.queries[member].tokens, ((0,),)) for member in members]


def _put_norms(
    norms: dict[str, Floats], head: Head | str, i: int, members: list[int], change: Floats, h: FloatArray,
    h_0: FloatArray,
) -> None:  # fmt: skip
    norms["logits"][i, members] = np.linalg.norm(change, axis=1)
    norms["hidden"][i, members] = np.linalg.norm(h.astype(np.float64) - h_0, axis=1)
    if isinstance(head, Head):
        norms["normed"][i, members] = np.linalg.norm(head.normed(h) - head.normed(h_0), axis=1)


def _tokens(parts: Sequence[Continuation], answer: int, logits: FloatArray) -> tuple[int, list[int]]:
    """The token that begins the correct choice, in its likeliest spelling, and those that begin the others."""
    chosen: dict[int, int] = {}
    for part in parts:
        choice, token = int(part.side), part.tokens[0]
        if choice not in chosen or logits[token] > logits[chosen[choice]]:
            chosen[choice] = token
    correct = chosen.pop(answer)
    return correct, [token for token in chosen.values() if token != correct]


def _firsts(parts: Sequence[Continuation]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    sides = [[part.tokens[0] for part in parts if part.side == side] for side in ("aligned", "misaligned")]
    good, bad = (np.unique(np.array(side, np.intp)) for side in sides)
    return good, bad
