"""`steercpp dump` as a user meets it: the file, the JSON, the options for pairs, and one sentence where it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import EMBEDDED
from safetensors.numpy import load_file
from tiny_model import write_tiny_model

from steercpp.cli.main import main
from steercpp.data.pair_formats import PairFile, open_pairs, open_text_pairs
from steercpp.data.prompts import Message
from steercpp.engine.engine import Engine
from steercpp.extraction.activations_file import read_activations

LINES = [
    {"positive": "The girl was very happy and", "negative": "The girl was very sad and"},
    {"prompt": "Shall I help you?", "positive": " yes you can", "negative": " no"},
    {"positive": "yes", "negative": "no"},
]
ASKED = {"question": "is it?", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}


def put(path: Path, lines: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return put(tmp_path / "pairs.jsonl", LINES)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["dump", "--threads", "1", *map(str, arguments)], env={"COLUMNS": "80"})


def test_json_and_file_agree(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    result = run(tiny_path, "--pairs", pairs, "-o", out, "--layers", "1-2", "--token", "-1", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    found = read_activations(out)
    assert data == {
        "path": str(out),
        "n_bytes": out.stat().st_size,
        "n_pairs": 3,
        "n_embd": 256,
        "layers": [1, 2],
        **found.notes,
    }
    assert data["token"] == "-1" and data["pairs_sha256"] == open_pairs(pairs).sha256()
    with Engine(tiny_path, threads=1) as engine:
        tokens = engine.encode("Shall I help you? yes you can")
        # K/V in float16 in another batch: 1e-2 at the most, as in test_engine.py
        np.testing.assert_allclose(found.at(2)[0][1], engine.activations([tokens], layers=[2])[0, 0], rtol=0, atol=1e-2)


def test_what_a_person_sees(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    result = run(tiny_path, "--pairs", pairs, "-o", out)
    assert (result.exit_code, result.stderr) == (0, "")
    for words in ("3 pairs, 0.0 MiB", "0-3 of 4, n_embd 256", "last, template auto", "tiny-F32.gguf (llama)"):
        assert words in result.stdout
    assert result.stdout.splitlines()[-1] == f"steercpp extract --activations {out} -o V.gguf"


def test_the_command_that_it_names_runs(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out, vector = tmp_path / "a.safetensors", tmp_path / "v.gguf"
    named = run(tiny_path, "--pairs", pairs, "-o", out).stdout.splitlines()[-1].replace("V.gguf", str(vector))
    direct = tmp_path / "w.gguf"
    for command in (
        named.split()[1:],
        ["extract", str(tiny_path), "--pairs", str(pairs), "--threads", "1", "-o", str(direct)],
    ):
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, result.stderr) == (0, "")
    assert vector.read_bytes() == direct.read_bytes()  # by way of the file or not: the same bits


def test_without_a_model_the_embedded_one_and_its_pairs(tmp_path: Path) -> None:
    if not EMBEDDED.exists():
        pytest.skip("models/embedded.gguf is not there; make it with `make model`")
    result = run("-o", tmp_path / "a.safetensors", "--layers", "5", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert (data["model_file"], data["n_pairs"], data["layers"]) == (EMBEDDED.name, 64, [5])


@pytest.mark.parametrize(("token", "shape"), [("mean", (3, 2, 4, 256)), ("all", (4, 256)), ("0", (3, 2, 4, 256))])
def test_tokens(tiny_path: Path, pairs: Path, tmp_path: Path, token: str, shape: tuple[int, ...]) -> None:
    result = run(tiny_path, "--pairs", pairs, "-o", tmp_path / "a", "--token", token, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["token"] == token
    tensors = load_file(tmp_path / "a")
    assert tensors["rows" if token == "all" else "activations"].shape[-len(shape) :] == shape


def test_every_source_of_pairs(tiny_path: Path, tmp_path: Path) -> None:
    asked, suffixes = tmp_path / "asked.json", tmp_path / "suffixes.json"
    asked.write_text(json.dumps([ASKED]))
    suffixes.write_text(json.dumps(["That game", ""]))
    (tmp_path / "p.txt").write_text("good\\nday\n\nyes\n")
    (tmp_path / "n.txt").write_text("bad\\nday\nno\n")
    texts: list[str | Path] = ["--positive-file", tmp_path / "p.txt", "--negative-file", tmp_path / "n.txt"]
    personas = [("happy", "sad"), ("glad", "down")]
    told = [word for both in personas for word in ("--persona", *both)]
    cases: dict[str, tuple[list[str | Path], PairFile]] = {
        "caa": (["--pairs", asked], open_pairs(asked)),
        "raw caa": (["--pairs", asked, "--pairs-format", "caa", "--raw"], open_pairs(asked, raw=True)),
        "repeng": (["--pairs", suffixes, *told], open_pairs(suffixes, personas=personas)),
        "another template": (
            ["--pairs", suffixes, *told, "--persona-template", "Be {persona}."],
            open_pairs(suffixes, personas=personas, persona_template="Be {persona}."),
        ),
        "texts": (texts, open_text_pairs(tmp_path / "p.txt", tmp_path / "n.txt")),
    }
    seen = set()
    for name, (arguments, source) in cases.items():
        result = run(tiny_path, *arguments, "-o", tmp_path / name, "--json")
        assert (result.exit_code, result.stderr) == (0, ""), name
        data = json.loads(result.stdout)
        assert (data["n_pairs"], data["pairs_sha256"]) == (len(tuple(source)), source.sha256()), name
        seen.add(data["pairs_sha256"])
    assert len(seen) == len(cases)


def test_a_system_message_and_the_chat_template(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    for name, flags in (("auto", []), ("raw", ["--raw"]), ("chat", ["--chat"]), ("system", ["--system", "be kind"])):
        assert run(tiny_path, "--pairs", pairs, "-o", tmp_path / name, *flags).exit_code == 0
    auto, raw, chat, system = (read_activations(tmp_path / name).at(3)[0] for name in ("auto", "raw", "chat", "system"))
    np.testing.assert_array_equal(auto, raw)
    assert not np.array_equal(raw, chat) and not np.array_equal(chat, system)
    with Engine(tiny_path, threads=1) as engine:
        tokens = engine.encode((Message("system", "be kind"), Message("user", "yes")))
        # as above
        np.testing.assert_allclose(system[2], engine.activations([tokens], layers=[3])[0, 0], rtol=0, atol=1e-2)


def test_bad_input_is_one_sentence_and_leaves_no_file(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    bad = put(tmp_path / "bad.jsonl", [*LINES, {"positive": "a"}])
    same = put(tmp_path / "same.jsonl", [{"positive": "a", "negative": "a"}])
    chat = put(tmp_path / "chat.jsonl", [{"positive": "yes", "negative": "no", "system": "Be brief."}])
    long = put(tmp_path / "long.jsonl", [LINES[0], {"positive": "a", "negative": "b " * 1100}])
    suffixes = tmp_path / "suffixes.json"
    suffixes.write_text('["That game"]')
    (tmp_path / "p.txt").write_text("a\nb\n")
    (tmp_path / "n.txt").write_text("c\n")
    plain = write_tiny_model(tmp_path / "plain.gguf", chat_template=None)
    texts: list[str | Path] = ["--positive-file", tmp_path / "p.txt", "--negative-file", tmp_path / "n.txt"]
    cases: list[tuple[list[str | Path], str]] = [
        ([tiny_path, "--pairs", bad], "bad.jsonl:4: 'negative' is missing"),
        ([tiny_path, "--pairs", same], "same.jsonl:1: pair 1: positive and negative are identical"),
        ([tiny_path, *texts], "p.txt has 2 prompts and "),
        ([tiny_path, "--pairs", suffixes], "give --persona POSITIVE NEGATIVE"),
        ([tiny_path, "--pairs", pairs, "--persona", "a", "b"], "personas are for repeng's lists"),
        ([tiny_path, "--pairs", pairs, "--token", "answer"], "pairs.jsonl:1: positive prompt: no answer"),
        ([tiny_path, "--pairs", pairs, "--token", "-4"], "pairs.jsonl:3: positive prompt: token -4 is asked for"),
        ([tiny_path, "--pairs", pairs, "--layers", "1-4"], "there is no layer 4; the model has layers 0..3"),
        ([tiny_path, "--pairs", chat, "--raw"], "a chat cannot be taken raw"),
        ([plain, "--pairs", pairs, "--system", "Be brief."], "the model file has no chat template"),
        ([tiny_path, "--pairs", long], "tokens, the context holds 1024; shorten it or raise --n-ctx"),
        ([tiny_path, "--pairs", tmp_path / "none"], "none: cannot be read: No such file"),
        ([tmp_path / "none.gguf", "--pairs", pairs], "none.gguf"),
    ]
    for arguments, expected in cases:
        result = run(*arguments, "-o", tmp_path / "a.safetensors")
        assert (result.exit_code, result.stdout) == (1, ""), arguments
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
        assert expected in result.stderr
        assert not list(tmp_path.glob("*.safetensors*")) and not list(tmp_path.glob(".a*"))


def test_an_existing_file_is_kept_before_anything_is_computed(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"precious")
    result = run(tmp_path / "no-model.gguf", "--pairs", pairs, "-o", out)
    assert result.exit_code == 1 and "a.safetensors: exists already" in result.stderr and "--force" in result.stderr
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--pairs", "p", "--positive-file", "q", "--negative-file", "r"],
        ["--positive-file", "q"],
        ["--persona", "a", "b"],
        ["--pairs", "p", "--persona-template", "{persona}"],
        ["--pairs", "p", "--system", "x", "--raw"],
        ["--pairs", "p", "--token", "first"],
        ["--pairs", "p", "--pairs-format", "csv"],
        ["--pairs", "p", "--persona", "a"],
    ],
)
def test_wrong_usage_is_exit_code_2(tiny_path: Path, tmp_path: Path, arguments: list[str]) -> None:
    result = run(tiny_path, *arguments, "-o", tmp_path / "a.safetensors")
    assert (result.exit_code, result.stdout) == (2, "") and "Usage: " in result.stderr


LIMITED = """
import resource, sys
from steercpp.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size there")
def test_a_disk_that_takes_no_more(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.safetensors"
    out.parent.mkdir()
    arguments = ["dump", tiny_path, "--threads", "1", "--pairs", pairs, "-o", out]
    ended = subprocess.run([sys.executable, "-c", LIMITED, *map(str, arguments)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: {out}: cannot be written: File too large; choose another place\n"
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_ctrl_c_leaves_no_half_file(tiny_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.safetensors"
    out.parent.mkdir()
    pairs = put(tmp_path / "many.jsonl", [{"positive": f"good {i} " * 60, "negative": "no " * 90} for i in range(900)])
    arguments = ["dump", tiny_path, "--threads", "1", "--pairs", pairs, "-o", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "steercpp.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not list(out.parent.glob(".*")):  # until the draft is there: it is decoding
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == f"note: {out} was not written\ninterrupted\n"
    assert list(out.parent.iterdir()) == []
