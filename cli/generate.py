"""`steercpp generate`: one prompt at several strengths, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from steercpp.cli import output
from steercpp.cli.engine_options import EngineOptions, engine_options
from steercpp.cli.steering_options import SteeringOptions, parse_strengths, steering_options

if TYPE_CHECKING:
    from steercpp.control_vector import ControlVector
    from steercpp.engine import Engine
    from steercpp.generation import Generation

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", required=False, type=FILE)
@click.option("--vector", type=FILE, metavar="V.gguf", help="Control vector; strength multiplies it as it stands.")
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt; - reads it from stdin.")
@click.option("--strengths", callback=parse_strengths, metavar="A:B:STEP",
              help="Grid, or a list like -1,0,1: one row for each.")  # fmt: skip
@click.option("-n", "--max-tokens", default=64, show_default=True, type=click.IntRange(1), help="Of each row.")
@click.option("--temperature", default=0.0, show_default=True, type=float, help="0: the most likely token.")
@click.option("--top-k", default=0, show_default=True, type=int, help="The most likely tokens that stay; 0 for all.")
@click.option("--top-p", default=1.0, show_default=True, type=float, help="The share of probability that stays.")
@click.option("--min-p", default=0.0, show_default=True, type=float, help="The least probability, relative.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the draws, alike in all rows.")
@click.option("--stop", multiple=True, metavar="TEXT", help="A text that ends a row; may be repeated.")
@click.option("--exact", is_flag=True, help="K/V of its own for each row: as separate runs, bit for bit on a CPU.")
@click.option("--raw", "template", flag_value="raw", help="Take the prompt as it stands.  [default]")
@click.option("--chat", "template", flag_value="chat", help="Make it the user's message of a chat.")
@steering_options
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def generate(
    model: Path | None,
    vector: Path | None,
    prompt: str | None,
    strengths: tuple[float, ...] | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
    stop: tuple[str, ...],
    exact: bool,
    template: Literal["raw", "chat"] | None,
    steering: SteeringOptions,
    options: EngineOptions,
    as_json: bool,
) -> None:
    """Continue one prompt at several strengths, side by side in one decode.

    Without MODEL the embedded model answers a request, steered by its own refusal vector in units of the residual norm.

    \b
    Example: steercpp generate
             steercpp generate model.gguf --vector v.gguf -p "I think that" \\
                 --strengths=-2,0,2
    """  # noqa: D301
    if model and not (vector and prompt):
        raise click.UsageError("MODEL needs --vector V.gguf and --prompt TEXT.")
    from steercpp.generation import generate as run
    from steercpp.sampling import Sampling
    from steercpp.steering import Steering

    sampling = Sampling(temperature, top_k, top_p, min_p, seed)
    words = sys.stdin.read() if prompt == "-" else prompt
    path, words, strengths, template = _filled(model, words, strengths, template)
    with options.open(path) as engine:
        made = _vector(engine, vector)
        manner = steering.manner(lambda: made, known=made.metadata)
        rows = [Steering(made, strength, **manner) for strength in strengths]
        view = _View(strengths)
        with output.progress(above=view.picture, beside_data=as_json) as report:
            found = run(
                engine, words, rows, max_tokens=max_tokens, sampling=sampling, stop=stop, exact=exact,
                template=template or "raw", on_text=view.add if report else None,
            )  # fmt: skip
    data = {
        "model": str(path), "prompt": words, "exact": exact,
        "rows": [
            {"strength": s, "text": row.text, "n_tokens": len(row.tokens), "finish": row.finish}
            for s, row in zip(strengths, found.rows, strict=True)
        ],
        "token_layers": found.token_layers, "token_layers_plain": found.token_layers_plain,
    }  # fmt: skip
    output.emit(data, as_json=as_json, render=lambda: _pieces(words, strengths, found))


def _filled(
    model: Path | None,
    prompt: str | None,
    strengths: tuple[float, ...] | None,
    template: Literal["raw", "chat"] | None,
) -> tuple[Path, str, tuple[float, ...], Literal["raw", "chat"] | None]:
    """What was asked, and where nothing was, the embedded model with a request of its own."""
    if model is not None:
        assert prompt is not None
        return model, prompt, strengths or (-1.0, 0.0, 1.0), template
    from steercpp.default_model import load

    own = load()
    if prompt is None:
        asked = own.behavior()[0].prompt
        prompt, template = (asked, "raw") if isinstance(asked, str) else (asked[-1].content, "chat")
    return own.path, prompt, strengths or (-0.75, -0.375, 0.0, 0.375, 0.75), template


def _vector(engine: Engine, path: Path | None) -> ControlVector:
    """The vector of a file, or the embedded model's own in units of the residual norm, as its sweep has it."""
    from steercpp.sweeping import check_vector

    if path is not None:
        from steercpp.gguf_vector import read_vector_with_notes

        vector, notes = read_vector_with_notes(path, architecture=engine.architecture)
        for note in notes:
            output.say(f"{path}: {note}")
        check_vector(engine, vector, name=str(path))
        return vector
    from steercpp.default_model import load
    from steercpp.extraction import extract, in_norm_units

    own = load()
    prompts = [engine.encode(item.prompt, template=item.template) for item in own.behavior()]
    return in_norm_units(engine, extract(engine, own.pairs(), layers=own.layers), prompts)[0]


class _View:
    """The rows as they grow, on a terminal."""

    def __init__(self, strengths: Sequence[float]) -> None:
        self._strengths = strengths
        self._texts = [""] * len(strengths)

    def add(self, row: int, text: str) -> None:
        self._texts[row] += text

    def picture(self, n_lines: int) -> output.Renderable:
        return _table(self._strengths, self._texts)


def _table(strengths: Sequence[float], texts: Sequence[str]) -> output.Renderable:
    rows = [(f"{s:+g}" if s else "0", output.text(text.strip())) for s, text in zip(strengths, texts, strict=True)]
    return output.table([("strength", "right"), ("text", "left")], rows)


def _pieces(prompt: str, strengths: Sequence[float], found: Generation) -> list[output.Renderable]:
    share = found.token_layers / found.token_layers_plain
    return [
        output.text(prompt, "dim"),
        _table(strengths, [row.text for row in found.rows]),
        output.text(f"{found.token_layers} token-layers, {share:.2f} of as many runs one after the other", "dim"),
    ]
