"""One bound on the memory of a whole sandbox, by a control group where this user may make one.

Of groups of the second version a folder is made below the nearest one above this process that hands `memory` on to its
children, of the first version below this process' own. Where neither can be written the bound is kept by the kernel's
limits on each process, and by the sandbox's supervisor, which looks ten times a second.
Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux 6.1.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "steercpp-"


@contextlib.contextmanager
def memory_group(n_bytes: int, *, root: Path = ROOT, membership: str | None = None) -> Iterator[Path | None]:
    """A control group that holds its processes to so many bytes together, for as long as the context lasts.

    Args:
        n_bytes: memory of all its processes, files in memory among it; swap is not added where the kernel can tell.
        root: where control groups are mounted.
        membership: what /proc/self/cgroup says; None: it is read.

    Yields:
        The file into which a process writes 0 to join, or None where no group can be made.
    """
    folder = _made(n_bytes, root, _membership() if membership is None else membership)
    try:
        yield None if folder is None else folder / "cgroup.procs"
    finally:
        if folder is not None:
            with contextlib.suppress(OSError):  # a process that is still ending; an empty group costs nothing
                folder.rmdir()


def _membership() -> str:
    try:
        return Path("/proc/self/cgroup").read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _made(n_bytes: int, root: Path, membership: str) -> Path | None:
    for parent, limits in _parents(root, membership):
        if not os.access(parent, os.W_OK) or not os.access(parent / "cgroup.procs", os.W_OK):
            continue
        folder = parent / f"{PREFIX}{secrets.token_hex(8)}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limits[0]).write_text(f"{n_bytes}\n")
            for name, value in ((limits[1], "0" if limits[1] == "memory.swap.max" else str(n_bytes)), (limits[2], "1")):
                with contextlib.suppress(OSError):  # no accounting of swap, an older kernel
                    if name:
                        (folder / name).write_text(f"{value}\n")
            return folder
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return None


def _parents(root: Path, membership: str) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Groups in which one for memory may be made, each with its files: limit, swap, all killed together."""
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            group = root / path.lstrip("/")
            for above in (group, *group.parents):
                if not above.is_relative_to(root):
                    break
                with contextlib.suppress(OSError):
                    if "memory" in (above / "cgroup.subtree_control").read_text("utf-8").split():
                        yield above, ("memory.max", "memory.swap.max", "memory.oom.group")
                        break
        elif "memory" in controllers.split(","):
            group = root / "memory" / path.lstrip("/")
            yield group, ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "")
