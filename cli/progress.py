"""How far a command is, on stderr: a bar that is drawn again and again, or lines where nothing can be drawn.

A flow reports (done, of how many, what it does). One of several stages, such as a sweep, tells besides which stage
begins and what is left of the whole (sweeps/stages.py), from which the time left follows at the speed so far. As long
as that cannot be known it says "estimating".

Without a terminal, or on one that cannot go back (TERM=dumb), there is a line for each stage and one a minute; short
commands say nothing. In plain mode each stage has its line when it is finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from steercpp.aliases import NAN
from steercpp.cli import terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from steercpp.sweeps.stages import Stage

FIRST_STAGE = "getting ready"  # until a flow tells what it does
ENOUGH = 3.0  # seconds of work, from which a speed is known
SILENT = 10.0  # seconds in which a command without a terminal says nothing
APART = 60.0  # seconds between two lines about one stage
BAR = 40  # columns of a bar, at most
Clock: TypeAlias = Callable[[], float]


class Pace:
    """The time left, from what is left of the work at several times."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._work = self._seconds = 0.0  # of stretches that are over
        self._first: tuple[float, float] | None = None  # when the present stretch began, and what was left then
        self._last = (0.0, NAN)  # when what is left changed last, and to what

    def begin(self) -> None:
        """Another stretch, of which another amount may be left; the speed so far holds on."""
        if self._first is not None:
            self._work += self._first[1] - self._last[1]
            self._seconds += self._last[0] - self._first[0]
        self._first = None

    def forget(self) -> None:
        """The speed so far is that of other work."""
        self._first, self._work, self._seconds = None, 0.0, 0.0

    def seconds_left(self, left: float) -> float:
        """The time left where so much work is; NaN as long as nobody knows."""
        now = self._clock()
        if left != left:
            return NAN
        if self._first is None:
            self._first = self._last = (now, left)
        elif left != self._last[1]:
            self._last = (now, left)
        work = self._work + self._first[1] - self._last[1]
        seconds = self._seconds + self._last[0] - self._first[0]
        if work <= 0 or seconds < ENOUGH:
            return NAN
        soon = left * seconds / work - (now - self._last[0])
        return soon if soon >= 0 else NAN  # it takes longer than the speed so far let hope


class Course:
    """Where a command stands: its stage, what it does there, and the time left.

    It is what flows report to, both (done, total, label) and stages.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._pace = clock, Pace(clock)
        self.began = self.stage_began = clock()
        self.names: Sequence[str] = ()
        self.stage: Stage | None = None
        self.label, self.done, self.total = FIRST_STAGE, 0, 0
        self._later: Callable[[], float] = lambda: 0.0
        self._at_first = 0  # done already when the present amount of work was reported first
        self.changed: Callable[[], None] = lambda: None  # called after each report
        self.ended: Callable[[], None] = lambda: None  # called before another stage begins

    def plan(self, names: Sequence[str], later: Callable[[], float] = lambda: 0.0) -> None:
        """Which stages there will be.

        Args:
            names: all of them, in order.
            later: gives the work that the stages do not count yet.
        """
        self.names, self._later = names, later

    def on_stage(self, stage: Stage) -> None:
        """Another stage begins."""
        if self.stage is not None:
            self.ended()
        self._pace.begin()
        self.stage, self.stage_began = stage, self._clock()
        self.label, self.done, self.total = stage.name, 0, 0
        self.changed()

    def __call__(self, done: int, total: int, label: str) -> None:
        """So much of so much is done, and what is being done."""
        if self.stage is None and total != self.total:
            self._pace.forget()
            self._at_first = done
        self.done, self.total, self.label = done, total, label or self.label
        self.seconds_left()  # the pace learns when work was done
        self.changed()

    def seconds_left(self) -> float:
        """Of the whole; NaN as long as nobody knows."""
        if self.stage is not None:
            return self._pace.seconds_left(self.stage.left() + self._later())
        return self._pace.seconds_left(float(self.total - self.done)) if self.total else NAN

    @property
    def number(self) -> int:
        """Of the stage, from 1; 0 where there are none."""
        return self.names.index(self.stage.name) + 1 if self.stage and self.stage.name in self.names else 0

    @property
    def share(self) -> float:
        """How much of the whole is done; NaN as long as nobody knows."""
        if self.stage is None:
            return self.done / self.total if self.total else NAN
        elapsed, left = self._clock() - self.began, self.seconds_left()
        return elapsed / max(elapsed + left, 1.0)

    def words(self) -> str:
        """What is done now."""
        is_known = self.stage is None or not self.total or not math.isnan(self.share)
        return self.label if is_known or not self.done else f"{self.label}, {self.done / self.total:.0%}"

    def time_words(self) -> str:
        """The time left."""
        return time_left(self.seconds_left())


def time_left(seconds: float) -> str:
    """Seconds in words, no more exact than they can be."""
    if seconds != seconds:
        return "estimating"
    if seconds < 5:
        return "a few seconds left"
    if seconds < 60:
        return f"about {5 * round(seconds / 5)} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    hours, minutes = divmod(round(seconds / 600) * 10, 60)
    return f"about {hours} h {minutes} min left" if minutes else f"about {hours} h left"


@contextmanager
def showing(*, above: Callable[[int], RenderableType] | None, beside_data: bool) -> Iterator[Course | None]:
    """What `terminal.progress` shows; see there."""
    talk = terminal.console_of(stderr=True)
    if beside_data and talk.is_terminal and terminal.console_of(stderr=False).is_terminal:
        yield None
        return
    course = Course()
    if talk.is_terminal and not talk.is_dumb_terminal and not terminal.is_plain():
        with _drawn(course, talk, above):
            yield course
        return
    lines = Lines(course, is_plain=terminal.is_plain(), silent=0.0 if talk.is_terminal else SILENT)
    yield course
    lines.finish()


class Lines:
    """Progress as lines that stay."""

    def __init__(self, course: Course, *, is_plain: bool, silent: float, clock: Clock = time.monotonic) -> None:
        self._course, self._is_plain, self._silent, self._clock = course, is_plain, silent, clock
        self._began = self._last = clock()
        self._told: Stage | None = None
        course.changed, course.ended = self._changed, self._ended

    def finish(self) -> None:
        """The last stage is finished too."""
        if self._course.stage is not None:
            self._ended()

    def _changed(self) -> None:
        now, course = self._clock(), self._course
        if now - self._began < self._silent:
            return
        is_new = course.stage is not self._told and not self._is_plain
        if is_new or now - self._last >= APART:
            self._told, self._last = course.stage, now
            left = course.time_words()
            self._say(f"{course.words()}, {left}" if left != "estimating" else course.words())

    def _ended(self) -> None:
        if self._is_plain and self._course.stage is not None:
            self._last = now = self._clock()
            self._say(f"{self._course.stage.name}, finished in {_took(now - self._course.stage_began)}")

    def _say(self, words: str) -> None:
        course = self._course
        place = f"stage {course.number} of {len(course.names)}: " if course.number else ""
        terminal.say(f"{place}{words}")


def _took(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def _drawn(
    course: Course, talk: Console, above: Callable[[int], RenderableType] | None
) -> Iterator[None]:  # fmt: skip
    """Draw the course as long as it lasts, with something above it."""
    from rich.console import Group
    from rich.live import Live

    from steercpp.cli.layouts import Fitted

    def picture() -> RenderableType:
        status = _status(course, talk.width)
        if above is None:
            return status
        room = max(talk.height - 4, 1)
        return Group(Fitted(above(room), room), status)

    live = Live(
        console=talk, transient=True, get_renderable=picture, refresh_per_second=8,
        redirect_stdout=False,  # it would send data to stderr
    )  # fmt: skip

    def changed() -> None:
        if course.done == course.total:
            live.refresh()

    course.changed = changed
    with live, terminal.on_screen(live):
        yield


def _status(course: Course, width: int) -> RenderableType:
    """Two lines: the stage and what is done in it; a bar with the time left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    place = f"{course.number}/{len(course.names)} " if course.number else ""
    what = terminal.joined([(place, "bold"), (course.words(), "")])
    what.truncate(width - 1, overflow="ellipsis")
    share, left = course.share, course.time_words()
    words = left if share != share else f"{share:.0%}  {left}"
    bar = min(BAR, width - len(words) - 3)
    line = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = [terminal.text(words, "dim")]
    if bar >= 5:
        # Rich reckons with whole numbers
        known = ProgressBar(100, min(100 * share, 100), width=bar) if share == share else ProgressBar(None, width=bar)
        cells.insert(0, known)
    line.add_row(*cells)
    made = Table.grid()
    made.add_row(what)
    made.add_row(line)
    return made
