"""A model file from anywhere, examined in a process of its own: what it does to llama.cpp there is told.

    examined = examine_apart(Path("model.gguf"), {"threads": 2})

The process is `python -m steercpp.doctor.stranger`: a JSON object with the model and the keywords of `Engine` comes in,
one with what was found goes out. Where it ends in another way, or is ended because it takes too long or too much
memory for the size of the file, that is the finding.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.doctor.self_test import Check, run_self_test
from steercpp.encoding import printable
from steercpp.errors import SteerError

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine

STEERS = "steering works with the model"  # the check that fails where none can be made
_TUPLES = ("tensor_split", "rpc")  # keywords of Engine's that JSON makes lists
_LONGEST_REASON = 300
_START_S = 300.0  # time to start
_BYTES_A_SECOND = 10_000_000  # of the file, to read and compute; a slow disk reads ten times that
_START_BYTES = 8 << 30  # memory for caches and buffers
_TIMES = 2  # the file's size: mapped and repacked
_OUT_OF_MEMORY = (b"MemoryError", b"bad_alloc", b"failed to allocate", b"unable to allocate", b"Cannot allocate memory")


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of a model.

    Attributes:
        checks: whether it steers; one that failed where it could not be loaded.
        settings: `n_gpu_layers` and `threads` of the engine; empty where there was none.
        template: what is unusual about its chat template, in sentences.
        has_template: whether there is one, which then was examined.
    """

    checks: tuple[Check, ...]
    settings: Mapping[str, int] = field(default_factory=dict)
    template: tuple[str, ...] = ()
    has_template: bool = False


def examine_here(path: Path, open_engine: Callable[[Path], Engine] | None = None) -> Examined:
    """Examine a model in this process. Failures are findings, not exceptions.

    Args:
        path: the model.
        open_engine: loads it, by default as `Engine` does.
    """
    from steercpp.engine.engine import Engine
    from steercpp.engine.template_remarks import template_remarks

    try:
        with (open_engine or Engine)(path) as engine:
            settings = {name: int(engine.settings()[name]) for name in ("n_gpu_layers", "threads")}
            template = template_remarks(engine.vocabulary)
            return Examined(
                run_self_test(engine), settings, template, has_template=engine.vocabulary.chat_template is not None
            )
    except SteerError as error:
        return Examined((Check(STEERS, False, str(error)),))


def examine_apart(path: Path, options: Mapping[str, Any]) -> Examined:
    """Examine a model in a process of its own, whose end is a finding.

    Args:
        path: the model.
        options: keywords of `Engine`, in JSON's types and tuples.
    """
    size = _n_bytes(path)
    longest, most = _START_S + size / _BYTES_A_SECOND, _START_BYTES + _TIMES * size
    asked = json.dumps({"model": os.fspath(path), "options": dict(options), "memory_bytes": most})
    search = os.pathsep.join(folder for folder in sys.path if folder)  # but not the working folder, which may be theirs
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-m", "steercpp.doctor.stranger"], input=asked.encode(), capture_output=True,
            env={**os.environ, "PYTHONPATH": search}, check=False, timeout=longest,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _failed(path, f"took more than {longest:,.0f} s and was ended")
    try:
        found = json.loads(run.stdout) if run.returncode == 0 else None
    except ValueError:
        found = None
    if found is None:
        if any(words in run.stderr for words in _OUT_OF_MEMORY):
            return _failed(path, f"ran out of memory; it may take {most / (1 << 30):,.0f} GiB")
        return _failed(path, _end(run.returncode, run.stderr))
    checks = tuple(Check(**check) for check in found["checks"])
    return Examined(checks, found["settings"], tuple(found["template"]), found["has_template"])


def _n_bytes(path: Path) -> int:
    """The size of a model, of a split one that of all shards; 0 where there is none, which the process then says."""
    pattern = re.sub(r"-[0-9]{5}-of-([0-9]{5}\.gguf)$", r"-*-of-\1", glob.escape(path.name))
    with contextlib.suppress(OSError):
        return sum(os.path.getsize(shard) for shard in path.parent.glob(pattern))
    return 0


def _failed(path: Path, end: str) -> Examined:
    advice = "do not use this file: download the model again, or convert it again"
    return Examined((Check(STEERS, False, f"{path}: the process that examined the model {end}; {advice}"),))


def _end(code: int, complaint: bytes) -> str:
    """How the process ended."""
    lines = complaint.decode("utf-8", "replace").split("\n")
    reason = printable(next((line for line in reversed(lines) if line.strip()), ""))[:_LONGEST_REASON]
    how = f"with exit code {code}" if code >= 0 else f"by {_signal_name(-code)}"
    return f"was ended {how}{f' ({reason})' if reason else ''}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _limit(n_bytes: int) -> None:
    """Hold this process to so much memory, where that can be done.

    Drivers of GPUs reserve far more addresses than memory: with one only what can be written is counted.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    from llama_cpp import llama_supports_gpu_offload

    kinds = [resource.RLIMIT_DATA] if llama_supports_gpu_offload() else [resource.RLIMIT_DATA, resource.RLIMIT_AS]
    for kind in kinds:
        with contextlib.suppress(OSError, ValueError):  # a lower limit holds already, or a system without it
            resource.setrlimit(kind, (n_bytes, resource.getrlimit(kind)[1]))


def main() -> None:
    """The process."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what llama.cpp prints is no part of the answer
    asked = json.loads(sys.stdin.buffer.read())
    _limit(asked["memory_bytes"])
    options: dict[str, Any] = {
        name: tuple(value) if name in _TUPLES else value for name, value in asked["options"].items()
    }

    def opened(path: Path) -> Engine:
        from steercpp.engine.engine import Engine

        return Engine(path, **options)

    with answer:
        json.dump(asdict(examine_here(Path(asked["model"]), opened)), answer)


if __name__ == "__main__":
    main()
