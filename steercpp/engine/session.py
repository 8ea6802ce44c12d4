"""One context of a model with its hook: what a decode is given, and what comes back; `Engine` is what to use.

A model serves any number of sessions, each for one thread at a time. The native module's errors become ours here, and
the work is counted.

A process forked from one that has decoded has none of its threads, and would wait for them for ever. So a session is
for the process that opened it, and after a decode in several threads a forked process has no session of several.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import llama_cpp  # noqa: F401, before _native: see model.py
import numpy as np
import numpy.typing as npt

from steercpp import _native
from steercpp.aliases import FloatArray, Floats
from steercpp.choices import CacheType, FlashAttention, SteerWay
from steercpp.engine.batch import Batch, Pass
from steercpp.engine.devices import GGML_TYPES
from steercpp.engine.model import Model
from steercpp.engine.model_file import load_failure
from steercpp.engine.operations import Operation
from steercpp.errors import EngineError, InputError, UnsteerableError

Sampler: TypeAlias = _native.Sampler
Kept: TypeAlias = _native.Base
Result: TypeAlias = _native.DecodeResult
_ran_parallel_in = 0  # the process that first decoded in several threads
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # enum llama_flash_attn_type


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """How a context is made; names as in llama.h.

    Attributes:
        n_ctx: tokens of all sequences together, or of each one where `kv_unified` is off.
        kv_unified: one K/V buffer for all sequences; off: a stream of its own for each.
        hook: off leaves the callback out, and with it all steering: a yardstick.
        always_copy: treat every tensor as if it lay on a device: a test of that path.
        steer: where vectors are added: by a "callback" between the parts of the graph, or inside the "graph", where
            that gives the same bits; "auto" is the graph where blocks are on devices. See docs/devices.md.
    """

    n_ctx: int
    n_batch: int
    n_seq_max: int
    threads: int
    flash_attn: FlashAttention = "off"
    type_k: CacheType = "f16"
    type_v: CacheType = "f16"
    offload_kqv: bool = True
    kv_unified: bool = True
    hook: bool = True
    always_copy: bool = False
    steer: SteerWay = "auto"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read off a decode, beside the log-probabilities that the pass asks for.

    Attributes:
        capture_layers, capture_rows: whose activations are copied.
        logits, entropy: of each output row.
        kl, kl_from_base: KL(steered || unsteered) and KL(unsteered || steered) of each output row, by the logits that
            the base kept.
        n_top: the most likely tokens of each output row.
        sampled_logprobs: ln P of each drawn token by the model itself, before penalties, temperature and the rest.
        attention_bits: a hash of what attention gives each row, before weights meet it, which round it.
        keep_layer: keep what is needed to start where this layer is steered; -1 for nothing.
        keep_logits: keep the logits for KL later.
    """

    capture_layers: tuple[int, ...] = ()
    capture_rows: tuple[int, ...] = ()
    logits: bool = False
    entropy: bool = False
    kl: bool = False
    kl_from_base: bool = False
    n_top: int = 0
    sampled_logprobs: bool = False
    attention_bits: bool = False
    keep_layer: int = -1
    keep_logits: bool = False


class Session:
    """One context of a model. Every pass starts from an empty memory unless it goes on from the one before.

    Attributes:
        model: whose context it is; it lives as long as the session does.
        options: how it was made.
        token_layers: tokens times blocks computed since it was opened.

    Raises:
        EngineError: a context of this size cannot be made.
        InputError: more sequences than n_batch, or than llama.cpp knows.
    """

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.model = model
        self.options = options
        self.token_layers = 0
        self._opened_in = os.getpid()
        path = model.path
        try:
            self._native = _native.make_session(
                model.native,
                n_ctx=options.n_ctx, n_batch=options.n_batch, n_seq_max=options.n_seq_max, n_threads=options.threads,
                flash_attn=FLASH_ATTENTION[options.flash_attn],
                type_k=GGML_TYPES[options.type_k], type_v=GGML_TYPES[options.type_v], offload_kqv=options.offload_kqv,
                kv_unified=options.kv_unified, hook=options.hook, always_copy=options.always_copy,
                in_graph=options.steer == "graph" or (options.steer == "auto" and model.uses_devices),
            )  # fmt: skip
        except _native.ModelFileError as error:
            raise load_failure(path, str(error)) from error
        except ValueError as error:
            sizes = f"n_ctx {options.n_ctx}, n_batch {options.n_batch}, n_seq_max {options.n_seq_max}"
            raise InputError(f"{path}: {sizes}: {error}; give other sizes") from error
        except (_native.DecodeError, MemoryError) as error:
            reason = str(error) or "llama.cpp gives no reason"
            raise EngineError(
                f"{path}: a context of {options.n_ctx} tokens cannot be made: {reason}; lower `n_ctx` or `n_batch`"
                + (", or put fewer blocks on devices with `n_gpu_layers`" if model.uses_devices else "")
            ) from error

    def decode(
        self,
        pass_: Pass,
        operations: Sequence[Operation] = (),
        wanted: Wanted | None = None,
        *,
        base: Kept | None = None,
        keeps_below: bool = False,
        samplers: Sequence[tuple[int, Sampler]] = (),
        fresh: bool = True,
    ) -> Result:
        """Decode one pass.

        Args:
            pass_: the rows.
            operations: what is done to them.
            wanted: what to read off.
            base: start from what this base pass of the same rows kept.
            keeps_below: K and V of the blocks that the base leaves out are in place: the sequence is a copy of the one
                that the base pass was run in, cut back. Then a pass may go on from this one.
            samplers: (row, sampler) pairs, ascending by row: each draws the token after its row.
            fresh: from an empty memory; else the pass goes on from the one before.

        Raises:
            UnsteerableError: the graph lacks the nodes that are steered or captured.
            EngineError: the decode failed, or another thread is in it. The session stays usable.
            InputError: a pass that cannot be.
        """
        wanted = wanted or Wanted()
        with self.translated():
            result = self._native.decode(
                pass_.tokens, pass_.positions, pass_.seq_offsets, pass_.seq_ids, pass_.outputs,
                [(piece.n_rows, piece.copies, piece.trunk) for piece in pass_.pieces],
                fresh=fresh, operations=operations, base=base, keeps_below=keeps_below,
                query_rows=pass_.score_rows, query_tokens=pass_.score_tokens,
                capture_layers=wanted.capture_layers, capture_rows=wanted.capture_rows,
                keep_layer=wanted.keep_layer, keep_logits=wanted.keep_logits,
                want_logits=wanted.logits, want_entropy=wanted.entropy, want_kl=wanted.kl,
                want_kl_from_base=wanted.kl_from_base, n_top=wanted.n_top,
                sampler_rows=[row for row, _ in samplers], samplers=[sampler for _, sampler in samplers],
                want_sampled_logprobs=wanted.sampled_logprobs,
                want_attention_bits=wanted.attention_bits,
                cells=[piece.cells for piece in pass_.pieces if piece.places],
            )  # fmt: skip
        self.token_layers += result.token_layers
        return result

    def copy_sequence(self, source: int, target: int) -> None:
        """Make one stream what another is, K and V of all its positions.

        Raises:
            InputError: no two streams.
            EngineError: another thread is using the session.
        """
        with self.translated():
            self._native.copy_sequence(source, target)

    def cut_sequence(self, sequence: int, n_positions: int) -> None:
        """Give up a sequence's positions from `n_positions` on; K and V stay until others take their cells.

        Raises:
            EngineError: a recurrent state, which cannot go back; or another thread is using the session.
        """
        with self.translated():
            self._native.cut_sequence(sequence, n_positions)

    @contextmanager
    def stock_vector(self, data: FloatArray) -> Iterator[None]:
        """llama.cpp's own control vector while the block lasts: (n_layer - 1, n_embd), from layer 1 on."""
        with self.translated():
            self._native.set_control_vector(np.ascontiguousarray(data).ravel())
        try:
            yield
        finally:
            self._native.clear_control_vector()

    def _refuse_fork(self) -> None:
        """Refuse what would wait for threads that a fork did not take along; a check of some 100 ns.

        Raises:
            EngineError: the session is another process's, or needs threads where that process's ran.
        """
        global _ran_parallel_in
        process = os.getpid()
        if self._opened_in != process:
            reason = f"the engine was opened by process {self._opened_in}, of which this one is a fork"
        elif self.options.threads == 1:
            return
        else:
            _ran_parallel_in = _ran_parallel_in or process
            if _ran_parallel_in == process:
                return
            reason = f"process {_ran_parallel_in}, of which this one is a fork, has decoded in several threads"
        raise EngineError(
            f'{self.model.path}: {reason}; start processes with multiprocessing.get_context("spawn") and open an '
            "engine in each"
        )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the native module as ours."""
        path = self.model.path
        self._refuse_fork()
        try:
            yield
        except _native.UnsteerableGraphError as error:
            raise UnsteerableError(f"{path}: this model cannot be steered: {error}; use another model") from error
        except _native.BusyError as error:
            raise EngineError(f"{path}: {error}; give each thread an engine of its own") from error
        except _native.DecodeError as error:
            raise EngineError(f"{path}: {error}; lower `n_batch` or `n_ctx`, or check the model file") from error
        except ValueError as error:  # a plan that cannot be: tokens or a batch from elsewhere, in practice
            step = "use tokens of this model" if "vocabulary" in str(error) else "pack the queries with this engine"
            raise InputError(f"{path}: {error}; {step}") from error
        except MemoryError as error:
            raise EngineError(f"{path}: there is not enough memory; lower `n_batch` or `n_ctx`") from error


@dataclass(slots=True, eq=False)
class Base:
    """The unsteered pass of a batch, and what it kept so that steered ones start above the layers below.

    Attributes:
        session, batch: whose.
        first_layer: the lowest layer that may be steered.
        logprobs: as `Engine.logprobs`, unsteered.
        token_logprobs: for each query (n_tokens,) those of the tokens of its continuations, one by one.
        reason: why passes are run in full; "" where they are resumed.
        keeps_logits: whether KL can be told.
        n_bytes: memory of what is kept.
        token_layers: tokens times blocks computed for it.
    """

    session: Session
    batch: Batch
    first_layer: int
    logprobs: list[Floats]
    token_logprobs: list[Floats]
    reason: str
    keeps_logits: bool
    n_bytes: int
    token_layers: int
    kept: tuple[Kept, ...]

    @property
    def resumed(self) -> bool:
        """Whether passes start above the layers below."""
        return not self.reason


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What a batch's output rows say about the next token, in the order of the rows.

    Attributes:
        prompt_outputs: (n_queries,) the output row at the end of each query's prompt.
        entropy: (n_outputs,) nats.
        kl: (n_outputs,) nats, KL(steered || unsteered).
        top_tokens, top_logprobs: (n_outputs, top_k), most likely first.
        token_layers: tokens times blocks computed for them.
    """

    prompt_outputs: npt.NDArray[np.int64]
    entropy: Floats
    kl: Floats
    top_tokens: npt.NDArray[np.int32]
    top_logprobs: Floats
    token_layers: int


@dataclass(frozen=True, slots=True, eq=False)
class AnswerKl:
    """How far steering moves the model at each token of one query's continuations, one continuation after the other.

    Attributes:
        kl: (n_tokens,) nats, KL(unsteered || steered) of the distribution that the token is drawn from.
        logprobs: (n_tokens,) nats, ln P of the token itself, steered.
    """

    kl: Floats
    logprobs: Floats


def by_token(batch: Batch, runs: Iterable[tuple[Pass, Floats]]) -> list[Floats]:
    """A number for each token of a batch's continuations, (n_tokens,) for each query, in the order of the tokens.

    Args:
        batch: whose.
        runs: each pass with (n_scores,) numbers, in the order of its scores.
    """
    targets, values = (
        np.concatenate(column)
        for column in zip(*((pass_.score_targets, of_run) for pass_, of_run in runs), strict=True)
    )
    order = np.argsort(targets, kind="stable")  # scores ascend by row, and rows along a continuation
    n_tokens = [sum(map(len, query.continuations)) for query in batch.queries]
    return np.split(values[order], np.cumsum(n_tokens)[:-1])


def summed(batch: Batch, runs: Iterable[tuple[Pass, Result]]) -> list[Floats]:
    """Each continuation's log-probability, (n_continuations,) for each query, from the runs of a batch's passes."""
    total = np.zeros(batch.n_continuations)
    for pass_, result in runs:
        total += np.bincount(pass_.score_targets, weights=result.logprobs, minlength=len(total))
    return np.split(total, np.cumsum([len(query.continuations) for query in batch.queries])[:-1])
