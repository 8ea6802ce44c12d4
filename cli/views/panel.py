"""All figures of a run in one panel, in groups: the proof, the controls, the theory, the items, the texts.

The verdict stands above it (verdict.py). `panel_pieces` puts the panel together; each group is a list of facts, which
are a name and a cell.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from steercpp.cli import output
from steercpp.cli.views.pieces import share, signed
from steercpp.cli.views.strengths import errors_of
from steercpp.runs.labels import CONTROL_WORDS, Label
from steercpp.runs.verdict import MEASURE_WORDS
from steercpp.statistics.rounded import fixed, places_of, plus, significant, within

if TYPE_CHECKING:
    from steercpp.runs.judgement import Judgement
    from steercpp.runs.result import SweepResult
    from steercpp.runs.scores import StrengthMeans
    from steercpp.statistics.couples import Coupled
    from steercpp.statistics.intervals import Interval
    from steercpp.statistics.optimum import Optimum
    from steercpp.statistics.over_refusal import Sides
    from steercpp.statistics.slopes import Slopes

Fact: TypeAlias = "tuple[str, output.Cell]"

THEORY = (("alignment", "Δλ", "delta_lambda"), ("helpfulness", "λσβ", "b"))
SWITCHES = {"random": "--random 0", "orthogonal": "--no-orthogonal", "prompt": "--no-prompt-baseline"}
MEANS = (
    ("B", "b", "+"), ("P+ − P−", "b_raw", "+"), ("P(correct)", "p_free", "-"), ("P of answers", "p_answer", "-"),
    ("own answers", "p_own", "-"), ("perplexity", "perplexity", "-"),
)  # fmt: skip
QUALITY = (
    ("held-out AUC", "auc", partial(fixed, places=3)), ("held-out accuracy", "accuracy", share),
    ("agreement of pairs", "agreement", partial(fixed, places=3)),
    ("stability", "stability", partial(fixed, places=3)),
)  # fmt: skip
SEEN = "measured directly"


def panel_pieces(judgement: Judgement, data: dict[str, Any], *, unit: str, work: list[Fact]) -> list[output.Renderable]:
    """Everything in the panel.

    Args:
        judgement: the run, judged.
        data: its record.
        unit: what strengths count, in words.
        work: how it was computed.
    """
    recommendation = data["recommendation"]
    strength = None if recommendation is None else recommendation["candidate"]
    proof = _proof_title(recommendation)
    groups = {
        proof: _proof(recommendation),
        "Controls": _controls(data["controls"], strength),
        "Vector": [("strengths", f"in {unit}"), *_quality(data["vector"]["quality"])],
        "Found on this model": _found(judgement.result),
        "Theory, fitted": [*_theory(data), *_averaging(judgement), *_best(judgement.optimum), *_constants(judgement)],
        "Items": [
            *_item_facts(judgement, strength),
            *_side_facts(judgement, strength),
            *_couple_facts(judgement.coupled, strength),
            *_code_facts(judgement, strength),
        ],
        "Texts": _text_facts(judgement, strength),
        "Work": work,
    }
    width = max(len(name) for facts in groups.values() for name, _ in facts) if any(groups.values()) else 0
    pieces: list[output.Renderable] = _means(judgement, strength)
    for title, facts in groups.items():
        if facts:
            pieces += [output.blank()] if pieces else []
            pieces += [output.text(title, "bold")] if title else []
            pieces.append(output.facts([(f"{name:<{width}}", cell) for name, cell in facts]))
    return pieces


def _proof_title(recommendation: dict[str, Any] | None) -> str:
    """Which strength is proved, and on what."""
    if recommendation is None or recommendation["candidate"] is None:
        return "Rule"
    told, words = recommendation["reported_on"], MEASURE_WORDS[recommendation["kind"]]
    return (
        f"Proof at {signed(recommendation['candidate'])}, on the {told['n_behavior']} behavior items and "
        f"{told['n_choice']} {words.items} that had no part in the choice"
    )


def _means(judgement: Judgement, strength: float | None) -> list[output.Renderable]:
    """Means over all items at 0, at the recommended strength, and under the controls that are one direction or none."""
    controls = judgement.result.controls
    places = {f"at {signed(row.strength)}": row for row in judgement.result.rows() if row.strength in (0.0, strength)}
    shown: dict[str, StrengthMeans] = dict(sorted(places.items(), key=lambda item: item[1].strength != 0))
    for name, control in (("orthogonal", controls.orthogonal), ("baseline", controls.prompt)):
        if control is not None:
            shown[name] = control.row
    errors = errors_of(judgement.result.scores)
    lines: list[list[output.Cell]] = []
    for name, key, sign in MEANS:
        values = [getattr(row, key) for row in shown.values()]
        if values[0] is None:
            continue
        if key in errors:
            n_places = places_of(errors[key].tolist())
            lines.append([name, *("" if value is None else fixed(value, n_places, sign=sign) for value in values)])
        else:
            lines.append([name, *("" if value is None else significant(value) for value in values)])
    headings: list[output.Column] = [("mean", "left"), *((name, "right") for name in shown)]
    return [output.table(headings, lines, edge=False)] if lines else []


def _proof(recommendation: dict[str, Any] | None) -> list[Fact]:
    """Each condition of the rule with its figure, in yellow what fails; without a candidate why there is none."""
    if recommendation is None:
        return []
    from steercpp.runs.proof import proof

    if recommendation["candidate"] is None:
        return [("no candidate", recommendation["reason"])]
    return [
        (
            condition.name,
            output.joined([
                (condition.figure, "" if condition.holds else "yellow"),
                (f"; needed: {condition.needed}", "dim" if condition.holds else "yellow"),
            ]),
        )
        for condition in proof(recommendation)
    ]  # fmt: skip


def _quality(quality: dict[str, Any] | None) -> list[Fact]:
    """What the pairs tell of the vector, from the worst layer to the best."""
    if quality is None:
        return []
    layers = quality["layers"]
    facts: list[Fact] = []
    if quality["method"] and quality["n_pairs"]:
        facts.append(("extracted", f"{quality['method']} of {quality['n_pairs']} pairs"))
    for name, key, form in QUALITY:
        values = [row[key] for row in layers if key in row]
        if values:
            low, high = form(min(values)), form(max(values))
            facts.append((name, low if low == high else f"{low} to {high}"))
    return facts


def _found(result: SweepResult) -> list[Fact]:
    """What each measure tells, where layers and strengths come from, and what it took to find them."""
    found = result.preparation
    if found is None:
        return []
    facts: list[Fact] = [
        (signal.measure, output.text(signal.words, "" if signal.tells else "yellow")) for signal in found.signals
    ]
    if found.windows:
        best = next(window for window in found.windows if tuple(window["layers"]) == found.layers)
        gain = f"{plus(best['gain'])} in B, at least {plus(best['gain_low'])}"
        tried = f"{len(found.windows)} windows at about {best['cost']:.2f} nats a token"
        facts.append(("layers", f"{best['name']}, of {tried}: {gain}"))
    if found.sides:
        ends = " and ".join(significant(side["end"], sign="+") for side in found.sides.values())
        of = "the everyday answers" if found.own else "helpfulness"
        grid = f"{signed(min(found.strengths))} to {signed(max(found.strengths))}"
        facts.append(("strengths", f"{grid}; half of {of} is lost at about {ends}"))
    tokens = result.manifest.tokens
    if tokens is not None and tokens.token_layers:
        shares = ", ".join(f"{name} {n / tokens.token_layers:.0%}" for name, n in found.token_layers.items())
        facts.append(("to find it", f"in token-layers of the sweep: {shares}"))
    return facts


def _controls(controls: dict[str, Any], recommended: float | None) -> list[Fact]:
    facts: list[Fact] = []
    if controls["alignment"] is not None:
        where = "" if controls["strength"] == recommended else f", at {signed(controls['strength'])}"
        for name, key in (("B", "alignment"), ("P+ − P−", "alignment_raw")):
            size = controls[key]
            median = f"|change of {name}| median {size['median']:.3f}, maximum {size['maximum']:.3f}{where}"
            facts.append(("" if facts else f"{controls['n']} random directions", median))
    for name, key in (("orthogonal direction", "orthogonal"), ("prompt baseline", "prompt")):
        if controls[key] is not None:
            changes = _changes(controls[key], controls["unsteered"])
            where = (
                "" if key == "prompt" or controls["strength"] == recommended else f", at {signed(controls['strength'])}"
            )
            facts.append((name, f"{changes}{where}"))
    for name, why in controls["off"].items():
        facts.append((CONTROL_WORDS[name], output.text(f"not measured: {_why_off(name, why)}", "yellow")))
    return facts


def _why_off(name: str, why: str) -> str:
    """Why a control was not measured, with the option that switched it off or asks for it."""
    from steercpp.cli.words import in_options
    from steercpp.runs.scores import NO_INSTRUCTION, SWITCHED_OFF

    if why == NO_INSTRUCTION:
        return "no instruction was given; say it with --instruction"
    return f"{why} with {SWITCHES[name]}" if why == SWITCHED_OFF else in_options(why)


def _changes(row: dict[str, Any], unsteered: dict[str, Any] | None) -> str:
    """How a control changes the means."""
    changes = []
    named = (
        ("P+ − P−", "alignment_raw"), ("P(correct)", "p_correct"), ("P of answers", "p_token"),
        ("own answers", "p_own"),
    )  # fmt: skip
    for name, key in named:
        if row[key] is not None and unsteered is not None and unsteered[key] is not None:
            changes.append(f"{name} {plus(row[key] - unsteered[key])}")
    return ", ".join(changes) or "measured"


def _theory(data: dict[str, Any]) -> list[Fact]:
    """The theory's constants, each from the best fit of its measure; of two sides that of each."""
    facts: list[Fact] = []
    for measure, name, key in THEORY:
        if measure == "alignment" and data["by_side"]:
            for side, fits in data["by_side"].items():
                facts.append((f"{name}, {side}", _constant(fits["alignment"], key)))
        elif measure in data["fits"]:
            facts.append((name, _constant(data["fits"][measure][0], key)))
    return facts


def _constant(fit: dict[str, Any], key: str) -> output.Cell:
    if not fit["valid"]:
        return output.text(f"no valid fit: {fit['reason']}", "yellow")
    from steercpp.statistics.forms import WORDS
    from steercpp.statistics.intervals import Interval

    value = fit["params"][key]
    shown = within(Interval(value["value"], value["low"], value["high"], fit["confidence"]))
    return f"{shown}, {WORDS[fit['form']]}, R² {fixed(fit['r2'], 3)}"


def _averaging(judgement: Judgement) -> list[Fact]:
    """The items' own slopes beside the fit's, and what averaging leaves of them."""
    facts: list[Fact] = []
    for side, slopes in _sided(judgement):
        low, high = slopes.window
        spread = slopes.quantiles[-1] - slopes.quantiles[0]
        shown = (
            f"{significant(slopes.mean.value)} on average, 90% in {significant(slopes.quantiles[0], error=spread)} to "
            f"{significant(slopes.quantiles[-1], error=spread)}"
        )
        kept = slopes.kept.value
        averaged = f"; the curve of means is {kept:.0%} as steep" if kept == kept else ""
        name = f"slopes, {side}" if side else "slopes of the items"
        facts += [(name, shown), ("", f"at {signed(low)} to {signed(high)}{averaged}")]
    return facts


def _best(optimum: Optimum | None) -> list[Fact]:
    """The largest B + w P, measured and predicted."""
    if optimum is None:
        return []
    facts: list[Fact] = [
        (f"best B + {optimum.weight:g} P", f"{_between(optimum.measured.strength)} measured"),
    ]
    predicted = optimum.predicted
    if predicted.curves.value == predicted.curves.value:
        facts.append(("", f"{_between(predicted.curves)} on the fitted curves"))
    if predicted.reason:
        facts.append(("", output.text(f"not predicted: {predicted.reason}", "dim")))
    elif predicted.holds:
        facts.append(("", f"{_between(predicted.second_order)} by the paper's formula for small strengths, r*"))
    else:
        facts.append(("", output.text("the paper's formula for small strengths, r*, does not hold here", "dim")))
    return facts


def _between(number: Interval) -> str:
    """A strength with its interval."""
    if number.low != number.low or number.low == number.high:
        return significant(number.value, sign="+")
    error = (number.high - number.low) / 4
    value, low, high = (significant(end, error=error, sign="+") for end in (number.value, number.low, number.high))
    return f"{value} ({low} to {high})"


def _constants(judgement: Judgement) -> list[Fact]:
    """Constants that were measured on the model rather than fitted, where there are any."""
    from steercpp.errors import RunError
    from steercpp.experiments.constants.store import read_constants
    from steercpp.experiments.constants.words import facts

    try:
        constants = read_constants(judgement.result.folder)
    except RunError as error:
        return [(SEEN, output.text(str(error), "yellow"))]
    shown = [] if constants is None else facts(constants.record)
    shown = [fact for fact in shown if fact[0].startswith(("Δλ", "λσ 10"))]
    return [(SEEN if not i else "", f"{name} {value}") for i, (name, value) in enumerate(shown)]


def _item_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """Items that move the wrong way, kinds of them that are only guessed, and what became of right answers."""
    from steercpp.statistics.losses import kinds_at_chance

    facts: list[Fact] = []
    for side, slopes in _sided(judgement):
        anti = slopes.anti
        counted = f"{anti.n} of {anti.of} {side or 'items'}"
        interval = f"{share(anti.value)} ({share(anti.low)} to {share(anti.high)})"
        facts.append(("" if facts else "anti-steerable", f"{counted}: {interval}"))
    for kind, figures in kinds_at_chance(judgement.result.choice).items():
        facts.append((f"guessed {kind}", output.text(f"without steering {figures}", "yellow")))
    if judgement.failures is not None:
        rows = {row.strength: row for row in judgement.failures.counts}
        right = f"{rows[0.0].right} of {len(judgement.failures.codes[0])} items"
        if strength:
            now = rows[strength]
            right += f"; at {signed(strength)} {now.kept} kept, {now.gained} gained"
        facts.append(("right at 0", right))
        if unnamed := rows[0.0].format:
            facts.append(("", f"{unnamed} answered with no letter, which all hold less than half of the probability"))
        if strength:
            facts.append(("", f"lost: {now.lost_to_wrong} to another choice, {now.lost_to_format} to no letter at all"))
    return facts


def _sided(judgement: Judgement) -> list[tuple[str, Slopes]]:
    """How items respond, by the name of their side; all of them under "" where there are no sides."""
    if judgement.by_side:
        return list(judgement.by_side.items())
    return [] if judgement.slopes is None else [("", judgement.slopes)]


def _side_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """Over-refusal and compliance at 0 and at the recommended strength."""
    facts: list[Fact] = []
    for sides, by in ((judgement.sides, ""), (judgement.text_sides, ", generated text")):
        if sides is not None:
            facts += _side(sides, strength, by)
    return facts


def _side(sides: Sides, strength: float | None, by: str) -> list[Fact]:
    facts: list[Fact] = []
    for name, n, values in (
        (f"over-refusal{by}", sides.n_harmless, sides.over_refusal),
        (f"compliance{by}", sides.n_harmful, sides.compliance),
    ):
        shown, few = [], ""
        for s, (value, low, high) in zip(sides.strengths, values, strict=True):
            if s in (0.0, strength):
                has_interval = low == low and high == high
                within = f" ({low:.2f} to {high:.2f})" if has_interval else ""
                shown.append(f"{value:.2f}{within} at {signed(float(s))}")
                few = few if has_interval else ", too few for an interval"
        facts.append((name, f"{', '.join(shown)}; {n} items{few}"))
    return facts


def _couple_facts(coupled: Coupled | None, strength: float | None) -> list[Fact]:
    """What goes with what over the couples, at the recommended strength or the strongest."""
    if coupled is None:
        return []
    name = f"{len(coupled.names)} couples"
    if coupled.reason:
        return [(name, output.text(coupled.reason, "yellow"))]
    at = strength if strength else max((row.strength for row in coupled.correlations), default=None)
    row = next((row for row in coupled.correlations if row.strength == at), None)
    if row is None:
        return []
    of = "P(correct)" if coupled.helpful == "choice" else "P(comply), harmless"
    if row.pearson.value != row.pearson.value:
        return [(name, f"nothing changes at {signed(row.strength)}, so nothing correlates")]
    numbers = [
        f"{kind} {plus(number.value, 2)}"
        + (f" ({plus(number.low, 2)} to {plus(number.high, 2)})" if number.low == number.low else "")
        for kind, number in (("r", row.pearson), ("ranks", row.spearman))
    ]
    return [(name, f"changes of B and {of}, at {signed(row.strength)}: {', '.join(numbers)}")]


def _code_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """How many programs pass at 0 and at the recommended strength."""
    code = judgement.result.code
    if code is None:
        return []
    at = [i for i, s in enumerate(code.strengths) if s in (0.0, strength)]
    shown = ", ".join(f"{code.mean_pass_at(1)[i]:.3f} at {signed(float(code.strengths[i]))}" for i in at)
    return [("pass@1", shown)]


def _text_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """What became of the texts at 0 and at the recommended strength."""
    scores = judgement.text_scores
    read = _reading_facts(judgement, strength)
    if scores is None:
        return read
    high = scores.bounds(rng=judgement.rng()).broken_high
    facts: list[Fact] = []
    for i, row in enumerate(judgement.texts):
        if row.strength in (0.0, strength):
            counts = f"{row.aligned} aligned, {row.misaligned} misaligned, {row.neither} neither, {row.broken} broken"
            bound = "" if high[i] != high[i] else f" (at most {share(float(high[i]))})"
            quality = f"perplexity {scores.perplexity[i]:.3g}, repeating {share(float(scores.repetition_share[i]))}"
            facts.append((f"at {signed(row.strength)}", f"{counts}{bound}; {quality}"))
    baseline = judgement.result.text_scores(judgement.how.matcher, label=Label.PROMPT)
    if baseline is not None:
        shares = (
            f"{share(float(values[0]))} {name}"
            for name, values in (
                ("aligned", baseline.aligned_share), ("neither", baseline.neither_share),
                ("broken", baseline.broken_share),
            )
        )  # fmt: skip
        facts.append(("prompt baseline", f"{', '.join(shares)}, perplexity {baseline.perplexity[0]:.3g}"))
    return [*facts, *read, ("judged by", scores.matcher)]


def _reading_facts(judgement: Judgement, strength: float | None) -> list[Fact]:
    """The texts as the unsteered model reads them, at the recommended or most telling strength."""
    judge = judgement.likelihood
    if judge is None:
        return []
    scores = judge.scores
    facts: list[Fact] = []
    towards = scores.per_token * judgement.direction
    at = [i for i, s in enumerate(scores.strengths) if s == strength and s] or [int(towards.argmax())]
    for i in at:
        low, high = scores.per_token_low[i], scores.per_token_high[i]
        bounds = "" if low != low else f" ({plus(float(low))} to {plus(float(high))})"
        figures = f"{plus(float(scores.per_token[i]))}{bounds} nats a token towards the instruction"
        facts.append((
            f"read at {signed(float(scores.strengths[i]))}", f"{figures}; text loss {share(float(scores.loss[i]))}"
        ))  # fmt: skip
    if judge.refused:
        facts.append(("likelihood", output.text(f"gives no verdict: {judge.refused}", "yellow")))
    return facts
