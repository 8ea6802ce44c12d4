"""One GGUF file, loaded: weights, vocabulary and chat template, shared by any number of sessions.

The native module is loaded here, behind llama_cpp: read this when loading fails.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import llama_cpp  # before _native: it loads libllama under the name that _native asks for; otherwise it loads twice

from steercpp import _native
from steercpp.engine.devices import DeviceOptions, install_line
from steercpp.engine.fitting import blocks_that_fit
from steercpp.engine.model_file import check_model_file, load_failure, model_bytes, model_files
from steercpp.engine.model_header import Value, check_header, check_types, kv_widths, n_blocks
from steercpp.engine.opened_model import OpenedModel
from steercpp.engine.rpc import connectable
from steercpp.engine.vocabulary import Vocabulary
from steercpp.errors import EngineError, InputError

LLAMA_CPP_PYTHON = "0.3.36"  # the version whose libraries _native was built against

if llama_cpp.__version__ != LLAMA_CPP_PYTHON:
    raise EngineError(
        f"llama-cpp-python {llama_cpp.__version__} is installed but steercpp was built against {LLAMA_CPP_PYTHON}; "
        f"run: pip install llama-cpp-python=={LLAMA_CPP_PYTHON}"
    )

_native.log_install(os.environ.get("STEERCPP_LOG", "0") not in ("", "0"))


class Model:
    """What a model file holds, in memory once. Nothing here changes while it is used, so threads may share it.

    There is no closing: each `Session` holds its model, and the last reference frees it.

    Args:
        path: a GGUF file, of a split model the first shard.
        devices: where its blocks are computed.

    Attributes:
        path: as given.
        devices: as given, but with the number of blocks on devices settled.
        files: its files, held open.
        native: the model as the native module has it, for sessions.
        vocabulary: its tokens and its chat template.
        n_layer, n_embd, n_vocab: blocks, values of a residual stream's row, tokens of the vocabulary.
        n_ctx_train: tokens of context that it was trained for.
        architecture, description: in llama.cpp's words.
        kv_widths: values of K and of V that a token takes in all blocks together.
        uses_devices: whether blocks are on devices, not in this machine's memory.
        is_recurrent: whether it has a recurrent state, so that sequences are decoded one at a time.

    Raises:
        ModelError: the file cannot be loaded, or is no decoder with a vocabulary and weights.
        EngineError: an RPC server cannot be reached.
        InputError: a device that is not there.
    """

    def __init__(self, path: str | Path, devices: DeviceOptions | None = None) -> None:
        self.path = Path(path)
        self.devices = DeviceOptions() if devices is None else devices
        check_model_file(self.path)
        self.files = OpenedModel(self.path, is_mapped=self.devices.use_mmap)
        header = _checked_header(self.path)
        self.kv_widths = kv_widths(header)
        self.devices = _settled(self.devices, self.path, header)
        native = self.native = _loaded(self.path, self.devices)
        self.files.refuse_replaced()
        self.vocabulary = Vocabulary(native)
        self.n_layer, self.n_embd, self.n_vocab = native.n_layer, native.n_embd, native.n_vocab
        self.n_ctx_train = native.n_ctx_train
        self.architecture, self.description = native.metadata("general.architecture"), native.description
        self.is_recurrent, self.uses_devices = native.is_recurrent, native.uses_devices

    @property
    def sha256(self) -> str:
        """Hash of the model in hexadecimal, see `OpenedModel`; its files are read once, when it is first asked for.

        Raises:
            ModelError: they have changed since, or cannot be read.
        """
        return self.files.sha256()


def _checked_header(path: Path) -> Mapping[str, Value]:
    """The keys of a model, which llama.cpp can work with, as its tensors' types."""
    of_files = [(file, *_native.header(os.fsencode(file))) for file in model_files(path)]
    for file, _, odd in of_files:
        check_types(file, odd)
    header = of_files[0][1]
    check_header(path, header)
    return header


def _settled(options: DeviceOptions, path: Path, header: Mapping[str, Value]) -> DeviceOptions:
    """The options with a number of blocks on devices."""
    if options.n_gpu_layers is not None:
        return options
    if options.rpc:
        return replace(options, n_gpu_layers=-1)
    free = _native.free_gpu_memory()
    if options.split_mode == "none":
        free = free[options.main_gpu : options.main_gpu + 1]
    if not free:
        return replace(options, n_gpu_layers=0)
    fitting = blocks_that_fit(
        n_blocks(header), model_bytes=model_bytes(path), kv_width=sum(kv_widths(header)), free_bytes=free,
        tensor_split=options.tensor_split,
    )  # fmt: skip
    return replace(options, n_gpu_layers=fitting)


def _loaded(path: Path, options: DeviceOptions) -> _native.Model:
    if options.rpc and not _native.supports_rpc():
        raise EngineError(f"this llama.cpp was built without RPC; install it with it: {install_line('rpc')}")
    try:
        with connectable(options.rpc, protocol=_native.rpc_protocol(), is_held=_native.holds_rpc_server):
            return _native.load_model(os.fsencode(path), **options.load_arguments())
    except _native.DeviceError as error:
        raise InputError(f"{path}: {error}; `steercpp doctor` shows this machine's devices") from error
    except _native.ModelFileError as error:
        raise load_failure(path, str(error)) from error


def end_with_code() -> None:
    """Where llama.cpp cannot go on and ends the process, let that be exit code 1 instead of an abort.

    For the command line, which has said in one sentence why. A library's process aborts, as a debugger wants it. So
    with a mapped file, such as the model, that is cut while it is used, which is told too.
    """
    _native.aborts_exit(True)
    _native.bus_install()


def supports_rpc() -> bool:
    """Whether this build of llama.cpp can compute on other machines."""
    return _native.supports_rpc()


def devices() -> tuple[dict[str, str | int], ...]:
    """Devices that this build of llama.cpp can compute on: name, description, free and total bytes of memory."""
    keys = ("name", "description", "free_bytes", "total_bytes")
    return tuple(dict(zip(keys, device, strict=True)) for device in _native.devices())


def build() -> dict[str, str]:
    """What decides the bits of a result besides model and options: the build of llama.cpp, and the CPU's features."""
    return {
        "llama_cpp_python": llama_cpp.__version__,
        "llama_cpp": _native.llama_version(),
        "cpu": _native.system_info().strip(),
    }
