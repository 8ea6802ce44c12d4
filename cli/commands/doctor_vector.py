"""`steercpp doctor VECTOR`: what is wrong with a control vector, and the corrected file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.cli import output
from steercpp.cli.options.common import refuse_all_tokens
from steercpp.cli.words import in_options
from steercpp.encoding import shell_line

if TYPE_CHECKING:
    from steercpp.cli.options.engine import EngineOptions
    from steercpp.cli.options.pairs import PairOptions
    from steercpp.doctor.findings import Finding
    from steercpp.doctor.vector import Report

DUMP_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Examination:
    """What is examined, by what, and where a repaired file goes."""

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
        refuse_all_tokens(self.token, "a direction is of one token of each prompt")
        if self.token is not None and not (self.pairs or self.has_dump):
            raise click.UsageError("--token is for --pairs or a dump: whose activations the directions are held to.")

    @property
    def has_dump(self) -> bool:
        """Whether activations are given in place of a model."""
        return self.model is not None and self.model.suffix == DUMP_SUFFIX


@dataclass(frozen=True, slots=True)
class ExaminedVector:
    """What was found, what a repair changed (None: none was written), and what is found in the file it wrote."""

    report: Report
    changes: tuple[str, ...] | None = None
    left: Report | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those that are there still."""
        return self.report.findings if self.left is None else self.left.findings


def examine_vector(examination: Examination, options: EngineOptions) -> int:
    """Examine, repair if asked for, print; the exit code.

    Raises:
        SteerError: a file cannot be read or written.
    """
    outcome = _outcome(examination, options)
    output.emit(
        _to_json(examination, outcome), as_json=examination.as_json, render=lambda: _render(examination, outcome)
    )
    return 1 if outcome.findings else 0


def _outcome(examination: Examination, options: EngineOptions) -> ExaminedVector:
    from steercpp.doctor.repair import write_repaired
    from steercpp.doctor.vector import examine, stored_activations
    from steercpp.errors import VectorFileError
    from steercpp.vectors.gguf import refuse_overwrite

    if examination.out:
        if examination.out.suffix.lower() != ".gguf":
            raise VectorFileError(f"{examination.out}: a repaired vector is written as GGUF; end its name in .gguf")
        refuse_overwrite(examination.out, force=examination.force)
    with ExitStack() as stack:
        engine = activations = None
        if examination.model and examination.has_dump:
            activations = stored_activations(examination.model, examination.vector, token=examination.token)
        elif examination.model:
            engine = stack.enter_context(options.open(examination.model))
        progress = stack.enter_context(output.progress())

        def decoded(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total, "prompts")

        pairs = examination.pairs.source()
        report = examine(
            examination.vector,
            engine=engine,
            pairs=pairs,
            activations=activations,
            template=examination.pairs.template,
            token=examination.token,
            progress=decoded,
        )
        if not examination.out or not report.is_repairable:
            return ExaminedVector(report)
        changes = write_repaired(report, examination.out, force=examination.force)
        return ExaminedVector(report, changes, examine(examination.out, engine=engine, activations=report.activations))


def _to_json(examination: Examination, outcome: ExaminedVector) -> dict[str, Any]:
    data: dict[str, Any] = _in_options(outcome.report.to_json())
    if examination.model:
        data["model"] = str(examination.model)
    data["repaired"] = None
    if outcome.changes is not None and outcome.left is not None:
        left = _in_options(outcome.left.to_json())["findings"]
        data["repaired"] = {"file": str(examination.out), "changes": list(outcome.changes), "findings": left}
    data["next"] = _next(examination, outcome)
    return data


def _in_options(value: Any) -> Any:
    """A report as plain data, its sentences in the words of the command line."""
    if isinstance(value, dict):
        return {key: _in_options(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_options(inner) for inner in value]
    return in_options(value) if isinstance(value, str) else value


def _next(examination: Examination, outcome: ExaminedVector) -> str | None:
    """The command that gives a right vector, where there is one."""
    report = outcome.report
    if any(finding.code == "pca-fault" for finding in report.findings):
        return shell_line(_extract_command(examination))
    if outcome.changes is None and report.is_repairable:
        out = f"{examination.vector.stem}-repaired.gguf"
        model = ["--model", str(examination.model)] if examination.model else []
        return shell_line(
            ["steercpp", "doctor", str(examination.vector), *model, *_pairs(examination), "--repair", out]
        )
    return None


def _extract_command(examination: Examination) -> list[str]:
    """How to extract the vector again; llama-cvector-generator's own names stand for files that were not given."""
    model = str(examination.model) if examination.model and not examination.has_dump else "MODEL.gguf"
    pairs = _pairs(examination) or ["--positive-file", "positive.txt", "--negative-file", "negative.txt"]
    token = [] if examination.token else ["--token", "mean"]  # of all tokens, as there
    out = f"{examination.vector.stem}-again.gguf"
    return ["steercpp", "extract", model, *pairs, "--method", "pca", "--layers", "all", *token, "-o", out]


def _pairs(examination: Examination) -> list[str]:
    """The options that named the pairs, and their token."""
    token = [] if examination.token is None else ["--token", str(examination.token)]
    return [*examination.pairs.arguments(), *token]


def _render(examination: Examination, outcome: ExaminedVector) -> list[output.Renderable]:
    from steercpp.vectors.layers import format_layers

    report = outcome.report
    layers = [*report.directions]
    width = next((len(row) for row in report.directions.values()), 0)
    known = [
        ("for models", report.loose.model_hint or "of unknown architecture"),
        ("layers", f"{format_layers(layers)}, width {width}" if layers else "none"),
    ]
    if examination.model:
        known.append(("compared with", str(examination.model)))
    pieces: list[output.Renderable] = [output.verbatim(str(examination.vector), "bold"), output.facts(known)]
    if report.relations:
        pieces += _relations(report)
    pieces += _listed(report.findings, with_repair=report.is_repairable)
    pieces += [output.text(in_options(f"note: {remark}"), "yellow") for remark in report.remarks]
    return [*pieces, output.blank(), *_verdict(examination, outcome)]


def _relations(report: Report) -> list[output.Renderable]:
    columns = ["layer", "its own", "one below", "signed", "pairs along it"]
    rows = [
        [
            str(relation.layer),
            _shown(relation.own),
            _shown(relation.below),
            _shown(relation.projection, "+.3f"),
            _shown(relation.agreeing, ".0%"),
        ]
        for relation in report.relations
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
    for finding in findings:
        rows: list[Sequence[output.Cell]] = [
            [output.text("✗", "bold red"), output.text(finding.code, "bold")],
            ["", in_options(finding.sentence)],
        ]
        if finding.repair and with_repair:
            rows.append(["", output.text(in_options(f"repair: {finding.repair}"), "dim")])
        pieces.append(output.grid(rows, "ll"))
    return pieces


def _verdict(examination: Examination, outcome: ExaminedVector) -> list[output.Renderable]:
    report = outcome.report
    if not report.findings:
        return [output.text("Nothing to repair." if examination.out else "No fault found.", "bold green")]
    step = _next(examination, outcome)
    if outcome.changes is not None:
        pieces: list[output.Renderable] = [output.text("Repaired:", "bold")]
        pieces += [output.grid([[output.text("✓", "green"), change]], "ll") for change in outcome.changes]
        pieces += [output.text("Written to"), output.verbatim(str(examination.out))]
        if outcome.findings:
            return [*pieces, output.text("What is left:", "bold red"), *_listed(outcome.findings, with_repair=False)]
        return [*pieces, output.text("No fault is left.", "bold green")]
    if any(finding.code == "pca-fault" for finding in report.findings) and step:
        words = "It cannot be repaired from the file; nothing was written. Extract it again:"
        return [output.text(words, "bold red"), output.verbatim(step)]
    if step:
        return [output.text("To repair it:", "bold"), output.verbatim(step)]
    return [output.text("It cannot be repaired from the file; nothing was written.", "bold red")]
