"""Runs hostile programs or forgeries as a process of its own, so that another user can.

    hostile_run.py hostile|forgeries WAY FIRST STEP

It joins a session keyring of its own, puts a secret key there, and prints one JSON object: each program's outcome by
what it tries, and under "" whether a planted key was found afterwards.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from steercpp.judging.sandbox import SandboxLimits, run_program, why_not

SECRET = "planted-7f3a"
LIMITS = SandboxLimits(timeout_s=3, output_bytes=1 << 16)


def main() -> None:
    """Run them, two at once."""
    kind, way, first, step = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if reason := why_not(way):
        print(json.dumps({"why_not": reason}))
        return
    numbers = {"x86_64": (250, 248, 249), "aarch64": (219, 217, 218)}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(numbers[0], 1, None)
    libc.syscall(numbers[1], b"user", b"steercpp-secret", b"secret", 6, -3)
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
        subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, env={"S": SECRET}
        ) as holder,
    ):
        home = Path(folder) / "private"
        home.write_text(SECRET)
        abstract.bind(f"\0steercpp-hostile-{os.getpid()}")
        abstract.listen()
        facts = {
            "HOME": str(home),
            "PORT": str(server.getsockname()[1]),
            "ABSTRACT": f"steercpp-hostile-{os.getpid()}",
            "HOLDER": str(holder.pid),
            "SECRET": SECRET[::-1],
            "NODE": platform.node(),
            "KERNEL": "",
        }
        programs = _programs(kind, facts)
        chosen = list(programs.items())[first::step]
        with ThreadPoolExecutor(2) as pool:
            run = lambda source: run_program(source, allow=True, way=way, limits=LIMITS)  # noqa: E731
            outcomes = list(pool.map(run, [source for _, source in chosen]))
        assert holder.poll() is None and home.read_text() == SECRET
        holder.stdin.close()  # type: ignore[union-attr]
    told = {name: [end.passed, end.reason, end.output[-300:]] for (name, _), end in zip(chosen, outcomes, strict=True)}
    planted = libc.syscall(numbers[2], b"user", b"steercpp-planted", None, 0) > 0
    print(json.dumps({"": planted} | told))


def _programs(kind: str, facts: dict[str, str]) -> dict[str, str]:
    if kind == "hostile":
        from hostile_programs import PROGRAMS

        return {hostile.tries: hostile.filled(facts) for hostile in PROGRAMS}
    from forgeries import FORGERIES, forged

    return {forgery: forged(source) for forgery, source in FORGERIES.items()}


if __name__ == "__main__":
    main()
