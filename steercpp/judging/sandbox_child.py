"""What runs inside the sandbox: a supervisor that forks a program and its test, and tells how the test ended.

Not for import by others: `sandbox` hands this module and those beside it to a bare Python (`python -I -S -c`), which is
process 1 of its own process namespace. Standard library alone, for nothing else can be seen from there.

    supervisor    process 1; reads the job, watches, tells the verdict; shares nothing with the others but their ends
    program       has the answer's code, and never the test: it is forked before that is read
    test          never runs the answer's code: it calls it over pipes, by which plain values cross (`sandbox_values`)

The program cannot open, trace or write the other two, which are not dumpable; the filter (`sandbox_filter`) forbids the
calls for it as well. It may kill its test or stop it, and fails then. A test's verdict comes by a pipe of its own.

On stdin come two documents of JSON, each behind its length in four bytes: {"code", and the limits by their names}, then
{"given", "test"}. On stdout go the line READY once the first is read, and then eight hexadecimal digits, a length, and
as many bytes of JSON: {"passed", "reason", "output"}.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any, NoReturn

from steercpp.judging.sandbox_filter import close_in
from steercpp.judging.sandbox_values import NO_MESSAGE, AnswerLeftError, CannotCrossError, Packer, Peer, error_text

READY = "ready"
LEFT = "left before its end"
PR_SET_DUMPABLE = 4  # linux/prctl.h
READ_FD, WRITE_FD, VERDICT_FD = 3, 4, 5  # of the program and its test
FREE_FD = 64  # above all that are open here
WATCH_S = 0.1  # between two looks at the memory that all processes take together
GRACE_S = 1.0  # for a test to notice that its program is gone
MOST_FILES = 4096  # in /tmp
MOST_SIGNALS = 256  # and timers
SPILL_BYTES = 1 << 16  # of what a call prints: more goes to the program's output at once, past its test


def set_dumpable(dumpable: bool) -> None:
    """Open or close /proc/PID to others of the same user: closed, a program cannot write another's memory."""
    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


def limit(job: dict[str, Any]) -> None:
    """Set the limits of this process for good: without capabilities a hard limit is never raised again."""
    limits = {
        resource.RLIMIT_CPU: int(job["timeout_s"]) + 1,  # whole seconds; the wall clock is the supervisor's
        resource.RLIMIT_AS: job["memory_bytes"],
        resource.RLIMIT_FSIZE: job["file_bytes"],
        resource.RLIMIT_NOFILE: job["open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: job["processes"] + 1,  # the test among them
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: MOST_SIGNALS,
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def begin(job: dict[str, Any], output: int, *ends: int) -> None:
    """Be a process of its own: nothing to read, output to the supervisor, `ends` as descriptors from 3 on, limits."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open("/dev/null", os.O_RDONLY)
    high = [fcntl.fcntl(number, fcntl.F_DUPFD, FREE_FD) for number in (nothing, output, output, *ends)]
    for place, number in enumerate(high):
        os.dup2(number, place)
    os.closerange(len(high), 1 << 16)
    limit(job)


class Printed(io.RawIOBase):
    """A program's stdout: what a call prints is told to its test, too much of it to the supervisor alone."""

    def __init__(self) -> None:
        self.kept = bytearray()

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Of the program's output."""
        return 1

    def write(self, data: Any) -> int:
        """Keep it."""
        self.kept += data
        if len(self.kept) > SPILL_BYTES:
            self.spill()
        return len(data)

    def spill(self) -> None:
        """Write to the program's output what is kept."""
        data, self.kept = bytes(self.kept), bytearray()
        while data:
            data = data[os.write(1, data) :]

    def taken(self) -> str:
        """What is kept, from now on no longer."""
        data, self.kept = bytes(self.kept), bytearray()
        return data.decode(errors="replace")


def play(job: dict[str, Any], output: int, read: int, write: int) -> NoReturn:
    """Be the program: run its code once the test asks for it, then do its calls until the test is gone."""
    try:
        set_dumpable(True)
        begin(job, output, read, write)
        module = _module()
        printed = Printed()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(printed), encoding="utf-8", errors="replace", write_through=True
        )
        stdout = sys.stdout
        peer = Peer(READ_FD, WRITE_FD)

        def load(request: dict[str, Any]) -> dict[str, Any]:
            try:
                # Inherits this module's `annotations`: none is evaluated, as since Python 3.14.
                exec(compile(job["code"], "program", "exec"), module.__dict__)
            finally:
                stdout.flush()
                printed.spill()
            space = module.__dict__
            peer.classes = {name: space[name] for name in request["classes"] if name in space}
            return {name: space[name] for name in request["names"] if name in space and _crosses(peer, space[name])}

        def taken() -> str:
            stdout.flush()
            return printed.taken()

        peer.load, peer.printed = load, taken
        peer.serve()
    finally:
        os._exit(0)


def _module() -> ModuleType:
    """A module that is as if imported, so that no `if __name__ == "__main__"` part runs."""
    module = ModuleType("program")
    sys.modules["program"] = module  # dataclasses look their module up
    return module


def _crosses(peer: Peer, value: Any) -> bool:
    try:
        Packer(peer).pack(value)
    except (CannotCrossError, RecursionError):
        return False
    return True


def test(job: dict[str, Any], output: int, read: int, write: int, verdict: int) -> NoReturn:
    """Be the test: run it with the program's functions in the place of functions, and write why it failed, or ""."""
    pid = os.getpid()

    def end(reason: str, *, passed: bool = False) -> NoReturn:
        if os.getpid() == pid:  # what the test forks has no say
            os.write(VERDICT_FD, json.dumps({"passed": passed, "reason": reason[-2000:]}).encode())
        os._exit(0)

    def failed(error: Exception) -> NoReturn:  # no test can catch it and go on
        sys.stdout.flush()
        end(LEFT if isinstance(error, AnswerLeftError) else str(error))

    try:
        begin(job, output, read, write, verdict)
        peer = Peer(READ_FD, WRITE_FD)
        peer.failed = failed
        space = _module().__dict__
        code = compile(job["test"], "program", "exec")
        exec(compile(job["given"], "program", "exec"), space)
        peer.classes = {
            name: kind for name, kind in space.items() if isinstance(kind, type) and kind.__module__ == "program"
        }
        names = sorted({name for name in names_of(code) if may_be_answers(name, space)})
        loaded = peer.ask("load", names=list(names), classes=list(peer.classes))
        if not isinstance(loaded, dict) or not loaded.keys() <= set(names):
            end(NO_MESSAGE)  # else an answer would give its test another `abs`, or another of the problem's functions
        space.update(loaded)
        exec(code, space)
        sys.stdout.flush()
    except BaseException as error:  # SystemExit too: a test that leaves before its end has not passed
        end(error_text(error))
    end("", passed=True)


def may_be_answers(name: str, space: dict[str, Any]) -> bool:
    """Whether a name that a test uses may stand for something of the answer's: neither given, nor Python's own."""
    return not (name in space or name in space["__builtins__"] or (name.startswith("__") and name.endswith("__")))


def names_of(code: CodeType) -> Iterator[str]:
    """Names that code and the functions in it use, attributes among them."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_of(constant)


class Watch:
    """The wait for the end of a test, and the limits that no process can keep by itself.

    Attributes:
        kept: what program and test have printed, at most `output_bytes`.
    """

    def __init__(self, job: dict[str, Any], output: int) -> None:
        self.job, self.output = job, output
        self.kept = b""
        self.deadline = time.monotonic() + job["timeout_s"]
        self._next_look = time.monotonic() + WATCH_S

    def until_end(self, program: int, test: int) -> str:
        """Wait for the test's end: "", or why both must be stopped."""
        program_end, test_end = os.pidfd_open(program), os.pidfd_open(test)
        waited = [self.output, program_end, test_end]
        while True:
            now = time.monotonic()
            if now >= self.deadline:
                return f"stopped after {self.job['timeout_s']:g} s" if program_end in waited else LEFT
            if now >= self._next_look:
                if reason := self.look():
                    return reason
                self._next_look = now + WATCH_S
            ready = select.select(waited, [], [], min(self.deadline, self._next_look) - now)[0]
            if self.output in ready:
                self.kept += os.read(self.output, 65536)
                if len(self.kept) > self.job["output_bytes"]:
                    self.kept = self.kept[: self.job["output_bytes"]]
                    return f"printed more than {self.job['output_bytes']} bytes"
            elif test_end in ready:  # only once nothing is left to read
                return ""
            elif program_end in ready:
                waited.remove(program_end)
                self.deadline = min(self.deadline, now + GRACE_S)

    def look(self) -> str:
        """Why all processes together take too much, or ""."""
        held = os.statvfs("/tmp")
        if held.f_files - held.f_ffree > MOST_FILES:
            return f"made more than {MOST_FILES} files"
        total = (held.f_blocks - held.f_bfree) * held.f_frsize
        for name in os.listdir("/proc"):
            if name.isdigit() and name != "1":
                try:
                    with open(f"/proc/{name}/statm") as file:
                        total += int(file.read().split()[1]) * resource.getpagesize()
                except (OSError, ValueError, IndexError):
                    pass  # it has ended
        most: int = self.job["total_bytes"]
        return f"took more than {most >> 20} MiB of memory in all" if total > most else ""


def supervise(job: dict[str, Any], read_test: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Fork the program, then read its test and fork that, wait for it, and say how it ended."""
    read_output, write_output = os.pipe()
    read_request, write_request = os.pipe()
    read_reply, write_reply = os.pipe()
    program = os.fork()
    if program == 0:
        play(job, write_output, read_request, write_reply)
    limits = {name: value for name, value in job.items() if name != "code"}
    tested = read_test()
    read_verdict, write_verdict = os.pipe()
    tester = os.fork()
    if tester == 0:
        test(limits | tested, write_output, read_reply, write_request, write_verdict)
    for end in (read_request, write_request, read_reply, write_reply, write_verdict):
        os.close(end)
    # write_output stays open here: end of file would make select spin where both close their output and go on.
    watch = Watch(job, read_output)
    stopped = watch.until_end(program, tester)
    reason = stopped or verdict(_end_of(tester, kill=bool(stopped)), read_verdict)
    # A test learns that its program is gone from the pipe, which is closed a moment before the process has ended.
    program_status = _end_of(program, kill=reason != LEFT)
    if reason == LEFT and os.WIFSIGNALED(program_status):
        reason = f"killed by {_signal_name(os.WTERMSIG(program_status))}"
    return {"passed": not reason, "reason": reason, "output": watch.kept.decode(errors="replace")}


def _end_of(pid: int, *, kill: bool) -> int:
    """The status of a child that ends now or soon, or is killed."""
    if kill or not select.select([os.pidfd_open(pid)], [], [], GRACE_S)[0]:
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def verdict(status: int, read_verdict: int) -> str:
    """Why the test failed, "" where it passed; status as of os.waitpid."""
    if os.WIFSIGNALED(status):
        return f"its test was killed by {_signal_name(os.WTERMSIG(status))}"
    os.set_blocking(read_verdict, False)  # a child of the test may hold the other end
    try:
        told = json.loads(os.read(read_verdict, 1 << 16))
    except (OSError, ValueError, RecursionError):
        told = None
    match told:
        case {"passed": True, "reason": ""}:
            return ""
        case {"passed": False, "reason": str(reason)}:
            return reason or "failed without a reason"
    return "its test left before its end"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number < signal.SIGRTMIN else f"signal {number}"


def read_document() -> dict[str, Any]:
    """One document from stdin, without a byte of what is behind it."""

    def read(n: int) -> bytes:
        parts = b""
        while len(parts) < n:
            if not (part := os.read(0, n - len(parts))):
                raise OSError("the job ended before its end")
            parts += part
        return parts

    document: dict[str, Any] = json.loads(read(int.from_bytes(read(4), "little")))
    return document


def write_all(data: bytes) -> None:
    """Write on stdout."""
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """Read the job, run it, write the verdict; the end of process 1 then ends all that the program left running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all others have no handler, and so none reaches process 1
    set_dumpable(False)
    close_in()
    job = read_document()
    write_all(f"{READY}\n".encode())
    told = json.dumps(supervise(job, read_document)).encode()
    write_all(f"{len(told):08x}".encode() + told)
