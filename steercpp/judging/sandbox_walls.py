"""The walls around generated code: what a sandbox shows, and the two ways to start one; read this for what is in it.

Namespaces, made by bubblewrap or by unshare. Either way a process sees a root built in memory: the system's libraries,
this Python's interpreter, standard library and shared libraries, all read-only, three devices, a /proc of its own
process namespace, and an empty, small /tmp. It holds no capability and can gain none. What a kernel offers beyond files
is closed from within (`sandbox_filter`).
Source: user_namespaces(7), pid_namespaces(7), pivot_root(2), proc(5); the flags of bwrap(1), unshare(1), setpriv(1).
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

DEVICES = ("null", "random", "urandom")  # of zero one maps shared memory that no process is seen to hold
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/nix/store")
PACKAGES = ("site-packages", "dist-packages")
MACHINE_FILES = ("cmdline", "keys", "key-users")  # of /proc: kernel command line, names of the user's keys
HOST_NAME = "sandbox"
TMP = "/tmp"
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
    """The paths that the sandbox shows: each exists, none within another.

    Of a Python that is not the system's those are the interpreter, its standard library and the shared libraries that
    these are linked to, never the folder that it was installed to: that may be ~/.local.
    """
    shown: list[str] = []
    for path in (*SYSTEM, *_parts_of_python(python())):
        if os.path.exists(path) and not any(Path(path).is_relative_to(other) for other in shown):
            shown.append(path)
    return shown


def covered() -> list[str]:
    """Folders within `visible` that the sandbox shows empty: installed packages."""
    inside = [Path(folder) / name for folder in _standard_library() for name in PACKAGES]
    system = [Path(path) for path in SYSTEM]
    return [str(path) for path in inside if path.is_dir() and not any(path.is_relative_to(other) for other in system)]


def _standard_library() -> list[str]:
    paths = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if path))


@cache
def _parts_of_python(interpreter: str) -> tuple[str, ...]:
    folders = _standard_library()
    modules = (str(path) for folder in folders for path in sorted(Path(folder, "lib-dynload").glob("*.so")))
    return (*folders, interpreter, *_linked_libraries([interpreter, *modules]))


def _linked_libraries(binaries: Iterable[str]) -> list[str]:
    """Shared libraries that binaries are linked to, outside the system's folders, as their loader names them."""
    try:
        told = subprocess.run(
            [tool("ldd"), *binaries], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        ).stdout
    except OSError:
        return []  # no ldd: a Python that needs other libraries does not start in the sandbox, and says so
    paths = dict.fromkeys(
        os.path.normpath(path) for path in re.findall(r"=> (/.*) \(0x[0-9a-f]+\)$", told, re.MULTILINE)
    )
    return [path for path in paths if not any(Path(path).is_relative_to(folder) for folder in SYSTEM)]


def top_in_tmp(paths: Iterable[str]) -> list[str]:
    """The folders directly in /tmp that hold any of these paths: a Python may lie there."""
    tops = (Path(*Path(path).parts[:3]) for path in paths if Path(path).is_relative_to(TMP) and path != TMP)
    return list(dict.fromkeys(str(top) for top in tops))


def _folders_above(paths: Iterable[str]) -> list[str]:
    """The folders that paths lie in, each after the one that it lies in itself."""
    return list(dict.fromkeys(str(above) for path in paths for above in [*Path(path).parents][-2::-1]))


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
    words += ["--hostname", HOST_NAME]
    if os.geteuid() == 0:
        words += [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    else:
        words += ["--unshare-user"]
    paths = visible()
    words += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", TMP]
    tops = top_in_tmp(paths)
    for top in tops:
        words += ["--perms", "755", "--tmpfs", top]
    for folder in _folders_above(paths):
        words += ["--perms", "755", "--dir", folder]  # bwrap would make them for its own user alone
    for path in paths:
        link = os.path.islink(path)
        words += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]
    for path in covered():
        words += ["--tmpfs", path, "--remount-ro", path]
    words += ["--proc", "/proc", "--dir", "/dev"]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name in MACHINE_FILES:
        if os.path.exists(f"/proc/{name}"):
            words += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for top in [*tops, "/"]:
        words += ["--remount-ro", top]
    return [*words, "--chdir", TMP, "--", *without_rights(command)]


def mount_flags(path: str) -> str:
    """Options for a read-only bind of a path; those that the mount has already are locked and must be said again."""
    held = os.statvfs(path).f_flag
    locked = {os.ST_NOEXEC: "noexec", os.ST_NOATIME: "noatime", os.ST_NODIRATIME: "nodiratime"}
    return ",".join(["remount", "bind", "ro", "nosuid", "nodev", *(name for bit, name in locked.items() if held & bit)])


def namespaces(root: Path, command: list[str]) -> list[str]:
    """Start by unshare, mount and pivot_root."""
    quiet = "2>/dev/null"
    lines = [
        "set -e",
        f"{{ {tool('hostname')} {HOST_NAME} {quiet}; }} || :",  # where there is no such program the name stays
        f"cd {shlex.quote(str(root))}",
        "mount -t tmpfs -o size=1m,mode=755,nosuid,nodev tmpfs .",
        'cd "$PWD"',
        "mkdir proc dev tmp old",
        f"mount -t tmpfs -o size={TMP_BYTES},nr_inodes=4096,mode=1777,nosuid,nodev tmpfs tmp",
    ]
    paths = visible()
    tops = top_in_tmp(paths)
    for top in tops:
        inside = shlex.quote(f".{top}")
        lines += [f"mkdir {inside}", f"mount -t tmpfs -o size=1m,mode=755,nosuid,nodev tmpfs {inside}"]
    for path in paths:
        inside = shlex.quote(f".{path}")
        lines.append(f"mkdir -p {shlex.quote(f'.{os.path.dirname(path)}')}")
        if os.path.islink(path):
            lines.append(f"ln -s {shlex.quote(os.readlink(path))} {inside}")
            continue
        lines.append(f"mkdir -p {inside}" if os.path.isdir(path) else f": > {inside}")
        lines += [f"mount --bind {shlex.quote(path)} {inside}", f"mount -o {mount_flags(path)} {inside}"]
    for path in covered():
        lines.append(f"mount -t tmpfs -o ro,size=4k,mode=755,nosuid,nodev tmpfs {shlex.quote(f'.{path}')}")
    lines += [f": > dev/{name}; mount --bind /dev/{name} dev/{name}" for name in DEVICES]
    proc = "mount -t proc -o nosuid,nodev,noexec"
    lines += [
        f"{proc},subset=pid proc proc {quiet} || {proc} proc proc",  # processes alone, since Linux 5.8
        *(f"[ ! -e proc/{name} ] || mount --bind /dev/null proc/{name}" for name in MACHINE_FILES),
        *(f"mount -o remount,ro,nosuid,nodev {shlex.quote(f'.{top}')}" for top in tops),
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
