"""What a person sees of a sweep: all that `sweep` and `report` print, and tables of generated code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.cli import output
from steercpp.cli.views.panel import Fact, panel_pieces
from steercpp.cli.views.pieces import files_pieces, relative, signed, unit_line
from steercpp.cli.views.strengths import errors_of, strength_table
from steercpp.cli.views.verdict import next_pieces, verdict_pieces
from steercpp.runs.commands import use_command
from steercpp.runs.labels import strengths_in

if TYPE_CHECKING:
    from steercpp.runs.commands import UseCommand
    from steercpp.runs.judgement import Judgement
    from steercpp.runs.verdict import Verdict

SHOWN = 2  # reasons of failure at each strength
PLAIN = {"operator": "add", "positions": "all", "side": "both"}
WORDS = {
    "prompt": "the prompt's tokens", "generated": "what follows the prompt", "last": "the prompt's last token",
    "positive": "tokens of positive projection", "negative": "tokens of negative projection",
}  # fmt: skip


def closing(
    judgement: Judgement, verdict: Verdict, data: dict[str, Any], files: Sequence[Path], *, details: bool
) -> list[output.Renderable]:
    """The verdict with the command line to copy or what to try next; with details everything else that is known.

    Where behavior or helpfulness was not measured there is no verdict to give, and the table of strengths stands in
    for it.
    """
    result = judgement.result
    pieces = verdict_pieces(judgement, verdict)
    pieces += next_pieces(verdict)
    if details or verdict.kind == "partial":
        if result.scores.rows():
            pieces += [
                unit_line(unit_words(data)),
                strength_table(result.rows(), recommended=verdict.strength, errors=errors_of(result.scores)),
            ]
        pieces += code_pieces(data["code"])
    if details:
        work = [*_manner(data), *_work(data)]
        pieces.append(output.panel(*panel_pieces(judgement, data, unit=unit_words(data), work=work), title=title(data)))
        pieces += files_pieces([result.vector_path, *files])
    command = use_command(
        result, 1.0 if verdict.strength is None else verdict.strength,
        model=relative(Path(result.manifest.model.path)), vector=relative(result.vector_path),
    )  # fmt: skip
    if verdict.strength is not None or not command.is_llama_cpp:
        pieces += _use(command)
    if not details:
        page = next((path for path in files if path.stem == "report"), None)
        shown = [("--details shows", "dim")] if page is None else [(relative(page), ""), (" and --details show", "dim")]
        pieces.append(output.joined([*shown, (" the rest", "dim")]))
    return pieces


def unit_words(data: dict[str, Any]) -> str:
    """What a run's strengths count."""
    plan = data["plan"]
    return strengths_in(plan["unit"], operator=plan["operator"], kl=plan.get("kl", 0.0), norms=data["vector"]["norms"])


def title(data: dict[str, Any]) -> str:
    """The model and the layers."""
    from steercpp.runs.verdict import layers_phrase

    return f"{data['model']['file']}, steered at {layers_phrase(tuple(data['vector']['layers']))}"


def _manner(data: dict[str, Any]) -> list[Fact]:
    """How the vector acted, where that is not llama.cpp's own way: added at all tokens."""
    plan = data["plan"]
    facts: list[Fact] = [(key, WORDS.get(plan[key], plan[key])) for key, usual in PLAIN.items() if plan[key] != usual]
    if plan["gate"]:
        il, *below, threshold, _ = plan["gate"].split(":")
        which = f"projection {'below' if below else 'above'} {float(threshold):g} at layer {il}"
        counts = data["gate_open"] or {}
        opened = " and ".join(f"{n} of {data['items'][kind]} {kind} items" for kind, n in counts.items())
        facts.append(("gate", f"{which}; open for {opened}" if opened else which))
    return facts


def _work(data: dict[str, Any]) -> list[Fact]:
    """Whether steered passes started above the layers below, and what was saved."""
    resume, tokens = data["resume"], data["tokens"]
    if not resume or not tokens:
        return []
    where = f"start at layer {resume['first_layer']}"
    how = where if resume["resumed"] else f"in full ({resume['reason']})"
    if resume["resumed"] and resume["n_in_full"]:
        how = f"{resume['n_resumed']} {where}, {resume['n_in_full']} in full ({resume['reason']})"
    share = tokens["token_layers"] / tokens["token_layers_plain"]
    facts: list[Fact] = [("steered passes", f"{how}: {share:.2f} of the token-layers of a plain loop")]
    if packing := data.get("packing"):
        facts.append(("packed prompts", _packed(packing)))
    return facts


def _packed(packing: dict[str, Any]) -> str:
    """How far packing moved the numbers from each prompt's own run."""
    n, n_equal = packing["n_compared"], packing["n_equal"]
    if n_equal == n:
        return f"as decoded alone, bit for bit, in all {n} that were compared"
    moved = f"ln P up to {packing['largest']:.1g} from decoded alone, {n_equal} of {n} compared have the same bits"
    return moved if packing["how"] != "shared" else f"{moved}; --exact gives all of them"


def _use(command: UseCommand) -> list[output.Renderable]:
    """The command line that steers as the sweep did, after why it is not llama.cpp's own where it is not."""
    pieces: list[output.Renderable] = [output.text(command.note, "yellow")] if command.note else []
    if command.line:
        pieces.append(output.verbatim(f"  {command.line}" if command.note else command.line, "cyan"))
    return pieces


def code_pieces(record: dict[str, Any] | None) -> list[output.Renderable]:
    """A table for each way in which programs were taken out of the answers; nothing where there is no code."""
    if record is None:
        return []
    pieces: list[output.Renderable] = []
    for way, rows in record["ways"].items():
        more = next((key for key in rows[0] if re.fullmatch(r"pass_at_[0-9]+", key) and key != "pass_at_1"), None)
        columns: list[output.Column] = [("strength", "right"), ("pass@1", "right"), ("95%", "right")]
        columns += [(f"pass@{more.removeprefix('pass_at_')}", "right")] if more else []
        columns.append(("failed", "left"))
        lines = [
            [
                signed(row["strength"]), f"{row['pass_at_1']:.3f}",
                (
                    f"{row['pass_at_1_low']:.3f} {row['pass_at_1_high']:.3f}"
                    if row["pass_at_1_low"] == row["pass_at_1_low"]
                    else "–"
                ),
                *([f"{row[more]:.3f}"] if more else []), _reasons(row["failed"]),
            ]
            for row in rows
        ]  # fmt: skip
        named = "" if way == "whole" else f", programs taken out as by {way}"
        problems, answers = _counted(record["n_items"], "problem"), _counted(record["n_samples"], "answer")
        title = f" Code: {problems}, {answers} each{named}"
        pieces.append(output.table(columns, lines, title=title))
    return pieces


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _reasons(failed: dict[str, int]) -> str:
    """The commonest reasons."""
    shown = [f"{n} {reason[:24]}" for reason, n in list(failed.items())[:SHOWN]]
    rest = sum(failed.values()) - sum(list(failed.values())[:SHOWN])
    return ", ".join(shown + ([f"{rest} others"] if rest else []))
