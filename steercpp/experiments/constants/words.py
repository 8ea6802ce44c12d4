"""Measured constants in words, a line each; read this for what a report says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from steercpp.statistics.rounded import FAR_BELOW, NONE

Fact: TypeAlias = tuple[str, str]
TOKENS = {"top10": "10 likeliest", "choices": "wrong choices", "all": "all by P"}
GAPS = {"continuations": "whole answers", "first_tokens": "first tokens", "every_pair": "worst pair"}
CURVES = {
    ("top10", "quadratic"): "P, quadratic",
    ("top10", "gaussian"): "P, Gaussian",
    ("all", "gaussian_with_mean"): "P, with the mean",
}


def facts(record: Mapping[str, Any]) -> list[Fact]:
    """Names and what was found: lambda, sigma, Delta, the assumptions and the predictions.

    Args:
        record: of `Constants`.
    """
    return [*_lambda(record), *_sigma(record), *_delta(record), *_assumptions(record), *_predicted(record)]


def number(value: float | None, form: str = ".3g") -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None or not np.isfinite(value) else format(value + 0.0, form)


def interval(row: Sequence[float | None], form: str = ".3g") -> str:
    """A number with its interval."""
    value, low, high = row
    if low is None or high is None or not np.isfinite([low, high]).all():
        return number(value, form)
    error = (high - low) / 4  # what is far below it is noise
    value, low, high = (0.0 if end is not None and abs(end) < FAR_BELOW * error else end for end in (value, low, high))
    return f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"


def share(value: float | None) -> str:
    """A share in per cent."""
    return number(value, ".0%")


def _lambda(record: Mapping[str, Any]) -> list[Fact]:
    lines = []
    for kind, norms in record["norms"].items():
        for name, sign in (("positive", ">"), ("negative", "<")):
            hidden, logits = norms[record["norm"]][name], norms["logits"][name]
            if hidden is not None and logits is not None:
                of_logits = f"|Uδ| {number(logits['slope'][0])} to {logits['reach']:+g}"
                of_hidden = f"{interval(hidden['slope'])} to {hidden['reach']:+g}"
                lines.append((f"λ {kind}, s {sign} 0", f"{of_hidden}; {of_logits}"))
    return lines


def _sigma(record: Mapping[str, Any]) -> list[Fact]:
    return [
        (f"λσ {TOKENS[name]}", f"{interval(noise['lambda_sigma'])}; σ = {number(noise['sigma'][0])}")
        for name, noise in (record["noise"] or {}).items()
    ]


def _delta(record: Mapping[str, Any]) -> list[Fact]:
    if record["separation"] is None:
        return []
    lines, of, left = [], _of(record), record["separation"]["n_left_out"]
    if of:
        lines.append(("Δ and B", f"of the{of} items alone; {left} of the other side, which δ moves back, left out"))
    for name, gap in record["separation"]["gaps"].items():
        half = number(gap["delta_side"][0])
        lines.append((f"Δ {GAPS[name]}", f"{interval(gap['delta_gap'])} nats per |δ|; {half} a side"))
    rate = record["separation"]["gaps"]["continuations"]["rate_gap"]
    half_rate = interval([None if value is None else value / 2 for value in rate])
    lines.append(("Δλ", f"{half_rate}, half of d ln(P+/P−)/ds{',' * bool(of)}{of}"))
    if (circular := record["separation"]["circular"]) is not None:
        lines.append(("Δλ of wolf2024", f"{interval(circular)}, circular: any direction has one"))
    return lines


def _of(record: Mapping[str, Any]) -> str:
    """Which items Delta is of, after a space; "" where it is of all."""
    separation = record["separation"]
    return " harmful" if separation is not None and separation["of"] == "harmful" else ""


def _assumptions(record: Mapping[str, Any]) -> list[Fact]:
    lines, assumptions = [], record["assumptions"]
    if a1 := assumptions.get("A1"):
        for name, words in ((record["norm"], "|δ|"), ("logits", "|Uδ|")):
            held = [f"{share(by[name]['share'][0])} of {by[name]['n_queries']} {kind} items" for kind, by in a1.items()]
            lines.append((f"A1 {words} a line", ", ".join(held)))
    if a2 := assumptions.get("A2"):
        held = [f"{GAPS[name]} {share(gap['share'][0])}" for name, gap in a2.items()]
        lines.append((f"A2 gap > 0, of {a2['continuations']['n_queries']}{_of(record)}", ", ".join(held)))
    if a3 := assumptions.get("A3"):
        held = [f"{TOKENS[name]} {share(share_holds)}" for name, share_holds in a3.items()]
        lines.append((f"A3 noise, of {record['noise']['choices']['n_queries']}", ", ".join(held)))
    return lines


def _predicted(record: Mapping[str, Any]) -> list[Fact]:
    predicted = record["predicted"]
    curves = {"B, slopes at 0": predicted.get("alignment", {}).get("queries")}
    helpfulness = predicted.get("helpfulness", {})
    curves |= {words: helpfulness.get(tokens, {}).get(law) for (tokens, law), words in CURVES.items()}
    lines = []
    for words, curve in curves.items():
        if curve is not None:
            off = f"off by {number(curve['largest'])} at most, at {number(curve['largest_at'], '+g')}"
            lines.append((words, f"R² {number(curve['r2'], 'z.3f')}, {off}"))
    return lines
