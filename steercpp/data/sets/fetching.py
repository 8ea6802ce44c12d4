"""Data sets fetched from where their authors publish them into a cache; read this for what is checked on the way.

A file is fetched beside its place and put there once it is whole, has the hash that is known of it, and is read by the
set's reader with as many rows as the official file has. Where no hash is known, that of the first fetch is kept in
fetched.json beside the file and holds from then on. What is there already is not fetched again, files of a set that was
interrupted included. MMLU's archive is unpacked by name, and not kept: nothing of it is written but
{dev,val,test}/{subject}_{split}.csv, and one with links, or members that lie outside, is refused. How a download may
end is in download.py; what a killed one left is deleted by the next command.

A mirror has the files as the cache does: BASE/NAME/path. Its address is `base_url` or the variable STEERCPP_DATA_URL.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from steercpp.aliases import Progress
from steercpp.data.sets.catalog import data_set
from steercpp.data.sets.download import download
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
DRAFTS = ".fetching-"  # how the folders begin in which files are whole before they are put in their places
LARGEST_FILE = 1 << 26  # bytes, where the official size is not known; the largest such file has 4 MB
MEMBERS = 10_000  # of an archive; the official one has some 240
_MEMBER = re.compile(r"(?:data/)?((dev|val|test)/\w+_\2\.csv)")


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
        if None in files or any(home.glob(f"{DRAFTS}*")):
            with writing(home, error=DataSetError, otherwise="choose another `cache`"):
                _clear(home)
                files = [
                    _kept(file, home) or _fetched(name, file, home, base, progress) for file in SOURCES[name].files
                ]
    except OSError as error:
        raise DataSetError(f"{home}: cannot be written ({error.strerror or error}); choose another `cache`") from error
    return Fetched(find_set(name, home.parent), tuple(filter(None, files)))


def _clear(home: Path) -> None:
    """Delete what a fetch left that was killed; the lock is held, so nobody is at it."""
    for draft in home.glob(f"{DRAFTS}*"):
        shutil.rmtree(draft, ignore_errors=True)


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
    is_archive = place.suffix == ".tar"
    expected = file.sha256 or recorded(home).get(file.path, {}).get("sha256")
    with tempfile.TemporaryDirectory(prefix=DRAFTS, dir=home) as folder:
        draft = Path(folder, place.name)
        advice = "take the official file elsewhere" if file.sha256 else f"delete {home / RECORD} to take the new one"
        largest = file.n_bytes or (LARGEST if is_archive else LARGEST_FILE)
        sha256 = download(url, draft, largest=largest, progress=progress)
        if expected not in (None, sha256):
            raise _hash_error(url, sha256, expected, advice)
        n_rows = _check(name, file, draft, url)
        place.parent.mkdir(parents=True, exist_ok=True)
        for split in _unpacked(draft):
            take_places({home / split: draft.parent / split})
        if place.suffix != ".tar":
            adopt(draft, place, sha256=sha256)
    fetched = FetchedFile(place, url, sha256, file.sha256 is not None, n_rows, True)
    _record(home, file.path, fetched)
    return fetched


def _hash_error(url: str, sha256: str, expected: str, advice: str) -> DataSetError:
    """The error of a file that has another hash; `advice` is what to do where that is no accident."""
    return DataSetError(
        f"{url}: its sha256 is {sha256}, expected {expected}; the file has changed or was damaged on the way, and "
        f"nothing of it was kept: fetch it again, or {advice}"
    )


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
    """MMLU's files of an archive, beside it; nothing else of it.

    Raises:
        DataSetError: no plain tar, cut off, of more than 256 MiB or 10,000 members, or with a member that lies outside
            of the archive, is a link or a device.
    """
    left = LARGEST
    try:
        with tarfile.open(archive, "r:") as tar:  # not packed: what is packed may claim any size
            for n, member in enumerate(tar):
                if n == MEMBERS:
                    raise DataSetError(f"{archive.name}: has more than {MEMBERS:,} members")
                _refuse_odd(archive, member)
                path = _MEMBER.fullmatch(member.name.removeprefix("./"))
                if path is None or not member.isreg():
                    continue
                left -= max(member.size, 0)
                if left < 0:
                    raise DataSetError(f"{archive.name}: unpacks to more than 256 MiB")
                content = tar.extractfile(member)
                assert content is not None
                target = archive.parent / path[1]
                target.parent.mkdir(exist_ok=True)
                with replacing(target) as part:
                    part.write(content.read())
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:  # some of it tarfile raises unwrapped
        raise DataSetError(f"{archive.name}: no tar archive, or cut off: {error}") from error


def _refuse_odd(archive: Path, member: tarfile.TarInfo) -> None:
    """Refuse what no official archive has.

    Raises:
        DataSetError: a path that leads out, or neither a file nor a folder.
    """
    parts = re.split(r"[/\\\\]", member.name)
    if member.name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise DataSetError(f"{archive.name}: its member {member.name[:80]!r} lies outside")
    if not (member.isreg() or member.isdir()):
        raise DataSetError(f"{archive.name}: its member {member.name[:80]!r} is a link or a device")


def _unpacked(draft: Path) -> list[str]:
    """What an archive was unpacked to, beside it."""
    return sorted(entry.name for entry in draft.parent.iterdir() if entry.is_dir())


def _record(home: Path, path: str, fetched: FetchedFile) -> None:
    about = {key: value for key, value in asdict(fetched).items() if key in ("url", "sha256", "n_rows")}
    records = {**recorded(home), path: {**about, "fetched": now()}}
    with replacing(home / RECORD) as draft:
        draft.write((json.dumps(records, indent=2) + "\n").encode())
