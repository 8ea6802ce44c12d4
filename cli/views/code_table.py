"""How the score of generated code looks in a terminal."""

from __future__ import annotations

from typing import Any

from steercpp.cli import output

SHOWN = 2  # reasons of failure at each strength


def code_pieces(record: dict[str, Any] | None) -> list[output.Renderable]:
    """A table for each way in which programs were taken out of the answers; nothing where there is no code."""
    if record is None:
        return []
    pieces: list[output.Renderable] = []
    for way, rows in record["ways"].items():
        more = next((key for key in rows[0] if key.startswith("pass_at_") and key != "pass_at_1"), None)
        columns: list[output.Column] = [("strength", "right"), ("pass@1", "right"), ("95 %", "right")]
        columns += [(f"pass@{more.removeprefix('pass_at_')}", "right")] if more else []
        columns.append(("failed", "left"))
        lines = [
            [
                f"{row['strength']:+.10g}" if row["strength"] else "0", f"{row['pass_at_1']:.3f}",
                f"{row['low']:.3f} {row['high']:.3f}" if row["low"] == row["low"] else "–",
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
    told = [f"{n} {reason[:24]}" for reason, n in list(failed.items())[:SHOWN]]
    rest = sum(failed.values()) - sum(list(failed.values())[:SHOWN])
    return ", ".join(told + ([f"{rest} others"] if rest else []))
