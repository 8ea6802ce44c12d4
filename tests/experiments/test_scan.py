"""Scans: windows of layers, the best band by planted and by real effects, resuming, and what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import planted_run
import pytest
from matplotlib.axes import Axes
from planted_run import write_planted_run
from small_sweep import BEHAVIOR, CHOICE

from steercpp.data.items import OwnItem
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, LayerError, RunError
from steercpp.experiments.figures import scan_figure
from steercpp.experiments.scan import Band, Scan, default_windows, scan, slope_at_0
from steercpp.reports.pictures import ensure_files
from steercpp.reports.style import rendered
from steercpp.runs.manifest import MANIFEST
from steercpp.runs.result import open_run
from steercpp.sweeps.own_answers import own_answers
from steercpp.vectors.layers import parse_windows, windows_of

PAIRS = [ContrastPair(str(i), f"cannot no {word}", f"sure yes {word}") for i, word in enumerate(["man", "day", "life"])]
# Two halves need ten items of each kind
ITEMS = tuple(
    replace(item, id=f"{item.id}-{i}", prompt=f"{'now ' * i}{item.prompt}") for i in (0, 1) for item in BEHAVIOR
)
ASKED = tuple(
    replace(item, id=f"{item.id}-{i}", question=f"{'now ' * i}{item.question}") for i in (0, 1) for item in CHOICE
)


def test_windows_of_consecutive_layers() -> None:
    assert windows_of(2, (1, 2, 3, 5, 6)) == ((1, 2), (2, 3), (5, 6))  # none reaches over the gap
    assert parse_windows("1,3", range(1, 5), (2, 3)) == ((1,), (1, 2, 3), (2,), (2, 3, 4), (3,), (4,))
    assert parse_windows("default, 2", range(1, 4), (2, 3)) == ((1, 2), (2, 3))
    assert parse_windows("2-4", range(1, 5), (2, 3)) == ((2, 3, 4),)
    assert default_windows(8, width=2) == parse_windows("1,2", range(1, 8), ())
    assert default_windows(8)[:3] == ((1,), (1, 2, 3), (2,))  # the paper's band of 8 blocks is 2..4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9", "windows of 9 layers do not fit into layers 1-4; use narrower ones"),
        ("0", "a window of 0 layers holds none"),
        ("3-7", "`windows=3-7`: layer 7 is not among layers 1-4"),
        ("4-2", "4-2 runs backwards; write 2-4"),
        ("wide", "'wide' is neither a width, nor a range of layers, nor default"),
        ("1,", "'' is neither a width"),
        ("default", "layer 5 is not among layers 1-4; name others or widen `layers`"),
    ],
)
def test_bad_windows(text: str, expected: str) -> None:
    with pytest.raises(LayerError, match="windows") as caught:
        parse_windows(text, range(1, 5), (4, 5, 6))
    assert expected in str(caught.value)


def test_the_slope_at_0() -> None:
    s = np.array([-0.1, 0.0, 0.2, 1.0])
    assert slope_at_0(s, np.array([-0.3, 0.0, 0.6, 9.0])) == pytest.approx(3.0)
    assert slope_at_0(s[1:], np.array([0.0, 0.6, 9.0])) == pytest.approx(3.0)
    assert np.isnan(slope_at_0(np.zeros(1), np.zeros(1)))


def planted_scan(folder: Path, slopes: dict[tuple[int, ...], float], monkeypatch: pytest.MonkeyPatch) -> Scan:
    """A scan of runs whose B rises by a slope of their own, and whose P(correct) falls alike."""
    bands = []
    for layers, slope in slopes.items():
        monkeypatch.setattr(planted_run, "DELTA_LAMBDA", slope)
        run = write_planted_run(folder / "-".join(map(str, layers)), strengths="-0.05:0.6:0.05", n_random=0)
        bands.append(Band.of(open_run(run), method="mean", layers=layers))
    return Scan(folder, Path("planted.gguf"), tuple(bands), "norm", 1, 0.05)


@pytest.mark.slow
def test_the_best_band_is_the_planted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted_scan(tmp_path, {(1,): 1.0, (2,): 3.0, (2, 3): 6.0, (3,): 2.0}, monkeypatch)
    assert found.best is not None and found.best.layers == (2, 3) and found.doubt == ""
    for band in found.bands:
        told, run = band.found.reported_on, open_run(band.folder).recommend()
        assert run is not None and told is not None
        # What `steercpp report` says of the same run
        assert (band.found.strength, told.gain, told.loss_high) == (run.strength, run.gain, run.loss_high)
        assert 0 < told.gain_low <= told.gain and told.loss <= told.loss_high <= 0.06
    b = {row.strength: row.b or 0.0 for row in open_run(found.best.folder).rows()}
    assert found.best.slope == pytest.approx((b[0.05] - b[-0.05]) / 0.1)
    # tanh(6 s - 0.6) has there (tanh(-0.3) - tanh(-0.9)) / 0.1 = 4.25; items that differ by 0.3 flatten their mean
    assert 3.4 < found.best.slope < 4.25
    assert found.tokens["token_layers"] == 4 * 285600


def test_no_band_is_best_where_none_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted_scan(tmp_path, {(1,): -2.0, (2,): -3.0}, monkeypatch)
    assert found.best is None and found.record()["best"] is None
    for band in found.bands:  # the figures of the least harm are told all the same, as those of a floor
        assert not band.found.sure and band.found.reported_on is not None and band.found.reported_on.gain < 0
    assert rendered(scan_figure(found), "png").startswith(b"\x89PNG")


def test_what_is_over_the_budget_at_once_has_no_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_run, "B", 40.0)
    found = planted_scan(tmp_path, {(1,): 3.0, (1, 2): 3.0}, monkeypatch)
    assert [band.found.strength for band in found.bands] == [None, None]
    assert found.bands[0].found.end == 0.05 and "already at +0.05 the loss may be 6" in found.bands[0].found.reason
    rendered(scan_figure(found), "svg")


def legend(axes: Axes) -> list[str]:
    """What its legend names."""
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_the_picture_names_the_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted_scan(tmp_path, {(1,): 1.0, (2,): 3.0, (2, 3): 6.0}, monkeypatch)
    left, right = scan_figure(found).axes
    assert {"1", "2", "2-3"} <= {text.get_text() for text in left.texts}
    assert "best: 2-3 " in [text.get_text() for text in right.texts]
    assert legend(right) == ["single layers", "bands"]
    lda, floor = (replace(found.bands[i], layers=(2, 3), method=name) for i, name in ((2, "lda"), (0, "random")))
    methods = scan_figure(replace(found, bands=(floor, lda))).axes[1]
    assert [label.get_text() for label in methods.get_yticklabels()] == ["random", "lda"]  # the best on top
    both = scan_figure(replace(found, bands=(*found.bands, floor))).axes[1]
    assert legend(both) == ["mean", "random"]
    crowd = replace(found, bands=tuple(replace(found.bands[i % 3], layers=(i,)) for i in range(1, 32)))
    assert len([text for text in scan_figure(crowd).axes[0].texts if text.get_text() == "2"]) == 1  # only the best
    once, again = (rendered(scan_figure(found), "svg") for _ in range(2))
    assert once == again


def test_a_scan_goes_on_where_it_stopped(tiny_engine: Engine, tmp_path: Path) -> None:
    windows, finished = [(1,), (2,), (1, 2)], []

    def stop(band: Band) -> None:
        finished.append(band)
        if len(finished) == 2:
            raise KeyboardInterrupt

    out = tmp_path / "scan"
    options: dict[str, Any] = {
        "behavior": ITEMS,
        "choice": ASKED,
        "windows": windows,
        "strengths": (-0.5, 0.5),
        "out": out,
    }
    with pytest.raises(KeyboardInterrupt):
        scan(tiny_engine, PAIRS, **options, on_band=stop)
    assert sorted(path.name for path in out.iterdir()) == ["mean-layer-1", "mean-layers-1-2"]
    ticks: list[tuple[int, int, str]] = []
    found = scan(tiny_engine, PAIRS, **options, progress=lambda *tick: ticks.append(tick))
    assert [band.layers for band in found.bands] == [(1,), (1, 2), (2,)]
    assert [bool(band.decoded_now) for band in found.bands] == [False, False, True]
    assert ticks[-1][0] == ticks[-1][1] and "layer 2, mean (3 of 3): measuring +0.5, 3 of 3" in ticks[-1][2]
    files = ensure_files(out, "scan", found.record(), lambda: scan_figure(found))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    work = tiny_engine.token_layers
    again = scan(tiny_engine, PAIRS, **options)
    assert tiny_engine.token_layers == work and again.decoded_now == 0
    assert ensure_files(out, "scan", again.record(), lambda: scan_figure(again)) == files
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before
    table = json.loads(files[0].read_bytes())
    assert table["items"] == {"behavior": 16, "choice": 16} and len(table["bands"]) == 3
    runs = [open_run(band["run"]).manifest.to_json() for band in table["bands"]]
    assert table["tokens"]["token_layers"] == sum(run["tokens"]["token_layers"] for run in runs)
    assert [run["vector"]["layers"] for run in runs] == [[1], [1, 2], [2]]


def test_what_a_scan_refuses(tiny_engine: Engine, tmp_path: Path) -> None:
    options: dict[str, Any] = {"behavior": ITEMS, "choice": ASKED, "strengths": (0.5,), "out": tmp_path / "x"}
    with pytest.raises(LayerError, match=r"layer 4 does not exist; the model has layers 0\.\.3"):
        scan(tiny_engine, PAIRS, **options, windows=[(3, 4)])
    with pytest.raises(LayerError, match="name one window"):
        scan(tiny_engine, PAIRS, **options, windows=[])
    with pytest.raises(InputError, match="'logistics' is unknown; did you mean logistic"):
        scan(tiny_engine, PAIRS, **options, methods=["mean", "logistics"])
    with pytest.raises(InputError, match="no pairs"):
        scan(tiny_engine, [], **options)
    with pytest.raises(InputError, match="needs behavior items, and choice"):
        scan(tiny_engine, PAIRS, **{**options, "choice": ()})
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / MANIFEST).write_text("{}")
    with pytest.raises(RunError, match="folder of a single sweep"):
        scan(tiny_engine, PAIRS, **options)


@pytest.mark.slow
def test_refusal_of_the_embedded_model_lies_in_its_upper_layers(tmp_path: Path) -> None:
    """Steered at layer 2 it gains little before its answers break; at layer 7 nearly all there is."""
    own = load()
    with Engine(own.path, threads=1) as engine:
        found = scan(
            engine, own.pairs()[:24], behavior=own.behavior()[::2], choice=own.choice()[::6], out=tmp_path / "scan",
            windows=[(2,), (7,)], methods=["mean", "random"], strengths=(0.2, 0.4),
        )  # fmt: skip
    assert found.best is not None and (found.best.layers, found.best.method) == ((7,), "mean")
    gains = {(band.method, *band.layers): band.found.reported_on for band in found.bands}
    best, low, floor = gains["mean", 7], gains["mean", 2], gains["random", 7]
    assert best is not None and low is not None and floor is not None
    assert best.gain_low > 0.8 > 0.4 > max(low.gain, floor.gain)  # all items: 0.98, 0.16 and for the floor 0.1


def test_own_answers_tell_what_is_lost(tiny_engine: Engine, tmp_path: Path) -> None:
    requests = tuple(
        OwnItem(f"o-{word}-{n}", f"What of {n} {word}s?") for n in range(6) for word in ("man", "day", "life")
    )
    own = own_answers(tiny_engine, requests, max_tokens=6)
    behavior = (
        tuple(replace(item, id=f"{item.id}-again", prompt=f"now now now {item.prompt}") for item in ITEMS) + ITEMS
    )
    found = scan(tiny_engine, PAIRS, behavior=behavior, own=own, out=tmp_path, windows=[(1,), (2,)])
    assert found.record()["items"] == {"behavior": len(behavior), "own": len(own[::3])}
    assert found.helpfulness == "P of everyday answers"
    for band in found.bands:
        expected = open_run(band.folder).own
        assert expected is not None
        np.testing.assert_array_equal(band.p, np.exp(-expected.kl).mean(axis=1))
        assert band.p[band.strengths == 0] == 1 and (band.losses[band.strengths != 0] > 0).all()


def test_a_scan_needs_something_that_can_be_lost(tiny_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choice, answer or own items"):
        scan(tiny_engine, PAIRS, behavior=ITEMS, out=tmp_path)
