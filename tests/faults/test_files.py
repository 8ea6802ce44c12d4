"""One way to write a file: whole or not at all, only in ordinary places, never over what another process does."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from second_process import holding

from steercpp.errors import InputError, RunError, VectorFileError
from steercpp.files import (
    TEMPORARY,
    fenced,
    remove_leftovers,
    replacing,
    why_kept,
    write_atomically,
    write_together,
    write_whole,
)
from steercpp.locks import MEASURING, _mine, is_free, writing
from steercpp.runs.folder import examine, tidy_unused
from steercpp.runs.manifest import read_manifest
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import read_any_vector, write_any_vector


@contextmanager
def files_end_at(n_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", ["gguf", "npz", "safetensors"])
def test_a_vector_that_does_not_fit_leaves_the_good_file(suffix: str, tmp_path: Path) -> None:
    """What was wrong: of n_embd 256 nothing was raised, and a cut file took the place of the good one."""
    path = tmp_path / f"v.{suffix}"
    rng = np.random.default_rng(3)
    vector, other = (
        ControlVector({il: rng.standard_normal(256).astype(np.float32) for il in range(1, 17)}, "llama", 17)
        for _ in "ab"
    )
    write_any_vector(path, vector)
    good = path.read_bytes()
    for n_bytes in (0, 100, 4096, 8192, 12_000, 16_384, len(good) - 1):
        with files_end_at(n_bytes), pytest.raises(VectorFileError, match=f"{path.name}: cannot be written: .*; choose"):
            write_any_vector(path, other, force=True)
        assert path.read_bytes() == good and [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with files_end_at(len(good)):
        write_any_vector(path, other, force=True)
    assert np.array_equal(read_any_vector(path)[0].directions[16], other.directions[16])


def test_what_reads_back_otherwise_does_not_take_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong: a block that was lost by the system left a hole in a file of the right length."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, bytes(len(data)), place))
    with pytest.raises(InputError, match="x: cannot be written: what was written reads back otherwise; choose"):
        write_whole(path, b"new", force=True, error=InputError)
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: len(data))
    with pytest.raises(RunError, match="x: cannot be written .what was written reads back otherwise"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["x"]


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(path))


def a_device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, 0o20666, os.makedev(1, 3))


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_device])
def test_only_ordinary_files_are_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    """What was wrong: with `force` a device, a pipe or a link was replaced by a file."""
    make(special := tmp_path / "special")
    before = special.lstat()
    (link := tmp_path / "link").symlink_to("special")
    for path in (special, link):
        for force in (False, True):
            with pytest.raises(
                InputError, match=rf"{path.name}: is {make.__name__.replace('_', ' ')}, not an ordinary"
            ):
                write_whole(path, b"new", force=force, error=InputError)
    with pytest.raises(RunError, match="special: is a"):
        write_atomically(special, b"new")
    assert os.path.samestat(before, special.lstat()) and link.is_symlink()


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (chain := tmp_path / "chain").symlink_to("link")
    (link := tmp_path / "link").symlink_to(elsewhere / "file")
    for data in (b"one", b"two"):  # first it leads nowhere
        write_whole(chain, data, force=data == b"two", error=InputError)
        assert (elsewhere / "file").read_bytes() == data and chain.is_symlink() and link.is_symlink()
    with pytest.raises(InputError, match="chain: is a link to .*: exists already"):
        write_whole(chain, b"three", force=False, error=InputError)
    (circle := tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="circle: is a link that leads in a circle"):
        write_whole(circle, b"", force=True, error=InputError)
    with pytest.raises(RunError, match="link: is a link, which is not followed here"):
        write_atomically(link, b"three")
    assert [entry.name for entry in elsewhere.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_an_open_file_is_no_place(tmp_path: Path) -> None:
    with (tmp_path / "opened").open("wb") as opened:
        (link := tmp_path / "link").symlink_to(f"/proc/self/fd/{opened.fileno()}")
        for path in (link, link.readlink()):
            with pytest.raises(InputError, match="stands for an open file of a process"):
                write_whole(path, b"new", force=True, error=InputError)


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(RunError, match="cannot be written"):
        write_together(tmp_path, {"b": b"new", "a": b"new"})
    assert (tmp_path / "a" / "kept").exists() and (tmp_path / "b").read_bytes() == b"old"


@pytest.mark.parametrize("call", ["replace", "fsync", "link", "rename"])
def test_files_that_belong_together_are_all_old_or_all_new(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"old")
    new = dict.fromkeys("abc", b"new")
    real, tried = getattr(os, call), 0
    for fails_at in range(20):
        left = fails_at

        def failing(*arguments: object, **options: object) -> object:
            nonlocal left, tried
            left -= 1
            if left == -1:
                tried += 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, failing)
        if left < 0:
            break
        try:
            write_together(tmp_path, new)
        except RunError:
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys("abc", b"old")
        else:
            break
        finally:
            monkeypatch.setattr(os, call, real)
    assert tried and {path.name: path.read_bytes() for path in tmp_path.iterdir()} == new


NAMES_OF_CALLS = ("replace", "link", "rename", "unlink")
OLD = {"a": b"old a", "z": b"old z"}


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed_at(n: int, call: Callable[[], object]) -> bool:
    """Whether a process was killed at the n-th change of a folder's names while it did something."""
    pid = os.fork()
    if pid == 0:
        left = n

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def change(*arguments: object, **options: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return real(*arguments, **options)

            return change

        try:
            for name in NAMES_OF_CALLS:
                setattr(os, name, counted(getattr(os, name)))
            call()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("new", [{"a": b"new a", "z": b"new z"}, {"m": b"new m", "z": b"new z"}])
def test_a_kill_leaves_the_old_files_or_the_new_ones_to_the_next_command(new: dict[str, bytes], tmp_path: Path) -> None:
    """What was wrong: an earlier last file was lost, and `--force` left no run at all."""
    folder, found = tmp_path / "folder", []
    for n, again in itertools.product(range(40), range(4)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in OLD.items():
            (folder / name).write_bytes(data)
        if not killed_at(n, lambda: write_together(folder, new)):
            break
        killed_at(again, lambda: remove_leftovers(folder, folders=False))  # bringing back may be killed too
        remove_leftovers(folder, folders=False)
        found.append(contents(folder))
    assert found[0] == OLD and found[-1] == OLD | new
    assert [files for files in found if files not in (OLD, OLD | new)] == []


def test_what_cannot_be_put_back_is_kept_whoever_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong: the only copy was removed, by a failing disk's own process or by another one meanwhile."""
    for name, data in OLD.items():
        (tmp_path / name).write_bytes(data)
    replace, n = os.replace, 0

    def failing(old: Path, new: Path) -> None:
        nonlocal n
        remove_leftovers(tmp_path, folders=True)  # of another process
        n += 1
        if n > 1:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        replace(old, new)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(RunError, match="what was there is kept as .steercpp-old-.*, and the next command puts it back"):
        write_together(tmp_path, {"a": b"new", "z": b"new"})
    with pytest.raises(RunError):
        write_together(tmp_path, {"a": b"newer", "z": b"newer"})
    monkeypatch.undo()
    remove_leftovers(tmp_path, folders=True)
    assert contents(tmp_path) == OLD


def test_a_file_that_the_user_put_there_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "z").write_bytes(b"old")
    assert killed_at(2, lambda: write_together(tmp_path, {"a": b"new", "z": b"new"}))
    (tmp_path / "z").write_bytes(b"mine")
    remove_leftovers(tmp_path, folders=False)
    assert (tmp_path / "z").read_bytes() == b"mine"


@pytest.mark.parametrize("said", [b"", b"[]", b'{"pid": 1, "places": {"../x": null}}', b"[" * 100_000])
def test_a_strange_swap_moves_nothing(said: bytes, tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    (tmp_path / "x").write_bytes(b"old")
    (folder / f"{TEMPORARY}swap-0").write_bytes(said)
    (folder / f"{TEMPORARY}old-0-0").write_bytes(b"other")
    remove_leftovers(folder, folders=False)
    assert (tmp_path / "x").read_bytes() == b"old" and contents(folder) == {}


def state(path: Path) -> list[int]:
    """As a record tells a draft."""
    found = path.lstat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def forge(folder: Path, places: dict[str, list[int] | None], *, mode: int = 0o600, inode: int | None = None) -> Path:
    """A record of a swap that no process of this project began."""
    record = folder / f"{TEMPORARY}swap-abc"
    record.touch(mode)
    record.chmod(mode)
    inode = record.stat().st_ino if inode is None else inode
    record.write_text(json.dumps({"host": socket.gethostname(), "pid": -1, "inode": inode, "places": places}))
    return record


def clean(folder: Path) -> None:
    """Do there what each command does, with and without a lock."""
    write_whole(folder / "other", b"", force=True, error=InputError)
    remove_leftovers(folder, folders=True)
    write_together(folder, {"other": b"", "another": b""})


def mine(folder: Path) -> dict[str, bytes]:
    """What is in a folder and below."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


@pytest.mark.parametrize("believed", [False, True])
@pytest.mark.parametrize("link", ["symbolic", "hard", "none"])
def test_a_forged_swap_removes_nothing(link: str, believed: bool, tmp_path: Path) -> None:
    """What was wrong: a record in an archive removed the files and folders that it named, through links beside it."""
    (tmp_path / "thesis").mkdir()
    for name in ("thesis/1", "notes", "run"):
        (tmp_path / name).write_bytes(b"mine")
    for number, name in enumerate(("thesis", "notes", "run")):
        copy = tmp_path / f"{TEMPORARY}old-abc-{number}"
        if link == "symbolic":
            copy.symlink_to(name)
        elif link == "hard" and name != "thesis":
            os.link(tmp_path / name, copy)
    before = {name: data for name, data in mine(tmp_path).items() if TEMPORARY not in name}
    forge(tmp_path, {"thesis": None, "notes": None, "run": None}, inode=None if believed else 7)
    clean(tmp_path)
    assert before.items() <= mine(tmp_path).items()
    assert (tmp_path / f"{TEMPORARY}swap-abc").exists() is not believed


@pytest.mark.parametrize("forged", ["another inode", "others may write to it", "another user's", "a second name"])
def test_a_record_that_is_not_ours_is_not_believed(forged: str, tmp_path: Path) -> None:
    """What was wrong: anybody's record in a folder for all (mode 1777) removed the file whose state it told."""
    tmp_path.chmod(0o1777)
    (tmp_path / "file").write_bytes(b"mine")
    places: dict[str, list[int] | None] = {"file": state(tmp_path / "file"), "last": [0, 0, 0]}
    if forged == "another inode":
        forge(tmp_path, places, inode=tmp_path.stat().st_ino)
    elif forged == "others may write to it":
        forge(tmp_path, places, mode=0o622)
    elif forged == "a second name":
        (tmp_path / "below").mkdir()
        record = forge(tmp_path / "below", places)
        (tmp_path / record.name).symlink_to(record)
    elif os.geteuid() != 0:
        pytest.skip("only root gives files away")
    else:
        os.chown(forge(tmp_path, places), 65534, 65534)
    clean(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "", "..", "below/x", f"{TEMPORARY}swap-1"])
def test_a_record_of_names_that_no_file_has_is_forgotten(name: str, tmp_path: Path) -> None:
    """What was wrong: a name with a zero byte was a ValueError in whatever wrote there."""
    forge(tmp_path, {name: None})
    clean(tmp_path)
    assert set(contents(tmp_path)) == {"other", "another"}


def test_no_other_user_may_write_to_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, modes = os.replace, list[int]()

    def looked(old: Path, new: Path) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{TEMPORARY}swap-*"))
        replace(old, new)

    monkeypatch.setattr(os, "replace", looked)
    before = os.umask(0)
    try:
        write_together(tmp_path, {"a": b"", "z": b""})
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_copied_folder_loses_nothing_that_is_kept(tmp_path: Path) -> None:
    """The record of a half-done swap is another file in a copy; what it keeps stays, and is told of."""
    for n in range(20):
        for name in ("folder", "copy"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        (folder := tmp_path / "folder").mkdir()
        for name, data in OLD.items():
            (folder / name).write_bytes(data)
        if not killed_at(n, partial(write_together, folder, {"a": b"new a", "z": b"new z"})):
            break
        copy = shutil.copytree(folder, tmp_path / "copy")
        remove_leftovers(copy, folders=True)
        found = set(mine(copy).values())
        assert found >= set(OLD.values()) or found >= {b"new a", b"new z"}
        if (copy / "z").exists():
            assert {(copy / name).read_bytes() for name in "az"} in ({b"old a", b"old z"}, {b"new a", b"new z"})
            assert why_kept(copy, "z") is None or list(copy.glob(f"{TEMPORARY}swap-*"))
        else:
            assert "was copied or unpacked while its files were being replaced" in str(why_kept(copy, "z"))
        assert why_kept(folder, "z") is None  # the next command brings it back
    assert n > 4


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_was_replacing_is_told_where_a_run_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sweep.sqlite").write_bytes(b"")
    os.chown(forge(tmp_path, {"sweep.sqlite": None, "manifest.json": None}), 65534, 65534)
    for read in (read_manifest, examine):
        with pytest.raises(
            RunError, match="user .* replaces files there .* is kept as .steercpp-old-abc-.*: have that"
        ):
            read(tmp_path)


def test_what_others_replace_in_a_shared_folder_hinders_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{TEMPORARY}swap-1").symlink_to("nowhere")
    os.mkfifo(tmp_path / f"{TEMPORARY}swap-2")
    (tmp_path / "z").write_bytes(b"old")
    assert killed_at(2, lambda: write_together(tmp_path, {"a": b"new", "z": b"new"}))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("steercpp.files.swaps._undo", refuse)
    write_whole(tmp_path / "mine", b"mine", force=False, error=InputError)
    with pytest.raises(InputError, match="z: cannot be written"):
        write_whole(tmp_path / "z", b"mine", force=True, error=InputError)


def test_a_file_keeps_its_rights(tmp_path: Path) -> None:
    """What was wrong: a file that only its owner could read was everybody's once it was replaced."""
    for mode in (0o600, 0o640, 0o664):
        (path := tmp_path / "x").write_bytes(b"old")
        path.chmod(mode)
        write_whole(path, b"new", force=True, error=InputError)
        assert path.stat().st_mode & 0o777 == mode
        write_atomically(path, b"newer")
        assert path.stat().st_mode & 0o777 == mode


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nobody_takes_the_place_of_a_living_writer(tmp_path: Path) -> None:
    """What was wrong: a reader's tidying took it, and the sweep that went on there ended."""
    with writing(tmp_path):
        (tmp_path / f"{TEMPORARY}aside").mkdir()
        name = (tmp_path / MEASURING).read_bytes()
        pid = os.fork()
        if pid == 0:
            try:
                _mine.__dict__.clear()
                (tmp_path / "sweep.sqlite-wal").write_bytes(b"")
                is_left_alone = not is_free(tmp_path)
                tidy_unused(tmp_path)
                with writing(tmp_path):
                    write_atomically(tmp_path / "second", b"")
                os._exit(0 if is_left_alone else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (tmp_path / MEASURING).read_bytes() == name and (tmp_path / f"{TEMPORARY}aside").exists()
        write_atomically(tmp_path / "first", b"")
    assert not (tmp_path / MEASURING).exists()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_what_a_dead_process_replaced_is_brought_back(tmp_path: Path) -> None:
    for name, data in OLD.items():
        (tmp_path / name).write_bytes(data)
    assert killed_at(3, lambda: write_together(tmp_path, {"a": b"new", "z": b"new"}))
    remove_leftovers(tmp_path, folders=False)
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith(TEMPORARY)} == OLD


def test_leftovers_go_and_what_is_in_work_stays(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}0123").write_bytes(b"")
    (tmp_path / f"{TEMPORARY}folder").mkdir()
    (tmp_path / "mine").write_bytes(b"")
    with replacing(tmp_path / "x") as draft:
        draft.write(b"x")
        with writing(tmp_path):
            assert {path.name for path in tmp_path.iterdir()} == {"mine", draft.path.name, MEASURING}
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "x"}
    with holding(tmp_path):
        assert not is_free(tmp_path)
        remove_leftovers(tmp_path, folders=False)
        assert (tmp_path / MEASURING).exists()
    assert is_free(tmp_path)
    with writing(tmp_path):
        pass
    assert not (tmp_path / MEASURING).exists()


def lock_removed(folder: Path) -> None:
    (folder / MEASURING).unlink()


def lock_replaced(folder: Path) -> None:
    (folder / MEASURING).unlink()
    (folder / MEASURING).write_bytes(b"")


def lock_taken_over(folder: Path) -> None:
    """As where the file system has no locks."""
    (folder / MEASURING).write_bytes(b'{"pid": 1}')


def folder_removed(folder: Path) -> None:
    shutil.rmtree(folder)


def folder_replaced(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.mkdir()


def folder_became_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.with_name("other").mkdir()
    folder.symlink_to("other")


DISTURBED = (lock_removed, lock_replaced, lock_taken_over, folder_removed, folder_replaced, folder_became_a_link)


@pytest.mark.parametrize("disturb", DISTURBED)
def test_who_has_lost_a_lock_writes_nothing_more(disturb: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with writing(folder):
        write_atomically(folder / "before", b"")
        (folder / "below").mkdir()
        disturb(folder)
        before = sorted(path for path in tmp_path.rglob("*"))
        attempts: list[Callable[[], None]] = [
            lambda: write_atomically(folder / "x", b""),
            lambda: write_atomically(folder / "below" / "x", b""),
            lambda: write_whole(folder / "x.gguf", b"", force=True, error=InputError),
            lambda: write_together(folder, {"x": b"", "y": b""}),
        ]
        for write in attempts:
            with pytest.raises((RunError, InputError), match="no longer holds its place|does not exist"):
                write()
        write_atomically(tmp_path / "elsewhere", b"")  # is no one's business
        (tmp_path / "elsewhere").unlink()
        assert sorted(path for path in tmp_path.rglob("*")) == before
    if disturb in (lock_replaced, lock_taken_over):
        assert disturb is lock_taken_over or (folder / MEASURING).exists()  # it is another's by now


def test_a_fence_holds_for_its_own_thread_and_folder_alone(tmp_path: Path) -> None:
    def fall() -> None:
        raise RunError("fallen")

    (tmp_path / "run").mkdir()
    (tmp_path / "runs").mkdir()
    with fenced(tmp_path / "run", fall):
        with pytest.raises(RunError, match="^fallen$"):
            write_atomically(tmp_path / "run" / "x", b"")
        write_atomically(tmp_path / "runs" / "x", b"")
    write_atomically(tmp_path / "run" / "x", b"")
