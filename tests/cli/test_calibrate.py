"""`steercpp calibrate` as a user meets it: table, JSON, the file it writes, every kind of text, and every bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_sweep import write_items

from steercpp.cli.main import main
from steercpp.data.items import read_behavior, read_choices
from steercpp.data.pairs import ContrastPair, read_pairs
from steercpp.data.prompts import Message
from steercpp.engine.engine import Engine
from steercpp.sweeps.calibration import calibrate
from steercpp.sweeps.calibration_texts import file_texts, item_texts, pair_texts
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import read_any_vector
from steercpp.vectors.gguf import read_vector, write_vector

WORDS = "Do you like the world and the people in it? " * 60


def run(*arguments: str | Path, command: str = "calibrate") -> Result:
    return CliRunner().invoke(main, [command, *map(str, arguments), "--threads", "1"], env={"COLUMNS": "80"})


@pytest.fixture
def files(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """MODEL and a vector of two layers, in a folder of its own that is the working directory; -o is not among them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    directions = {il: rng.standard_normal(256).astype(np.float32) for il in (1, 2)}
    write_vector("v.gguf", ControlVector(directions, "llama", 4).with_metadata(method="mean"))
    write_items(tmp_path)
    Path("t.txt").write_text(WORDS, encoding="utf-8")
    return [str(tiny_path), "--vector", "v.gguf"]


def found(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_what_is_found_is_the_librarys_own_and_goes_into_the_file(files: list[str], tiny_engine: Engine) -> None:
    data = found(run(*files, "--behavior", "b.jsonl", "--kl", "0.05", "--sign", "-", "-o", "o.gguf", "--json"))
    texts = item_texts(tiny_engine, read_behavior("b.jsonl"))
    same = calibrate(tiny_engine, read_vector("v.gguf"), texts, kl=0.05, sign=-1)
    assert (data["strength"], data["kl"], data["n_tokens"]) == (same.strength, same.kl, same.n_tokens)
    assert [row["share"] for row in data["layers"]] == list(same.shares.values())
    assert data["tried"] == [{"strength": strength, "kl": kl} for strength, kl in same.tried]
    assert (data["n_texts"], data["target"], data["quantile"], data["file"]) == (8, 0.05, 0.95, "o.gguf")
    before, after = read_vector("v.gguf"), read_vector("o.gguf")
    assert after.metadata == same.described(before).metadata and after.metadata["method"] == "mean"
    for il in (1, 2):
        np.testing.assert_array_equal(after.directions[il], before.directions[il])


def test_a_table_within_80_columns(files: list[str]) -> None:
    result = run(*files, "--text", "t.txt", "-o", "o.gguf")
    assert (result.exit_code, result.stderr) == (0, "")
    *lines, last = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].rstrip() == "o.gguf"
    assert (
        "nats of KL" in lines[1]
        and "95% quantile" in result.stdout
        and "by rounding alone" in result.stdout
        and "length of the push" in result.stdout
    )
    assert last.startswith("steercpp sweep ") and last.endswith(
        "--vector o.gguf --unit kl --kl 0.1 --behavior B.jsonl --task T.jsonl"
    )


@pytest.mark.parametrize(
    ("options", "n_texts"),
    [
        (("--pairs", "p.jsonl"), 16),
        (("--pairs", "p.jsonl", "--chat"), 16),
        (("--task", "c.jsonl", "--task", "d.jsonl"), 16),
        (("--text", "t.txt", "--n-ctx", "100"), None),
    ],
)
def test_every_kind_of_text(files: list[str], options: tuple[str, ...], n_texts: int | None) -> None:
    Path("d.jsonl").write_text(Path("c.jsonl").read_text().replace('"c-', '"d-').replace("Which", "What"))
    data = found(run(*files, *options, "-o", "o.gguf", "--json"))
    assert data["kl"] == pytest.approx(0.1, rel=0.01) and data["n_texts"] == (n_texts or data["n_texts"]) > 4


def test_the_texts_are_what_their_names_say(files: list[str], tiny_engine: Engine) -> None:
    whole = tiny_engine.encode(WORDS)
    pieces = file_texts(tiny_engine, "t.txt")
    assert len(whole) > 512 and [len(piece) for piece in pieces[:-1]] == [512] * (len(pieces) - 1)
    assert sum((piece[1:] for piece in pieces), whole[:1]) == whole and {piece[0] for piece in pieces} == {1}
    pairs = [
        *read_pairs("p.jsonl")[:1],
        ContrastPair("x", (Message("user", "Do you"),), (Message("user", "Do you"),), " yes", " no"),
    ]
    texts = pair_texts(tiny_engine, pairs)
    assert texts[:2] == [tiny_engine.encode(pairs[0].positive), tiny_engine.encode(pairs[0].negative)]
    assert len(texts) == 4 and texts[2] != texts[3] and texts[2][:4] == texts[3][:4]  # prompt and answer
    (choice,) = item_texts(tiny_engine, read_choices("c.jsonl")[:1])
    assert tiny_engine.detokenize(choice).endswith("The answer is")


def test_layers_are_kept_and_other_formats_written(files: list[str]) -> None:
    data = found(run(*files, "--text", "t.txt", "--layers", "2", "-o", "o.safetensors", "--json"))
    assert [row["layer"] for row in data["layers"]] == [2]
    vector, _ = read_any_vector("o.safetensors")
    assert vector.layers == (2,) and vector.metadata["calibration.strength"] == data["strength"]


def test_the_embedded_model_brings_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("-o", "o.gguf")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "steercpp sweep --vector o.gguf --unit kl --kl 0.1"
    vector = read_vector("o.gguf")
    assert vector.layers == (5, 6) and vector.metadata["calibration.kl_measured"] == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("MODEL --text t.txt -o o.gguf", 2, "MODEL needs --vector"),
        ("MODEL --vector v.gguf -o o.gguf", 2, "MODEL needs --text"),
        ("MODEL --vector v.gguf --text t.txt --pairs p.jsonl -o o.gguf", 2, "exclude each other"),
        ("MODEL --vector v.gguf --text t.txt", 2, "'-o' / '--out'"),
        ("MODEL --vector v.gguf --text t.txt -o o.gguf --kl 0", 2, "--kl"),
        ("MODEL --vector v.gguf --text t.txt -o v.gguf", 1, "v.gguf: exists already"),
        ("MODEL --vector v.gguf --text t.txt -o o.txt", 1, "o.txt: "),
        ("MODEL --vector v.gguf --text none.txt -o o.gguf", 1, "none.txt: cannot be read"),
        ("MODEL --vector v.gguf --text bad.txt -o o.gguf", 1, "bad.txt: byte 1 is not UTF-8"),
        ("MODEL --vector v.gguf --text empty.txt -o o.gguf", 1, "empty.txt: holds no text"),
        ("MODEL --vector v.gguf --text t.txt -o o.gguf --layers 3", 1, "no direction at layer 3"),
        ("MODEL --vector rotate.gguf --text t.txt -o o.gguf", 1, "rotate.gguf: is not meant to be added"),
        ("MODEL --vector v.gguf --text t.txt -o o.gguf --kl 900", 1, "no positive strength"),
        ("MODEL --vector v.gguf --pairs long.jsonl -o o.gguf", 1, "long.jsonl:1: positive prompt: "),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_writes_nothing(files: list[str], arguments: str, code: int, words: str) -> None:
    Path("bad.txt").write_bytes(b"a\xff")
    Path("empty.txt").write_text(" \n")
    Path("long.jsonl").write_text(json.dumps({"positive": WORDS * 9, "negative": "no"}))
    write_vector("rotate.gguf", read_vector("v.gguf").with_metadata(operator="rotate"))
    result = run(*(files[0] if word == "MODEL" else word for word in arguments.split()))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert words in " ".join(result.stderr.split())
    assert code == 2 or len(result.stderr.splitlines()) == 1
    assert not Path("o.gguf").exists()


def test_generate_and_sweep_in_pushes(files: list[str], tiny_engine: Engine) -> None:
    prompt = "Do you like the world"
    options = ("-p", prompt, "--strengths=-1,0,1", "-n", "2", "--unit", "kl", "--kl", "0.03", "--json")
    data = found(run(*files, *options, command="generate"))
    push = calibrate(tiny_engine, read_vector("v.gguf"), [tiny_engine.encode(prompt)], kl=0.03)
    assert (data["unit"], data["kl"], data["vector"]["calibration"]["strength"]) == ("kl", 0.03, push.strength)
    strengths = f"--strengths=-{push.strength!r},0,{push.strength!r}"
    plain = found(run(*files, "-p", prompt, strengths, "-n", "2", "--json", command="generate"))
    assert [row["text"] for row in data["rows"]] == [row["text"] for row in plain["rows"]]
    assert (plain["unit"], plain["kl"], plain["vector"]["calibration"]) == ("length", None, None)
    items = ("--behavior", "b.jsonl", "--task", "c.jsonl", "--random", "0", "--unit", "kl", "--kl", "0.03")
    result = run(*files, *items, "--strengths=-1,1", "--out", "run", command="sweep")
    assert result.exit_code == 0, result.output
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert (manifest["plan"]["unit"], manifest["plan"]["kl"]) == ("kl", 0.03)
    for command, asked in (("generate", ("-p", prompt)), ("sweep", items[:4])):
        wrong = run(*files, *asked, "--kl", "0.1", command=command)
        assert wrong.exit_code == 2 and "--kl is for --unit kl" in wrong.stderr


def test_the_next_command_asks_for_the_same_pushes(files: list[str]) -> None:
    """It used to sweep pushes of 0.1 nats of the positive sign, whatever had been calibrated."""
    last = run(*files, "--text", "t.txt", "-o", "o.gguf", "--kl", "0.2", "--sign", "-").stdout.splitlines()[-1]
    assert "--unit kl --kl 0.2 --direction - " in last
