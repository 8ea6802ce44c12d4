"""Signals that end a command as Ctrl-C does, so that what was begun is dropped and what was finished is kept.

A second signal of the same kind ends the process at once. A signal that is ignored when the process begins, as `nohup`
has it of SIGHUP, stays ignored.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP")  # ended by another process or by a shutdown; the terminal was closed

_OVER = b"\0"  # no signal's number


class Ended(KeyboardInterrupt):
    """A signal has come; `number` is which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell expects of a command that a signal ends: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)


def mark_handled() -> None:
    """Let the process end with the exit code that it chooses, once an interrupt was handled.

    Python notes a KeyboardInterrupt that leaves text given to `exec`, which importing dataclasses runs, and under
    `python -m` ends by the signal for it whatever became of it since. The next text that is run deletes the note.
    """
    exec("")


@contextmanager
def noticing(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once, from a thread of its own, as soon as Ctrl-C comes inside; outside the main thread never.

    Python raises KeyboardInterrupt only where the main thread comes back from native code. But the number of a signal
    is written to the wakeup file descriptor at once, wherever that thread is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        while (number := ours.recv(1)) not in (b"", _OVER):
            if number[0] == signal.SIGINT:
                tell()
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with suppress(OSError):  # the thread has ended, and nobody reads
            theirs.send(_OVER)
        thread.join()
        theirs.close()
        ours.close()


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Raise `Ended` where such a signal comes inside; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Ended(number)

    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)
