"""What runs inside the sandbox: a supervisor that forks one program, holds it to its limits and tells how it ended.

Not for import by others: `sandbox` hands the text of this file to a bare Python (`python -I -S -c`), which is process 1
of its own process namespace. Standard library alone, for nothing else can be seen from there.

It reads one JSON document from stdin: source, timeout_s, memory_bytes, output_bytes, file_bytes, processes, open_files.
It writes two lines on stdout: READY once it has read them, then {"passed", "reason", "output"} in JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from types import ModuleType
from typing import Any

READY = "ready"
PR_SET_DUMPABLE = 4  # linux/prctl.h


def set_dumpable(dumpable: bool) -> None:
    """Open or close /proc/PID to others of the same user: closed, a program cannot write the supervisor's verdict."""
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
        resource.RLIMIT_NPROC: job["processes"],
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def play(job: dict[str, Any], output: int, end: int, token: bytes) -> None:
    """Be the program: run its source, and write on `end` the token where it came to its end, or the error's text."""
    set_dumpable(True)
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDONLY)
    for number, source in enumerate((nothing, output, output)):
        os.dup2(source, number)
    os.dup2(end, 3)
    os.closerange(4, 1024)
    limit(job)
    pid = os.getpid()  # what the program forks comes back here too, and has no say in how the program ended
    module = ModuleType("program")  # as if imported, so that no `if __name__ == "__main__"` part runs
    sys.modules["program"] = module  # dataclasses look their module up
    try:
        exec(compile(job["source"], "program", "exec"), module.__dict__)
        sys.stdout.flush()
        if os.getpid() == pid:
            os.write(3, token)
    except BaseException as error:  # SystemExit too: a program that leaves before its tests has not passed them
        if os.getpid() == pid:
            os.write(3, "".join(traceback.format_exception_only(type(error), error)).strip().encode()[-2000:])
    finally:
        os._exit(0)


def watch(pid: int, output: int, *, timeout_s: float, output_bytes: int) -> tuple[str, bytes]:
    """Wait for the program, reading what it prints: ("" or why it was stopped, at most output_bytes of output)."""
    ended = os.pidfd_open(pid)
    deadline = time.monotonic() + timeout_s
    kept = b""
    while True:
        left = deadline - time.monotonic()
        ready = select.select([output, ended], [], [], max(left, 0))[0] if left > 0 else []
        if not ready:
            return f"stopped after {timeout_s:g} s", kept
        if output in ready:
            kept += os.read(output, 65536)
            if len(kept) > output_bytes:
                return f"printed more than {output_bytes} bytes", kept[:output_bytes]
        elif ended in ready:  # only once nothing is left to read
            return "", kept


def verdict(status: int, message: bytes, token: bytes) -> str:
    """Why the program failed, "" where it passed; status as of os.waitpid, message what came over its `end` pipe."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"killed by {signal.Signals(number).name}" if number < signal.SIGRTMIN else f"killed by signal {number}"
    if message == token:
        return ""
    return message.decode(errors="replace") or "left before its end"


def supervise(job: dict[str, Any]) -> dict[str, Any]:
    """Fork the program, wait for it, and say how it ended."""
    token = os.urandom(16).hex().encode()
    read_output, write_output = os.pipe()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        play(job, write_output, write_end, token)
    os.close(write_end)
    # write_output stays open here: end of file would make select spin where a program closes its output and goes on.
    stopped, kept = watch(pid, read_output, timeout_s=job["timeout_s"], output_bytes=job["output_bytes"])
    reason = stopped
    if stopped:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not stopped:
        os.set_blocking(read_end, False)  # a child of the program may hold the other end
        try:
            message = os.read(read_end, 4096)
        except BlockingIOError:
            message = b""
        reason = verdict(status, message, token)
    return {"passed": not reason, "reason": reason, "output": kept.decode(errors="replace")}


def main() -> None:
    """Read the job, run it, write the verdict; the end of process 1 then ends all that the program left running."""
    set_dumpable(False)
    job = json.load(sys.stdin)
    print(READY, flush=True)
    print(json.dumps(supervise(job)), flush=True)


if __name__ == "__main__":
    main()
