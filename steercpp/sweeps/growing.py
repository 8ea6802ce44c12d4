"""Adding to a run: a sweep that asks for more than its folder holds goes on there with what is missing.

    sweep(engine, vector, behavior=items[:100], strengths=grid("-2:2:1"), out="runs/refusal", ...)
    sweep(engine, vector, behavior=items, strengths=grid("-2:2:0.5"), out="runs/refusal", ...)    # adds to it

More strengths, more items (all of the run's are among them, in their order) and generated texts, or more samples of
them, are an addition; anything else that differs, and anything that the run has and the sweep does not ask for, makes
another plan. The added items stand behind the run's own and are packed apart from them (`Work.starts`): what is there
keeps its numbers, its batches and its bits.

An addition begins with the manifest, in one step: it has the new plan then, and is unfinished. The items follow in the
store. So a process that is killed leaves a run that the same command completes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast

from steercpp.data.items import ChoiceItem, Item, Kind, OwnItem, choice_form_of, item_json, items_sha256
from steercpp.engine.engine import Engine
from steercpp.errors import RunError
from steercpp.provenance import command, now
from steercpp.runs.folder import NEXT, PAGE, STORE
from steercpp.runs.labels import OWN_TELLING, ControlName
from steercpp.runs.manifest import Addition, Manifest, write_manifest
from steercpp.runs.plan import Plan, differing
from steercpp.runs.store import Continuation, Store
from steercpp.sweeps.own_answers import undealt
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.work import Work

SCALE = (
    "items were added to this run after it began: strength 1 stays the push that was found over those that it began "
    "with"
)


@dataclass(frozen=True, slots=True)
class Growth:
    """What a sweep asks for beyond what a run has.

    Attributes:
        n_strengths: how many strengths.
        items: kind of item to how many, without kinds of which there are no more.
        texts: which texts, in words; "" for no more.
    """

    n_strengths: int = 0
    items: Mapping[str, int] = field(default_factory=dict)
    texts: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.n_strengths or self.items or self.texts)

    def __str__(self) -> str:
        """All of it in words, such as "4 strengths and 100 behavior items"."""
        counts = {"strength": self.n_strengths, **{f"{kind} item": n for kind, n in self.items.items()}}
        words = [f"{n} {what}{'s' * (n > 1)}" for what, n in counts.items() if n]
        words += [self.texts] if self.texts else []
        return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "nothing"


def as_added(out: Path, manifest: Manifest, spec: SweepSpec, plan: Plan) -> tuple[SweepSpec, Plan, Growth]:
    """A sweep into the folder of a run, as that run goes on.

    Args:
        out: the folder.
        manifest: of the run.
        spec: what is asked for.
        plan: what follows from it.

    Returns:
        both with the items in the run's order, those that it lacks behind the others; what is more than the run has.

    Raises:
        RunError: it is another plan; the message tells what differs.
    """
    asked: dict[str, Sequence[Item]] = {str(kind): items for kind, items in spec.items.items()}
    kept = {kind: _kept(out, manifest, kind) for kind in manifest.plan.items if _differs(manifest, asked, kind)}
    ordered = {kind: _ordered(asked[kind], *of_run) for kind, of_run in kept.items() if kind in asked}
    if ordered:
        asked |= ordered
        spec = replace(spec, **cast("dict[str, Any]", ordered))
        plan = replace(plan, items={kind: items_sha256(items) for kind, items in asked.items()})
    growth, fewer, others = _compared(manifest, asked, plan, {kind: items for kind, (items, _) in kept.items()})
    if fewer or others:
        differs = [f"{how} {', '.join(what)}" for how, what in (("other", others), ("fewer", fewer)) if what]
        raise RunError(f"{out}: holds a sweep of another plan ({'; '.join(differs)}); {NEXT}")
    return spec, plan, growth


def _differs(manifest: Manifest, asked: Mapping[str, Sequence[Item]], kind: str) -> bool:
    """Whether the run's items of a kind are not just the first of those that are asked for."""
    first = asked.get(kind, ())[: _counts(manifest.items).get(kind, 0)]
    return items_sha256(first) != manifest.plan.items[kind]


def _counts(stored: Mapping[str, int]) -> dict[str, int]:
    """How many items of each kind, own ones of both names together."""
    counts = dict(stored)
    telling = counts.pop(OWN_TELLING, 0)
    return {**counts, str(Kind.OWN): counts.get(Kind.OWN, 0) + telling} if telling else counts


def _kept(out: Path, manifest: Manifest, kind: str) -> tuple[tuple[Item, ...], tuple[int, ...]]:
    """A run's items of a kind, and the numbers of the first ones of each addition."""
    with Store.read(out / STORE, settled=manifest.finished is not None) as store:
        items = store.items(kind)
        if kind == Kind.OWN:
            items = undealt(cast("tuple[OwnItem, ...]", items), cast("tuple[OwnItem, ...]", store.items(OWN_TELLING)))
    counts = {_counts(addition.items).get(kind, 0) for addition in manifest.additions}
    return items, (0, *sorted(n for n in counts if 0 < n < len(items)))


def _ordered(wanted: Sequence[Item], kept: Sequence[Item], starts: Sequence[int]) -> tuple[Item, ...]:
    """Items in a run's order, new ones behind; as they are where the run's are not all among them in their order."""
    place_of = {_key(item): place for place, item in enumerate(wanted)}
    places = [place_of.get(_key(item), -1) for item in kept]
    parts = [places[first:end] for first, end in pairwise((*starts, len(kept)))]
    if -1 in places or any(part != sorted(set(part)) for part in parts):
        return tuple(wanted)
    there = set(places)
    return (*kept, *(item for place, item in enumerate(wanted) if place not in there))


def _key(item: Item) -> str:
    return json.dumps(item_json(item), sort_keys=True)


def _compared(
    manifest: Manifest, asked: Mapping[str, Sequence[Item]], plan: Plan, kept: Mapping[str, Sequence[Item]]
) -> tuple[Growth, list[str], list[str]]:
    """What a plan has more than a run's, what it has less of, and what else differs, in words."""
    stored, counts = manifest.plan, _counts(manifest.items)
    fewer: list[str] = []
    same: dict[str, Any] = {}  # the parts of the plan that an addition explains, as the run has them

    added, lacking = set(plan.strengths) - set(stored.strengths), set(stored.strengths) - set(plan.strengths)
    if not (added and lacking):
        same["strengths"] = stored.strengths
        fewer += ["strengths"] if lacking else []

    hashes, more = dict(plan.items), dict[str, int]()
    for kind in {**plan.items, **stored.items}:
        if plan.items.get(kind) == stored.items.get(kind):
            continue
        items = asked.get(kind, ())
        n = counts.get(kind, 0)
        is_part = len(items) < n and {_key(item) for item in items} <= {_key(item) for item in kept.get(kind, ())}
        if len(items) > n and (not n or items_sha256(items[:n]) == stored.items[kind]):
            more[kind] = len(items) - n
            hashes.pop(kind)
        elif is_part:
            fewer.append(f"{kind} items")
            hashes.pop(kind, None)
    same["items"] = {**{kind: sha256 for kind, sha256 in stored.items.items() if kind not in hashes}, **hashes}

    texts = ""
    old, new = stored.texts, plan.texts
    if (old is None) != (new is None):
        same |= {"texts": old, "opposite": stored.opposite}  # what is asked for either side is for texts alone
        texts = "generated texts"
    elif old is not None and new is not None and {**old.record(), "samples": 0} == {**new.record(), "samples": 0}:
        same["texts"] = old
        n = abs(new.samples - old.samples)
        texts = f"{n} sample{'s' * (n > 1)} of each text" if n else ""
    if texts and (new is None or (old is not None and new.samples < old.samples)):
        fewer.append("generated texts")
        texts = ""

    growth = Growth(0 if lacking else len(added), more, texts)
    return growth, fewer, differing(stored, replace(plan, **same))


def refuse_other_tokens(out: Path, manifest: Manifest, work: Iterable[Work]) -> None:
    """See that the items of a run fall into the tokens that it scored: an earlier version may have scored others.

    Args:
        out: the run's folder.
        manifest: its manifest, before anything is added now.
        work: its items, and any that are to be added behind them.

    Raises:
        RunError: they do not.
    """
    with Store.read(out / STORE, settled=manifest.finished is not None) as store:
        for of_kind in work:
            kind = of_kind.kind
            n_there = len(store.items(kind))
            # A process may have been killed before the items of the last addition were in the store
            before = manifest.additions[-1].items.get(kind, 0) if manifest.additions else -1
            scored = tuple(chain.from_iterable(store.continuations(kind)))
            wanted = tuple(one for one in of_kind.continuations if one.item < n_there)
            if scored != wanted or n_there not in (manifest.items.get(kind, 0), before):
                raise RunError(f"{out}: its {kind} items fall into other tokens now; sweep again with `force=True`")


def refuse_asked_otherwise(
    engine: Engine, out: Path, manifest: Manifest, spec: SweepSpec, growth: Growth, controls_off: Mapping[str, str]
) -> None:
    """See that a run's own items are asked as before, whatever is added.

    Args:
        engine: the model.
        out: the run's folder.
        manifest: of the run.
        spec: what is asked for.
        growth: what of it is added.
        controls_off: controls that are not to be had then, with the reason.

    Raises:
        RunError: the added choices take another form for all, or the added items leave the run without its prompt
            baseline.
    """
    n_added = growth.items.get(Kind.CHOICE, 0)
    before = [item for item in spec.choice[: len(spec.choice) - n_added] if isinstance(item, ChoiceItem)]
    writes = engine.vocabulary.writes
    if n_added and before and choice_form_of(before, writes) != choice_form_of(spec.choice, writes):
        raise RunError(
            f"{out}: the added choice items have more choices than this model's vocabulary has signs for, so that the "
            "run's own would be asked otherwise; measure them with another `out`"
        )
    if ControlName.PROMPT in controls_off and ControlName.PROMPT not in manifest.controls_off:
        raise RunError(
            f"{out}: with the added items the run would lose its prompt baseline ({controls_off[ControlName.PROMPT]}); "
            "measure them with another `out`"
        )


def grown(
    out: Path,
    manifest: Manifest,
    plan: Plan,
    growth: Growth,
    *,
    items: Mapping[str, int],
    controls_off: Mapping[str, str],
    notes: Sequence[str],
) -> Manifest:
    """Begin an addition: write the manifest that has it, and is unfinished; its lock must be held.

    Args:
        out: the run's folder.
        manifest: of the run.
        plan: with what is added.
        growth: what that is.
        items: how many there are of each kind, with those that are added.
        controls_off: controls that are not to be had then, with the reason.
        notes: what of the scoring is not as usual then.

    Raises:
        RunError: it cannot be written; the run stays as it is.
    """
    scaled = (SCALE,) if growth.items and plan.unit != "length" and SCALE not in notes else ()
    before = Addition(
        begun=now(), command=command(), plan_sha256=manifest.plan.sha256, items=dict(manifest.items)
    )  # fmt: skip
    manifest = replace(
        manifest, plan=plan, items=dict(items), controls_off=dict(controls_off), notes=(*notes, *scaled), finished=None,
        tokens=None, resume=None, packing=None, rows_sha256=None, additions=(*manifest.additions, before),
    )  # fmt: skip
    with suppress(OSError):
        (out / PAGE).unlink(missing_ok=True)  # which stands for the whole report, of what was there before
    write_manifest(out, manifest)
    return manifest


def add_missing_items(store: Store, items: Mapping[str, Sequence[Item]], work: Iterable[Work]) -> None:
    """Keep the items that were added to a run and are not in its store yet, behind the others.

    Raises:
        RunError: they cannot be written.
    """
    continuations: dict[str, tuple[Continuation, ...]] = {of_kind.kind: of_kind.continuations for of_kind in work}
    for kind, of_kind in items.items():
        n_there = len(store.items(kind))
        if n_there < len(of_kind):
            scored = [one for one in continuations.get(kind, ()) if one.item >= n_there]
            store.add_items(kind, of_kind[n_there:], scored, first=n_there)
