"""Output in an encoding that lacks characters, or whose reader has gone: replaced or quiet, never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import ROOT
from small_sweep import small_sweep

from steercpp.cli.main import COMMANDS, main
from steercpp.cli.terminal import SPELLED
from steercpp.engine.engine import Engine

pytestmark = pytest.mark.slow

ENCODINGS = ("cp1252", "cp437", "gbk", "latin-1", "cp932", "ascii")
WRITERS: tuple[Sequence[str], ...] = (
    ("score", "run", "--samples", "1"),
    ("sweep", "model.gguf", "--vector", "run/vector.gguf", "--behavior", "strange.jsonl", "--show-prompts", "1"),
    ("show", "run/vector.gguf"),
    ("data", "list"),
    ("study",),
    ("study", "wolf2024/fairness-base", "--print"),
)
STRANGE = {"kind": "behavior", "prompt": "Łódź 中 \u2212 é", "aligned": [" no"], "misaligned": [" sure"]}


@pytest.fixture(scope="module")
def folder(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its model, and an item whose characters no one of the encodings has all of."""
    place = tmp_path_factory.mktemp("encodings")
    small_sweep(tiny_engine, place / "run")
    (place / "model.gguf").symlink_to(tiny_engine.path)
    (place / "strange.jsonl").write_text(json.dumps({"id": "Ł中", **STRANGE}) + "\n")
    return place


def run(encoding: str, *arguments: str) -> Result:
    """The command with streams of this encoding, as strict as Python's own."""
    result = CliRunner(charset=encoding).invoke(main, arguments, env={"COLUMNS": "100"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def numbers(told: str) -> list[str]:
    """All numbers, in order; a power is spelled with a ^ where its digit is lacking."""
    return re.findall(r"[0-9]+(?:\.[0-9]+)?", told.replace("²", "^2"))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("arguments", WRITERS, ids=" ".join)
def test_what_an_encoding_lacks_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: Sequence[str]
) -> None:
    monkeypatch.chdir(folder)
    plain, told = run("utf-8", *arguments), run(encoding, *arguments)
    assert told.exit_code == plain.exit_code == 0
    assert numbers(told.stdout) == numbers(plain.stdout)
    known = {*SPELLED, *"─│╭╮╰╯"}
    lacking = any(letter.encode(encoding, "ignore") == b"" for letter in plain.stdout if letter not in known)
    assert ("?" in told.stdout) >= lacking
    if arguments[0] in ("score", "sweep", "show"):
        documents = [json.loads(run(name, *arguments, "--json").stdout) for name in ("utf-8", encoding)]
        assert documents[0] == documents[1]  # nothing is replaced in JSON


@pytest.mark.parametrize("name", COMMANDS)
def test_help_in_any_encoding(name: str) -> None:
    for encoding in ENCODINGS:
        assert run(encoding, name, "--help").exit_code == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_in_any_encoding(encoding: str) -> None:
    for arguments, status in ((("show", "Ł中.gguf"), 1), (("sweep", "--strengths", "−4:4"), 2), (("Ł中",), 2)):
        result = run(encoding, *arguments)
        assert result.exit_code == status and "rror" in result.stderr


def program(
    folder: Path, arguments: Sequence[str], redirect: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it, redirected so."""
    line = f'"$0" -m steercpp.cli.main "$@" {redirect}; echo "${{PIPESTATUS[0]}}"'
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment}
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=known
    )


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("report", {"PYTHONIOENCODING": "cp1252"}),
        ("score", {"PYTHONIOENCODING": "gbk:strict"}),
        ("score", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    ],
)
def test_redirected_output_of_a_real_process(folder: Path, command: str, environment: dict[str, str]) -> None:
    """What was wrong: a sweep measured everything, then died while printing it."""
    ended = program(folder, (command, "run"), "> told.txt", **environment)
    assert (ended.stdout, ended.stderr) == ("0\n", "")
    written = (folder / "told.txt").read_bytes()
    encoding = environment.get("PYTHONIOENCODING", "ascii").partition(":")[0]
    assert "Not proved" in written.decode(encoding) and "─".encode() not in written


@pytest.mark.parametrize("arguments", [("score", "run"), ("score", "run", "--json"), ("--help",)])
def test_a_reader_that_goes_leaves_no_traceback(folder: Path, arguments: Sequence[str]) -> None:
    ended = program(folder, arguments, "| true")
    assert ended.stderr == "" and ended.stdout in ("0\n", "1\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [("score", "run"), ("score", "run", "--json"), ("--help",)])
def test_a_full_disk_is_one_sentence(folder: Path, arguments: Sequence[str]) -> None:
    ended = program(folder, arguments, "> /dev/full")
    assert ended.stderr == "error: No space left on device\n" and ended.stdout == "1\n"
