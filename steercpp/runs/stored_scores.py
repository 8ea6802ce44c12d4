"""From stored log-probabilities to scores; read this to score a run in another way, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from steercpp.data.tasks import ChoiceItem
from steercpp.runs.controls import CONTROLLED, ORTHOGONAL, PROMPT, Control, Controls, Scores
from steercpp.runs.store import Continuation, Store
from steercpp.statistics.scores import BehaviorScores, ChoiceScores, Floats, choice_scores, total_logprob
from steercpp.statistics.sequence_scores import AnswerScores, TextScores, likeliest_answer
from steercpp.sweeps.sweep_texts import missing_texts

MEASURED = ("behavior", "choice", "answer", "text")  # kinds whose measurements are log-probabilities


def complete(store: Store, label: str, kind: str, strength: float) -> bool:
    """Whether every continuation of a kind is measured under a label at a strength."""
    measured, wanted = store.logprobs(label, kind, strength), store.continuations(kind)
    return [len(values) for values in measured] == [len(parts) for parts in wanted]


def first_missing(store: Store, manifest: Mapping[str, Any]) -> str | None:
    """What a finished run lacks, in a user's words; None where everything that was planned is measured."""
    plan, items, off = manifest["plan"], manifest["items"], manifest["controls_off"]
    kinds = [kind for kind in items if kind in MEASURED]
    batches: dict[tuple[str, str, float], set[int]] = {}
    planned: dict[tuple[str, bool], set[int]] = {}
    for group in store.finished():
        batches.setdefault((group.label, group.kind, group.strength), set()).add(group.batch)
        # the prompt baseline has prompts and so batches of its own
        planned.setdefault((group.kind, group.label == PROMPT), set()).add(group.batch)
    for kind, n in items.items():
        if len(store.items(kind)) != n or (kind in MEASURED and len(store.continuations(kind)) != n):
            return f"{kind} items"

    def there(label: str, kind: str, strength: float) -> bool:
        whole = store.n_measured(label, kind).get(strength) == store.n_continuations(kind)
        wanted = planned.get((kind, label == PROMPT))
        return whole and bool(wanted) and batches.get((label, kind, strength)) == wanted

    for strength in plan["strengths"]:
        for kind in kinds:
            if not there("vector", kind, strength):
                return f"{kind} measurements at strength {strength:+g}"
    controlled = [kind for kind in kinds if kind in CONTROLLED]
    used = {s for label, _, s in batches if label not in ("vector", PROMPT)} or {0.0}
    for label, words in _controls_of(plan, off).items():
        at = {0.0} if label == PROMPT else used
        if not any(all(there(label, kind, s) for kind in controlled) for s in at):
            return f"measurements of {words}"
    return missing_texts(store, manifest)


def _controls_of(plan: Mapping[str, Any], off: Mapping[str, str]) -> dict[str, str]:
    """Labels of the controls that a finished run has, each with what a message calls it."""
    found = {f"random-{i}": f"random direction {i}" for i in range(plan["random_directions"]) if "random" not in off}
    found |= {} if ORTHOGONAL in off else {ORTHOGONAL: "the orthogonal direction"}
    return found | ({} if PROMPT in off else {PROMPT: "the prompt baseline"})


def stored_scores(store: Store, label: str, kinds: Sequence[str], strengths: Sequence[float]) -> Scores:
    """Scores of each of these kinds under one label, a row for each strength."""
    return Scores(
        behavior_scores(store, label, strengths) if "behavior" in kinds else None,
        stored_choice_scores(store, strengths, label) if "choice" in kinds else None,
        answer_scores(store, label, strengths) if "answer" in kinds else None,
        text_scores(store, label, strengths) if "text" in kinds else None,
    )


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


def stored_choice_scores(store: Store, strengths: Sequence[float], label: str = "vector") -> ChoiceScores:
    """Choice scores under one label, a row for each strength; a choice's P is of its letter, or of all its words."""
    answers = [item.answer for item in store.items("choice") if isinstance(item, ChoiceItem)]
    return choice_scores(np.array(strengths), _choice_logprobs(store, strengths, label), np.array(answers))


def likeliest_choices(store: Store, strengths: Sequence[float], label: str = "vector") -> npt.NDArray[np.intp]:
    """(n_s, n_items) index of the choice that is likeliest, as `stored_choice_scores` takes their P."""
    return np.asarray(_choice_logprobs(store, strengths, label).max(axis=-1).argmax(axis=-1), np.intp)


def _choice_logprobs(store: Store, strengths: Sequence[float], label: str) -> Floats:
    """(n_s, n_items, n_choices, n_spellings) in nats, -inf where an item has no such choice or spelling."""
    parts = store.continuations("choice")
    places = [_letter_places(item) for item in parts]
    n_choices, n_spellings = np.array([place for item in places for place in item]).max(axis=0) + 1
    logprobs = np.full((len(strengths), len(parts), n_choices, n_spellings), -np.inf)
    for i, strength in enumerate(strengths):
        for j, nats in enumerate(store.logprobs(label, "choice", strength)):
            for (choice, spelling), value in zip(places[j], nats, strict=True):
                logprobs[i, j, choice, spelling] = value
    return logprobs


def answer_chains(store: Store, label: str, strength: float) -> list[list[Floats]]:
    """For each answer item and each of its answers (n_tokens,) ln P(token | prompt and tokens before), in nats."""
    found = []
    for parts, nats in zip(store.continuations("answer"), store.logprobs(label, "answer", strength), strict=True):
        sides = [int(part.side) for part in parts]
        starts = [i for i in range(1, len(sides)) if sides[i] != sides[i - 1]]
        found.append(np.split(nats, starts))
    return found


def answer_scores(store: Store, label: str, strengths: Sequence[float]) -> AnswerScores:
    """Answer scores under one label; which of several answers counts is decided unsteered, see `AnswerScores`."""
    chosen = [likeliest_answer(chains) for chains in answer_chains(store, "vector", 0.0)]
    nats = np.empty((len(strengths), len(chosen)))
    for i, strength in enumerate(strengths):
        chains = answer_chains(store, label, strength)
        nats[i] = [answers[k].sum() for answers, k in zip(chains, chosen, strict=True)]
    parts = [[int(part.side) for part in item] for item in store.continuations("answer")]
    n_tokens = np.array([sides.count(k) for sides, k in zip(parts, chosen, strict=True)])
    return AnswerScores(np.array(strengths), nats, n_tokens)


def text_scores(store: Store, label: str, strengths: Sequence[float]) -> TextScores:
    """Text scores under one label, a row for each strength."""
    nats = [[float(one[0]) for one in store.logprobs(label, "text", strength)] for strength in strengths]
    n_tokens = [len(part.tokens) for (part,) in store.continuations("text")]
    return TextScores(np.array(strengths), np.array(nats), np.array(n_tokens))


def stored_controls(store: Store, manifest: Mapping[str, Any]) -> Controls:
    """The finished controls of a run, and why there are no others."""
    kinds = [kind for kind in manifest["items"] if kind in CONTROLLED]
    labels = {(group.label, group.strength) for group in store.finished() if group.label != "vector"}
    whole = {label: s for label, s in labels if kinds and all(complete(store, label, kind, s) for kind in kinds)}

    def of(label: str, strength: float) -> Control:
        scores = stored_scores(store, label, kinds, [strength])
        return Control(label, scores.behavior, scores.choice, scores.answer)

    numbers = sorted(int(label.removeprefix("random-")) for label in whole if label.startswith("random-"))
    strengths = [s for label, s in whole.items() if label != PROMPT]
    at_0 = bool(kinds) and all(complete(store, "vector", kind, 0.0) for kind in kinds)
    return Controls(
        strength=strengths[0] if strengths else None,
        random=tuple(of(f"random-{i}", whole[f"random-{i}"]) for i in numbers),
        orthogonal=of(ORTHOGONAL, whole[ORTHOGONAL]) if ORTHOGONAL in whole else None,
        prompt=of(PROMPT, 0.0) if PROMPT in whole else None,
        off=dict(manifest["controls_off"]),
        unsteered=of("vector", 0.0) if at_0 else None,
    )


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
