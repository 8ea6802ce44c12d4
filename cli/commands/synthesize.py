"""`steercpp synthesize`: contrast pairs out of a steered chat model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import SYNTHESIS_VARIANTS, UNITS, SynthesisVariant, Unit
from steercpp.cli import output
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option, kl_option, refuse_idle_kl
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.vectors import model_or_embedded, named_vector, vector_in_unit
from steercpp.encoding import shell_word

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine
    from steercpp.vectors.control_vector import ControlVector

OWN_STRENGTHS = 0.25, -0.25  # of the embedded refusal vector, in residual norms: its answers are still sentences
SHOWN = 3  # pairs


def _two(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """A refusing and a complying strength."""
    if value is None:
        return None
    try:
        refusing, complying = (float(strength) for strength in value.split(":"))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not REFUSE:COMPLY, two numbers such as -1:2") from error
    if not (math.isfinite(refusing) and math.isfinite(complying)):
        raise click.BadParameter(f"{value!r}: a strength must be a finite number")
    return refusing, complying


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@click.option("--vector", "vector_path", type=FILE, metavar="V.gguf", help="The control vector.")
@click.option("--requests", metavar="FILE|NAME",
              help="Harmful requests: a .txt, one on each line; behavior items; or a set by name.")  # fmt: skip
@click.option("--strengths", callback=_two, metavar="REFUSE:COMPLY",
              help="The strength at which it refuses and the one at which it complies, such as -1:2.")  # fmt: skip
@click.option("-o", "--out", required=True, type=FILE, metavar="PAIRS.jsonl", help="The file of pairs to write.")
@click.option("--unit", type=click.Choice(UNITS),
              help="What strength 1 adds, see sweep.  [default: length; the embedded model: norm]")  # fmt: skip
@kl_option("What --unit kl means.")
@click.option("--variant", default="paper", show_default=True, type=click.Choice(SYNTHESIS_VARIANTS),
              help="32 tokens of each answer; or, as the study's code had it in May 2024, the first 100 letters of 96 "
                   "tokens in another template.")  # fmt: skip
@click.option("-n", "--max-tokens", type=click.IntRange(1), help="Of each answer.  [default: the variant's]")
@click.option("--chat", is_flag=True, help="Ask through the model's own chat template, not in the study's words.")
@click.option("--limit", type=click.IntRange(1), help="Take the first requests only; a direction needs two pairs.")
@engine_options
@force_option()
@json_option
def synthesize(
    model: Path | None,
    vector_path: Path | None,
    requests: str | None,
    strengths: tuple[float, float] | None,
    out: Path,
    unit: Unit | None,
    kl: float | None,
    variant: SynthesisVariant,
    max_tokens: int | None,
    chat: bool,
    limit: int | None,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Make contrast pairs from a steered chat model's own answers.

    The model answers each request twice, greedily, at the two strengths; the refusal becomes the pair's positive side.
    Requests with equal answers are left out. `extract` takes the pairs, also for a base model that does not follow
    instructions. Without MODEL it uses the embedded model.

    \b
    Example: steercpp synthesize -o pairs.jsonl
             steercpp synthesize chat.gguf --vector comply.gguf \\
                 --requests advbench --strengths -1:2 -o pairs.jsonl
    """  # noqa: D301
    if model and not (vector_path and requests and strengths):
        raise click.UsageError("MODEL needs --vector V.gguf, --requests FILE|NAME and --strengths REFUSE:COMPLY.")
    if vector_path and not strengths:
        raise click.UsageError("--vector needs --strengths REFUSE:COMPLY: what they mean is the vector's own.")
    refuse_idle_kl(kl, unit)
    from steercpp.errors import PairsError
    from steercpp.experiments.synthesis import synthesize as make
    from steercpp.experiments.synthesis import write_synthetic
    from steercpp.files import refuse_overwrite

    refuse_overwrite(out, force=force, error=PairsError, inputs=(model, vector_path, Path(requests or "")))
    synthesis = _Synthesis(model, vector_path, requests, strengths, unit, kl, chat)
    texts = synthesis.requests()[:limit]
    with options.open(synthesis.path) as engine, output.progress(beside_data=as_json) as report:
        vector = synthesis.vector(engine, texts, report)
        synthetic = make(
            engine, vector, texts, strengths=strengths or OWN_STRENGTHS, variant=variant, chat=synthesis.as_chat,
            max_tokens=max_tokens, about=synthesis.about(), progress=report,
        )  # fmt: skip
    write_synthetic(out, synthetic, force=force)
    data = {
        "file": out, "model": synthesis.path, "n_pairs": len(synthetic.pairs), "n_requests": len(texts),
        "n_identical": synthetic.n_identical, "n_silent": synthetic.n_silent, "made": synthetic.made,
        "examples": [{"positive": pair.positive.values, "negative": pair.negative.values}
                     for pair in _first(synthetic.pairs)],
    }  # fmt: skip
    output.emit(data, as_json=as_json, render=lambda: _pieces(data, model))


def _first(pairs: Sequence[Any]) -> Sequence[Any]:
    return pairs[:SHOWN]


@dataclass(frozen=True, slots=True)
class _Synthesis:
    """What is put to which model, with the embedded model's own where nothing is named."""

    model: Path | None
    vector_path: Path | None
    named: str | None
    strengths: tuple[float, float] | None
    unit: Unit | None
    kl: float | None
    chat: bool

    @property
    def path(self) -> Path:
        """The model's file."""
        return model_or_embedded(self.model)

    @property
    def as_chat(self) -> bool:
        """The embedded model was trained on chats alone."""
        return self.chat or self.model is None

    @property
    def shown_unit(self) -> Unit:
        """The unit of the strengths."""
        return self.unit or ("length" if self.vector_path else "norm")

    def requests(self) -> tuple[str, ...]:
        """The texts that were named."""
        from steercpp.experiments.synthesis import harmful_requests

        if self.named is None:
            from steercpp.data.sets.embedded import load

            return harmful_requests(load().behavior())
        from steercpp.data.items import is_named

        if is_named(path := Path(self.named), ".txt"):
            from steercpp.data.sets.records import read_text
            from steercpp.errors import InputError

            if lines := tuple(dict.fromkeys(line.strip() for line in read_text(path).split("\n") if line.strip())):
                return lines
            raise InputError(f"{path}: holds no requests; write one on each line")
        from steercpp.data.sets.names import behavior_items

        return harmful_requests(behavior_items(self.named, option="requests"))

    def vector(self, engine: Engine, texts: Sequence[str], report: output.Report | None) -> ControlVector:
        """The vector in its unit, taken over what the model is asked."""
        from steercpp.experiments.synthesis import request_tokens
        from steercpp.sweeps.calibration import KL
        from steercpp.sweeps.units import check_unit

        check_unit(self.shown_unit, self.kl or KL)
        vector = named_vector(engine, self.vector_path, None, report)
        prompts = request_tokens(engine, texts, chat=self.as_chat)
        return vector_in_unit(engine, vector, prompts, self.shown_unit, kl=self.kl, report=report)[0]

    def about(self) -> dict[str, Any]:
        """What the file tells besides."""
        from steercpp.encoding import spelled

        return {"unit": self.shown_unit, "requests": spelled(self.named or "refusal")}


def _pieces(data: dict[str, Any], model: Path | None) -> list[output.Renderable]:
    left = [("answered alike at both strengths", data["n_identical"]), ("not answered at one", data["n_silent"])]
    left_out = [f"{n} {words}" for words, n in left if n]
    strengths = data["made"]["strengths"]
    shown: list[output.Renderable] = []
    for pair in data["examples"]:
        sides = [(f"{strengths[side]:+g}", output.text(pair[side]["answer"])) for side in ("positive", "negative")]
        shown += [output.blank(), output.text(pair["positive"]["instruction"], "bold"), output.facts(sides)]
    from steercpp.cli.views.pieces import relative

    base, token = ("base.gguf", "") if model else (relative(data["model"]), " --token mean")
    return [
        output.text(f"{data['n_pairs']} pairs of {data['n_requests']} requests"),
        *([output.text(f"left out: {', '.join(left_out)}", "yellow")] if left_out else ()),
        *shown,
        output.blank(),
        output.text("A direction from them, the refusal positive:", "dim"),
        output.verbatim(f"  steercpp extract {base} --pairs {shell_word(str(data['file']))}{token} -o made.gguf"),
    ]
