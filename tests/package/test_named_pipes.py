"""Named pipes: each is read once, and none gives what another one, or an earlier writer, had to say."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from steercpp import pipes
from steercpp.data.items import read_choices
from steercpp.data.pair_formats import open_pairs
from steercpp.inputs import open_input, read_input
from steercpp.pipes import once

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@contextmanager
def written(pipe: Path, content: bytes) -> Iterator[Path]:
    """Somebody writes into it, once."""
    if not pipe.exists():
        os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError), open(pipe, "wb") as file:
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield pipe
    finally:
        writer.join()


def test_a_pipe_that_has_another_ones_number_gives_its_own_content(tmp_path: Path) -> None:
    """What was wrong: a file system uses numbers again, by which the copies were kept."""
    for name in ("a", "b"):
        with written(tmp_path / name, name.encode()) as pipe:
            assert read_input(pipe) == name.encode()
        pipe.unlink()
    with once():
        for content in (b"one", b"two"):
            with written(tmp_path / "c", content) as pipe:
                assert read_input(pipe) == read_input(pipe) == content
            pipe.unlink()


def test_a_second_writer_is_read_and_within_one_reading_is_not(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        with written(tmp_path / "pipe", content) as pipe:
            assert read_input(pipe) == content
    with written(tmp_path / "pipe", b"three") as pipe, once():
        assert [read_input(pipe) for _ in range(2)] == [b"three"] * 2
        with once(), open_input(pipe) as file:
            assert file.read() == b"three"


def test_what_reads_a_file_more_than_once_reads_a_named_pipe(tmp_path: Path) -> None:
    with written(tmp_path / "pairs", b'{"positive": "a", "negative": "b"}\n') as pipe:
        pairs = open_pairs(pipe)
        assert [pair.positive for pair in pairs] == [pair.positive for pair in pairs] == ["a"]
    with written(tmp_path / "choices", b"Which?,a,b,c,d,B\n") as pipe:
        assert [item.answer for item in read_choices(pipe)] == [1]


def test_a_limit_holds_before_a_copy_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(
        pipes.Copy, "__del__", lambda copy: taken.append(os.fstat(copy.file.fileno()).st_size), raising=False
    )
    with written(tmp_path / "pipe", bytes(1 << 22)) as pipe, once():
        for _ in range(2):  # the rest of it is not what was in it
            with pytest.raises(OSError, match=r"larger than 0\.00195 MiB") as told:
                read_input(pipe, limit=2048)
            assert told.value.errno == errno.EFBIG
    assert max(taken) <= 2048


def run_with_a_pipe(program: str, temporary: Path) -> subprocess.CompletedProcess[bytes]:
    """A program of Python that has "said" on a pipe, and a folder of its own for temporary files."""
    return subprocess.run(
        [sys.executable, "-c", program], input=b"said", stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no files without a name here")
def test_a_killed_process_leaves_no_copy(tmp_path: Path) -> None:
    program = "import os, sys\nfrom steercpp.pipes import rereadable\n"
    program += "print(rereadable('/dev/stdin').read_text())\nos.kill(os.getpid(), 9)"
    ended = run_with_a_pipe(program, tmp_path)
    assert ended.returncode == -9 and list(tmp_path.iterdir()) == []


def test_a_forked_child_removes_no_copy_of_its_parent(tmp_path: Path) -> None:
    """Where files without a name cannot be opened."""
    program = "import os\nfrom pathlib import Path\nPath.exists = lambda path: False\n"
    program += "from steercpp.pipes import rereadable\npath = rereadable('/dev/stdin')\n"
    program += "if os.fork() == 0: raise SystemExit\nos.wait()\nprint(path.read_text(), flush=True)"
    ended = run_with_a_pipe(program, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, b"said\n") and list(tmp_path.iterdir()) == []
