"""`steercpp doctor VECTOR`: what is wrong with a control vector, and the corrected file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.cli.options.engine import EngineOptions
    from steercpp.cli.options.pairs import PairOptions
    from steercpp.doctor.findings import Finding
    from steercpp.doctor.vector import Report

DUMP_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line."""

    vector: Path
    model: Path | None
    pairs: PairOptions
    token: Any
    out: Path | None
    force: bool
    as_json: bool

    def __post_init__(self) -> None:
        if self.force and not self.out:
            raise click.UsageError("--force is for --repair OUT.gguf.")
        if self.pairs and not self.model:
            raise click.UsageError("--pairs needs --model: the model that the pairs are put to.")
        if self.pairs and self.has_dump:
            raise click.UsageError("--model is a dump, whose pairs are in it already; leave --pairs out.")
        if self.token == "all":
            raise click.UsageError("--token all is for steercpp dump; a direction is of one token of each prompt.")
        if self.token is not None and not (self.pairs or self.has_dump):
            raise click.UsageError("--token is for --pairs or a dump: whose activations the directions are held to.")

    @property
    def has_dump(self) -> bool:
        """Whether activations are given in place of a model."""
        return self.model is not None and self.model.suffix == DUMP_SUFFIX


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, what a repair changed (None: none was written), and what is found in the file it wrote."""

    report: Report
    changes: tuple[str, ...] | None = None
    left: Report | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those that are there still."""
        return self.report.findings if self.left is None else self.left.findings


def examine_vector(asked: Asked, options: EngineOptions) -> int:
    """Examine, repair if asked for, print; the exit code.

    Raises:
        SteerError: a file cannot be read or written.
    """
    outcome = _outcome(asked, options)
    output.emit(_to_json(asked, outcome), as_json=asked.as_json, render=lambda: _render(asked, outcome))
    return 1 if outcome.findings else 0


def _outcome(asked: Asked, options: EngineOptions) -> Outcome:
    from steercpp.doctor.repair import write_repaired
    from steercpp.doctor.vector import examine, stored_activations
    from steercpp.vectors.gguf import refuse_overwrite

    if asked.out:
        refuse_overwrite(asked.out, force=asked.force)
    with ExitStack() as stack:
        engine = activations = None
        if asked.model and asked.has_dump:
            activations = stored_activations(asked.model, asked.vector, token=asked.token)
        elif asked.model:
            engine = stack.enter_context(options.open(asked.model))
        report = stack.enter_context(output.progress())

        def decoded(done: int, total: int) -> None:
            if report is not None:
                report(done, total, "prompts")

        pairs = asked.pairs.source()
        found = examine(
            asked.vector,
            engine=engine,
            pairs=pairs,
            activations=activations,
            template=asked.pairs.template,
            token=asked.token,
            progress=decoded,
        )
        if not asked.out or not found.is_repairable:
            return Outcome(found)
        changes = write_repaired(found, asked.out, force=asked.force)
        return Outcome(found, changes, examine(asked.out, engine=engine, activations=found.activations))


def _to_json(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    data = outcome.report.to_json()
    if asked.model:
        data["model"] = str(asked.model)
    data["repaired"] = None
    if outcome.changes is not None and outcome.left is not None:
        left = outcome.left.to_json()["findings"]
        data["repaired"] = {"file": str(asked.out), "changes": list(outcome.changes), "findings": left}
    data["next"] = _next(asked, outcome)
    return data


def _next(asked: Asked, outcome: Outcome) -> str | None:
    """The command that gives a right vector, where there is one."""
    report = outcome.report
    if any(one.code == "pca-fault" for one in report.findings):
        return shlex.join(_extract_command(asked))
    if outcome.changes is None and report.is_repairable:
        out = f"{asked.vector.stem}-repaired.gguf"
        model = ["--model", str(asked.model)] if asked.model else []
        return shlex.join(["steercpp", "doctor", str(asked.vector), *model, *_pairs(asked), "--repair", out])
    return None


def _extract_command(asked: Asked) -> list[str]:
    """How to extract the vector anew; llama-cvector-generator's own names stand for files that were not given."""
    model = str(asked.model) if asked.model and not asked.has_dump else "MODEL.gguf"
    pairs = _pairs(asked) or ["--positive-file", "positive.txt", "--negative-file", "negative.txt"]
    token = [] if asked.token else ["--token", "mean"]  # of all tokens, as there
    out = f"{asked.vector.stem}-again.gguf"
    return ["steercpp", "extract", model, *pairs, "--method", "pca", "--layers", "all", *token, "-o", out]


def _pairs(asked: Asked) -> list[str]:
    """The options that named the pairs, and their token."""
    words: list[str] = []
    pairs = asked.pairs
    for name, value in (
        ("--pairs", pairs.path),
        ("--positive-file", pairs.positive_file),
        ("--negative-file", pairs.negative_file),
        ("--pairs-format", None if pairs.format == "auto" else pairs.format),
        ("--persona-template", pairs.persona_template),
        ("--system", pairs.system),
        ("--token", asked.token),
    ):
        words += [] if value is None else [name, str(value)]
    for persona in pairs.personas:
        words += ["--persona", *persona]
    return [*words, f"--{pairs.chosen_template}"] if pairs.chosen_template else words


def _render(asked: Asked, outcome: Outcome) -> list[output.Renderable]:
    from steercpp.vectors.layers import format_layers

    report = outcome.report
    layers = [*report.directions]
    width = next((len(row) for row in report.directions.values()), 0)
    known = [
        ("for models", report.loose.model_hint or "of unknown architecture"),
        ("layers", f"{format_layers(layers)}, width {width}" if layers else "none"),
    ]
    if asked.model:
        known.append(("compared with", str(asked.model)))
    pieces: list[output.Renderable] = [output.verbatim(str(asked.vector), "bold"), output.facts(known)]
    if report.relations:
        pieces += _relations(report)
    pieces += _listed(report.findings, with_repair=report.is_repairable)
    pieces += [output.text(f"note: {remark}", "yellow") for remark in report.remarks]
    return [*pieces, output.blank(), *_verdict(asked, outcome)]


def _relations(report: Report) -> list[output.Renderable]:
    columns = ["layer", "its own", "one below", "signed", "pairs along it"]
    rows = [
        [
            str(one.layer),
            _shown(one.own),
            _shown(one.below),
            _shown(one.projection, "+.3f"),
            _shown(one.agreeing, ".0%"),
        ]
        for one in report.relations
    ]
    words = (
        f"Cosines with what is extracted from the pairs, token {report.token!r}: the largest of all methods at "
        "the layer and at the one below; signed: with the mean difference, where the direction belongs."
    )
    return [output.blank(), output.text(words, "dim"), output.table([(name, "right") for name in columns], rows)]


def _shown(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def _listed(findings: Sequence[Finding], *, with_repair: bool) -> list[output.Renderable]:
    pieces: list[output.Renderable] = []
    for one in findings:
        rows: list[Sequence[output.Cell]] = [
            [output.text("✗", "bold red"), output.text(one.code, "bold")],
            ["", one.sentence],
        ]
        if one.repair and with_repair:
            rows.append(["", output.text(f"repair: {one.repair}", "dim")])
        pieces.append(output.grid(rows, "ll"))
    return pieces


def _verdict(asked: Asked, outcome: Outcome) -> list[output.Renderable]:
    report = outcome.report
    if not report.findings:
        return [output.text("Nothing to repair." if asked.out else "No fault found.", "bold green")]
    step = _next(asked, outcome)
    if outcome.changes is not None:
        pieces: list[output.Renderable] = [output.text("Repaired:", "bold")]
        pieces += [output.grid([[output.text("✓", "green"), change]], "ll") for change in outcome.changes]
        pieces += [output.text("Written to"), output.verbatim(str(asked.out))]
        if outcome.findings:
            return [*pieces, output.text("What is left:", "bold red"), *_listed(outcome.findings, with_repair=False)]
        return [*pieces, output.text("No fault is left.", "bold green")]
    if any(one.code == "pca-fault" for one in report.findings) and step:
        words = "It cannot be repaired from the file; nothing was written. Extract it again:"
        return [output.text(words, "bold red"), output.verbatim(step)]
    if step:
        return [output.text("To repair it:", "bold"), output.verbatim(step)]
    return [output.text("It cannot be repaired from the file; nothing was written.", "bold red")]
