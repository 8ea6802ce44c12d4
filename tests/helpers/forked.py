"""Commands in children of a process that has imported everything: a child begins at once, and may be killed.

with Forked() as forked:
    child = forked.start("plain", model, out, folder=folder)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

FAULT = 70  # what a child ends with where something was raised that no sentence is made of
_PARENT = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
from forked_jobs import JOBS
from traced import begin_trace
from steercpp.errors import SteerError
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        _, status = os.waitpid(asked["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.chdir(asked["folder"])
    for number, name in enumerate(asked["says"], 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(asked["environment"])
    code = 0
    try:
        if asked["trace"]:
            begin_trace(asked["trace"])
        JOBS[asked["job"]](*asked["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except SteerError as error:
        print(error, file=sys.stderr)
        code = 1
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


@dataclass
class Child:
    """A process that was begun."""

    pid: int
    forked: Forked
    said: Path
    told: Path

    def wait(self) -> int:
        """Its exit code; that of a signal is negative."""
        return int(self.forked.ask({"wait": self.pid}))

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self.said.read_text()

    @property
    def stderr(self) -> str:
        """What it has told so far."""
        return self.told.read_text()


class Forked:
    """The parent process."""

    def __init__(self, *, preload: Path | None = None) -> None:
        command = [sys.executable, "-c", _PARENT, str(Path(__file__).parent)]
        pipe = subprocess.PIPE
        environment = {**os.environ, "LD_PRELOAD": str(preload)} if preload else None
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._n = 0
        assert self._output.readline() == "ready\n"

    def start(
        self,
        job: str,
        *arguments: Any,
        folder: Path,
        trace: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Begin a job of forked_jobs.py in a child.

        Args:
            job: its name.
            arguments: of the job; paths are made absolute by who gives them.
            folder: where the child works, and what it says is kept.
            trace: takes what the child measures, see traced.py.
            environment: variables of the child alone.
        """
        self._n += 1
        said, told = (folder / f"{self._n}.{name}" for name in ("out", "err"))
        asked = {
            "job": job, "arguments": [str(argument) for argument in arguments], "folder": str(folder),
            "says": [str(said), str(told)], "trace": str(trace or ""), "environment": dict(environment or {}),
        }  # fmt: skip
        return Child(int(self.ask(asked)), self, said, told)

    def ask(self, asked: Mapping[str, Any]) -> str:
        """One question to the parent, and its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._output.readline()

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._output.close()
        self._process.wait()
