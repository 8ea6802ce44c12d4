"""A vector on two files of one model: real quantizations, what is kept, what is refused, and how it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import EMBEDDED, ModelMaker
from tiny_model import Shape, write_tiny_model

from steercpp.cli.main import main
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, LayerError, RunError, ShapeError
from steercpp.experiments.figures import transfer_figure
from steercpp.experiments.transfer import Material, Transfer, transfer
from steercpp.extraction.extract import extract
from steercpp.reports.style import rendered
from steercpp.runs.result import open_run
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector, write_vector

pytestmark = pytest.mark.slow

WORDS = ("man", "day", "life", "time", "way")
PAIRS = tuple(ContrastPair(word, f"I cannot like the {word}", f"I sure like the {word}") for word in WORDS)
OPEN = partial(Engine, threads=1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture(scope="session")
def moved(model_maker: ModelMaker, tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    """The embedded model's refusal vector on its Q4_0, with a part of its own pairs and items."""
    own = load()
    material = Material(own.pairs()[:24], own.behavior()[::2], own.choice()[::6], strengths=(-0.1, 0.1, 0.2, 0.4))
    with OPEN(own.path) as engine:
        vector = extract(engine, own.pairs()[:24], layers=(5, 6))
    folder = tmp_path_factory.mktemp("transfer") / "run"
    return transfer(own.path, model_maker("embedded-Q4_0"), vector, material, out=folder, open_engine=OPEN)


def test_the_refusal_vector_survives_q4_0(moved: Transfer) -> None:
    assert list(moved.bands) == ["vector-on-a", "vector-on-b", "own-on-b"]
    assert [row.layer for row in moved.cosines] == [1, 2, 3, 4, 5, 6, 7]
    for row in moved.cosines:
        if row.layer in (5, 6):
            assert row.with_a == pytest.approx(1, abs=1e-6)  # extracted again from the same pairs, bit for bit
            assert row.with_b == pytest.approx(row.between, abs=1e-6) and 0.98 < row.between < 1
        else:
            assert np.isnan([row.with_a, row.with_b]).all() and row.between > 0.9
    assert 0.9 <= moved.share < 1.2 and moved.notes == ()
    assert moved.conclusion.startswith("The vector carries over: on B it gains +0.")
    assert "the directions of A and B have a cosine of 0.99" in moved.conclusion
    # The same strengths push equally hard: residual norms of B for both vectors on B, of A for A
    manifests = {name: open_run(band.folder).manifest for name, band in moved.bands.items()}
    norms = {name: found.vector.norms for name, found in manifests.items()}
    np.testing.assert_allclose(norms["vector-on-b"], norms["own-on-b"], rtol=1e-6)  # float32 rounding of directions
    assert not np.allclose(norms["vector-on-a"], norms["vector-on-b"], rtol=1e-4)
    assert [found.model.file for found in manifests.values()] == [moved.a.name, *[moved.b.name] * 2]


def test_nothing_is_computed_twice(moved: Transfer) -> None:
    own, work = load(), []

    class Counting(Engine):
        def close(self) -> None:
            work.append(self.token_layers)
            super().close()

    material = Material(own.pairs()[:24], own.behavior()[::2], own.choice()[::6], strengths=(-0.1, 0.1, 0.2, 0.4))
    vector = read_vector(moved.folder / "own-on-a.gguf").restricted_to((5, 6))
    again = transfer(moved.a, moved.b, vector, material, out=moved.folder, open_engine=partial(Counting, threads=1))
    assert work == [0, 0]
    assert json.dumps(again.record(), default=str) == json.dumps(moved.record(), default=str)
    with pytest.raises(RunError, match=r"own-on-a\.gguf: holds directions of another model, method or pairs"):
        transfer(moved.a, moved.b, vector, replace(material, method="pca"), out=moved.folder, open_engine=OPEN)


def test_verdicts(moved: Transfer) -> None:
    """By the share of the gain of B's own vector."""

    def told(change: float | None) -> str:
        band = moved.bands["vector-on-b"]
        assert band.found.reported_on is not None
        gain = band.found.reported_on.gain
        found = replace(
            band.found, sure=change is not None, reported_on=replace(band.found.reported_on, gain=gain * (change or 1))
        )
        return replace(moved, bands={**moved.bands, "vector-on-b": replace(band, found=found)}).conclusion

    assert told(0.7).startswith("The vector carries over in part: on B it gains +0.")
    assert told(0.2).startswith("The vector does not carry over: on B it gains +0.")
    assert told(None).startswith(
        "The vector does not carry over: on B it is not sure to gain anything within a loss of 5%, 0%"
    )
    own = moved.bands["own-on-b"]
    unsure = {**moved.bands, "own-on-b": replace(own, found=replace(own.found, sure=False))}
    assert replace(moved, bands=unsure).conclusion.startswith("It is not clear whether the vector carries over")
    plain = {name: band for name, band in moved.bands.items() if name != "own-on-b"}
    assert replace(moved, bands=plain, cosines=()).conclusion.startswith("On B the vector gains +0.")
    assert "whether its effect carries over takes behavior and choice items" in replace(moved, bands={}).conclusion


def test_the_picture(moved: Transfer) -> None:
    left, right = transfer_figure(moved).axes
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (left, right)]  # type: ignore[union-attr]
    assert names[0] == ["A and B", "the vector and A", "the vector and B"]
    assert names[1] == [
        "the vector on A",
        "the vector on B",
        "B's own vector on B",
        "largest certain gain within the budget",
    ]
    assert (
        len(transfer_figure(replace(moved, bands={})).axes)
        == 1
        == len(transfer_figure(replace(moved, cosines=())).axes)
    )
    assert rendered(transfer_figure(moved), "svg") == rendered(transfer_figure(moved), "svg")


def test_other_models_and_their_quantizations(model_maker: ModelMaker, tmp_path: Path) -> None:
    """Directions only: random weights and a model of stories say nothing about refusal, but have directions."""
    for name, least in (("tiny", 0.99), ("stories260K", 0.99)):
        files = [model_maker(f"{name}-{kind}") for kind in (("F32", "Q8_0") if name == "tiny" else ("f32", "q8_0"))]
        if not all(path.is_file() for path in files):
            continue
        with OPEN(files[0]) as engine:
            vector = extract(engine, PAIRS, layers=(1, 2), method="pca")
        found = transfer(files[0], files[1], vector, Material(PAIRS), out=tmp_path / name, open_engine=OPEN)
        assert found.method == "pca" and not found.bands and np.isnan(found.share)
        assert min(row.between for row in found.cosines) > least  # Q8_0 rounds weights to a 254th of a block's largest
        assert max(row.between for row in found.cosines) < 1


def test_a_vector_of_other_pairs_or_of_another_file_is_told(model_maker: ModelMaker, tmp_path: Path) -> None:
    a, b = model_maker("tiny-F32"), model_maker("tiny-Q8_0")
    with OPEN(b) as engine:
        vector = extract(engine, PAIRS[:3], layers=(1, 2))
    found = transfer(a, b, vector, Material(PAIRS, method="pca"), out=tmp_path / "x", open_engine=OPEN)
    told = "; ".join(found.notes)
    assert "another file than A, tiny-Q8_0.gguf" in told and "from other pairs" in told
    assert "by mean, A's and B's directions by pca" in told


def test_what_is_refused(model_maker: ModelMaker, tmp_path: Path) -> None:
    a, out = model_maker("tiny-F32"), tmp_path / "x"
    narrow = write_tiny_model(tmp_path / "narrow.gguf", shape=Shape(n_embd=64, n_ff=64))
    deep = write_tiny_model(tmp_path / "deep.gguf", shape=Shape(n_layer=5))
    vector = ControlVector({1: np.ones(256, np.float32)}, "llama", 4, {"method": "mean"})

    def refused(
        error: type[Exception], match: str, b: Path = a, v: ControlVector = vector, m: Material | None = None
    ) -> None:
        with pytest.raises(error, match=match):
            transfer(a, b, v, m or Material(PAIRS), out=out, open_engine=OPEN)
        assert not out.exists()

    refused(
        ShapeError,
        r"tiny-F32\.gguf has 4 layers of width 256 and .*narrow\.gguf has 4 layers of width 64; a vec",
        narrow,
    )
    refused(ShapeError, r"has 4 layers of width 256 and .*deep\.gguf has 5 layers of width 256", deep)
    refused(
        ShapeError,
        "has 64 values per layer",
        v=ControlVector({1: np.ones(64, np.float32)}, "llama", 4, {"method": "pca"}),
    )
    refused(LayerError, "steers layer 7", v=ControlVector({7: np.ones(256, np.float32)}, "llama", 8, {"method": "pca"}))
    refused(
        LayerError, "steers layer 0, which llama.cpp cannot", v=ControlVector({0: np.ones(256, np.float32)}, "llama", 4)
    )
    refused(InputError, "meant for operator ablate; transfer compares", v=vector.with_metadata(operator="ablate"))
    for method, told in (("", "without telling how"), ("combination", "by 'combination'")):
        words = f"{told}, so its like cannot be extracted; name a `method`"
        refused(InputError, words, v=vector.with_metadata(method=method))
    with pytest.raises(InputError, match="give behavior items and choice items, or neither"):
        Material(PAIRS, behavior=load().behavior())
    with pytest.raises(InputError, match="nothing to compare"):
        Material()
    with pytest.raises(InputError, match="'means' is unknown; did you mean mean"):
        Material(PAIRS, method="means")


def test_the_command(model_maker: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded model's own material, of which it takes a few items."""
    monkeypatch.chdir(tmp_path)
    with OPEN(EMBEDDED) as engine:
        write_vector("v.gguf", extract(engine, load().pairs(), layers=(5, 6)))
    command = ["transfer", EMBEDDED, model_maker("embedded-Q4_0"), "--vector", "v.gguf", "--items", "24",
               "--strengths", "0.1,0.3", "--threads", "1", "--max-loss", "0.2"]  # fmt: skip
    result = run(*command)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    paths = ("A  ", "B  ")
    assert max(len(line) for line in result.stdout.splitlines() if not line.startswith(paths)) <= 80
    folder = Path("runs/embedded-embedded-Q4_0-transfer")
    for words in (
        "V · A",
        "own on B",
        "The vector carries over",
        f"{folder}/transfer.json .png .svg",
        f"{folder}/own-on-b/",
    ):
        assert words in result.stdout
    data = json.loads(run(*command, "--json").stdout)
    assert data["conclusion"] in " ".join(result.stdout.split()) and data["share"] > 0.9
    assert set(data["runs"]) == {"vector-on-a", "vector-on-b", "own-on-b"} and len(data["files"]) == 3
    assert run("report", folder / "own-on-b").exit_code == 0


def test_commands_that_fail(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_vector("v.gguf", ControlVector({1: np.ones(256, np.float32)}, "llama", 4))
    for arguments, expected in (
        ([tiny_path, tiny_path, "--vector", "v.gguf"], "nothing to compare: give pairs for the directions"),
        ([tiny_path, tiny_path, "--vector", "none.gguf"], "none.gguf"),
        (["none.gguf", tiny_path, "--vector", "v.gguf", "--pairs", "p.jsonl"], "p.jsonl"),
        ([EMBEDDED, "none.gguf", "--vector", "v.gguf"], "none.gguf: the model cannot be read"),
    ):
        result = run("transfer", *arguments, "--out", "x")
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert result.stderr.count("\n") == 1 and expected in result.stderr
    assert run("transfer", tiny_path, tiny_path).exit_code == 2 and not Path("x").exists()
