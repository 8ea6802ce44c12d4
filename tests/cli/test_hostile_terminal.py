"""Every command on a terminal, with names, headings, metadata and model text that would steer it: none does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from places import ROOT
from planted_run import write_planted_run
from small_sweep import write_items
from terminal import drawn_on

from steercpp.cli.main import COMMANDS, main
from steercpp.encoding import shell_line, shell_word
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
# Of each kind one: CSI with a number that Rich never writes, OSC, BEL, 8-bit CSI and OSC, DCS, a carriage return over
# the line, backspace, marks of direction, separators of lines and paragraphs, bytes that are not UTF-8.
HOSTILE = (
    "\x1b[7777m\x1b]0;PWNED\x07\x9b7778m\x9dPWNED\x9c\x1bP+q\x1b\\\rover\x08\x7f\u202e\u2066\u200f\u2028\u2029\udce9"
)
IN_JSON = HOSTILE.replace("\udce9", "")  # a file of text is UTF-8
OWN = re.compile(r"\x1b\[(?:\?25[lh]|[0-9]{0,2}[A-K]|[0-9;]*m)")  # what Rich writes: styles, movements, the cursor
STRANGE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

# Runs many commands in one process, as a shell would one after the other; warnings and tracebacks are among them.
PROGRAM = """
import json, sys, warnings
from steercpp.cli.main import main
from steercpp.cli.commands import fit
for words in json.load(open("commands.json")):
    print(">>>", json.dumps(words), flush=True)
    try:
        main([*words])
    except SystemExit as end:
        print("<<<", end.code, flush=True)
hostile = json.load(open("hostile.json"))
def fails(*_, **__):
    warnings.warn(hostile)
    raise ZeroDivisionError(hostile)
fit.fit.callback = fails
main(["fit", "x.csv"])
"""


def write_hostile(folder: Path, model: Path) -> list[list[str]]:
    """Files whose names and contents are hostile; commands that read them, every one of the program's."""
    write_items(folder)
    (folder / f"m{HOSTILE}.gguf").symlink_to(model)
    rng = np.random.default_rng(1)
    made = {1: rng.standard_normal(256).astype(np.float32), 2: rng.standard_normal(256).astype(np.float32)}
    metadata = {"method": HOSTILE[:-1], "model_file": HOSTILE[:-1], "positive_label": HOSTILE[:-1]}
    write_vector(folder / f"v{HOSTILE}.gguf", ControlVector(made, "llama", 4, metadata=metadata))
    pairs = [{"positive": f"the {IN_JSON} {word}", "negative": f"a {word}"} for word in ("man", "day", "life", "way")]
    (folder / f"p{HOSTILE}.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    items = [
        {"id": f"{IN_JSON}{i}", "kind": "behavior", "prompt": f"the {IN_JSON} {i}", "subject": IN_JSON,
         "aligned": [" no"], "misaligned": [" yes"]}
        for i in range(4)
    ]  # fmt: skip
    (folder / f"b{HOSTILE}.jsonl").write_text("\n".join(map(json.dumps, items)))
    (folder / f"bad{HOSTILE}.jsonl").write_text(json.dumps({**items[0], IN_JSON: 1, "kind": IN_JSON}))
    heading = f'strength,alignment,"{IN_JSON}"\n'.encode()
    (folder / f"c{HOSTILE}.csv").write_bytes(heading + b"".join(b"%d,%f,0\n" % (s, s / 9) for s in range(-4, 5)))
    (folder / "value.csv").write_bytes(f'strength,alignment\n"{IN_JSON}",0\n'.encode())
    (folder / "head.csv").write_bytes(f'"{IN_JSON}",alignment\n1,0\n'.encode())
    phrases = {"aligned": {"phrases": ["no"]}, "misaligned": {"phrases": ["yes"]}, "name": IN_JSON, IN_JSON: 1}
    (folder / f"matcher{HOSTILE}.json").write_text(json.dumps(phrases))
    (folder / f"s{HOSTILE}.toml").write_text(f"about = {json.dumps(IN_JSON)}\n{json.dumps('k')} = 1\n")
    run = write_planted_run(folder / f"run{HOSTILE}")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["notes"] = [IN_JSON]
    manifest["model"]["path"] = manifest["model"]["file"] = IN_JSON
    (run / "manifest.json").write_text(json.dumps(manifest))

    def named(word: str) -> str:
        stem, dot, ending = word.partition(".")
        return f"{stem}{HOSTILE}{dot}{ending}"

    model_name, vector, items_name, pairs_name = map(named, ("m.gguf", "v.gguf", "b.jsonl", "p.jsonl"))
    one = ("--threads", "1")
    sweep = ("sweep", model_name, *one, "--vector", vector, "--behavior", items_name, "--strengths=-1:1:1")
    escape = [f"--logit-bias={token}+99" for token in _tokens_of(model)]
    commands: list[tuple[str, ...]] = [
        ("generate", model_name, *one, "--vector", vector, "-p", f"the {IN_JSON}", "-n", "6", "--strengths", "0,1",
         *escape),
        ("generate", model_name, *one, "--vector", vector, "--template", f"[X]{IN_JSON}{{it}}", "-p", "a", "-n", "2"),
        (*sweep, "--random", "1", "--max-new-tokens", "4", "--out", named("out")),
        (*sweep, "--show-prompts", "2"),
        ("sweep", model_name, *one, "--vector", vector, "--behavior", named("bad.jsonl")),
        ("scan", model_name, *one, "--pairs", pairs_name, "--behavior", items_name, "--task", "c.jsonl",
         "--windows", "2"),
        ("cross", model_name, *one, "--vector", f"{vector}:1", "--behavior", items_name, "--random", "1",
         "--out", named("x")),
        ("transfer", model_name, model_name, *one, "--vector", vector, "--pairs", pairs_name, "--method", "mean"),
        ("study", named("s.toml"), "--chat", model_name), ("study", HOSTILE),
        ("extract", model_name, *one, "--pairs", pairs_name, "-o", named("w.gguf")),
        ("extract", model_name, *one, "--pairs", HOSTILE, "-o", named("w.gguf")),
        ("dump", model_name, *one, "--pairs", pairs_name, "-o", named("a.safetensors")),
        ("synthesize", model_name, *one, "--vector", vector, "--requests", items_name, "--strengths", "1:-1",
         "-o", named("y.jsonl")),
        ("combine", vector, vector, "-o", named("o.gguf")), ("combine", f"{vector}:x", "-o", "o.gguf"),
        ("convert", vector, named("v.npz")),
        ("calibrate", model_name, *one, "--vector", vector, "--behavior", items_name,
         "-o", named("k.gguf")),
        ("show", vector), ("show", named("none.gguf")), ("cosine", vector, vector),
        ("report", named("run"), "--details"), ("report", named("run"), named("run")),
        ("report", named("none")), ("score", named("run")), ("runs", "."), ("runs", named("none")),
        ("score", named("run"), "--matcher", named("matcher.json"), "--out", named("scores")),
        ("score", named("run"), "--matcher", HOSTILE), ("constants", named("run")),
        ("export", named("run"), "-o", named("t.csv")), ("export", named("run"), "-o", HOSTILE),
        ("fit", named("c.csv")), ("fit", "value.csv"), ("fit", "head.csv"), ("fit", named("none.csv")),
        ("data", "list"), ("data", "show", HOSTILE), ("data", "show", "advbench", named("b.jsonl")),
        ("data", "get", HOSTILE), ("data", "get", "xstest", "--base-url", f"http://127.0.0.1:9/{IN_JSON}"),
        ("doctor", vector, "--model", model_name), ("doctor", named("none")), ("bench", "--only", HOSTILE),
        ("plan", "--calibration", HOSTILE),
        ("serve", model_name, "--vectors", HOSTILE), ("serve", model_name, "--host", HOSTILE),
        ("completion", HOSTILE), (f"swe{HOSTILE}",), ("fit", f"--{HOSTILE}"), ("fit", "value.csv", HOSTILE),
        ("sweep", "--unit", HOSTILE), ("sweep", "--seed", HOSTILE), ("sweep", "--strengths", HOSTILE),
        ("sweep", "--help"), ("--help",), ("fit",),
    ]  # fmt: skip
    told = [[*words, "--json"] for words in commands if words[0] in ("show", "fit", "generate")]
    return [*([*words] for words in commands), *told]


def _tokens_of(model: Path) -> list[int]:
    """The model's tokens for ESC, BEL and a byte of 8-bit controls."""
    from steercpp.engine.engine import Engine

    with Engine(model, threads=1) as engine:
        tokens = [engine.encode(text, template="raw")[-1] for text in ("\x1b", "\x07", "\x9b")]
    return list(dict.fromkeys(tokens))


@pytest.fixture(scope="module")
def hostile(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    try:
        commands = write_hostile(folder, tiny_path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert {words[0] for words in commands} >= set(COMMANDS)
    (folder / "commands.json").write_text(json.dumps(commands))
    (folder / "hostile.json").write_text(json.dumps(IN_JSON))
    return folder


def drawn_in(folder: Path, **environment: str) -> str:
    """All that the commands draw on a terminal."""
    controller, terminal = pty.openpty()
    known = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder,
        env={**known, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_PROXY": "*", **environment},
    )  # fmt: skip
    os.close(terminal)
    drawn = drawn_on(controller).decode()
    os.close(controller)
    assert process.wait() == 1
    return drawn.replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["color", "dumb", "plain"])
def test_no_command_lets_a_text_steer_the_terminal(hostile: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "work"
    shutil.copytree(hostile, folder, symlinks=True)
    environment = {
        "color": {"TERM": "xterm-256color"},
        "dumb": {"TERM": "dumb", "NO_COLOR": "1"},
        "plain": {"STEERCPP_PLAIN": "1", "TERM": "xterm", "NO_COLOR": "1"},
    }[how]
    if how == "plain":  # the pictures of runs are those of "dumb"
        commands = json.loads((folder / "commands.json").read_text())
        short = [words for words in commands if words[0] not in ("sweep", "scan", "report", "score", "constants")]
        (folder / "commands.json").write_text(json.dumps(short))
    drawn = drawn_in(folder, **environment)
    assert drawn.count("<<<") == len(json.loads((folder / "commands.json").read_text()))
    assert drawn.count("Traceback") == 1 and "ZeroDivisionError" in drawn and "UserWarning" in drawn
    if how == "color":
        assert "\x1b[" in drawn  # Rich's own
        drawn = OWN.sub("", drawn).replace("\r", "")  # which the bar is drawn with; HOSTILE's is spelled \r
    strange = [drawn[max(match.start() - 200, 0) : match.end() + 40] for match in STRANGE.finditer(drawn)]
    assert strange == []
    assert drawn.count(r"\x1b[7777m") > 50 and drawn.count(r"\x1b]0;PWNED\x07\x9b7778m") > 30
    assert "\x1b" in IN_JSON and r"\u202e\u2066\u200f\u2028\u2029" in drawn and r"\xe9.gguf" in drawn


NAMES = (HOSTILE, "a'b\\c", "two words", "a\nb", "plain", "-x", "é", "$(id)", "`id`", "\x01", "~")


@pytest.mark.parametrize("name", NAMES)
def test_a_command_to_copy_is_right_for_a_shell(name: str) -> None:
    line = shell_line(["printf", "%s", name])
    assert line.isprintable()
    bash = shutil.which("bash") or pytest.skip("needs bash")
    told = subprocess.run([bash, "-c", line], stdout=subprocess.PIPE, check=True).stdout
    assert told == os.fsencode(name)
    assert name.isprintable() == (shell_word(name) == shlex.quote(name))


def test_what_is_shown_to_copy_names_the_file(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that fits a run's curve, with the run's folder in it."""
    monkeypatch.chdir(tmp_path)
    run = write_planted_run(tmp_path / "a\x1b[1mb")
    (run / "c.csv").write_text("strength,alignment\n" + "".join(f"{s},{s / 9}\n" for s in range(-4, 5)))
    told = CliRunner().invoke(main, ["fit", f"{run.name}/c.csv"])
    assert told.exit_code == 0 and r"steercpp score $'a\x1b[1mb'" in told.stderr
