"""A process whose file operations fail on command: a parent that has imported everything forks a child for each try.

with Faults(library) as faults:
    outcome = faults.run("sweep", folder, n=12, what="kill")
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SHIM = Path(__file__).parents[1] / "faults" / "shim.c"
WHATS = {"count": 0, "kill": 1, "full": 2, "broken": 3, "stop": 4}
_PARENT = """
import ctypes, json, os, signal, sys, traceback
sys.path.insert(0, sys.argv[1])
from fault_scenarios import SCENARIOS
from steercpp.errors import SteerError
shim = ctypes.CDLL(None)
shim.fault_count.restype = ctypes.c_long
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        signal.alarm(asked["limit_s"])
        shim.fault_arm(os.fsencode(asked["folder"]), ctypes.c_long(asked["n"]), asked["what"])
        try:
            outcome = ["done", SCENARIOS[asked["scenario"]](*asked["arguments"]) or ""]
        except SteerError as error:
            outcome = ["refused", str(error)]
        except BaseException:
            outcome = ["traceback", traceback.format_exc()]
        count = shim.fault_count()
        shim.fault_arm(b"", ctypes.c_long(0), 0)
        os.write(its, json.dumps([*outcome, count]).encode())
        os._exit(0)
    print(child, flush=True)
    os.close(its)
    with open(ours, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    print(said.decode() or json.dumps(["killed", str(os.waitstatus_to_exitcode(status)), 0]), flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """How a process ended ("done", "refused", "traceback", "killed"), what it said, and how many operations it had."""

    end: str
    said: str
    n: int


def compiled(folder: Path, source: Path = SHIM) -> Path:
    """The shared library of a shim."""
    library = folder / f"{source.stem}.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-Wno-attributes", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def wait_until_stopped(process: int) -> bool:
    """Wait until a process is stopped, or has ended; whether it is stopped."""
    while True:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return False
        if state in "TZ":
            return state == "T"
        time.sleep(0.005)


class Faults:
    """The parent process."""

    def __init__(self, library: Path) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(library)}
        command = [sys.executable, "-c", _PARENT, str(Path(__file__).parent)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def start(
        self, scenario: str, *arguments: Any, folder: Path, n: int = 0, what: str = "count", limit_s: int = 60
    ) -> int:
        """Begin a child: a scenario of fault_scenarios.py, in which the n-th operation in a folder goes wrong.

        Returns:
            its process.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {
            "scenario": scenario, "arguments": [str(argument) for argument in arguments], "folder": str(folder), "n": n,
            "what": WHATS[what], "limit_s": limit_s,
        }  # fmt: skip
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def finish(self) -> Outcome:
        """Wait for the child that was begun."""
        assert self._process.stdout is not None
        return Outcome(*json.loads(self._process.stdout.readline()))

    def run(self, scenario: str, *arguments: Any, folder: Path, n: int = 0, what: str = "count") -> Outcome:
        """Begin a child and wait for it, see `start`."""
        self.start(scenario, *arguments, folder=folder, n=n, what=what)
        return self.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
