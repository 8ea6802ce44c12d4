"""A model that can be steered: loads it, packs prompts, returns probabilities, logits and activations.

The only importer of the native module. Every pass is decoded from an empty memory, so that the same batch at the same
strengths gives the same bits, whatever was decoded before and whatever failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

import llama_cpp  # before _native: it loads libllama under the name that _native asks for; otherwise it loads twice
import numpy as np
import numpy.typing as npt

from steercpp import _native
from steercpp.errors import (
    DegenerateError,
    EngineError,
    InputError,
    NonFiniteError,
    UnsteerableError,
)
from steercpp.machine import physical_cores
from steercpp.model_file import check_model_file, load_failure
from steercpp.packing import Batch, Limits, Pass, Query, pack
from steercpp.steering import Strengths, checked_layers, operations, per_query
from steercpp.vocabulary import Vocabulary

if TYPE_CHECKING:
    from steercpp.control_vector import ControlVector
    from steercpp.self_test import Check

FloatArray: TypeAlias = npt.NDArray[np.float32]
Progress: TypeAlias = Callable[[int, int], None]  # done, of how many
FlashAttention: TypeAlias = Literal["off", "on", "auto"]
CacheType: TypeAlias = Literal["f16", "f32"]
Settings: TypeAlias = dict[str, str | int]

LLAMA_CPP_PYTHON = "0.3.36"  # the version whose libraries _native was built against
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # enum llama_flash_attn_type
_CACHE_TYPES = {"f16": 1, "f32": 0}  # enum ggml_type
_MOST_CONTEXT = 2**24  # beyond any model; llama.cpp would take memory until the system ends the process
_MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ; the unified K/V buffer grows with n_ctx alone, so take them all

if llama_cpp.__version__ != LLAMA_CPP_PYTHON:
    raise EngineError(
        f"llama-cpp-python {llama_cpp.__version__} is installed but steercpp was built against {LLAMA_CPP_PYTHON}; "
        f"run: pip install llama-cpp-python=={LLAMA_CPP_PYTHON}"
    )
_native.log_install(os.environ.get("STEERCPP_LOG", "0") not in ("", "0"))


class Engine(Vocabulary):
    """One model and its context, for one thread at a time; also its `Vocabulary`. Use it as a context manager.

    Args:
        model_path: a GGUF file.
        n_ctx: tokens of context; by default what the model was trained for, at most 4096.
        n_batch: tokens decoded together, each attending over the others' cells too: more is slower for small models on
            a CPU. A longer query is cut.
        threads: CPU threads; by default the physical cores.
        n_gpu_layers: blocks computed by a GPU, -1 for all.
        flash_attn: "off" keeps packed prompts closest to single ones.
        cache_type: what K and V are kept in; "f16" is llama.cpp's own, "f32" closer still.

    Raises:
        ModelError: the file cannot be loaded, or is no decoder with a vocabulary and weights.
        EngineError: a context of this size cannot be made.
        InputError: an option out of range.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        n_ctx: int | None = None,
        n_batch: int = 256,
        threads: int | None = None,
        n_gpu_layers: int = 0,
        flash_attn: FlashAttention = "off",
        cache_type: CacheType = "f16",
    ) -> None:
        self.path = Path(model_path)
        for name, value in (("n_ctx", n_ctx), ("n_batch", n_batch), ("threads", threads)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give at least 1")
        if n_ctx is not None and n_ctx > _MOST_CONTEXT:
            raise InputError(f"n_ctx is {n_ctx}; give at most {_MOST_CONTEXT}")
        if flash_attn not in _FLASH_ATTENTION:
            raise InputError(f"flash_attn is {flash_attn!r}; use off, on or auto")
        if cache_type not in _CACHE_TYPES:
            raise InputError(f"cache_type is {cache_type!r}; use f16 or f32")
        check_model_file(self.path)
        model = self._load(n_gpu_layers)
        super().__init__(model)
        self._model = model
        self.n_layer, self.n_embd, self.n_vocab = model.n_layer, model.n_embd, model.n_vocab
        self.n_ctx_train = model.n_ctx_train
        self.n_ctx = n_ctx or min(model.n_ctx_train, 4096)
        self.architecture = model.metadata("general.architecture")
        self.description = model.description
        n_batch = min(n_batch, self.n_ctx)
        # llama.cpp regroups a recurrent model's rows by sequence; one sequence at a time keeps them in order.
        n_seq_max = 1 if model.is_recurrent else min(_MAX_SEQUENCES, n_batch)
        self._limits = Limits(n_batch=n_batch, n_ctx=self.n_ctx, n_seq_max=n_seq_max)
        self._options: Settings = {
            "n_batch": n_batch,
            "threads": threads or physical_cores(),
            "n_gpu_layers": n_gpu_layers,
            "flash_attn": flash_attn,
            "cache_type": cache_type,
        }
        self._session: _native.Session | None = self._open()

    def _load(self, n_gpu_layers: int) -> _native.Model:
        try:
            return _native.load_model(os.fspath(self.path), n_gpu_layers)
        except _native.ModelFileError as error:
            raise load_failure(self.path, str(error)) from error

    def _open(self, *, always_copy: bool = False) -> _native.Session:
        try:
            return _native.make_session(
                self._model,
                n_ctx=self.n_ctx,
                n_batch=self._limits.n_batch,
                n_seq_max=self._limits.n_seq_max,
                n_threads=int(self._options["threads"]),
                flash_attn=_FLASH_ATTENTION[str(self._options["flash_attn"])],
                cache_type=_CACHE_TYPES[str(self._options["cache_type"])],
                always_copy=always_copy,
            )
        except _native.ModelFileError as error:
            raise load_failure(self.path, str(error)) from error
        except (_native.DecodeError, MemoryError) as error:
            reason = str(error) or "llama.cpp gives no reason"
            raise EngineError(
                f"{self.path}: a context of {self.n_ctx} tokens cannot be made: {reason}; lower n_ctx or n_batch"
            ) from error

    def close(self) -> None:
        """Free the context and, with the last reference, the model."""
        self._session = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def settings(self) -> Settings:
        """What decides the bits of a result besides model and batch: for manifests."""
        return {
            "llama_cpp_python": llama_cpp.__version__,
            "llama_cpp": _native.llama_version(),
            "cpu": _native.system_info().strip(),
            "n_ctx": self.n_ctx,
            **self._options,
        }

    def pack(self, queries: Sequence[Query]) -> tuple[Batch, ...]:
        """Batches of whole queries, in order; see packing.py.

        Raises:
            ContextOverflowError: a query needs more positions than the context has.
        """
        return pack(queries, self._limits)

    def logprobs(
        self, batch: Batch, *, vector: ControlVector | None = None, strengths: Strengths = 0.0
    ) -> list[npt.NDArray[np.float64]]:
        """Log-probability of each continuation after its prompt.

        Args:
            batch: one of `pack`'s.
            vector: what to add; None for nothing.
            strengths: one number, or one per query of the batch.

        Returns:
            for each query (n_continuations,) float64, natural logs, summed over a continuation's tokens.

        Raises:
            NonFiniteError: a strength drives the activations out of float32's range.
            UnsteerableError: the model's graph has no activations to steer at a layer of the vector.
            ShapeError, LayerError, StrengthError: a vector or strengths that do not fit.
            EngineError: the decode failed, or another thread is using this engine. The engine stays usable.
        """
        total = np.zeros(batch.n_continuations)
        for part, result in self._run(batch, vector, strengths):
            total += np.bincount(part.score_targets, weights=result.logprobs, minlength=len(total))
        return np.split(total, np.cumsum([len(query.continuations) for query in batch.queries])[:-1])

    def logits(self, batch: Batch, *, vector: ControlVector | None = None, strengths: Strengths = 0.0) -> FloatArray:
        """Logits of the batch's output rows, (n_outputs, n_vocab) float32: the prompts' ends and what continues them.

        Raises:
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        results = self._run(batch, vector, strengths, want_logits=True)
        return np.concatenate([result.logits for _, result in results])

    def activations(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        layers: Sequence[int] | None = None,
        vector: ControlVector | None = None,
        strengths: Strengths = 0.0,
        progress: Progress | None = None,
    ) -> FloatArray:
        """Activations of each prompt's last token.

        Args:
            prompts: tokens of each prompt.
            layers: which layers, by default all; what a vector adds at a layer is contained in its activation.
            vector: what to add; None for nothing.
            strengths: one number, or one per prompt.
            progress: called with the number of prompts done and of all.

        Returns:
            (n_prompts, n_layers, n_embd) float32.

        Raises:
            ContextOverflowError: a prompt is longer than the context.
            NonFiniteError, UnsteerableError, ...: as `logprobs`.
        """
        wanted = list(range(self.n_layer)) if layers is None else checked_layers(layers, self.n_layer)
        per_prompt = per_query(strengths, len(prompts))
        values = np.empty((len(prompts), len(wanted), self.n_embd), np.float32)
        for batch in self.pack([Query(tuple(prompt)) for prompt in prompts]):
            places = slice(batch.first, batch.first + len(batch.queries))
            for part, result in self._run(batch, vector, per_prompt[places], capture_layers=wanted):
                values[batch.first + part.prompt_owners] = result.captures.swapaxes(0, 1)
            if progress is not None:
                progress(places.stop, len(prompts))
        return values

    def residual_norms(self, prompts: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, float]:
        """Median length of the residual stream at each layer, over all tokens but the begin-of-sequence token.

        Raises:
            DegenerateError: no other tokens.
            ContextOverflowError, UnsteerableError, ...: as `activations`.
        """
        wanted = checked_layers(layers, self.n_layer)
        bos = self._tokenizer.bos
        norms: list[npt.NDArray[np.float64]] = []
        for batch in self.pack([Query(tuple(prompt)) for prompt in prompts]):
            for part, result in self._run(batch, None, 0.0, capture_layers=wanted, capture_all=True):
                captured = result.captures[:, part.tokens != bos].astype(np.float64)
                norms.append(np.linalg.norm(captured, axis=-1))
        lengths = np.concatenate(norms, axis=1) if norms else np.empty((len(wanted), 0))
        if lengths.shape[1] == 0:
            raise DegenerateError("the prompts have no tokens but the begin-of-sequence token; give them some text")
        return dict(zip(wanted, np.median(lengths, axis=1).tolist(), strict=True))

    def self_test(self) -> tuple[Check, ...]:
        """Whether steering works with this model and these libraries; see self_test.py."""
        from steercpp.self_test import run_self_test

        return run_self_test(self)

    def stock_logits(self, batch: Batch, vector: ControlVector) -> FloatArray:
        """Logits as `logits`, but steered by llama.cpp's own control vector at strength 1; layer 0 is left out."""
        data = np.zeros((self.n_layer, self.n_embd), np.float32)
        for il, direction, _ in operations(vector, np.ones(1, np.float32), n_layer=self.n_layer, n_embd=self.n_embd):
            data[il] = direction
        session = self._opened()
        with self._translated():
            session.set_control_vector(data[1:].ravel())
        try:
            return self.logits(batch)
        finally:
            session.clear_control_vector()

    def _run(
        self,
        batch: Batch,
        vector: ControlVector | None,
        strengths: Strengths,
        *,
        capture_layers: Sequence[int] = (),
        capture_all: bool = False,
        want_logits: bool = False,
    ) -> Iterator[tuple[Pass, _native.DecodeResult]]:
        session = self._opened()
        strength_of = per_query(strengths, len(batch.queries))
        for part in batch.passes:
            all_outputs = capture_all and self.n_layer - 1 in capture_layers  # the last block keeps output rows only
            with self._translated():
                result = session.decode(
                    part.tokens,
                    part.positions,
                    part.seq_offsets,
                    part.seq_ids,
                    np.ones_like(part.outputs) if all_outputs else part.outputs,
                    operations=operations(vector, strength_of[part.owners], n_layer=self.n_layer, n_embd=self.n_embd),
                    capture_layers=list(capture_layers),
                    capture_rows=range(len(part.tokens)) if capture_all else part.prompt_ends.tolist(),
                    query_rows=part.score_rows,
                    query_tokens=part.score_tokens,
                    want_logits=want_logits,
                )
            if result.nonfinite_row >= 0:
                place = int(part.owners[result.nonfinite_row])
                raise self._nonfinite(batch.first + place, float(strength_of[place]), vector)
            yield part, result

    def _nonfinite(self, query: int, strength: float, vector: ControlVector | None) -> NonFiniteError:
        if vector is None or strength == 0:
            return NonFiniteError(f"{self.path}: query {query}: unsteered output is not finite; check the model file")
        return NonFiniteError(
            f"query {query}: at strength {strength:g} the activations leave float32's range; use a smaller strength"
        )

    def _opened(self) -> _native.Session:
        if self._session is None:
            raise EngineError(f"{self.path}: the engine is closed; open the model again")
        return self._session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _native.UnsteerableGraphError as error:
            raise UnsteerableError(f"{self.path}: this model cannot be steered: {error}; use another model") from error
        except _native.BusyError as error:
            raise EngineError(f"{self.path}: {error}; give each thread an engine of its own") from error
        except _native.DecodeError as error:
            raise EngineError(f"{self.path}: {error}; lower n_batch or n_ctx, or check the model file") from error
        except ValueError as error:  # a plan that cannot be: tokens from elsewhere, in practice
            raise InputError(f"{self.path}: {error}; use tokens of this model") from error


def devices() -> tuple[dict[str, str | int], ...]:
    """Devices that this build of llama.cpp can compute on: name, description, free and total bytes of memory."""
    keys = ("name", "description", "free_bytes", "total_bytes")
    return tuple(dict(zip(keys, device, strict=True)) for device in _native.devices())


def supports_gpu() -> bool:
    """Whether this build of llama.cpp can use a GPU at all."""
    return _native.supports_gpu_offload()
