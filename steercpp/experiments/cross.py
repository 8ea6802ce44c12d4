"""What several vectors do to several behaviors: a matrix with a floor. Read this for what is measured, and how.

    found = cross(engine, [Push("refusal", v, 0.25), Push("fairness", w, 0.25)], {"refusal": items, "fairness": others})
    found.rows[0].raw["fairness"].value

Each vector at its one strength, on the items of all behaviors, which are packed once; blocks below the lowest steered
layer are computed once for all vectors. The floor are random directions of each vector's own lengths: what a push of
that size does whichever way it points. All numbers are in a store, so the same call goes on where it was interrupted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from steercpp.aliases import Floats, Progress
from steercpp.data.items import BehaviorItem, ChoiceItem, items_sha256
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, RunError
from steercpp.files import fenced
from steercpp.locks import writing
from steercpp.provenance import json_sha256
from steercpp.runs.database import Database
from steercpp.runs.folder import beginning
from steercpp.runs.store import Store
from steercpp.runs.stored_scores import behavior_scores, stored_choice_scores
from steercpp.statistics.curves import changes, earned_gain
from steercpp.statistics.intervals import FEWEST_ITEMS, Interval, resample
from steercpp.statistics.scores import measured
from steercpp.sweeps.measure import Bases, Here, Variant, chunks
from steercpp.sweeps.work import Work, behavior_work, choice_work
from steercpp.vectors.algebra import overall_cosines
from steercpp.vectors.control_vector import ControlVector, manner, random_vector, vector_sha256

STORE = "cross.sqlite"
UNSTEERED = "unsteered"
_Values: TypeAlias = tuple[Floats, Floats, Floats, Floats, Floats]
_HELPFUL = 4  # where P(correct) stands in them
_SEEDED = 4  # what the intervals are drawn with, beside the seed


@dataclass(frozen=True, slots=True, eq=False)
class Push:
    """A vector and the strength at which it acts; strength 1 adds its tensors."""

    name: str
    vector: ControlVector
    strength: float


@dataclass(frozen=True, slots=True)
class Change(Interval):
    """A mean over items, steered minus unsteered; its ends are NaN for fewer than 5 items.

    `floor` are the same means under random directions of the same lengths. `earned` says whether a rise counts, see
    `beyond`.
    """

    floor: tuple[float, ...] = ()
    earned: bool = True

    def named(self) -> dict[str, Any]:
        """By name, for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "floor": self.floor, "earned": self.earned}

    @property
    def beyond(self) -> bool:
        """Whether its interval lies on one side of 0, and it is larger than under every random direction.

        A rise of B has to be earned as well, see statistics/curves.py: nonsense earns nothing.
        """
        sure = (self.low > 0 and self.earned) or self.high < 0
        return sure and bool(self.floor) and abs(self.value) > max(map(abs, self.floor))


@dataclass(frozen=True, slots=True)
class CrossRow:
    """What one vector does.

    Attributes:
        name, strength, layers, sha256: of the vector.
        raw, normalized: change of B of each behavior, P+ - P- and the same over P+ + P-.
        p_correct: change of P(correct), over the whole vocabulary, of items by text over the choices; None without a
            task.
    """

    name: str
    strength: float
    layers: tuple[int, ...]
    sha256: str
    raw: Mapping[str, Change]
    normalized: Mapping[str, Change]
    p_correct: Change | None

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name, "strength": self.strength, "layers": self.layers, "sha256": self.sha256,
            "alignment_raw": {name: change.named() for name, change in self.raw.items()},
            "alignment": {name: change.named() for name, change in self.normalized.items()},
            "p_correct": None if self.p_correct is None else self.p_correct.named(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CrossEffects:
    """The matrix.

    Attributes:
        rows: one for each vector.
        n_items: of each behavior; n_choice: of the task.
        unsteered_raw, unsteered_normalized: mean B of each behavior; unsteered_p: mean P(correct), or None.
        cosines: (n_vectors, n_vectors) over all layers that two vectors share; NaN where they share none.
        n_random: random directions for each vector.
        token_layers: computed for it.
    """

    rows: tuple[CrossRow, ...]
    n_items: Mapping[str, int]
    n_choice: int
    unsteered_raw: Mapping[str, float]
    unsteered_normalized: Mapping[str, float]
    unsteered_p: float | None
    cosines: tuple[tuple[float, ...], ...]
    n_random: int
    token_layers: int

    @property
    def behaviors(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.n_items)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "rows": tuple(row.record() for row in self.rows), "n_items": dict(self.n_items), "n_choice": self.n_choice,
            "unsteered": {
                "alignment_raw": dict(self.unsteered_raw), "alignment": dict(self.unsteered_normalized),
                "p_correct": self.unsteered_p,
            },
            "cosines": self.cosines, "n_random": self.n_random, "token_layers": self.token_layers,
        }  # fmt: skip

    def lines(self) -> Iterator[dict[str, Any]]:
        """The same as rows of a table, one for each vector, behavior and measure."""
        for row in self.rows:
            columns = [("alignment_raw", name, change) for name, change in row.raw.items()]
            columns += [("alignment", name, change) for name, change in row.normalized.items()]
            columns += [("p_correct", "", row.p_correct)] if row.p_correct else []
            for measure_name, name, change in columns:
                yield {
                    "vector": row.name, "strength": row.strength, "behavior": name, "measure": measure_name,
                    "change": change.value, "low": change.low, "high": change.high,
                    "floor": max(map(abs, change.floor), default=float("nan")), "beyond": change.beyond,
                }  # fmt: skip


def cross(
    engine: Engine,
    pushes: Sequence[Push],
    behaviors: Mapping[str, Sequence[BehaviorItem]],
    *,
    choice: Sequence[ChoiceItem] = (),
    n_random: int = 8,
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> CrossEffects:
    """Measure the matrix, or go on with one that was begun.

    Args:
        engine: the model.
        pushes: vectors, each added at every token at its strength.
        behaviors: items of each, by name.
        choice: questions for P(correct).
        n_random: random directions for each vector.
        seed: of these and of the intervals.
        out: the folder that keeps the numbers; None: nothing is kept.
        force: replace what was measured there under another plan.
        progress: called with (tokens done, of how many, what is being measured).

    Raises:
        InputError: no vectors or behaviors, two of one name, a strength of 0, a vector that is not simply added.
        RunError: `out` holds another matrix, cannot be written, or another process writes there.
        EngineError, TaskError, ...: as `sweep`. What is finished is kept in all cases.
    """
    _check(pushes, behaviors, n_random)
    with engine.on_day(None if force else _day_of(out)):
        return _crossed(engine, pushes, behaviors, choice, n_random, seed, out, force, progress)


def _crossed(
    engine: Engine,
    pushes: Sequence[Push],
    behaviors: Mapping[str, Sequence[BehaviorItem]],
    choice: Sequence[ChoiceItem],
    n_random: int,
    seed: int,
    out: Path | None,
    force: bool,
    progress: Progress | None,
) -> CrossEffects:
    """The matrix, on the day that is told to chats."""
    items = [replace(item, id=f"{name}: {item.id}") for name, measured in behaviors.items() for item in measured]
    work = [behavior_work(engine, items)] + ([choice_work(engine, choice)] if choice else [])
    steerings = dict(_labeled(pushes, n_random, seed))
    plan = {
        "model": engine.sha256, "engine": {key: str(value) for key, value in engine.settings().items()},
        "vectors": [[vector_sha256(push.vector), push.strength] for push in pushes], "n_random": n_random, "seed": seed,
        "behavior": items_sha256(items), "choice": items_sha256(choice) if choice else "",
    }  # fmt: skip
    with _store(out, json_sha256(plan), work, force, engine) as store:
        _measure(engine, work, steerings, store, progress)
        return _effects(store, pushes, behaviors, len(choice), n_random, seed)


def _check(pushes: Sequence[Push], behaviors: Mapping[str, Sequence[BehaviorItem]], n_random: int) -> None:
    if not pushes or not all(behaviors.values()) or not behaviors:
        raise InputError("nothing to cross: give at least one vector, and one behavior with items")
    names = [push.name for push in pushes]
    if len(set(names)) < len(names):
        raise InputError(f"two vectors are called {max(names, key=names.count)!r}; give each its own name")
    if n_random < 0:
        raise InputError("the number of random directions must not be negative")
    for push in pushes:
        if not push.vector.is_added_everywhere:
            raise InputError(
                f"{push.name} is meant for {manner(push.vector)}; crossed vectors are added to every token"
            )
        if not push.strength:
            raise InputError(f"{push.name} has the strength 0, which does nothing; give another one")


def _labeled(pushes: Sequence[Push], n_random: int, seed: int) -> Iterator[tuple[str, Steering]]:
    """What is measured under which label: each vector, then the random directions of its lengths."""
    for place, push in enumerate(pushes):
        yield f"vector-{place}", Steering(push.vector, push.strength)
        for i in range(n_random):
            rng = np.random.default_rng([seed, place, i])
            yield f"random-{place}-{i}", Steering(random_vector(push.vector, rng), push.strength)


def _day_of(out: Path | None) -> str | None:
    """The day that chats were told when a matrix was begun; None where there is none yet."""
    if out is None or not Database.holds_groups(out / STORE):
        return None
    with Store.read(out / STORE) as store:
        return store.meta("date")


@contextmanager
def _store(out: Path | None, plan: str, work: Sequence[Work], force: bool, engine: Engine) -> Iterator[Store]:
    """The store of this plan, in the folder or for the moment.

    Raises:
        RunError: the folder holds that of another plan, or cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="steercpp-cross-") as aside:
        folder = Path(aside) if out is None else out
        path = folder / STORE
        with writing(folder), fenced(folder, engine.model.files.refuse_changed):
            if force or Database.holds_groups(path) is False:
                with (
                    beginning(folder, (STORE,)) as new,
                    Store.create(new / STORE, plan_sha256=plan, meta={"date": engine.vocabulary.date}) as store,
                ):
                    for work_of_kind in work:
                        store.add_items(work_of_kind.kind, work_of_kind.items, work_of_kind.continuations)
            with Store.reopen(path) as store:
                if store.plan_sha256 != plan:
                    raise RunError(
                        f"{path}: holds other vectors, strengths or items; choose another folder with `out`, "
                        "or replace this one with `force=True`"
                    )
                yield store


def _measure(
    engine: Engine, work: Sequence[Work], steerings: Mapping[str, Steering], store: Store, progress: Progress | None
) -> None:
    """Decode what the store lacks: each chunk of prompts unsteered, then under every steering above the same base."""
    finished = store.finished()
    done, n_done = set(finished), sum(finished.values())
    total = (1 + len(steerings)) * sum(work_of_kind.n_tokens for work_of_kind in work)
    variants = [
        Variant(label, steering, label.replace("-", " "))
        for label, steering in ((UNSTEERED, next(iter(steerings.values())).at(0.0)), *steerings.items())
    ]

    def tick(variant: Variant, n_tokens: int, is_new: bool) -> None:
        nonlocal n_done
        n_done += n_tokens if is_new else 0
        if progress is not None and n_tokens:
            progress(n_done, total, variant.words)

    first_layer = min(steering.vector.layers[0] for steering in steerings.values())
    Here(store, Bases(engine, first_layer), done).measure(chunks(engine, work), variants, tick=tick)


def _effects(
    store: Store,
    pushes: Sequence[Push],
    behaviors: Mapping[str, Sequence[BehaviorItem]],
    n_choice: int,
    n_random: int,
    seed: int,
) -> CrossEffects:
    """The matrix from what is stored."""
    # What each vector does and, behind it, what its random directions do, beside the unsteered model
    labels = [[f"vector-{i}", *(f"random-{i}-{j}" for j in range(n_random))] for i in range(len(pushes))]
    base = _values(store, UNSTEERED, 0.0, n_choice)
    steered = [
        [_values(store, label, push.strength, n_choice) for label in labels_of_push]
        for labels_of_push, push in zip(labels, pushes, strict=True)
    ]
    # Items of all behaviors lie behind each other
    ends = np.cumsum([0, *map(len, behaviors.values())])
    slices = {name: slice(a, b) for name, a, b in zip(behaviors, ends, ends[1:], strict=False)}
    rng = np.random.default_rng([seed, _SEEDED])

    def by_push(place: int) -> list[dict[str, Change]]:
        changes = {name: _changes(base, steered, place, items, rng) for name, items in slices.items()}
        return [
            {name: replace(of_pushes[i], earned=_earned(base, steered[i][0], slices[name]))
             for name, of_pushes in changes.items()}
            for i in range(len(pushes))
        ]  # fmt: skip

    raw, normalized = by_push(0), by_push(1)
    p = _changes(base, steered, _HELPFUL, slice(None), rng) if n_choice else [None] * len(pushes)
    rows = tuple(
        CrossRow(push.name, push.strength, push.vector.layers, vector_sha256(push.vector), raw[i], normalized[i], p[i])
        for i, push in enumerate(pushes)
    )
    means = [{name: float(base[place][items].mean()) for name, items in slices.items()} for place in (0, 1)]
    cosines = overall_cosines([push.vector for push in pushes])
    return CrossEffects(
        rows, {name: len(items) for name, items in behaviors.items()}, n_choice, means[0], means[1],
        float(base[_HELPFUL].mean()) if n_choice else None, tuple(tuple(map(float, row)) for row in cosines), n_random,
        store.token_layers(),
    )  # fmt: skip


def _values(store: Store, label: str, strength: float, n_choice: int) -> _Values:
    """Raw and normalized B, P+ and P+ + P- of all behavior items, and P(correct) of the questions, by their kind."""
    behavior = behavior_scores(store, label, [strength])
    p = np.empty(0)
    if n_choice:
        choice = stored_choice_scores(store, [strength], label)
        p = measured(choice, choice.own_measure)[0]
    return behavior.raw[0], behavior.normalized[0], behavior.p_aligned[0], behavior.mass[0], p


def _earned(base: _Values, steered: _Values, items: slice) -> bool:
    """Whether a rise of B counts: the aligned answers became likelier, and half of the mass is left."""
    b, aligned, mass = (np.stack([of_all[place][items] for of_all in (base, steered)]) for place in (1, 2, 3))
    means = (of_items.mean(axis=1)[None] for of_items in (b, *changes(aligned, mass, at_0=0)))
    return bool(earned_gain(*means, at_0=0)[0, 1] > 0)


def _changes(
    base: _Values,
    steered: Sequence[Sequence[_Values]],
    place: int,
    items: slice,
    rng: np.random.Generator,
) -> list[Change]:
    """For each vector the mean change over some of the items; items are drawn with their whole column."""
    at_0 = base[place][items]
    rows = np.stack([values[0][place][items] - at_0 for values in steered])
    low = high = np.full(len(rows), np.nan)
    if rows.shape[1] >= FEWEST_ITEMS:
        interval = resample(rows, lambda means: means, rng=rng)
        low, high = interval.low, interval.high
    floors = [tuple(float((random[place][items] - at_0).mean()) for random in values[1:]) for values in steered]
    return [
        Change(float(row.mean()), float(a), float(b), floor=floor)
        for row, a, b, floor in zip(rows, low, high, floors, strict=True)
    ]
