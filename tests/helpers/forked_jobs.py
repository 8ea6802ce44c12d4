"""What children of `forked.Forked` do: sweeps of a second on the tiny model, and any command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure  # imported once, in the parent
import numpy as np
from small_sweep import ANSWER, BEHAVIOR, TEXT, small_sweep

import steercpp.reports.figures
import steercpp.reports.item_figures
import steercpp.reports.page
import steercpp.reports.tradeoff_figure
from steercpp.cli.commands import sweep as _command
from steercpp.cli.main import main
from steercpp.data.items import CodeItem
from steercpp.data.requests import Request
from steercpp.engine.engine import Engine
from steercpp.sweeps.texts import TextPlan

assert matplotlib.figure and steercpp.reports.page and _command and np

CODE = tuple(
    CodeItem(f"add-{i}", f"def add_{i}(a, b):\n", f"add_{i}", "def check(f):\n    assert f(1, 2) == 3\n")
    for i in range(3)
)


def plain(model: str, out: str) -> None:
    """Behavior, letters, answers and perplexity, with all controls."""
    with Engine(model, threads=1) as engine:
        small_sweep(engine, Path(out), answer=ANSWER, text=TEXT)


def texts(model: str, out: str) -> None:
    """Generated texts of behavior items, under the prompt baseline too, and requests that are shown."""
    shown = tuple(Request(word, f"Tell of the {word}", "raw") for word in ("man", "day", "life"))
    with Engine(model, threads=1) as engine:
        small_sweep(
            engine, Path(out), behavior=BEHAVIOR[:4], text_plan=TextPlan(4), showcase=shown, showcase_tokens=8
        )  # fmt: skip


def code(model: str, out: str) -> None:
    """Generated programs, which are run; they tell what steering costs, so that controls come last."""
    with Engine(model, threads=1) as engine:
        small_sweep(
            engine, Path(out), behavior=BEHAVIOR[:3], choice=(), code=CODE, text_plan=TextPlan(6), allow_code=True
        )


def command(*arguments: str) -> None:
    """A command line; it ends with its exit code."""
    os.environ.pop("STEERCPP_TRACEBACK", None)
    main(list(arguments), prog_name="steercpp")


JOBS: dict[str, Callable[..., None]] = {"plain": plain, "texts": texts, "code": code, "command": command}
