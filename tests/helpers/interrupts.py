"""Lets Ctrl-C stop a run of tests while one of them is inside a command; tests/conftest.py takes the fixture in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from click.testing import CliRunner, Result


@pytest.fixture(scope="session", autouse=True)
def interrupts_stop_the_run() -> Iterator[None]:
    """A command turns Ctrl-C into exit code 130, so a test saw a failure and the next one went on.

    KeyboardInterrupts that a test plants are not signals, and stay the command's.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CliRunner, "invoke", _stopping(CliRunner.invoke))
        yield


def _stopping(invoke: Any) -> Any:
    def invoked(self: CliRunner, *arguments: Any, **options: Any) -> Result:
        if threading.current_thread() is not threading.main_thread():
            result: Result = invoke(self, *arguments, **options)
            return result
        signals: list[int] = []

        def interrupt(number: int, _: FrameType | None) -> None:
            signals.append(number)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            result = invoke(self, *arguments, **options)
        finally:
            signal.signal(signal.SIGINT, before)
        if signals:
            raise KeyboardInterrupt
        return result

    return invoked
