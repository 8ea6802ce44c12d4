"""Pipes in the place of files: each command reads one as it reads the file, or says that it cannot be read twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from places import ROOT
from small_sweep import CHOICE, small_sweep, small_vector, write_items

from steercpp.cli.main import main
from steercpp.data.pairs import iter_pairs, read_pairs
from steercpp.engine.engine import Engine
from steercpp.extraction.activations_file import dump
from steercpp.inputs import open_input, read_input
from steercpp.pipes import rereadable
from steercpp.sweeps.texts import TextPlan
from steercpp.vectors.formats import write_any_vector

pytestmark = pytest.mark.slow

PRESET = 'about = "A."\n[vectors.v]\nmodel = "chat"\npairs = "refusal"\nmethod = "mean"\nlayers = "1-2"\n'
PRESET += '[runs.r]\nmodel = "chat"\nvector = "v"\nstrengths = "-1,1"\nbehavior = "refusal"\nlimit = 4\n'
MATCHER = {"aligned": {"phrases": ["no"]}, "misaligned": {"phrases": ["yes"]}}


@contextmanager
def piped(file: Path) -> Iterator[str]:
    """The path of a pipe that gives what is in the file, once, as `<(cat file)` does in a shell."""
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:  # a model is refused unread
            pipe.write(file.read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)
        thread.join()


@pytest.fixture(scope="module")
def folder(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind that a command reads, and a run with texts."""
    place = tmp_path_factory.mktemp("pipes")
    write_items(place)
    vector = small_vector(tiny_engine)
    for name in ("v.gguf", "v.npz", "v.safetensors"):
        write_any_vector(place / name, vector)
    (place / "model.gguf").symlink_to(tiny_engine.path)
    dump(tiny_engine, read_pairs(place / "p.jsonl"), place / "a.safetensors")
    with open(place / "mmlu.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([item.question, *item.choices, "ABCD"[item.answer]] for item in CHOICE)
    (place / "caa.json").write_text(json.dumps([
        {"question": f"Do you like the {word}?", "answer_matching_behavior": " no", "answer_not_matching_behavior":
         " yes"} for word in ("man", "day")]))  # fmt: skip
    (place / "no.txt").write_text("no no\ncannot\n")
    (place / "yes.txt").write_text("yes yes\nsure\n")
    (place / "words.txt").write_text("The man and the day of the world. " * 9)
    (place / "curve.csv").write_text("strength,alignment\n" + "".join(f"{s},{s / 9}\n" for s in range(-4, 5)))
    (place / "matcher.json").write_text(json.dumps(MATCHER))
    (place / "preset.toml").write_text(PRESET)
    small_sweep(tiny_engine, place / "run", random_directions=0, text_plan=TextPlan(4, seed=0))
    return place


def run(command: str, **paths: str) -> Result:
    words = [word.format(**paths) for word in command.split()]
    result = CliRunner().invoke(main, words, env={"COLUMNS": "100"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


ENGINE = "--threads 1"
SWEEP = (
    f"sweep model.gguf {ENGINE} --strengths=-1:1:1 --random 0 --no-orthogonal --no-prompt-baseline --force --out out"
)
COMMANDS = {
    "extract": ("p.jsonl", f"extract model.gguf {ENGINE} --pairs {{it}} -o o.gguf --force --json"),
    "extract caa": ("caa.json", f"extract model.gguf {ENGINE} --pairs {{it}} -o o.gguf --force --json"),
    "extract text": (
        "no.txt",
        f"extract model.gguf {ENGINE} --positive-file {{it}} --negative-file yes.txt -o o.gguf --force --json",
    ),
    "extract activations": ("a.safetensors", "extract --activations {it} -o o.gguf --force --json"),
    "dump": ("p.jsonl", f"dump model.gguf {ENGINE} --pairs {{it}} -o o.safetensors --force --json"),
    "show gguf": ("v.gguf", "show {it} --json"),
    "show npz": ("v.npz", "show {it} --json"),
    "show safetensors": ("v.safetensors", "show {it} --json"),
    "doctor": ("v.gguf", "doctor {it} --json"),
    "convert": ("v.gguf", "convert {it} o.npz --force --json"),
    "combine": ("v.gguf", "combine {it}:2 v.npz -o o.gguf --force --json"),
    "cosine": ("v.gguf", "cosine {it} v.npz --json"),
    "sweep vector": ("v.gguf", f"{SWEEP} --vector {{it}} --behavior b.jsonl --json"),
    "sweep pairs": ("p.jsonl", f"{SWEEP} --pairs {{it}} --behavior b.jsonl --json"),
    "sweep behavior": ("b.jsonl", f"{SWEEP} --vector v.gguf --behavior {{it}} --json"),
    "sweep task": ("c.jsonl", f"{SWEEP} --vector v.gguf --task {{it}} --json"),
    "sweep task csv": ("mmlu.csv", f"{SWEEP} --vector v.gguf --task {{it}} --json"),
    "sweep gate": ("v.gguf", f"{SWEEP} --vector v.gguf --behavior b.jsonl --gate 1:-9 --gate-vector {{it}} --json"),
    "calibrate": ("words.txt", f"calibrate model.gguf {ENGINE} --vector v.gguf --text {{it}} -o o.gguf --force --json"),
    "generate": ("v.gguf", f"generate model.gguf {ENGINE} --vector {{it}} -p the -n 3 --json"),
    "fit": ("curve.csv", "fit {it} --json"),
    "score": ("matcher.json", "score run --matcher {it} --json"),
    "data show": ("mmlu.csv", "data show mmlu {it} --json"),
    "study": ("preset.toml", "study {it} --print --json"),
    "cross": ("v.gguf", f"cross model.gguf {ENGINE} --vector {{it}}:1 --behavior b.jsonl --random 1 --json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_pipe_is_read_as_its_file_is(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What was wrong: whatever opens a file twice, asks for its size or goes back in it found an empty one."""
    monkeypatch.chdir(folder)
    file, command = COMMANDS[name]
    plain = run(command, it=file)
    assert plain.exit_code == 0, plain.output
    with piped(folder / file) as pipe:
        told = run(command, it=pipe)
    assert told.exit_code == 0, told.output
    assert figures(told.stdout) == figures(plain.stdout)


def figures(output: str) -> list[Any]:
    """All that JSON says but texts, some of which name the file."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return [kept(item) for item in value.values()]
        return [kept(item) for item in value] if isinstance(value, list) else None if isinstance(value, str) else value

    lines = output.splitlines() if output.startswith('{"') else [output]
    return [kept(json.loads(line)) for line in lines]


def test_a_model_in_a_pipe_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "small.gguf").write_bytes((folder / "model.gguf").read_bytes()[:4096])
    for command in ("extract {it} --pairs p.jsonl -o o.gguf --force", "sweep {it} --vector v.gguf --behavior b.jsonl"):
        with piped(folder / "small.gguf") as pipe:
            told = run(command, it=pipe)
        assert told.exit_code == 1
        assert f"{pipe}: is a pipe or device, which cannot be read twice; save the model as a file" in told.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_in_a_real_shell(folder: Path) -> None:
    line = (
        'steer() { "$0" -m steercpp.cli.main "$@"; }; steer show <(cat v.gguf) && '
        "steer fit - < /dev/null; steer fit /dev/stdin < <(cat curve.csv) && echo ended"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        ["bash", "-c", line, sys.executable], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert ended.stdout.endswith("ended\n") and "error: -: cannot be read" in ended.stderr, ended.stderr


def test_errors_in_a_pipe_name_it_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"positive": "a", "negative": "b", "id": "x"}\n' * 2)
    with piped(tmp_path / "p.jsonl") as pipe, pytest.raises(ValueError, match="no"):
        try:
            list(iter_pairs(pipe))
        except Exception as error:
            assert str(error) == f"{pipe}:2: id 'x' is on line 1 already; make ids unique"
            raise ValueError("no") from error


def test_a_copy_is_made_of_pipes_alone_and_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 1024)  # more than a pipe holds
    assert rereadable(file) == file and rereadable(tmp_path / "nothing") == tmp_path / "nothing"
    with piped(file) as pipe:
        assert read_input(pipe) == read_input(pipe) == file.read_bytes()
        with open_input(pipe) as copy:
            assert os.fstat(copy.fileno()).st_size == 1 << 18 and copy.seek(5) == 5 and copy.read(1) == b"\5"
    with pytest.raises(FileNotFoundError):
        open_input(tmp_path / "nothing")
