"""docs/notebook.ipynb runs as it stands, and prints the figures that it shows."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from notebook_table import CELLS, NOTEBOOK, executed, figures, printed


@pytest.fixture(scope="module")
def shown() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_it_holds_the_cells_and_what_they_gave(shown: nbformat.NotebookNode) -> None:
    assert tuple(cell.source for cell in shown.cells) == CELLS, "write it anew: make table NAME=notebook"
    html = [output.data["text/html"] for cell in shown.cells for output in cell.get("outputs", ())
            if "text/html" in output.get("data", {})]  # fmt: skip
    assert len(html) == 4 and html[1].count("<svg") == 1  # vector, run, scan, texts
    assert NOTEBOOK.stat().st_size < 200_000 and "/tmp" not in NOTEBOOK.read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_runs_and_prints_the_figures_it_shows(shown: nbformat.NotebookNode, tmp_path: Path) -> None:
    expected = figures(shown)
    assert len(expected) > 20
    run = executed(copy.deepcopy(shown), tmp_path)
    # another CPU ends in other last bits, and what is printed is rounded
    assert figures(run) == pytest.approx(expected, rel=0.02, abs=0.011)
    assert printed(run)[-1].startswith("llama-server -m MODEL.gguf --control-vector-scaled runs/refusal/vector.gguf:")
    assert (tmp_path / "runs" / "refusal" / "vector.gguf").read_bytes()[:4] == b"GGUF"
