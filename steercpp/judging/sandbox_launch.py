"""The walls of the sandbox: the command line that starts a process in namespaces of its own, by bubblewrap or unshare.

Either way the process sees a root built anew in memory: the system's libraries and the directory of this Python, bound
read-only, four devices, a /proc of its own process namespace and an empty, small /tmp. Home, other processes, the
network and the environment are not hidden but absent. It holds no capability and can gain none.

Source: user_namespaces(7), pid_namespaces(7), pivot_root(2); the flags of bwrap(1), unshare(1), setpriv(1).
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

DEVICES = ("null", "zero", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/nix/store")
TMP_BYTES = 64 << 20
# From linux/kernel/fork.c: the limit on processes does not hold for root, so root becomes a user that none is. A number
# of its own for each run also counts the processes of each run apart.
FIRST_USER, LAST_USER = 1 << 30, (1 << 31) - 1

Launch = Callable[[Path, list[str]], list[str]]
"""(an empty directory to build in, the command to run inside) -> the command line to start."""


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
