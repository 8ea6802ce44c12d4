"""From stored log-probabilities to scores; read this to score a run in another way, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Floats
from steercpp.data.items import ChoiceItem
from steercpp.runs.store import Continuation, Store, missing_texts
from steercpp.statistics.scores import (
    AnswerScores,
    BehaviorScores,
    ChoiceScores,
    TextScores,
    choice_scores,
    likeliest_answer,
    total_logprob,
)

# FOLD: What a steering vector is compared with: random and orthogonal directions, and asking in words; read this f  # noqa
ORTHOGONAL, PROMPT = "orthogonal", "prompt"
CONTROLLED = ("behavior", "choice", "answer")  # the kinds that controls are measured on
Name: TypeAlias = Literal["random", "orthogonal", "prompt"]

SWITCHED_OFF: Mapping[Name, str] = {
    "random": "switched off with --random 0",
    "orthogonal": "switched off with --no-orthogonal",
    "prompt": "switched off with --no-prompt-baseline",
}
NO_INSTRUCTION = "no instruction was given; say it with --instruction"
NO_STRENGTH = "no strength of the wanted sign was measured, so there is none to compare at"
NO_ITEMS = "there are neither behavior, choice nor answer items to compare on"


@dataclass(frozen=True, slots=True)
class Row:
    """Means over items at one strength; None where the kind of item is not in the sweep.

    Attributes:
        strength: of the vector.
        b, b_raw, mass: normalised B, P+ - P-, and P+ + P-.
        p_free, p_restricted, accuracy: P(correct) over the vocabulary and over the choices, share of right choices.
        p_answer, nats_answer: of free answers, the geometric mean P per token, and ln P of the whole answer.
        perplexity: of the texts, over all their tokens.
    """

    strength: float
    b: float | None = None
    b_raw: float | None = None
    mass: float | None = None
    p_free: float | None = None
    p_restricted: float | None = None
    accuracy: float | None = None
    p_answer: float | None = None
    nats_answer: float | None = None
    perplexity: float | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of each kind of item, all at the same strengths; None where the kind was not measured."""

    behavior: BehaviorScores | None = None
    choice: ChoiceScores | None = None
    answer: AnswerScores | None = None
    text: TextScores | None = None

    @property
    def strengths(self) -> Floats:
        """(n_s,) as they were measured."""
        return next(
            (one.strengths for one in (self.behavior, self.choice, self.answer, self.text) if one), np.array([])
        )

    def rows(self) -> tuple[Row, ...]:
        """Means at each strength."""
        b, c, a, t = self.behavior, self.choice, self.answer, self.text
        columns = (
            *((b.mean_normalized, b.mean_raw, b.mean_mass) if b else (None,) * 3),
            *((c.mean_p_free, c.mean_p_restricted, c.accuracy) if c else (None,) * 3),
            *((a.mean_p_token, a.mean_nats) if a else (None,) * 2),
            t.perplexity if t else None,
        )
        return tuple(
            Row(float(s), *(None if column is None else float(column[i]) for column in columns))
            for i, s in enumerate(self.strengths)
        )


@dataclass(frozen=True, slots=True)
class Control:
    """What was measured under one label at one strength; None for a kind of item that the sweep lacks."""

    label: str
    behavior: BehaviorScores | None
    choice: ChoiceScores | None
    answer: AnswerScores | None = None

    @property
    def row(self) -> Row:
        """Means over items."""
        return Scores(self.behavior, self.choice, self.answer).rows()[0]


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """The controls of a sweep, as far as they are measured.

    Attributes:
        strength: where the directions were measured; None where none were.
        random: each random direction.
        orthogonal: the direction orthogonal to the vector at every layer.
        prompt: the instruction before every prompt, at strength 0.
        off: for each of "random", "orthogonal" and "prompt" that is not to be had, why.
        unsteered: the same items at strength 0 without an instruction, which changes are counted from.
    """

    strength: float | None
    random: tuple[Control, ...]
    orthogonal: Control | None
    prompt: Control | None
    off: Mapping[str, str]
    unsteered: Control | None = None

    @property
    def raw_changes(self) -> Floats:
        """(n_random,) change of mean raw B by each random direction; empty without behavior items."""
        return self._changes("b_raw")

    @property
    def normalized_changes(self) -> Floats:
        """(n_random,) change of mean normalised B, likewise."""
        return self._changes("b")

    def _changes(self, key: str) -> Floats:
        base = None if self.unsteered is None else getattr(self.unsteered.row, key)
        if base is None:
            return np.array([])
        return np.array([getattr(one.row, key) - base for one in self.random])

    def record(self) -> dict[str, Any]:
        """Plain data for JSON: the means under each control; of the random directions also how much they change B."""

        def means(one: Control | None) -> dict[str, Any] | None:
            return None if one is None else {"label": one.label, **asdict(one.row)}

        found: dict[str, Any] = {
            "strength": self.strength, "n": len(self.random), "off": dict(self.off),
            "unsteered": means(self.unsteered), "random": [means(one) for one in self.random],
            "orthogonal": means(self.orthogonal), "prompt": means(self.prompt),
        }  # fmt: skip
        for name, changes in (("b", self.normalized_changes), ("b_raw", self.raw_changes)):
            sizes = np.abs(changes)
            found[name] = None if not len(changes) else {
                "changes": changes.tolist(), "median": float(np.median(sizes)), "maximum": float(sizes.max())
            }  # fmt: skip
        return found


def control_strength(
    strengths: Floats,
    behavior: BehaviorScores | None,
    helpful: Floats | None,
    *,
    direction: int,
    recommended: float | None,
) -> float | None:
    """Where directions are compared: the recommended strength; else the one of the largest gain in raw B.

    Without behavior items it is the farthest strength from 0 up to which half of the unsteered helpfulness is left:
    beyond, any push of that size has done its damage.

    Args:
        strengths: (n_s,) as they were measured.
        behavior: there, None without such items.
        helpful: (n_s, n_items) helpfulness there, between 0 and 1; None without such items.
        direction: 1 or -1, the wanted sign.
        recommended: the recommended strength, None without one.

    Returns:
        None where no strength of the wanted sign was measured, or only texts.
    """
    if recommended is not None:
        return recommended
    wanted = sorted((i for i, s in enumerate(strengths) if s * direction > 0), key=lambda i: abs(strengths[i]))
    if not wanted:
        return None
    if behavior is not None:
        gains = behavior.mean_raw
        return float(strengths[max(wanted, key=lambda i: gains[i])])
    if helpful is None or 0.0 not in strengths:
        return None
    means = helpful.mean(axis=1)
    half = means[strengths == 0.0][0] / 2
    lost = next((place for place, i in enumerate(wanted) if means[i] < half), len(wanted))
    return float(strengths[wanted[max(lost - 1, 0)]])


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


def _where(parts: Sequence[Continuation], side: str) -> list[int]:
    return [i for i, part in enumerate(parts) if part.side == side]


def _letter_places(parts: Sequence[Continuation]) -> list[tuple[int, int]]:
    """(choice, number of the spelling) of each of a choice item's continuations."""
    choices = [int(part.side) for part in parts]
    return [(choice, choices[:i].count(choice)) for i, choice in enumerate(choices)]
