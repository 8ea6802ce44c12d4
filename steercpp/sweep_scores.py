"""From stored log-probabilities to scores; read this to score a run in another way, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steercpp.scoring import BehaviorScores, ChoiceScores, Floats, choice_scores, total_logprob
from steercpp.store import Continuation, Store
from steercpp.tasks import ChoiceItem


def complete(store: Store, label: str, kind: str, strength: float) -> bool:
    """Whether every continuation of a kind is measured under a label at a strength."""
    measured, wanted = store.logprobs(label, kind, strength), store.continuations(kind)
    return [len(values) for values in measured] == [len(parts) for parts in wanted]


def first_missing(store: Store, plan: Mapping[str, Any], items: Mapping[str, int]) -> str | None:
    """What a finished run lacks, in a user's words; None where everything that was planned is measured.

    Args:
        store: the measurements.
        plan: the plan, as the manifest holds it.
        items: how many items of each kind were asked.
    """
    batches: dict[tuple[str, str, float], set[int]] = {}
    for group in store.finished():
        batches.setdefault((group.label, group.kind, group.strength), set()).add(group.batch)
    planned = {kind: set().union(*(found for key, found in batches.items() if key[1] == kind)) for kind in items}
    for kind, n in items.items():
        if len(store.items(kind)) != n or len(store.continuations(kind)) != n:
            return f"{kind} items"

    def there(label: str, kind: str, strength: float) -> bool:
        whole = store.n_measured(label, kind).get(strength) == store.n_continuations(kind)
        return whole and bool(planned[kind]) and batches.get((label, kind, strength)) == planned[kind]

    for strength in plan["strengths"]:
        for kind in items:
            if not there("vector", kind, strength):
                return f"{kind} measurements at strength {strength:+g}"
    # Random directions are measured at one strength of the wanted sign, if there is any.
    if "behavior" in items and any(s * plan["direction"] > 0 for s in plan["strengths"]):
        used = {s for label, _, s in batches if label != "vector"}
        for i in range(plan["random_directions"]):
            if not any(there(f"random-{i}", "behavior", s) for s in used):
                return f"measurements of random direction {i}"
    return None


def behavior_scores(store: Store, label: str, strengths: Sequence[float]) -> BehaviorScores:
    """Behaviour scores under one label, a row for each strength."""
    parts = store.continuations("behavior")
    sides = {side: [_where(item, side) for item in parts] for side in ("aligned", "misaligned")}
    widest = max(len(item) for item in parts)
    logprobs = {side: np.full((len(strengths), len(parts), widest), -np.inf) for side in sides}
    for i, strength in enumerate(strengths):
        for j, nats in enumerate(store.logprobs(label, "behavior", strength)):
            for side, indices in sides.items():
                logprobs[side][i, j, : len(indices[j])] = nats[indices[j]]
    aligned, misaligned = (total_logprob(values) for values in logprobs.values())
    return BehaviorScores.from_logprobs(np.array(strengths), aligned, misaligned)


def stored_choice_scores(store: Store, strengths: Sequence[float]) -> ChoiceScores:
    """Choice scores of the vector, a row for each strength."""
    parts = store.continuations("choice")
    answers = [item.answer for item in store.items("choice") if isinstance(item, ChoiceItem)]
    places = [_letter_places(item) for item in parts]
    n_choices, n_spellings = np.array([place for item in places for place in item]).max(axis=0) + 1
    logprobs = np.full((len(strengths), len(answers), n_choices, n_spellings), -np.inf)
    for i, strength in enumerate(strengths):
        for j, nats in enumerate(store.logprobs("vector", "choice", strength)):
            for (choice, spelling), value in zip(places[j], nats, strict=True):
                logprobs[i, j, choice, spelling] = value
    return choice_scores(np.array(strengths), logprobs, np.array(answers))


def standard_error(values: Floats) -> Floats:
    """(n_s,) standard error of the mean over items of (n_s, n_items); 0 for a single item."""
    n_items = values.shape[1]
    spread: Floats = values.std(axis=1, ddof=1) / np.sqrt(n_items) if n_items > 1 else np.zeros(len(values))
    return spread


def _where(parts: Sequence[Continuation], side: str) -> list[int]:
    return [i for i, part in enumerate(parts) if part.side == side]


def _letter_places(parts: Sequence[Continuation]) -> list[tuple[int, int]]:
    """(choice, number of the spelling) of each of a choice item's continuations."""
    choices = [int(part.side) for part in parts]
    return [(choice, choices[:i].count(choice)) for i, choice in enumerate(choices)]
