"""How far a command is: stages, the time left, and lines where nothing can be drawn."""

from __future__ import annotations

import math

import pytest

from steercpp.cli import output
from steercpp.cli.progress import Course, Lines, time_left
from steercpp.sweeps.stages import Stage


class Clock:
    """A time that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_left_goes_by_what_is_done_now() -> None:
    """After a resume the bar counted 900 finished tokens as just done, and promised 1 s for 10 s of work."""
    clock = Clock()
    course = Course(clock)
    assert course.words() == "getting ready" and course.time_words() == "estimating"
    for done in (900, 900, 910, 920, 930, 940):
        course(done, 1000, "strength +1")
        clock.now += 1.0
    assert course.words() == "strength +1" and course.share == 0.94
    assert course.seconds_left() == pytest.approx(60 / 10 - 1, abs=1.5)  # 40 in 4 or 5 s, the last of them a second ago
    course(5000, 9000, "programs")  # other work, of which much is done as well
    assert math.isnan(course.seconds_left())
    for done in (5010, 5020, 5030, 5040):
        clock.now += 1.0
        course(done, 9000, "programs")
    assert course.seconds_left() == pytest.approx(396)


def test_time_left_is_of_all_stages_and_unknown_before_the_work_is() -> None:
    clock, left = Clock(), [math.nan]
    course = Course(clock)
    course.plan(["reading", "finding", "measuring"], later=lambda: 100.0)
    course.on_stage(Stage("reading"))
    clock.now += 30
    course(5, 10, "reading the pairs")
    assert (course.number, course.words(), course.time_words()) == (1, "reading the pairs, 50%", "estimating")

    left = [1000.0]
    course.on_stage(Stage("finding", lambda: left[0]))
    assert course.time_words() == "estimating"  # nothing of it is done yet
    clock.now, left[0] = clock.now + 10, 900.0
    course(1, 4, "finding the layers, 1 of 4")
    assert course.seconds_left() == pytest.approx((900 + 100) / 10)
    assert course.words() == "finding the layers, 1 of 4"  # the bar beside it shows the whole
    assert course.share == pytest.approx(40 / 140)

    course.on_stage(Stage("measuring", lambda: left[0] - 100))  # another amount than was planned, at the speed so far
    assert course.number == 3 and course.seconds_left() == pytest.approx(90)
    clock.now += 200  # far longer than it was to take
    assert course.time_words() == "estimating"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (math.nan, "estimating"), (0.0, "a few seconds left"), (4.9, "a few seconds left"), (42.0, "about 40 s left"),
        (60.0, "about 1 min left"), (200.0, "about 3 min left"), (5500.0, "about 1 h 30 min left"),
        (7300.0, "about 2 h left"),
    ],
)  # fmt: skip
def test_time_in_words(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


def lines_of(capsys: pytest.CaptureFixture[str], *, is_plain: bool, silent: float) -> list[str]:
    """What is told of three stages of 40 s each, in which there is something to tell each second."""
    clock = Clock()
    course = Course(clock)
    course.plan(["reading", "finding", "measuring"])
    lines = Lines(course, is_plain=is_plain, silent=silent, clock=clock)
    work = [120.0]
    for name in course.names:
        course.on_stage(Stage(name, lambda: work[0]))
        for second in range(40):
            work[0] -= 1
            clock.now += 1
            course(second + 1, 40, f"{name} {second + 1}")
    lines.finish()
    told = capsys.readouterr().err
    assert "\x1b" not in told and "\r" not in told
    return told.splitlines()


def test_without_a_terminal_each_stage_has_a_line_and_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(capsys, is_plain=False, silent=10.0) == [
        "stage 1 of 3: reading 10, about 2 min left",
        "stage 2 of 3: finding, about 1 min left",
        "stage 3 of 3: measuring, about 40 s left",
    ]


def test_in_plain_mode_each_finished_stage_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(capsys, is_plain=True, silent=0.0) == [
        "stage 1 of 3: reading, finished in 40 s",
        "stage 2 of 3: finding, finished in 40 s",
        "stage 3 of 3: measuring, finished in 40 s",
    ]


def test_a_long_stage_tells_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    course = Course(clock)
    Lines(course, is_plain=True, silent=0.0, clock=clock)
    for second in range(150):
        clock.now += 1
        course(second, 1000, "prompts")
    assert capsys.readouterr().err == "prompts, about 16 min left\nprompts, about 15 min left\n"


def test_a_short_command_without_a_terminal_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as report:
        assert report is not None
        report.plan(["reading"])
        report.on_stage(Stage("reading"))
        report(1, 2, "reading")
    assert capsys.readouterr().err == ""
