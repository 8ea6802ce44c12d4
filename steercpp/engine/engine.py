"""A model that can be steered: loads it, packs prompts, returns probabilities, logits and activations.

Every pass is decoded from an empty memory, so that the same batch under the same steering gives the same bits, whatever
was decoded before and whatever failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from steercpp.aliases import FloatArray, Floats, TokenProgress
from steercpp.choices import FlashAttention
from steercpp.engine.batch import Batch, Pass, Query
from steercpp.engine.model import LoadedModel, Settings, devices, supports_gpu
from steercpp.engine.operations import native_operations, packing_keys, refuse_unequal_sharers
from steercpp.engine.packing import pack
from steercpp.engine.session import Base, Measures, Result, Wanted, summed
from steercpp.engine.steering import (
    Decided,
    PerQuery,
    Steering,
    Strengths,
    adds,
    check,
    checked_layers,
    normalized,
)
from steercpp.errors import (
    DegenerateError,
    InputError,
    NonFiniteError,
    ShapeError,
)
from steercpp.vectors.control_vector import ControlVector

if TYPE_CHECKING:
    from steercpp.vectors.control_vector import ControlVector


__all__ = ["Base", "Engine", "FlashAttention", "Measures", "Settings", "devices", "supports_gpu"]


class Engine(LoadedModel):
    """What a loaded model measures: probabilities, logits, activations, steered and not. Options: `LoadedModel`."""

    def decide(self, queries: Sequence[Query], steering: PerQuery) -> Decided:
        """What steers each query once its gates are decided, on the unsteered pass at its prompt's last token.

        Raises:
            LayerError, ShapeError: a gate or vector that is not for this model.
            ContextOverflowError, UnsteerableError: as `activations`.
        """
        asked = self._checked(steering, len(queries))
        gates = {id(one.gate): one.gate for many in asked for one in many if one.gate is not None}
        is_open = {}
        for key, gate in gates.items():
            prompts = [query.tokens for query in queries]
            is_open[key] = gate.is_open(self.activations(prompts, layers=[gate.il])[:, 0])
        return tuple(
            tuple(replace(one, gate=None) for one in many if one.gate is None or is_open[id(one.gate)][place])
            for place, many in enumerate(asked)
        )

    def pack(self, queries: Sequence[Query], steering: PerQuery = None) -> tuple[Batch, ...]:
        """Batches that share what begins alike and is steered alike; see packing.py.

        Args:
            queries: prompts with their continuations.
            steering: what the batches will be run with, if it is not the same for all tokens of all queries. Strengths
                may change afterwards, for all queries alike.

        Raises:
            ContextOverflowError: a query needs more positions than the context has.
            InputError: a gate that is not decided.
        """
        asked = self._checked(steering, len(queries))
        if any(one.gate is not None for many in asked for one in many):
            raise InputError("a gate is not decided yet; give Engine.decide's answer")
        return pack(queries, self._limits, keys=packing_keys(asked))

    def logprobs(
        self,
        batch: Batch,
        *,
        steering: PerQuery = None,
        vector: ControlVector | None = None,
        strengths: Strengths = 1.0,
        base: Base | None = None,
    ) -> list[Floats]:
        """Log-probability of each continuation after its prompt.

        Args:
            batch: one of `pack`'s.
            steering: what steers all queries, or each one; gates decided.
            vector: in its place, a vector to add.
            strengths: of that vector, one or one per query.
            base: start above the layers below its first layer.

        Returns:
            for each query (n_continuations,) float64, natural logs, summed over a continuation's tokens.

        Raises:
            NonFiniteError: a strength drives the activations out of float32's range.
            UnsteerableError: the model's graph has no activations to steer at a layer of the vector.
            ShapeError, LayerError, StrengthError: a vector or strengths that do not fit.
            InputError: queries that share tokens in this batch are to be steered differently.
            EngineError: the decode failed, or another thread is using this engine. The engine stays usable.
        """
        runs = self._run(batch, _either(steering, vector, strengths, batch), Wanted(), base=base)
        return summed(batch, runs)

    def logits(
        self,
        batch: Batch,
        *,
        steering: PerQuery = None,
        vector: ControlVector | None = None,
        strengths: Strengths = 1.0,
        base: Base | None = None,
    ) -> FloatArray:
        """Logits of the batch's output rows, (n_outputs, n_vocab) float32: the prompts' ends and what continues them.

        Raises:
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        runs = self._run(batch, _either(steering, vector, strengths, batch), Wanted(logits=True), base=base)
        return np.concatenate([result.logits for _, result in runs])

    def prompt_ends(
        self, batch: Batch, *, layers: Sequence[int], steering: PerQuery = None, base: Base | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Logits and activations at the last token of each query's prompt, from one pass.

        Args:
            batch: one of `pack`'s, whose queries have continuations: their prompts' ends are outputs.
            layers: which layers; with a base, from its first layer on.
            steering: what steers all queries, or each one; None for nothing.
            base: start above the layers below its first layer.

        Returns:
            (n_queries, n_vocab) and (n_queries, n_layers, n_embd) float32, in the order of the batch's queries.

        Raises:
            InputError: a layer that the base skips, or a query without a continuation.
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        wanted = checked_layers(layers, self.n_layer)
        if base is not None and min(wanted) < base.first_layer:
            raise InputError(f"layer {min(wanted)} lies below the base's first layer {base.first_layer}")
        if not all(query.continuations for query in batch.queries):
            raise InputError("a query has no continuation; give it one, so that its prompt's end is an output")
        logits = np.empty((len(batch.queries), self.n_vocab), np.float32)
        values = np.empty((len(batch.queries), len(wanted), self.n_embd), np.float32)

        def ends(part: Pass) -> Wanted:
            rows = np.unique(part.prompt_ends)  # equal prompts end in one row
            return Wanted(capture_layers=tuple(wanted), capture_rows=tuple(rows.tolist()), logits=True)

        for part, result in self._run(batch, steering, ends, base=base):
            where = np.unique(part.prompt_ends, return_inverse=True)[1]
            values[part.prompt_owners] = result.captures.swapaxes(0, 1)[where]
            logits[part.prompt_owners] = result.logits[np.cumsum(part.outputs)[part.prompt_ends] - 1]
        return logits, values

    def base(self, batch: Batch, *, first_layer: int, keep_logits: bool = False) -> Base:
        """Run a batch unsteered and keep what steered passes need to start at `first_layer`.

        Args:
            batch: one of `pack`'s.
            first_layer: the lowest layer that will be steered.
            keep_logits: keep the logits too, for KL: n_vocab numbers for each output row.

        Raises:
            LayerError: a layer that the model lacks.
            EngineError, UnsteerableError: as `logprobs`.
        """
        checked_layers([first_layer], self.n_layer)
        before, needed = self.token_layers, 4 * self.n_embd * batch.n_tokens
        reason = "layer 0 is steered, and nothing lies below it" if first_layer == 0 else ""
        if not reason and needed > self.keep_bytes:
            reason = f"its rows need {needed / 2**20:.1f} MiB where keep_mib allows {self.keep_bytes // 2**20}"
        wanted = Wanted(keep_layer=-1 if reason else first_layer - 1, keep_logits=keep_logits)
        runs = list(self._run(batch, None, wanted))
        kept = tuple(result.base for _, result in runs if result.base is not None)
        return Base(
            session=self.session,
            batch=batch,
            first_layer=first_layer,
            logprobs=summed(batch, runs),
            reason=reason or next((one.reason for one in kept if one.reason), ""),
            keeps_logits=keep_logits,
            n_bytes=sum(one.n_bytes for one in kept),
            token_layers=self.token_layers - before,
            kept=kept,
        )

    def measures(self, batch: Batch, *, steering: PerQuery, base: Base, top_k: int = 0) -> Measures:
        """Entropy, KL against the unsteered row and the most likely tokens, for each output row of a batch.

        Args:
            batch: one of `pack`'s.
            steering: what steers all queries, or each one; None for nothing.
            base: its base, made with `keep_logits`.
            top_k: how many of the most likely tokens.

        Raises:
            InputError: the base kept no logits, or top_k is more than the vocabulary has.
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        if not base.keeps_logits:
            raise InputError("KL needs the unsteered logits; make the base with keep_logits=True")
        if not 0 <= top_k <= self.n_vocab:
            raise InputError(f"top_k is {top_k}; give 0 for none, or at most the vocabulary's {self.n_vocab} tokens")
        before, wanted = self.token_layers, Wanted(entropy=True, kl=True, n_top=top_k)
        found, ends, n_outputs = [], np.empty(len(batch.queries), np.int64), 0
        for part, result in self._run(batch, steering, wanted, base=base):
            ends[part.prompt_owners] = n_outputs + np.cumsum(part.outputs)[part.prompt_ends] - 1
            n_outputs += int(part.outputs.sum())
            found.append((result.entropy, result.kl, result.top_tokens, result.top_logprobs))
        entropy, kl, tokens, logprobs = (np.concatenate(column) for column in zip(*found, strict=True))
        shape = (len(entropy), top_k)
        work = self.token_layers - before
        return Measures(ends, entropy, kl, tokens.reshape(shape), logprobs.reshape(shape), work)

    def activations(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        layers: Sequence[int] | None = None,
        steering: PerQuery = None,
        vector: ControlVector | None = None,
        strengths: Strengths = 1.0,
        progress: TokenProgress | None = None,
    ) -> FloatArray:
        """Activations of each prompt's last token.

        Args:
            prompts: tokens of each prompt.
            layers: which layers, by default all; what steering does at a layer is contained in its activation.
            steering: what steers all prompts, or each one; gates decided.
            vector: in its place, a vector to add.
            strengths: of that vector, one or one per prompt.
            progress: called with the number of prompts done and of all.

        Returns:
            (n_prompts, n_layers, n_embd) float32.

        Raises:
            ContextOverflowError: a prompt is longer than the context.
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        wanted = list(range(self.n_layer)) if layers is None else checked_layers(layers, self.n_layer)
        asked = adds(vector, strengths, len(prompts)) if steering is None else steering
        decided = self._checked(asked, len(prompts))
        values = np.empty((len(prompts), len(wanted), self.n_embd), np.float32)
        n_done = 0
        for batch in self.pack([Query(tuple(prompt)) for prompt in prompts], decided):
            members = np.array(batch.members)
            own = [decided[place] for place in batch.members]
            for part in batch.passes:
                rows, where = np.unique(part.prompt_ends, return_inverse=True)  # equal prompts end in one row
                values[members[part.prompt_owners]] = self._captured(batch, part, own, wanted, rows)[where]
            n_done += len(members)
            if progress is not None:
                progress(n_done, len(prompts))
        return values

    def _captured(
        self, batch: Batch, part: Pass, steering: PerQuery, layers: Sequence[int], rows: npt.NDArray[np.integer[Any]]
    ) -> FloatArray:
        """Activations of some rows of one pass, (n_rows, n_layers, n_embd); no logits but what the last layer needs."""
        outputs = np.zeros_like(part.outputs)
        if self.n_layer - 1 in layers:
            outputs[rows] = 1  # the last block keeps output rows only
        only = replace(batch, passes=(replace(part, outputs=outputs),))
        wanted = Wanted(capture_layers=tuple(layers), capture_rows=tuple(rows.tolist()))
        ((_, result),) = self._run(only, steering, wanted)
        captures: FloatArray = result.captures.swapaxes(0, 1)
        return captures

    def activations_at(
        self,
        prompts: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        layers: Sequence[int] | None = None,
        steering: PerQuery = None,
        progress: TokenProgress | None = None,
    ) -> list[FloatArray]:
        """Activations of chosen tokens of each prompt.

        Args:
            prompts: tokens of each prompt.
            positions: for each prompt which of its tokens, negative ones from the end; each once.
            layers: which layers, by default all.
            steering: what steers all prompts, or each one; gates decided.
            progress: called with the number of prompts done and of all.

        Returns:
            for each prompt (n_positions, n_layers, n_embd) float32, in the order of its positions.

        Raises:
            ShapeError: not one list of positions per prompt.
            InputError: a position that a prompt lacks, or one given twice.
            ContextOverflowError, UnsteerableError, ...: as `activations`.
        """
        wanted = list(range(self.n_layer)) if layers is None else checked_layers(layers, self.n_layer)
        places = [_places(prompt, chosen) for prompt, chosen in _paired(prompts, positions)]
        decided = self._checked(steering, len(prompts))
        found = [np.empty((len(chosen), len(wanted), self.n_embd), np.float32) for chosen in places]
        n_done = 0
        for batch in self.pack([Query(tuple(prompt)) for prompt in prompts], decided):
            own = [decided[member] for member in batch.members]
            for part in batch.passes:
                members = [batch.members[owner] for owner in part.prompt_owners]
                rows = [line[places[m]] for line, m in zip(part.prompt_rows(), members, strict=True)]
                distinct, where = np.unique(np.concatenate(rows), return_inverse=True)  # prompts share some
                captured = self._captured(batch, part, own, wanted, distinct)
                cuts = np.cumsum([len(one) for one in rows])[:-1]
                for member, places_of_rows in zip(members, np.split(where, cuts), strict=True):
                    found[member][:] = captured[places_of_rows]
            n_done += len(batch.members)
            if progress is not None:
                progress(n_done, len(prompts))
        return found

    def residual_norms(self, prompts: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, float]:
        """Median length of the residual stream at each layer, over all tokens but the begin-of-sequence token.

        Raises:
            DegenerateError: no other tokens.
            ContextOverflowError, UnsteerableError, ...: as `activations`.
        """
        wanted = checked_layers(layers, self.n_layer)
        bos = self._tokenizer.bos
        norms: list[Floats] = []
        queries = [Query(tuple(prompt)) for prompt in prompts]
        apart = [(i, i, i) for i in range(len(queries))]  # what prompts share counts for each of them
        for batch in pack(queries, self._limits, keys=apart):
            for part in batch.passes:
                captured = self._captured(batch, part, None, wanted, np.arange(len(part.tokens)))[part.tokens != bos]
                norms.append(np.linalg.norm(captured.astype(np.float64), axis=-1).T)
        lengths = np.concatenate(norms, axis=1) if norms else np.empty((len(wanted), 0))
        if lengths.shape[1] == 0:
            raise DegenerateError("the prompts have no tokens but the begin-of-sequence token; give them some text")
        return dict(zip(wanted, np.median(lengths, axis=1).tolist(), strict=True))

    def stock_logits(self, batch: Batch, vector: ControlVector) -> FloatArray:
        """Logits as `logits`, but steered by llama.cpp's own control vector at strength 1; layer 0 is left out."""
        check(((Steering(vector),),), n_layer=self.n_layer, n_embd=self.n_embd)
        data = np.zeros((self.n_layer, self.n_embd), np.float32)
        for il, direction in vector.directions.items():
            data[il] = direction
        with self.session.stock_vector(data[1:]):
            return self.logits(batch)

    def _checked(self, steering: PerQuery, n_queries: int) -> Decided:
        asked = normalized(steering, n_queries)
        check(asked, n_layer=self.n_layer, n_embd=self.n_embd)
        return asked

    def _run(
        self, batch: Batch, steering: PerQuery, wanted: Wanted | Callable[[Pass], Wanted], *, base: Base | None = None
    ) -> Iterator[tuple[Pass, Result]]:
        session = self.session
        asked = self._checked(steering, len(batch.queries))
        refuse_unequal_sharers(batch.shared, asked)
        if base is not None and base.session is not session:
            raise InputError("the base is that of another engine; make one with this engine")
        if base is not None and base.batch is not batch:
            raise InputError("the base is that of another batch; make one for this batch")
        for place, part in enumerate(batch.passes):
            operations = native_operations(asked, part.owners, part.regions)
            lowest = min((op.il for op in operations), default=self.n_layer)
            if base is not None and lowest < base.first_layer:
                raise InputError(
                    f"layer {lowest} is steered, below the base's first layer {base.first_layer}; make another base"
                )
            kept = base.kept[place] if base is not None and base.kept else None
            read = wanted(part) if callable(wanted) else wanted
            result = session.decode(part, operations, read, base=kept)
            if result.nonfinite_row >= 0:
                raise self._nonfinite(batch, int(part.owners[result.nonfinite_row]), asked)
            if base is not None and result.reason:
                base.reason = result.reason
            yield part, result

    def _nonfinite(self, batch: Batch, place: int, asked: Decided) -> NonFiniteError:
        query = batch.members[place]
        acting = [one for one in asked[place] if not one.idle]
        if not acting:
            return NonFiniteError(f"{self.path}: query {query}: unsteered output is not finite; check the model file")
        strengths = ", ".join(f"{one.strength:g}" for one in acting)
        return NonFiniteError(
            f"query {query}: at strength {strengths} the activations leave float32's range; use a smaller strength"
        )


def _paired(
    prompts: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]
) -> list[tuple[Sequence[int], Sequence[int]]]:
    if len(prompts) != len(positions):
        raise ShapeError(f"positions: expected one list per prompt, {len(prompts)}, got {len(positions)}")
    return list(zip(prompts, positions, strict=True))


def _places(prompt: Sequence[int], positions: Sequence[int]) -> list[int]:
    n = len(prompt)
    for position in positions:
        if not -n <= position < n:
            raise InputError(f"position {position} does not exist; the prompt has {n} tokens")
    places = [position % n for position in positions]
    if len(set(places)) < len(places):
        raise InputError(f"positions {list(positions)}: one is given twice; name each once")
    return places


def _either(steering: PerQuery, vector: ControlVector | None, strengths: Strengths, batch: Batch) -> PerQuery:
    if steering is not None and vector is not None:
        raise InputError("steering and vector exclude each other; put the vector into the steering")
    return adds(vector, strengths, len(batch.queries)) if steering is None else steering
