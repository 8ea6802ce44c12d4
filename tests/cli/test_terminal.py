"""What a person sees in terminals of all sorts: sizes, encodings, no color, plain lines, and names that are hostile."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import ROOT
from planted_run import write_planted_run
from rich.cells import cell_len
from small_sweep import write_items
from terminal import drawn_on

from steercpp.cli.main import main
from steercpp.cli.terminal import SPELLED
from steercpp.encoding import printable, visible
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
pytestmark = pytest.mark.slow
WIDTHS = (40, 60, 80, 200)
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FRAMES = re.compile("[\u2500-\u259f\u2800-\u28ff●▶]")  # boxes, blocks, braille


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_run(tmp_path_factory.mktemp("planted") / "run")


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80", **environment})


def write_inputs(folder: Path) -> None:
    """Items, and a vector for the tiny model."""
    write_items(folder)
    rng = np.random.default_rng(1)
    write_vector(folder / "v.gguf", ControlVector({1: rng.standard_normal(256).astype(np.float32)}, "llama", 4))


def numbers(told: str) -> list[str]:
    """All numbers with a point, sorted; those of the frame's axes too."""
    return sorted(re.findall(r"[+-]?[0-9]+\.[0-9]+%?", told))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["report", "score"])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(planted: Path, width: int, command: str) -> None:
    details = ["--details"] if command == "report" else []
    result = run(command, planted, *details, COLUMNS=str(width))
    assert result.exit_code == 0, result.output
    is_copied = ("llama-server", "  /", "  ..", "/", "..")  # commands and paths are never cut or wrapped
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert [line for line in lines if cell_len(line) > width and not line.startswith(is_copied)] == []
    table = [line for line in run(command, planted, *details, COLUMNS="300").stdout.splitlines()]
    assert set(numbers("\n".join(table))) == set(numbers(result.stdout))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_strengths_have_both_curves_beside_them_or_below(planted: Path, width: int) -> None:
    lines = run("report", planted, "--details", COLUMNS=str(width)).stdout.splitlines()
    (foot,) = [i for i, line in enumerate(lines) if "-0.6" in line and "+0.6" in line and "▲" in line]
    table = [i for i, line in enumerate(lines) if re.match(r" *[+-]0\.6 +[+-]", line) and i != foot]
    assert (table[0] < foot < table[-1]) == (width >= 80)
    curves = [line for line in lines if re.search("[⠁-⣿]", line)]
    assert len(curves) >= 6 and any(re.search(r"-1\.00 ┤", line) for line in curves)  # B's lower end


def test_plain_mode_has_lines_of_words_alone(planted: Path) -> None:
    told = {}
    report = ["report", str(planted), "--details"]
    cases: dict[str, tuple[list[str], dict[str, str]]] = {
        "global": (["--plain", *report], {}), "behind": ([*report, "--plain"], {}),
        "variable": (report, {"STEERCPP_PLAIN": "1"}),
    }  # fmt: skip
    for name, (arguments, environment) in cases.items():
        result = run(*arguments, FORCE_COLOR="1", **environment)
        assert result.exit_code == 0
        told[name] = result.stdout
    assert len(set(told.values())) == 1
    assert not FRAMES.search(told["global"]) and "\x1b" not in told["global"]
    lines = told["global"].splitlines()
    assert any(re.fullmatch(r"B rises from -1\.00 at -0\.6 to .*; it is .* at \+0\.1\.", line) for line in lines)
    (row,) = [line for line in lines if line.startswith("strength: +0.1,")]
    assert re.fullmatch(r"strength: \+0\.1, B: [+-]\d\.\d+, mass: \d\.\d+, P\(correct\): \d\.\d+, choices: .*", row)
    assert any(line.startswith("gain: ") for line in lines)
    assert FRAMES.search(run("report", planted, "--details").stdout)  # the next command has frames again


def test_no_color_and_a_dumb_terminal(planted: Path) -> None:
    colored = run("report", planted, FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", colored)
    without = run("report", planted, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", without)
    assert ANSI.sub("", without) == ANSI.sub("", colored)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_encoding_without_dots_has_stars_and_no_question_marks(planted: Path, encoding: str) -> None:
    result = CliRunner(charset=encoding).invoke(main, ["report", str(planted), "--details"], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and "?" not in result.stdout and "****" in result.stdout
    assert re.search(r"^B +[_.\-~=+*#]{20,}", result.stdout, re.MULTILINE)
    assert all(spelling.isascii() for spelling in SPELLED.values())


HOSTILE = {
    "escape": "\x1b[31mred\x1b]0;title\x07", "markup": "[bold]x[/bold][/INST]", "backwards": "\u202egnorw\u202c",
    "nothing": "a\u200bb\u2060c\ufeff", "lines": "a\r\nb\x85c", "column": "a\tb\x08\x7f",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("plain", [False, True])
def test_hostile_text_is_shown_and_never_obeyed(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, plain: bool
) -> None:
    """In the names of models, in ids, prompts, and continuations; on stdout as on stderr."""
    monkeypatch.chdir(tmp_path)
    text = HOSTILE[name]
    in_file_names = text.replace("/", "_")
    model = tmp_path / f"m{in_file_names}.gguf"
    model.symlink_to(tiny_path)
    write_inputs(tmp_path)
    items = [
        {"id": f"{i}{text}", "kind": "behavior", "prompt": f"the {text}", "aligned": [" no"], "misaligned": [" yes"]}
        for i in range(2)
    ]
    (tmp_path / "h.jsonl").write_text("\n".join(json.dumps(item) for item in items), encoding="utf-8")
    before = ["--plain"] if plain else []
    grid = ["--strengths=-1:1:1", "--random", "0", "--no-orthogonal", "--no-prompt-baseline", "--threads", "1"]
    results = [
        run(*before, "sweep", model, "--vector", "v.gguf", "--behavior", "h.jsonl", *grid, "--out", f"r{in_file_names}",
            "--no-texts"),
        run(*before, "report", f"r{in_file_names}", "--details"),
        run(*before, "score", f"r{in_file_names}"),
        run(*before, "sweep", model, "--vector", "v.gguf", "--behavior", "h.jsonl", *grid, "--show-prompts", "2"),
        run(*before, "show", f"none{in_file_names}.gguf"),
        run(*before, "generate", model, "--vector", "v.gguf", "-p", f"the {text}", "-n", "2", "--strengths", "0,1"),
        run(*before, f"swe{text}"),
    ]  # fmt: skip
    assert [result.exit_code for result in results] == [0, 0, 0, 0, 1, 0, 2], [result.output for result in results]
    for result in results:
        shown = result.stdout + result.stderr
        bad = [letter for letter in shown if not letter.isprintable() and letter != "\n"]
        assert bad == [], (result.output, bad)
    spelled = {"escape": "\\x1b[31mred", "markup": "[bold]x[/bold][/INST]", "backwards": "\\u202egnorw",
               "nothing": "a\\u200bb", "lines": "b\\x85c", "column": "\\x08\\x7f"}[name]  # fmt: skip
    for result in (results[3], results[5]):
        assert spelled in "".join(line.strip() for line in result.stdout.splitlines())


def on_a_terminal(
    arguments: list[str], folder: Path, width: int, height: int, **environment: str
) -> tuple[int, str]:  # fmt: skip
    """The exit code of a command and all that it draws on a terminal of this size."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    known = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "steercpp.cli.main", *arguments], stdin=terminal, stdout=terminal, stderr=terminal,
        cwd=folder, env={**known, "TERM": "xterm", "PYTHONPATH": str(ROOT), **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(terminal)
    drawn = drawn_on(controller).decode()
    os.close(controller)
    return process.wait(), drawn


@pytest.fixture
def sweep_arguments(tmp_path: Path, tiny_path: Path) -> list[str]:
    write_inputs(tmp_path)
    return [
        "sweep", str(tiny_path), "--vector", "v.gguf", "--behavior", "b.jsonl", "--task", "c.jsonl", "--unit", "norm",
        "--strengths=-1:1:0.02", "--threads", "1", "--random", "1", "--no-texts", "--out", "run",
    ]  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 24), (80, 8)])
def test_what_is_drawn_anew_is_never_taller_or_wider_than_the_screen(
    tmp_path: Path, sweep_arguments: list[str], width: int, height: int
) -> None:
    """Else a terminal scrolls, and each drawing leaves its head behind."""
    code, drawn = on_a_terminal(sweep_arguments, tmp_path, width, height)
    assert code == 0 and "Traceback" not in drawn
    pictures = re.split(r"\x1b\[\?25h", drawn)[0].split("\r\x1b[2K")  # up to where the cursor is shown again
    assert len(pictures) > 3
    tallest = max(len(picture.split("\n")) for picture in pictures)
    assert tallest <= height
    lines = [ANSI.sub("", line).rstrip("\r") for picture in pictures for line in picture.split("\n")]
    assert max(map(cell_len, lines)) <= width
    assert any(re.search(r"1/2 measuring [+-]?0(\.\d+)?, \d+ of 101", line) for line in lines)
    if height > 20:
        assert any(re.match(r" *strength", line) for line in lines)


@pytest.mark.parametrize("how", ["plain", "dumb"])
def test_where_nothing_is_drawn_anew_each_stage_has_a_line(
    tmp_path: Path, sweep_arguments: list[str], how: str
) -> None:
    environment = {"STEERCPP_PLAIN": "1"} if how == "plain" else {"TERM": "dumb"}
    code, drawn = on_a_terminal(sweep_arguments, tmp_path, 80, 24, **environment)
    assert code == 0 and "\x1b" not in drawn and "\r" not in drawn.replace("\r\n", "\n")
    stages = [line for line in drawn.splitlines() if line.startswith("stage ")]
    begins = ["stage 1 of 2: measuring", "stage 2 of 2: measuring the controls"]
    assert [line[: len(start)] for line, start in zip(stages, begins, strict=True)] == begins
    assert all(("finished in" in line) == (how == "plain") for line in stages)


def test_without_a_home(tmp_path: Path, sweep_arguments: list[str]) -> None:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    sweep = [word if not word.startswith("--strengths=") else "--strengths=0,1" for word in sweep_arguments]
    for arguments in (sweep, ["report", "run"], ["data", "list"]):
        ended = subprocess.run(
            [sys.executable, "-m", "steercpp.cli.main", *arguments],
            cwd=tmp_path,
            env=known,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
        assert "\x1b" not in ended.stdout + ended.stderr


def test_what_scripts_are_written_with_is_shown_and_what_hides_is_not() -> None:
    """What was wrong: families of emoji, Persian and Japanese were escapes in the terminal, on pages they were not."""
    for text in ("👨\u200d👩\u200d👧", "می\u200cخواهم", "東京\u3000タワー", "10\u00a0000\u202f€"):
        assert printable(text) == visible(text) == text
    for letter in "\x1b\x07\x9b\x7f\u202e\u2066\u200b\u200f\ufeff\u00ad\u2028\U000e0041":
        assert printable(letter) == visible(letter) == ascii(letter)[1:-1]
    assert printable("a\tb\n") == "a\\tb\n" and visible("a\tb\n") == "a\tb\n"
