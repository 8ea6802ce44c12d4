"""A server of the tiny model with a folder of vectors, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serving, write_vectors

from steercpp.engine.engine import Engine


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    write_vectors(folder)
    return folder


@pytest.fixture(scope="module")
def served(tiny_path: Path, vectors: Path) -> Iterator[Served]:
    with Engine(tiny_path, threads=1) as engine, serving(engine, vectors) as served:
        yield served
