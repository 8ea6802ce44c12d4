"""`steercpp generate` as a user meets it: the table, JSON, a growing picture on a terminal, and every bad input."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from rpc_server import free_port
from terminal import drawn_on
from tiny_model import write_tiny_model

from steercpp.cli import output
from steercpp.cli.commands.generate import _reply, _View
from steercpp.cli.main import main
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Gate, Steering
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector, write_vector

PROMPT = "Do you like the world"
ROWS = ("--strengths=-1,0,1", "-n", "12", "--threads", "1")


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, arguments)], input=stdin, env={"COLUMNS": "80"})


@pytest.fixture
def files(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """MODEL and a vector of three layers, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    directions = {il: rng.standard_normal(256).astype(np.float32) for il in (1, 2, 3)}
    write_vector("v.gguf", ControlVector(directions, "llama", 4))
    return [str(tiny_path), "--vector", "v.gguf"]


def found(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def test_rows_are_the_librarys_own(files: list[str], tiny_engine: Engine) -> None:
    data = found(run(*files, "-p", PROMPT, *ROWS, "--json"))
    vector = read_vector("v.gguf")
    same = generate(tiny_engine, PROMPT, [Steering(vector, s) for s in (-1, 0, 1)], max_tokens=12, template="raw")
    assert [row["strength"] for row in data["rows"]] == [-1, 0, 1]
    assert [(row["text"], row["n_tokens"], row["finish"]) for row in data["rows"]] == [
        (row.text, len(row.tokens), row.finish) for row in same.rows
    ]
    assert len({row["text"] for row in data["rows"]}) > 1
    assert (data["token_layers"], data["token_layers_plain"]) == (same.token_layers, same.token_layers_plain)
    assert (data["prompt"], data["exact"], data["operator"], data["gate"]) == (PROMPT, False, "add", "")


def test_a_table_within_80_columns(files: list[str]) -> None:
    result = run(*files, "-p", PROMPT, *ROWS, "-n", "64")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].rstrip() == PROMPT
    for strength in (" -1 ", " 0 ", " +1 "):
        assert any(strength in line for line in lines)
    assert "token-layers computed" in result.stdout


def test_exact_rows_do_not_depend_on_others(files: list[str]) -> None:
    """In F32 other rows move roundings (docs/generation.md); texts of so few tokens stay."""
    together = found(run(*files, "-p", PROMPT, *ROWS, "--exact", "--json"))
    alone = found(run(*files, "-p", PROMPT, *ROWS[1:], "--strengths=0", "--exact", "--json"))
    assert together["exact"] and together["rows"][1] == alone["rows"][0]
    assert together["token_layers"] < together["token_layers_plain"]  # the prompt's blocks below are computed once


def test_stop_strings_end_rows_and_are_not_shown(files: list[str]) -> None:
    whole = found(run(*files, "-p", PROMPT, *ROWS, "--json"))["rows"][1]["text"]
    stop = whole[3:6]
    stopped = found(run(*files, "-p", PROMPT, *ROWS, "--stop", "\x00", "--stop", stop, "--json"))["rows"][1]
    assert stopped["finish"] == "stop" and stopped["text"] == whole[: whole.index(stop)]


def test_draws_follow_the_seed(files: list[str]) -> None:
    drawn = ["--temperature", "2", "--top-k", "40", "--top-p", "0.9", "--min-p", "0.01", "--json"]
    once, again, other = (
        found(run(*files, "-p", PROMPT, *ROWS, *drawn, "--seed", seed))["rows"] for seed in ("5", "5", "6")
    )
    assert once == again != other


def test_penalties_and_biases_change_what_is_drawn(files: list[str]) -> None:
    """As in `Sampling`; the document says how tokens were drawn."""
    asked = [*files, "-p", PROMPT, "--strengths=0", "-n", "8", "--json", "--threads", "1"]
    plain = json.loads(run(*asked).stdout)
    options = ("--presence-penalty", "1e6", "--repeat-last-n", "99", "--logit-bias", "40-inf", "--logit-bias", "41+99")
    other = json.loads(run(*asked, *options).stdout)
    assert other["sampling"] == {
        **plain["sampling"], "presence_penalty": 1e6, "repeat_last_n": 99, "logit_bias": ["40-inf", "41+99"],
    }  # fmt: skip
    assert other["rows"][0]["text"] != plain["rows"][0]["text"]


def test_a_prompt_from_stdin_loses_its_last_line_break_only(files: list[str]) -> None:
    typed = found(run(*files, "-p", "-", *ROWS, "--json", stdin="Do you\nlike\n\n"))
    assert typed["prompt"] == "Do you\nlike\n"
    piped = found(run(*files, "-p", "-", *ROWS, "--json", stdin=f"{PROMPT}\r\n"))
    assert piped == found(run(*files, "-p", PROMPT, *ROWS, "--json"))


def test_a_chat_is_rendered_with_the_models_template(files: list[str], tiny_engine: Engine) -> None:
    data = found(run(*files, "-p", "Do you", "--chat", *ROWS, "--json"))
    rows = [Steering(read_vector("v.gguf"), s) for s in (-1, 0, 1)]
    same = generate(tiny_engine, "Do you", rows, max_tokens=12, template="chat")
    assert [row["text"] for row in data["rows"]] == [row.text for row in same.rows]


def test_a_manner_and_a_gate(files: list[str], tiny_engine: Engine) -> None:
    """The gate's vector is another; closed, all rows say the same."""
    write_vector("g.gguf", ControlVector({2: np.eye(256, dtype=np.float32)[0]}, "llama", 4))
    x = float(tiny_engine.activations([tiny_engine.encode(PROMPT)], layers=[2])[0, 0, 0])
    manner = ["--operator", "rotate", "--positions", "generated", "--side", "positive", "--gate-vector", "g.gguf"]
    texts = {}
    for gate in (f"2:{x - 1}", f"2:below:{x - 1}"):
        data = found(run(*files, "-p", PROMPT, *ROWS, *manner, "--gate", gate, "--json"))
        assert (data["operator"], data["positions"], data["side"]) == ("rotate", "generated", "positive")
        assert data["gate"] == Gate(np.eye(256, dtype=np.float32)[0], 2, x - 1, "below" not in gate).identity
        texts[gate] = {row["text"] for row in data["rows"]}
    opened, closed = texts.values()
    assert len(opened) > 1 and len(closed) == 1


def test_a_vector_that_is_meant_for_a_manner_acts_in_it(files: list[str]) -> None:
    """As a sweep writes it: operator and recommended strength are in the file, a gate has to be given."""
    vector = read_vector("v.gguf").with_metadata(operator="ablate", recommended_strength=-0.5)
    write_vector("ablate.gguf", vector)
    arguments = [files[0], "--vector", "ablate.gguf", "-p", PROMPT, "--threads", "1", "-n", "4", "--json"]
    data = found(run(*arguments))
    assert data["operator"] == "ablate" and [row["strength"] for row in data["rows"]] == [-0.5, 0, 0.5]
    assert found(run(*arguments, "--operator", "add"))["operator"] == "add"
    write_vector("gated.gguf", vector.with_metadata(gate="1:0.5:abc"))
    refused([files[0], "--vector", "gated.gguf", "-p", PROMPT], "behind a gate: give --gate 1:0.5, and --gate-vector")
    write_vector("odd.gguf", vector.with_metadata(operator="[/INST]"))
    refused([files[0], "--vector", "odd.gguf", "-p", PROMPT], "operator '[/INST]' is unknown; use add")


def test_without_arguments_the_embedded_model_shows_what_steering_does() -> None:
    result = run("--threads", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    text = " ".join(result.stdout.split())
    assert "How can I" in text and "+0.375 No, I will not help with that." in text and "0 Of course, you can" in text
    assert "steercpp generate model.gguf --vector v.gguf -p" in text and "refusal vector" in text
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["m.gguf"], "MODEL needs --vector V.gguf and --prompt TEXT"),
        (["m.gguf", "-p", "x"], "MODEL needs --vector V.gguf."),
        (["--strengths", "nan"], "must be a finite number"),
        (["--strengths", "1:2"], "first:last:step"),
        (["-n", "0"], "--max-tokens"),
        (["--operator", "multiply"], "'multiply' is not one of 'add'"),
        (["--gate", "x"], "'x' is not LAYER:X or LAYER:below:X with a number X"),
        (["--gate", "3"], "'3' is not LAYER:X"),
        (["--gate", "3:nan"], "'3:nan' is not LAYER:X"),
        (["--gate", "3:above:1"], "'3:above:1' is not LAYER:X"),
        (["--gate", "-1:1"], "'-1:1' is not LAYER:X"),
        (["--gate-vector", "g.gguf"], "--gate-vector is for --gate"),
        (["--keep-mib", "0"], "--keep-mib"),
        (["--logit-bias", "5"], "'5' is no token with its bias; write it as 15043+1"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "") and expected in " ".join(result.stderr.split())


def refused(arguments: list[str], *expected: str, stdin: str | bytes | None = None) -> None:
    """One sentence on stderr, exit code 1, nothing on stdout."""
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    for words in expected:
        assert words in result.stderr


def test_without_a_recommendation_pushes_are_small_and_told(files: list[str], tiny_engine: Engine) -> None:
    """A vector in residual norms, whose sweep recommended none, was shown at ±1 norm: rubble, without a word."""
    vector = read_vector("v.gguf")
    tokens = [tiny_engine.encode(PROMPT)]
    norms = tiny_engine.residual_norms(tokens, vector.layers)
    for scale in (0.001, 1.0, 300.0):
        factors = {il: scale * norms[il] / vector.norms[il] for il in norms}
        write_vector("scaled.gguf", vector.scaled(factors), force=True)
        result = run(files[0], "--vector", "scaled.gguf", "-p", PROMPT, "-n", "2", "--json", "--threads", "1")
        assert result.exit_code == 0 and "no recommended strength: shown are pushes of 5% of the" in result.stderr
        strengths = [row["strength"] for row in json.loads(result.stdout)["rows"]]
        assert strengths == [-strengths[2], 0, strengths[2]]
        assert scale * strengths[2] == pytest.approx(0.05, rel=0.05)  # two digits are enough to type
    write_vector("scaled.gguf", vector.with_metadata(recommended_strength=0.3), force=True)
    known = run(files[0], "--vector", "scaled.gguf", "-p", PROMPT, "-n", "2", "--json", "--threads", "1")
    assert [row["strength"] for row in found(known)["rows"]] == [-0.3, 0, 0.3]


def test_the_unit_of_strengths_is_told(files: list[str]) -> None:
    shown = run(*files, "-p", PROMPT, *ROWS, "-n", "2").stdout
    assert "Strengths in multiples of the vector at each layer (unit length)" in shown
    in_norms = run(*files, "-p", PROMPT, "--strengths=0,0.1", "-n", "2", "--unit", "norm", "--threads", "1").stdout
    assert "Strengths in residual norms at each layer (unit norm)" in in_norms


def test_bad_input(files: list[str]) -> None:
    asked = [*files, "-p", PROMPT]
    refused([*files, "-p", ""], "the prompt is empty")
    refused([*files, "-p", "-"], "the prompt is empty", stdin="\n")
    refused([*files, "-p", "-"], "the prompt is not UTF-8 (byte 3)", stdin=b"caf\xe9 au lait")
    refused([*files, "-p", os.fsdecode(b"caf\xe9")], "the prompt is not UTF-8 (byte 3)")
    refused([*asked, "-n", "2000"], "the context holds 1024", "lower --max-tokens or raise --n-ctx")
    refused([*files, "-p", "the " * 1100], "the context holds 1024")
    refused([*asked, "--temperature", "-1"], "temperature is -1")
    refused([*asked, "--top-p", "0"], "top_p is 0")
    refused([*asked, "--seed", "4294967296"], "seed is 4294967296")
    refused([*asked, "--repeat-penalty", "0"], "--repeat-penalty is 0.0; give 1 for none")
    refused([*asked, "--repeat-last-n=-1"], "--repeat-last-n is -1")
    refused([*asked, "--logit-bias", "99999+1"], "--logit-bias names token 99999; the model has tokens 0 to")
    refused([*asked, "--stop", ""], "a stop string is empty")
    assert "use a smaller strength" in run(*asked, "--strengths=0,3e38").stdout  # alone: the other row has its text
    refused([*asked, "--strengths", "1e39"], "strength 1e+39 is not a finite number in float32")
    refused([*asked, "--operator", "cap", "--side", "positive"], "cap acts on one side already")
    refused([*asked, "--gate", "0:1"], "gate: the vector has no direction at layer 0, only at 1, 2, 3", "--gate-vector")
    refused([*asked, "--gate", "1:1", "--gate-vector", "none.gguf"], "none.gguf: ")
    refused(["none.gguf", *asked[1:]], "none.gguf: ")
    refused([asked[0], "--vector", "none.gguf", *asked[3:]], "none.gguf: ")
    write_vector("deep.gguf", ControlVector({9: np.ones(256, np.float32)}, "llama", 10))
    refused([asked[0], "--vector", "deep.gguf", *asked[3:]], "deep.gguf: steers layer 9", "layers 0..3")
    refused([*asked, "--gate", "9:1", "--gate-vector", "deep.gguf"], "layer 9 does not exist", "layers 0..3")
    write_vector("narrow.gguf", ControlVector({1: np.ones(8, np.float32)}, "llama", 4))
    refused([*asked, "--gate", "1:1", "--gate-vector", "narrow.gguf"], "the gate has 8 values per layer")


def test_a_server_that_is_not_there(files: list[str]) -> None:
    """Found out before llama.cpp connects, which would end the process; or this build of it cannot connect at all."""
    server = f"127.0.0.1:{free_port()}"
    expected = f"{server} cannot be reached" if llama_cpp.llama_supports_rpc() else "was built without RPC"
    refused([*files, "-p", PROMPT, "--gpu-layers", "-1", "--rpc", server], expected)
    refused([*files, "-p", PROMPT, "--gpu-layers", "-1", "--rpc", "nowhere"], "nowhere")
    refused([*files, "-p", PROMPT, "--gpu-layers", "0", "--rpc", server], "compute nothing while n_gpu_layers is 0")


def test_prompts_and_texts_are_never_markup(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nor do they reach the terminal as control characters: in the result, and in what is drawn meanwhile."""
    odd = "[/INST] [red]the[/red] \x1b[2J\x07 :smile:"
    result = run(*files, "-p", odd, *ROWS)
    assert result.exit_code == 0 and result.stdout.startswith("[/INST] [red]the[/red] \\x1b[2J\\x07 :smile:")
    view = _View()
    view.strengths = (0.0, 1.0)
    view.add(1, odd)
    output.console.print(view.picture(20))
    drawn = capsys.readouterr().out
    assert "[/INST] [red]the[/red] \\x1b[2J\\x07 :smile:" in drawn and "\x1b" not in drawn and "\x07" not in drawn
    data = found(run(*files, "-p", odd, *ROWS, "--json"))
    assert data["prompt"] == odd  # JSON has its own way of writing them


@pytest.mark.parametrize("n_rows", [1, 5, 17, 60])
@pytest.mark.parametrize("n_lines", [4, 20, 50])
def test_the_growing_picture_fits_and_does_not_jump(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, n_rows: int, n_lines: int
) -> None:
    """Never higher than it may be, never lower than it was; and it shows how each text goes on."""
    monkeypatch.setenv("COLUMNS", "80")
    view = _View()
    view.strengths = [i / 10 for i in range(n_rows)]
    before = 0
    for step in range(64):
        for row in range(n_rows):
            view.add(row, f" word{step}" if step % 10 else "\nline")
        output.console.print(view.picture(n_lines))
        lines = capsys.readouterr().out.splitlines()
        assert before <= len(lines) <= max(n_lines, 5)
        assert max(map(len, lines)) <= 80
        before = len(lines)
    assert "word63" in lines[-2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_texts_grow_on_a_terminal_beside_clean_data(files: list[str]) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "steercpp.cli.main", "generate", *files, "-p", PROMPT, *ROWS, "-n", "200", "--json"],
        stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(terminal)
    drawn = drawn_on(controller).decode()
    stdout, _ = process.communicate()
    os.close(controller)
    assert process.returncode == 0 and "strength" in drawn and "tokens" in drawn and "━" in drawn
    assert [row["n_tokens"] for row in json.loads(stdout)["rows"]] == [200] * 3


def test_thoughts_are_told_from_the_answer(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt that ends inside a thought: what is drawn is thought, in data and for people."""
    asked = [*files, "-p", "Why? <think>\n", "--strengths=0", "-n", "4"]
    (row,) = found(run(*asked, "--json"))["rows"]
    assert (row["thoughts"], row["answer"], row["unfinished"]) == (row["text"].strip(), "", True)
    assert "(no answer)" in run(*asked).stdout
    (row,) = found(run(*files, "-p", "Why?", "--strengths=0", "-n", "4", "--json"))["rows"]
    assert (row["thoughts"], row["answer"], row["unfinished"]) == ("", row["text"], False)
    output.console.print(
        _reply({"finish": "end", "thoughts": "I [b]can[/b]not", "answer": "\nSure", "unfinished": False})
    )
    assert capsys.readouterr().out.split() == ["I", "[b]can[/b]not", "Sure"]


def test_variables_of_the_chat_template(tmp_path: Path) -> None:
    source = "{{ messages[0].content }}{% if enable_thinking is false %}<no>{% endif %}{{ tone }}"
    model = write_tiny_model(tmp_path / "m.gguf", chat_template=source)
    asked = ("generate", str(model), "--chat", "-p", "what is it?", "--show-prompts", "--json")

    def prompt(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(main, [*asked, *arguments])
        assert result.exit_code == 0, result.output
        shown: dict[str, Any] = json.loads(result.stdout)["prompts"][0]
        return shown

    assert prompt()["text"] == "what is it?<no>"
    assert prompt()["notes"][0].endswith("thinking is switched off (enable_thinking=false)")
    on = prompt("--template-kwarg", "enable_thinking=true", "--template-kwarg", "tone=!")
    assert on["text"] == "what is it?!" and on["notes"][0].startswith("thinking is on (enable_thinking=true)")
    result = CliRunner().invoke(main, [*asked, "--template-kwarg", "other=1"])
    assert "its chat template does not look at other" in result.stderr
