"""Damaged and hostile files, each read in a process of its own with limits; read this to add a format to the campaign.

    python tests/fuzz/campaign.py npz --cases 2000             counts, and the cases that went wrong
    python tests/fuzz/campaign.py npz --case 1234              that case alone, in this process, with its traceback
    python tests/fuzz/campaign.py npz --case 1234 --keep DIR   its files

A module of formats/ holds `FORMATS`, a tuple of `Format`. A case is a format and a number, from which everything is
drawn: the same number makes the same files. What becomes of a case is one of

    read        the reader returned, or the command ended with exit code 0
    refused     a SteerError in one sentence, or exit code 1 or 2 with one
    traceback   any other exception, and the command line's own sentence about a fault of steercpp
    signal      the process ended by one: a crash, an abort
    hang        it took longer than the limit
    memory      it asked for more than the limit, whatever it said of that
    broken      the case itself could not be made: a fault of the campaign

The first two are right.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "helpers")]

import numpy as np

from steercpp.errors import SteerError

ENDS = ("read", "refused", "traceback", "signal", "hang", "memory", "broken")
RIGHT = ("read", "refused")
MEMORY_BYTES = 1 << 30  # above what the process has when the case begins
TIME_S = 20.0
FAULT = "fault of steercpp"  # what cli/main.py says of an exception that is none of steercpp's errors


@dataclass(frozen=True, slots=True)
class Format:
    """What is fuzzed.

    `prepare` is called once, in the parent, with an empty folder; what it gives is handed to `make`, which draws one
    case into another empty folder. `use` reads that folder as a user's command would; it returns or raises. `prepare`
    reads the intact files too: that shows that they are intact, and imports what each child would import again.
    """

    name: str
    prepare: Callable[[Path], object]
    make: Callable[[np.random.Generator, object, Path], None]
    use: Callable[[Path], object]
    time_s: float = TIME_S
    memory_bytes: int = MEMORY_BYTES


@dataclass(slots=True)
class Tally:
    """How often each end came, and the number and last line of the cases that went wrong."""

    format: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str, str]] = field(default_factory=list)

    def line(self) -> str:
        """The counts on one line."""
        return f"{self.format:18} " + "  ".join(f"{end} {self.counts[end]}" for end in ENDS)


class Refused(SteerError):
    """The command line refused, in the sentence that is the message."""


def command(*arguments: str | Path) -> str:
    """Run the command line in this process.

    Returns:
        What it wrote to stdout.

    Raises:
        Refused: exit code 1 or 2.
        AssertionError: it told of a fault of its own, or ended in another way.
    """
    from steercpp.cli.main import main

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.main([str(argument) for argument in arguments], prog_name="steercpp")
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        out.flush()
        err.flush()
    said, complaint = (stream.buffer.getvalue().decode() for stream in (out, err))
    if code == 0:
        return str(said)
    assert code in (1, 2), f"exit code {code}: {complaint}"
    assert FAULT not in complaint and "Traceback (most" not in complaint, complaint
    raise Refused(complaint.strip() or said.strip()[-500:])  # `doctor` says on stdout what is wrong


def formats(only: str = "") -> dict[str, Format]:
    """Every format of formats/, or of one module there, by its name."""
    folder = Path(__file__).parent / "formats"
    names = [only] if only else [path.stem for path in sorted(folder.glob("*.py"))]
    modules = [import_module(f"formats.{name}") for name in names]
    return {one.name: one for module in modules for one in module.FORMATS}


def draw(name: str, case: int) -> np.random.Generator:
    """The generator from which a case is made."""
    return np.random.default_rng([zlib.crc32(name.encode()), case])


def run_campaign(one: Format, cases: range) -> Tally:
    """Run cases of a format, each in a forked child."""
    tally = Tally(one.name)
    with tempfile.TemporaryDirectory(prefix="steercpp-fuzz-") as folder:
        place = Path(folder)
        (place / "prepared").mkdir()
        prepared = one.prepare(place / "prepared")
        for case in cases:
            files = place / "case"
            files.mkdir()
            end, words = _in_child(one, case, prepared, files)
            shutil.rmtree(files, ignore_errors=True)
            tally.counts[end] += 1
            if end not in RIGHT:
                tally.wrong.append((case, end, words))
    return tally


def run_case(one: Format, case: int, keep: Path | None = None) -> object:
    """Make and read one case in this process, whatever comes of it."""
    with tempfile.TemporaryDirectory(prefix="steercpp-fuzz-") as folder:
        prepared = Path(folder) / "prepared"
        prepared.mkdir()
        files = keep or Path(folder) / "case"
        files.mkdir(exist_ok=True)
        one.make(draw(one.name, case), one.prepare(prepared), files)
        return one.use(files)


def _in_child(one: Format, case: int, prepared: object, files: Path) -> tuple[str, str]:
    """How a case ends, and in which words."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(one, case, prepared, files, writing)
    os.close(writing)
    told, until = b"", time.monotonic() + one.time_s
    while (left := until - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            told += piece
    else:
        os.killpg(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the case started and left behind
    if left <= 0:
        return "hang", f"over {one.time_s:g} s"
    if told:
        end, words = json.loads(told)
        return end, words
    return "signal", f"ended with {os.waitstatus_to_exitcode(status)}"


def _be_child(one: Format, case: int, prepared: object, files: Path, writing: int) -> NoReturn:
    os.setpgid(0, 0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    try:
        one.make(draw(one.name, case), prepared, files)
    except BaseException as error:
        _tell(writing, "broken", _last_line(error))
    limit = _virtual_bytes() + one.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        one.use(files)
        end, words = "read", ""
    except SteerError as error:
        memory = any(isinstance(cause, MemoryError) for cause in _causes(error))
        sentence = str(error).strip()
        whole = sentence and (isinstance(error, Refused) or "\n" not in sentence) and "Traceback" not in sentence
        end, words = "memory" if memory else "refused" if whole else "traceback", f"{type(error).__name__}: {sentence}"
    except BaseException as error:
        memory = any(isinstance(cause, MemoryError) for cause in _causes(error)) or "MemoryError" in str(error)
        end, words = "memory" if memory else "traceback", _last_line(error)
    if resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 > one.memory_bytes:
        end = "memory"
    _tell(writing, end, words)


def _tell(writing: int, end: str, words: str) -> NoReturn:
    os.write(writing, json.dumps([end, " ".join(words.split())[:2000]]).encode())
    os._exit(0)


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came of."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _last_line(error: BaseException) -> str:
    """An exception and the last place of ours, or else the last of all, that it came through."""
    places = traceback.extract_tb(error.__traceback__)
    ours = [place for place in places if "steercpp" in place.filename and "/fuzz/" not in place.filename]
    place = "".join(f" at {'/'.join(Path(last.filename).parts[-2:])}:{last.lineno}" for last in (ours or places)[-1:])
    return f"{type(error).__name__}: {str(error)[:1500]}{place}"


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description="Read damaged files of a format, each in a process with limits.")
    parser.add_argument("format", nargs="*", help="formats; all where none is given")
    parser.add_argument("--module", default="", help="formats of one module of formats/")
    parser.add_argument("--cases", type=int, default=100, help="how many of each")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--case", type=int, help="one case, in this process")
    parser.add_argument("--keep", type=Path, help="with --case: where its files are written")
    parser.add_argument("--json", action="store_true", help="one JSON object a format")
    given = parser.parse_args()
    known = formats(given.module)
    for name in given.format or known:
        if given.case is not None:
            print(run_case(known[name], given.case, given.keep))
            continue
        tally = run_campaign(known[name], range(given.first, given.first + given.cases))
        if given.json:
            print(json.dumps({"format": name, "counts": tally.counts, "wrong": tally.wrong}), flush=True)
            continue
        print(tally.line(), flush=True)
        for case, end, words in tally.wrong:
            print(f"    {case} {end}: {words}", flush=True)


if __name__ == "__main__":
    import campaign  # formats know this module by that name, and its classes are to be the same

    campaign.main()
