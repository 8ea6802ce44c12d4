"""The bound on a whole sandbox's memory: a control group where one can be had, and the supervisor's look without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from steercpp.judging import sandbox
from steercpp.judging.sandbox import SandboxLimits, run_program
from steercpp.judging.sandbox_memory import PREFIX, memory_group

V1 = ("cpuset", "memory")


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def test_groups_of_the_second_version_lie_where_memory_is_handed_on(tmp_path: Path) -> None:
    folder(tmp_path, cgroup__subtree_control="cpu memory", cgroup__procs="")
    folder(tmp_path / "user" / "session", cgroup__subtree_control="", cgroup__procs="")
    folder(tmp_path / "user", cgroup__subtree_control="cpu memory pids", cgroup__procs="")
    with memory_group(1 << 20, root=tmp_path, membership="0::/user/session\n") as joining:
        assert joining is not None and joining.name == "cgroup.procs"
        group = joining.parent
        assert group.parent == tmp_path / "user" and group.name.startswith(PREFIX)
        assert (group / "memory.max").read_text() == "1048576\n" and (group / "memory.swap.max").read_text() == "0\n"
        for file in group.iterdir():  # a real one is removed with its files
            file.unlink()
    assert not group.exists()


def test_groups_of_the_first_version_lie_below_ones_own(tmp_path: Path) -> None:
    folder(tmp_path / "memory" / "a", cgroup__procs="")
    with memory_group(4096, root=tmp_path, membership="5:cpuset:/\n9:memory:/a\n0::/\n") as joining:
        assert joining is not None and joining.parent.parent == tmp_path / "memory" / "a"
        assert (joining.parent / "memory.limit_in_bytes").read_text() == "4096\n"


@pytest.mark.parametrize("membership", ["", "0::/\n", "9:memory:/gone\n", "nonsense", "0::/../..\n"])
def test_without_a_group_there_is_none(tmp_path: Path, membership: str) -> None:
    folder(tmp_path, cgroup__subtree_control="cpu", cgroup__procs="")
    with memory_group(4096, root=tmp_path, membership=membership) as joining:
        assert joining is None
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_where_a_group_cannot_be_joined_the_program_runs(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def not_joined(n_bytes: int) -> Iterator[Path]:
        yield Path("/proc/1/nowhere")

    monkeypatch.setattr(sandbox, "memory_group", not_joined)
    assert run_program("pass", allow=True, way=way).passed


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False])
def test_processes_together_are_held_to_one_bound(way: str, group: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes of 100 MiB each within what one may have, and above what all may have."""
    if not group:
        monkeypatch.setattr(sandbox, "memory_group", lambda n_bytes: memory_group(n_bytes, membership=""))
    source = (
        "import os, time\nfor _ in range(2):\n    if not os.fork(): break\n"
        "block = bytearray(100 << 20)\nfor i in range(0, len(block), 4096): block[i] = 1\ntime.sleep(SECONDS)\n"
    )
    limits = SandboxLimits(timeout_s=20, memory_bytes=200 << 20, total_bytes=150 << 20)
    end = run_program(source.replace("SECONDS", "15"), allow=True, way=way, limits=limits)
    told = ("took more than 150 MiB", "killed by SIGKILL", "its test was killed", "the sandbox ended", "left before")
    assert not end.passed and end.reason.startswith(told), end
    limits = SandboxLimits(timeout_s=20, memory_bytes=200 << 20, total_bytes=600 << 20)
    assert run_program(source.replace("SECONDS", "0.3"), allow=True, way=way, limits=limits).passed
