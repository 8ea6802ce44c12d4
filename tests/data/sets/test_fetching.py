"""Fetching data sets, from a server on this machine: hashes, caches, archives, and all that goes wrong on the way."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mirror import Mirror, mirror

from steercpp.data.sets.fetching import fetch_set
from steercpp.data.sets.records import LARGEST
from steercpp.data.sets.sources import RECORD, SOURCES, RemoteFile, Source, find_set
from steercpp.errors import DataSetError

__all__ = ["mirror"]  # a fixture
ADVBENCH = "goal,target\nDo it,Sure\nDo more,Sure\n"
XSTEST = "id,prompt,type,label,focus,note\n1,P,homonyms,safe,kill,\n"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a set's official files small ones: path, rows, hash if known."""

    def change(name: str, *files: tuple[Any, ...]) -> None:
        old = SOURCES[name]
        fake = tuple(RemoteFile(path, f"https://official.invalid/{path}", (n,), *known) for path, n, *known in files)
        changed = {**SOURCES, name: Source(fake, old.find, old.up, old.folders, old.note)}
        monkeypatch.setattr("steercpp.data.sets.sources.SOURCES", changed)
        monkeypatch.setattr("steercpp.data.sets.fetching.SOURCES", changed)

    return change


def archive(**files: str) -> bytes:
    """A tar of files by their paths, where __ stands for a slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def left(cache: Path) -> set[str]:
    """Files below a folder, without the record of what was fetched."""
    return {p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file() and p.name != RECORD}


def error_of(call: Callable[[], Any]) -> str:
    with pytest.raises(DataSetError) as caught:
        call()
    return str(caught.value)


def test_a_file_is_fetched_once_and_its_hash_kept(mirror: Mirror, small: Callable[..., None], tmp_path: Path) -> None:
    small("advbench", ("harmful_behaviors.csv", 2))
    sha256 = mirror.put("advbench/harmful_behaviors.csv", ADVBENCH)
    told: list[tuple[int, int, str]] = []
    found = fetch_set("advbench", base_url=mirror.url, cache=tmp_path, progress=lambda *now: told.append(now))
    (file,) = found.files
    assert found.path == file.path == tmp_path / "advbench" / "harmful_behaviors.csv" == find_set("advbench", tmp_path)
    assert file.path.read_text() == ADVBENCH and told[-1] == (len(ADVBENCH), len(ADVBENCH), "harmful_behaviors.csv")
    assert (file.sha256, file.is_known, file.n_rows, file.is_new) == (sha256, False, 2, True)
    record = json.loads((tmp_path / "advbench" / RECORD).read_text())["harmful_behaviors.csv"]
    assert record["sha256"] == sha256 and record["url"] == f"{mirror.url}/advbench/harmful_behaviors.csv"
    again = fetch_set("advbench", base_url=mirror.url, cache=tmp_path)
    assert [each.is_new for each in again.files] == [False] and again.files[0].sha256 == sha256
    assert len(mirror.asked) == 1


def test_a_mirror_may_be_named_by_a_variable(
    mirror: Mirror, small: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small("xstest", ("xstest_prompts.csv", 1, mirror.put("xstest/xstest_prompts.csv", XSTEST)))
    monkeypatch.setenv("STEERCPP_DATA_URL", mirror.url + "/")
    assert fetch_set("xstest", cache=tmp_path).path.read_text() == XSTEST
    assert mirror.asked == ["/data/xstest/xstest_prompts.csv"]


def test_another_hash_is_refused_and_nothing_kept(mirror: Mirror, small: Callable[..., None], tmp_path: Path) -> None:
    small("xstest", ("xstest_prompts.csv", 1, "0" * 64))
    sha256 = mirror.put("xstest/xstest_prompts.csv", XSTEST)
    told = error_of(lambda: fetch_set("xstest", base_url=mirror.url, cache=tmp_path))
    assert f"its sha256 is {sha256}, expected {'0' * 64}; the file has changed" in told and told.startswith(mirror.url)
    assert left(tmp_path) == set()


def test_a_file_that_changed_since_the_first_fetch_is_refused(
    mirror: Mirror, small: Callable[..., None], tmp_path: Path
) -> None:
    small("advbench", ("harmful_behaviors.csv", 2))
    sha256 = mirror.put("advbench/harmful_behaviors.csv", ADVBENCH)
    path = fetch_set("advbench", base_url=mirror.url, cache=tmp_path).path
    path.write_text(ADVBENCH.replace("more", "less"))
    for use in (fetch_set, lambda name, cache: find_set(name, cache)):
        assert f", and was {sha256} when it was fetched; delete it and fetch it again" in error_of(
            lambda use=use: use("advbench", cache=tmp_path)  # type: ignore[misc]
        )
    path.unlink()
    mirror.put("advbench/harmful_behaviors.csv", ADVBENCH.replace("more", "less"))
    told = error_of(lambda: fetch_set("advbench", base_url=mirror.url, cache=tmp_path))
    assert f"expected {sha256}" in told and told.endswith("fetched.json to take the new one")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (ADVBENCH.replace("goal", "aim"), "is not the official file (1: the header is 'aim,target'; expected"),
        (ADVBENCH + "x,y\n", "has 3 rows, the official file 2; nothing of it was kept"),
        ("goal,target\na,b,c\n", "is not the official file (2: 3 columns; expected 2"),
    ],
)
def test_what_is_not_the_official_file_is_not_kept(
    mirror: Mirror, small: Callable[..., None], tmp_path: Path, content: str, expected: str
) -> None:
    small("advbench", ("harmful_behaviors.csv", 2))
    mirror.put("advbench/harmful_behaviors.csv", content)
    assert expected in error_of(lambda: fetch_set("advbench", base_url=mirror.url, cache=tmp_path))
    assert left(tmp_path) == set()


def test_what_broke_off_leaves_no_half_file(mirror: Mirror, small: Callable[..., None], tmp_path: Path) -> None:
    small("advbench", ("harmful_behaviors.csv", 2))
    mirror.put("advbench/harmful_behaviors.csv", ADVBENCH)
    mirror.broken.add("/data/advbench/harmful_behaviors.csv")
    told = error_of(lambda: fetch_set("advbench", base_url=mirror.url, cache=tmp_path))
    assert told.endswith("harmful_behaviors.csv: the download broke off, and nothing of it was kept; fetch it again")
    assert left(tmp_path) == set()
    mirror.broken.clear()
    assert fetch_set("advbench", base_url=mirror.url, cache=tmp_path).path.is_file()


def test_ctrl_c_leaves_no_half_file(mirror: Mirror, small: Callable[..., None], tmp_path: Path) -> None:
    def stop(done: int, total: int, label: str) -> None:
        raise KeyboardInterrupt

    small("advbench", ("harmful_behaviors.csv", 2))
    mirror.put("advbench/harmful_behaviors.csv", ADVBENCH)
    with pytest.raises(KeyboardInterrupt):
        fetch_set("advbench", base_url=mirror.url, cache=tmp_path, progress=stop)
    assert left(tmp_path) == set()


def test_finished_files_of_a_set_are_not_fetched_again(
    mirror: Mirror, small: Callable[..., None], tmp_path: Path
) -> None:
    rows = [json.dumps([{"instruction": f"{i}", "category": None}]) for i in range(2)]
    known = mirror.put("instructions/harmful_train.json", rows[0])
    small("instructions", ("harmful_train.json", 1, known), ("harmless_train.json", 1))
    told = error_of(lambda: fetch_set("instructions", base_url=mirror.url, cache=tmp_path))
    assert "harmless_train.json: the server answers 404 " in told and "fetch it by hand" in told
    assert left(tmp_path) == {"instructions/harmful_train.json"}
    mirror.put("instructions/harmless_train.json", rows[1])
    found = fetch_set("instructions", base_url=mirror.url, cache=tmp_path)
    assert [(file.is_new, file.is_known) for file in found.files] == [(False, True), (True, False)]
    assert found.path == tmp_path / "instructions" and len(mirror.asked) == 3


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_without_network(mirror: Mirror, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    told = error_of(lambda: fetch_set("xstest", base_url=address, cache=tmp_path))
    assert told.startswith(f"{address}/xstest/xstest_prompts.csv: no connection; check the network or give a mirror's")
    assert left(tmp_path) == set()
    assert "no address to fetch from" in error_of(lambda: fetch_set("xstest", base_url="nowhere", cache=tmp_path))


def test_where_nothing_can_be_written(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = error_of(lambda: fetch_set("xstest", base_url=mirror.url, cache=tmp_path / "file"))
    assert "no file can be written there (" in told and told.endswith("choose another `cache`")


def test_of_an_archive_only_the_files_of_the_set_are_written(
    mirror: Mirror, small: Callable[..., None], tmp_path: Path
) -> None:
    small("mmlu", ("data.tar", 2))
    row = "Q?,a,b,c,d,A\n"
    mirror.put("mmlu/data.tar", archive(**{
        "data__test__law_test.csv": row, "data__test__art_test.csv": row, "data__dev__law_dev.csv": row * 5,
        "data__auxiliary_train__x.csv": row, "data__README.txt": row, "data__dev__law_test.csv": row,
        "data__test__law_test.csv__x": row, "other__test__law_test.csv": row,
    }))  # fmt: skip
    found = fetch_set("mmlu", base_url=mirror.url, cache=tmp_path)
    assert left(tmp_path) == {"mmlu/test/law_test.csv", "mmlu/test/art_test.csv", "mmlu/dev/law_dev.csv"}
    assert found.path == tmp_path / "mmlu" and found.files[0].n_rows == 2
    assert not fetch_set("mmlu", base_url=mirror.url, cache=tmp_path).files[0].is_new and len(mirror.asked) == 1


def test_damaged_archives(
    mirror: Mirror, small: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small("mmlu", ("data.tar", 2))
    good = archive(**{"data__test__law_test.csv": "Q?,a,b,c,d,A\n" * 2})
    for content, expected in ((b"no tar" * 200, "no tar archive, or cut off"), (archive(), "no files *_test.csv")):
        mirror.put("mmlu/data.tar", content)
        assert expected in error_of(lambda: fetch_set("mmlu", base_url=mirror.url, cache=tmp_path))
        assert left(tmp_path) == set()
    mirror.put("mmlu/data.tar", good)
    monkeypatch.setattr("steercpp.data.sets.fetching.LARGEST", 10)
    told = error_of(lambda: fetch_set("mmlu", base_url=mirror.url, cache=tmp_path))
    assert LARGEST > 10 and "has 10,240 bytes, where the official file has at most 10; nothing of it was kept" in told
    assert left(tmp_path) == set()
