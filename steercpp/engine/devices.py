"""Where a model is computed and what its K/V cache is kept in; and GPUs that this build of llama.cpp leaves idle.

Each of `DeviceOptions` means what the option of the same name means to llama.cpp (`--main-gpu`, `--cache-type-k` ...).
For the doctor, the GPUs of this machine are found by what their drivers leave in files, and the command is named that
compiles llama-cpp-python for them.
"""

from __future__ import annotations

import ctypes.util
import math
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

from steercpp.choices import CACHE_TYPES, SPLIT_MODES, CacheType, SplitMode
from steercpp.errors import InputError

Backend: TypeAlias = Literal["cuda", "metal", "rocm", "vulkan", "rpc"]

MOST_DEVICES = 16  # llama_max_devices(), and GGML_RPC_MAX_SERVERS
GGML_TYPES: dict[CacheType, int] = {  # enum ggml_type
    "f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2, "q4_1": 3, "iq4_nl": 20, "q5_0": 6, "q5_1": 7,
}  # fmt: skip

BITS: dict[CacheType, float] = {  # of a value, its share of a block's scale included
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5, "iq4_nl": 4.5, "q5_0": 5.5, "q5_1": 6,
}  # fmt: skip

_FLAGS: dict[Backend, str] = {
    "cuda": "-DGGML_CUDA=ON",
    "metal": "-DGGML_METAL=ON",
    "rocm": "-DGGML_HIP=ON",
    "vulkan": "-DGGML_VULKAN=ON",
    "rpc": "-DGGML_RPC=ON",
}
# How llama.cpp names the devices of each: CUDA0, MTL0, ROCm0. Vulkan drives GPUs of any make.
_DEVICES: dict[Backend, tuple[str, ...]] = {
    "cuda": ("CUDA", "Vulkan"),
    "metal": ("MTL", "Metal"),
    "rocm": ("ROCm", "Vulkan"),
    "vulkan": ("Vulkan",),
}
_DRIVERS = ("usr/share/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "etc/vulkan/icd.d")
_SOFTWARE_DRIVERS = ("lvp_", "swrast", "gfxstream", "virtio")  # they compute on the CPU, or on another machine's GPU


class LoadArguments(TypedDict):
    """How the native module takes the options of a model."""

    n_gpu_layers: int
    main_gpu: int
    split_mode: int
    use_mmap: bool
    tensor_split: list[float]
    rpc: list[str]


class ContextArguments(TypedDict):
    """The options that a context takes."""

    type_k: CacheType
    type_v: CacheType
    offload_kqv: bool


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Options of devices, checked.

    Attributes:
        n_gpu_layers: blocks computed on devices, the last ones first; -1 for all, and the output with them. None is
            settled when a model is loaded: all with servers of `rpc`, else as many as fit on this machine's GPUs.
        main_gpu: the device that computes everything where split_mode is "none".
        split_mode: how several devices share the model: "none", "layer" or "row".
        tensor_split: each device's share, such as (3, 1); by default by free memory. Devices of `rpc` come first, in
            the order given, then this machine's.
        rpc: servers of llama.cpp's RPC backend, "HOST:PORT" each; one text may hold several, with commas between.
        type_k, type_v: what K and V are kept in. A quantized V needs flash attention.
        use_mmap: map the model file into memory instead of reading it. What llama.cpp lays out again for the CPU, such
            as Q4_0, is then in memory twice, but a model that does not fit into memory can be run, slowly.
        offload_kqv: whether attention and the K/V cache are on the devices with their blocks.

    Raises:
        InputError: a value that llama.cpp could not use, or would ignore.
    """

    n_gpu_layers: int | None = None
    main_gpu: int = 0
    split_mode: SplitMode = "layer"
    tensor_split: Sequence[float] = ()
    rpc: str | Sequence[str] = ()
    type_k: CacheType = "f16"
    type_v: CacheType = "f16"
    offload_kqv: bool = True
    use_mmap: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensor_split", _checked_split(self.tensor_split))
        object.__setattr__(self, "rpc", _checked_servers(self.rpc))
        if self.n_gpu_layers is not None and self.n_gpu_layers < -1:
            raise InputError(f"n_gpu_layers is {self.n_gpu_layers}; give a number of blocks, or -1 for all")
        if not 0 <= self.main_gpu < MOST_DEVICES:
            raise InputError(f"main_gpu is {self.main_gpu}; give the number of a device, 0 to {MOST_DEVICES - 1}")
        if self.split_mode not in SPLIT_MODES:
            raise InputError(f"split_mode is {self.split_mode!r}; use {_one_of(SPLIT_MODES)}")
        for name, value in (("type_k", self.type_k), ("type_v", self.type_v)):
            if value not in CACHE_TYPES:
                raise InputError(f"{name} is {value!r}; use {_one_of(tuple(CACHE_TYPES))}")
        if self.rpc and self.n_gpu_layers == 0:
            raise InputError("rpc servers compute nothing while n_gpu_layers is 0; give a number of blocks, or -1")

    def load_arguments(self) -> LoadArguments:
        """Keyword arguments of the native load_model."""
        return {
            "n_gpu_layers": self.n_gpu_layers or 0,
            "main_gpu": self.main_gpu,
            "split_mode": SPLIT_MODES.index(self.split_mode),
            "use_mmap": self.use_mmap,
            "tensor_split": list(self.tensor_split),
            "rpc": list(self.rpc),
        }

    def check_flash_attention(self, flash_attn: str) -> None:
        """Refuse a quantized V without flash attention, which llama.cpp cannot compute.

        Raises:
            InputError: it is off.
        """
        if flash_attn == "off" and self.type_v not in ("f32", "f16", "bf16"):
            raise InputError(f"type_v {self.type_v} needs flash attention; use `flash_attn=on` or `type_v=f16`")

    def context_arguments(self) -> ContextArguments:
        """Keyword arguments of ContextOptions."""
        return {"type_k": self.type_k, "type_v": self.type_v, "offload_kqv": self.offload_kqv}

    def settings(self) -> dict[str, str | int]:
        """What decides the bits of a result, for manifests: lists become text as llama.cpp writes them."""
        return {
            "n_gpu_layers": self.n_gpu_layers or 0,
            "main_gpu": self.main_gpu,
            "split_mode": self.split_mode,
            "tensor_split": ",".join(f"{share:g}" for share in self.tensor_split),
            "rpc": ",".join(self.rpc),
            "type_k": self.type_k,
            "type_v": self.type_v,
            "offload_kqv": int(self.offload_kqv),
        }


def parse_tensor_split(text: str) -> tuple[float, ...]:
    """Shares from text such as "3,1" or, as llama.cpp allows, "3/1".

    Raises:
        InputError: not numbers.
    """
    try:
        return tuple(float(share) for share in text.replace("/", ",").split(",") if share.strip())
    except ValueError as error:
        raise InputError(f"tensor_split {text!r} is no list of numbers; write shares such as 3,1") from error


def split_address(server: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT".

    Raises:
        InputError: not of this form. llama.cpp's RPC speaks IPv4 alone.
    """
    host, _, port = server.partition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 2**16:
        raise InputError(f"rpc server {server!r} is no HOST:PORT; write a name or IPv4 address, and a port to 65535")
    return host, int(port)


def _checked_servers(rpc: str | Sequence[str]) -> tuple[str, ...]:
    texts = (rpc,) if isinstance(rpc, str) else rpc
    servers = tuple(server.strip() for text in texts for server in text.split(",") if server.strip())
    for server in servers:
        split_address(server)
    if len(set(servers)) < len(servers):
        raise InputError(f"rpc servers {', '.join(servers)}: one is given twice; a server serves one client at a time")
    if len(servers) > MOST_DEVICES:
        raise InputError(f"{len(servers)} rpc servers are given; llama.cpp takes at most {MOST_DEVICES}")
    return servers


def _checked_split(shares: Sequence[float]) -> tuple[float, ...]:
    split = tuple(float(share) for share in shares)
    if len(split) > MOST_DEVICES:
        raise InputError(f"tensor_split has {len(split)} shares; llama.cpp takes at most {MOST_DEVICES}")
    if any(not math.isfinite(share) or share < 0 for share in split) or (split and sum(split) == 0):
        raise InputError(f"tensor_split is {split}; give shares of at least 0, and one above it")
    return split


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        backend: the part of llama.cpp that would use it.
        name: what it is.
        evidence: how that is known.
    """

    backend: Backend
    name: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What would make this machine faster.

    Attributes:
        finding: a sentence.
        command: what to run.
    """

    finding: str
    command: str


def install_line(backend: Backend) -> str:
    """The command that compiles llama-cpp-python with a backend, of the version that is installed."""
    try:
        package = f"llama-cpp-python=={version('llama-cpp-python')}"
    except PackageNotFoundError:
        package = "llama-cpp-python"
    return (
        f"CMAKE_ARGS={_FLAGS[backend]} pip install --no-cache-dir --force-reinstall --no-deps "
        f"--no-binary llama-cpp-python {package}"
    )


def gpus(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """GPUs found on this machine, by what their drivers leave in files; `root` is where these are looked for."""
    named = tuple(_named_gpus(root))
    if named:
        return named
    driver = _vulkan_driver(root)
    return () if driver is None else (Gpu("vulkan", "a GPU with a Vulkan driver", str(driver)),)


def advice(present: Sequence[Gpu], device_names: Sequence[str]) -> tuple[Advice, ...]:
    """What to do for each GPU that llama.cpp does not list among its devices."""
    return tuple(
        Advice(
            f"This machine has {gpu.name} ({gpu.evidence}), which this llama.cpp was not built for; rebuild it with",
            install_line(gpu.backend),
        )
        for gpu in present
        if not any(name.startswith(_DEVICES[gpu.backend]) for name in device_names)
    )


def _named_gpus(root: Path) -> Iterator[Gpu]:
    nvidia = _nvidia_evidence(root)
    if nvidia is not None:
        yield Gpu("cuda", "an NVIDIA GPU", nvidia)
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        yield Gpu("metal", "an Apple GPU", "Apple Silicon")
    kfd = root / "dev" / "kfd"
    if kfd.exists():
        yield Gpu("rocm", "an AMD GPU", str(kfd))


def _nvidia_evidence(root: Path) -> str | None:
    driver = root / "proc" / "driver" / "nvidia" / "version"
    if driver.exists():
        return str(driver)
    return shutil.which("nvidia-smi") or ctypes.util.find_library("cuda")


def _vulkan_driver(root: Path) -> Path | None:
    """A driver for a GPU, and a GPU to drive: packages install the drivers of all makes alike."""
    if not any((root / "dev" / "dri").glob("renderD*")):
        return None
    drivers = (file for folder in _DRIVERS for file in sorted((root / folder).glob("*.json")))
    return next((file for file in drivers if not file.name.startswith(_SOFTWARE_DRIVERS)), None)
