"""Requests that a sweep continues only to show the texts: without steering and at a few strengths, side by side.

    job = showcase_job(engine, requests, max_tokens=48)
    strengths = showcase_strengths(open_run(out))  # runs/showcase.py
    show_texts(engine, store, job, steering=steering, strengths=strengths)

No number follows from them, and they come last, when it is known what is recommended. All strengths of all requests are
rows of one decode (engine/generation.py), which is faster than request by request; the most likely token is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steercpp.data.requests import Request
from steercpp.engine.engine import Engine
from steercpp.engine.generation import GREEDY, generate_each
from steercpp.engine.steering import Steering
from steercpp.errors import NonFiniteError, PromptError
from steercpp.runs.labels import SHOWCASE, Label
from steercpp.runs.store import Store
from steercpp.sweeps.likelihood import text_nats
from steercpp.sweeps.texts import TextJob, TextPlan, Tick, generate_texts, steered, text_of

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


def show_texts(
    engine: Engine,
    store: Store,
    job: ShowcaseJob,
    *,
    steering: Steering | None,
    strengths: Sequence[float],
    tick: Tick | None = None,
) -> None:
    """Continue all requests at all strengths and commit request by request; what is in the store stays.

    Where some are there already, all are decoded again and the others kept: so they are the same as uninterrupted.
    Where a strength drives the activations out of float32's range, it is request by request, as any texts of a sweep.

    Args:
        engine: the model.
        store: takes the texts.
        job: the requests.
        steering: how the vector acts; None for nothing, whatever the strengths.
        strengths: each once.
        tick: called with the tokens of each request, as `ShowcaseJob.n_tokens` has them, and whether they were decoded.

    Raises:
        NonFiniteError, RunError, EngineError: as `generate_texts`.
    """
    texts, n_items, planned = job.texts, len(job.texts.prompts), job.n_tokens
    there = store.draws(texts.label, texts.kind)  # also where an earlier candidate led, before the run was added to
    done = {item for item, draws in there.items() if {(strength, 0) for strength in strengths} <= draws}
    if len(done) == n_items:
        return
    rows = [(item, strength) for item in range(n_items) for strength in strengths]

    waiting = list(range(n_items))

    def told(n: int) -> None:
        """So many requests are finished, about."""
        while waiting and n_items - len(waiting) < n:
            item = waiting.pop(0)
            if tick is not None:
                tick(planned[item], item not in done)

    try:
        generation = generate_each(
            engine, [texts.prompts[item] for item, _ in rows], sampling=[GREEDY] * len(rows),
            steering=[steered(steering, strength) for _, strength in rows], max_tokens=job.text_plan.max_tokens,
            progress=lambda drawn, total: told(drawn * n_items // total),
        )  # fmt: skip
    except NonFiniteError:
        generate_texts(
            engine, store, texts, job.text_plan, steering=steering, strengths=strengths,
            tick=lambda _, is_new: told(n_items - len(waiting) + 1),
        )  # fmt: skip
        return

    # each request's texts, with ln P of each under the unsteered model
    n_decoded, n_decoded_plain = (_shares(n, n_items) for n in (generation.token_layers, generation.token_layers_plain))
    for item, prompt in enumerate(texts.prompts):
        if item not in done:
            before = engine.token_layers
            of_item = [
                (row, strength)
                for row, (i, strength) in zip(generation.rows, rows, strict=True)
                if i == item and (strength, 0) not in there.get(item, ())
            ]
            nats, n_plain = text_nats(engine, prompt, sorted({row.tokens for row, _ in of_item if row.tokens}))
            store.add_texts(
                texts.label, texts.kind, item,
                [replace(text_of(row, strength, item), nats=nats.get(row.tokens)) for row, strength in of_item],
                token_layers=n_decoded[item] + engine.token_layers - before,
                token_layers_plain=n_decoded_plain[item] + n_plain,
            )  # fmt: skip
    told(n_items)


def _shares(total: int, n: int) -> list[int]:
    """A number in n parts that are as equal as whole numbers can be."""
    return [total * (i + 1) // n - total * i // n for i in range(n)]
