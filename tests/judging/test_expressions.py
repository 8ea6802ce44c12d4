"""The process that searches for a user's expressions: what ends it, and what is said of that."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from steercpp.judging import expressions

ENDLESS = "(.*)*(.*)*(.*)*x"
TEXT = "a" * 40


def test_an_interrupt_of_the_group_does_not_end_it() -> None:
    """What was wrong: Ctrl-C reached it too, and the next expression was said to be too slow."""
    assert expressions.found("a+", "baa") == (1, 3)
    process = expressions._searchers[0].process
    os.kill(process.pid, signal.SIGINT)
    assert expressions.found("a+", "baa") == (1, 3)
    assert expressions._searchers[0].process is process


def test_one_that_was_killed_is_started_again() -> None:
    assert expressions.found("a", "a") == (0, 1)
    process = expressions._searchers[0].process
    process.kill()
    process.wait()
    assert expressions.found("a", "ba") == (1, 2)


def test_it_is_given_up_where_it_is_ended_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "LIMIT_S", 60.0)
    ended: list[int] = []

    def end() -> None:
        until = time.monotonic() + 30
        while len(ended) < 2 and time.monotonic() < until:
            for searcher in [*expressions._searchers]:
                if searcher.process.pid not in ended:
                    time.sleep(0.3)
                    searcher.process.kill()
                    ended.append(searcher.process.pid)
            time.sleep(0.01)

    expressions._close()
    killer = threading.Thread(target=end)
    killer.start()
    with pytest.raises(expressions.TooSlow):
        expressions.found(ENDLESS, TEXT)
    killer.join()
    assert len(ended) == 2


def test_without_a_timer_of_computing_the_clock_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "_HAS_TIMER", False)
    monkeypatch.setattr(expressions, "PATIENCE_S", 0.5)
    monkeypatch.setattr(expressions, "LIMIT_S", 60.0)
    assert expressions.found("a", "ba") == (1, 2)
    with pytest.raises(expressions.TooSlow):
        expressions.found(ENDLESS, TEXT)
    assert expressions.found("a", "ba") == (1, 2)
