"""Errors on their way between processes: pickled and copied they are what they were."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import steercpp
from steercpp.errors import CalibrationError, SteerError, VectorFileError


def all_kinds(of: type[SteerError] = SteerError) -> Iterator[type[SteerError]]:
    yield of
    for kind in of.__subclasses__():
        yield from all_kinds(kind)


def one(kind: type[SteerError]) -> SteerError:
    """An error of this kind, with a number for each attribute that it asks for."""
    needed = [p for p in inspect.signature(kind.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return kind("a.gguf:1: what is wrong; what to do", **{p.name: 0.25 * (i + 1) for i, p in enumerate(needed)})


@pytest.mark.slow
def test_every_error_survives_pickling_and_copying() -> None:
    for module in pkgutil.walk_packages(steercpp.__path__, "steercpp."):
        if not module.name.endswith((".__main__", "sandbox_child")) and "recipe" not in module.name:
            importlib.import_module(module.name)
    kinds = list(dict.fromkeys(all_kinds()))
    assert len(kinds) > 25
    for kind in kinds:
        error = one(kind)
        error.extra = ["kept"]  # type: ignore[attr-defined]
        error.add_note("a note")
        copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
        for same in (*copies, copy.copy(error), copy.deepcopy(error)):
            assert type(same) is kind and same.args == error.args and str(same) == str(error)
            assert vars(same) == vars(error) and same.__notes__ == ["a note"]


def test_a_calibration_error_keeps_its_numbers() -> None:
    same = pickle.loads(pickle.dumps(CalibrationError("no", strength=1.5, kl=0.01)))
    assert (str(same), same.strength, same.kl) == ("no", 1.5, 0.01)


def raises(kind: type[SteerError]) -> None:
    raise one(kind)


@pytest.mark.slow
def test_they_come_back_from_a_pool_of_processes() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for kind in (CalibrationError, VectorFileError):
            error = pool.submit(raises, kind).exception()
            assert type(error) is kind and str(error) == str(one(kind)) and vars(error) == vars(one(kind))
