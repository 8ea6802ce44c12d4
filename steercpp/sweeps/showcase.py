"""Requests that a sweep continues only to show the texts: without steering and at a few strengths, side by side.

    job = showcase_job(engine, requests, max_tokens=48)
    strengths = showcase_strengths(open_run(out))  # runs/showcase.py
    generate_texts(engine, store, job.texts, job.text_plan, steering=steering, strengths=strengths)

No number follows from them, and they come last, when it is known what is recommended. All strengths of a request are
rows of one decode (engine/generation.py); the most likely token is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steercpp.data.requests import Request
from steercpp.engine.engine import Engine
from steercpp.errors import PromptError
from steercpp.runs.labels import SHOWCASE, Label
from steercpp.sweeps.texts import TextJob, TextPlan

MOST_STRENGTHS = 5  # see `showcase_strengths`


@dataclass(frozen=True, slots=True)
class ShowcaseJob:
    """Requests to continue.

    Attributes:
        requests: those that can be asked.
        texts: their prompts, in the same order.
        text_plan: how they are continued.
        notes: why some cannot be asked, in sentences.
    """

    requests: tuple[Request, ...]
    texts: TextJob
    text_plan: TextPlan
    notes: tuple[str, ...] = ()

    @property
    def n_tokens(self) -> tuple[int, ...]:
        """Tokens decoded at most for each request."""
        return self.texts.n_tokens(self.text_plan, MOST_STRENGTHS)


def showcase_job(engine: Engine, requests: Sequence[Request], *, max_tokens: int) -> ShowcaseJob | None:
    """The requests as tokens, before anything is decoded; None without any.

    A request that the model's template or context has no room for is left out, with a note: nothing depends on it.

    Args:
        engine: the model.
        requests: what to ask.
        max_tokens: of each text.
    """
    asked: list[Request] = []
    prompts: list[tuple[int, ...]] = []
    reasons: list[str] = []
    for request in requests:
        try:
            tokens = tuple(engine.encode(request.prompt, template=request.template))
        except PromptError as error:
            reasons.append(f"{request.named}: {error}")
            continue
        if len(tokens) + max_tokens > engine.n_ctx:
            reasons.append(
                f"{request.named}: {len(tokens)} prompt tokens and {max_tokens} new ones need more than the context's "
                f"{engine.n_ctx}"
            )
            continue
        asked.append(request)
        prompts.append(tokens)
    if not requests:
        return None
    notes = (f"{len(reasons)} of {len(requests)} requests to show are left out; {reasons[0]}",) if reasons else ()
    return ShowcaseJob(
        tuple(asked), TextJob(Label.VECTOR, SHOWCASE, tuple(prompts)), TextPlan(max_tokens), notes
    )  # fmt: skip
