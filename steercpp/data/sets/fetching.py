"""Data sets fetched from where their authors publish them into a cache; read this for what is checked on the way.

A file is fetched beside its place and put there once it is whole, has the hash that is known of it, and is read by the
set's reader with as many rows as the official file has. Where no hash is known, that of the first fetch is kept in
fetched.json beside the file and holds from then on. What is there already is not fetched again, files of a set that was
interrupted included. MMLU's archive is unpacked by name, and not kept: nothing of it is written but
{dev,val,test}/{subject}_{split}.csv.

A mirror has the files as the cache does: BASE/NAME/path. Its address is `base_url` or the variable STEERCPP_DATA_URL.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from steercpp.aliases import Progress
from steercpp.data.sets.catalog import data_set
from steercpp.data.sets.records import LARGEST
from steercpp.data.sets.sources import (
    RECORD,
    SOURCES,
    RemoteFile,
    cache_folder,
    changed,
    find_set,
    recorded,
    repository,
)
from steercpp.errors import DataSetError
from steercpp.files import adopt, replacing, take_places
from steercpp.locks import writing
from steercpp.provenance import file_sha256, now

URL_VARIABLE = "STEERCPP_DATA_URL"
TIMEOUT_S = 30.0  # without a single byte
_CHUNK = 1 << 16  # bytes
_MEMBER = re.compile(r"(?:data/)?((dev|val|test)/\w+_\2\.csv)")
_HASH = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is there.

    Attributes:
        path: where; of an archive, where it would be, had it been kept.
        url: where it came from.
        sha256: its hash.
        is_known: whether that hash was known beforehand; else it is that of the first fetch.
        n_rows: its rows, as the set's reader counts them.
        is_new: whether it was fetched now.
    """

    path: Path
    url: str
    sha256: str
    is_known: bool
    n_rows: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """A set that is there: the path that its reader takes, and its files."""

    path: Path
    files: tuple[FetchedFile, ...]


def fetch_set(
    name: str, *, base_url: str | None = None, cache: Path | None = None, progress: Progress | None = None
) -> Fetched:
    """Fetch a set, as far as it is not there.

    Args:
        name: of the set.
        base_url: a mirror's address; None for that of STEERCPP_DATA_URL, or the authors' own addresses.
        cache: the folder of sets; None for the user's cache.
        progress: called with (bytes, of how many, the file).

    Raises:
        DataSetError: unknown name; no connection, no such file there, or it broke off; another hash; not the set or
            not all of it; nothing can be written. Of what is wrong nothing is kept, finished files are.
    """
    data_set(name)
    if not SOURCES[name].files:
        raise DataSetError(f"{name}: hundreds of files; clone {repository(name)} and name its folder with `data`")
    home = (cache or cache_folder()) / name
    base = base_url or os.environ.get(URL_VARIABLE)
    try:
        files = [_kept(file, home) for file in SOURCES[name].files]
        if None in files:
            with writing(home, error=DataSetError, otherwise="choose another `cache`"):
                files = [
                    _kept(file, home) or _fetched(name, file, home, base, progress) for file in SOURCES[name].files
                ]
    except OSError as error:
        raise DataSetError(f"{home}: cannot be written ({error.strerror or error}); choose another `cache`") from error
    return Fetched(find_set(name, home.parent), tuple(filter(None, files)))


def _kept(file: RemoteFile, home: Path) -> FetchedFile | None:
    """A file that was fetched before; None where it was not.

    Raises:
        DataSetError: it is there and has changed.
    """
    place, earlier = home / file.path, recorded(home).get(file.path, {})
    is_archive = place.suffix == ".tar"
    if not earlier or not (home / "test" if is_archive else place).exists():
        return None
    expected = file.sha256 or earlier.get("sha256")
    if not is_archive and (sha256 := file_sha256(place)) != expected:
        raise changed(place, sha256, expected)
    return FetchedFile(place, earlier["url"], expected, file.sha256 is not None, earlier["n_rows"], False)


def _fetched(name: str, file: RemoteFile, home: Path, base: str | None, progress: Progress | None) -> FetchedFile:
    """One file, fetched."""
    place, url = home / file.path, f"{base.rstrip('/')}/{name}/{file.path}" if base else file.url
    expected = file.sha256 or recorded(home).get(file.path, {}).get("sha256")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=home) as folder:
        draft = Path(folder, place.name)
        advice = "take the official file elsewhere" if file.sha256 else f"delete {home / RECORD} to take the new one"
        sha256 = _download(url, draft, expected, progress, advice)
        n_rows = _check(name, file, draft, url)
        place.parent.mkdir(parents=True, exist_ok=True)
        for split in _unpacked(draft):
            take_places({home / split: draft.parent / split})
        if place.suffix != ".tar":
            adopt(draft, place, sha256=sha256)
    fetched = FetchedFile(place, url, sha256, file.sha256 is not None, n_rows, True)
    _record(home, file.path, fetched)
    return fetched


def _download(url: str, draft: Path, expected: str | None, progress: Progress | None, advice: str) -> str:
    """Fetch into this file; its hash. `advice` is what to do where that is another one, and it is no accident."""
    import pooch
    import requests

    bar: Any = _Bar(progress, draft.name) if progress else False
    answers: list[requests.Response] = []  # pooch leaves those open that it did not read to the end

    def keep(response: requests.Response, **_: Any) -> None:
        answers.append(response)

    loader = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK, timeout=TIMEOUT_S, hooks={"response": keep})
    hashed = f"sha256:{expected}" if expected else None
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, hashed, fname=draft.name, path=draft.parent, downloader=loader)
    except requests.RequestException as error:
        _raise_for(url, error)
    except ValueError as error:
        hashes = [digest for digest in _HASH.findall(str(error)) if digest != expected]
        raise DataSetError(
            f"{url}: its sha256 is {hashes[-1] if hashes else 'another'}, expected {expected}; the file has changed or "
            f"was damaged on the way, and nothing of it was kept: fetch it again, or {advice}"
        ) from error
    finally:
        for answer in answers:
            answer.close()
    return file_sha256(draft)


def _raise_for(url: str, error: Any) -> NoReturn:
    """One sentence for what went wrong on the way."""
    import requests

    by_hand = "fetch it by hand and name its folder with `data`"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        answer = f"{error.response.status_code} {error.response.reason}".strip()
        raise DataSetError(
            f"{url}: the server answers {answer}; check the address of the mirror, or {by_hand}"
        ) from error
    if isinstance(error, ValueError):  # what requests raises for an address that is none
        raise DataSetError(f"{url}: no address to fetch from; give one like https://host/folder") from error
    if isinstance(error, requests.Timeout | requests.ConnectionError) and "IncompleteRead" not in str(error):
        raise DataSetError(
            f"{url}: no connection; check the network or give a mirror's `base_url`, or {by_hand}"
        ) from error
    raise DataSetError(f"{url}: the download broke off, and nothing of it was kept; fetch it again") from error


def _check(name: str, file: RemoteFile, draft: Path, url: str) -> int:
    """Rows of what was fetched, unpacked if it is an archive.

    Raises:
        DataSetError: it is not the set, or has not as many rows as the official file.
    """
    try:
        if draft.suffix == ".tar":
            _unpack(draft)
            draft = draft.parent
        n_rows = len(data_set(name).read(draft))
    except DataSetError as error:
        what = str(error).replace(f"{draft}/", "").replace(f"{draft}:", "")
        raise DataSetError(f"{url}: is not the official file ({what.strip()}); nothing of it was kept") from error
    if n_rows not in file.n_rows:
        wanted = " or ".join(f"{n:,}" for n in file.n_rows)
        raise DataSetError(f"{url}: has {n_rows:,} rows, the official file {wanted}; nothing of it was kept")
    return n_rows


def _unpack(archive: Path) -> None:
    """MMLU's files of an archive, beside it; nothing else of it, whatever its members are called.

    Raises:
        DataSetError: no archive, cut off, or larger than 256 MiB.
    """
    left = LARGEST
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = _MEMBER.fullmatch(member.name.removeprefix("./"))
                content = tar.extractfile(member) if path and member.isreg() else None
                if path is None or content is None:
                    continue
                left -= member.size
                if left < 0:
                    raise DataSetError(f"{archive.name}: unpacks to more than 256 MiB")
                target = archive.parent / path[1]
                target.parent.mkdir(exist_ok=True)
                with replacing(target) as part:
                    part.write(content.read())
    except (tarfile.TarError, EOFError) as error:
        raise DataSetError(f"{archive.name}: no tar archive, or cut off: {error}") from error


def _unpacked(draft: Path) -> list[str]:
    """What an archive was unpacked to, beside it."""
    return sorted(entry.name for entry in draft.parent.iterdir() if entry.is_dir())


def _record(home: Path, path: str, fetched: FetchedFile) -> None:
    about = {key: value for key, value in asdict(fetched).items() if key in ("url", "sha256", "n_rows")}
    records = {**recorded(home), path: {**about, "fetched": now()}}
    with replacing(home / RECORD) as draft:
        draft.write((json.dumps(records, indent=2) + "\n").encode())


class _Bar:
    """What pooch reports of a download, passed on."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.total, self._done, self._progress, self._label = 0, 0, progress, label

    def update(self, n_bytes: int) -> None:
        self._done += n_bytes
        self._progress(min(self._done, self.total) if self.total else self._done, self.total or self._done, self._label)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing is left to be done."""


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Without pooch's own messages, which are for those who call it themselves."""
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)
