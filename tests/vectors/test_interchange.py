"""Vectors to other tools and back: the same tensors, and the same logits through steercpp and llama.cpp's own vector.

repeng comes with the extra "peers" (`pip install -e '.[test,peers]'`); llama-perplexity is looked for in
STEERCPP_LLAMA_BIN, or on the PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from stock_llama import StockRunner
from vector_bytes import Refused, load_like_llama_cpp

from steercpp.choices import VECTOR_FORMATS, VectorFormat
from steercpp.cli.main import main
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.vectors.control_vector import ControlVector, baked
from steercpp.vectors.formats import read_any_vector, write_any_vector
from steercpp.vectors.gguf import read_vector, write_vector

WORDS = "I cannot say what the people of the old world made after the war"


@pytest.fixture(scope="module")
def engine(tiny_path: Path) -> Iterator[Engine]:
    with Engine(tiny_path, n_ctx=512, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def stock(tiny_path: Path) -> Iterator[StockRunner]:
    with StockRunner(tiny_path, n_ctx=512, threads=1) as runner:
        yield runner


@pytest.fixture(scope="module")
def repeng() -> Any:
    return pytest.importorskip("repeng", reason="needs repeng; pip install -e '.[test,peers]'")


@pytest.fixture
def vector(engine: Engine, rng: np.random.Generator) -> ControlVector:
    """Directions of about a third of the residual stream's length at layers 1 and 3 of 0..3."""
    norms = engine.residual_norms([engine.encode(WORDS)], [1, 3])
    rows = {}
    for il in (1, 3):
        row = rng.standard_normal(engine.n_embd)
        rows[il] = (0.3 * norms[il] / np.linalg.norm(row) * row).astype(np.float32)
    return ControlVector(rows, engine.architecture, engine.n_layer, {"method": "mean", "layer_convention": "applied"})


def ours(engine: Engine, vector: ControlVector, strength: float = 1.0) -> np.ndarray:
    (batch,) = engine.pack([Query(engine.encode(WORDS))])
    return engine.logits(batch, vector=vector, strengths=strength)


def theirs(engine: Engine, stock: StockRunner, buffer: np.ndarray | None, strength: float = 1.0) -> np.ndarray:
    """Logits of plain llama.cpp with a buffer of rows from layer 1 on, as its loader makes it."""
    (batch,) = engine.pack([Query(engine.encode(WORDS))])
    stock.set_vector(None if buffer is None else dict(enumerate(buffer, start=1)), strength)
    logits = stock.logits(batch)
    stock.set_vector(None)
    return logits


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_ours_through_each_format_to_llama_cpp(
    engine: Engine, stock: StockRunner, vector: ControlVector, tmp_path: Path, kind: VectorFormat
) -> None:
    write_any_vector(tmp_path / f"first.{kind}", vector)
    write_any_vector(tmp_path / "v.gguf", read_any_vector(tmp_path / f"first.{kind}")[0])
    loaded = load_like_llama_cpp(tmp_path / "v.gguf")
    expected = theirs(engine, stock, loaded, 1.7)
    np.testing.assert_array_equal(ours(engine, vector, 1.7), expected)
    assert (expected != theirs(engine, stock, None)).any(), "the vector does nothing, so equality means nothing"


def test_a_baked_strength_is_what_plain_control_vector_adds(
    engine: Engine, stock: StockRunner, vector: ControlVector, tmp_path: Path
) -> None:
    write_vector(tmp_path / "v.gguf", baked(vector, -1.7))
    np.testing.assert_array_equal(
        theirs(engine, stock, load_like_llama_cpp(tmp_path / "v.gguf")), ours(engine, vector, -1.7)
    )


@pytest.mark.parametrize("metadata", [{"operator": "ablate"}, {"positions": "generated"}, {"side": "positive"}])
def test_llama_cpp_refuses_what_it_would_get_wrong(
    vector: ControlVector, tmp_path: Path, metadata: dict[str, str]
) -> None:
    write_vector(tmp_path / "v.gguf", vector.with_metadata(**metadata))
    with pytest.raises(Refused, match="no tensors"):
        load_like_llama_cpp(tmp_path / "v.gguf")


def test_commands_take_a_vector_in_any_format(tiny_path: Path, vector: ControlVector, tmp_path: Path) -> None:
    said = []
    for kind in VECTOR_FORMATS:
        path = str(tmp_path / f"v.{kind}")
        write_any_vector(path, vector)
        arguments = ["--vector", path, "--gate", "1:below:1000", "--gate-vector", path, "--strengths=-2,0,2", "-n", "4"]
        result = CliRunner().invoke(
            main, ["generate", str(tiny_path), *arguments, "-p", WORDS, "--threads", "1", "--json"]
        )
        assert (result.exit_code, result.stderr) == (0, "")
        said.append([row["text"] for row in json.loads(result.stdout)["rows"]])
        shown = CliRunner().invoke(main, ["show", path, "--json"])
        assert [row["layer"] for row in json.loads(shown.stdout)["layers"]] == [1, 3]
    assert said[0] == said[1] == said[2] and len(set(said[0])) == 3  # and each strength says something else


# --- repeng ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_ours_to_repeng(
    engine: Engine, stock: StockRunner, vector: ControlVector, repeng: Any, tmp_path: Path, kind: VectorFormat
) -> None:
    write_any_vector(tmp_path / f"first.{kind}", vector)
    write_any_vector(tmp_path / "v.gguf", read_any_vector(tmp_path / f"first.{kind}")[0])
    found = repeng.ControlVector.import_gguf(tmp_path / "v.gguf")
    assert found.model_type == vector.model_hint and sorted(found.directions) == list(vector.layers)
    for il, row in vector.directions.items():
        np.testing.assert_array_equal(found.directions[il], row)
    buffer = np.stack([found.directions.get(il, np.zeros(engine.n_embd, np.float32)) for il in (1, 2, 3)])
    np.testing.assert_array_equal(theirs(engine, stock, buffer), ours(engine, vector))


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_repeng_to_ours(
    engine: Engine, stock: StockRunner, vector: ControlVector, repeng: Any, tmp_path: Path, kind: VectorFormat
) -> None:
    repeng.ControlVector("llama", dict(vector.directions)).export_gguf(str(tmp_path / "theirs.gguf"))
    read, notes = read_any_vector(tmp_path / "theirs.gguf", architecture="llama")
    assert notes == () and read.layers == vector.layers
    write_any_vector(tmp_path / f"v.{kind}", read)
    again = read_any_vector(tmp_path / f"v.{kind}")[0]
    for il, row in vector.directions.items():
        np.testing.assert_array_equal(again.directions[il], row)
    buffer = load_like_llama_cpp(tmp_path / "theirs.gguf")
    np.testing.assert_array_equal(ours(engine, again, 0.6), theirs(engine, stock, buffer, 0.6))


def test_there_and_back_through_repeng(vector: ControlVector, repeng: Any, tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", vector)
    repeng.ControlVector.import_gguf(tmp_path / "v.gguf").export_gguf(str(tmp_path / "back.gguf"))
    back = read_vector(tmp_path / "back.gguf")
    for il, row in vector.directions.items():
        np.testing.assert_array_equal(back.directions[il], row)


def test_repeng_finds_nothing_to_add_where_it_would_be_wrong(
    vector: ControlVector, repeng: Any, tmp_path: Path
) -> None:
    write_vector(tmp_path / "v.gguf", vector.with_metadata(operator="ablate"))
    assert repeng.ControlVector.import_gguf(tmp_path / "v.gguf").directions == {}


# --- llama-perplexity, which reads vectors as all of llama.cpp's tools do and prints a figure to compare with ---------

N_CHUNK = 64  # tokens, of which it scores the second half: position 32 predicts token 33, ...
TEXT = "the people of the old world made many good things after the war and would not say what was right " * 8


@pytest.fixture(scope="module")
def perplexity() -> Path:
    found = shutil.which("llama-perplexity", path=os.environ.get("STEERCPP_LLAMA_BIN"))
    if found is None:
        pytest.skip("llama-perplexity is not installed; set STEERCPP_LLAMA_BIN")
    return Path(found)


def printed(perplexity: Path, model: Path, folder: Path, *options: str) -> tuple[float, str]:
    """The perplexity of the first chunk, and all that the tool says."""
    (folder / "text.txt").write_text(TEXT)
    command = [
        perplexity, "-m", model, "-f", "text.txt", "--ctx-size", N_CHUNK, "--batch-size", N_CHUNK, "--chunks", 4,
        "--threads", 1, "--flash-attn", "off", *options,
    ]  # fmt: skip
    for _ in range(20):  # now and then it ends before all that it has to say is written
        ended = subprocess.run(
            [str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-500:]
        if found := re.search(r"\[1\]([0-9.]+),", ended.stdout):
            return float(found[1]), ended.stdout
    pytest.fail(f"no figure in what it says: {ended.stdout[-500:]}")


def measured(engine: Engine, vector: ControlVector, strength: float) -> float:
    tokens = engine.encode(TEXT)[:N_CHUNK]
    half = N_CHUNK // 2 + 1
    (batch,) = engine.pack([Query(tokens[:half], (tokens[half:],))])
    ((logprob,),) = engine.logprobs(batch, vector=vector, strengths=strength)
    return float(np.exp(-logprob / (N_CHUNK - half)))


def test_the_tools_of_llama_cpp_steer_as_we_do(
    perplexity: Path, tiny_path: Path, vector: ControlVector, tmp_path: Path
) -> None:
    write_vector(tmp_path / "v.gguf", vector)
    write_vector(tmp_path / "strong.gguf", baked(vector, 1.7))
    scaled, _ = printed(perplexity, tiny_path, tmp_path, "--control-vector-scaled", "v.gguf:1.7")
    assert printed(perplexity, tiny_path, tmp_path, "--control-vector", "strong.gguf")[0] == scaled
    with Engine(tiny_path, n_ctx=512, threads=1, flash_attn="off") as engine:
        # Its log-probabilities are sums in float32, and it prints four places.
        assert measured(engine, vector, 1.7) == pytest.approx(scaled, rel=5e-6, abs=5e-5)
        assert measured(engine, vector, 1.699) != pytest.approx(scaled, rel=5e-5), "the figure does not show strengths"


@pytest.mark.parametrize("metadata", [{"operator": "ablate"}, {"positions": "generated"}])
def test_the_tools_of_llama_cpp_say_so_and_do_not_steer_where_they_would_be_wrong(
    perplexity: Path, tiny_path: Path, vector: ControlVector, tmp_path: Path, metadata: dict[str, str]
) -> None:
    """They go on unsteered: common_init_from_params returns its context where no vector could be loaded."""
    write_vector(tmp_path / "v.gguf", vector.with_metadata(**metadata))
    figure, said = printed(perplexity, tiny_path, tmp_path, "--control-vector", "v.gguf")
    assert "no valid control vector files passed" in said
    assert figure == printed(perplexity, tiny_path, tmp_path)[0]
