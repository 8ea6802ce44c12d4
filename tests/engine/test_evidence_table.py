"""docs/evidence.md: a second engine finds the same ln P, the page's tables are the script's, and say what it concludes.

transformers and torch come with the extra "peers" (`pip install -e '.[test,peers]'`).
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evidence_table import (
    ALIGNMENT,
    DOCUMENT,
    F32,
    HELPFULNESS,
    Agreement,
    asked_of,
    authors,
    document,
    ours,
    right_answers,
)
from tiny_model import quantize

from steercpp.aliases import Floats
from steercpp.engine.engine import Engine


@pytest.fixture(scope="module")
def model(chat_path: Path) -> Path:
    return chat_path


@pytest.fixture(scope="module")
def peer(model: Path) -> Any:
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name, reason=f"needs {name}; pip install -e '.[test,peers]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from second_engine import SecondEngine

        return SecondEngine(model)


@pytest.mark.slow
def test_a_second_engine_finds_the_same_log_probabilities(model: Path, peer: Any, tmp_path: Path) -> None:
    """In float32 on both sides only the order of sums differs. That is 5e-5 nats at most over 1,310 values of the real
    model, so 5e-4 leaves room for another processor; one block off is over 0.1, and so is what steering does."""
    strengths = (-0.1, 0.0, 0.1)
    with Engine(quantize(model, tmp_path / "f32.gguf", "F32"), threads=1, n_ctx=512, **F32) as engine:
        asked = asked_of(engine, n_behavior=4, n_choice=4)
        mine = [np.concatenate(rows) for rows in ours(engine, asked, strengths)]
    theirs = [np.concatenate(peer.logprobs(asked.queries, asked.vector.directions, s)) for s in strengths]
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=5e-4)
    assert np.abs(mine[0] - mine[1]).max() > 0.1  # it steers
    off = np.concatenate(peer.logprobs(asked.queries, asked.shifted, strengths[-1]))
    assert np.abs(mine[-1] - off).max() > 0.1


def test_agreement_is_of_a_planted_line() -> None:
    theirs = np.array([-3.0, -1.0, 0.0, 4.0])
    found = Agreement.of(2 * theirs + 1, theirs)
    assert (found.n, round(found.slope, 12), round(found.correlation, 12)) == (4, 2, 1)
    assert (found.largest, found.rms) == (5.0, np.sqrt((4 + 0 + 1 + 25) / 4))
    assert Agreement.of(theirs, theirs).cells[2:] == ["0", "0"]


def test_right_answers_are_read_off_their_running_share() -> None:
    assert right_answers("task\tacc_norm\n1\t100.00000000\n2\t50.00000000\n3\t66.66666667\n").tolist() == [
        True,
        False,
        True,
    ]


def test_the_authors_curves_are_fitted_as_the_page_says(test_data: Path) -> None:
    folder = test_data / "curves"
    for name in (ALIGNMENT, HELPFULNESS):
        if not (folder / f"{name}.csv").is_file():
            pytest.skip(f"no {folder / name}.csv")
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == document(text, authors(folder)), "run: make table NAME=evidence DATA='curves FOLDER'"


def rows(name: str) -> list[list[str]]:
    """The cells of a table of the page."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)\n<!-- {name} ends -->", text, re.DOTALL)
    assert found is not None, name
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]


def numbers(cells: list[str]) -> Floats:
    return np.array([float(cell.replace("−", "-")) for cell in cells])


def test_what_the_page_concludes() -> None:
    """Its words, on its own tables: a table that is made again by other figures needs other words."""
    items = dict((row[0], row[1:]) for row in rows("items"))
    exact, cached, quantized, shifted = items.values()
    assert numbers([exact[2], exact[6]]).max() <= 5e-5 and numbers(cached[2:4])[1] <= 0.003
    assert round(float(quantized[3]), 1) <= 0.2 and float(quantized[4]) == pytest.approx(0.99, abs=0.005)
    assert float(shifted[2]) >= 7
    for row in rows("curves"):
        _, b, b_f32, b_peer, p, p_f32, p_peer = numbers(row)
        assert abs(b - b_peer) < 0.0071 and abs(p - p_peer) < 0.0022 and (b_f32, p_f32) == (b_peer, p_peer)
    for row in rows("perplexity"):
        assert row[1] == row[2] and float(row[3]) == 0
    for name, n_alike in (("choices", 636), ("choices-f32", 640)):
        alike = [row[3].split(" of ") for row in rows(name)]
        assert (sum(int(n) for n, _ in alike), sum(int(n) for _, n in alike)) == (n_alike, 640)
    for row in rows("authors"):
        assert row[2:4] == row[4:6]
