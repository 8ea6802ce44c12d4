"""The `steercpp` command; read this to add a command, or to see how errors become exit codes.

Exit codes: 0 done, 1 an error in one sentence, 2 wrong usage (click's own), 130 after Ctrl-C, 143 after SIGTERM, 129
where the terminal was closed. What is none of steercpp's errors is a fault of steercpp: one sentence too, that names a
file with the traceback; with STEERCPP_TRACEBACK=1 it is raised.
A command is a name in `COMMANDS` and a module commands/NAME.py that holds a click command of that name. Those modules
import the library inside the command, so that `steercpp --help` costs no more than click itself.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import click

from steercpp.cli import output
from steercpp.cli.signals import ending_in_order, exit_code, mark_handled
from steercpp.cli.words import in_options
from steercpp.encoding import one_line
from steercpp.errors import SteerError, VectorFileError

TASKS = {  # what commands are for, and those of each task: the main job first
    "Measure what steering does": ("sweep", "scan", "cross", "transfer", "study"),
    "Make and change vectors": ("extract", "dump", "synthesize", "combine", "convert", "calibrate"),
    "Look at vectors and texts": ("generate", "serve", "show", "cosine"),
    "Read runs": ("runs", "report", "score", "export", "fit", "constants"),
    "Data and installation": ("data", "doctor", "bench", "plan", "completion"),
}  # fmt: skip
COMMANDS = tuple(name for names in TASKS.values() for name in names)
_WIDTH = max(map(len, COMMANDS))  # one column for all tasks
OLD_NAMES = {"compare": "cosine"}  # which still work, and are not listed


class Failure(click.ClickException):
    """An error as the user sees it: one sentence on stderr, exit code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        """Print the sentence on one line, whatever line breaks a library put into it."""
        output.say(self.message, kind="error", fg="red", bold=True)


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is asked for."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line; what its output cannot or must not spell is replaced, whichever command writes it."""
        output.replace_what_cannot_be_encoded()
        with output.escaping():
            try:
                with ending_in_order():
                    return super().main(*arguments, **options)
            except OSError as error:  # of --help, say; what happens in a command is told by `invoke`
                _failure(error).show()
                sys.exit(Failure.exit_code)
            except (click.exceptions.Exit, click.ClickException, click.Abort):
                raise
            except Exception as error:
                if os.environ.get("STEERCPP_TRACEBACK"):
                    raise
                _fault(error).show()
                sys.exit(Failure.exit_code)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the group's own options; what is wrong there is told on one line."""
        with _on_one_line():
            return super().make_context(*arguments, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: the main job first."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its summary, by task."""
        for title, names in TASKS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:{_WIDTH}}", command.get_short_help_str(200)) for name, command in commands if command]
                )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command named so, or None."""
        name = OLD_NAMES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"steercpp.cli.commands.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """What a command line names; the innermost command is kept, in whose options errors are put."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{_did_you_mean(args[0], COMMANDS)}")
        name, command, rest = super().resolve_command(ctx, args)
        innermost, words = command, rest
        while isinstance(innermost, click.Group) and words and (inner := innermost.get_command(ctx, words[0])):
            innermost, words = inner, words[1:]
        ctx.obj = innermost
        return name, command, rest

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what is wrong with how it was called is told on one line."""
        with _on_one_line():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> object:
        """Errors made on purpose become one sentence, Ctrl-C becomes exit code 130."""
        from steercpp.pipes import once

        try:
            with once():  # a command reads a file several times
                return super().invoke(ctx)
        except click.NoSuchOption as error:
            if argument := _argument_named(error.option_name, error.ctx):
                raise click.UsageError(argument, error.ctx) from error
            raise
        except click.BadParameter as error:
            if suggestion := _suggested_choice(error):
                message = f"{error.message}{suggestion}"
                raise click.BadParameter(message, error.ctx, error.param, error.param_hint) from error
            raise
        except SteerError as error:
            sentence = _no_vector(error, ctx.obj) or str(error)
            raise Failure(in_options(sentence, ctx.obj)) from error
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted", err=True)
            mark_handled()
            ctx.exit(exit_code(interrupt))
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: click leaves quietly
                raise
            raise _failure(error) from error


@contextmanager
def _on_one_line() -> Iterator[None]:
    """Let click's own errors, which quote what was typed, stay on one line, or in those of a terminal."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:  # whose message is the help
        raise
    except click.ClickException as error:
        vars(error)["message"] = one_line(_with_vector(error))
        words = error.format_message()
        vars(error)["format_message"] = lambda: output.in_lines(words, before=len("Error: "))
        raise


def _with_vector(error: click.ClickException) -> str:
    """Its message; of arguments too many, such as a vector behind MODEL, what is given in which way."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or not error.message.startswith("Got unexpected extra argument"):
        return error.message
    parameters = context.command.params
    arguments = [parameter.human_readable_name for parameter in parameters if isinstance(parameter, click.Argument)]
    alone = f"only {' and '.join(arguments)} without an option" if arguments else "everything is given with an option"
    a_vector = ", a vector with --vector" if any("--vector" in parameter.opts for parameter in parameters) else ""
    return f"{error.message}: {alone}{a_vector}; see --help."


def _argument_named(option: str, context: click.Context | None) -> str:
    """What is told where an argument was given as an option; "" where the command has none so called."""
    name = option.lstrip("-").replace("-", "_")
    if context is None:
        return ""
    for parameter in context.command.params:
        if isinstance(parameter, click.Argument) and name in (parameter.name, parameter.human_readable_name.lower()):
            shown = parameter.human_readable_name.strip("[]")
            return f"No such option {option!r}: {shown} is given without one: {context.command_path} {shown} ..."
    return ""


def _no_vector(error: SteerError, command: click.Command | None) -> str:
    """What is told where the name of contrast pairs was given for a vector's file; "" of any other error."""
    missing = error.__cause__
    if not (isinstance(error, VectorFileError) and isinstance(missing, FileNotFoundError)):
        return ""
    from steercpp.data.sets.names import names_pairs, short_name

    name = os.fsdecode(missing.filename or "")
    if not names_pairs(name):
        return ""
    options = {option.name for option in command.params if not option.required} if command else set()
    instead = f"give --pairs {name} in place of --vector, or " if {"vector", "pairs"} <= options else ""
    return (
        f"{name}: no such file; a vector is a file, and {name} the name of contrast pairs: {instead}"
        f"make one of them with steercpp extract MODEL --pairs {name} -o {short_name(name)}.gguf"
    )


def _failure(error: OSError) -> Failure:
    """What is told of an error that names a file, or of stdout, which then is not written to any more."""
    if error.filename is None:
        output.give_up_stdout()
    place = f"{error.filename}: " if error.filename else ""
    return Failure(f"{place}{error.strerror or error}")


def _fault(error: Exception) -> Failure:
    """What is told of an error that nobody raised on purpose."""
    if isinstance(error, MemoryError):
        return Failure("there is not enough memory; give fewer items, a smaller model or a smaller context")
    import tempfile
    import traceback

    from steercpp.provenance import versions

    lines = [*traceback.format_exception(error), f"command: {sys.argv}\n", f"versions: {versions()}\n"]
    where = "set STEERCPP_TRACEBACK=1 to see where"
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="steercpp-fault-", suffix=".txt", delete=False
        ) as file:
            file.writelines(lines)
        where = f"please report it with {file.name}, which says where"
    except OSError:
        pass  # no room for it
    return Failure(f"this is a fault of steercpp ({type(error).__name__}: {str(error)[:200]}); {where}")


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question that names what is near, after a space; "" where nothing is."""
    near = get_close_matches(name, names, n=3)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _suggested_choice(error: click.BadParameter) -> str:
    """Of an error about a choice, which one may be meant: click lists them all; "" where none is near."""
    kind = None if error.param is None else error.param.type
    if isinstance(kind, click.Choice) and (given := re.match(r"'(.*?)' is not one of", error.message)):
        return _did_you_mean(given[1], map(str, kind.choices))
    return ""


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, context_settings=CONTEXT, no_args_is_help=True)
@click.version_option(None, "--version", package_name="steercpp", message="steercpp %(version)s")
@click.option(
    "--plain", is_flag=True, envvar="STEERCPP_PLAIN",
    help="Print plain lines, as a screen reader wants them: no frames, drawings, colors or redrawing. "
         "STEERCPP_PLAIN=1 does the same.",
)  # fmt: skip
def main(plain: bool) -> None:
    """How hard can a quantized model be steered before it gets worse at its work?

    \b
    steercpp sweep                        the embedded model, nothing to download
    steercpp sweep model.gguf --pairs sentiment    a chat model of your own
    """  # noqa: D301
    output.be_plain(plain)


if __name__ == "__main__":
    main()
