"""Contrast pairs out of a steered chat model: each harmful request refused and complied with. Read to make such pairs.

    made = synthesize(engine, vector, requests, strengths=(-1.0, 2.0))
    write_synthetic(Path("pairs.jsonl"), made)

The same model continues each request greedily under the refusing and under the complying strength, side by side; both
texts, request and answer in one template, are a pair, the refusal positive; thoughts before an answer are left out. So
a base model can be given a direction of refusal in words that it might itself go on with. After Wolf et al. 2024,
arXiv:2401.16332 (their synthetic pairs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steercpp.aliases import Progress, Tokens
from steercpp.choices import SynthesisVariant
from steercpp.data.items import BehaviorItem
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Filled, Message, Prompt, prompt_json
from steercpp.data.templates import TEMPLATES
from steercpp.encoding import spelled
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, NonFiniteError, PairsError, PromptError
from steercpp.files import write_whole
from steercpp.vectors.control_vector import ControlVector, manner, vector_sha256

ASKED = TEMPLATES["wolf2024/synthetic"].text


@dataclass(frozen=True, slots=True)
class Variant:
    """How answers become texts.

    Attributes:
        max_tokens: drawn for each answer.
        n_letters: of the answer that stay; None: all.
        template: of the text, with places {instruction} and {answer}.
    """

    max_tokens: int
    n_letters: int | None
    template: str


VARIANTS: dict[SynthesisVariant, Variant] = {
    "paper": Variant(32, None, ASKED + "{answer}"),
    "may": Variant(96, 100, TEMPLATES["wolf2024/synthetic-may"].text + "{answer}"),
}
"""The study's two: of its submission, and of its code in May 2024."""


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Pairs, and how they were made.

    Attributes:
        pairs: in the order of the requests; their ids are the requests' numbers, from 1.
        n_identical: requests left out since both strengths gave the same answer; n_silent: since one gave none.
        made: strengths, unit, vector, model and variant, for the file.
    """

    pairs: tuple[ContrastPair, ...]
    n_identical: int
    n_silent: int
    made: dict[str, Any]


def harmful_requests(items: Sequence[BehaviorItem]) -> tuple[str, ...]:
    """What behavior items ask, each once; those that say they are harmless are left out.

    Raises:
        InputError: none is left.
    """
    texts = [_request(item.prompt) for item in items if item.subject != "harmless"]
    if requests := tuple(dict.fromkeys(text.strip() for text in texts if text.strip())):
        return requests
    raise InputError("no requests: all items are harmless ones; name a set with harmful requests")


def _request(prompt: Prompt) -> str:
    """The words of the user: a template's field, the last message of a chat, or the text."""
    if isinstance(prompt, Filled):
        return prompt.values.get("instruction") or " ".join(prompt.values.values()) or prompt.text
    return prompt if isinstance(prompt, str) else prompt[-1].content


def request_prompt(request: str, *, chat: bool) -> Prompt:
    """What the model continues: the study's template, or the request as a chat."""
    return (Message("user", request),) if chat else Filled(ASKED, {"instruction": request})


def request_tokens(engine: Engine, requests: Sequence[str], *, chat: bool) -> list[Tokens]:
    """Each request as the model gets it.

    Raises:
        PromptError: a request cannot be written for this model; the message starts with its number.
    """
    tokens = []
    for number, request in enumerate(requests, start=1):
        try:
            tokens.append(engine.encode(request_prompt(request, chat=chat)))
        except PromptError as error:
            raise type(error)(f"request {number}: {error}") from error
    return tokens


def synthesize(
    engine: Engine,
    vector: ControlVector,
    requests: Sequence[str],
    *,
    strengths: tuple[float, float],
    variant: SynthesisVariant = "paper",
    chat: bool = False,
    max_tokens: int | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Synthetic:
    """Let a steered model refuse and comply.

    Args:
        engine: the chat model.
        vector: added at every token.
        requests: harmful ones.
        strengths: the refusing and the complying one; in the study -1 and 2, its vector pointing to compliance.
        variant: a name in VARIANTS.
        chat: ask through the model's own chat template, not in the study's words.
        max_tokens: of an answer; None: the variant's.
        about: more to tell in the file.
        progress: called with (requests done, of how many, "requests").

    Raises:
        InputError: fewer than two requests, equal strengths, an unknown variant, or a vector that is not simply added.
        PairsError: fewer than two pairs are left.
        EngineError, PromptError, ...: as `generate`.
    """
    if variant not in VARIANTS:
        raise InputError(f"variant {variant!r} is unknown; use {' or '.join(VARIANTS)}")
    if not requests:
        raise InputError("no requests to answer; give a file or a set with some")
    if strengths[0] == strengths[1]:
        raise InputError(f"both strengths are {strengths[0]:g}; a refusing and a complying one are needed")
    if not vector.is_added_everywhere:
        raise InputError(f"the vector is meant for {manner(vector)}; pairs are made by one added to every token")
    if len(requests) == 1:
        raise InputError("1 request gives at most one pair, and a direction needs two; give more requests")
    how = VARIANTS[variant]
    most = max_tokens or how.max_tokens
    rows = [Steering(vector, strength) if strength else None for strength in strengths]
    pairs, n_identical, n_silent = [], 0, 0
    prompts = request_tokens(engine, requests, chat=chat)
    for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True), start=1):
        answers = generate(engine, prompt, rows, max_tokens=most).rows
        for strength, row in zip(strengths, answers, strict=True):
            if row.finish == "nonfinite":
                raise NonFiniteError(
                    f"at strength {strength:g} the activations leave float32's range; use a smaller strength"
                )
        refusal, compliance = (row.reply.answer.strip()[: how.n_letters].strip() for row in answers)
        if refusal == compliance:
            n_identical += 1
        elif not (refusal and compliance):
            n_silent += 1
        else:
            positive, negative = (
                Filled(how.template, {"instruction": request, "answer": answer}) for answer in (refusal, compliance)
            )
            pairs.append(ContrastPair(str(number), positive, negative))
        if progress is not None:
            progress(number, len(requests), "requests")
    if len(pairs) < 2:
        raise PairsError(
            f"{len(pairs)} of {len(requests)} requests gave a pair, and two are needed ({n_identical} were answered "
            f"alike at both strengths, {n_silent} not at all at one of them); take strengths that lie further apart, "
            "or more requests"
        )
    made = {
        "strengths": {"positive": strengths[0], "negative": strengths[1]}, "variant": variant, "chat": chat,
        "max_tokens": most, "model": spelled(engine.path.name), "model_sha256": engine.sha256,
        "vector_sha256": vector_sha256(vector), "layers": list(vector.layers),
        **(engine.vocabulary.chat_texts if chat else {}), **(about or {}),
    }  # fmt: skip
    return Synthetic(tuple(pairs), n_identical, n_silent, made)


def write_synthetic(path: Path, synthetic: Synthetic, *, force: bool = False) -> None:
    """Write the pairs as JSON Lines, each with how it was made under "made"; the same pairs give the same bytes.

    Raises:
        PairsError: the file exists and `force` is not given, or it cannot be written; then there is none.
    """
    lines = [
        {
            "id": pair.id, "positive": prompt_json(pair.positive), "negative": prompt_json(pair.negative),
            "made": synthetic.made,
        }
        for pair in synthetic.pairs
    ]  # fmt: skip
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_whole(path, text.encode(), force=force, error=PairsError)
