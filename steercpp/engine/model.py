"""A loaded model with its context and its options; `Engine` is this with all that is measured on it."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import llama_cpp  # before _native, see session.py

from steercpp import _native
from steercpp.choices import FlashAttention
from steercpp.engine.batch import Limits
from steercpp.engine.devices import DeviceOptions, install_line
from steercpp.engine.model_file import check_model_file, load_failure
from steercpp.engine.rpc import connectable
from steercpp.engine.session import FLASH_ATTENTION, ContextOptions, Session
from steercpp.engine.vocabulary import Vocabulary
from steercpp.errors import EngineError, InputError
from steercpp.provenance import file_sha256, physical_cores

Settings: TypeAlias = dict[str, str | int]

_MOST_CONTEXT = 2**24  # beyond any model; llama.cpp would take memory until the system ends the process
_MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ; the unified K/V buffer grows with n_ctx alone, so take them all
_MOST_ROWS = 8192  # of one batch: what an interrupted sweep may lose at most

_Self = TypeVar("_Self", bound="LoadedModel")

_native.log_install(os.environ.get("STEERCPP_LOG", "0") not in ("", "0"))


class LoadedModel(Vocabulary):
    """One model and its context, for one thread at a time; also its `Vocabulary`. Use it as a context manager.

    Args:
        model_path: a GGUF file.
        n_ctx: tokens of context; by default what the model was trained for, at most 4096.
        n_batch: tokens decoded together, each attending over the others' cells too: more is slower for small models on
            a CPU.
        threads: CPU threads; by default the physical cores.
        flash_attn: "off" keeps packed prompts closest to single ones.
        keep_mib: memory for the rows that base passes keep; the size of a batch follows from it.
        devices: where the blocks are computed and what K and V are kept in: the keywords of `DeviceOptions`.

    Raises:
        ModelError: the file cannot be loaded, or is no decoder with a vocabulary and weights.
        EngineError: a context of this size cannot be made, or a device cannot be reached.
        InputError: an option out of range.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        n_ctx: int | None = None,
        n_batch: int = 256,
        threads: int | None = None,
        flash_attn: FlashAttention = "off",
        keep_mib: int = 512,
        **devices: Any,
    ) -> None:
        self.path = Path(model_path)
        self.devices = DeviceOptions(**devices)
        _check_options(n_ctx=n_ctx, n_batch=n_batch, threads=threads, keep_mib=keep_mib)
        if flash_attn not in FLASH_ATTENTION:
            raise InputError(f"flash_attn is {flash_attn!r}; use off, on or auto")
        self.devices.check_flash_attention(flash_attn)
        check_model_file(self.path)
        model = self._load()
        super().__init__(model)
        self._model = model
        self.n_layer, self.n_embd, self.n_vocab = model.n_layer, model.n_embd, model.n_vocab
        self.n_ctx_train = model.n_ctx_train
        self.n_ctx = n_ctx or min(model.n_ctx_train, 4096)
        self.architecture = model.metadata("general.architecture")
        self.description = model.description
        self.keep_bytes = keep_mib * 2**20
        n_batch = min(n_batch, self.n_ctx)
        self._context = ContextOptions(
            n_ctx=self.n_ctx,
            n_batch=n_batch,
            # llama.cpp regroups a recurrent model's rows by sequence; one sequence at a time keeps them in order.
            n_seq_max=1 if model.is_recurrent else min(_MAX_SEQUENCES, n_batch),
            threads=threads or physical_cores(),
            flash_attn=flash_attn,
            **self.devices.context_arguments(),
        )
        self._limits = Limits(
            n_batch=n_batch,
            n_ctx=self.n_ctx,
            n_seq_max=self._context.n_seq_max,
            n_group=max(min(_MOST_ROWS, self.keep_bytes // (4 * self.n_embd)), n_batch),
        )
        self._session: Session | None = self.open_session()

    def _load(self) -> _native.Model:
        if self.devices.rpc and not _native.supports_rpc():
            raise EngineError(f"this llama.cpp was built without RPC; install it with it: {install_line('rpc')}")
        try:
            with connectable(self.devices.rpc, protocol=_native.rpc_protocol(), is_held=_native.holds_rpc_server):
                return _native.load_model(os.fspath(self.path), **self.devices.load_arguments())
        except _native.DeviceError as error:
            raise InputError(f"{self.path}: {error}; `steercpp doctor` shows this machine's devices") from error
        except _native.ModelFileError as error:
            raise load_failure(self.path, str(error)) from error

    def open_session(self, **changes: Any) -> Session:
        """Another context of this model, with these changes to the engine's own `ContextOptions`.

        Raises:
            EngineError: it cannot be made. The engine stays usable.
            InputError: more sequences than n_batch, or than llama.cpp knows.
        """
        return Session(self.path, self._model, replace(self._context, **changes))

    def close(self) -> None:
        """Free the context and, with the last reference, the model."""
        self._session = None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def session(self) -> Session:
        """The context.

        Raises:
            EngineError: the engine is closed.
        """
        if self._session is None:
            raise EngineError(f"{self.path}: the engine is closed; open the model again")
        return self._session

    @property
    def token_layers(self) -> int:
        """Tokens times blocks computed since the model was opened."""
        return self.session.token_layers

    @property
    def is_recurrent(self) -> bool:
        """Whether the model has a recurrent state, so that sequences are decoded one at a time."""
        return bool(self._model.is_recurrent)

    @cached_property
    def sha256(self) -> str:
        """Hash of the model's file in hexadecimal; the file is read once, when it is first asked for.

        Raises:
            OSError: it cannot be read any more.
        """
        return file_sha256(self.path)

    def settings(self) -> Settings:
        """What decides the bits of a result besides the model, how it is packed included: for manifests."""
        return {
            "llama_cpp_python": llama_cpp.__version__,
            "llama_cpp": _native.llama_version(),
            "cpu": _native.system_info().strip(),
            "n_ctx": self.n_ctx,
            "n_batch": self._context.n_batch,
            "n_group": self._limits.n_group,
            "threads": self._context.threads,
            "flash_attn": self._context.flash_attn,
            **self.devices.settings(),
        }


def _check_options(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; give at least 1")
    n_ctx = values["n_ctx"]
    if n_ctx is not None and n_ctx > _MOST_CONTEXT:
        raise InputError(f"n_ctx is {n_ctx}; give at most {_MOST_CONTEXT}")


def devices() -> tuple[dict[str, str | int], ...]:
    """Devices that this build of llama.cpp can compute on: name, description, free and total bytes of memory."""
    keys = ("name", "description", "free_bytes", "total_bytes")
    return tuple(dict(zip(keys, device, strict=True)) for device in _native.devices())


def supports_gpu() -> bool:
    """Whether this build of llama.cpp can use a GPU at all."""
    return _native.supports_gpu_offload()
