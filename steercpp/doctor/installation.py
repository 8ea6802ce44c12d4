"""Whether an installation steers as it should: the flow behind `steercpp doctor`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.doctor.self_test import Check
from steercpp.doctor.stranger import Examined, examine_apart, examine_here
from steercpp.engine.devices import Advice, advice, gpus
from steercpp.errors import SteerError
from steercpp.judging.sandbox import working_way
from steercpp.provenance import machine, versions

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine

MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        versions, machine: of packages, and the kind of machine.
        libraries: files from which llama.cpp and the native module are loaded.
        devices: what llama.cpp can compute on, with bytes of memory.
        advice: each GPU of the machine that this build of llama.cpp cannot use, and weights of the model that another
            type would make faster, with the command that changes it.
        sandbox: the way in which generated code would be walled in here, or why there is none.
        model: the model that was tested, "" where none could be.
        template: what is unusual about its chat template, in sentences.
        has_template: whether it has one, which then was examined.
        checks: name, outcome and detail of each check.
    """

    versions: dict[str, str]
    machine: dict[str, str]
    libraries: tuple[str, ...]
    devices: tuple[dict[str, str | int], ...]
    advice: tuple[Advice, ...]
    sandbox: str
    model: str
    template: tuple[str, ...]
    has_template: bool
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"healthy": self.healthy, **asdict(self)}


def diagnose(
    model: Path | None = None,
    *,
    open_engine: Callable[[Path], Engine] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Check the installation with a model. Failures are findings, not exceptions.

    Args:
        model: by default the embedded one. Another one is loaded in a process of its own, so that one that ends
            llama.cpp is a finding too.
        open_engine: loads it in this process instead.
        options: keywords of `Engine`.
    """
    checks = [_native_module()]
    devices: tuple[dict[str, str | int], ...] = ()
    advised: tuple[Advice, ...] = ()
    if checks[0].ok:
        from steercpp.engine.model import devices as llama_cpp_devices

        devices = llama_cpp_devices()
        advised = advice(gpus(), [str(device["name"]) for device in devices])
        checks.append(_loaded_once())
    path = model
    if model is None:
        path, check = _embedded_model()
        checks.append(check)
    found = Examined(())
    if checks[0].ok and path is not None:
        if model is None or open_engine is not None:
            found = examine_here(path, open_engine or partial(_opened, options or {}))
        else:
            found = examine_apart(path, options or {})
        advised += _for_weights(path, found)
    return Diagnosis(
        versions(), machine(), loaded_libraries(), devices, advised, _sandbox(),
        "" if path is None else str(path), found.template, found.has_template, (*checks, *found.checks),
    )  # fmt: skip


def _for_weights(path: Path, found: Examined) -> tuple[Advice, ...]:
    """Timed in this process, beside nothing else."""
    from steercpp.doctor.weights import weight_advice_of

    advice = weight_advice_of(path, found.settings) if found.settings else None
    return () if advice is None else (advice,)


def _opened(options: Mapping[str, Any], path: Path) -> Engine:
    from steercpp.engine.engine import Engine

    return Engine(path, **options)


def _sandbox() -> str:
    """No check: steering works without one."""
    try:
        return working_way()
    except SteerError as error:
        return str(error)


def _native_module() -> Check:
    name = "the native module loads with the llama-cpp-python it was built with"
    try:
        from steercpp.engine.model import LLAMA_CPP_PYTHON
    except (ImportError, SteerError) as error:
        return Check(name, False, f"{error}; install steercpp again")
    return Check(name, True, f"llama-cpp-python {LLAMA_CPP_PYTHON}")


def loaded_libraries() -> tuple[str, ...]:
    """Files of llama.cpp and of the native module in this process; where that cannot be seen, llama.cpp's alone."""
    if MAPS.exists():
        lines = MAPS.read_text("utf-8", "surrogateescape").splitlines()
        files = {line.split(maxsplit=5)[5].strip() for line in lines if "/" in line}
        names = ("libllama", "libggml", "_native")
        return tuple(sorted(file for file in files if Path(file).name.startswith(names)))
    try:
        import llama_cpp
    except ImportError:
        return ()
    return tuple(sorted(str(path) for path in Path(llama_cpp.__file__).parent.glob("lib/*") if path.is_file()))


def _loaded_once() -> Check:
    """Two copies of llama.cpp in one process would not know of each other's models."""
    name = "llama.cpp is loaded once, from llama-cpp-python"
    if not MAPS.exists():
        return Check(name, True, "cannot be seen on this system")
    import llama_cpp

    home = str(Path(llama_cpp.__file__).parent.resolve())
    copies = [file for file in loaded_libraries() if Path(file).name.startswith("libllama")]
    ok = len(copies) == 1 and str(Path(copies[0]).resolve()).startswith(home)
    return Check(name, ok, ", ".join(copies) if ok else f"found {', '.join(copies) or 'none'}; unset LD_LIBRARY_PATH")


def _embedded_model() -> tuple[Path | None, Check]:
    from steercpp.data.sets.embedded import load

    name = "the embedded model has the hash that its card names"
    try:
        model = load()
    except (SteerError, OSError) as error:
        return None, Check(name, False, str(error))
    return model.path, Check(name, True, f"{model.path.name}, sha256 {model.card['sha256'][:16]}…")
