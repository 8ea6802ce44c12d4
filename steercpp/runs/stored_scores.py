"""From a run's store to scores, and whether all is there; read this to score a run in another way, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Floats
from steercpp.data.items import ChoiceItem, Kind
from steercpp.judging.texts import GeneratedText
from steercpp.runs.database import damaged
from steercpp.runs.labels import (
    MEASURED,
    OWN_TELLING,
    RANDOM,
    SHOWCASE,
    ControlName,
    Label,
    continued,
    controlled,
    random_label,
)
from steercpp.runs.layout import ALIGNED, MISALIGNED, Layout, by_length
from steercpp.runs.manifest import Manifest
from steercpp.runs.scores import Control, Controls, Scores
from steercpp.runs.store import Store
from steercpp.statistics.scores import (
    AnswerScores,
    BehaviorScores,
    ChoiceScores,
    OwnScores,
    PerplexityScores,
    choice_scores,
    likeliest_answer,
    total_logprob,
)


def complete_strengths(store: Store, label: str, kind: str) -> set[float]:
    """The strengths at which every continuation of a kind is measured under a label."""
    wanted, is_whole = store.n_continuations(kind), store.layout(kind).is_whole
    return {strength for strength, n in store.n_measured(label, kind).items() if n == wanted and is_whole}


def first_missing(store: Store, manifest: Manifest) -> str | None:
    """What a finished run lacks, in a user's words; None where everything that was planned is measured."""
    kinds = [kind for kind in manifest.items if kind in MEASURED]
    batches: dict[tuple[str, str, float], set[int]] = {}
    planned: dict[tuple[str, bool], set[int]] = {}
    for group in store.finished():
        batches.setdefault((group.label, group.kind, group.strength), set()).add(group.batch)
        # the prompt baseline has prompts and so batches of its own
        planned.setdefault((group.kind, group.label == Label.PROMPT), set()).add(group.batch)
    for kind, n_items in manifest.items.items():
        if store.n_items(kind) != n_items:
            return f"{kind} items"
        if kind in (*MEASURED, OWN_TELLING) and not store.layout(kind).is_whole:
            return f"{kind} items"

    n_measured, n_wanted = cache(store.n_measured), cache(store.n_continuations)

    def is_there(label: str, kind: str, strength: float) -> bool:
        all_nats = n_measured(label, kind).get(strength) == n_wanted(kind)
        wanted = planned.get((kind, label == Label.PROMPT))
        return all_nats and bool(wanted) and batches.get((label, kind, strength)) == wanted

    for strength in manifest.plan.strengths:
        for kind in kinds:
            if not is_there(Label.VECTOR, kind, strength):
                return f"{kind} measurements at strength {strength:+g}"
    if (candidate := manifest.telling_strength) is not None and OWN_TELLING in manifest.items:
        for strength in (0.0, candidate):
            if not is_there(Label.VECTOR, OWN_TELLING, strength):
                return f"measurements of the testing own answers at strength {strength:+g}"
    directions_at = {s for label, _, s in batches if label not in (Label.VECTOR, Label.PROMPT)} or {0.0}
    for label, description in _controls_of(manifest).items():
        strengths = {0.0} if label == Label.PROMPT else directions_at
        if not any(all(is_there(label, kind, s) for kind in controlled(kinds, label)) for s in strengths):
            return f"measurements of {description}"
    if manifest.plan.showcase and len(store.items_with_texts(Label.VECTOR, SHOWCASE)) < len(store.requests()):
        return "texts to show"
    return missing_texts(store, manifest)


def _controls_of(manifest: Manifest) -> dict[str, str]:
    """Labels of the controls that a finished run has, each with what a message calls it."""
    off = manifest.controls_off
    labels: dict[str, str] = {}
    if ControlName.RANDOM not in off:
        labels |= {random_label(i): f"random direction {i}" for i in range(manifest.plan.random_directions)}
    if ControlName.ORTHOGONAL not in off:
        labels[Label.ORTHOGONAL] = "the orthogonal direction"
    if ControlName.PROMPT not in off:
        labels[Label.PROMPT] = "the prompt baseline"
    return labels


def missing_texts(store: Store, manifest: Manifest) -> str | None:
    """Which planned texts of items a run lacks, in a user's words; None where all are there."""
    plan = manifest.plan
    if plan.texts is None:
        return None
    items = {kind: store.items(kind) for kind in manifest.items}
    wanted = [(Label.VECTOR, kind) for kind in continued(items)]
    if Kind.BEHAVIOR in manifest.items:
        if ControlName.PROMPT not in manifest.controls_off:
            wanted.append((Label.PROMPT, Kind.BEHAVIOR))
        if plan.opposite:
            wanted += [(Label.WORDS, Kind.BEHAVIOR), (Label.OPPOSITE, Kind.BEHAVIOR)]
    under = {
        Label.PROMPT: " under the prompt baseline", Label.WORDS: " under the instruction",
        Label.OPPOSITE: " that are asked for by the opposite",
    }  # fmt: skip
    for label, kind in wanted:
        there, n_items = store.draws(label, kind), manifest.items[kind]
        n_draws = plan.texts.samples * (len(plan.strengths) if label == Label.VECTOR else 1)
        n_whole = sum(len(there.get(item, ())) >= n_draws for item in store.items_with_texts(label, kind))
        if n_whole < n_items:
            return f"texts of {kind} items{under.get(label, '')}"
    return None


def whole_texts(
    store: Store, label: str, kind: str, n_items: int, *, strengths: Sequence[float] = (0.0,), is_growing: bool = False
) -> tuple[GeneratedText, ...]:
    """The texts of all items under a label; none where some item still lacks its texts.

    Args:
        store: a run's.
        label: under which name.
        kind: of the items.
        n_items: how many there are.
        strengths: at which each of them has texts, those that the run has under this label.
        is_growing: whether texts may be missing because they were added to the run, and are not generated yet.

    Raises:
        RunError: the store is damaged: an item that has its texts lacks some of them, or a text is of no item.
    """
    texts = store.texts(label, kind) if len(store.items_with_texts(label, kind)) == n_items else ()
    n_samples = 1 + max((text.sample for text in texts), default=0)
    if texts and len(texts) != len(strengths) * n_items * n_samples:
        if is_growing:
            return ()
        raise damaged(store.path, f"texts of {kind} items are missing, or there are too many")
    places = set(range(n_items)), set(range(n_samples)), set(strengths)
    if any(
        text.item not in places[0] or text.sample not in places[1] or text.strength not in places[2] for text in texts
    ):
        raise damaged(store.path, "a text is of no item, or at no strength of the run")
    return texts


def stored_scores(store: Store, label: str, kinds: Sequence[str], strengths: Sequence[float]) -> Scores:
    """Scores of each of these kinds under one label, a row for each strength."""
    return Scores(
        behavior_scores(store, label, strengths) if Kind.BEHAVIOR in kinds else None,
        stored_choice_scores(store, strengths, label) if Kind.CHOICE in kinds else None,
        answer_scores(store, label, strengths) if Kind.ANSWER in kinds else None,
        text_scores(store, label, strengths) if Kind.TEXT in kinds else None,
        own_scores(store, label, strengths) if Kind.OWN in kinds else None,
    )


def behavior_scores(store: Store, label: str, strengths: Sequence[float]) -> BehaviorScores:
    """Behavior scores under one label, a row for each strength."""
    return behavior_of(strengths, store.logprobs(label, Kind.BEHAVIOR, strengths), store.layout(Kind.BEHAVIOR))


def behavior_of(strengths: Sequence[float], nats: Floats, layout: Layout) -> BehaviorScores:
    """Behavior scores from the log-probabilities of continuations.

    Args:
        strengths: of each row.
        nats: (n_s, n_continuations) of all items.
        layout: of their continuations.
    """
    totals = []
    for side in (ALIGNED, MISALIGNED):
        which = layout.sides == side
        if (np.bincount(layout.items[which], minlength=layout.n_items) == 1).all():
            totals.append(nats.compress(which, axis=1) + 0.0)  # rows in a piece; no -0.0, as of a sum
            continue
        places = layout.items[which], layout.ranks(which)
        padded = np.full((layout.n_items, layout.counts.max()), -np.inf)
        total = np.empty((len(strengths), layout.n_items))
        for row in range(len(strengths)):
            padded[places] = nats[row, which]
            total[row] = total_logprob(padded)
        totals.append(total)
    return BehaviorScores.from_logprobs(np.array(strengths), *totals)


def stored_choice_scores(store: Store, strengths: Sequence[float], label: str = Label.VECTOR) -> ChoiceScores:
    """Choice scores under one label, a row for each strength; a choice's P is of its letter, or of all its words."""
    items = [item for item in store.items(Kind.CHOICE) if isinstance(item, ChoiceItem)]
    layout = store.layout(Kind.CHOICE)
    if (layout.sides[layout.offsets[1:] - 1] + 1).tolist() != [len(item.choices) for item in items]:
        raise damaged(store.path, "what is scored of a choice item is not its choices")
    return choice_of(strengths, store.logprobs(label, Kind.CHOICE, strengths), layout, items)


def choice_of(strengths: Sequence[float], nats: Floats, layout: Layout, items: Sequence[ChoiceItem]) -> ChoiceScores:
    """Choice scores from the log-probabilities of letters or texts, as `behavior_of`."""
    return choice_scores(
        np.array(strengths), _choice_logprobs(nats, layout), np.array([item.answer for item in items]),
        by_text=[item.by == "text" for item in items], lengths=_lengths(items),
    )  # fmt: skip


def _lengths(items: Sequence[ChoiceItem]) -> Floats | None:
    """(n_items, n_choices) characters of each choice by text, its leading space aside; None where all are letters."""
    if all(item.by == "letter" for item in items):
        return None
    lengths = np.ones((len(items), max(len(item.choices) for item in items)))
    for place, item in enumerate(items):
        if item.by == "text":
            lengths[place, : len(item.choices)] = [len(choice.lstrip()) for choice in item.choices]
    return lengths


def likeliest_choices(store: Store, strengths: Sequence[float], label: str = Label.VECTOR) -> npt.NDArray[np.intp]:
    """(n_s, n_items) index of the choice that is likeliest, as `stored_choice_scores` takes their P."""
    nats = _choice_logprobs(store.logprobs(label, Kind.CHOICE, strengths), store.layout(Kind.CHOICE))
    return np.asarray(nats.max(axis=-1).argmax(axis=-1), np.intp)


def _choice_logprobs(nats: Floats, layout: Layout) -> Floats:
    """(n_s, n_items, n_choices, n_spellings) in nats, -inf where an item has no such choice or spelling."""
    spellings = layout.runs()
    shape = layout.n_items, int(layout.sides.max()) + 1, int(spellings.max()) + 1
    padded = np.full((len(nats), *shape), -np.inf)
    padded[:, layout.items, layout.sides, spellings] = nats
    return padded


def answer_chains(store: Store, label: str, strength: float) -> list[list[Floats]]:
    """For each answer item and each of its answers (n_tokens,) ln P(token | prompt and tokens before), in nats."""
    layout, (nats,) = store.layout(Kind.ANSWER), store.logprobs(label, Kind.ANSWER, [strength])
    chains: list[list[Floats]] = [[] for _ in range(layout.n_items)]
    starts = np.flatnonzero(layout.runs() == 0)
    for start, chain in zip(starts, np.split(nats, starts[1:]), strict=True):
        chains[layout.items[start]].append(chain)
    return chains


def answer_scores(store: Store, label: str, strengths: Sequence[float]) -> AnswerScores:
    """Answer scores under one label; which of several answers counts is decided unsteered, see `AnswerScores`."""
    layout = store.layout(Kind.ANSWER)
    chosen = np.array([likeliest_answer(chains) for chains in answer_chains(store, Label.VECTOR, 0.0)])
    is_first = layout.runs() == 0
    starts = np.flatnonzero(is_first & (layout.sides == chosen[layout.items]))
    n_tokens = np.diff(np.append(np.flatnonzero(is_first), len(layout.sides)))[is_first.cumsum()[starts] - 1]
    of_all = store.logprobs(label, Kind.ANSWER, strengths)
    nats = by_length(of_all, starts, n_tokens, lambda values: values.sum(axis=-1))
    return AnswerScores(np.array(strengths), nats, n_tokens)


def text_scores(store: Store, label: str, strengths: Sequence[float]) -> PerplexityScores:
    """Text scores under one label, a row for each strength."""
    n_tokens = [len(text.tokens) for (text,) in store.continuations(Kind.TEXT)]
    return PerplexityScores(np.array(strengths), store.logprobs(label, Kind.TEXT, strengths), np.array(n_tokens))


def own_scores(store: Store, label: str, strengths: Sequence[float], kind: str = Kind.OWN) -> OwnScores:
    """Own answers under one label, a row for each strength; `kind` is "own" or "own_telling"."""
    layout = store.layout(kind)
    n_tokens, starts = layout.counts // 2, layout.offsets[:-1]  # KL of each, then its ln P
    nats = store.logprobs(label, kind, strengths)
    twins = store.logprobs(Label.VECTOR, kind, [0.0]) - nats
    kl = by_length(nats, starts, n_tokens, lambda values: values.mean(axis=-1))
    twin = by_length(twins, starts + n_tokens, n_tokens, lambda values: values.mean(axis=-1))
    return OwnScores(np.array(strengths), np.abs(kl), n_tokens, twin)  # no -0.0


def telling_scores(store: Store) -> OwnScores | None:
    """Own answers that tell, at the strengths where all of them are measured; None before they are."""
    whole = sorted(complete_strengths(store, Label.VECTOR, OWN_TELLING))
    if 0.0 not in whole:
        return None
    return own_scores(store, Label.VECTOR, whole, OWN_TELLING)


def stored_controls(store: Store, manifest: Manifest) -> Controls:
    """The finished controls of a run, and why there are no others."""
    kinds = controlled(manifest.items, Label.PROMPT)
    whole_at = cache(partial(complete_strengths, store))
    labels = {(group.label, group.strength) for group in store.finished() if group.label != Label.VECTOR}
    whole = sorted(
        (s, label)
        for label, s in labels
        if kinds and all(s in whole_at(label, kind) for kind in controlled(kinds, label))
    )
    # Of a run that was added to, they may be at an earlier candidate too; an earlier version may have begun them at
    # another strength: those count of which there are most
    strengths = [s for s, label in whole if label != Label.PROMPT]
    strength = max(strengths, key=strengths.count, default=None)
    if manifest.control_strength in strengths:
        strength = manifest.control_strength
    measured = {label: s for s, label in whole if s == strength or label == Label.PROMPT}

    def control(label: str, strength: float) -> Control:
        scores = stored_scores(store, label, kinds if label == Label.VECTOR else controlled(kinds, label), [strength])
        return Control(label, scores.behavior, scores.choice, scores.answer, scores.own)

    numbers = sorted(int(label.removeprefix(RANDOM)) for label in measured if label.startswith(RANDOM))
    at_0 = bool(kinds) and all(0.0 in whole_at(Label.VECTOR, kind) for kind in kinds)
    return Controls(
        strength=strength,
        random=tuple(control(random_label(i), measured[random_label(i)]) for i in numbers),
        orthogonal=control(Label.ORTHOGONAL, measured[Label.ORTHOGONAL]) if Label.ORTHOGONAL in measured else None,
        prompt=control(Label.PROMPT, 0.0) if Label.PROMPT in measured else None,
        off=dict(manifest.controls_off),
        unsteered=control(Label.VECTOR, 0.0) if at_0 else None,
        n_planned=manifest.plan.random_directions,
    )
