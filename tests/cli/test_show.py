"""`steercpp show` as a user meets it: table, JSON, notes, and one sentence for each bad file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from vector_bytes import I32, gguf_bytes, key, keys, tensor, text

from steercpp.cli.main import main
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.gguf import write_vector

HASH = "0123456789abcdef" * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directions = {il: np.array([0.6, 0.8, 0.0], dtype=np.float32) * il for il in (2, 3)}
    metadata: dict[str, MetaValue] = {
        "method": "pca",
        "explained": (0.75, 0.5),
        "auc": (0.875, 1.0),
        "stability": (1.0,),
        "pairs_sha256": HASH,
        "label": "[/INST] [bold]x",
    }
    write_vector(tmp_path / "v.gguf", ControlVector(directions, "llama", 8, metadata))
    return tmp_path / "v.gguf"


def show(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["show", *map(str, arguments)], env={"COLUMNS": "80"})


def test_json_is_one_document_and_nothing_else(path: Path) -> None:
    result = show(path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "file": str(path),
        "model_hint": "llama",
        "n_layer": 8,
        "n_embd": 3,
        "layers": [
            {
                "layer": 2,
                "norm": pytest.approx(2, rel=1e-6),
                "explained": 0.75,
                "auc": 0.875,
            },  # the elements are float32
            {"layer": 3, "norm": pytest.approx(3, rel=1e-6), "explained": 0.5, "auc": 1.0},
        ],
        "metadata": {"method": "pca", "pairs_sha256": HASH, "label": "[/INST] [bold]x", "stability": [1.0]},
        "notes": [],
    }


def test_table_for_people(path: Path) -> None:
    result = show(path)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["2", "2.000", "75.0%", "0.875"] in lines and ["3", "3.000", "50.0%", "1.000"] in lines
    assert ["blocks", "8"] in lines
    assert "[/INST] [bold]x" in result.stdout  # not read as markup
    assert f"{HASH[:16]}…" in result.stdout and HASH not in result.stdout
    body = result.stdout.splitlines()[1:]  # the first line is the path, which is never broken
    assert max(map(len, body)) <= 80


def test_notes_on_a_file_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "c.gguf"
    path.write_bytes(gguf_bytes(keys(kind=I32), [tensor("direction.1", [2.0, 0.0]), tensor("direction.2", [1.0, 0.0])]))
    result = show(path)
    assert result.exit_code == 0
    assert result.stdout.count("note: ") == 2 and "llama-cvector-generator" in result.stdout
    assert len(json.loads(show(path, "--json").stdout)["notes"]) == 2


def test_depth_of_a_foreign_file_is_a_lower_bound(tmp_path: Path) -> None:
    path = tmp_path / "r.gguf"
    path.write_bytes(gguf_bytes(keys(hint=None), [tensor("direction.5", [1.0])]))
    result = show(path)
    assert "at least 6" in result.stdout and "of unknown architecture" in result.stdout


def test_terminal_codes_in_a_file_are_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "t.gguf"
    values = [*keys(hint="\x1b[2J"), key("steercpp.label", 8, text("a\x1b]0;b\nc"))]
    path.write_bytes(gguf_bytes(values, [tensor("direction.5", [1.0])]))
    result = show(path)
    assert result.exit_code == 0 and "\x1b" not in result.stdout
    assert r"\x1b[2J" in result.stdout and r"a\x1b]0;b\nc" in result.stdout


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "the file is empty"),
        (b"GGUF\x03", "truncated"),
        (gguf_bytes(keys("llama"), []), "general.architecture: 'llama'"),
        (gguf_bytes(keys(), [tensor("direction.0", [1.0])]), "direction.0: layer 0 cannot be steered"),
    ],
)
def test_a_bad_file_is_one_sentence_and_exit_code_1(tmp_path: Path, raw: bytes, expected: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(raw)
    for arguments in ((path,), (path, "--json")):
        result = show(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"error: {path}: ") and result.stderr.count("\n") == 1
        assert expected in result.stderr


def test_missing_file_and_missing_argument(tmp_path: Path) -> None:
    result = show(tmp_path / "none.gguf")
    assert result.exit_code == 1 and "none.gguf: cannot be read: No such file" in result.stderr
    assert show().exit_code == 2


def test_help_has_an_example() -> None:
    assert "Example: steercpp show" in show("-h").stdout
