"""What vectors are called: by their runs, told apart, and short."""

from __future__ import annotations

from pathlib import Path

import pytest

from steercpp.reports.labels import short_names
from steercpp.runs.folder import VECTOR_FILE
from steercpp.vectors.names import RUN_VECTOR, vector_name, vector_names


def test_a_runs_vector_is_called_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RUN_VECTOR == VECTOR_FILE
    assert vector_name(Path("runs/refusal/vector.gguf")) == "refusal"
    assert vector_name(Path("happy.gguf")) == "happy"
    monkeypatch.chdir(tmp_path)
    assert vector_name(Path("vector.gguf")) == tmp_path.name


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/vector.gguf", "runs/b/vector.gguf", "happy.gguf"], ["a", "b", "happy"]),
        (["x/v.gguf", "y/v.gguf", "w.gguf"], ["x/v", "y/v", "w"]),
        (["/m/1/run/vector.gguf", "/m/2/run/vector.gguf"], ["1/run", "2/run"]),
        (["a/runs/r/vector.gguf", "b/runs/r/vector.gguf"], ["a/runs/r", "b/runs/r"]),
        (["v.gguf", "v.gguf"], ["v (1)", "v (2)"]),
        ([], []),
    ],
)
def test_names_are_told_apart(paths: list[str], names: list[str]) -> None:
    shown = vector_names([Path(path) for path in paths])
    assert shown == names and len(set(shown)) == len(paths)


def test_what_is_cut_is_told_apart_too() -> None:
    """Every vector of a matrix was called "….gguf:2"."""
    assert short_names(["low", "high"], 5) == ["low", "high"]
    assert short_names(["refusal-of-harm", "honesty-of-harm"], 8) == ["refusal…", "honesty…"]
    alike = short_names(["aaaa-1-bbbb-cccc", "aaaa-2-bbbb-cccc"], 8)
    assert len(set(alike)) == 2 and all(len(name) <= 8 for name in alike)
