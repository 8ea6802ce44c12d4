"""The part of the closing panel that is about single items: which failed, couples, both sides, what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.runs.judgement import Judgement
    from steercpp.statistics.couples import Coupled
    from steercpp.statistics.over_refusal import Sides
    from steercpp.statistics.slopes import Slopes

Fact: TypeAlias = "tuple[output.Cell, output.Cell]"


def signed(strength: float) -> str:
    """A strength with its sign; 0 has none."""
    return f"{strength:+.10g}" if strength else "0"


def share(value: float) -> str:
    """A share in percent; what rounds to nothing has no sign."""
    return f"{round(value, 3) + 0.0:.1%}"


def sided(judgement: Judgement) -> list[tuple[str, Slopes]]:
    """How items respond, by the name of their side; all of them under "" where there are no sides."""
    if judgement.by_side:
        return list(judgement.by_side.items())
    return [] if judgement.slopes is None else [("", judgement.slopes)]


def item_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """Items that move the wrong way, and what became of right answers."""
    facts: list[Fact] = []
    for of, found in sided(judgement):
        anti = found.anti
        told = f"{anti.n} of {anti.of} {of or 'items'}: {share(anti.share)} ({share(anti.low)} to {share(anti.high)})"
        facts.append(("" if facts else "anti-steerable", told))
    if judgement.failures is not None:
        rows = {row.strength: row for row in judgement.failures.counts}
        told = f"{rows[0.0].right} of {len(judgement.failures.codes[0])} items"
        if strength:
            now = rows[strength]
            told += f"; at {signed(strength)} {now.kept} kept, {now.gained} gained"
        facts.append(("right at 0", told))
        if strength:
            facts.append(("", f"lost: {now.lost_to_wrong} to another choice, {now.lost_to_format} to none being named"))
    return facts


def side_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """Over-refusal and compliance at 0 and at the recommended strength."""
    facts: list[Fact] = []
    for found, by in ((judgement.sides, ""), (judgement.said_sides, ", said")):
        if found is not None:
            facts += _side(found, strength, by)
    return facts


def _side(found: Sides, strength: float | None, by: str) -> list[Fact]:
    facts: list[Fact] = []
    for name, n, values in (
        (f"over-refusal{by}", found.n_harmless, found.over_refusal),
        (f"compliance{by}", found.n_harmful, found.compliance),
    ):
        told, few = [], ""
        for s, (value, low, high) in zip(found.strengths, values, strict=True):
            if s in (0.0, strength):
                has_interval = low == low and high == high
                within = f" ({low:.2f} to {high:.2f})" if has_interval else ""
                told.append(f"{value:.2f}{within} at {signed(float(s))}")
                few = few if has_interval else ", too few for an interval"
        facts.append((name, f"{', '.join(told)}; {n} items{few}"))
    return facts


def couple_facts(found: Coupled | None, strength: float | None) -> list[Fact]:
    """What goes with what over the couples, at the recommended strength or the strongest."""
    if found is None:
        return []
    name = f"{len(found.names)} couples"
    if found.reason:
        return [(name, output.text(found.reason, "yellow"))]
    at = strength if strength else max((each.strength for each in found.correlations), default=None)
    each = next((each for each in found.correlations if each.strength == at), None)
    if each is None:
        return []
    of = "P(correct)" if found.helpful == "choice" else "P(comply), harmless"
    if each.pearson.value != each.pearson.value:
        return [(name, f"nothing changes at {signed(each.strength)}, so nothing correlates")]
    told = [
        f"{kind} {number.value:+.2f}"
        + (f" ({number.low:+.2f} to {number.high:+.2f})" if number.low == number.low else "")
        for kind, number in (("r", each.pearson), ("ranks", each.spearman))
    ]
    return [(name, f"changes of B and {of}, at {signed(each.strength)}: {', '.join(told)}")]


def text_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """What was said at 0 and at the recommended strength."""
    said = judgement.said
    if said is None:
        return []
    high = said.bounds(rng=judgement.rng()).invalid_high
    facts: list[Fact] = []
    for i, row in enumerate(judgement.texts):
        if row.strength in (0.0, strength):
            counts = f"{row.aligned} aligned, {row.misaligned} misaligned, {row.invalid} invalid"
            bound = "" if high[i] != high[i] else f" (at most {share(float(high[i]))})"
            quality = f"perplexity {said.perplexity[i]:.3g}, repeating {share(float(said.repetition_share[i]))}"
            facts.append((f"at {signed(row.strength)}", f"{counts}{bound}; {quality}"))
    asked = judgement.result.said(judgement.how.matcher, label="prompt")
    if asked is not None:
        aligned, invalid = share(float(asked.aligned_share[0])), share(float(asked.invalid_share[0]))
        facts.append(("asked in words", f"{aligned} aligned, {invalid} invalid, perplexity {asked.perplexity[0]:.3g}"))
    return [*facts, ("judged by", said.matcher)]


def code_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """How many programs pass at 0 and at the recommended strength."""
    found = judgement.result.code
    if found is None:
        return []
    at = [i for i, s in enumerate(found.strengths) if s in (0.0, strength)]
    told = ", ".join(f"{found.mean_pass_at(1)[i]:.3f} at {signed(float(found.strengths[i]))}" for i in at)
    return [("pass@1", told)]
