"""What a shell shows of each result, one useful line, and what a notebook shows of it."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from planted_run import write_planted_run
from small_sweep import BEHAVIOR, CHOICE, WORDS, small_sweep, small_vector

import steercpp
from steercpp.data.pairs import ContrastPair
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.experiments.scan import Scan, scan
from steercpp.runs.result import SweepResult, open_run
from steercpp.vectors.control_vector import ControlVector


def test_a_vector_tells_what_it_is_for_and_no_numbers(tiny_engine: Engine) -> None:
    vector = small_vector(tiny_engine)
    shown = f"ControlVector(llama, layers 1-2 of {tiny_engine.n_layer}, n_embd {tiny_engine.n_embd}, lengths 1)"
    assert repr(vector) == shown
    bare = ControlVector({3: np.full(4, 1.0), 5: np.full(4, 2.0)}, "", 8, {"method": "pca"})
    assert repr(bare) == "ControlVector(unknown model, layers 3,5 of 8, n_embd 4, lengths 2 to 4, pca)"


def test_a_run_tells_its_grid_its_items_and_the_strength(tmp_path: Path, tiny_engine: Engine) -> None:
    result = open_run(write_planted_run(tmp_path / "run"))
    shown = repr(result)
    assert shown.startswith(f"SweepResult('{tmp_path / 'run'}': ") and "behavior" in shown and "choice items; " in shown
    best = result.recommend()
    assert best is not None and best.strength is not None and shown.endswith(f"use {best.strength:+g})")
    none = repr(small_sweep(tiny_engine, tmp_path / "small", random_directions=0))
    assert none.endswith("nothing recommended)") and "\n" not in none


def test_texts_and_scans_in_one_line(tiny_engine: Engine, tmp_path: Path) -> None:
    texts = generate(tiny_engine, "The man of the", [None, None], max_tokens=5)
    assert repr(texts).startswith("Generation(2 rows, 10 tokens; the first: ") and "\n" not in repr(texts)
    assert repr(Scan(tmp_path, tmp_path / "m.gguf", (), "norm", 1, 0.05)).endswith(
        "0 windows of layers, methods none; none gains)"
    )


def test_a_strangers_vector_writes_no_controls() -> None:
    vector = ControlVector({1: np.ones(4, np.float32)}, "llama\x1b[31m", 2, {"method": "\x1b]0;x\x07\u202e\n"})
    assert repr(vector).isprintable() and "\\x1b[31m" in repr(vector)


def test_dir_offers_the_public_names_alone() -> None:
    assert [name for name in dir(steercpp) if not name.startswith("__")] == sorted(steercpp.__all__)


HOSTILE = "</td><script>alert(1)</script>\x1b[31m\u202e$x$"


class Reader(HTMLParser):
    """Tags, and whether each is closed in its place."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> Reader:
    """What a notebook shows: whole HTML, no script, no control characters, the notebook's own colors."""
    reader = Reader(page)
    assert not reader.open and "script" not in reader.tags and "\x1b" not in page and "\u202e" not in page
    assert "color:" not in page.split("<svg")[0]
    return reader


def test_a_notebook_shows_a_run_with_its_verdict_first(tmp_path: Path) -> None:
    result = open_run(write_planted_run(tmp_path / "run"))
    reader = read(result._repr_html_())
    assert reader.texts[0].startswith("Use strength +")
    assert reader.tags.count("svg") == 1 and reader.tags.count("table") == 2
    shown = " ".join(reader.texts)
    assert "B (95%)" in shown and "P(correct) (95%)" in shown and "planted.gguf" in shown
    assert "0" in reader.texts  # the strength 0 is never among those left out
    (tmp_path / "run" / "sweep.sqlite").unlink()
    broken = read(open_run_again(result)._repr_html_())
    assert broken.texts[0] == "This run cannot be shown." and "sweep.sqlite" in " ".join(broken.texts)


def open_run_again(result: SweepResult) -> SweepResult:
    """The same result with nothing worked out yet."""
    return SweepResult(
        result.folder, result.manifest, strengths=result.strengths.tolist(), scores=result.scores,
        controls=result.controls, items={kind: result.items(kind) for kind in result.manifest.items},
    )  # fmt: skip


def test_a_notebook_shows_a_run_without_a_verdict(tiny_engine: Engine, tmp_path: Path) -> None:
    result = small_sweep(tiny_engine, tmp_path / "<b>$run", choice=(), random_directions=0)
    assert "<b>$run" in " ".join(read(result._repr_html_()).texts)


def test_a_notebook_shows_texts_by_strength_and_escapes_them(tiny_engine: Engine) -> None:
    steering = [None, Steering(small_vector(tiny_engine), 0.5)]
    texts = generate(tiny_engine, "The man of the", steering, max_tokens=3)
    assert texts.strengths == ((), (0.5,))
    cells = read(texts._repr_html_()).texts
    assert cells[:5] == ["2 texts", "strength", "text", "ended by", "0"] and "+0.5" in cells
    hostile = replace(texts, rows=(replace(texts.rows[0], text=HOSTILE),), strengths=())
    assert any(
        cell == "</td><script>alert(1)</script>\\x1b[31m\\u202e$x$" for cell in read(hostile._repr_html_()).texts
    )


def test_a_notebook_shows_a_vector_and_a_scan(tiny_engine: Engine, tmp_path: Path) -> None:
    vector = small_vector(tiny_engine).with_metadata(method=HOSTILE, pairs_sha256="a" * 64)
    cells = read(vector._repr_html_()).texts
    assert cells[1:3] == ["layer", "length"] and cells[3:5] == ["1", "1"] and f"{'a' * 16}…" in cells
    empty = Scan(tmp_path, tmp_path / "m.gguf", (), "norm", 1, 0.05)
    assert read(empty._repr_html_()).texts[0] == "No window of layers is sure to gain within the budget."


@pytest.mark.slow
def test_a_notebook_shows_the_best_window_of_a_scan(tiny_engine: Engine, tmp_path: Path) -> None:
    pairs = [ContrastPair(f"p{i}", f"cannot no {word}", f"sure yes {word}") for i, word in enumerate(WORDS)]
    found = scan(tiny_engine, pairs, behavior=BEHAVIOR, choice=CHOICE, out=tmp_path / "scan", windows=[(1,), (1, 2)],
                 strengths=(-0.5, 0.5))  # fmt: skip
    cells = read(found._repr_html_()).texts
    assert {"layers", "method", "gain in B", "loss of P(correct)", "mean"} <= set(cells)
    assert [cell.removeprefix("▶ ") for cell in cells if cell.removeprefix("▶ ") in ("1", "1-2")] == ["1", "1-2"]
    frame = found.to_frame()
    assert frame["layers"].tolist() == ["1", "1-2"] and frame["is_best"].sum() == (found.best is not None)
    assert frame["slope_at_0"].tolist() == [band.slope for band in found.bands]
