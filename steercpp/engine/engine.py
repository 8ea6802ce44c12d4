"""A model that can be steered: packs prompts, and returns probabilities, logits and activations. Begin here.

Every pass is decoded from an empty memory, so that the same batch under the same steering gives the same bits, whatever
was decoded before and whatever failed.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steercpp.aliases import FloatArray, Floats, TokenProgress, Tokens
from steercpp.choices import STEER_WAYS, FlashAttention, SteerWay
from steercpp.data.prompts import Prompt, Template
from steercpp.engine.alignment import find_alignment
from steercpp.engine.batch import Batch, BatchLimits, Pass, Query, with_more_outputs
from steercpp.engine.chat_options import ChatOptions
from steercpp.engine.devices import BITS, DeviceOptions
from steercpp.engine.model import Model, build
from steercpp.engine.operations import native_operations, packing_keys, refuse_unequal_sharers
from steercpp.engine.packing import pack
from steercpp.engine.session import (
    FLASH_ATTENTION,
    AnswerKl,
    Base,
    ContextOptions,
    Measures,
    Result,
    Session,
    Wanted,
    by_token,
    summed,
)
from steercpp.engine.steering import Decided, PerQuery, Steering, Strengths, adds, check, checked_layers, normalized
from steercpp.errors import DegenerateError, EngineError, InputError, NonFiniteError, ShapeError
from steercpp.parameters import refuse_unknown
from steercpp.provenance import physical_cores
from steercpp.vectors.control_vector import ControlVector

__all__ = ["AnswerKl", "Base", "Engine", "EngineSettings", "Measures"]

EngineSettings: TypeAlias = dict[str, str | int]

_MOST_CONTEXT = 2**24  # beyond any model; llama.cpp would take memory until the system ends the process
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ; the unified K/V buffer grows with n_ctx alone, so take them all
_MOST_ROWS = 8192  # of one batch: what an interrupted sweep may lose at most


class Engine:
    """A model and a session, for one thread at a time, with all that is measured on them. Use it as a context manager.

    Args:
        model_path: a GGUF file, of a split model the first shard.
        model: in its place, a model that is loaded already; any number of engines may share it, in threads too.
        n_ctx: tokens of context; by default what the model was trained for, at most 4096.
        n_batch: tokens decoded together, each attending over the others' cells too: more is slower for small models on
            a CPU. By default 256, and 512 where blocks are on devices.
        threads: CPU threads; by default the physical cores.
        flash_attn: "off" keeps packed prompts closest to single ones.
        steer: where vectors are added: by a "callback" between the parts of the graph, or inside the "graph", with the
            same bits; by default the graph where blocks are on devices.
        keep_mib: memory for the rows that base passes keep; the size of a batch follows from it.
        exact: each query has the bits of its own run, whatever it is packed with; else it is packed as is cheapest.
        template_kwargs: variables for the model's chat template, such as {"enable_thinking": True}.
        date: the day that the chat template is told where it asks, as "2026-11-29"; by default today.
        devices: where the blocks are computed and what K and V are kept in: the keywords of `DeviceOptions`. With a
            `model`, those of K and V alone; it is loaded where it is.

    Attributes:
        model: weights, vocabulary and chat template.
        vocabulary: the model's.
        path, n_layer, n_embd, n_vocab, n_ctx_train, architecture, description, is_recurrent: the model's, see `Model`.
        bos, chat_template: the vocabulary's, see `Vocabulary`.
        devices: its options of devices.
        n_ctx: tokens of context.
        keep_bytes: memory for the rows that base passes keep.

    Raises:
        ModelError: the file cannot be loaded, or is no decoder with a vocabulary and weights.
        EngineError: a context of this size cannot be made, or a device cannot be reached.
        InputError: an option out of range, or none of an engine's.

    >>> engine.architecture, engine.n_layer, engine.n_embd
    ('llama', 8, 256)
    """

    def __init__(
        self,
        model_path: str | Path | None = None,
        *,
        model: Model | None = None,
        n_ctx: int | None = None,
        n_batch: int | None = None,
        threads: int | None = None,
        flash_attn: FlashAttention = "off",
        steer: SteerWay = "auto",
        keep_mib: int = 512,
        exact: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        date: datetime.date | str | None = None,
        **devices: Any,
    ) -> None:
        # all options are looked at before the file is read
        self.devices = _device_options(model, devices)
        chat = ChatOptions.of(template_kwargs, date)
        _check_options(n_ctx=n_ctx, n_batch=n_batch, threads=threads, keep_mib=keep_mib)
        if flash_attn not in FLASH_ATTENTION:
            raise InputError(f"flash_attn is {flash_attn!r}; use off, on or auto")
        if steer not in STEER_WAYS:
            raise InputError(f"steer is {steer!r}; use callback, graph or auto")
        self.devices.check_flash_attention(flash_attn)

        # the model, and what of it is asked for all the time
        self.model = model = _loaded(model_path, model, self.devices)
        self.vocabulary = model.vocabulary if chat == ChatOptions() else model.vocabulary.written_with(chat)
        self.devices = replace(self.devices, n_gpu_layers=model.devices.n_gpu_layers)
        self.path, self.n_layer, self.n_embd, self.n_vocab = model.path, model.n_layer, model.n_embd, model.n_vocab
        self.n_ctx_train, self.architecture, self.description = model.n_ctx_train, model.architecture, model.description
        self.is_recurrent = model.is_recurrent
        self.bos, self.chat_template = model.vocabulary.bos, model.vocabulary.chat_template

        # the session, and the size of batches, which follows from it
        self.n_ctx = n_ctx or min(model.n_ctx_train, 4096)
        self.keep_bytes = keep_mib * 2**20
        n_batch = min(n_batch or (512 if model.uses_devices else 256), self.n_ctx)
        self._options = ContextOptions(
            n_ctx=self.n_ctx,
            n_batch=n_batch,
            # llama.cpp regroups a recurrent model's rows by sequence; one sequence at a time keeps them in order.
            n_seq_max=1 if model.is_recurrent else min(MAX_SEQUENCES, n_batch),
            threads=threads or physical_cores(),
            flash_attn=flash_attn,
            steer=steer,
            **self.devices.context_arguments(),
        )
        self._limits = limits_of(
            n_batch=n_batch, n_ctx=self.n_ctx, n_seq_max=self._options.n_seq_max, n_embd=self.n_embd,
            keep_bytes=self.keep_bytes,
        )  # fmt: skip
        self.exact = exact
        self._threads = threads
        self._session: Session | None = self.open_session()

    def open_session(self, **changes: Any) -> Session:
        """Another context of the model, with these changes to the engine's own `ContextOptions`.

        Raises:
            EngineError: it cannot be made. The engine stays usable.
            InputError: more sequences than n_batch, or than llama.cpp knows; a change to no option of a context.
        """
        refuse_unknown(self.open_session, changes, ContextOptions)
        return Session(self.model, replace(self._options, **changes))

    @property
    def session(self) -> Session:
        """The context.

        Raises:
            EngineError: the engine is closed.
        """
        if self._session is None:
            raise EngineError(f"{self.path}: the engine is closed; open the model again")
        return self._session

    def close(self) -> None:
        """Free the context; the model is freed with the last reference to it."""
        self._session = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @cached_property
    def _packs(self) -> BatchLimits:
        """The limits that queries are packed within; what exact ones must keep to is found when first asked for."""
        if not self.exact:
            return self._limits
        alignment = find_alignment(self.open_session(), self._limits)
        return replace(self._limits, alignment=alignment, alone=alignment is None)

    @property
    def packing(self) -> str:
        """How queries are packed: "shared", or for `exact` "aligned 16 4 16", see `Alignment`, or "alone"."""
        alignment = self._packs.alignment
        if alignment is not None:
            return f"aligned {alignment.width} {alignment.rows} {alignment.outputs}"
        return "alone" if self._packs.alone or self.is_recurrent else "shared"

    @property
    def token_layers(self) -> int:
        """Tokens times blocks computed since the engine was opened."""
        return self.session.token_layers

    @property
    def bytes_per_cell(self) -> int:
        """Memory that K and V of a token take, about."""
        k, v = self.model.kv_widths
        return max(1, round((k * BITS[self._options.type_k] + v * BITS[self._options.type_v]) / 8))

    @property
    def sha256(self) -> str:
        """Hash of the model in hexadecimal, see `Model.sha256`."""
        return self.model.sha256

    def settings(self) -> EngineSettings:
        """What decides the bits of a result besides the model, how it is packed included: for manifests."""
        return {
            **build(),
            "n_ctx": self.n_ctx,
            "n_batch": self._options.n_batch,
            "n_group": self._limits.n_group,
            "threads": self._options.threads,
            "flash_attn": self._options.flash_attn,
            **({"packing": self.packing} if self.exact else {}),
            **self.devices.settings(),
            **self.vocabulary.chat_texts,
        }

    def options(self) -> dict[str, Any]:
        """Keywords with which another engine of the same file, here or elsewhere, gives the same bits."""
        chat = self.vocabulary.chat_options
        devices = {option.name: getattr(self.devices, option.name) for option in fields(self.devices)}
        return {
            "n_ctx": self.n_ctx, "n_batch": self._options.n_batch, "threads": self._threads,
            "flash_attn": self._options.flash_attn, "steer": self._options.steer,
            "keep_mib": self.keep_bytes // 2**20, "exact": self.exact,
            "template_kwargs": dict(chat.template_kwargs), "date": chat.date,
            **devices,
        }  # fmt: skip

    @contextmanager
    def on_day(self, date: str | None) -> Iterator[None]:
        """Tell the chat template this day inside the block, unless the engine was made with a `date`.

        Args:
            date: that of what was begun earlier; None changes nothing.
        """
        vocabulary = self.vocabulary
        if date is not None and not vocabulary.chat_options.date:
            kept = vocabulary.written_with(replace(vocabulary.chat_options, date=date))
            kept.chat_options = vocabulary.chat_options  # it is still not the user's choice
            self.vocabulary = kept
        try:
            yield
        finally:
            self.vocabulary = vocabulary

    # Text and tokens are the vocabulary's; these are its methods.

    @property
    def pieces(self) -> tuple[str, ...]:
        """`Vocabulary.pieces`."""
        return self.vocabulary.pieces

    @property
    def bos_piece(self) -> str:
        """`Vocabulary.bos_piece`."""
        return self.vocabulary.bos_piece

    @property
    def eos_piece(self) -> str:
        """`Vocabulary.eos_piece`."""
        return self.vocabulary.eos_piece

    def token_id(self, piece: str) -> int | None:
        """`Vocabulary.token_id`."""
        return self.vocabulary.token_id(piece)

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """`Vocabulary.tokenize`.

        >>> engine.detokenize(engine.tokenize("The moon is far away.", add_special=False))
        ' The moon is far away.'
        """
        return self.vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """`Vocabulary.detokenize`."""
        return self.vocabulary.detokenize(tokens)

    def render(self, prompt: Prompt, *, template: Template = "auto") -> str:
        """`Vocabulary.render`.

        >>> engine.render("What is the moon?", template="chat")
        '<s>[INST] What is the moon? [/INST]'
        """
        return self.vocabulary.render(prompt, template=template)

    def encode(self, prompt: Prompt, *, template: Template = "auto") -> Tokens:
        """`Vocabulary.encode`."""
        return self.vocabulary.encode(prompt, template=template)

    def encode_answered(self, prompt: Prompt, answer: str, *, template: Template = "auto") -> tuple[Tokens, int]:
        """`Vocabulary.encode_answered`."""
        return self.vocabulary.encode_answered(prompt, answer, template=template)

    def continue_tokens(self, prompt: Prompt, continuation: str, *, template: Template = "auto") -> Tokens:
        """`Vocabulary.continue_tokens`."""
        return self.vocabulary.continue_tokens(prompt, continuation, template=template)

    def decide(self, queries: Sequence[Query], steering: PerQuery) -> Decided:
        """What steers each query once its gates are decided, on the unsteered pass at its prompt's last token.

        Raises:
            LayerError, ShapeError: a gate or vector that is not for this model.
            ContextOverflowError, UnsteerableError: as `activations`.
        """
        by_query = self._checked(steering, len(queries))
        gates = {id(acts.gate): acts.gate for several in by_query for acts in several if acts.gate is not None}
        if not gates:
            return by_query
        layers = sorted({gate.il for gate in gates.values()})
        x = self.activations([query.tokens for query in queries], layers=layers)
        is_open = {key: gate.is_open(x[:, layers.index(gate.il)]) for key, gate in gates.items()}
        return tuple(
            tuple(replace(acts, gate=None) for acts in several if acts.gate is None or is_open[id(acts.gate)][index])
            for index, several in enumerate(by_query)
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
        by_query = self._checked(steering, len(queries))
        if any(acts.gate is not None for several in by_query for acts in several):
            raise InputError("a gate is not decided yet; give Engine.decide's answer")
        return pack(queries, self._packs, keys=packing_keys(by_query))

    def alone(self, query: Query) -> Batch:
        """A query by itself: what packing is compared with.

        Raises:
            ContextOverflowError: it needs more positions than the context has.
        """
        (batch,) = self.pack([query])
        return batch

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

        >>> query = Query(engine.encode("The moon is"), (engine.continue_tokens("The moon is", " bright"),))
        >>> (batch,) = engine.pack([query])
        >>> (nats,) = engine.logprobs(batch)
        >>> nats.shape, bool(nats[0] < 0)
        ((1,), True)
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

        def ends(pass_: Pass) -> Wanted:
            rows = np.unique(pass_.prompt_ends)  # equal prompts end in one row
            return Wanted(capture_layers=tuple(wanted), capture_rows=tuple(rows.tolist()), logits=True)

        for pass_, result in self._run(batch, steering, ends, base=base):
            where = np.unique(pass_.prompt_ends, return_inverse=True)[1]
            values[pass_.prompt_owners] = result.captures.swapaxes(0, 1)[where]
            logits[pass_.prompt_owners] = result.logits[np.cumsum(pass_.outputs)[pass_.prompt_ends] - 1]
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
        before, needed, reason = self.token_layers, 4 * self.n_embd * batch.n_tokens, ""
        if needed > self.keep_bytes:
            reason = f"its rows need {needed / 2**20:.1f} MiB where keep_mib allows {self.keep_bytes // 2**20}"
        wanted = Wanted(keep_layer=-1 if reason else first_layer, keep_logits=keep_logits)
        runs = list(self._run(batch, None, wanted))
        kept = tuple(result.base for _, result in runs if result.base is not None)
        return Base(
            session=self.session, batch=batch, first_layer=first_layer, logprobs=summed(batch, runs),
            token_logprobs=by_token(batch, [(pass_, result.logprobs) for pass_, result in runs]),
            reason=reason or next((rows.reason for rows in kept if rows.reason), ""),
            keeps_logits=keep_logits, n_bytes=sum(rows.n_bytes for rows in kept),
            token_layers=self.token_layers - before, kept=kept,
        )  # fmt: skip

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
            raise InputError("KL needs the unsteered logits; make the base with `keep_logits=True`")
        if not 0 <= top_k <= self.n_vocab:
            raise InputError(f"top_k is {top_k}; give 0 for none, or at most the vocabulary's {self.n_vocab} tokens")
        before, wanted = self.token_layers, Wanted(entropy=True, kl=True, n_top=top_k)
        rows, ends, n_outputs = [], np.empty(len(batch.queries), np.int64), 0
        for pass_, result in self._run(batch, steering, wanted, base=base):
            ends[pass_.prompt_owners] = n_outputs + np.cumsum(pass_.outputs)[pass_.prompt_ends] - 1
            n_outputs += int(pass_.outputs.sum())
            rows.append((result.entropy, result.kl, result.top_tokens, result.top_logprobs))
        entropy, kl, tokens, logprobs = (np.concatenate(column) for column in zip(*rows, strict=True))
        shape = (len(entropy), top_k)
        work = self.token_layers - before
        return Measures(ends, entropy, kl, tokens.reshape(shape), logprobs.reshape(shape), work)

    def answer_kl(self, batch: Batch, *, steering: PerQuery, base: Base) -> list[AnswerKl]:
        """KL(unsteered || steered) at each token of the continuations, beside the token's own ln P, steered.

        Unsteered it is 0 at every token, and ln P is the base's `token_logprobs`: no pass is needed for that.

        Args:
            batch: one of `pack`'s.
            steering: what steers all queries, or each one; None for nothing.
            base: its base, made with `keep_logits`.

        Returns:
            for each query its tokens, one continuation after the other.

        Raises:
            InputError: the base kept no logits.
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        if not base.keeps_logits:
            raise InputError("KL needs the unsteered logits; make the base with `keep_logits=True`")
        kl, logprobs = [], []
        for pass_, result in self._run(batch, steering, Wanted(kl_from_base=True), base=base):
            of_row = np.cumsum(pass_.outputs) - 1  # an output's place among the outputs
            kl.append((pass_, result.kl_from_base[of_row[pass_.score_rows]]))
            logprobs.append((pass_, result.logprobs))
        return [AnswerKl(*of_query) for of_query in zip(by_token(batch, kl), by_token(batch, logprobs), strict=True)]

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

        >>> engine.activations([engine.encode("The moon is")], layers=[4, 5]).shape  # (n_prompts, n_layers, n_embd)
        (1, 2, 256)
        """
        wanted = list(range(self.n_layer)) if layers is None else checked_layers(layers, self.n_layer)
        steering = adds(vector, strengths, len(prompts)) if steering is None else steering
        by_query = self._checked(steering, len(prompts))
        values = np.empty((len(prompts), len(wanted), self.n_embd), np.float32)
        n_done = 0
        for batch in self.pack([Query(tuple(prompt)) for prompt in prompts], by_query):
            members = np.array(batch.members)
            of_batch = [by_query[member] for member in batch.members]
            for pass_ in batch.passes:
                rows, where = np.unique(pass_.prompt_ends, return_inverse=True)  # equal prompts end in one row
                values[members[pass_.prompt_owners]] = self._captured(batch, pass_, of_batch, wanted, rows)[where]
            n_done += len(members)
            if progress is not None:
                progress(n_done, len(prompts))
        return values

    def _captured(
        self, batch: Batch, pass_: Pass, steering: PerQuery, layers: Sequence[int], rows: npt.NDArray[np.integer[Any]]
    ) -> FloatArray:
        """Activations of some rows of one pass, (n_rows, n_layers, n_embd); no logits but what the last layer needs."""
        outputs = np.zeros_like(pass_.outputs)
        if self.n_layer - 1 in layers:
            outputs[rows] = 1  # the last block keeps output rows only
        outputs = with_more_outputs(outputs, pass_.pieces, self._packs.alignment)
        only = replace(batch, passes=(replace(pass_, outputs=outputs),))
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
        by_query = self._checked(steering, len(prompts))
        values = [np.empty((len(chosen), len(wanted), self.n_embd), np.float32) for chosen in places]
        n_done = 0
        for batch in self.pack([Query(tuple(prompt)) for prompt in prompts], by_query):
            of_batch = [by_query[member] for member in batch.members]
            for pass_ in batch.passes:
                members = [batch.members[owner] for owner in pass_.prompt_owners]
                rows = [line[places[m]] for line, m in zip(pass_.prompt_rows(), members, strict=True)]
                distinct, where = np.unique(np.concatenate(rows), return_inverse=True)  # prompts share some
                captured = self._captured(batch, pass_, of_batch, wanted, distinct)
                cuts = np.cumsum([len(of_prompt) for of_prompt in rows])[:-1]
                for member, places_of_rows in zip(members, np.split(where, cuts), strict=True):
                    values[member][:] = captured[places_of_rows]
            n_done += len(batch.members)
            if progress is not None:
                progress(n_done, len(prompts))
        return values

    def residual_norms(self, prompts: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, float]:
        """Median length of the residual stream at each layer, over all tokens.

        A begin-of-sequence token at the start is left out, as its length is of another order.

        Raises:
            DegenerateError: no other tokens.
            ContextOverflowError, UnsteerableError, ...: as `activations`.
        """
        wanted = checked_layers(layers, self.n_layer)
        norms: list[Floats] = []
        queries = [Query(tuple(prompt)) for prompt in prompts]
        apart = [(i, i, i) for i in range(len(queries))]  # what prompts share counts for each of them
        for batch in pack(queries, self._limits, keys=apart):
            for pass_ in batch.passes:
                captured = self._captured(batch, pass_, None, wanted, np.arange(len(pass_.tokens)))
                starts = (pass_.positions == 0) & (pass_.tokens == self.bos)
                counted = captured[~starts].astype(np.float64)
                norms.append(np.linalg.norm(counted, axis=-1).T)
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
        by_query = normalized(steering, n_queries)
        check(by_query, n_layer=self.n_layer, n_embd=self.n_embd)
        return by_query

    def _run(
        self, batch: Batch, steering: PerQuery, wanted: Wanted | Callable[[Pass], Wanted], *, base: Base | None = None
    ) -> Iterator[tuple[Pass, Result]]:
        """Decode the passes of a batch, one after the other."""
        session = self.session
        by_query = self._checked(steering, len(batch.queries))
        refuse_unequal_sharers(batch.shared, by_query)
        if base is not None and base.session is not session:
            raise InputError("the base is that of another engine; make one with this engine")
        if base is not None and base.batch is not batch:
            raise InputError("the base is that of another batch; make one for this batch")
        for index, pass_ in enumerate(batch.passes):
            operations = native_operations(by_query, pass_.owners, pass_.regions)
            lowest = min((operation.il for operation in operations), default=self.n_layer)
            if base is not None and lowest < base.first_layer:
                raise InputError(
                    f"layer {lowest} is steered, below the base's first layer {base.first_layer}; make another base"
                )
            kept = base.kept[index] if base is not None and base.kept else None
            read = wanted(pass_) if callable(wanted) else wanted
            result = session.decode(pass_, operations, read, base=kept)
            if result.nonfinite_row >= 0:
                raise self._nonfinite(batch, int(pass_.owners[result.nonfinite_row]), by_query)
            if base is not None and result.reason:
                base.reason = result.reason
            yield pass_, result

    def _nonfinite(self, batch: Batch, place: int, by_query: Decided) -> NonFiniteError:
        query = batch.members[place]
        strengths = [f"{acts.strength:g}" for acts in by_query[place] if not acts.idle]
        if not strengths:
            return NonFiniteError(f"{self.path}: query {query}: unsteered output is not finite; check the model file")
        return NonFiniteError(
            f"query {query}: at strength {', '.join(strengths)} the activations leave float32's range; "
            "use a smaller strength"
        )


def limits_of(*, n_batch: int, n_ctx: int, n_seq_max: int, n_embd: int, keep_bytes: int) -> BatchLimits:
    """Within what an engine of these sizes packs queries, unless it is `exact`."""
    n_group = max(min(_MOST_ROWS, keep_bytes // (4 * n_embd)), n_batch)
    return BatchLimits(n_batch=n_batch, n_ctx=n_ctx, n_seq_max=n_seq_max, n_group=n_group)


def _device_options(model: Model | None, options: dict[str, Any]) -> DeviceOptions:
    """Checked; where a model is loaded already they can no longer say where."""
    refuse_unknown(Engine, options, DeviceOptions)
    if model is None:
        return DeviceOptions(**options)
    asked = {name: value for name, value in options.items() if (name, value) != ("n_gpu_layers", None)}
    chosen = replace(model.devices, **asked)
    if chosen.load_arguments() != model.devices.load_arguments():
        raise InputError(f"{model.path}: the model is loaded and stays where it is; give its devices to `Model`")
    return chosen


def _loaded(path: str | Path | None, model: Model | None, devices: DeviceOptions) -> Model:
    if model is not None and path is None:
        return model
    if path is None or model is not None:
        raise InputError("give either the path of a model or a `model` that is loaded")
    return Model(path, devices)


def _check_options(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; give at least 1")
    n_ctx = values["n_ctx"]
    if n_ctx is not None and n_ctx > _MOST_CONTEXT:
        raise InputError(f"n_ctx is {n_ctx}; give at most {_MOST_CONTEXT}")


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
