"""`steercpp serve`: a model behind OpenAI's API, in which every request steers as it likes."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, Finite, json_option
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.encoding import one_line
from steercpp.errors import InputError

if TYPE_CHECKING:
    from steercpp.serving.service import Service

FOLDER = click.Path(path_type=Path)  # whether it is one is the library's to say
KEY_VARIABLE = "STEERCPP_API_KEY"


@click.command(cls=Command)
@click.argument("model", type=FILE)
@click.option("--vectors", type=FOLDER, metavar="DIR",
              help="Folder of the vectors and runs that requests may name.  [default: none]")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST",
              help="Address to listen at; any but this machine's own needs a key.")  # fmt: skip
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--alias", default="", metavar="NAME",
              help="What the model is called.  [default: its file's name]")  # fmt: skip
@click.option("--rows", type=click.IntRange(1), metavar="N",
              help="Texts decoded at once, each with --n-ctx tokens.  [default: 4, fewer where memory asks for it]",
              )  # fmt: skip
@click.option("--kept", type=click.IntRange(0), metavar="N",
              help="Prompts kept for requests that begin alike.  [default: as many as rows]")  # fmt: skip
@click.option("--max-queue", default=64, show_default=True, type=click.IntRange(0), metavar="N",
              help="Texts that may wait; more are answered with 429.")  # fmt: skip
@click.option("--timeout", default=600.0, show_default=True, type=Finite(0, min_open=True), metavar="SECONDS",
              help="Time of a request, waiting included.")  # fmt: skip
@click.option("--max-body", default=4.0, show_default=True, type=Finite(0, min_open=True), metavar="MB",
              help="Size of a request; larger ones are answered with 413.")  # fmt: skip
@click.option("--api-key", envvar=KEY_VARIABLE, show_envvar=True, metavar="KEY",
              help="What requests must bring. Others see it in the list of processes: use the variable or a file.",
              )  # fmt: skip
@click.option("--api-key-file", type=FILE, metavar="FILE", help="A file with a key on each line.")
@click.option("--allow-uploads", is_flag=True, help="Let requests add vectors to DIR, and delete them.")
@click.option("--log-prompts", is_flag=True, help="Write prompts to stderr; else they are never logged.")
@click.option("--exact", is_flag=True, help="Decode each text by itself: bits of its own run, whatever the weights.")
@engine_options
@json_option
@click.pass_context
def serve(
    context: click.Context,
    model: Path,
    vectors: Path | None,
    host: str,
    port: int,
    alias: str,
    rows: int | None,
    kept: int | None,
    max_queue: int,
    timeout: float,
    max_body: float,
    api_key: str | None,
    api_key_file: Path | None,
    allow_uploads: bool,
    log_prompts: bool,
    exact: bool,
    options: EngineOptions,
    as_json: bool,
) -> None:
    """Serve OpenAI's API, steered by each request as it likes.

    Requests of different vectors and strengths are decoded together. A request names vectors of --vectors in a field
    "steering", as "refusal:1.5", or in its model's name. Ctrl-C lets what is in work end, and a second one does not.
    With --json one document says where it is served.

    \b
    Example: steercpp serve model.gguf --vectors runs
             curl localhost:8080/v1/chat/completions -d '{"steering":
                 "refusal:1.5", "messages": [{"role": "user", "content": "Hi"}]}'
    """  # noqa: D301
    keys = _keys(api_key, api_key_file)
    try:
        from steercpp.serving.folder import check_folder
        from steercpp.serving.scheduler import Scheduler, usual_rows
        from steercpp.serving.server import Server, bound, is_loopback
        from steercpp.serving.service import Service, ServiceOptions
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("steercpp"):
            raise
        raise InputError(f"{error.name} is not installed; pip install 'steercpp[serve]'") from error

    # Everything that can be refused is, before the model is read.
    is_local = is_loopback(host)
    if not is_local and not keys:
        raise click.UsageError(f"--host {host} is reached by others: it needs --api-key-file, or {KEY_VARIABLE}.")
    if context.get_parameter_source("api_key") is ParameterSource.COMMANDLINE:
        output.note(f"others see a key of the command line in the list of processes; {KEY_VARIABLE} or a file hides it")
    service_options = ServiceOptions(
        name=alias, vectors=vectors, api_keys=keys, allow_uploads=allow_uploads, log_prompts=log_prompts,
        max_body_bytes=max(1, round(max_body * 1e6)),
    )  # fmt: skip
    if vectors is not None:
        check_folder(vectors)
    with bound(host, port) as sock, options.open(model) as engine:
        n_rows = rows or usual_rows(engine)
        n_kept = n_rows if kept is None else kept
        scheduler = Scheduler(
            engine, n_rows=n_rows, n_kept=n_kept, max_waiting=max_queue, timeout_s=timeout,
            exact=exact,
        )  # fmt: skip
        service = Service(engine, scheduler, service_options, is_local=is_local)
        _log_to_stderr(with_prompts=log_prompts)
        record = _record(service, host, sock.getsockname()[1], n_kept=n_kept)

        def ready() -> None:
            output.emit(record, as_json=as_json, render=lambda: _pieces(record))

        Server(service, sock, ready).run()


def _keys(api_key: str | None, file: Path | None) -> tuple[str, ...]:
    """The keys of which a request must bring one.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    keys = [] if api_key is None else [api_key.strip()]
    if file is not None:
        from steercpp.inputs import read_input

        try:
            lines = read_input(file).decode("utf-8").split("\n")
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror or error}; check the path") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: is not UTF-8; write a key on each line") from error
        of_file = [line.strip() for line in lines if line.strip()]
        if not of_file:
            raise InputError(f"{file}: holds no key; write one on each line")
        if os.name == "posix" and file.stat().st_mode & 0o077:
            output.note(f"{file}: others may read the keys; chmod 600 hides them")
        keys += of_file
    return tuple(keys)


class _OnStderr(logging.Handler):
    """Writes what the server logs, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; where nobody reads stderr any more, the server goes on."""
        try:
            click.echo(one_line(self.format(record)), err=True)
        except OSError:
            self.setLevel(logging.CRITICAL + 1)


def _log_to_stderr(*, with_prompts: bool) -> None:
    handler = _OnStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("steercpp.serving")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    logging.getLogger("steercpp.serving.prompts").disabled = not with_prompts


def _record(service: Service, host: str, port: int, *, n_kept: int) -> dict[str, Any]:
    shown = f"[{host}]" if ":" in host else host
    scheduler, engine = service.scheduler, service.engine
    n_bytes = (scheduler.n_rows + n_kept) * scheduler.n_cells * engine.bytes_per_cell
    return {
        "url": f"http://{shown}:{port}/v1", "model": service.name, "vectors": list(service.folder.names()),
        "n_rows": scheduler.n_rows, "n_kept": n_kept, "n_ctx": scheduler.n_cells, "kv_mib": round(n_bytes / 2**20),
        "needs_key": bool(service.options.api_keys), "allows_uploads": service.options.allow_uploads,
    }  # fmt: skip


def _pieces(record: dict[str, Any]) -> list[output.Renderable]:
    vectors = record["vectors"]
    named = ", ".join(vectors[:12]) + (f" and {len(vectors) - 12} more" if len(vectors) > 12 else "")
    rows = [
        ("model", record["model"]), ("vectors", named or "none"),
        ("rows", f"{record['n_rows']}, and {record['n_kept']} kept, of {record['n_ctx']} tokens each"),
        ("K and V", f"{record['kv_mib']} MiB"), ("key", "asked for" if record["needs_key"] else "none"),
    ]  # fmt: skip
    return [output.verbatim(record["url"], "bold"), output.facts(rows)]
