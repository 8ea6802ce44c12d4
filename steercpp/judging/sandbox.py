"""Running Python that a model has written: in a process of its own, walled in, and never unless asked for twice.

A program gets no network, no environment, no sight of home or of other processes, nothing writable but a small /tmp in
memory that goes with it, and limits on time, memory, processes, files and output. Where the system cannot build these
walls nothing runs. They protect the user from the program; the verdict, though, comes from the program's own process,
and one written to forge a pass can.

The walls are namespaces, made by bubblewrap or by unshare. Either way the process sees a root built in memory: the
system's libraries and the directory of this Python, bound read-only, four devices, a /proc of its own process namespace
and an empty, small /tmp. Home, other processes, the network and the environment are not hidden but absent. It holds no
capability and can gain none.
Source: user_namespaces(7), pid_namespaces(7), pivot_root(2); the flags of bwrap(1), unshare(1), setpriv(1).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from steercpp.errors import InputError, SandboxError
from steercpp.judging import sandbox_child

DEVICES = ("null", "zero", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/nix/store")
TMP_BYTES = 64 << 20
# From linux/kernel/fork.c: the limit on processes does not hold for root, so root becomes a user that none is. A number
# of its own for each run also counts the processes of each run apart.
FIRST_USER, LAST_USER = 1 << 30, (1 << 31) - 1

Launch = Callable[[Path, list[str]], list[str]]
"""(an empty directory to build in, the command to run inside) -> the command line to start."""
START_S = 20.0  # to build the walls and to take them down, beside the program's own time; measured: under 0.1 s
INSTALL = "install bubblewrap, or util-linux on a kernel that allows namespaces (Linux alone has them)"


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How a program ended: reason is "" where it passed, output what it printed, both streams, cut at the limit."""

    passed: bool
    reason: str
    output: str


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What a program may use. Memory is per process, so that processes * memory_bytes bounds the whole."""

    timeout_s: float = 10.0
    memory_bytes: int = 512 << 20
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
    """Run one program and say whether it came to its end without an error.

    Args:
        source: Python text; its standard library is that of the running Python, without site-packages.
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
    """Start the supervisor within its walls, hand it the program, and read its two lines."""
    job = json.dumps({"source": source} | {name: getattr(limits, name) for name in SandboxLimits.__slots__})
    supervisor = [python(), "-I", "-S", "-B", "-X", "utf8", "-c", Path(sandbox_child.__file__).read_text("utf-8")]
    with tempfile.TemporaryDirectory(prefix="steercpp-sandbox-") as root:
        command = WAYS[way][0](Path(root), supervisor)
        answer, errors = _talk(command, job.encode(), limits.timeout_s + START_S)
    lines = answer.decode().splitlines()
    if not lines:
        last = (errors.decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        raise SandboxError(f"the walls could not be built: {last}")
    if len(lines) < 2:
        return ProgramOutcome(False, "the sandbox ended before the program", "")
    return ProgramOutcome(**json.loads(lines[1]))


def _talk(command: list[str], stdin: bytes, timeout_s: float) -> tuple[bytes, bytes]:
    """Run a command in a session of its own, and kill all of it at the end: (its stdout, its stderr)."""
    # The environment is PATH alone, for the tools that build the walls; within them there is none.
    path, pipe = {"PATH": os.environ.get("PATH", "")}, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=path, start_new_session=True) as process:
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


def python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(sys.executable)


def visible() -> list[str]:
    """The paths that the sandbox shows: each exists, none within another."""
    wanted = [*SYSTEM, os.path.realpath(sys.base_prefix), str(Path(python()).parent)]
    shown: list[str] = []
    for path in wanted:
        if os.path.exists(path) and not any(Path(path).is_relative_to(other) for other in shown):
            shown.append(path)
    return shown


def without_rights(command: list[str]) -> list[str]:
    """The command with no capability, no way to gain one, an empty environment and, for root, a user that none is."""
    user: list[str] = []
    if os.geteuid() == 0:
        number = FIRST_USER + secrets.randbelow(LAST_USER - FIRST_USER)
        user = [f"--reuid={number}", f"--regid={number}", "--clear-groups"]
    return ["env", "-i", tool("setpriv"), *user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", *command]


def tool(name: str) -> str:
    """Where a program lies, by PATH; its bare name where it is not found, for the caller has asked before."""
    return shutil.which(name) or name


def bubblewrap(_: Path, command: list[str]) -> list[str]:
    """Start by bwrap."""
    words = [tool("bwrap"), "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--as-pid-1"]
    if os.geteuid() == 0:
        words += [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    else:
        words += ["--unshare-user"]
    for path in visible():
        link = os.path.islink(path)
        words += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]
    words += ["--proc", "/proc", "--dir", "/dev"]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    words += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    return [*words, "--", *without_rights(command)]


def mount_flags(path: str) -> str:
    """Options for a read-only bind of a path; those that the mount has already are locked and must be said again."""
    held = os.statvfs(path).f_flag
    locked = {os.ST_NOEXEC: "noexec", os.ST_NOATIME: "noatime", os.ST_NODIRATIME: "nodiratime"}
    return ",".join(["remount", "bind", "ro", "nosuid", "nodev", *(name for bit, name in locked.items() if held & bit)])


def namespaces(root: Path, command: list[str]) -> list[str]:
    """Start by unshare, mount and pivot_root."""
    lines = [
        "set -e",
        f"cd {shlex.quote(str(root))}",
        "mount -t tmpfs -o size=1m,mode=755,nosuid,nodev tmpfs .",
        'cd "$PWD"',
    ]
    for path in visible():
        inside = shlex.quote(f".{path}")
        lines.append(f"mkdir -p {shlex.quote(f'.{os.path.dirname(path)}')}")
        if os.path.islink(path):
            lines.append(f"ln -s {shlex.quote(os.readlink(path))} {inside}")
            continue
        lines.append(f"mkdir {inside}" if os.path.isdir(path) else f": > {inside}")
        lines += [f"mount --bind {shlex.quote(path)} {inside}", f"mount -o {mount_flags(path)} {inside}"]
    lines.append("mkdir proc dev tmp old")
    lines += [f": > dev/{name}; mount --bind /dev/{name} dev/{name}" for name in DEVICES]
    lines += [
        "mount -t proc -o nosuid,nodev,noexec proc proc",
        f"mount -t tmpfs -o size={TMP_BYTES},nr_inodes=4096,mode=1777,nosuid,nodev tmpfs tmp",
        "pivot_root . old",
        "cd /",
        "umount -l /old",
        "rmdir /old",
        "mount -o remount,bind,ro,nosuid,nodev /",
        "cd /tmp",
        f"exec {shlex.join(without_rights(command))}",
    ]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    apart = ["--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts"]
    return [tool("unshare"), *user, *apart, tool("sh"), "-c", "\n".join(lines)]


WAYS: dict[str, tuple[Launch, tuple[str, ...]]] = {
    "bubblewrap": (bubblewrap, ("bwrap", "setpriv", "env")),
    "namespaces": (
        namespaces,
        ("unshare", "setpriv", "env", "sh", "mount", "umount", "pivot_root", "mkdir", "rmdir", "ln"),
    ),
}
"""Each way to start by its name: how, and the programs it needs."""
