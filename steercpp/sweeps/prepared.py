"""All that a sweep decodes, made of its items before anything is written: read this for what is asked of a model.

Whatever can be wrong with an item is found here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from steercpp.data.items import CodeItem, Item, Kind, code_prompt, prompt_of
from steercpp.data.prompts import Prompt, Template, with_instruction
from steercpp.engine.engine import Engine
from steercpp.errors import ContextOverflowError, PromptError
from steercpp.runs.labels import CONTROLLED, OWN_TELLING, ControlName
from steercpp.runs.manifest import Manifest
from steercpp.runs.scores import NO_ITEMS
from steercpp.sweeps.growing import Growth
from steercpp.sweeps.showcase import ShowcaseJob, showcase_job
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.texts import TextJob, text_jobs
from steercpp.sweeps.work import FROM_THE_FIRST, WORKS, Work, prompted_work


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a sweep decodes, as tokens.

    Attributes:
        work: the items by kind, but for testing own answers.
        baseline: those that controls are measured on, with the instruction before their prompts; empty without one.
        jobs: prompts to be continued by generated text.
        controls_off: controls that are not to be had, with the reason.
        showcase: requests that are only shown; None without any.
        telling: testing own answers, at most one.
    """

    work: Sequence[Work]
    baseline: Sequence[Work]
    jobs: Sequence[TextJob]
    controls_off: dict[str, str]
    showcase: ShowcaseJob | None = None
    telling: Sequence[Work] = ()

    @property
    def all_work(self) -> Sequence[Work]:
        """Those that tell too."""
        return [*self.work, *self.telling]

    @property
    def prompts(self) -> Sequence[Sequence[int]]:
        """Those that norms and KL are taken over."""
        return self.work[0].prompts if self.work else self.jobs[0].prompts


def prepared_for(engine: Engine, spec: SweepSpec, work: Sequence[Work]) -> Prepared:
    """The work with its prompt baseline, or why there is none."""
    showcase = showcase_job(engine, spec.showcase, max_tokens=spec.showcase_tokens)
    off = spec.controls_off
    telling = [of_kind for of_kind in work if of_kind.kind == OWN_TELLING]
    work = [of_kind for of_kind in work if of_kind.kind != OWN_TELLING]
    in_controls = [of_kind for of_kind in work if of_kind.kind in CONTROLLED]
    if not in_controls:
        off = dict.fromkeys(map(str, ControlName), NO_ITEMS) | off
    sides = (spec.instruction, spec.opposite) if spec.opposite else None
    jobs = text_jobs(engine, spec.text_plan, spec.items, instruction="", sides=sides)
    if ControlName.PROMPT in off:
        return Prepared(work, [], jobs, off, showcase, telling)
    baseline: list[Work] = []
    reason = ""
    for of_kind in in_controls:
        prompted = prompted_work(engine, of_kind, spec.instruction)
        if isinstance(prompted, str):
            reason = reason or prompted
        else:
            baseline.append(prompted)
    try:
        jobs_of_both = text_jobs(engine, spec.text_plan, spec.items, instruction=spec.instruction, sides=sides)
    except (ContextOverflowError, PromptError) as error:
        reason = reason or f"with the instruction before it, {error}"
    if reason:
        return Prepared(work, [], jobs, off | {ControlName.PROMPT: reason}, showcase, telling)
    return Prepared(work, baseline, jobs_of_both, off, showcase, telling)


def work_of(
    engine: Engine, items: Mapping[str, Sequence[Item]], manifest: Manifest | None, growth: Growth
) -> list[Work]:
    """Items of a run as what is decoded, packed as its manifest says, those that are added now apart from others."""
    work = []
    for kind, of_kind in items.items():
        starts: tuple[int, ...] = FROM_THE_FIRST
        if manifest is not None:
            n_before = manifest.items.get(kind, 0)
            starts = (*manifest.starts(kind), *([n_before] if growth and 0 < n_before < len(of_kind) else []))
        if kind in WORKS:
            work.append(WORKS[kind](engine, of_kind, starts=starts))
    return work


def item_notes(
    engine: Engine, spec: SweepSpec, items: Mapping[Kind, Sequence[Item]], work: Iterable[Work], *, prompted: bool
) -> tuple[str, ...]:
    """What is unusual about how items are asked and scored, in sentences."""
    chats = engine.vocabulary.chat_notes(_asked_prompts(spec, items, prompted=prompted))
    return (*chats, *(note for of_kind in work for note in of_kind.notes))


def _asked_prompts(
    spec: SweepSpec, items_of: Mapping[Kind, Sequence[Item]], *, prompted: bool
) -> Iterator[tuple[Prompt, Template]]:
    """The prompts that are measured, and one of each kind with the instruction before it."""
    for kind, items in items_of.items():
        for number, item in enumerate(items):
            prompt, template, _ = prompt_of(item)
            if isinstance(item, CodeItem) and spec.text_plan is not None:
                prompt, template = code_prompt(item, spec.text_plan.code_template)
            yield prompt, template
            if prompted and number == 0 and kind in CONTROLLED:
                yield with_instruction(prompt, spec.instruction, template=template), template
