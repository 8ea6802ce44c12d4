"""Generated text for each item's prompt at every strength, kept in a run's store; read this to generate in a sweep.

    job = text_job(engine, items, [(item.prompt, item.template) for item in items], text_plan, kind="behavior")
    generate_texts(engine, store, job, text_plan, steering=steering, strengths=(-1.0, 0.0, 1.0))

An item is continued at all strengths side by side (engine/generation.py). Then ln P of every text under the unsteered
model is measured, from which its perplexity follows: steered text that no unsteered model would write has a high one.
An item is committed when all of that is done, so that an interrupted run goes on at the next item; the same options
give the same texts. Where strengths or samples were added to a run, an item's missing texts alone are generated.

Samples are drawn with a seed of their own for each item and sample, the same at every strength: where two strengths
give the same distributions they give the same text, and what differs is the steering's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, cast

import numpy as np

from steercpp.aliases import Tokens
from steercpp.data.items import AnswerItem, BehaviorItem, CodeItem, Item, Kind, code_prompt, named
from steercpp.data.prompts import Prompt, Template, with_instruction, with_opening
from steercpp.engine.engine import Engine
from steercpp.engine.generation import Generated, generate
from steercpp.engine.sampling import Sampling
from steercpp.engine.steering import Steering
from steercpp.errors import ContextOverflowError, InputError, NonFiniteError, PromptError
from steercpp.judging.texts import GeneratedText
from steercpp.runs.labels import NUMBERED, Label, continued
from steercpp.runs.plan import TextOptions
from steercpp.runs.store import Store
from steercpp.sweeps.likelihood import Reader, read_texts, text_nats

Draw: TypeAlias = tuple[float, int]  # strength and number of the sample
Tick: TypeAlias = Callable[[int, bool], None]
_NO_SEED = 2**32 - 1  # llama.cpp's own for a new seed each time


@dataclass(frozen=True, slots=True)
class TextPlan(TextOptions):
    """How prompts are continued; its attributes are those of `TextOptions`.

    Raises:
        InputError: a value out of range.

    >>> TextPlan(max_tokens=24, samples=2, temperature=0.8).samples
    2
    """

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"max new tokens {self.max_tokens}: give at least 1, or leave texts out")
        if self.samples < 1:
            raise InputError(f"{self.samples} samples: give at least 1")
        if self.samples > 1 and not self.temperature:
            raise InputError(f"{self.samples} samples without a temperature would be the same text; give a temperature")
        if not all(self.stop):
            raise InputError("a stop string is empty; leave it out")
        self.sampling(0, 0)

    def sampling(self, item: int, sample: int) -> Sampling:
        """How one sample of one item is drawn, at every strength."""
        drawn = np.random.SeedSequence([self.seed, item, sample]).generate_state(1)[0] if self.temperature else 0
        return Sampling(temperature=self.temperature, top_p=self.top_p, seed=int(drawn) % _NO_SEED)


Saying = TextPlan  # its name in earlier versions, which scripts may import


@dataclass(frozen=True, slots=True)
class TextTask:
    """One item's prompt to be continued.

    Attributes:
        label, kind: as in `TextJob`.
        item: its number.
        prompt: as tokens.
        asked: prompts after which the unsteered model reads what was generated: with the instruction, and with its
            opposite; None where it is not asked.
    """

    label: str
    kind: str
    item: int
    prompt: Tokens
    asked: tuple[Tokens, Tokens] | None


@dataclass(frozen=True, slots=True)
class TextJob:
    """Prompts that are to be continued, as tokens.

    Attributes:
        label: under which name the texts are kept.
        kind: of the items.
        prompts: one for each item, in the order of their numbers.
        reader: the prompts after which the unsteered model reads what was generated; None where it is not asked.
    """

    label: str
    kind: str
    prompts: tuple[Tokens, ...]
    reader: Reader | None = None

    def task(self, item: int) -> TextTask:
        """What is to be done for one item, by its number."""
        asked = None if self.reader is None else self.reader.asked(item)
        return TextTask(self.label, self.kind, item, self.prompts[item], asked)

    def n_tokens(self, text_plan: TextPlan, n_strengths: int) -> tuple[int, ...]:
        """Tokens decoded at most for each item, for progress."""
        n_rows = n_strengths * text_plan.samples
        return tuple(n_rows * n for n in self.n_tokens_of_a_text(text_plan))

    def n_tokens_of_a_text(self, text_plan: TextPlan) -> tuple[int, ...]:
        """The same for one text of each item."""
        return tuple(len(prompt) + text_plan.max_tokens for prompt in self.prompts)


def text_job(
    engine: Engine,
    items: Sequence[Item],
    prompts: Sequence[tuple[Prompt, Template]],
    text_plan: TextPlan,
    *,
    kind: str,
    label: str = Label.VECTOR,
    instruction: str = "",
    opens: bool = False,
) -> TextJob:
    """The prompts of items, tokenized, before anything is decoded.

    Args:
        engine: the model.
        items: whose prompts they are, for messages.
        prompts: the prompt of each item, and how it is written.
        text_plan: how they will be continued.
        kind: of the items.
        label: for the texts.
        instruction: stands before every prompt; "" for none.
        opens: whether it opens what the prompt asks instead, as in the prompts of contrast pairs.

    Raises:
        PromptError: a prompt cannot be written in the model's template.
        ContextOverflowError: a prompt and the tokens to come do not fit into the context.
    """
    encoded = []
    for item, (prompt, template) in zip(items, prompts, strict=True):
        try:
            if instruction:
                asked = with_opening if opens else with_instruction
                prompt = asked(prompt, instruction, template=template, between=engine.vocabulary.paragraph)
            tokens = tuple(engine.encode(prompt, template=template))
        except PromptError as error:
            raise type(error)(f"{named(item)}: {error}") from error
        if len(tokens) + text_plan.max_tokens > engine.n_ctx:
            raise ContextOverflowError(
                f"{named(item)}: {len(tokens)} prompt tokens and {text_plan.max_tokens} new ones need more than the "
                f"context's {engine.n_ctx}; shorten it, lower `max_tokens` or raise `n_ctx`"
            )
        encoded.append(tokens)
    return TextJob(label, kind, tuple(encoded))


def generate_texts(
    engine: Engine,
    store: Store,
    job: TextJob,
    text_plan: TextPlan,
    *,
    steering: Steering | None,
    strengths: Sequence[float],
    tick: Tick | None = None,
) -> None:
    """Continue every prompt at every strength and commit item by item; texts in the store are passed over.

    A strength that drives the activations out of float32's range has the text "" with the finish "nonfinite".

    Args:
        engine: the model.
        store: takes the texts.
        job: the prompts.
        text_plan: how to continue them.
        steering: how the vector acts; None for nothing, whatever the strengths.
        strengths: each once; at 0 nothing is steered, whatever the operator.
        tick: called with tokens of each item, as `TextJob.n_tokens` has them, and whether they were decoded now.

    Raises:
        NonFiniteError: the unsteered model's output is not finite.
        RunError: nothing can be written. EngineError: a decode failed. What was committed stays.
    """
    missing = missing_draws(store, job, text_plan, strengths)
    n_tokens, n_draws = job.n_tokens_of_a_text(text_plan), len(strengths) * text_plan.samples
    for item, draws in enumerate(missing):
        if tick is not None and len(draws) < n_draws:
            tick(n_tokens[item] * (n_draws - len(draws)), False)
        if draws:
            item_texts(engine, job.task(item), text_plan, steering=steering, draws=draws).add_to(store)
            if tick is not None:
                tick(n_tokens[item] * len(draws), True)


def missing_draws(
    store: Store, job: TextJob, text_plan: TextPlan, strengths: Sequence[float]
) -> list[tuple[Draw, ...]]:
    """For each item what is to be generated at these strengths and is not in the store."""
    there = store.draws(job.label, job.kind)
    planned = [(strength, sample) for strength in strengths for sample in range(text_plan.samples)]
    return [
        tuple(draw for draw in planned if draw not in there.get(item, ())) for item in range(len(job.prompts))
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ItemTexts:
    """Texts of an item, as the store takes them; see `Store.add_texts`."""

    label: str
    kind: str
    item: int
    texts: list[GeneratedText]
    token_layers: int
    token_layers_plain: int

    def add_to(self, store: Store) -> None:
        """Commit them."""
        store.add_texts(
            self.label, self.kind, self.item, self.texts, token_layers=self.token_layers,
            token_layers_plain=self.token_layers_plain,
        )  # fmt: skip


def item_texts(
    engine: Engine,
    task: TextTask,
    text_plan: TextPlan,
    *,
    steering: Steering | None,
    draws: Sequence[Draw],
) -> ItemTexts:
    """Continue the prompt of one item once for each draw, and read what was generated; as `generate_texts`."""
    prompt, before = task.prompt, engine.token_layers
    generated = _Generator(engine, task.item, prompt, text_plan, steering).texts(draws)
    order = sorted({tokens for _, tokens in generated.texts if tokens})
    nats, n_plain = text_nats(engine, prompt, order)
    readings, n_read = ({}, 0) if task.asked is None else read_texts(engine, *task.asked, order)
    texts = [replace(text, nats=nats.get(tokens), reading=readings.get(tokens)) for text, tokens in generated.texts]
    return ItemTexts(
        task.label, task.kind, task.item, texts, generated.token_layers + engine.token_layers - before,
        generated.token_layers_plain + n_plain + n_read,
    )  # fmt: skip


@dataclass(slots=True)
class _OfItem:
    """The texts of one item with their tokens, and the work."""

    texts: list[tuple[GeneratedText, Tokens]]
    token_layers: int
    token_layers_plain: int


@dataclass(frozen=True, slots=True)
class _Generator:
    """Continues the prompt of one item."""

    engine: Engine
    item: int
    prompt: Tokens
    text_plan: TextPlan
    steering: Steering | None

    def texts(self, rows: Sequence[Draw]) -> _OfItem:
        """The text of each row, a strength and a sample; none of a strength at which one leaves float32's range."""
        try:
            generation = generate(
                self.engine, self.prompt, [steered(self.steering, strength) for strength, _ in rows],
                max_tokens=self.text_plan.max_tokens,
                sampling=[self.text_plan.sampling(self.item, sample) for _, sample in rows], stop=self.text_plan.stop,
            )  # fmt: skip
        except NonFiniteError:  # all of them do
            if self.steering is None or any(strength == 0 for strength, _ in rows):
                raise
            return _OfItem([self._without_text(*row) for row in rows], 0, 0)
        out_of_range = {
            strength for (strength, _), row in zip(rows, generation.rows, strict=True) if row.finish == "nonfinite"
        }
        if 0 in out_of_range:
            raise NonFiniteError(f"{self.engine.path}: unsteered output is not finite; check the model file")
        texts: list[tuple[GeneratedText, Tokens]] = []
        for (strength, sample), row in zip(rows, generation.rows, strict=True):
            if strength in out_of_range:
                texts.append(self._without_text(strength, sample))
            else:
                texts.append((text_of(row, strength, self.item, sample), row.tokens))
        return _OfItem(texts, generation.token_layers, generation.token_layers_plain)

    def _without_text(self, strength: float, sample: int) -> tuple[GeneratedText, Tokens]:
        """What is kept of a row out of float32's range."""
        return GeneratedText(strength, self.item, sample, "", 0, "nonfinite", None), ()


def text_of(row: Generated, strength: float, item: int, sample: int = 0) -> GeneratedText:
    """What was generated, as it is kept; its log-probability is not known yet."""
    return GeneratedText(strength, item, sample, row.text, len(row.tokens), row.finish, None, row.in_thought)


def steered(steering: Steering | None, strength: float) -> Steering | None:
    """What steers a row; nothing at strength 0, whatever the operator."""
    if steering is None:
        return None
    at = steering.at(strength)
    return at if strength or at.idle else None


def text_jobs(
    engine: Engine,
    text_plan: TextPlan | None,
    items: Mapping[str, Sequence[Item]] | Mapping[Kind, Sequence[Item]],
    *,
    instruction: str,
    sides: tuple[str, str] | None = None,
) -> tuple[TextJob, ...]:
    """All prompts of a sweep that are to be continued.

    Args:
        engine: the model.
        text_plan: how; None for none.
        items: by kind.
        instruction: what the prompt baseline asks for; "" for no baseline.
        sides: what asks for the behavior and for its opposite, where the model reads the texts of behavior items; it
            continues their prompts asked for either, too.

    Raises:
        PromptError, ContextOverflowError: as `text_job`.
    """
    if text_plan is None:
        return ()

    jobs = []
    if behavior := cast("Sequence[BehaviorItem]", items.get(Kind.BEHAVIOR, ())):
        prompts: list[tuple[Prompt, Template]] = [(item.prompt, item.template) for item in behavior]
        of_behavior = partial(text_job, engine, behavior, prompts, text_plan, kind=Kind.BEHAVIOR)
        jobs.append(of_behavior())
        if instruction:
            jobs.append(of_behavior(label=Label.PROMPT, instruction=instruction))
        if sides is not None:
            words, opposite = (
                of_behavior(label=label, instruction=side, opens=True)
                for label, side in zip((Label.WORDS, Label.OPPOSITE), sides, strict=True)
            )
            reader = Reader(words.prompts, opposite.prompts)
            jobs = [replace(job, reader=reader) for job in (*jobs, words, opposite)]
    if code := cast("Sequence[CodeItem]", items.get(Kind.CODE, ())):
        prompts = [code_prompt(item, text_plan.code_template) for item in code]
        jobs.append(text_job(engine, code, prompts, text_plan, kind=Kind.CODE))
    if NUMBERED in continued(items):
        answers = cast("Sequence[AnswerItem]", items[NUMBERED])
        prompts = [(item.prompt, item.template) for item in answers]
        jobs.append(text_job(engine, answers, prompts, text_plan, kind=NUMBERED))
    return tuple(jobs)
