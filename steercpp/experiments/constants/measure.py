"""Measuring the theory's constants on the model of a finished sweep; read this to see what is read off it.

    result = open_run("runs/refusal")
    with Engine(result.manifest.model.path) as engine:
        constants = measure_constants(engine, result)

Every prompt is decoded once per strength, above the layers below the first steered one; logits and activations of its
last token are reduced to a few numbers there and then, so that no more than a chunk of them is in memory. Behavior
items are besides read with each of their answers, unsteered: the activation at an answer's last token stands for the
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    with engine.on_day(result.manifest.plan.chat.get("date")):
        _check_chats(engine, result)
        return _measured(engine, result, recipe, progress)


def _check_chats(engine: Engine, result: SweepResult) -> None:
    """See whether chats are written as they were in the run.

    Raises:
        RunError: they are not.
    """
    stored, now = result.manifest.plan.chat, engine.vocabulary.chat_settings
    if "date" not in stored:  # no chat of the run asked for it
        now.pop("date", None)
    if other := [key for key in {**stored, **now} if now.get(key) != stored.get(key)]:
        raise RunError(
            f"{result.folder}: its chats were written with other {' and '.join(other)}; give the `template_kwargs` "
            "of the run, or measure the sweep again"
        )


def _measured(engine: Engine, result: SweepResult, recipe: ConstantsRecipe, progress: Progress | None) -> Constants:
    """The constants, with chats written as in the run."""
    measurement = _Measurement.of(engine, result, recipe, progress)
    head = measurement.head()
    choice = measurement.choice(head) if result.choice is not None else None
    behavior = measurement.behavior(head) if result.behavior is not None else None
    readings = Readings(
        result.strengths, tuple(measurement.layers), choice, behavior, head if isinstance(head, str) else ""
    )
    plan = result.manifest.plan
    record = {
        "plan_sha256": result.manifest.plan.sha256, "model_sha256": engine.sha256,
        "vector_sha256": result.manifest.vector.sha256, "unit": plan.unit,
        "items": {kind: len(result.items(kind)) for kind in ("choice", "behavior")},
        **derive(readings, recipe=recipe, direction=plan.direction),
    }  # fmt: skip
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


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """What some prompts end in, at one strength and unsteered.

    Attributes:
        members: places of the items.
        place: of the strength.
        logits, logits_0: (n, n_vocab) at the strength and at 0.
        h, h_0: (n, n_layers, n_embd) activations at the strength and at 0.
    """

    members: list[int]
    place: int
    logits: FloatArray
    logits_0: FloatArray
    h: FloatArray
    h_0: FloatArray

    @property
    def change(self) -> Floats:
        """(n, n_vocab) what steering adds to the logits."""
        return self.logits.astype(np.float64) - self.logits_0


@dataclass(slots=True)
class _Measurement:
    """What is measured, and how far it has come.

    Attributes:
        layers: from the first steered one up.
        steering: the run's, at strength 1.
        works: the items with their prompts, by kind.
        answers: each item's continuations, as the run scored them.
    """

    engine: Engine
    result: SweepResult
    recipe: ConstantsRecipe
    layers: list[int]
    steering: Steering
    works: dict[str, Work]
    answers: dict[str, tuple[tuple[Continuation, ...], ...]]
    progress: Progress | None
    n_done: int = 0

    @classmethod
    def of(
        cls, engine: Engine, result: SweepResult, recipe: ConstantsRecipe, progress: Progress | None
    ) -> _Measurement:
        plan = result.manifest.plan
        vector = read_swept_vector(result.folder, result.manifest)
        works: dict[str, Work] = {}
        if choice := [item for item in result.items("choice") if isinstance(item, ChoiceItem)]:
            works["choice"] = choice_work(engine, choice)
        if behavior := [item for item in result.items("behavior") if isinstance(item, BehaviorItem)]:
            works["behavior"] = behavior_work(engine, behavior)
        with Store.read(result.folder / STORE, settled=True) as store:
            answers = {kind: store.continuations(kind) for kind in works}
        for kind, work in works.items():
            if tuple(answer for of_item in answers[kind] for answer in of_item) != work.continuations:
                raise RunError(
                    f"{result.folder}: its {kind} items fall into other tokens now; sweep again with `force=True`"
                )
        steering = Steering(vector, positions=plan.positions, side=plan.side)
        layers = list(range(vector.layers[0], engine.n_layer))
        return cls(engine, result, recipe, layers, steering, works, answers, progress)

    def head(self) -> Head | str:
        """The model's own norm and head for the answers' first tokens, once they have proved to be the model's."""
        firsts = {answer.tokens[0] for items in self.answers.values() for of_item in items for answer in of_item}
        head = read_head(self.engine.path, sorted(firsts))
        if isinstance(head, str):
            return head
        work = next(iter(self.works.values()))
        (batch, *_) = self.engine.pack(_end_queries(work, range(min(8, len(work.items)))))
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
        correct_choices = [item.answer for item in work.items if isinstance(item, ChoiceItem)]
        n_choices = max(max(int(answer.side) for answer in of_item) for of_item in self.answers["choice"])
        values = {"top10": np.full((n_s, n, N_TOP), np.nan), "choices": np.full((n_s, n, n_choices), np.nan)}
        weighted = np.zeros((n_s, n, 4))
        for ends in self._ends("choice", self.layers[-1:]):
            i, change = ends.place, ends.change
            _put_norms(norms, head, ends, change)
            for row, member in enumerate(ends.members):
                logits_0 = ends.logits_0[row]
                correct, wrong = _tokens(self.answers["choice"][member], correct_choices[member], logits_0)
                # The noise of the wrong tokens: the likeliest, the wrong choices, and all weighted by P
                x = change[row] - change[row, correct]
                top = [t for t in np.argsort(-logits_0, kind="stable")[:N_TOP] if t != correct]
                values["top10"][i, member, : len(top)] = x[top]
                values["choices"][i, member, : len(wrong)] = x[wrong]
                p_0 = np.exp(logits_0.astype(np.float64) - logits_0.max())
                p_0[correct] = 0.0
                weighted[i, member] = moments(x, p_0)
        raw = {name: moments(x) for name, x in values.items()}
        return ChoiceReadings(norms, {**raw, "all": weighted}, values, scores.p_free)

    def behavior(self, head: Head | str) -> BehaviorReadings:
        """Norms, gaps and separation of the behavior items."""
        work, scores = self.works["behavior"], self.result.behavior
        assert scores is not None
        n_s, n_l, n = len(scores.strengths), len(self.layers), len(work.items)
        norms = self._norms(head, n)
        gaps, shape = np.full((2, n_s, n), np.nan), (n_s, n_l, n)
        delta_norm, lens = np.zeros(shape), np.zeros(shape)
        sides, length = np.full((2, *shape), np.nan), np.zeros((n_l, n))
        width = self.engine.n_vocab if self.recipe == "wolf2024" else 0
        kept = np.zeros((n_s, min(N_CIRCULAR_ITEMS, n), width), np.float32)
        after_answers: dict[int, tuple[Floats, Floats]] = {}
        for ends in self._ends("behavior", self.layers):
            members, i, change = ends.members, ends.place, ends.change
            # The answers are read once for each chunk of items
            if members[0] not in after_answers:
                after_answers = dict(zip(members, self._after_answers(members), strict=True))
                length[:, members] = np.array([np.linalg.norm(a - b, axis=1) for a, b in after_answers.values()]).T
            s = scores.strengths[i]
            _put_norms(norms, head, ends, change)
            moved = ends.h.astype(np.float64) - ends.h_0
            delta_norm[i][:, members] = np.linalg.norm(moved, axis=2).T
            for row, member in enumerate(members):
                # At the end of the network: the gap on the answers' first tokens
                good, bad = _firsts(self.answers["behavior"][member])
                gaps[:, i, member] = first_token_gap(change[row], good, bad, float(s))
                if kept.shape[2] and member < kept.shape[1]:
                    kept[i, member] = ends.logits[row]
                # At each layer: the answers' activations on the direction of the change, and the gap through the head
                if s:
                    size = delta_norm[i][:, member, None]
                    unit = np.sign(s) * moved[row] / np.where(size > 0, size, np.nan)
                    sides[:, i, :, member] = [(unit * activation).sum(axis=1) for activation in after_answers[member]]
                if isinstance(head, Head):
                    seen = head.logits(ends.h[row]) - head.logits(ends.h_0[row])
                    good, bad = head.places(good), head.places(bad)
                    lens[i, :, member] = [first_token_gap(at_layer, good, bad)[0] for at_layer in seen]
        both_sides = self.result.side_items
        return BehaviorReadings(
            norms, scores.log_odds, gaps[0], gaps[1], delta_norm, sides[0], sides[1], length,
            lens=lens if isinstance(head, Head) else None,
            circular=circular(scores.strengths, kept) if kept.shape[2] else None,
            harmful=None if both_sides is None else np.isin(np.arange(n), both_sides[HARMFUL]).astype(float),
        )  # fmt: skip

    def _norms(self, head: Head | str, n: int) -> dict[str, Floats]:
        names = ("logits", "hidden", *(("normed",) if isinstance(head, Head) else ()))
        return {name: np.zeros((len(self.result.strengths), n)) for name in names}

    def _ends(self, kind: str, layers: Sequence[int]) -> Iterator[_Ends]:
        """What each prompt ends in, chunk by chunk and strength by strength, 0 first."""
        work, strengths, engine = self.works[kind], self.result.strengths, self.engine
        # As many items at once as there is memory for: their logits, and the activations of their answers
        n_answers = max(len(of_item) for of_item in self.answers[kind]) + 2
        size = max(_CHUNK_BYTES // max(16 * engine.n_vocab, 4 * n_answers * len(layers) * engine.n_embd), 1)
        total = sum(len(w.items) for w in self.works.values()) * len(strengths)
        at_0 = int(np.flatnonzero(strengths == 0)[0])
        for start in range(0, len(work.items), size):
            chunk = range(start, min(start + size, len(work.items)))
            for batch in engine.pack(_end_queries(work, chunk)):
                members = [chunk[member] for member in batch.members]
                base = engine.base(batch, first_layer=self.layers[0])
                logits_0, h_0 = engine.prompt_ends(batch, layers=layers, base=base)
                for place in sorted(range(len(strengths)), key=lambda place: place != at_0):
                    logits, h = logits_0, h_0
                    if strengths[place]:
                        steering = self.steering.at(float(strengths[place]))
                        logits, h = engine.prompt_ends(batch, layers=layers, steering=steering, base=base)
                    yield _Ends(members, place, logits, logits_0, h, h_0)
                    self.n_done += len(members)
                    if self.progress is not None:
                        self.progress(self.n_done, total, f"{kind} items at {strengths[place]:+g}")

    def _after_answers(self, members: Sequence[int]) -> list[tuple[Floats, Floats]]:
        """For each item the mean activation after its aligned and its misaligned answers, (n_layers, n_embd) each."""
        work, answers = self.works["behavior"], self.answers["behavior"]
        texts = [(*work.queries[m].tokens, *answer.tokens) for m in members for answer in answers[m]]
        values = self.engine.activations(texts, layers=self.layers)
        means, start = [], 0
        for member in members:
            of_item = values[start : start + len(answers[member])].astype(np.float64)
            start += len(of_item)
            is_aligned = np.array([answer.side == "aligned" for answer in answers[member]])
            means.append((of_item[is_aligned].mean(axis=0), of_item[~is_aligned].mean(axis=0)))
        return means


def _end_queries(work: Work, members: Sequence[int]) -> list[Query]:
    """Prompts whose ends are outputs; any token will do as what continues them."""
    return [Query(work.queries[member].tokens, ((0,),)) for member in members]


def _put_norms(norms: dict[str, Floats], head: Head | str, ends: _Ends, change: Floats) -> None:
    """Enter the lengths of the changes of the logits and of the last layer, before and after the final norm."""
    h, h_0 = ends.h[:, -1], ends.h_0[:, -1]
    norms["logits"][ends.place, ends.members] = np.linalg.norm(change, axis=1)
    norms["hidden"][ends.place, ends.members] = np.linalg.norm(h.astype(np.float64) - h_0, axis=1)
    if isinstance(head, Head):
        norms["normed"][ends.place, ends.members] = np.linalg.norm(head.normed(h) - head.normed(h_0), axis=1)


def _tokens(answers: Sequence[Continuation], correct: int, logits: FloatArray) -> tuple[int, list[int]]:
    """The token that begins the correct choice, in its likeliest spelling, and those that begin the others."""
    chosen: dict[int, int] = {}
    for answer in answers:
        choice, token = int(answer.side), answer.tokens[0]
        if choice not in chosen or logits[token] > logits[chosen[choice]]:
            chosen[choice] = token
    correct_token = chosen.pop(correct)
    return correct_token, [token for token in chosen.values() if token != correct_token]


def _firsts(answers: Sequence[Continuation]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The first tokens of the aligned and of the misaligned answers."""
    sides = [[answer.tokens[0] for answer in answers if answer.side == side] for side in ("aligned", "misaligned")]
    good, bad = (np.unique(np.array(side, np.intp)) for side in sides)
    return good, bad
