"""Parameters in the library's sentences become the options of the command that runs, or stay words."""

from __future__ import annotations

import io
import signal
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from steercpp.cli import output
from steercpp.cli.main import COMMANDS, LazyGroup, main
from steercpp.cli.signals import noticing
from steercpp.cli.words import in_options
from steercpp.errors import SteerError


def command_named(*names: str) -> click.Command:
    found: click.Command = main
    for name in names:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None
        found = inner
    return found


@pytest.mark.parametrize(
    ("name", "sentence", "typed"),
    [
        ("sweep", "raise `n_ctx`, or `n_gpu_layers`", "raise --n-ctx, or --gpu-layers"),
        ("sweep", "replace it with `force=True`", "replace it with --force"),
        ("sweep", "choose another folder with `out`", "choose another folder with --out"),
        ("extract", "choose another folder with `out`", "choose another folder with --out"),
        ("sweep", "`orthogonal=False` or `max_loss=0`", "--no-orthogonal or --max-loss 0"),
        ("sweep", "`prompt_baseline=True`, `use_mmap=False`", "--prompt-baseline, --no-mmap"),
        ("sweep", 'use `flash_attn="on"` or `type_k=f16`', "use --flash-attn on or --cache-type-k f16"),
        ("doctor", "given `model` and `repair`", "given --model and --repair"),
        ("constants", "steered with `positions=generated`", "steered with --positions generated"),
        ("sweep", "sweep with `max_tokens=...`", "sweep with --max-new-tokens"),
        ("generate", "sweep with `max_tokens=8`", "sweep with --max-tokens 8"),
        ("score", "sweep with `max_tokens`", "sweep with --max-new-tokens"),
        ("sweep", "a grid such as `strengths=[-1, 0, 1]`", "a grid such as --strengths -1,0,1"),
        ("generate", 'try `template="raw"`, or a `template`', "try --raw, or a --template"),
        ("dump", 'try `template="chat"`', "try --chat"),
        ("scan", "see `methods`, `layers`", "see --method, --layers"),
        ("show", "set `model_hint` (steercpp convert)", "set --model-hint (steercpp convert)"),
        ("convert", '`layer_convention="cvector-generator"`', "--layer-convention cvector-generator"),
        ("convert", "name another `source`", "name another IN"),
        ("fit", "raise `n_ctx`, `n_ctx=5` or `n_ctx=True`", "raise n_ctx, n_ctx=5 or n_ctx=True"),
        ("sweep", "run `steercpp data get xstest`", "run `steercpp data get xstest`"),
    ],
)
def test_a_parameter_becomes_what_is_typed(name: str, sentence: str, typed: str) -> None:
    assert in_options(sentence, command_named(name)) == typed


def test_without_a_command_only_the_backticks_go() -> None:
    assert in_options("raise `n_ctx`") == "raise n_ctx"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_with_an_option_of_its_name_finds_it(name: str) -> None:
    command = command_named(name)
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            assert in_options(f"`{option.name}`", command) in option.opts


def group_of(*commands: click.Command) -> LazyGroup:
    """The real group with other commands, one of them below a group of its own."""
    inner = click.Group("data", commands=list(commands))

    class Group(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return inner

    return Group(name="steercpp")


def test_errors_and_notes_are_in_the_words_of_the_innermost_command() -> None:
    @click.command()
    @click.option("--cache")
    def get(cache: str | None) -> None:
        output.note("looked into `cache`")
        raise SteerError("choose another `cache`, not `pairs`")

    result = CliRunner().invoke(group_of(get), ["data", "get"])
    noted = "note: looked into --cache"
    assert (result.exit_code, result.stderr) == (1, f"{noted}\nerror: choose another --cache, not pairs\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["sweep", "--quick", "-o", "other"], "and MODEL is missing: give its file, and --pairs or --vector"),
        (["sweep", "--budget", "10m"], "and MODEL is missing"),
        (["sweep", "--dry-run"], "and MODEL is missing"),
        (["extract", "--model", "m.gguf"], "MODEL is given without one: main extract MODEL ..."),
        (["convert", "--source", "v.npz"], "IN is given without one: main convert IN ..."),
        (["sweep", "v.gguf", "m.gguf"], "(m.gguf): only MODEL without an option, a vector with --vector; see --help."),
        (["generate", "m.gguf", "-p", "hi"], "MODEL needs --vector V.gguf."),
        (["generate", "m.gguf", "--vector", "v.gguf"], "MODEL needs --prompt TEXT."),
        (["generate", "m.gguf"], "MODEL needs --vector V.gguf and --prompt TEXT."),
        (["cross", "m.gguf", "--vector", "v.gguf"], "MODEL needs --behavior B at least once."),
    ],
)
def test_what_is_missing_or_misplaced_is_named(line: list[str], told: str) -> None:
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 2 and told in result.stderr.splitlines()[-1], result.stderr


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("sentence", "lines"),
    [
        ("x.gguf: is a link and leads nowhere; make it", ["x.gguf: is a", "link and leads nowhere;", "make it"]),
        ("no; make one with steercpp extract M -o v.gguf, then", ["no; make one", "with",
         "steercpp extract M -o v.gguf,", "then"]),
        ("/tmp/my own folder of runs: gone", ["/tmp/my own folder of runs:", "gone"]),
        ("it holds 'a name of many words there', so", ["it holds", "'a name of many words there',", "so"]),
    ],
)  # fmt: skip
def test_on_a_terminal_a_sentence_breaks_between_words(
    sentence: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal broke it inside of words; what is to be copied stays whole."""
    assert output.in_lines(sentence, before=10) == sentence  # stderr is none here
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "24")
    assert output.in_lines(sentence, before=10).splitlines() == lines
    assert " ".join(lines) == sentence


def test_a_usage_error_is_in_the_terminals_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main(["sweep", "--quick"])
    told = terminal.getvalue().partition("Error: ")[2].splitlines()
    assert len(told) > 2 and max(map(len, told)) <= 60
    assert " ".join(told).endswith("give its file, and --pairs or --vector.")


def test_ctrl_c_is_noticed_while_native_code_runs() -> None:
    """Nothing was told until the decode in hand was over."""
    noticed = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with noticing(noticed.set):
            assert not noticed.is_set()
            signal.raise_signal(signal.SIGINT)
            assert noticed.wait(30)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_command_says_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It said nothing at all where nothing was finished."""
    (tmp_path / ".steercpp-lock").touch()
    for file, told in ((None, "nothing was finished yet"), ("sweep.sqlite", "the same command goes on from there")):
        if file:
            (tmp_path / file).touch()
        with pytest.raises(KeyboardInterrupt), output.kept_in(tmp_path):
            raise KeyboardInterrupt
        assert told in capsys.readouterr().err
