"""The examples in docstrings, run on the embedded model: each public name has one, and each gives the value it shows.

Examples find every public name, `np`, `Path`, and what `setting` makes: an engine, pairs, items, a vector and a result.
They write into a folder of their own. No value hangs on a CPU's last bits: numbers are rounded or compared.
"""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT

import steercpp
from steercpp import Engine, extract, sweep
from steercpp.data.sets.embedded import load
from steercpp.engine.batch import Query
from steercpp.experiments.transfer import Material


def modules_with_examples() -> list[str]:
    """Dotted names of the library's modules that hold an example."""
    paths = sorted(ROOT.glob("steercpp/**/*.py"))
    links = {ROOT / "steercpp" / name for name in ("cli", "models")}  # an editable install shows other packages there
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in paths
        if not links & set(path.parents) and "    >>> " in path.read_text(encoding="utf-8")
    ]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What examples find beside the names of their module."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("examples"))
    embedded = load()
    pairs, behavior, choice = embedded.pairs(), embedded.behavior()[:8], embedded.choice()[:8]
    with Engine(embedded.path, threads=1) as engine:
        vector = extract(engine, pairs, layers=embedded.layers)
        result = sweep(
            engine, vector, behavior=behavior, choice=choice, strengths=(-0.5, 0.5, 1.0), unit="norm", out="run",
            random_directions=1,
        )  # fmt: skip
        yield {
            **{name: getattr(steercpp, name) for name in steercpp.__all__},
            "engine": engine, "pairs": pairs, "behavior": behavior, "choice": choice, "vector": vector,
            "result": result, "np": np, "Path": Path, "functools": functools, "Query": Query, "Material": Material,
        }  # fmt: skip
    os.chdir(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_the_values_they_show(name: str, setting: dict[str, Any]) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    lines = list[str]()
    for test in doctest.DocTestFinder().find(module, globs={**vars(module), **setting}):
        runner.run(test, out=lines.append)
    assert runner.failures == 0, "".join(lines)
    assert runner.tries > 0


@pytest.mark.parametrize("name", steercpp.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(steercpp, name)) or ""), f"{name}: give its docstring an example"


def test_the_modules_of_public_names_are_among_those_that_run() -> None:
    modules = {getattr(steercpp, name).__module__ for name in steercpp.__all__}
    assert modules <= set(modules_with_examples()) and "steercpp.statistics.losses" in modules_with_examples()
