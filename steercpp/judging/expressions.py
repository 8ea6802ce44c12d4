"""Regular expressions of a user's file, searched for in a process of their own; read this for why one is given up.

Python's `re` decides what an expression means, and has no limit: `(.*)*x` takes longer than the universe has on a
sentence without an x. Packages that have one mean other things by the same letters, or take gigabytes to read
`((a{1000}){1000}){1000}`. So `re` runs in a process that computes for at most 2 seconds on an expression and a text,
and has 512 MiB at most. It is started when the first such expression is met, and ends with this one. Where the system
has no timer of computing, it is ended after 20 seconds by the clock, and its memory has no limit.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

LIMIT_S = 2.0  # of computing, for one expression on one text
PATIENCE_S = 20.0  # by the clock, where the system has no timer of computing
_HAS_TIMER = hasattr(signal, "setitimer")
_CHILD = """
import json, re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal and Jupyter send to all of a group
limited = getattr(signal, "setitimer", lambda *_: None)
virtual = getattr(signal, "ITIMER_VIRTUAL", None)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, OSError, ValueError):
    pass
def answer(source, text):
    pattern = re.compile(source, re.IGNORECASE)
    match = pattern.search(text)
    return [bool(pattern.match("")), None if match is None else match.span()]
for line in sys.stdin:
    source, text, limit_s = json.loads(line)
    limited(virtual, limit_s)
    try:
        told = answer(source, text)
    except MemoryError:
        told = "it takes too much memory"
    except RecursionError:
        told = "it is nested too deeply"
    except Exception as error:
        told = str(error)
    limited(virtual, 0)
    print(json.dumps(told), flush=True)
"""


class TooSlow(Exception):
    """A search took over `LIMIT_S`, or its process was ended twice; for the caller to say of which text."""


class _Ended(Exception):
    """The process was ended by something else."""


class NoExpression(Exception):
    """A text is no regular expression; why is the message."""


class _Searcher:
    """The process, and what is written to it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", "-X", "utf8", "-c", _CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        )  # fmt: skip

    def answer(self, source: str, text: str) -> Any:
        """What it makes of an expression and a text.

        Raises:
            TooSlow: it took as long as it may.
            _Ended: it was ended by something else.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        line, expired = "", threading.Event()
        with suppress(BrokenPipeError), nullcontext() if _HAS_TIMER else self._ended_in_time(expired):
            self.process.stdin.write(json.dumps([source, text, LIMIT_S]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if line.endswith("\n"):
            return json.loads(line)
        if expired.is_set() or (_HAS_TIMER and self.process.wait() == -signal.SIGVTALRM):
            raise TooSlow
        raise _Ended

    @contextmanager
    def _ended_in_time(self, expired: threading.Event) -> Iterator[None]:
        """Where the system has no timer of computing: end it after a while by the clock, and note that."""

        def end() -> None:
            expired.set()
            self.process.kill()

        watchdog = threading.Timer(PATIENCE_S, end)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def close(self) -> None:
        """End it."""
        if self.owner != os.getpid():
            return  # it is another process's
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


_lock = threading.Lock()
_searchers: list[_Searcher] = []  # at most one


def _answer(source: str, text: str) -> tuple[bool, tuple[int, int] | None]:
    with _lock:
        try:
            told = _told(source, text)
        except _Ended:  # by somebody, who need not have meant this expression
            try:
                told = _told(source, text)
            except _Ended as error:
                raise TooSlow from error
    if isinstance(told, str):
        raise NoExpression(told)
    fits_all, span = told
    return bool(fits_all), None if span is None else (int(span[0]), int(span[1]))


def _told(source: str, text: str) -> Any:
    if not _searchers or _searchers[0].owner != os.getpid():
        _searchers[:] = [_Searcher()]
    try:
        return _searchers[0].answer(source, text)
    except BaseException:  # it has ended, or an answer is still on its way
        _close()
        raise


@atexit.register
def _close() -> None:
    while _searchers:
        _searchers.pop().close()


def fits_every_text(source: str) -> bool:
    """Whether an expression is found in an empty text, and so in every one.

    Raises:
        NoExpression: it is none.
        TooSlow: that cannot be told.
    """
    return _answer(source, "")[0]


def found(source: str, text: str) -> tuple[int, int] | None:
    """Where an expression is first found in a text, in any case; None where it is not.

    Raises:
        NoExpression, TooSlow: as `fits_every_text`.
    """
    return _answer(source, text)[1]
