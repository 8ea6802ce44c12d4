"""The picture of a vector's quality: what it draws, where the user wants it, and what it cannot be drawn of."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.axes import Axes

from steercpp.cli.main import main
from steercpp.errors import InputError
from steercpp.extraction.quality import NAMES
from steercpp.reports.style import rendered
from steercpp.reports.vector_figures import quality_figure
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.gguf import write_vector

LAYERS = (2, 3, 5)
FIGURES: dict[str, tuple[float, ...]] = {
    "explained": (0.5, 0.6, 0.7),
    "agreement": (-0.2, 0.6, 0.7),
    "accuracy": (0.4, 0.9, 1.0),
    "auc": (0.45, 0.95, 1.0),
    "norm_ratio": (0.1, 0.2, 1.4),
    "stability": (0.9, 0.95, 0.99),
}


def vector(figures: dict[str, tuple[float, ...]], layers: tuple[int, ...] = LAYERS) -> ControlVector:
    directions = {il: np.array([0.6, 0.8], dtype=np.float32) for il in layers}
    metadata: dict[str, MetaValue] = {"method": "pca", "n_pairs": 12, **figures}
    return ControlVector(directions, "llama", 8, metadata)


def lines(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """What is drawn: places and heights of each line."""
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in axes.lines]


def test_every_figure_is_a_line_over_the_layers() -> None:
    both = quality_figure(vector(FIGURES)).axes
    drawn = {tuple(heights) for axes in both for places, heights in lines(axes) if places == list(LAYERS)}
    assert drawn == set(FIGURES.values()) and set(FIGURES) == set(NAMES)
    for axes in both:
        low, high = axes.get_ylim()
        values = [value for _, heights in lines(axes) for value in heights]
        assert low < min(values) and max(values) < high  # a negative agreement and a ratio above 1 are in sight


def test_some_figures_and_one_layer() -> None:
    few = {name: FIGURES[name][:1] for name in ("explained", "norm_ratio")}  # what one pair tells
    right = quality_figure(vector(few, (3,))).axes[1]
    assert lines(right) == [([3], [0.5]), ([3], [0.1])]
    with pytest.raises(InputError, match="does not tell how good its directions are; extract it with steercpp"):
        quality_figure(vector({}))
    with pytest.raises(InputError, match="does not tell"):
        quality_figure(vector({"explained": (0.5, 0.5)}))  # of other layers


def show(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["show", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.mark.parametrize(("name", "start"), [("q.png", b"\x89PNG"), ("q.SVG", b"<?xml")])
def test_show_draws_it(tmp_path: Path, name: str, start: bytes) -> None:
    write_vector(tmp_path / "v.gguf", vector(FIGURES))
    for force in ([], ["--force"]):
        result = show(tmp_path / "v.gguf", "--figure", tmp_path / name, *force)
        assert (result.exit_code, result.stderr) == (0, "")
        assert str(tmp_path / name) in result.stdout.splitlines()
        first = (tmp_path / name).read_bytes()
        assert first.startswith(start)
    assert (tmp_path / name).read_bytes() == first  # the same vector gives the same bytes


def test_what_show_refuses(tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", vector(FIGURES))
    write_vector(tmp_path / "plain.gguf", vector({}))
    (tmp_path / "old.png").write_bytes(b"precious")
    for arguments, expected in (
        (["v.gguf", "old.png"], "old.png: exists already; choose another name or give --force"),
        (["v.gguf", "q.pdf"], "q.pdf: not the name of a picture; end it in .png or .svg"),
        (["v.gguf", "none/q.png"], "does not exist; make it first"),
        (["plain.gguf", "q.png"], "does not tell how good its directions are"),
    ):
        path, picture = (tmp_path / name for name in arguments)
        result = show(path, "--figure", picture)
        assert (result.exit_code, result.stdout) == (1, "") and expected in result.stderr
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "old.png").read_bytes() == b"precious" and not (tmp_path / "q.png").exists()


@pytest.mark.parametrize("name", ["a$\\frac$", "_hidden", "$$", "b_c^{", "x" * 100_000])
def test_names_and_figures_that_a_file_may_have_are_drawn(name: str) -> None:
    """A name with $ was read as mathematics; infinite figures were no limits of an axis."""
    inf, nan = math.inf, math.nan
    rows = {il: np.ones(4, np.float32) for il in (1, 2, 3)}
    told: dict[str, MetaValue] = {
        "method": name,
        "explained": (inf, 0.5, nan),
        "auc": (-inf, 0.5, 1e308),
        "norm_ratio": (nan, inf, -inf),
    }
    figure = quality_figure(ControlVector(rows, "llama", 8, told))
    left, right = figure.axes
    assert left.get_ylim() == (0.45, 1.02) and right.get_ylim() == (0.0, 1.02)
    assert name[:100] in left.get_title(loc="left")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the long one: there is no room for a layout
        assert rendered(figure, "png").startswith(b"\x89PNG")
