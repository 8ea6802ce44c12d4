"""What a model needs before its first sweep: which measures tell anything, its own words, the layers, the strengths.

    wanted = Wanted(directions=lambda layers: extract(engine, pairs, layers=layers), vector_id="...", ...)
    found = prepare(engine, wanted, out=Path("runs/x"))
    vector = extract(engine, pairs, layers=found.layers)
    sweep(engine, vector, **found.items, strengths=found.strengths, unit="norm", out="runs/x")

In this order, each on what came before:

1. pairs: where their two sides separate at no layer, there is no direction, and all ends there.
2. own answers: the unsteered model answers everyday requests (own_answers.py).
3. signal: every measure is asked whether it can tell anything on this model (statistics/signals.py). One that cannot is
   named with its figure and not used: listed continuations that hold little of the probability give way to the model's
   own words (own_continuations.py), choice items at chance to its own answers.
4. layers: windows at which the pairs separate, compared at equal cost (windows.py), where they are not given.
5. strengths: a bracket on each side (bracket.py), where they are not given.

A quick first answer, or what is to fit into a time, takes fewer of the items and strengths (trimming.py, budget.py).

Layers and strengths are found on choosing items alone. What is found is written into the run's folder, items and all,
so that the same command goes on from there to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.aliases import NAN, Floats, Progress
from steercpp.data.items import BehaviorItem, ChoiceItem, OwnItem
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, NonFiniteError, RunError, TaskError
from steercpp.files import fenced
from steercpp.locks import writing
from steercpp.runs.folder import ADDS_NOTHING, NEXT, OWN_ITEMS
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.preparation import Preparation, read_preparation
from steercpp.runs.scope import Scope
from steercpp.statistics.curves import dealt
from steercpp.statistics.signals import (
    Signal,
    auc_by_chance,
    choice_signal,
    continuation_signal,
    own_continuation_signal,
    own_signal,
    pairs_signal,
)
from steercpp.sweeps.bracket import FIRST, cliff
from steercpp.sweeps.budget import Budget
from steercpp.sweeps.estimate import Estimate, estimate
from steercpp.sweeps.few_shot import WHY_NOT, by_example
from steercpp.sweeps.own_answers import choosing, own_answers, words_kl
from steercpp.sweeps.own_continuations import ALIKE, BY_SUBJECT, OwnContinuations, own_continuations, write_items
from steercpp.sweeps.stages import ANSWERS, BRACKET, LAYERS, MEASURES, PAIRS, OnStage, Stage
from steercpp.sweeps.trial import TRIAL_ANSWERS, EverydayCost, Spent, trial_behavior, trial_choice
from steercpp.sweeps.trimming import Size, drawn
from steercpp.sweeps.units import in_norm_units
from steercpp.sweeps.wanted import Wanted
from steercpp.sweeps.windows import Tried, best, compare_windows, windows_to_try
from steercpp.sweeps.work import behavior_work, choice_work, prompted_work
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.layers import Window, default_layers

LEAST_FLOORS = 10  # times rounding's own KL, which the common cost of windows has to be
TRIAL_LISTED = 24  # listed behavior items that tell whether the model answers so
TRIAL_CHOICES = 16  # choice items that tell whether the model knows more than a guess


def prepare(
    engine: Engine, wanted: Wanted, *, out: Path, force: bool = False, progress: Progress | None = None,
    on_stage: OnStage | None = None,
) -> Preparation:  # fmt: skip
    """Find what is not given, or read what an earlier call found for the same.

    Args:
        engine: the model.
        wanted: what is asked for.
        out: the run's folder, where it is kept.
        force: find it again, whatever is in the folder.
        progress: called with (done, of how many, what is being done), again in each stage.
        on_stage: called when a stage begins, see stages.py.

    Returns:
        what to sweep; with a `reason` where this model cannot be measured so, and then nothing is to be swept.

    Raises:
        InputError: nothing to measure helpfulness on, or not even the smallest sweep fits into the budget.
        RunError: it cannot be written, another process writes there, or the folder holds a run of another plan.
        EngineError, ...: as what it calls.
    """
    if not wanted.everyday and not wanted.choice:
        raise InputError("nothing to measure helpfulness on: give choice items or everyday requests")
    identity = wanted.identity(engine)
    earlier = None if force else read_preparation(out)
    if earlier is not None and earlier.identity == identity:
        return earlier
    if not force and (out / MANIFEST).exists():
        held, asked = "" if earlier is None else earlier.scope.name, Scope(wanted.quick, wanted.budget_s).name
        other = f"{held}, not {asked}" if held and held != asked else "a sweep of another plan"
        raise RunError(f"{out}: holds {other}, {ADDS_NOTHING}; {NEXT}")
    with writing(out), fenced(out, engine.model.files.refuse_changed):
        prepared = _Preparer(engine, wanted, identity, progress, on_stage).run()
        prepared.write(out)
        if prepared.continuations is not None and prepared.behavior:
            write_items(out / OWN_ITEMS, prepared.behavior)  # to look at, to edit and to give to another sweep
    return prepared


def survey(engine: Engine, wanted: Wanted, *, progress: Progress | None = None) -> Preparation:
    """What each measure tells on a model, and the items that follow; layers and strengths are not looked for.

    Nothing is written. Arguments and errors as of `prepare`.
    """
    return _Preparer(engine, wanted, wanted.identity(engine), progress).run(is_survey=True)


@dataclass(slots=True)
class _Preparer:
    engine: Engine
    wanted: Wanted
    identity: str
    progress: Progress | None
    on_stage: OnStage | None = None
    signals: list[Signal] = field(default_factory=list)
    spent: Spent = field(init=False)
    counts: dict[str, int] = field(init=False)
    size: Size = field(init=False)
    budget: Budget | None = None
    planned: Estimate | None = None  # of what follows the items

    def __post_init__(self) -> None:
        wanted = self.wanted
        self.spent, self.counts = Spent(self.engine), wanted.counts
        self.size = Size.of(self.counts, quick=wanted.quick)
        if wanted.budget_s is not None:
            in_words = wanted.in_words and bool(wanted.instruction)
            self.budget = Budget(self.engine, wanted.budget_s, wanted.n_directions, in_words)
            self.size = self.budget.before(self.size, wanted, self._layers)
            self.spent.count("budget")
        self.wanted = wanted.of_size(self.size)

    def run(self, *, is_survey: bool = False) -> Preparation:
        """Everything in its order; a survey ends with the signals."""
        self._enter(PAIRS)
        vector, windows, reason = self._vector()
        answers: tuple[OwnItem, ...] = ()
        behavior: tuple[BehaviorItem, ...] = ()
        choice: tuple[ChoiceItem, ...] = ()
        continuations = None
        if not reason:
            self._enter(ANSWERS)
            answers = self._answers()
            self._enter(MEASURES)
            behavior, continuations, reason = self._behavior()
        if not reason:
            choice = self._choice()
        own = () if choice or self.wanted.helps_otherwise else answers
        if not reason and not answers:
            reason = "the model answers no everyday request, so that nothing tells what steering costs"
        layers = self._layers
        if self.budget is not None and not reason:
            behavior, choice, own, answers = self._fitting(behavior, choice, own, answers)
        strengths = self.wanted.strengths or (0.0,)
        compared: tuple[dict[str, Any], ...] = ()
        sides: dict[str, dict[str, Any]] = {}
        if not reason and not is_survey:
            self._plan(behavior, choice, own, windows)
            vectors = _Vectors(self.engine, vector, behavior)
            if self.wanted.layers is None or self.wanted.strengths is None:
                cost = EverydayCost.of(self.engine, choosing(answers)[:TRIAL_ANSWERS])
                if self.wanted.layers is None:
                    self._enter(LAYERS)
                    tried = self._compared(windows, vectors, cost, behavior, by_thirds=bool(own))
                    layers, compared = best(tried).layers, tuple(window.record() for window in tried)
                if self.wanted.strengths is None:
                    self._enter(BRACKET)
                    strengths, sides = self._strengths(vectors, cost, layers)
        return Preparation(
            self.identity, tuple(self.signals), behavior, choice, own, layers, strengths, compared, sides,
            None if continuations is None else continuations.record(), self.spent.by_stage, reason,
            self._scope(behavior, choice, own),
        )  # fmt: skip

    @property
    def _layers(self) -> Window:
        """Those that are given, or usual ones."""
        return self.wanted.layers or default_layers(self.engine.n_layer)

    def _fitting(
        self, behavior: tuple[BehaviorItem, ...], choice: tuple[ChoiceItem, ...], own: tuple[OwnItem, ...],
        answers: tuple[OwnItem, ...],
    ) -> tuple[tuple[BehaviorItem, ...], tuple[ChoiceItem, ...], tuple[OwnItem, ...], tuple[OwnItem, ...]]:  # fmt: skip
        """What of the items that were found fits into the budget; answers that tell no helpfulness stay."""
        assert self.budget is not None
        items: dict[str, Sequence[Any]] = {"behavior": behavior, "choice": choice, "own": own}
        n_found = {kind: len(of_kind) for kind, of_kind in items.items()}
        found = Preparation("", (), behavior, choice, own, self._layers, (0.0,))
        fits = self.budget.behind(
            replace(self.size, counts=n_found), found, self.wanted, token_layers=sum(self.spent.by_stage.values())
        )
        behavior, choice, own = (drawn(items[kind], n, self.wanted.seed) for kind, n in fits.counts.items())
        asked = {kind: round(n * fits.counts[kind] / (n_found[kind] or 1)) for kind, n in self.size.counts.items()}
        self.size = replace(fits, counts=asked)
        return behavior, choice, own, own or answers

    def _scope(self, behavior: Sequence[BehaviorItem], choice: Sequence[ChoiceItem], own: Sequence[OwnItem]) -> Scope:
        """How much of a full sweep this is."""
        if not self.wanted.quick and self.budget is None:
            return Scope()
        used = {"behavior": behavior, "choice": choice, "own": own}
        windows = () if self.wanted.layers else windows_to_try(self.engine.n_layer)
        strengths = (0, 0) if self.wanted.strengths else (self.size.n_strengths, Size({}).n_strengths)
        return Scope(
            self.wanted.quick, self.wanted.budget_s,
            {kind: (self.size.counts[kind], self.counts[kind]) for kind, items in used.items() if items},
            strengths, (len(self.size.windows(windows)), len(windows)),
        )  # fmt: skip

    def _answers(self) -> tuple[OwnItem, ...]:
        """Everyday requests with the model's answers; none where it has none to give."""
        try:
            answers = own_answers(self.engine, self.wanted.everyday, seed=self.wanted.seed, progress=self.progress)
        except TaskError as error:
            self.signals.append(Signal("own answers", False, str(error), "the model answers nothing"))
            return ()
        n_drawn = sum(len(item.tokens) for item in answers)
        self.spent.count("answers", self.engine.n_layer * n_drawn)
        nats = None
        if self.wanted.instruction and answers:
            nats = words_kl(self.engine, choosing(answers)[:TRIAL_ANSWERS], self.wanted.instruction)
        if answers:
            self.signals.append(own_signal(nats, len(answers), max_loss=self.wanted.max_loss))
        self.spent.count("signal")
        return answers

    def _behavior(self) -> tuple[tuple[BehaviorItem, ...], OwnContinuations | None, str]:
        """The items to measure B on, how own ones were found, and why there are none."""
        wanted = self.wanted
        listed = tuple(item for item in wanted.behavior if isinstance(item, BehaviorItem))
        if wanted.own_behavior is not True:
            work = behavior_work(self.engine, drawn(listed, TRIAL_LISTED, wanted.seed))
            unsteered, in_words = trial_behavior(self.engine, work), None
            if wanted.instruction:
                prompted = prompted_work(self.engine, work, wanted.instruction)
                in_words = None if isinstance(prompted, str) else trial_behavior(self.engine, prompted)
            signal = continuation_signal(unsteered, in_words, n_items=len(listed))
            self.signals.append(signal)
            self.spent.count("signal")
            by_examples = self.engine.chat_template is None
            can_ask = by_examples or bool(wanted.instruction and wanted.opposite)
            if signal.tells or wanted.own_behavior is False or not can_ask:
                return listed, None, "" if signal.tells else f"the listed continuations have no signal: {signal.reason}"
        items, instruction, opposite, by_subject = wanted.behavior, wanted.instruction, wanted.opposite, BY_SUBJECT
        if self.engine.chat_template is None:
            asked = by_example(wanted.behavior, between=self.engine.vocabulary.paragraph)
            if asked is None:
                self.signals.append(Signal("own continuations", False, "no chat template", WHY_NOT))
                return (), None, WHY_NOT
            items, instruction, opposite, by_subject = asked.items, asked.aligned, asked.misaligned, {}
        found = own_continuations(
            self.engine, items, instruction=instruction, opposite=opposite, by_subject=by_subject, seed=wanted.seed,
            progress=self.progress,
        )  # fmt: skip
        self.spent.take("continuations", found.token_layers)
        figure = f"{len(found.items)} of {found.n_asked} prompts, {found.n_tokens} tokens"
        if not found.items:
            reason = "the model does not answer in language when asked for either side"
            n_screened = sum(found.screened.values())
            if n_screened and (set(found.auc_by_length) == {0.5} or 2 * found.screened.get(ALIKE, 0) > n_screened):
                reason = "the model answers alike whichever side it is asked for"
            self.signals.append(Signal("own continuations", False, figure, reason))
            return (), found, reason
        signal = own_continuation_signal(len(found.items), found.n_asked, found.n_tokens, found.b[0], found.mass)
        self.signals.append(signal)
        return found.items, found, "" if signal.tells else signal.reason

    def _choice(self) -> tuple[ChoiceItem, ...]:
        """The items of the first way of asking that tells anything; none where none does."""
        for items in self.wanted.choice.values():
            few = drawn(items, TRIAL_CHOICES, self.wanted.seed)
            by_text = all(item.by == "text" for item in few)
            scores = trial_choice(self.engine, choice_work(self.engine, few))
            signal = choice_signal(
                scores, "choices by text" if by_text else "letters", max_loss=self.wanted.max_loss,
                n_telling=len(items) // 2,
            )  # fmt: skip
            self.signals.append(signal)
            self.spent.count("signal")
            if signal.tells:
                return tuple(items)
        return ()

    def _vector(self) -> tuple[ControlVector, tuple[Window, ...], str]:
        """The vector at all layers that may be steered, the windows to compare, and why there is no direction.

        Windows at whose layers the pairs do not separate are left out: what they gain is chance.
        """
        windows = () if self.wanted.layers else self.size.windows(windows_to_try(self.engine.n_layer))
        layers = self.wanted.layers or tuple(sorted({il for window in windows for il in window}))
        vector = self.wanted.directions(layers)
        self.spent.count("pairs")
        figures, n_pairs = vector.layer_figures, vector.metadata.get("n_pairs")
        if not ("auc" in figures and "agreement" in figures and isinstance(n_pairs, int)):
            return vector, windows, ""
        auc, agreement = (np.array(figures[name], np.float64) for name in ("auc", "agreement"))
        self.signals.append(signal := pairs_signal(auc, agreement, n_pairs))
        if not windows:
            return vector, (), ""  # layers that are given are taken
        by_layer = dict(zip(vector.layers, auc.tolist(), strict=True))
        means = {window: float(np.mean([by_layer[il] for il in window])) for window in windows}
        separate = tuple(window for window in windows if means[window] > auc_by_chance(n_pairs))
        return vector, separate or (max(windows, key=means.__getitem__),), "" if signal.tells else signal.reason

    def _compared(
        self, windows: tuple[Window, ...], vectors: _Vectors, cost: EverydayCost, behavior: tuple[BehaviorItem, ...],
        *, by_thirds: bool,
    ) -> tuple[Tried, ...]:  # fmt: skip
        """Windows at equal cost; the gains are those of the items that choose."""
        chooses, _ = dealt(len(behavior), np.random.default_rng(self.wanted.seed), by_thirds=by_thirds)
        work = behavior_work(self.engine, [behavior[i] for i in sorted(chooses.tolist())])
        at_0 = trial_behavior(self.engine, work).normalized[0]

        def gains(window: Window, strength: float) -> Floats:
            self._tell(
                windows.index(window),
                len(windows),
                f"finding the layers, {windows.index(window) + 1} of {len(windows)}",
            )
            try:
                steered = trial_behavior(self.engine, work, vectors.at(window, strength)).normalized[0]
            except NonFiniteError:
                steered = np.full(len(at_0), -1.0)
            return np.asarray(steered - at_0, np.float64)

        # rounding alone has some KL: what a push of next to nothing costs
        floor = float(cost.at(vectors.at(windows[0], self.wanted.direction * FIRST / 1000)).mean())
        target = max(-float(np.log1p(-self.wanted.max_loss)), LEAST_FLOORS * floor)
        tried = compare_windows(
            windows, cost=lambda window, s: float(cost.at(vectors.at(window, s)).mean()), gains=gains, target=target,
            first=FIRST, sign=self.wanted.direction,
        )  # fmt: skip
        self.spent.count("layers")
        return tried

    def _strengths(
        self, vectors: _Vectors, cost: EverydayCost, layers: Window
    ) -> tuple[tuple[float, ...], dict[str, dict[str, Any]]]:
        """A grid up to where half of the everyday helpfulness is lost, each side for itself."""

        def left(strength: float) -> float:
            self._tell(0, 1, f"finding the strengths, {strength:+.3g}")
            return float(np.exp(-cost.at(vectors.at(layers, strength))).mean())

        wanted = self.wanted.direction
        signs = (wanted,) if self.size.is_coarse else (1, -1)  # the other side is then as long as the wanted one
        ends = {sign: cliff(left, first=FIRST, sign=sign) for sign in signs}
        self.spent.count("bracket")
        end = ends[wanted].end
        grid = self.size.grid(end, ends[-wanted].end if -wanted in ends else -end)
        return grid, {"+" if sign > 0 else "-": end.record() for sign, end in ends.items()}

    def _plan(
        self, behavior: tuple[BehaviorItem, ...], choice: tuple[ChoiceItem, ...], own: tuple[OwnItem, ...],
        windows: tuple[Window, ...],
    ) -> None:  # fmt: skip
        """Work out what is left, now that the items are there; only where somebody is told."""
        if self.on_stage is None:
            return
        wanted, layers = self.wanted, self._layers
        found = Preparation("", (), behavior, choice, own, layers, (0.0,))
        scope = replace(Scope(), windows=(len(windows), len(windows)))
        self.planned = estimate(
            self.engine, replace(found, scope=scope), n_strengths=len(wanted.strengths or ()) or self.size.n_strengths,
            n_directions=wanted.n_directions, in_words=wanted.in_words and bool(wanted.instruction),
            finds_layers=wanted.layers is None,
        )  # fmt: skip

    def _enter(self, name: str) -> None:
        """Tell that a stage begins."""
        if self.on_stage is None:
            return
        left, at = NAN, self.engine.token_layers
        if self.planned is not None:
            finds_layers = name == LAYERS
            left = float(self.planned.token_layers + (self.planned.to_find if finds_layers else 0))
        self.on_stage(Stage(name, lambda: left - (self.engine.token_layers - at)))

    def _tell(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, what)


class _Vectors:
    """A vector at all layers that may be steered, in residual norms, and steerings by it."""

    def __init__(self, engine: Engine, vector: ControlVector, behavior: Sequence[BehaviorItem]) -> None:
        self._in_norms, _ = in_norm_units(engine, vector, behavior_work(engine, behavior).prompts)
        self._restricted: dict[Window, ControlVector] = {}

    def at(self, window: Window, strength: float) -> Steering:
        """The vector at a window's layers."""
        if window not in self._restricted:
            self._restricted[window] = self._in_norms.restricted_to(window)
        return Steering(self._restricted[window], strength)
