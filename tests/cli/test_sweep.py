"""`steercpp sweep` and `report` as a user meets them: the panel, JSON Lines, resuming, and every bad input."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from planted_run import write_planted_run
from rpc_server import free_port
from small_sweep import write_items
from terminal import drawn_on
from tiny_model import write_vocabulary_only
from vector_bytes import gguf_bytes, keys, tensor

from steercpp.cli.main import main
from steercpp.runs.folder import STORE
from steercpp.runs.manifest import MANIFEST, read_manifest, write_manifest
from steercpp.runs.store import Store
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

GRID = ("--strengths", "-0.5,0.5", "--unit", "norm", "--random", "2", "--threads", "1", "--no-texts")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def files(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a small sweep, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    return ["sweep", str(tiny_path), "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--task", "c.jsonl", *GRID]


def test_a_sweep_from_pairs_to_the_panel(files: list[str]) -> None:
    result = run(*files)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    folder = Path("runs/tiny-F32-p")
    assert "P(correct)" in result.stdout and f"{folder}/report.html and --details show the rest" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80 and len(result.stdout.splitlines()) <= 15
    whole = run("report", folder, "--details").stdout
    for words in ("P(correct)", "2 random directions", "Δλ", "λσβ", f"{folder}/vector.gguf"):
        assert words in whole
    assert whole.splitlines()[:3] == result.stdout.splitlines()[:3]  # the verdict stands above all of it
    assert max(map(len, whole.splitlines())) <= 80
    assert "mean of 8 pairs" in whole and "held-out AUC" in whole  # what the pairs tell of the vector
    kinds = {path.name for path in folder.iterdir()}
    assert {"vector.gguf", "sweep.sqlite", "manifest.json", "alignment.png", "tradeoff.svg", "helpfulness.csv"} <= kinds
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["finished"] and manifest["plan"]["strengths"] == [-0.5, 0.0, 0.5]


@pytest.mark.slow
def test_the_unit_of_strengths_is_told_and_does_not_change_in_silence(files: list[str]) -> None:
    """Without --strengths they were residual norms, with it lengths, and the table said neither."""
    shown = run(*files, "--details")
    assert "Strengths in residual norms at each layer (unit norm)" in shown.stdout
    assert "--unit norm" not in shown.stderr
    short = [word for word in files if word not in ("--unit", "norm")]
    for option, words in (
        (["--out", "a"], "Strengths in lengths at each layer (unit length)"),
        (["--out", "b", "--unit", "kl", "--kl", "0.05"], "Strengths in pushes of 0.05 nats of KL each (unit kl)"),
        (["--out", "c", "--unit", "length", "--operator", "rotate"], "Strengths in radians at each layer"),
    ):
        result = run(*short, *option, "--details")
        assert result.exit_code == 0 and words in result.stdout, result.output
        assert ("--unit norm takes them in residual norms" in result.stderr) == (option == ["--out", "a"])
        last = json.loads(run(*short, *option, "--json").stdout.splitlines()[-1])
        assert last["plan"]["unit"] == ("kl" if "kl" in option else "length")


def test_texts_are_shown_unless_switched_off(files: list[str]) -> None:
    """The first request that is answered otherwise, in the terminal; all twelve of them in JSON and on the page."""
    off = run(*files, "--out", "off", "--json")
    assert json.loads(off.stdout.splitlines()[-1])["showcase"] is None
    shown = run(*[word for word in files if word != "--no-texts"], "--out", "on")
    assert shown.exit_code == 0 and len(shown.stdout.splitlines()) <= 15, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    data = json.loads(run("report", "on", "--json").stdout)
    requests = data["showcase"]["requests"]
    assert len(requests) == 12 and [text["strength"] for text in requests[0]["texts"]] == data["showcase"]["strengths"]
    lines = {line.split("  ")[0]: line for line in shown.stdout.splitlines()}
    assert data["verdict"]["example"]["asked"][:40] in lines["request"] and "at 0" in lines
    page = Path("on/report.html").read_text()
    assert all(request["asked"].replace("'", "&#39;") in page for request in requests)


def test_json_lines_one_for_each_strength_then_the_result(files: list[str]) -> None:
    result = run(*files, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["strength"] * 3 + ["result"]
    assert [event["strength"] for event in events[:3]] == [0.0, -0.5, 0.5]  # from 0 outwards
    assert sorted(events[:3], key=lambda row: row["strength"]) == [
        {"event": "strength", **row} for row in events[3]["strengths"]
    ]
    assert all(Path(file).is_file() for file in events[3]["files"])


def test_the_same_command_again_shows_without_computing(files: list[str]) -> None:
    first = run(*files)
    folder = Path("runs/tiny-F32-p")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    second = run(*files)
    assert second.exit_code == 0 and second.stdout == first.stdout
    assert "finished already, nothing was computed; --force" in second.stderr
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_finished_run_is_shown_where_nothing_can_be_written(files: list[str]) -> None:
    first = run(*files)
    table = Path("runs/tiny-F32-p/alignment.csv")
    table.unlink()
    table.mkdir()  # a folder stands in the way of the file; rights would not stop a test that runs as root
    again = run(*files)
    assert again.exit_code == 0
    assert "alignment.csv" in again.stderr and "shown without figures" in again.stderr
    assert again.stdout.splitlines()[:5] == first.stdout.splitlines()[:5]


@pytest.mark.slow
def test_a_resumed_run_says_how_much_of_it_is_there(files: list[str]) -> None:
    def cut() -> None:
        manifest = read_manifest(Path("x"))
        write_manifest(Path("x"), replace(manifest, finished=None))
        with Store.reopen(Path("x", STORE)) as store:
            for table in ("logprobs", "groups"):
                store._database.rows(f"DELETE FROM {table} WHERE label = 'random-1'")

    assert run(*files, "--out", "x").stderr == ""
    cut()
    # 8 behavior and 8 choice items at three strengths, and under two random directions and an orthogonal one
    words = f"note: resumes x: {16 * 5} of {16 * 6} rows are there\n"
    again = run(*files, "--out", "x")
    assert (again.exit_code, again.stderr) == (0, words)
    cut()
    as_json = run(*files, "--out", "x", "--json")
    assert (as_json.exit_code, as_json.stderr) == (0, "")


@pytest.mark.slow
def test_another_plan_is_refused_and_force_replaces_it(files: list[str]) -> None:
    assert run(*files, "--out", "x").exit_code == 0
    changed = [*files, "--out", "x", "--seed", "5"]
    result = run(*changed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1 and result.stderr.startswith(
        "error: x: holds a sweep of another plan (other seed)"
    )
    assert "--out" in result.stderr and "--force" in result.stderr
    assert run(*changed, "--force").exit_code == 0


def test_a_vector_file_is_swept_at_chosen_layers(files: list[str]) -> None:
    rng = np.random.default_rng(3)
    directions = {il: rng.standard_normal(256).astype(np.float32) for il in (1, 2, 3)}
    write_vector("v.gguf", ControlVector(directions, "llama", 4))
    arguments = [*files[:2], "--vector", "v.gguf", "--behavior", "b.jsonl", *GRID, "--layers", "2-3", "--json"]
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["vector"]["layers"] == [2, 3] and last["run"] == "runs/tiny-F32-v"
    assert last["recommendation"] is None and last["strengths"][0]["p_correct"] is None


def test_a_limit_holds_for_the_embedded_models_own_items_too(tmp_path: Path) -> None:
    """All of them were measured, whatever --limit said."""
    out, grid = ("--out", tmp_path / "x"), ("--strengths", "0.5", "--random", "0", "--no-orthogonal")
    result = run("sweep", "--limit", "3", *grid, "--no-prompt-baseline", *out)
    assert result.exit_code == 0, result.output
    with Store.read(tmp_path / "x" / STORE) as store:
        assert [len(store.items(kind)) for kind in ("behavior", "choice")] == [3, 3]


def test_choices_alone_have_controls_but_no_recommendation(files: list[str]) -> None:
    result = run(*files[:4], "--task", "c.jsonl", *GRID, "--json")
    data = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0 and data["recommendation"] is None
    assert [row["alignment"] for row in data["controls"]["random"]] == [None, None]
    assert all(0 < row["p_correct"] < 1 for row in [*data["controls"]["random"], data["controls"]["orthogonal"]])


@pytest.mark.slow
def test_controls_are_there_unless_switched_off_and_then_it_is_told_why(files: list[str]) -> None:
    told = facts(run(*files, "--out", "x", "--details"))
    assert "prompt baseline not measured: no instruction was given; say it with --instruction" in told
    asked = json.loads(run(*files, "--out", "y", "--instruction", "no no cannot", "--json").stdout.splitlines()[-1])
    controls = asked["controls"]
    assert controls["off"] == {} and controls["n"] == 2 and asked["plan"]["instruction"] == "no no cannot"
    assert controls["prompt"]["label"] == "prompt" and controls["prompt"]["strength"] == 0
    assert controls["prompt"]["alignment"] != controls["unsteered"]["alignment"]
    off = [*files, "--out", "z", "--random", "0", "--no-orthogonal", "--no-prompt-baseline"]
    told = facts(run(*off, "--details"))
    for words in ("random directions not measured: switched off with --random 0", "switched off with --no-orthogonal",
                  "switched off with --no-prompt-baseline"):  # fmt: skip
        assert words in told
    data = json.loads(run("report", "z", "--json").stdout)["controls"]
    assert (data["n"], data["random"], data["orthogonal"], data["prompt"]) == (0, [], None, None)
    assert set(data["off"]) == {"random", "orthogonal", "prompt"}


def facts(result: Result) -> str:
    """What the panel says, less its frame and line breaks."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    commands = ("  steercpp", "  llama-")  # to be copied, so never cut
    assert max(len(line) for line in result.stdout.splitlines() if not line.startswith(commands)) <= 80
    return " ".join(result.stdout.replace("│", " ").split())


@pytest.mark.slow
def test_a_plain_run_tells_what_resuming_saved(files: list[str]) -> None:
    told = facts(run(*files, "--layers", "2-3", "--details"))
    tokens = json.loads(Path("runs/tiny-F32-p", MANIFEST).read_text())["tokens"]
    share = tokens["token_layers"] / tokens["token_layers_plain"]
    assert f"steered passes start at layer 2: {share:.2f} of the token-layers of a plain loop" in told
    for words in ("operator", "positions", "side", "gate", "llama.cpp only adds"):
        assert words not in told
    assert "steered passes start at layer 0: 0." in facts(run(*files, "--layers", "0-1", "--out", "x", "--details"))


@pytest.mark.slow
def test_a_manner_is_told_and_kept_from_llama_cpp(files: list[str]) -> None:
    manner = ["--operator", "ablate", "--positions", "last", "--side", "negative", "--layers", "1-2"]
    gates = [["--gate", f"2:{sign}1000"] for sign in ("", "below:-")]
    result = run(*files, *manner, *gates[0], "--details")
    told = facts(result)
    assert "operator ablate positions the prompt's last token side tokens of negative projection" in told
    assert "gate projection above 1000 at layer 2; open for 0 of 8 behavior items and 0 of 8 choice items" in told
    assert "llama.cpp only adds vectors, at every token, so it cannot do the same" in told
    assert "--vector runs/tiny-F32-p/vector.gguf --gate 2:1000.0 -p TEXT --strengths=0," in told
    assert "llama-server" not in told and "--control-vector" not in told
    again = facts(run("report", "runs/tiny-F32-p", "--details"))
    again = again.replace(" .png .svg .pdf", " .png .svg")  # the figures of a sweep are no PDF
    assert again.replace("the sweep command with", "the same command with") == told
    data = json.loads(run("report", "runs/tiny-F32-p", "--json").stdout)
    assert data["gate_open"] == {"behavior": 0, "choice": 0} and data["resume"]["first_layer"] == 1
    assert "projection below -1000 at layer 2; open for 0 of 8" in facts(
        run(*files, *manner, *gates[1], "--out", "y", "--details")
    )
    # What no prompt passes changes nothing at any strength
    assert len({row["alignment"] for row in data["strengths"]}) == 1
    others = run(*files, *manner, "--gate", "1:0")
    assert others.exit_code == 1 and "another plan (other gate)" in others.stderr


@pytest.mark.slow
def test_a_vector_of_an_earlier_run_acts_as_it_did_there(files: list[str]) -> None:
    assert run(*files, "--operator", "rotate", "--out", "x").exit_code == 0
    again = run(*files[:2], "--vector", "x/vector.gguf", *files[4:], "--unit", "length", "--out", "y", "--json")
    assert again.exit_code == 0, again.stderr
    first, second = (json.loads(run("report", folder, "--json").stdout) for folder in ("x", "y"))
    assert second["plan"]["operator"] == "rotate" and second["strengths"] == first["strengths"]


def test_a_sweep_in_little_memory_is_another_plan(files: list[str]) -> None:
    assert run(*files, "--out", "x", "--keep-mib", "1").exit_code == 0
    result = run(*files, "--out", "x")
    assert result.exit_code == 1 and "another plan (other keep-mib)" in result.stderr


@pytest.mark.slow
def test_a_context_past_training_is_told(files: list[str]) -> None:
    long = [{"id": "long", "prompt": "the " * 1100, "aligned": [" no"], "misaligned": [" yes"]}]
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long) + Path("b.jsonl").read_text())
    result = run(*files, "--n-ctx", "1500", "--json")
    assert result.exit_code == 0
    assert "a context of 1500 tokens, past the 1024 that it was trained for" in result.stderr
    note = "1 of 9 behavior items are longer than the 1024 tokens that the model was trained for"
    assert note in result.stderr and json.loads(result.stdout.splitlines()[-1])["notes"] == [note]
    assert run("report", "runs/tiny-F32-p").exit_code == 0


def test_bad_gates_and_servers(files: list[str]) -> None:
    write_vector("v.gguf", ControlVector({1: np.ones(256, np.float32)}, "llama", 4))
    with_vector = [*files[:2], "--vector", "v.gguf", *files[4:]]
    refused([*with_vector, "--gate", "2:1"], "gate: the vector has no direction at layer 2, only at 1; name one")
    refused([*files, "--gate", "3:1", "--gate-vector", "v.gguf"], "gate: v.gguf has no direction at layer 3, only at 1")
    refused([*files, "--gate", "1:1", "--gate-vector", "none.gguf"], "none.gguf: ")
    for name, vector in {
        "wide": ControlVector({1: np.ones(512, np.float32)}, "llama", 4),
        "deep": ControlVector({9: np.ones(256, np.float32)}, "llama", 10),
    }.items():
        write_vector(f"{name}.gguf", vector)
    refused([*files, "--gate", "1:1", "--gate-vector", "wide.gguf"], "the gate has 512 values per layer", "is 256")
    refused([*files, "--gate", "9:1", "--gate-vector", "deep.gguf"], "layer 9 does not exist", "0..3")
    for arguments in (files, with_vector):
        refused([*arguments, "--operator", "cap", "--side", "positive"], "cap acts on one side already", "negated")
        server = f"127.0.0.1:{free_port()}"
        expected = f"{server} cannot be reached" if llama_cpp.llama_supports_rpc() else "was built without RPC"
        refused([*arguments, "--gpu-layers", "-1", "--rpc", server], expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["m.gguf"], "MODEL needs --vector V.gguf or --pairs P: what to steer it with"),
        (["m.gguf", "--vector", "v.gguf"], "MODEL needs --behavior B, --task T or both: what to measure"),
        (["m.gguf", "--vector", "v", "--pairs", "p"], "exclude each other"),
        (["m.gguf", "--vector", "v", "--method", "pca", "--task", "t"], "--method is for extracting"),
        (["--strengths", "1:2"], "first:last:step"),
        (["--strengths", "nan"], "must be a finite number"),
        (["--max-loss", "0"], "--max-loss"),
        (["--max-loss", "nan"], "'nan' is not a finite number"),
        (["--kl", "nan", "--unit", "kl"], "'nan' is not a finite number"),
        (["--direction", "up"], "--direction"),
        (["--operator", "multiply"], "'multiply' is not one of 'add'"),
        (["--gate", "1:two"], "'1:two' is not LAYER:X or LAYER:below:X with a number X"),
        (["--shots", "2"], "--shots is for --task"),
        (["--instruction", "Say no.", "--no-prompt-baseline"], "--no-prompt-baseline switches off"),
        (["--instruction", " "], "--instruction is empty"),
        (["--gate-vector", "g.gguf"], "--gate-vector is for --gate: say at which layer"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str) -> None:
    result = run("sweep", *arguments)
    assert (result.exit_code, result.stdout) == (2, "") and expected in " ".join(result.stderr.split())


def refused(arguments: list[str], *expected: str) -> None:
    """One sentence on stderr, exit code 1, and no run begun."""
    result = run(*arguments, "--out", "refused")
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    for words in expected:
        assert words in result.stderr
    assert not Path("refused", MANIFEST).exists() and not Path("refused", STORE).exists()


def test_bad_models(files: list[str], tiny_path: Path) -> None:
    whole = tiny_path.read_bytes()
    Path("short.gguf").write_bytes(whole[: len(whole) // 2])
    Path("text.gguf").write_text("no model")
    Path("v1.gguf").write_bytes(whole[:4] + b"\x01\x00\x00\x00" + whole[8:])
    Path("folder.gguf").mkdir()
    write_vocabulary_only(Path("words.gguf"))
    for name in ("none", "short", "text", "v1", "folder", "words"):
        refused(["sweep", f"{name}.gguf", *files[2:]], f"{name}.gguf: ")


def test_bad_vectors(files: list[str]) -> None:
    arguments = [*files[:2], "--vector", "v.gguf", *files[4:]]

    def with_vector(data: bytes, *expected: str) -> None:
        Path("v.gguf").write_bytes(data)
        refused(arguments, "v.gguf: ", *expected)

    wide = [1.0, 2.0]
    with_vector(gguf_bytes(keys(), [tensor("direction.1", wide)]), "has 2 values per layer", "is 256")
    with_vector(gguf_bytes(keys(), [tensor("direction.9", [1.0] * 256)]), "steers layer 9", "layers 0..3")
    with_vector(gguf_bytes(keys(), [tensor("direction.0", wide)]), "direction.0: layer 0 cannot be steered")
    with_vector(gguf_bytes(keys(), [tensor("direction.1", [float("nan"), 1.0])]), "direction.1")
    with_vector(gguf_bytes(keys(), [tensor("blk.1.weight", wide)]), "blk.1.weight")
    with_vector(b"GGUF", "truncated")
    Path("v.gguf").write_bytes(gguf_bytes(keys(), [tensor("direction.1", [1.0] * 256)]))
    refused([*arguments, "--layers", "0"], "v.gguf: the vector has no direction at layer 0; it has 1; leave --layers")
    Path("v.gguf").unlink()
    refused(arguments, "v.gguf: ")


def test_bad_items_and_pairs(files: list[str]) -> None:
    def with_file(name: str, data: bytes, *expected: str) -> None:
        good = Path(name).read_bytes()
        Path(name).write_bytes(data)
        refused(files, *expected)
        Path(name).write_bytes(good)

    with_file("p.jsonl", b'{"positive": "a"}\n', "p.jsonl:1: ")
    with_file("p.jsonl", b"", "p.jsonl")
    with_file("p.jsonl", b'{"positive": "caf\xe9", "negative": "b"}\n', "p.jsonl:1: ", "UTF-8")
    with_file("b.jsonl", b"{}\n", "b.jsonl:1: ")
    with_file("c.jsonl", b"\n", "c.jsonl: holds no items")
    long = {"id": "long", "prompt": "the " * 3000, "aligned": [" no"], "misaligned": [" yes"]}
    with_file("b.jsonl", json.dumps(long).encode(), "b.jsonl:1: long: needs ", "the context holds 1024", "--n-ctx")
    with_file("p.jsonl", b'{"positive": "a", "negative": "%s"}\n' % (b"b " * 1100), "p.jsonl:1: negative", "--n-ctx")
    refused([*files, "--layers", "2-9"], "there is no layer 9", "0..3")


@pytest.mark.slow
def test_bad_folders(files: list[str]) -> None:
    Path("taken").write_text("")
    Path("full").mkdir()
    Path("full", "song.mp3").write_text("la")
    for out, expected in (
        ("taken", "is a file"),
        ("full", "'song.mp3', which is not a sweep's"),
        ("taken/x", "no file"),
    ):
        result = run(*files, "--out", out)
        assert result.exit_code == 1 and f"error: {out}: " in result.stderr and expected in result.stderr
        assert result.stderr.count("\n") == 1 and "--out" in result.stderr
    assert run(*files, "--out", "x").exit_code == 0
    Path("x", STORE).write_bytes(b"scratched")
    for command in (files + ["--out", "x"], ["report", "x"], ["score", "x"], ["constants", "x"]):
        result = run(*command)
        assert result.exit_code == 1 and f"x/{STORE}: not a usable sweep store" in result.stderr
        # Commands that read a run have no --force: the sentence says whose it is and what it takes away.
        assert result.stderr.count("\n") == 1 and "measure it again (steercpp sweep" in result.stderr
        assert "--force, which discards what is there" in result.stderr
    assert run(*files, "--out", "x", "--force").exit_code == 0


def heed_signals() -> None:
    """As of a process that a shell begins in front."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def on_a_terminal(arguments: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """The command in a process of its own, with a terminal of 80 x 24 on stderr, and that terminal's other end.

    Tests that run in the background of a shell ignore Ctrl-C, which the process would inherit.
    """
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "steercpp.cli.main", *arguments], stdout=subprocess.PIPE, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        preexec_fn=heed_signals,
    )  # fmt: skip
    os.close(terminal)
    return process, controller


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_keeps_what_is_finished_and_the_same_command_goes_on(files: list[str], number: signal.Signals) -> None:
    command = [*files[:8], "--strengths", "-2:2:0.01", "--unit", "norm", "--threads", "1", "--out", "x"]
    process, controller = on_a_terminal(command)
    drawn = drawn_on(controller, until="⣀".encode())  # a strength is finished, its line drawn
    process.send_signal(number)
    drawn += drawn_on(controller)
    stdout, _ = process.communicate()
    os.close(controller)
    assert (process.returncode, stdout) == (128 + number, b"")
    assert not [path.name for path in Path("x").iterdir() if path.name.startswith(".")]  # nor the lock
    assert (b"stopping after the step in hand" in drawn) == (number == signal.SIGINT)
    assert b"what was finished is kept" in drawn and b"Traceback" not in drawn
    data = json.loads(run("report", "x", "--json").stdout)
    assert not data["finished"] and 0 < len(data["strengths"]) < 401
    assert "unfinished" in run("report", "x").stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc")
@pytest.mark.parametrize("later_s", [0.1, 0.5])
def test_ctrl_c_while_workers_begin_is_told_in_a_word(files: list[str], later_s: float) -> None:
    """What was wrong: a worker that still imported was interrupted too, and printed a traceback."""
    command = [sys.executable, "-m", "steercpp.cli.main", *files, "--no-texts", "--workers", "2", "--out", "x"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=heed_signals
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

        def is_worker(pid: str) -> bool:
            with suppress(FileNotFoundError):  # other children come and go
                return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            return False

        while not any(map(is_worker, children.read_text().split())):
            time.sleep(0.002)
        time.sleep(later_s)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate()
    assert process.returncode == 130 and "Traceback" not in stderr and stderr.endswith("interrupted\n"), stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_bar_on_stderr_does_not_take_the_data_from_stdout(files: list[str]) -> None:
    """Rich's live display catches what is printed meanwhile, unless told not to."""
    process, controller = on_a_terminal([*files, "--json"])
    drawn = drawn_on(controller)
    stdout, _ = process.communicate()
    os.close(controller)
    assert process.returncode == 0 and "━".encode() in drawn and b"event" not in drawn
    assert [json.loads(line)["event"] for line in stdout.splitlines()] == ["strength"] * 3 + ["result"]


@pytest.mark.slow
def test_report_of_a_planted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_planted_run(tmp_path / "run")
    result = run("report", "run")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].rstrip() == "Use strength +0.1 of the residual norm at layers 3-4." and len(lines) <= 15
    assert "llama-server -m planted.gguf --control-vector-scaled run/vector.gguf:0.1" in [
        line.rstrip() for line in lines
    ]
    assert max(map(len, lines)) <= 80
    data = json.loads(run("report", "run", "--json", "--max-loss", "0.3").stdout)
    assert data["recommendation"]["candidate"] > 0.1 and data["recommendation"]["max_loss"] == 0.3
    none = run("report", "run", "--direction", "-")
    assert none.exit_code == 0 and "No strength to recommend: " in none.stdout and "llama-server" not in none.stdout


def test_report_without_a_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        result = run("report", folder)
        assert (result.exit_code, result.stdout) == (1, "") and f"error: {folder}: " in result.stderr


@pytest.mark.slow
def test_paths_that_llama_cpp_would_split_are_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_planted_run(tmp_path / "a,b")
    result = run("report", "a,b")
    assert result.exit_code == 0 and "--control-vector-scaled" not in result.stdout and "':' or ','" in result.stdout
