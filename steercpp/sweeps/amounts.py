"""How much a run takes, and how much of it is done: rows, tokens and token-layers; read this for a sweep's progress.

Token-layers are tokens times the blocks that they pass. Before a pass they are counted "about": a steered pass is taken
to start at the first steered layer, whatever stands in the way of it on the model. What the store says afterwards is
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steercpp.aliases import Progress
from steercpp.runs.labels import OWN_TELLING, RANDOM, ControlName, Label, controlled
from steercpp.runs.manifest import Manifest, ResumeCounts, TokenCounts
from steercpp.runs.store import Group, Store
from steercpp.sweeps.measure import Variant
from steercpp.sweeps.prepared import Prepared
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.texts import TextJob, missing_draws
from steercpp.sweeps.work import Work


@dataclass(slots=True)
class Amounts:
    """What a run takes and took.

    Attributes:
        spec, prepared, store: what is asked for, the same as tokens, and what is finished of it.
        n_layer: blocks of the model.
        first_layer: the first steered one.
        progress: see `sweep`.
        n_done: token-layers that are finished, about, from the beginning with those of earlier calls.
        n_all: token-layers of the whole run, about.
        n_now: tokens decoded now.
    """

    spec: SweepSpec
    prepared: Prepared
    store: Store
    n_layer: int
    first_layer: int
    progress: Progress | None
    n_done: int = 0
    n_all: int = 0
    n_now: int = 0

    def begin(self) -> None:
        """Count what earlier calls have finished."""
        finished = self.store.finished()
        self.n_done = sum(n * self._depth(group.label, group.strength) for group, n in finished.items())
        self.n_done += self.n_layer * self._n_text_tokens_finished()

    def tick(self, variant: Variant, n_tokens: int, is_new: bool) -> None:
        """Count a group of items."""
        self._count(self._depth(variant.label, variant.strength) * n_tokens, n_tokens, is_new, variant.words)

    def ticking(self, words: str) -> Callable[[int, bool], None]:
        """What counts tokens of generated texts."""

        def tick(n_tokens: int, is_new: bool) -> None:
            self._count(self.n_layer * n_tokens, n_tokens, is_new, words)

        tick(0, False)
        return tick

    def _count(self, n_token_layers: int, n_tokens: int, is_new: bool, words: str) -> None:
        """Count what is decoded now, and pass on how much is finished."""
        self.n_done += n_token_layers if is_new else 0
        self.n_now += n_tokens if is_new else 0
        if self.progress is not None:
            self.progress(self.n_done, self.n_all, words)

    def _depth(self, label: str, strength: float) -> int:
        """The blocks that a pass computes, about: steered ones start above the layers below."""
        return self.n_layer if label == Label.PROMPT or not strength else self.n_layer - self.first_layer

    def _n_text_tokens_finished(self) -> int:
        """Tokens of the texts that are in the store already."""
        n_tokens = 0
        for job in self.prepared.jobs:
            assert self.spec.text_plan is not None
            strengths = self.spec.strengths_of_texts(job.label)
            n_draws = len(strengths) * self.spec.text_plan.samples
            missing = missing_draws(self.store, job, self.spec.text_plan, strengths)
            each = zip(job.n_tokens_of_a_text(self.spec.text_plan), missing, strict=True)
            n_tokens += sum(n * (n_draws - len(draws)) for n, draws in each)
        if (shown := self.prepared.showcase) is not None:
            n_tokens += sum(shown.n_tokens[i] for i in self.store.items_with_texts(shown.texts.label, shown.texts.kind))
        return n_tokens

    def n_rows(self, manifest: Manifest) -> int:
        """Rows of the whole run, as `Store.n_rows` counts them."""
        text_plan = self.spec.text_plan
        n_samples = 0 if text_plan is None else text_plan.samples
        batches = {of_kind.kind: of_kind.batches for of_kind in self.prepared.all_work}
        left_behind = self._left_behind(manifest)
        return sum(len(batches[group.kind][group.batch].members) for group in left_behind) + self._planned(
            manifest, lambda of_kind, _: len(of_kind.items),
            lambda job, n_strengths: n_strengths * n_samples * len(job.prompts),
        )  # fmt: skip

    def n_token_layers(self, manifest: Manifest) -> int:
        """Token-layers of the whole run, about."""

        def of_texts(job: TextJob, n_strengths: int) -> int:
            assert self.spec.text_plan is not None
            return self.n_layer * sum(job.n_tokens(self.spec.text_plan, n_strengths))

        shown = 0 if self.prepared.showcase is None else self.n_layer * sum(self.prepared.showcase.n_tokens)
        left_behind = sum(n * self._depth(of.label, of.strength) for of, n in self._left_behind(manifest).items())
        return left_behind + shown + self._planned(manifest, lambda of_kind, depth: depth * of_kind.n_tokens, of_texts)

    def _left_behind(self, manifest: Manifest) -> dict[Group, int]:
        """Groups at the candidate of before something was added to the run, with the tokens decoded for them."""
        at, told_at = manifest.control_strength, (0.0, manifest.telling_strength)
        if not manifest.additions:
            return {}
        return {
            group: n
            for group, n in self.store.finished().items()
            if (group.label not in (Label.VECTOR, Label.PROMPT) and at is not None and group.strength != at)
            or (group.kind == OWN_TELLING and group.strength not in told_at)
        }

    def _planned(
        self, manifest: Manifest, of_pass: Callable[[Work, int], int], of_texts: Callable[[TextJob, int], int]
    ) -> int:
        """How much a whole run takes; the controls are not counted where there will be none.

        Args:
            manifest: says which controls there will not be.
            of_pass: what one pass over the items of a kind takes, through so many blocks.
            of_texts: what the texts of a job take, at so many strengths.
        """
        off, work, strengths = manifest.controls_off, self.prepared.work, self.spec.strengths
        whole, above = self._depth(Label.PROMPT, 0.0), self._depth(Label.VECTOR, 1.0)
        depths = [above if strength else whole for strength in strengths]
        n = sum(of_pass(of_kind, depth) for of_kind in work for depth in depths)
        n += sum(of_pass(of_kind, whole) for of_kind in self.prepared.baseline)
        n += sum(of_pass(of_kind, depth) for of_kind in self.prepared.telling for depth in (whole, above))
        for job in self.prepared.jobs:
            n += of_texts(job, len(self.spec.strengths_of_texts(job.label)))
        if any(s * self.spec.direction > 0 for s in strengths):
            n_random = 0 if ControlName.RANDOM in off else self.spec.random_directions
            n_directions = n_random + (ControlName.ORTHOGONAL not in off)
            kinds = controlled([of_kind.kind for of_kind in work], RANDOM)
            n += n_directions * sum(of_pass(of_kind, above) for of_kind in work if of_kind.kind in kinds)
        return n

    def token_counts(self) -> TokenCounts:
        """What a finished run has taken, beside a loop that decodes every prompt at every strength."""
        finished = self.store.finished()
        plain = {(of_kind.kind, False): of_kind.n_tokens_plain_of_batches for of_kind in self.prepared.all_work}
        plain |= {(of_kind.kind, True): of_kind.n_tokens_plain_of_batches for of_kind in self.prepared.baseline}
        n_plain = sum(plain[group.kind, group.label == Label.PROMPT][group.batch] for group in finished)
        of_texts, of_texts_plain = (
            self.store.text_work() if self.prepared.jobs or self.prepared.showcase else (None, None)
        )
        return TokenCounts(
            decoded=sum(finished.values()), plain_loop=n_plain, token_layers=self.store.token_layers(),
            token_layers_plain=n_plain * self.n_layer, token_layers_texts=of_texts,
            token_layers_texts_plain=of_texts_plain,
        )  # fmt: skip

    def resume_counts(self) -> ResumeCounts | None:
        """How many steered passes were resumed, and the commonest reason why others were not; None: none steered."""
        counts = self.store.in_full()
        if not counts:
            return None
        return ResumeCounts(
            resumed="" in counts, first_layer=self.first_layer,
            reason=max((reason for reason in counts if reason), key=lambda reason: counts[reason], default=""),
            n_resumed=counts.get("", 0), n_in_full=sum(n for reason, n in counts.items() if reason),
        )  # fmt: skip
