"""Running Python that a model has written: in processes of its own, walled in, and never unless asked for twice.

A program gets no network, no environment, no sight of home or of other processes, nothing writable but a small /tmp in
memory that goes with it, none of the kernel's calls but those that ordinary programs make, and limits on time, memory,
processes, files and output. Where the system cannot build these walls nothing runs (`sandbox_walls`, `sandbox_filter`).

A `Program` has code and a test. The test runs in a process that never runs the code: it calls the code's functions over
a pipe, by which plain values alone cross (`sandbox_values`). So what passes is what gave the test the values that it
asks for, and no program has a say in its verdict otherwise (`sandbox_child`).
"""

from __future__ import annotations

import contextlib
import json
import marshal
import math
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from steercpp.errors import InputError, SandboxError
from steercpp.judging import sandbox_child, sandbox_filter, sandbox_values
from steercpp.judging.sandbox_memory import memory_group
from steercpp.judging.sandbox_walls import WAYS as WAYS
from steercpp.judging.sandbox_walls import python, tool

START_S = 20.0  # to build the walls and to take them down, beside the program's own time; measured: under 0.1 s
INSTALL = "install bubblewrap, or util-linux on a kernel that allows namespaces (Linux alone has them)"
OWN_MEMORY = 64 << 20  # of a memory group: for the supervisor and the programs that build the walls
UNREADABLE = "the sandbox ended before the program"
_BOOT = """
import marshal, os, sys, types
def read(n):
    data = b""
    while len(data) < n:
        part = os.read(0, n - len(data))
        data += part or sys.exit("the modules ended before their end")
    return data
for name in ("steercpp", "steercpp.judging"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, code in marshal.loads(read(int.from_bytes(read(4), "little"))):
    module = sys.modules[name] = types.ModuleType(name)
    exec(code, module.__dict__)
module.main()
"""
_JOIN = '{ echo 0 > "$0"; } 2>/dev/null; exec "$@"'  # where joining fails the supervisor keeps the bound alone


class Program(str):
    """A program and its test: as text the whole of it, as one would run it by hand; its parts are run apart.

    Attributes:
        code: what is to be tested.
        given: what the problem itself defines, for the test: it may use it.
        test: what tells whether the code is right, calls of the code's functions by their names.
    """

    code: str
    given: str
    test: str

    @classmethod
    def of(cls, code: str, test: str, *, given: str = "") -> Self:
        """A program of its parts."""
        program = cls(f"{code.rstrip()}\n\n{test}")
        program.code, program.given, program.test = code, given, test
        return program


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How a program ended: reason is "" where it passed, output what it printed, both streams, cut at the limit."""

    passed: bool
    reason: str
    output: str


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What a program may use, bytes and counts.

    Attributes:
        timeout_s: by the clock, its test among it; and of each process' CPU time.
        memory_bytes: of each process, by its address space.
        total_bytes: of all its processes and its files in /tmp together.
        output_bytes: of what it prints, both streams.
        file_bytes: of each file.
        processes: that it may have at once, threads among them and the supervisor.
        open_files: of each process.
    """

    timeout_s: float = 10.0
    memory_bytes: int = 512 << 20
    total_bytes: int = 1 << 30
    output_bytes: int = 1 << 20
    file_bytes: int = 16 << 20
    processes: int = 8
    open_files: int = 64

    def __post_init__(self) -> None:
        """Check that each limit limits.

        Raises:
            InputError: a limit that is not positive and finite.
        """
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"sandbox: {name} is {value}; give a positive, finite limit")


def run_program(
    source: str, *, allow: bool, limits: SandboxLimits | None = None, way: str | None = None
) -> ProgramOutcome:
    """Run one program and say whether its test passed; of Python text alone whether it came to its end.

    Args:
        source: a `Program`, or Python text, whose end is told by its own process and so can be forged; its standard
            library is that of the running Python, without site-packages.
        allow: the user's word that generated code may run here.
        limits: what it may use; without them, those of `SandboxLimits()`.
        way: a name in `WAYS`; without one, the first that works here.

    Raises:
        SandboxError: not allowed, or no way to build the walls works here; nothing has run.
    """
    if not allow:
        raise SandboxError("generated code runs only where it is allowed: pass allow=True once you trust the walls")
    return _run(source, limits or SandboxLimits(), way or working_way())


def working_way() -> str:
    """The first way to start a sandbox that works here.

    Raises:
        SandboxError: none does; the message says why each fails, and what to install.
    """
    return _working_way(os.environ.get("PATH", ""))


@cache
def _working_way(_path: str) -> str:
    reasons = [f"{name}: {reason}" for name in WAYS if (reason := why_not(name))]
    for name in WAYS:
        if not any(reason.startswith(f"{name}: ") for reason in reasons):
            return name
    raise SandboxError(f"no sandbox for generated code works here ({'; '.join(reasons)}); {INSTALL}")


def why_not(way: str) -> str:
    """Why a way to start a sandbox does not work here, "" where it does: a program of one line is run in it."""
    if sys.platform != "linux":
        return f"not on {sys.platform}"
    missing = [name for name in WAYS[way][1] if tool(name) == name]
    if missing:
        return f"{', '.join(missing)} not found"
    try:
        outcome = _run("pass", SandboxLimits(), way)
    except SandboxError as error:
        return str(error)
    return outcome.reason


def _run(source: str, limits: SandboxLimits, way: str) -> ProgramOutcome:
    """Start the supervisor within its walls, hand it the program and then its test, and read what it tells."""
    program = source if isinstance(source, Program) else Program.of(source, "")
    job = {name: getattr(limits, name) for name in SandboxLimits.__slots__}
    documents = _document(job | {"code": program.code}) + _document({"given": program.given, "test": program.test})
    supervisor = [python(), "-I", "-S", "-B", "-X", "utf8", "-c", _BOOT]
    with tempfile.TemporaryDirectory(prefix="steercpp-sandbox-") as root:
        command = WAYS[way][0](Path(root), supervisor)
        with memory_group(limits.total_bytes + OWN_MEMORY) as joining:
            if joining is not None:
                command = [tool("sh"), "-c", _JOIN, str(joining), *command]
            told, errors = _talk(command, _inside() + documents, limits.timeout_s + START_S)
    ready, newline, rest = told.partition(b"\n")
    if not newline or ready.decode(errors="replace") != sandbox_child.READY:
        last = (errors.decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        raise SandboxError(f"the walls could not be built: {last}")
    return _outcome(rest)


def _outcome(told: bytes) -> ProgramOutcome:
    """What the supervisor tells; where that is cut short or anything else, the program has failed."""
    try:
        size, text = int(told[:8], 16), told[8:]
        fields = json.loads(text) if len(text) == size else None
    except (ValueError, RecursionError):
        fields = None
    match fields:
        case {"passed": bool(passed), "reason": str(reason), "output": str(output)} if passed is (reason == ""):
            return ProgramOutcome(passed, reason, output)
    return ProgramOutcome(False, UNREADABLE, "")


def _document(fields: dict[str, Any]) -> bytes:
    return _lengthened(json.dumps(fields).encode())


def _lengthened(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


@cache
def _inside() -> bytes:
    """The modules that run inside, compiled: the same Python reads them there, in front of the job."""
    modules = (sandbox_filter, sandbox_values, sandbox_child)
    texts = ((module.__name__, Path(module.__file__ or "").read_text("utf-8")) for module in modules)
    return _lengthened(marshal.dumps([(name, compile(text, name, "exec")) for name, text in texts]))


def _talk(command: list[str], stdin: bytes, timeout_s: float) -> tuple[bytes, bytes]:
    """Run a command in a session of its own, and kill all of it at the end: (its stdout, its stderr).

    Raises:
        SandboxError: it cannot be started.
    """
    # The environment is PATH alone, for the tools that build the walls; within them there is none.
    path, pipe = {"PATH": os.environ.get("PATH", "")}, subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=path, start_new_session=True)
    except OSError as error:
        raise SandboxError(f"the walls could not be built: {command[0]} does not start: {error.strerror}") from error
    with process:
        try:
            return process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            return process.communicate()
        except BaseException:  # Ctrl-C: the program must not outlive us
            _kill(process.pid)
            raise


def _kill(group: int) -> None:
    """Kill a process group; with it goes process 1 of the sandbox, and so the whole of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
