"""Paths whose bytes are not UTF-8: read, written, kept in manifests and stores, and told, without a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_sweep import write_items
from tiny_model import split

from steercpp.cli.main import main
from steercpp.encoding import spelled
from steercpp.engine.engine import Engine
from steercpp.errors import ModelError
from steercpp.runs.manifest import read_manifest
from steercpp.vectors.formats import read_any_vector

pytestmark = pytest.mark.slow

PRESET = 'about = "A."\n[vectors.v]\nmodel = "chat"\npairs = "refusal"\nmethod = "mean"\nlayers = "1-2"\n'
PRESET += '[runs.r]\nmodel = "chat"\nvector = "v"\nstrengths = "-1,1"\nbehavior = "refusal"\nlimit = 4\n'


def strange(name: str) -> str:
    """The name with a byte before its ending that no UTF-8 text has there."""
    stem, dot, ending = name.partition(".")
    return os.fsdecode(stem.encode() + b"\xe9" + (dot + ending).encode())


@pytest.fixture(scope="module")
def folder(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with such a name, and such files in it: a model, pairs, items, a matcher, a preset, a curve."""
    place = tmp_path_factory.mktemp("paths") / strange("folder")
    try:
        place.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    for file in write_items(place):
        file.rename(place / strange(file.name))
    (place / strange("m.gguf")).symlink_to(tiny_path)
    (place / strange("matcher.json")).write_text('{"aligned": {"phrases": ["no"]}, "misaligned": {"phrases": ["yes"]}}')
    (place / strange("s.toml")).write_text(PRESET)
    (place / strange("c.csv")).write_text("strength,alignment\n" + "".join(f"{s},{s / 9}\n" for s in range(-4, 5)))
    return place


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, words, env={"COLUMNS": "100"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


ENGINE = ("--threads", "1")
SWEEP = ("--strengths=-1:1:1", "--random", "1", "--max-new-tokens", "3")
COMMANDS = (
    ("extract", "m.gguf", *ENGINE, "--pairs", "p.jsonl", "-o", "v.gguf"),
    ("convert", "v.gguf", "v.npz"),
    ("convert", "v.gguf", "v.safetensors"),
    ("show", "v.npz", "--figure", "f.svg"),
    ("doctor", "v.gguf", "--model", "m.gguf"),
    ("combine", "v.gguf", "v.npz", "-o", "o.gguf"),
    ("cosine", "v.gguf", "v.safetensors"),
    ("dump", "m.gguf", *ENGINE, "--pairs", "p.jsonl", "-o", "a.safetensors"),
    ("extract", "--activations", "a.safetensors", "-o", "w.gguf"),
    ("sweep", "m.gguf", *ENGINE, *SWEEP, "--vector", "v.gguf", "--behavior", "b.jsonl", "--task", "c.jsonl"),
    ("sweep", "m.gguf", *ENGINE, "--vector", "v.gguf", "--behavior", "b.jsonl", "--show-prompts", "1"),
    ("report", "run"),
    ("score", "run", "--matcher", "matcher.json", "--out", "scores"),
    ("constants", "run", *ENGINE),
    ("generate", "m.gguf", *ENGINE, "--vector", "v.gguf", "-p", "the", "-n", "3"),
    ("cross", "m.gguf", *ENGINE, "--vector", "v.gguf:1", "--behavior", "b.jsonl", "--random", "1", "--out", "x"),
    ("scan", "m.gguf", *ENGINE, "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--task", "c.jsonl", "--windows", "2"),
    ("transfer", "m.gguf", "m.gguf", *ENGINE, "--vector", "v.gguf", "--pairs", "p.jsonl", "--method", "mean"),
    ("study", "s.toml", "--chat", "m.gguf", *ENGINE, "--out", "study"),
    (
        "synthesize",
        "m.gguf",
        *ENGINE,
        "--vector",
        "v.gguf",
        "--requests",
        "b.jsonl",
        "--strengths",
        "1:-1",
        "-o",
        "y.jsonl",
    ),  # fmt: skip
    ("fit", "c.csv"),
)
NAMED = ("run", "scores", "x", "study")
FORCED = ("extract", "convert", "show", "combine", "dump", "synthesize")


def test_every_command_takes_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: what one writes the next one reads."""
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        names = [strange(word) if "." in word and word[0] != "-" or word in NAMED else word for word in command[1:]]
        words = [command[0], *names]
        if command[0] in ("sweep", "scan", "transfer") and "--show-prompts" not in command:
            words += ["--out", strange("run" if command[0] == "sweep" else command[0])]
        plain = run(*words)
        assert plain.exit_code == 0, plain.output
        assert "udc" not in plain.output, f"{command[0]} spells them in another way"
        assert r"\xe9" in plain.output or command[0] in ("generate", "fit"), f"{command[0]} names no file"
        told = run(*words, "--json", *(["--force"] if command[0] in FORCED else []))
        assert told.exit_code == 0, told.output
        for document in told.stdout.splitlines() if told.stdout.startswith('{"') else [told.stdout]:
            json.loads(document)
    manifest = read_manifest(Path(strange("run")))
    assert manifest.model.path == strange("m.gguf") and manifest.model.file == r"m\xe9.gguf"
    assert read_any_vector(Path(strange("v.npz")))[0].metadata["model_file"] == r"m\xe9.gguf"


def test_errors_spell_them(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    other = Path("other")
    other.mkdir()
    (other / strange("notes.txt")).touch()
    Path(strange("cut.gguf")).write_bytes((folder / strange("m.gguf")).read_bytes()[:100_000])
    for words in (
        ("show", strange("no.gguf")),
        ("sweep", strange("cut.gguf"), "--vector", "v", "--behavior", "refusal"),
        ("sweep", strange("nothing"), "--vector", "v", "--behavior", strange("b.jsonl")),
        ("score", strange("run")),
        ("fit", strange("c.csv")),
        ("score", strange("run"), "--matcher", strange("m.json")),
        ("sweep", "--limit", "2", "--out", str(other)),
    ):
        result = run(*words)
        assert result.exit_code == 1 and r"\xe9" in result.stderr and "udc" not in result.stderr, result.output
    half = run("sweep", "--instruction", strange("text"), "--limit", "2", "--out", "out")
    assert half.exit_code == 1 and r"\udce9 is half of a character" in half.stderr, half.output


def test_llama_cpp_names_a_shard_with_such_a_name(tiny_path: Path, tmp_path: Path) -> None:
    """What it logs becomes an error's text: bytes that are not UTF-8 are spelled."""
    folder = tmp_path / strange("folder")
    try:
        first = split(tiny_path, folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with Engine(first, threads=1) as engine:
        assert engine.n_layer == 4
    renamed = first.rename(folder / strange("model.gguf"))
    with pytest.raises(ModelError, match="is the first shard of a split model, renamed"):
        Engine(renamed)


def test_names_are_spelled_so_that_any_file_can_hold_them() -> None:
    assert spelled("plain é") == "plain é" and spelled(Path(strange("a.gguf"))) == r"a\xe9.gguf"
