"""`steercpp doctor VECTOR` as a user meets it: exit codes, JSON, the repaired file, and what is wrong usage."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cvector_generator as tool
import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import ROOT
from vector_bytes import gguf_bytes, keys, tensor

from steercpp.cli.main import main
from steercpp.data.pair_formats import open_text_pairs
from steercpp.engine.engine import Engine
from steercpp.extraction.activations_file import dump
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector, write_vector

MEAN, PCA = (tool.vector_path("tiny", method) for method in ("mean", "pca-default"))
PAIRS = ("--positive-file", tool.POSITIVE, "--negative-file", tool.NEGATIVE)


def doctor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)], env={"COLUMNS": "80"})


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    rows = {il: np.eye(256, dtype=np.float32)[il] for il in (1, 2)}
    write_vector(tmp_path / "sound.gguf", ControlVector(rows, "llama", 4))
    return tmp_path / "sound.gguf"


def test_a_sound_vector(tmp_path: Path, sound: Path, tiny_path: Path) -> None:
    result = doctor(sound, "--model", tiny_path)
    assert (result.exit_code, result.stderr) == (0, "") and "No fault found." in result.stdout
    result = doctor(sound, "--repair", tmp_path / "out.gguf")
    assert result.exit_code == 0 and "Nothing to repair." in result.stdout and not (tmp_path / "out.gguf").exists()
    data = json.loads(doctor(sound, "--json").stdout)
    assert data["findings"] == [] and data["repaired"] is data["next"] is None and data["layers"] == [1, 2]


def test_a_fault_is_exit_code_1_and_names_the_next_command() -> None:
    result = doctor(MEAN)
    assert (result.exit_code, result.stderr) == (1, "")
    assert "layer-shift" in result.stdout and "block k-1 but is added at block k" in words(result)
    command = f"steercpp doctor {MEAN} --repair tiny-mean-repaired.gguf"
    assert command in result.stdout.splitlines() and json.loads(doctor(MEAN, "--json").stdout)["next"] == command
    body = [line for line in result.stdout.splitlines() if str(MEAN) not in line]
    assert max(map(len, body)) <= 80


def test_repair_with_model_and_pairs(tmp_path: Path, tiny_path: Path) -> None:
    out = tmp_path / "out.gguf"
    result = doctor(MEAN, "--model", tiny_path, "--threads", "1", *PAIRS, "--repair", out)
    assert result.exit_code == 0 and "No fault is left." in result.stdout and str(out) in result.stdout
    assert "direction.k is moved to layer k-1" in words(result) and "token 'mean'" in words(result)
    assert read_vector(out).layers == (0, 1, 2)
    result = doctor(MEAN, "--repair", tmp_path / "out.npz")  # GGUF was written under that name
    assert result.exit_code == 1 and "end its name in .gguf" in result.stderr and not (tmp_path / "out.npz").exists()
    result = doctor(MEAN, "--repair", out)
    assert result.exit_code == 1 and "exists already" in result.stderr and result.stdout == ""
    data = json.loads(doctor(MEAN, "--repair", out, "--force", "--json").stdout)
    assert data["repaired"]["file"] == str(out) and data["repaired"]["findings"] == [] and data["repaired"]["changes"]


def test_what_no_repair_can_mend_writes_nothing(tmp_path: Path) -> None:
    result = doctor(PCA, "--repair", tmp_path / "out.gguf")
    assert result.exit_code == 1 and not (tmp_path / "out.gguf").exists()
    assert "pca-fault" in result.stdout and "cannot be repaired from the file; nothing was written" in words(result)
    assert (
        "steercpp extract MODEL.gguf --positive-file positive.txt --negative-file negative.txt --method pca "
        "--layers all --token mean -o tiny-pca-default-again.gguf"
    ) in result.stdout.splitlines()


def test_the_command_to_extract_again_has_the_files_that_were_given(tiny_path: Path) -> None:
    step = json.loads(doctor(PCA, "--model", tiny_path, *PAIRS, "--json").stdout)["next"]
    assert step.startswith(f"steercpp extract {tiny_path} --positive-file {tool.POSITIVE} --negative-file")


def test_a_repair_that_leaves_a_fault_is_exit_code_1(tmp_path: Path, tiny_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [tensor(f"direction.{il}", rng.standard_normal(256).tolist()) for il in (1, 2, 9)]
    (tmp_path / "v.gguf").write_bytes(gguf_bytes(keys(), rows))
    result = doctor(tmp_path / "v.gguf", "--model", tiny_path, *PAIRS, "--repair", tmp_path / "out.gguf")
    assert result.exit_code == 1 and "What is left:" in result.stdout and "left out: layer 9" in result.stdout
    assert read_vector(tmp_path / "out.gguf").layers == (1, 2)


def test_a_dump_stands_for_model_and_pairs(tmp_path: Path, tiny_path: Path) -> None:
    """One of all tokens is read as the vector was made, by llama-cvector-generator from all of them."""
    stored = tmp_path / "a.safetensors"
    with Engine(tiny_path, threads=1) as engine:
        dump(engine, open_text_pairs(tool.POSITIVE, tool.NEGATIVE), stored, token="all")
    data = json.loads(doctor(MEAN, "--model", stored, "--json").stdout)
    assert [one["code"] for one in data["findings"]] == ["layer-shift"] and data["token"] == "mean"
    assert all(one["below"] > one["own"] for one in data["relations"])


def test_the_token_is_taken_as_named(tmp_path: Path, tiny_path: Path) -> None:
    """No option said whose activations a file without metadata is to be held to; the next command repeats it."""
    stored = tmp_path / "a.safetensors"
    with Engine(tiny_path, threads=1) as engine:
        dump(engine, open_text_pairs(tool.POSITIVE, tool.NEGATIVE), stored, token="all")
    for given in ((tiny_path, "--threads", "1", *PAIRS), (stored,)):
        data = json.loads(doctor(MEAN, "--model", *given, "--token", "-2", "--json").stdout)
        assert data["token"] == "-2" and all(one["own"] is not None for one in data["relations"])
        assert "--token -2" in data["next"]
    with Engine(tiny_path, threads=1) as engine:
        dump(engine, open_text_pairs(tool.POSITIVE, tool.NEGATIVE), stored, token="last", force=True)
    result = doctor(MEAN, "--model", stored, "--token", "mean")
    assert result.exit_code == 1 and "holds the activations of token last, not mean" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--repair", "out.gguf"), "are for a VECTOR"),
        (PAIRS, "are for a VECTOR"),
        ((MEAN, *PAIRS), "--pairs needs --model"),
        (("--token", "last"), "are for a VECTOR"),
        ((MEAN, "--token", "mean"), "--token is for --pairs or a dump"),
        ((MEAN, "--model", "m.gguf", "--token", "mean"), "--token is for --pairs or a dump"),
        ((MEAN, "--model", "a.safetensors", "--token", "all"), "--token all is for steercpp dump"),
        ((MEAN, "--model", "a.safetensors", "--token", "some"), "is not last, mean, answer"),
        ((MEAN, "--model", "a.safetensors", *PAIRS), "leave --pairs out"),
        ((MEAN, "--force"), "--force is for --repair"),
    ],
)
def test_wrong_usage(arguments: tuple[str | Path, ...], message: str) -> None:
    result = doctor(*arguments)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split())


def test_files_that_cannot_be_read(tmp_path: Path, tiny_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    for arguments, expected in (
        ((tmp_path / "none.gguf",), "none.gguf: cannot be read"),
        ((tiny_path,), "is a model, not a control vector; give it as --model"),
        ((MEAN, "--model", tmp_path / "none.gguf"), "none.gguf: the model cannot be read"),
        ((MEAN, "--model", tmp_path / "bad.safetensors"), "bad.safetensors"),
        ((MEAN, "--repair", tmp_path / "none" / "out.gguf"), "does not exist"),
    ):
        result = doctor(*arguments)
        assert (result.exit_code, result.stdout) == (1, "") and expected in result.stderr


def test_the_page_lists_every_fault() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "steercpp/doctor").glob("*.py")))
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) == set(
        re.findall(r'Finding\(\s*"([a-z0-9-]+)"', source)
    )
