"""Small models of all architectures, for the tests that go through them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from architectures import ARCHITECTURES, Models
from tiny_model import quantize


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("architectures")

    @cache
    def make(name: str, file_type: str) -> Path:
        if file_type == "F32":
            return ARCHITECTURES[name].write(folder / f"{name}.gguf")
        return quantize(make(name, "F32"), folder / f"{name}-{file_type}.gguf", file_type)

    return make
