"""One page with the whole report, `report.html`: nothing is loaded from elsewhere, and nothing in it is run.

Names, prompts and model text are escaped (jinja2 with autoescape): a model that writes <script> shows just that.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from steercpp.judging.texts import GeneratedText
from steercpp.reports.headings import MEASURES, PARAMETERS, heading
from steercpp.reports.tables import Columns
from steercpp.runs.judgement import Judgement
from steercpp.runs.labels import CONTROL_WORDS, strengths_in
from steercpp.runs.scores import NAMES
from steercpp.runs.showcase import Showcase, read_showcase
from steercpp.runs.verdict import Verdict, layers_phrase, verdict_of
from steercpp.statistics.losses import kinds_at_chance
from steercpp.statistics.rounded import interval, rounded, significant

N_SAMPLES = 2  # failed texts shown at each strength
CAPTIONS = {
    "alignment": "B at each strength, means of items with standard errors, and the fitted curve with its band.",
    "helpfulness": "P(correct) at each strength, means of items with standard errors, and the best fits with their "
    "bands.",
    "tradeoff": "Each point is a strength; bars are intervals of 95%. Further right is more aligned, further down is "
    "less helpful.",
    "items": "Slopes of single items; what became of choice items and texts.",
    "couples": "Harmless requests that are refused, harmful ones that are complied with, and what goes with what.",
    "code": "Share of generated programs that pass their tests.",
}


def page(judgement: Judgement, pictures: Mapping[str, bytes], tables: Mapping[str, Columns]) -> bytes:
    """The page.

    Args:
        judgement: the run, judged.
        pictures: SVG files by name.
        tables: by name, as `tables.tables` gives them.
    """
    result, verdict = judgement.result, verdict_of(judgement)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("steercpp.reports", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        heading=heading,
        estimate=_estimate,
        number=_number,
        strength=_strength,
        transposed=_transposed,
        words=_has_words,
    )
    fits = {name: [fit.record() for fit in rows] for name, rows in result.fit().items()}
    if result.side_fits:
        sides = {f"alignment, {name} items": [fit.record()] for name, fit in result.side_fits.items()}
        fits = sides | {name: rows for name, rows in fits.items() if name != "alignment"}
    confidence = next((fit["confidence"] for rows in fits.values() for fit in rows), 0.95)
    manifest = result.manifest
    return (
        environment.get_template("report.html")
        .render(
            title=f"{manifest.model.file}, steered at {layers_phrase(manifest.vector.layers)}",
            verdict=verdict,
            figures_of_verdict=_verdict_rows(verdict),
            shown=_shown(read_showcase(result)),
            setting=_setting(judgement),
            figures=[(name, base64.b64encode(data).decode(), CAPTIONS[name]) for name, data in pictures.items()],
            tables={name: _for_people(columns) for name, columns in tables.items()},
            off=[(CONTROL_WORDS[name].capitalize(), why.replace("`", "")) for name, why in result.controls.off.items()],
            fits=fits,
            measures=MEASURES,
            parameters=PARAMETERS,
            confidence=f"{confidence:.0%}",
            theory=_theory(judgement),
            samples=[sample.record() for sample in judgement.samples(N_SAMPLES)],
            plan=[
                (name, _json_text(value)) for name, value in {**manifest.plan.to_json(), **manifest.versions}.items()
            ],
        )
        .encode()
    )


def _verdict_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """Gain, cost, what stands beside them, and what to try next."""
    if not verdict.next:
        return [*verdict.facts, *([("next", verdict.next_why)] if verdict.next_why else [])]
    changes = ", ".join(f"{name} {value}" for name, value in verdict.next.items())
    return [*verdict.facts, ("next", f"{verdict.next_why}: the same sweep with {changes}, in another folder.")]


def _shown(showcase: Showcase | None) -> dict[str, Any] | None:
    """The texts to show: strengths, and of each request what is asked and its texts, a cell for each strength."""
    if showcase is None:
        return None
    rows = [
        (request.asked, [_shown_text(request.texts.get(strength)) for strength in showcase.strengths])
        for request in showcase.requests
    ]
    return {"strengths": showcase.strengths, "rows": rows}


def _shown_text(text: GeneratedText | None) -> str:
    """What stands in the cell of a text."""
    if text is None:
        return ""
    if text.finish == "nonfinite":
        return "(not finite)"
    return f"{text.reply.answer.strip() or '(nothing)'}{' …' if text.finish == 'length' else ''}"


def _setting(judgement: Judgement) -> list[tuple[str, str]]:
    """What was measured, and why the recommendation is what it is."""
    items = judgement.result.manifest.items
    counts = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in items.items())
    rows = [("items", counts), ("strengths", f"{len(judgement.result.strengths)}, in {_unit(judgement)}")]
    for kind, figures in kinds_at_chance(judgement.result.choice).items():
        rows.append((f"guessed {kind}", f"without steering {figures}"))
    best = judgement.recommendation
    if best is not None and best.strength is not None:
        low, high = best.efficient_regime
        rows.append(("why", f"{best.reason}."))
        rows.append(("efficient regime", f"{_strength(low)} to {_strength(high)}" if high > low else "none"))
        rows.append(
            ("break-even", "not in the grid" if np.isnan(best.break_even) else significant(best.break_even, sign="+"))
        )
    return rows


def _unit(judgement: Judgement) -> str:
    """What strengths count."""
    plan, norms = judgement.result.manifest.plan, judgement.result.manifest.vector.norms
    return strengths_in(plan.unit, operator=plan.operator, kl=plan.kl, norms=norms)


def _theory(judgement: Judgement) -> list[tuple[str, str]]:
    """Slopes of single items and the optimum, in sentences."""
    rows = []
    all_items = {} if judgement.slopes is None else {"": judgement.slopes}
    for of, slopes in (judgement.by_side or all_items).items():
        spread = slopes.quantiles[-1] - slopes.quantiles[0]
        kept = f" The curve of means is {slopes.kept.value:.0%} as steep." if np.isfinite(slopes.kept.value) else ""
        rows.append((
            f"slopes of the {of} items".replace("  ", " "),
            f"{significant(slopes.mean.value)} on average, 90% of them in "
            f"{significant(slopes.quantiles[0], error=spread)} to {significant(slopes.quantiles[-1], error=spread)}, "
            f"at {slopes.window[0]:+g} to {slopes.window[1]:+g}.{kept}",
        ))  # fmt: skip
        anti = slopes.anti
        rows.append(("anti-steerable", f"{anti.n} of {anti.of} {of or 'items'}, {anti.low:.1%} to {anti.high:.1%}"))
    if (best := judgement.optimum) is not None:
        measured, predicted = best.measured.strength, best.predicted
        within = "" if measured.low == measured.high else f" ({_strength(measured.low)} to {_strength(measured.high)})"
        facts = f"measured {_strength(measured.value)}{within}"
        if np.isfinite(predicted.curves.value):
            facts += f"; {significant(predicted.curves.value, sign='+')} on the fitted curves"
        if np.isfinite(predicted.second_order.value) and predicted.holds:
            r = significant(predicted.second_order.value, sign="+")
            facts += f"; {r} by the paper's formula for small strengths, r*"
        elif np.isfinite(predicted.second_order.value):
            facts += "; the paper's formula for small strengths, r*, does not hold here"
        why = f"; not predicted: {predicted.reason}" if predicted.reason else ""
        rows.append((f"best B + {best.weight:g} P", f"{facts}{why}."))
    return rows


def _for_people(columns: Columns) -> Columns:
    """A table without columns that stand in it under a second name."""
    return {name: column for name, column in columns.items() if NAMES.get(name) not in columns}


def _number(value: Any) -> str:
    """A table's cell: four digits of a number, nothing where there is none."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    return significant(float(value), 4) if isinstance(value, float | np.floating) else str(value)


def _estimate(param: Mapping[str, float]) -> str:
    """A fitted parameter with its interval, to the digits of its standard error."""
    return f"{rounded(param['value'], param['se'])} ({interval(param['low'], param['high'])})"


def _has_words(column: Sequence[Any]) -> bool:
    """Whether a table's column has words in it, which are aligned to the left."""
    return any(isinstance(cell, str) for cell in column)


def _strength(value: float) -> str:
    return f"{value:+g}" if value else "0"


def _transposed(columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows of a table that is given by its columns."""
    return list(zip(*columns, strict=True))


def _json_text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
