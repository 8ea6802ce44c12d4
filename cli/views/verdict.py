"""The first words after a sweep: what to use, what it gains and costs, one text before and after, and what to do next.

At most 15 lines of 80 columns, but for paths and commands, which are never cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import click

from steercpp.cli import output
from steercpp.cli.views.chart import sentence
from steercpp.cli.views.pieces import signed
from steercpp.cli.views.strengths import curves_of
from steercpp.cli.words import in_options

if TYPE_CHECKING:
    from steercpp.runs.judgement import Judgement
    from steercpp.runs.scores import StrengthMeans
    from steercpp.runs.verdict import Verdict

Fact: TypeAlias = "tuple[output.Cell, output.Cell]"
STYLES = {"use": "bold green"}
LINE = 64  # characters of a text on one line, beside its strength
LINES = 2  # of each text
STEPS = "▁▂▃▄▅▆▇█"
PICTURE_NAMES = {  # of helpfulness, by its kind, short enough to stand before the pictures
    "choice": "P(correct)", "answer": "P of answers", "code": "pass@1", "own": "own answers",
}  # fmt: skip


def verdict_pieces(judgement: Judgement, verdict: Verdict) -> list[output.Renderable]:
    """The headline and what stands below it."""
    pieces: list[output.Renderable] = [output.text(verdict.headline, STYLES.get(verdict.kind, "bold yellow"))]
    if verdict.reason:
        pieces.append(output.text(verdict.reason))
    if verdict.scope:
        pieces.append(output.text(verdict.scope, "yellow"))
    rows: list[Fact] = [*verdict.facts, *_curves(judgement, verdict)]
    if verdict.example is not None and verdict.example_at is not None:
        rows += _example(verdict, verdict.example_at)
    if rows:
        pieces.append(output.facts(rows))
    return pieces


def next_pieces(verdict: Verdict) -> list[output.Renderable]:
    """What to try where nothing is recommended."""
    if not verdict.next:
        return [output.text(in_options(verdict.next_why))] if verdict.next_why else []
    options = [f"--{name}={value}" if value[0] in "-+" else f"--{name} {value}" for name, value in verdict.next.items()]
    context = click.get_current_context(silent=True)
    is_read = context is not None and context.info_name in ("report", "score")
    if is_read and set(verdict.next) == {"direction"}:  # of what was measured, which needs no other folder
        return [output.joined([("Next: the same command with ", ""), (" ".join(options), "bold cyan")])]
    lead = f"Next: the {'sweep' if is_read else 'same'} command with "
    why = f" ({verdict.next_why[:1].lower()}{verdict.next_why[1:]})"
    return [output.joined([(lead, ""), (f"{' '.join(options)} -o NEW", "bold cyan"), (why, "")])]


def _curves(judgement: Judgement, verdict: Verdict) -> list[Fact]:
    """Small pictures of B and of helpfulness over the strengths, that of the verdict marked."""
    rows = judgement.result.rows()
    if len(rows) < 3:
        return []
    span = f"{signed(rows[0].strength)} to {signed(rows[-1].strength)}"
    pictures: list[tuple[str, list[float]]] = []
    if rows[0].b is not None:
        pictures.append(("B", [((row.b or 0.0) + 1) / 2 for row in rows]))
    base = next((row.helpful for row in rows if row.strength == 0), None)
    if base:
        pictures.append((PICTURE_NAMES[_kind(judgement)], [(row.helpful or 0.0) / base for row in rows]))
    if output.is_plain():
        return [
            ("curve", f"{sentence([row.strength for row in rows], curve, verdict.at)}.") for curve in curves_of(rows)
        ]
    facts: list[Fact] = []
    for name, values in pictures:
        facts.append((name, output.joined([*_steps(values, rows, verdict.at), (f"  {span}", "dim")])))
        span = ""
    return facts


def _kind(judgement: Judgement) -> str:
    """Which items helpfulness is of."""
    curves = judgement.result.curves()
    return "choice" if curves is None else curves.kind


def _steps(values: Sequence[float], rows: Sequence[StrengthMeans], at: float | None) -> list[tuple[str, str]]:
    """A character for each strength, from 0 to 1."""
    pieces = []
    for value, row in zip(values, rows, strict=True):
        step = STEPS[min(max(int(value * len(STEPS)), 0), len(STEPS) - 1)]
        style = "bold green" if row.strength == at else "bold" if row.strength == 0 else "cyan"
        pieces.append((step, style))
    return pieces


def _example(verdict: Verdict, at: float) -> list[Fact]:
    """One request with its text without steering, and with it; shorter where reasons and advice take lines too."""
    assert verdict.example is not None
    texts, lines = verdict.example.texts, LINES if verdict.kind == "use" else 1
    facts: list[Fact] = [("request", output.text(_short(verdict.example.asked, 1), "italic"))]
    for strength in (0.0, at):
        text = texts[strength]
        shown = _short(f"{text.reply.answer}{'…' if text.finish == 'length' else ''}", lines)
        shown = shown or ("(not finite)" if text.finish == "nonfinite" else "(nothing)")
        facts.append((f"at {signed(strength)}", output.text(shown, "" if strength == 0 else "bold")))
    return facts


def _short(content: str, lines: int) -> str:
    """A text on so many lines, cut where it is longer."""
    line, most = " ".join(content.split()), LINE * lines - 2 * lines
    return line if len(line) <= most else f"{line[: most - 1].rstrip(' …')}…"
