"""GPUs that this machine has and that this build of llama.cpp could be compiled for; read this for the install lines.

pip compiles llama-cpp-python for the CPU unless told otherwise, and afterwards keeps giving that wheel from its cache.
"""

from __future__ import annotations

import ctypes.util
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias

Backend: TypeAlias = Literal["cuda", "metal", "rocm", "vulkan", "rpc"]

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
    """A GPU that lies idle.

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
    found = tuple(_named_gpus(root))
    if found:
        return found
    driver = _vulkan_driver(root)
    return () if driver is None else (Gpu("vulkan", "a GPU with a Vulkan driver", str(driver)),)


def advice(found: Sequence[Gpu], device_names: Sequence[str]) -> tuple[Advice, ...]:
    """What to do for each GPU that llama.cpp does not list among its devices."""
    return tuple(
        Advice(
            f"This machine has {gpu.name} ({gpu.evidence}), which this llama.cpp was not built for; rebuild it with",
            install_line(gpu.backend),
        )
        for gpu in found
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
