"""Another process: one that holds a folder's lock, or one that stands still in the middle of a sweep."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_HOLDS = """
from pathlib import Path
from steercpp.locks import writing
with writing(Path(sys.argv[1])):
    print("there", flush=True)
    sys.stdin.readline()
"""
_SWEEPS = """
from pathlib import Path
from small_sweep import small_sweep
from steercpp.engine.engine import Engine
def wait(means):
    if means.strength == 0.5:
        print("there", flush=True)
        sys.stdin.readline()
with Engine(sys.argv[2], threads=1) as engine:
    small_sweep(engine, Path(sys.argv[1]), on_strength=wait)
"""


@contextmanager
def _running(code: str, *arguments: Path) -> Iterator[subprocess.Popen[str]]:
    """A process, once it says that it is there; a line makes it go on."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}){code}"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *map(str, arguments)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


def holding(folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process that writes into a folder."""
    return _running(_HOLDS, folder)


def sweeping(folder: Path, model: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """A small sweep that stands still before its last strength."""
    return _running(_SWEEPS, folder, model)


def go_on(process: subprocess.Popen[str]) -> int:
    """Let it run to its end; its exit status."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return process.wait()
