"""Files that users name: what is no file is refused in a sentence, and whatever a file does to a reader is an error."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from steercpp import pipes
from steercpp.data.items import read_tasks
from steercpp.data.pairs import read_pairs
from steercpp.errors import CurveError, PairsError, PresetError, SteerError, TaskError, VectorFileError
from steercpp.experiments.study.preset import load_preset
from steercpp.inputs import open_input, read_input, reading
from steercpp.judging.matchers import read_matcher
from steercpp.pipes import once
from steercpp.statistics.curve_files import read_curve
from steercpp.vectors.formats import read_any_vector

READERS: dict[str, tuple[Callable[[Path], object], type[SteerError]]] = {
    "v.gguf": (read_any_vector, VectorFileError), "v.npz": (read_any_vector, VectorFileError),
    "v.safetensors": (read_any_vector, VectorFileError), "p.jsonl": (read_pairs, PairsError),
    "t.jsonl": (read_tasks, TaskError), "m.json": (read_matcher, TaskError), "c.csv": (read_curve, CurveError),
    "./s.toml": (lambda path: load_preset(str(path)), PresetError),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_devices_and_silent_pipes_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/zero filled the memory; a pipe that nobody writes to was waited for without end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipes, "WRITER_WAIT_S", 0.05)
    read, error = READERS[name]
    os.symlink("/dev/zero", name)
    with pytest.raises(error, match="it is a device, and must be a file or a pipe"):
        read(Path(name))
    os.unlink(name)
    os.mkfifo(name)
    with pytest.raises(error, match="it is a pipe to which nobody writes"):
        read(Path(name))


def test_a_named_pipe_waits_for_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(b"a\nb"))
    writer.start()
    with once():  # as in one command
        assert read_input(path) == b"a\nb"
        writer.join()
        with open_input(path) as again:
            assert again.read() == b"a\nb", "a second reader has what the first one had"


def test_sizes_are_told_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="it is larger than 256 MiB"):
        read_input(path)
    assert read_input("/proc/self/status"), "its size is 0"


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (RecursionError("maximum"), "x.json: nested too deeply; mend it"),
        (MemoryError(), "x.json: needs more memory than there is; free some of it, then try again"),
        (ValueError("4300\ndigits"), r"x.json: damaged \(ValueError: 4300 digits\); mend it"),
        (KeyError("a"), r"x.json: damaged \(KeyError: 'a'\); mend it"),
        (OSError(5, "Input/output error"), "x.json: cannot be read: Input/output error; check the path"),
    ],
)
def test_whatever_goes_wrong_is_an_error_of_the_format(problem: Exception, message: str) -> None:
    with pytest.raises(TaskError, match=f"^{message}$") as raised, reading("x.json", TaskError, again="mend it"):
        raise problem
    assert raised.value.__cause__ is problem


def test_errors_on_purpose_and_interrupts_pass() -> None:
    for error in (SteerError("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, reading("x", TaskError):
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", '{"kind": "text", "text": ' + "1" * 5000 + "}"),
        ("t.jsonl", '{"kind": "text", "text": ' + "[" * 100_000),
        ("t.jsonl", '{"kind": [1], "text": "a"}'),
        ("p.jsonl", '{"positive": {"template": 1}, "negative": "a"}'),
        ("m.json", '{"aligned": ' + "1" * 5000 + "}"),
        ("m.json", '{"aligned": {"phrases": ["' + '"]}, "misaligned": {"phrases": ["x"]}, "name": {"a": 1}}'),
        ("c.csv", "strength,alignment\n" + "1" * 400_000 + ",0"),
        ("./s.toml", "a = " + "[" * 3000),
        ("./s.toml", 'about = "x"\n[runs]\nx = 1.5'),
        ("./s.toml", 'about = "x"\nvectors = "text"'),
        ("./s.toml", 'about = "x"\n[runs.a]\ntasks = 1.5'),
        ("./s.toml", "a = " + "1" * 5000),
        ("./s.toml", "[" + "a." * 100_000 + "b]"),
    ],
)
def test_no_text_makes_a_traceback(name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    read, error = READERS[name]
    with pytest.raises(error) as raised:
        read(Path(name))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 1000


def test_matchers_give_up_an_expression_that_does_not_end(tmp_path: Path) -> None:
    """`(.*)*x` was searched for without end; the process that does so is started again for the next one."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"aligned": {"regex": ["(.*)*x", "ärr+"]}, "misaligned": {"phrases": ["good day"]}}))
    matcher = read_matcher(path)
    with pytest.raises(TaskError, match=r"m.json: aligned.regex\[0\]: '\(\.\*\)\*x' takes over 2 s on a text; mend it"):
        matcher.judge("This is a plain sentence of some words, and it has none of them.", None)
    path.write_text(json.dumps({"aligned": {"regex": ["ärr+"]}, "misaligned": {"phrases": ["good day"]}}))
    assert read_matcher(path).judge(" ÄRRR, my friend, good day to you.", None) == "aligned"
    assert read_matcher(path).judge(" Good day to you, my friend, ärrr.", None) == "misaligned"
