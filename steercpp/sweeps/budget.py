"""What fits into the time that a sweep may take: looked at before anything is computed, and when the items are there.

budget = Budget(engine, 600.0, n_directions=9, in_words=True)
size = budget.before(Size.of(counts), wanted, layers)              # on a few prompts
size = budget.behind(size, found, wanted, token_layers=...)        # at the speed of finding the model's own words
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from steercpp.engine.engine import Engine
from steercpp.runs.preparation import Preparation
from steercpp.sweeps.estimate import Loads, work_of
from steercpp.sweeps.own_answers import MAX_TOKENS, own_prompt
from steercpp.sweeps.own_continuations import LONGEST, SAMPLES
from steercpp.sweeps.trimming import LOOKED_AT, RESERVE, Size, fitting, speed_of
from steercpp.sweeps.wanted import Wanted
from steercpp.sweeps.windows import windows_to_try
from steercpp.sweeps.work import choice_work
from steercpp.vectors.layers import Window

KEPT = 4  # own continuations of a prompt, about


@dataclass(slots=True)
class Budget:
    """The time that a sweep may take.

    Attributes:
        engine: the model.
        seconds: in all, from now on.
        n_directions: random ones, and the orthogonal one.
        in_words: whether the prompt baseline is measured.
    """

    engine: Engine
    seconds: float
    n_directions: int
    in_words: bool
    began: float = field(default_factory=time.monotonic)

    def before(self, size: Size, wanted: Wanted, layers: Window) -> Size:
        """What fits, as a few prompts tell.

        Args:
            size: at most.
            wanted: what is asked for.
            layers: where to steer, about.

        Raises:
            InputError: not even the smallest does.
            PromptError, ...: as `Engine.encode`.
        """
        few = wanted.behavior[:LOOKED_AT]
        prompts = [self.engine.encode(item.prompt, template=item.template) for item in few]
        own = [own_prompt(self.engine, item) for item in wanted.everyday[:LOOKED_AT]]
        everyday = [self.engine.encode(prompt, template=template) for prompt, template in own]
        speed = speed_of(self.engine, [*prompts, *everyday][-LOOKED_AT:])
        n_prompt = _mean(list(map(len, prompts)))
        n_own = _mean(list(map(len, everyday))) + MAX_TOKENS if everyday else 0.0
        n_choice = [choice_work(self.engine, items[:LOOKED_AT]).n_tokens / min(len(items), LOOKED_AT)
                    for items in wanted.choice.values() if items]  # fmt: skip
        n_answers = 2 * (SAMPLES + 1) * LONGEST
        in_own_words = bool(wanted.instruction and wanted.opposite) and wanted.own_behavior is not False
        n_words = 2 * n_prompt + (2 * n_prompt + n_answers + 3 * (n_prompt + n_answers)) * in_own_words

        def token_layers(size: Size) -> float:
            counts = size.counts
            finds = counts["own"] * n_own + counts["behavior"] * n_words + 16 * sum(n_choice)
            loads = Loads(
                counts["behavior"] * (n_prompt + KEPT * LONGEST),
                0.0 if wanted.everyday else counts["choice"] * _mean(n_choice),
                counts["own"] * n_own / 3, counts["own"] * n_own * 2 / 3,
            )  # fmt: skip
            return self.engine.n_layer * finds + self._swept(size, loads, layers, wanted)

        return fitting(size, lambda size: self._elapsed + RESERVE * token_layers(size) / speed, self.seconds)

    def behind(self, size: Size, found: Preparation, wanted: Wanted, *, token_layers: int) -> Size:
        """What fits of the items that were found, at the speed at which they were.

        Args:
            size: with the counts of the items that were found.
            found: with the items, and layers near those that will be steered.
            wanted: what is asked for.
            token_layers: computed until now.

        Raises:
            InputError: not even the smallest does.
        """
        speed = token_layers / max(self._elapsed, 1e-9)
        loads, full = Loads.of(self.engine, found), size.counts

        def seconds(size: Size) -> float:
            shares = {kind: n / max(full[kind], 1) for kind, n in size.counts.items()}
            work = self._swept(size, loads.share(**shares), found.layers, wanted)
            return self._elapsed + RESERVE * work / speed

        return fitting(size, seconds, self.seconds)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self.began

    def _swept(self, size: Size, loads: Loads, layers: Window, wanted: Wanted) -> float:
        """Token-layers of the sweep, and of what finds layers and strengths before."""
        work = work_of(
            self.engine, loads, first_layer=min(layers), n_directions=self.n_directions, in_words=self.in_words,
            n_strengths=size.n_strengths if wanted.strengths is None else len(wanted.strengths),
            n_windows=0 if wanted.layers else len(size.windows(windows_to_try(self.engine.n_layer))),
        )  # fmt: skip
        return float(work.token_layers + work.to_find)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
