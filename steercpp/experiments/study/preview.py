"""What a study would ask, and what it would cost, before anything is measured: `steercpp study --dry-run`.

Tokens and token-layers follow from the packed batches: strength 0 takes every block, any other strength the blocks from
the first steered one on, and so do the directions that are controls. Of texts the longest allowed is counted. The time
is what one batch and a few drawn tokens took here, at that rate: the machine's other work, and texts that end sooner,
make it another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from steercpp.choices import Sign
from steercpp.data.items import choice_form_of, code_prompt, prompt_of
from steercpp.data.prompts import Prompt, Template
from steercpp.data.sets.names import contrast_pairs
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.experiments.study.inputs import RunItems, StudyModels, run_items
from steercpp.experiments.study.parts import ItemSpec
from steercpp.experiments.study.preset import Preset, Role, RunSpec, VectorSpec, with_included
from steercpp.experiments.study.study import Choices, synthesis_requests, text_plan_of
from steercpp.experiments.synthesis import VARIANTS, request_prompt, request_tokens
from steercpp.runs.labels import CONTROLLED, Label
from steercpp.sweeps.measure import packed_for
from steercpp.sweeps.strengths import grid
from steercpp.sweeps.texts import TextJob, text_jobs
from steercpp.sweeps.work import WORKS, Work, prompted_work
from steercpp.vectors.layers import default_layers, parse_layers

STEPS = 4  # tokens drawn to see how long one takes


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a model is here: token-layers a second of prompts, and seconds for a token of `n_rows` texts at once."""

    token_layers_per_s: float
    step_s: float
    n_rows: int

    def seconds(self, token_layers: int, n_drawn: int) -> float:
        """About how long so many token-layers of prompts, and so many tokens of texts, take."""
        return token_layers / self.token_layers_per_s + n_drawn / self.n_rows * self.step_s


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a study: a vector, pairs that a model makes, or a run.

    Attributes:
        preset: whose part it is.
        title: what it is.
        counts: of what there is how much, in words.
        n_tokens: of prompts and scored continuations, in one pass.
        token_layers: tokens times blocks, of all passes.
        n_drawn: tokens of texts, at most.
        seconds: about how long it takes here.
        prompts: of each kind the first prompt with how it becomes text, which may be shown.
    """

    preset: str
    title: str
    counts: Mapping[str, int]
    n_tokens: int
    token_layers: int
    n_drawn: int
    seconds: float
    prompts: Mapping[str, tuple[Prompt, Template]]


def preview(
    preset: Preset, models: Mapping[Role, Path], *, load: Callable[[Path], Engine], choices: Choices | None = None
) -> tuple[Step, ...]:
    """The parts of a study in the order in which they would be done.

    Raises:
        InputError, SteerError: whatever would keep the study from starting: names, files, prompts that do not fit.
    """
    choices = choices or Choices()
    steps: list[Step] = []
    with StudyModels(models, load) as opened:
        for included in with_included(preset):
            view = _View(included, opened, choices, {})
            steps += [view.vector(name, choices.of_vector(spec)) for name, spec in included.vectors.items()]
            steps += [view.run(name, choices.of_run(spec)) for name, spec in included.runs.items()]
    return tuple(steps)


def sweep_token_layers(
    works: Mapping[str, Work], *, n_layer: int, first_layer: int, n_strengths: int, n_controls: int
) -> int:
    """Tokens times blocks of a sweep: one pass in full, and others above the first steered layer.

    Args:
        works: the packed items of each kind.
        n_layer: blocks of the model.
        first_layer: the lowest steered one.
        n_strengths: of the grid, 0 among them.
        n_controls: directions beside the vector's, measured at one strength.
    """
    total = 0
    for kind, work in works.items():
        passes = n_strengths - 1 + (n_controls if kind in CONTROLLED else 0)
        total += work.n_tokens * (n_layer + passes * (n_layer - first_layer - 1))
    return total


@dataclass(frozen=True, slots=True)
class RunWork:
    """Tokens of one pass over a run's items, token-layers of all passes, and tokens of texts; of texts at most."""

    n_tokens: int
    token_layers: int
    n_drawn: int


@dataclass(frozen=True, slots=True)
class AskedWork:
    """What items are on a model, before it is said where and how far they are steered.

    Attributes:
        engine, items, spec: the model, and what it is asked.
        works: the packed items of each kind that is scored.
        n_baseline: tokens of the prompt baseline, 0 without one.
        jobs: prompts that are continued by texts.
    """

    engine: Engine
    items: RunItems
    spec: ItemSpec
    works: Mapping[str, Work]
    n_baseline: int
    jobs: Sequence[TextJob]

    @classmethod
    def of(cls, engine: Engine, items: RunItems, spec: ItemSpec, *, seed: int) -> AskedWork:
        """The items of a run.

        Raises:
            TaskError, PromptError, ContextOverflowError: an item cannot be asked, see sweeps/work.py.
        """
        works = {kind: WORKS[kind](engine, some) for kind, some in items.by_kind.items() if kind in WORKS}
        baseline = [prompted_work(engine, work, items.instruction) for kind, work in works.items()
                    if kind in CONTROLLED and items.instruction]  # fmt: skip
        fits = all(isinstance(work, Work) for work in baseline)  # else the sweep goes without one
        n_baseline = sum(work.n_tokens for work in baseline if isinstance(work, Work)) if fits else 0
        plan, instruction = text_plan_of(spec, seed=seed), items.instruction if fits else ""
        jobs = text_jobs(engine, plan, items.by_kind, instruction=instruction) if plan else ()
        return cls(engine, items, spec, works, n_baseline, jobs)

    def at(
        self, *, first_layer: int, strengths: Sequence[float], direction: Sign, n_directions: int,
        steering: Steering | None = None,
    ) -> RunWork:  # fmt: skip
        """What a run of them takes.

        Args:
            first_layer: the lowest steered one.
            strengths: the grid, 0 among them.
            direction: the wanted sign; the controls are measured on its side.
            n_directions: random ones, and the orthogonal one.
            steering: how the vector acts, where it is not added everywhere: then less is shared between prompts.
        """
        works, n_layer = self.works, self.engine.n_layer
        if steering is not None and not steering.is_plain:
            works = {kind: packed_for(self.engine, work, steering) for kind, work in works.items()}
        has_controls = any(strength * (1 if direction == "+" else -1) > 0 for strength in strengths)
        scored = sweep_token_layers(
            works, n_layer=n_layer, first_layer=first_layer, n_strengths=len(strengths),
            n_controls=n_directions * has_controls,
        )  # fmt: skip
        n_drawn = n_read = 0
        for job in self.jobs:  # every row reads its prompt, draws, and is read again
            n_rows = (1 if job.label == Label.PROMPT else len(strengths)) * self.spec.samples
            n_drawn += n_rows * len(job.prompts) * self.spec.max_tokens
            n_read += (n_rows + 1) * sum(map(len, job.prompts))  # once for each row, once for ln P of all texts
        n_tokens = sum(work.n_tokens for work in works.values())
        n_tokens += sum(len(prompt) for job in self.jobs if job.kind == "code" for prompt in job.prompts)
        return RunWork(n_tokens, scored + (self.n_baseline + n_read + 2 * n_drawn) * n_layer, n_drawn)

    def first_prompts(self) -> dict[str, tuple[Prompt, Template]]:
        """The first prompt of each kind."""
        form = choice_form_of(self.items.choice, self.engine.vocabulary.writes)
        prompts = {kind: prompt_of(some[0], form)[:2] for kind, some in self.items.by_kind.items()}
        if self.items.code:
            template = "raw" if self.spec.template == "auto" else self.spec.template
            prompts["code"] = code_prompt(self.items.code[0], template)
        return prompts


@dataclass(frozen=True, slots=True)
class _View:
    """One preset, looked at with the models at hand."""

    preset: Preset
    models: StudyModels
    choices: Choices
    rates: dict[Path, Rates]

    def vector(self, name: str, spec: VectorSpec) -> Step:
        """A vector, with the pairs that a model makes for it if there are any."""
        engine = self.models.of(spec.model)
        if (made := self.preset.synthesis.get(spec.pairs)) is not None:
            requests = synthesis_requests(made, self.choices)
            wanted = [request_prompt(request, chat=False) for request in requests]
            n_tokens = 2 * sum(map(len, request_tokens(engine, requests, chat=False)))
            n_drawn = 2 * len(requests) * (made.max_tokens or VARIANTS[made.variant].max_tokens)
            # what is drawn is read once more for the vector
            work = 2 * (n_tokens + n_drawn) * engine.n_layer
            title = f"vector {name}: {made.model} model answers, steered by {made.vector}"
            seconds = self._seconds(spec.model, 2 * n_tokens * engine.n_layer, n_drawn)
            first: dict[str, tuple[Prompt, Template]] = {"request": (wanted[0], "raw")}
            counts = {"requests": len(requests)}
            return Step(self.preset.name, title, counts, n_tokens, work, n_drawn, seconds, first)
        pairs = tuple(contrast_pairs(spec.pairs, data=self.choices.data, limit=spec.limit))
        n_tokens = sum(len(engine.encode(text, template=spec.template)) for pair in pairs for _, text, _ in pair.sides)
        work = n_tokens * engine.n_layer
        prompts = {side: (prompt, spec.template) for side, prompt, _ in pairs[0].sides}
        seconds, counts = self._seconds(spec.model, work, 0), {"pairs": len(pairs)}
        return Step(self.preset.name, f"vector {name}", counts, n_tokens, work, 0, seconds, prompts)

    def run(self, name: str, spec: RunSpec) -> Step:
        """A run."""
        items = run_items(spec, data=self.choices.data, limit=self.choices.limit)
        engine = self.models.of(spec.model)
        layers = self.choices.of_vector(self.preset.vectors[spec.vector]).layers
        first = min(parse_layers(layers, engine.n_layer) if layers else default_layers(engine.n_layer))
        asked = AskedWork.of(engine, items, spec, seed=self.choices.seed)
        work = asked.at(first_layer=first, strengths=grid(spec.strengths), direction=spec.direction,
                        n_directions=spec.random_directions + 1)  # fmt: skip
        counts = {kind: len(some) for kind, some in items.by_kind.items()} | {"strengths": len(grid(spec.strengths))}
        return Step(
            self.preset.name, f"run {name}", counts, work.n_tokens, work.token_layers, work.n_drawn,
            self._seconds(spec.model, work.token_layers - work.n_drawn * engine.n_layer, work.n_drawn),
            asked.first_prompts(),
        )  # fmt: skip

    def _seconds(self, role: Role, token_layers: int, n_drawn: int) -> float:
        """About how long so much takes here."""
        path = self.models.path(role)
        if path not in self.rates:
            self.rates[path] = measured_rates(self.models.of(role))
        return self.rates[path].seconds(token_layers, n_drawn)


def measured_rates(engine: Engine, *, n_rows: int = 16) -> Rates:
    """How fast a model is here, by a batch of prompt tokens and a few tokens of `n_rows` texts side by side."""
    size = min(int(engine.settings()["n_batch"]), engine.n_ctx) // 2
    begin = (engine.bos,) if engine.bos >= 0 else ()
    prompt = (*begin, *(i % engine.n_vocab for i in range(300, 300 + size)))[:size]
    (batch,) = engine.pack([Query(prompt, ((prompt[-1],),))])
    engine.logprobs(batch)  # once to bring the file's pages in
    begun = perf_counter()
    engine.logprobs(batch)
    pass_s = perf_counter() - begun
    taken = []
    for n_tokens in (1, 1 + STEPS):
        begun = perf_counter()
        generate(engine, prompt[:8], [None] * n_rows, max_tokens=n_tokens)
        taken.append(perf_counter() - begun)
    return Rates(size * engine.n_layer / pass_s, max(taken[1] - taken[0], 1e-9) / STEPS, n_rows)
