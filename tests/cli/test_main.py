"""The command group: quick help, exit codes, one sentence for an error, and no command without help and example."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from places import ROOT

from steercpp.cli import output
from steercpp.cli.main import COMMANDS, LazyGroup, main
from steercpp.errors import SteerError


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    heavy = (
        "numpy",
        "rich",
        "llama_cpp",
        "matplotlib",
        "scipy",
        "gguf",
        "sqlite3",
        "steercpp.engine.engine",
        "steercpp.sweeps.sweep",
    )
    program = (
        "import sys; from steercpp.cli.main import main; main(['--help'], standalone_mode=False);"
        f"print('HEAVY', sorted(set({heavy!r}) & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.rstrip().endswith("HEAVY []")
    for name in COMMANDS:
        assert f"\n  {name} " in ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_json_and_a_readme_line(name: str) -> None:
    for flag in ("-h", "--help"):
        result = CliRunner().invoke(main, [name, flag], env={"COLUMNS": "80"})
        assert result.exit_code == 0 and result.stderr == ""
        assert f"Example: steercpp {name}" in result.stdout and "--json" in result.stdout
        assert "\\b" not in result.stdout  # the mark that keeps the lines of an example apart
        assert max(map(len, result.stdout.splitlines())) <= 80
    assert f"steercpp {name}" in (ROOT / "README.md").read_text()


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0 and result.stdout.startswith("steercpp 0.")


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (["swep"], ["sweep", "--strenghts", "1"], ["show"], ["sweep", "--random", "-1"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2 and result.stdout == "" and "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["swep"], "No such command 'swep'. Did you mean 'sweep'?"),
        (["extact", "m.gguf"], "No such command 'extact'. Did you mean 'extract'?"),
        (["data", "gett"], "Did you mean 'get'?"),
        (["sweep", "--strenghts", "1"], "'--strengths'"),
        (["sweep", "--method", "meen"], "'random'. Did you mean 'mean'?"),
        (["generate", "--operator", "rotat"], "Did you mean 'rotate'?"),
        (["sweep", "--unit", "norms"], "Did you mean 'norm'?"),
    ],
)
def test_what_is_nearly_right_is_suggested(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert words in " ".join(result.stderr.split()), result.stderr
    far = CliRunner().invoke(main, ["zzzzz"])
    assert far.exit_code == 2 and "Did you mean" not in far.stderr


def raising(error: BaseException) -> click.Group:
    """The real group, with a command that ends so."""

    @click.command()
    def fail() -> None:
        raise error

    class Group(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return fail

    return Group(name="steercpp")


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (
            SteerError("x.gguf: too\n  short \x1b[2J; give another"),
            1,
            "error: x.gguf: too short \\x1b[2J; give another\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "error: runs/x: No space left on device\n"),
        (OSError("odd"), 1, "error: odd\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_is_one_sentence(error: BaseException, code: int, stderr: str) -> None:
    result = CliRunner().invoke(raising(error), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_while_a_text_is_run_ends_with_130(tmp_path: Path) -> None:
    """Dataclasses are made by `exec`; `python -m` then ended by the signal although the interrupt was handled."""
    (tmp_path / "interrupted.py").write_text(
        "import click\nfrom steercpp.cli.main import LazyGroup\n"
        "text = 'import os, signal\\nos.kill(os.getpid(), signal.SIGINT)\\nfor _ in range(10**6): pass'\n"
        "class Group(LazyGroup):\n    def get_command(self, ctx, cmd_name):\n"
        "        return click.Command('wait', callback=lambda: exec(text))\n"
        "Group(name='steercpp')(['wait'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_inside_a_command_stops_the_tests(tmp_path: Path) -> None:
    """It was a failed test with exit code 130, and the next test began."""
    tests = tmp_path / "test_two.py"
    tests.write_text(
        "import os, signal\nimport click\nfrom click.testing import CliRunner\n"
        "from steercpp.cli.main import LazyGroup\n"
        "from interrupts import interrupts_stop_the_run\n"
        "class Group(LazyGroup):\n    def get_command(self, ctx, cmd_name):\n"
        "        return click.Command('wait', callback=lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "def test_one():\n    assert CliRunner().invoke(Group(name='steercpp'), ['wait']).exit_code == 0\n"
        "def test_two():\n    print('went on')\n"
    )
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)]
    helpers = str(ROOT / "tests" / "helpers")
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": helpers}
    )
    assert ended.returncode == 2 and "KeyboardInterrupt" in ended.stdout, ended.stdout  # pytest's number for it
    assert "went on" not in ended.stdout and "failed" not in ended.stdout


def test_our_own_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = CliRunner().invoke(raising(AssertionError("bug")), ["fail"])
    assert isinstance(result.exception, AssertionError)  # tests set STEERCPP_TRACEBACK
    monkeypatch.delenv("STEERCPP_TRACEBACK")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(raising(KeyError("a\nb")), ["fail"])
    (kept,) = tmp_path.glob("steercpp-fault-*.txt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: this is a fault of steercpp (KeyError: 'a\\nb'); please report it with {kept}, which says where\n"
    )
    assert "KeyError: 'a\\nb'" in kept.read_text() and "in fail" in kept.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    result = CliRunner().invoke(raising(ValueError("odd")), ["fail"])
    assert result.stderr.endswith("(ValueError: odd); set STEERCPP_TRACEBACK=1 to see where\n")
    result = CliRunner().invoke(raising(MemoryError()), ["fail"])
    assert result.stderr == (
        "error: there is not enough memory; give fewer items, a smaller model or a smaller context\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently there")
def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "steercpp.cli.main", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "steercpp.cli.main", "sweep", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode != 0 and "Traceback" not in ended.stderr


def test_json_is_valid_whatever_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    data = {
        "nan": float("nan"),
        "array": np.array([1.5, np.inf]),
        "path": Path("a/b"),
        "scalar": np.int64(3),
        "tuple": (1,),
    }
    output.emit(data, as_json=True, render=list)
    output.emit_line({"x": float("-inf")})
    out = capsys.readouterr().out
    document, line = out.rsplit("\n", 2)[:2]
    assert '"nan": null' in document and '"a/b"' in document and '"tuple": [' in document
    assert line == '{"x": null}'
    assert "NaN" not in out and "Infinity" not in out


def test_model_text_is_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    words = "[/INST] [bold]loud[/bold] :smile: \x1b[31m"
    output.emit({}, as_json=False, render=lambda: [output.text(words), output.verbatim("x" * 200)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[/INST] [bold]loud[/bold] :smile: \\x1b[31m"
    assert "x" * 200 in lines  # a line to be copied is never wrapped


def test_interrupt_is_the_shells_number() -> None:
    assert 128 + signal.SIGINT == 130
