"""Files written by their names: a file that the user named, and the files of a run; begin here to write one.

Where anything fails, what was there before stays and the draft goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from steercpp.errors import InputError, RunError
from steercpp.files.draft import Draft, bring_to_disk, reads_otherwise
from steercpp.files.fences import check_fences
from steercpp.files.leftovers import remove_leftovers
from steercpp.files.places import end_of_links, refuse_in_folder, refuse_overwrite
from steercpp.files.swaps import take_places


@contextmanager
def replacing(path: Path, *, check: Callable[[], None] = lambda: None) -> Iterator[Draft]:
    """An empty draft beside the file, to be filled; it takes the file's place at the end, unless an error comes first.

    Args:
        path: the file.
        check: called last, once the draft is on the disk; what it raises keeps the file as it was.

    Raises:
        OSError: the draft cannot be made, brought to the disk, read back as it was written, or renamed.
        SteerError: what a fence around the folder raises, see `fenced`.
    """
    check_fences(path)
    draft = Draft.beside(path)
    try:
        yield draft
        draft.settle()
        check()
        take_places({path: draft.path})
    finally:
        draft.discard()


def write_whole(path: Path, content: bytes | Callable[[Draft], None], *, force: bool, error: type[InputError]) -> None:
    """Write a file that the user named.

    Args:
        path: the file, or a link to it, which stays.
        content: its bytes, or what fills a draft of it.
        force: whether it may replace a file.
        error: what is raised.

    Raises:
        InputError: of the kind `error`: as `refuse_overwrite`, or nothing can be written.
    """

    def check() -> None:
        refuse_overwrite(path, force=force, error=error)

    check()
    place = end_of_links(path, error)
    check_fences(place)
    remove_leftovers(place.parent, folders=False)  # before the draft, which may need their room
    try:
        with replacing(place, check=check) as draft:  # again at the end: writing may have taken hours
            if isinstance(content, bytes):
                draft.write(content)
            else:
                content(draft)
    except OSError as problem:
        check_fences(path)  # which say more than that a folder is not there
        reason = problem.strerror or problem
        raise error(f"{path}: cannot be written: {reason}; choose another place") from problem


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of a run, replacing an earlier one.

    Raises:
        RunError: it cannot be written.
    """
    write_together(path.parent, {path.name: data})


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together by their names in a folder; all of them or none.

    The last one stands for all: an earlier one of its name goes first, so that it is never there beside files that are
    not its own.

    Raises:
        RunError: they cannot be written; all that was there before is there still.
    """
    path = folder
    try:
        check_fences(folder / "file")
        with ExitStack() as drafts:
            places = {}
            for name, data in files.items():
                path = folder / name
                refuse_in_folder(path)
                draft = Draft.beside(path)
                drafts.callback(draft.discard)
                draft.write(data)
                draft.settle()
                places[path] = draft.path
            take_places(places)
    except OSError as error:
        check_fences(path)
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); free some space, check the folder's rights, "
            "or choose another folder with `out`"
        ) from error


def adopt(draft: Path, place: Path, *, sha256: str) -> None:
    """Give a file that another library has filled its place, once it is on the disk with this hash.

    Raises:
        OSError: it has another one, or cannot be renamed.
    """
    file = os.open(draft, os.O_RDONLY)
    try:
        bring_to_disk(file)
    finally:
        os.close(file)
    from steercpp.provenance import file_sha256

    if file_sha256(draft) != sha256:
        raise reads_otherwise()
    take_places({place: draft})
