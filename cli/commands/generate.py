"""`steercpp generate`: one prompt at several strengths, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from steercpp.choices import UNITS, Operator, Unit
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import (
    FILE,
    json_option,
    kl_option,
    parse_strengths,
    refuse_idle_kl,
    seed_option,
)
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.prompts import emit_prompts, show_prompts_option
from steercpp.cli.options.steering import SteeringOptions, steering_options
from steercpp.cli.options.vectors import embedded_vector, file_vector, vector_in_unit
from steercpp.cli.views.pieces import unit_line

if TYPE_CHECKING:
    from steercpp.data.prompts import Prompt
    from steercpp.engine.engine import Engine
    from steercpp.vectors.control_vector import ControlVector

SMALL = 0.05  # residual norms, the first step of a sweep's grid; or radians
HEADING, BESIDE = 4, 16  # lines and columns of the table that are not the rows' texts


def _parse_biases(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int, float], ...]:
    """Click's callback for biases of tokens, written as llama.cpp's programs take them."""
    if not values:
        return ()
    from steercpp.engine.sampling import parse_bias
    from steercpp.errors import InputError

    try:
        return tuple(parse_bias(words) for words in values)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@click.option("--vector", type=FILE, metavar="V.gguf", help="Control vector.")
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt; - reads it from stdin, less the last line break.")
@click.option("--strengths", callback=parse_strengths, metavar="A:B:STEP",
              help="Grid, or a list like -1,0,1; a row for each and for 0.  [default: what the vector's sweep "
                   "recommends and its negative, else pushes of 5% of the residual norm]")  # fmt: skip
@click.option("--unit", type=click.Choice(UNITS),
              help="What strength 1 adds per layer: the vector, one median residual norm of the prompt, or the "
                   "smallest push of --kl nats.  [default: length; of the embedded vector norm]")  # fmt: skip
@kl_option("What --unit kl means: this KL at 95% of the prompt's tokens.  [default: 0.1]")
@click.option("-n", "--max-tokens", default=64, show_default=True, type=click.IntRange(1), help="Of each row.")
@click.option("--temperature", default=0.0, show_default=True, type=float, help="0: the most likely token.")
@click.option("--top-k", default=0, show_default=True, type=int, help="The most likely tokens that stay; 0 for all.")
@click.option("--top-p", default=1.0, show_default=True, type=float, help="The share of probability that stays.")
@click.option("--min-p", default=0.0, show_default=True, type=float, help="The least probability, relative.")
@seed_option("the draws, alike in all rows")
@click.option("--repeat-penalty", default=1.0, show_default=True, type=float,
              help="Of tokens among the last ones, the prompt's too: logits above 0 are divided by it, others "
                   "multiplied.")  # fmt: skip
@click.option("--frequency-penalty", default=0.0, show_default=True, type=float,
              help="Taken from a logit for each time its token is among the last ones.")  # fmt: skip
@click.option("--presence-penalty", default=0.0, show_default=True, type=float,
              help="Taken from a logit once if its token is among them.")  # fmt: skip
@click.option("--repeat-last-n", default=64, show_default=True, type=int, help="Tokens that penalties look back over.")
@click.option("--logit-bias", multiple=True, callback=_parse_biases, metavar="TOKEN(+/-)BIAS",
              help="Added to a token's logit, such as 15043+1; 15043-inf bans it. May be repeated.")  # fmt: skip
@click.option("--stop", multiple=True, metavar="TEXT", help="A text that ends a row; may be repeated.")
@click.option("--exact", is_flag=True, help="Decode each row by itself: bits of its own run, whatever the weights.")
@click.option("--logprobs", is_flag=True, help="Give each drawn token and its ln P, with --json.")
@click.option("--raw", "template", flag_value="raw", help="Take the prompt as it stands.  [default]")
@click.option("--chat", "template", flag_value="chat", help="Make it the user's message of a chat.")
@click.option("--template", "named", metavar="NAME|TEXT",
              help="Put it into the one place of a template: llama-3-chat, or \"[INST] {it} [/INST]\".")  # fmt: skip
@show_prompts_option
@steering_options
@engine_options
@json_option
def generate(
    model: Path | None,
    vector: Path | None,
    prompt: str | None,
    strengths: tuple[float, ...] | None,
    unit: Unit | None,
    kl: float | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
    repeat_penalty: float,
    frequency_penalty: float,
    presence_penalty: float,
    repeat_last_n: int,
    logit_bias: tuple[tuple[int, float], ...],
    stop: tuple[str, ...],
    exact: bool,
    logprobs: bool,
    template: Literal["raw", "chat"] | None,
    named: str | None,
    n_shown: int | None,
    steering: SteeringOptions,
    options: EngineOptions,
    as_json: bool,
) -> None:
    """Continue one prompt at several strengths, side by side.

    Without MODEL the embedded model answers a request, steered by its own refusal vector in units of the residual norm.

    \b
    Example: steercpp generate
             steercpp generate model.gguf --vector v.gguf -p "I think that" \\
                 --strengths=-2,0,2
    """  # noqa: D301
    missing = [] if vector or n_shown or not model else ["--vector V.gguf"]
    missing += [] if prompt is not None or not model else ["--prompt TEXT"]
    if missing:
        raise click.UsageError(f"MODEL needs {' and '.join(missing)}.")
    if named and template:
        raise click.UsageError("--template is a template in place of --raw and --chat.")
    if logprobs and not as_json:
        raise click.UsageError("--logprobs is told with --json; add it.")
    refuse_idle_kl(kl, unit)
    from steercpp.engine.generation import generate as run
    from steercpp.engine.prompt_view import prompt_view
    from steercpp.engine.sampling import Sampling
    from steercpp.engine.steering import Steering
    from steercpp.runs.labels import strengths_in
    from steercpp.sweeps.calibration import KL
    from steercpp.sweeps.units import check_unit
    from steercpp.vectors.control_vector import vector_sha256

    # What is asked: the prompt, in a template; it is only shown if that is wanted.
    sampling = Sampling(
        temperature, top_k, top_p, min_p, seed, repeat_penalty, frequency_penalty, presence_penalty, repeat_last_n,
        logit_bias,
    )  # fmt: skip
    path, words, template = _model_and_prompt(model, prompt, template)
    filled = _templated(words, named)
    if n_shown:
        with options.open(path) as engine:
            emit_prompts(path, [prompt_view(engine, filled, template=template)], as_json=as_json)
        return

    # The vector in the unit asked for, then all strengths side by side in one decode.
    view = _View()
    with options.open(path) as engine, output.progress(above=view.picture, beside_data=as_json) as report:
        made = file_vector(engine, vector) if vector else embedded_vector(engine, report=report)
        manner = steering.manner(lambda: made, known=made.metadata)
        used_unit = unit or ("length" if vector else "norm")
        check_unit(used_unit, kl or KL, manner["operator"])
        _note_special(engine, filled)
        for note in engine.vocabulary.chat_notes([(filled, template)]):
            output.note(note)
        texts = [engine.encode(filled, template=template)] if unit or vector else _own_prompts(engine)
        made, measured = vector_in_unit(engine, made, texts, used_unit, kl=kl, report=report)
        why = ""
        if strengths is None:
            strengths, why = _usual(engine, made, used_unit, manner["operator"], texts, embedded=vector is None)
        view.strengths = strengths
        view.unit = strengths_in(used_unit, operator=manner["operator"], kl=kl or KL, norms=list(made.norms.values()))
        generation = run(
            engine, filled,
            [Steering(made, strength, **manner) if strength else None for strength in view.strengths],  # 0: unsteered
            max_tokens=max_tokens, sampling=sampling, stop=stop, exact=exact, logprobs=logprobs, template=template,
            on_text=view.add if report else None, progress=report,
        )  # fmt: skip

    if why:
        output.note(f"{why}; --strengths takes others")
    data = {
        "model": str(path), "prompt": words, "template": named or template, "exact": exact,
        **manner, "gate": manner["gate"].identity if manner["gate"] else "",
        "vector": {"file": vector, "layers": list(made.layers), "sha256": vector_sha256(made),
                   **asdict(measured)},
        "unit": used_unit, "kl": (kl or KL) if used_unit == "kl" else None,
        "sampling": {**asdict(sampling), "logit_bias": [f"{token}{bias:+.10g}" for token, bias in logit_bias]},
        "stop": stop, "max_tokens": max_tokens, "engine": generation.settings,
        "rows": [
            {
                "strength": s, "text": row.text, "n_tokens": len(row.tokens), "finish": row.finish,
                "gate_open": row.gate_open, **asdict(row.reply),
                **({"tokens": row.tokens, "logprobs": row.logprobs} if logprobs else {}),
            }
            for s, row in zip(view.strengths, generation.rows, strict=True)
        ],
        "token_layers": generation.token_layers, "token_layers_plain": generation.token_layers_plain,
    }  # fmt: skip
    output.emit(data, as_json=as_json, render=lambda: [*_pieces(data, view.unit), *(() if model else _next(data))])


def _model_and_prompt(
    model: Path | None, prompt: str | None, template: Literal["raw", "chat"] | None
) -> tuple[Path, str, Literal["raw", "chat"]]:
    """Model, prompt and template; where none is given, the embedded model with a request of its own."""
    words = None if prompt is None else _read(prompt)
    if model is not None:
        assert words is not None
        return model, words, template or "raw"
    from steercpp.data.sets.embedded import load

    embedded = load()
    if words is not None:
        return embedded.path, words, template or "raw"
    chat = embedded.behavior()[0].prompt
    assert isinstance(chat, tuple)
    return embedded.path, chat[-1].content, "chat"


def _read(prompt: str) -> str:
    """The prompt of the command line, or stdin's text without its last line break.

    Raises:
        InputError: it is not UTF-8, or empty.
    """
    from steercpp.errors import InputError

    if prompt == "-" and sys.stdin is None:
        raise InputError("stdin is closed; write the prompt with --prompt")
    data = sys.stdin.buffer.read() if prompt == "-" else prompt.encode("utf-8", "surrogateescape")
    try:
        words = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"the prompt is not UTF-8 (byte {error.start}); convert it first") from error
    words = words.removesuffix("\n").removesuffix("\r") if prompt == "-" else words
    if not words:
        raise InputError("the prompt is empty; write one with --prompt, or to stdin with --prompt -")
    return words


def _templated(words: str, named: str | None) -> Prompt:
    """The words, in a template if one is named."""
    if named is None:
        return words
    from steercpp.data.templates import within

    return within(named, words)


def _note_special(engine: Engine, prompt: Prompt) -> None:
    """Note that special tokens in a plain prompt, or those of another model's template, are text."""
    if foreign := engine.vocabulary.foreign_texts(prompt):
        output.note(f"the model has no {', '.join(foreign)}, so the template's are text; is it for another family?")
    special = engine.vocabulary.special_texts(prompt) if isinstance(prompt, str) else ()
    if special:
        spelled = ", ".join(dict.fromkeys(special))
        output.note(f"{spelled} in the prompt is text; special tokens are read in templates only: see --template")


def _usual(
    engine: Engine,
    vector: ControlVector,
    unit: Unit,
    operator: Operator,
    texts: Sequence[Sequence[int]],
    *,
    embedded: bool,
) -> tuple[tuple[float, ...], str]:
    """The strengths that are worth seeing, and what is to be known of them, "" where a sweep has found them.

    Those of the embedded model; what a sweep recommended and its negative; or small ones, since a push of one residual
    norm leaves nothing but rubble of a real model.
    """
    if embedded and unit != "length":
        return ((-2.0, -1.0, 0.0, 1.0, 2.0) if unit == "kl" else (-0.75, -0.375, 0.0, 0.375, 0.75)), ""
    recommended = vector.metadata.get("recommended_strength")
    if isinstance(recommended, float) and recommended:
        return (-abs(recommended), 0.0, abs(recommended)), ""
    without = "the vector has no recommended strength"
    if operator == "ablate":
        return (0.0, 1.0), ""  # 1 takes the projection away, whatever its length
    if operator == "rotate":
        return (-SMALL, 0.0, SMALL), f"{without}: shown are rotations by {SMALL:g} radians"
    if unit == "kl":
        return (-1.0, 0.0, 1.0), ""  # as many nats as were asked for
    residual = engine.residual_norms(texts, vector.layers)
    longest = max(norm / residual[il] for il, norm in vector.norms.items())  # of strength 1, in residual norms
    strength = float(f"{SMALL / longest:.2g}") if longest else 1.0
    return (-strength, 0.0, strength), f"{without}: shown are pushes of {SMALL:.0%} of the residual norm"


def _own_prompts(engine: Engine) -> list[tuple[int, ...]]:
    """The texts over which the embedded model's sweep takes its residual norms."""
    from steercpp.data.sets.embedded import load
    from steercpp.sweeps.calibration_texts import item_texts

    return item_texts(engine, load().behavior())


class _View:
    """The rows as they grow, on a terminal: of each as many last lines as all have room for."""

    def __init__(self) -> None:
        self.strengths: Sequence[float] = ()
        self.unit = ""  # what they count, in words
        self._texts: dict[int, str] = {}

    def add(self, row: int, text: str) -> None:
        self._texts[row] = self._texts.get(row, "") + text

    def picture(self, n_lines: int) -> output.Renderable:
        if not self._texts:
            return output.text("")
        room = max(n_lines - HEADING, 1)
        shown = self.strengths[:room]
        n_lines_each = room // len(shown)
        texts = [self._texts.get(row, "").strip() for row in range(len(shown))]
        return _table(shown, [output.tail(words, n_lines_each, beside=BESIDE) for words in texts])


def _table(strengths: Sequence[float], texts: Sequence[output.Cell]) -> output.Renderable:
    rows = [(f"{s:+g}" if s else "0", words) for s, words in zip(strengths, texts, strict=True)]
    return output.table([("strength", "right"), ("text", "left")], rows)


def _pieces(data: dict[str, Any], unit: str) -> list[output.Renderable]:
    rows = data["rows"]
    work = f"{data['token_layers']:,} token-layers computed, {data['token_layers_plain']:,} by runs one after the other"
    closed = [output.text("The gate is closed for this prompt: no strength steers it.", "yellow")]
    return [
        *(closed if any(row["gate_open"] is False for row in rows) else ()),
        output.text(data["prompt"], "bold"),
        unit_line(unit),
        _table([row["strength"] for row in rows], [_reply(row) for row in rows]),
        output.text(work, "dim"),
    ]


def _reply(row: dict[str, Any]) -> output.Cell:
    """What a row says: its thoughts dimmed, its answer below them."""
    if row["finish"] == "nonfinite":
        return output.text("(leaves float32's range; use a smaller strength)", "yellow")
    more = " …" if row["finish"] == "length" else ""
    thoughts, answer = row["thoughts"], row["answer"].strip()
    if not thoughts:
        return output.text((answer or ("(thinking)" if row["unfinished"] else "")) + more)
    pieces = [(thoughts, "dim"), ("\n\n", ""), (answer + more, "")]
    return output.joined(pieces if answer else [(f"{thoughts}{more}\n(no answer)", "dim")])


def _next(data: dict[str, Any]) -> list[output.Renderable]:
    """What someone does next who tried the embedded model."""
    along = "" if data["vector"]["file"] else ", along the embedded refusal vector"
    units = {
        "norm": f"Strengths are shares of the residual stream's norm{along}. ",
        "kl": f"Strengths are pushes that have {data['kl'] or 0:g} nats of KL over the prompt{along}. ",
    }
    return [
        output.blank(),
        output.text(f"{units.get(data['unit'], '')}The same with a model of your own:", "dim"),
        output.verbatim('  steercpp generate model.gguf --vector v.gguf -p "I think" --strengths=-2,0,2'),
    ]
