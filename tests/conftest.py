"""Models that the tests share. Nothing is downloaded; what is random comes from a seed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from interrupts import interrupts_stop_the_run as interrupts_stop_the_run
from places import EMBEDDED, ROOT, SECRET, ModelMaker
from tiny_model import FILE_TYPES, quantize, write_tiny_model

from steercpp.data.sets import embedded
from steercpp.engine.engine import Engine
from steercpp.judging.sandbox import WAYS, why_not

os.environ.setdefault("STEERCPP_TRACEBACK", "1")  # a fault of ours is raised, in other processes too


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240901)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of models and datasets that tests use where they find it."""
    folder = Path(os.environ.get("STEERCPP_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set STEERCPP_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def model_maker(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> ModelMaker:
    """Paths by name, "tiny-Q4_0" or "embedded-F32" or "stories260K-q8_0": made when first asked for."""
    folder = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        family, file_type = name.split("-")
        path = folder / f"{name}.gguf"
        if family == "stories260K":
            return Path(request.getfixturevalue("test_data")) / "models" / f"{name}.gguf"
        if path.exists():
            return path
        if family == "embedded":
            if not EMBEDDED.exists():
                pytest.skip("models/embedded.gguf is not there; make it with `make model`")
            return quantize(EMBEDDED, path, file_type)
        base = folder / "tiny-F32.gguf"
        if not base.exists():
            write_tiny_model(base)
        return base if file_type == "F32" else quantize(base, path, file_type)

    return make


REAL = "STEERCPP_REAL_MODEL"
ALL_MODELS = (*(f"{family}-{kind}" for family in ("tiny", "embedded") for kind in FILE_TYPES), "stories260K-q8_0")


@pytest.fixture(scope="session", params=ALL_MODELS)
def any_model(request: pytest.FixtureRequest, model_maker: ModelMaker) -> Path:
    """Each model and type that steering is promised to be exact for."""
    return model_maker(request.param)


@pytest.fixture(scope="session", params=["embedded", "real"])
def chat_path(request: pytest.FixtureRequest) -> Path:
    """A chat model: the embedded one, and the real one that a variable names."""
    if request.param == "embedded":
        return embedded.load().path
    if not os.environ.get(REAL):
        pytest.skip(f"no real model; name a GGUF file of a chat model in {REAL}")
    return Path(os.environ[REAL])


@pytest.fixture
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without data sets that are fetched already; beside the embedded model."""
    if not EMBEDDED.exists():
        pytest.skip("models/embedded.gguf is not there; make it with `make model`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STEERCPP_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_path(model_maker: ModelMaker) -> Path:
    return model_maker("tiny-F32")


@pytest.fixture(scope="session")
def tiny_engine(tiny_path: Path) -> Iterator[Engine]:
    with Engine(tiny_path, threads=1) as engine:
        yield engine


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    """Each way to start the sandbox that works here."""
    name = str(request.param)
    if reason := why_not(name):
        pytest.skip(f"no sandbox by {name} here: {reason}")
    return name


@pytest.fixture
def secret_holder() -> Iterator[int]:
    """A process of this user with a secret in its environment and its arguments: its number."""
    hold = [sys.executable, "-c", "input()", SECRET]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, env={"SECRET": SECRET}) as process:
        yield process.pid
        process.communicate(b"\n")
