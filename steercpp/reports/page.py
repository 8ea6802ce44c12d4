"""The page of a run, `report.html`: the verdict and a text first, then the evidence, then how to repeat it.

Nothing is loaded from elsewhere and nothing in it is run. Names, prompts and model text are escaped (jinja2 with
autoescape): a model that writes <script> shows just that. `content` holds what the page says, whatever form it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from steercpp.choices import PageForm
from steercpp.judging.texts import GeneratedText
from steercpp.reports.definition import Definition, define
from steercpp.reports.differences import Piece, changes
from steercpp.reports.forms import in_form
from steercpp.reports.grids import Grid, grid
from steercpp.reports.headings import MEASURES, PARAMETERS
from steercpp.runs.commands import use_command
from steercpp.runs.judgement import Judgement
from steercpp.runs.labels import CONTROL_WORDS, strengths_in
from steercpp.runs.proof import proof
from steercpp.runs.showcase import ShownRequest, read_showcase
from steercpp.runs.verdict import MEASURE_WORDS, Verdict, layers_phrase, verdict_of
from steercpp.spreadsheets import Columns
from steercpp.statistics.forms import WORDS
from steercpp.statistics.intervals import standard_error
from steercpp.statistics.losses import kinds_at_chance
from steercpp.statistics.rounded import interval, percent, plus, rounded, significant, strength_text

N_SAMPLES = 2  # failed texts shown at each strength
OPEN = 3  # requests whose texts are open; the others fold
MOST_ROWS = 200  # of a table on the page
MAIN = ("alignment", "helpfulness", "tradeoff")
CAPTIONS = {
    "alignment": "B at each strength: means of items with standard errors, and the fitted curve with its band.",
    "helpfulness": "Helpfulness at each strength: means of items with standard errors, and the best fits with bands.",
    "tradeoff": "Each point is a strength; bars are intervals of 95%. Further right is more aligned, further down is "
    "less helpful.",
    "items": "Slopes of single items; what became of choice items and texts.",
    "couples": "Harmless requests that are refused, harmful ones that are complied with, and how the two go together.",
    "code": "Share of generated programs that pass their tests.",
}
TITLES = {"tradeoff": "Trade-off"}
NUMBERS = {"alignment": ("alignment",), "helpfulness": ("helpfulness", "answers", "own"), "tradeoff": ("tradeoff",)}
KIND_WORDS = {
    "behavior": "behavior items", "choice": "questions", "answer": "answers", "text": "texts", "code": "programs",
    "own": "choosing everyday answers", "own_telling": "testing ones",
}  # fmt: skip
GRIDS = {  # tables that stand open, with their headings
    "failures": "What failed", "coupled": "Couples", "texts": "Generated texts", "likelihood": "Texts by likelihood",
    "bias": "Bias score of BBQ", "text_pairs": "Pairs of texts", "numbers": "Numbers in generated texts",
    "code": "Generated code",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A figure with what stands around it; `drawing` is an <svg> element, or an <img>."""

    name: str
    title: str
    caption: str
    drawing: Markup
    numbers: Grid | None
    is_main: bool


@dataclass(frozen=True, slots=True)
class PageText:
    """A text at a strength, in pieces that are marked where they are other than without steering."""

    label: str
    pieces: Sequence[Piece]
    is_at: bool


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request with its texts."""

    asked: str
    texts: Sequence[PageText]


def page(
    judgement: Judgement, files: Mapping[str, bytes], tables: Mapping[str, Columns], *, form: PageForm = "html"
) -> bytes:
    """The page.

    Args:
        judgement: the run, judged.
        files: of its figures, see `figure_files`.
        tables: by name, as `tables.tables` gives them.
        form: "html", "md" or "pdf".

    Raises:
        InputError: a PDF, and WeasyPrint is not installed.
    """
    return in_form(
        form, "report", files, CAPTIONS,
        lambda drawings, is_paper: content(judgement, drawings, tables, is_paper=is_paper),
    )  # fmt: skip


def content(
    judgement: Judgement, drawings: Mapping[str, Markup], tables: Mapping[str, Columns], *, is_paper: bool = False
) -> dict[str, Any]:
    """What the page says, by the names of its template; on paper single items and raw tables are left out."""
    result, verdict = judgement.result, verdict_of(judgement)
    manifest = result.manifest
    showcase = read_showcase(result)
    requests = () if showcase is None else showcase.requests
    definition = define(manifest, 1.0 if verdict.at is None else verdict.at)
    grids = [(words, grid(tables[name])) for name, words in GRIDS.items() if name in tables]
    hidden = {*GRIDS, "controls", "fits"}
    return {
        "is_paper": is_paper,
        "title": f"{manifest.model.file}, steered at {layers_phrase(manifest.vector.layers)}",
        "subtitle": _subtitle(judgement),
        "verdict": verdict, "facts_of_verdict": verdict_rows(verdict),
        "which_items": _which_items(judgement, verdict),
        "example": _example(verdict),
        "use": None if verdict.strength is None else use_command(
            result, verdict.strength, model=manifest.model.file, vector=result.vector_path.name
        ),
        "sections": _sections(judgement, bool(requests), bool(grids) or not set(drawings) <= set(MAIN)),
        "figures": [_figure(name, drawing, {} if is_paper else tables) for name, drawing in drawings.items()],
        "strengths": _strengths(judgement), "marked": "" if verdict.at is None else strength_text(verdict.at),
        "setting": _setting(judgement), **_proof(judgement),
        "shown": [_request(request, verdict.at) for request in requests], "open": len(requests) if is_paper else OPEN,
        **_layers(judgement),
        "controls": _controls(tables.get("controls")),
        "off": [(CONTROL_WORDS[name].capitalize(), why.replace("`", "")) for name, why in result.controls.off.items()],
        "definition": definition, "pushes": _pushes(definition),
        "pushes_caption": f"At strength {strength_text(definition.strength)}",
        "fits": _fits(judgement), "confidence": "95%", "theory": _theory(judgement),
        "grids": grids,
        "samples": [] if is_paper else [
            {**sample.record(), "at": strength_text(sample.strength)} for sample in judgement.samples(N_SAMPLES)
        ],
        "repeat": manifest.command, "provenance": _provenance(judgement),
        "plan": [(name, _json_text(value)) for name, value in _settings(judgement).items()],
        "rest": [] if is_paper else [
            (name, _first(columns)) for name, columns in tables.items() if name not in hidden
        ],
    }  # fmt: skip


def verdict_rows(verdict: Verdict) -> list[tuple[str, str]]:
    """Gain, cost, what stands beside them, and what to try next."""
    if not verdict.next:
        return [*verdict.facts, *([("next", verdict.next_why)] if verdict.next_why else [])]
    changed = ", ".join(f"{name} {value}" for name, value in verdict.next.items())
    return [*verdict.facts, ("next", f"{verdict.next_why}: the same sweep with {changed}, in another folder.")]


def _which_items(judgement: Judgement, verdict: Verdict) -> str:
    """Why gain and cost are not the figures of the table below; "" where they are of all items too."""
    best = judgement.recommendation
    if best is None or best.reported_on is None or verdict.gain is None or verdict.at != best.candidate:
        return ""
    return "Gain and cost are of held-out items, which had no part in choosing the strength; the table below is of all."


def _subtitle(judgement: Judgement) -> str:
    """When it was measured, and on how many items."""
    result = judgement.result
    counts = ", ".join(f"{n} {KIND_WORDS.get(kind, kind)}" for kind, n in result.manifest.items.items())
    when = f"measured {result.manifest.begun[:10]}" if result.manifest.begun else "measured"
    return f"{when} by steercpp: {counts}, {len(result.strengths)} strengths"


def _sections(judgement: Judgement, has_texts: bool, has_items: bool) -> list[tuple[str, str]]:
    """Ids and names of the sections that the page has."""
    found = judgement.result.preparation
    is_there = {"texts": has_texts, "items": has_items, "layers": found is not None and bool(found.windows)}
    names = {
        "curves": "Curves", "texts": "Texts", "layers": "Layers tried", "controls": "Controls", "steering": "Steering",
        "fits": "Fits", "items": "Items", "repeat": "Repeat it",
    }  # fmt: skip
    return [(name, words) for name, words in names.items() if is_there.get(name, True)]


def _figure(name: str, drawing: Markup, tables: Mapping[str, Columns]) -> PageFigure:
    title = TITLES.get(name, name.capitalize())
    numbers = next((grid(tables[table]) for table in NUMBERS.get(name, ()) if table in tables), None)
    return PageFigure(name, title, CAPTIONS[name], drawing, numbers, name in MAIN)


def _example(verdict: Verdict) -> PageRequest | None:
    """The example of the verdict: without steering, and at its strength."""
    if verdict.example is None or verdict.example_at is None:
        return None
    texts = {strength: verdict.example.texts[strength] for strength in (0.0, verdict.example_at)}
    return _request(ShownRequest(verdict.example.id, verdict.example.asked, texts), verdict.example_at)


def _request(request: ShownRequest, at: float | None) -> PageRequest:
    base = shown_text(request.texts[0.0])
    texts = []
    for strength, text in request.texts.items():
        shown = shown_text(text)
        label = f"at {strength_text(strength)}" if strength else "without steering"
        texts.append(PageText(label, changes(base, shown) if strength else [Piece(shown, False)], strength == at))
    return PageRequest(request.asked, texts)


def shown_text(text: GeneratedText) -> str:
    """A text as it is shown: the answer, with a sign where it was cut, and words where there is none."""
    if text.finish == "nonfinite":
        return "(not finite)"
    return f"{text.reply.answer.strip() or '(nothing)'}{' …' if text.finish == 'length' else ''}"


def _strengths(judgement: Judgement) -> Grid | None:
    """B, helpfulness and loss at each strength."""
    result, helpful = judgement.result, judgement.helpful_items
    columns: dict[str, Sequence[str]] = {"strength": [strength_text(s) for s in result.strengths]}
    if result.behavior is not None:
        columns["B ± s.e."] = _means(result.behavior.normalized, sign="+")
    curves = None if helpful is None or result.behavior is None else result.curves()
    if helpful is not None:
        columns[f"{_helpful_words(judgement)} ± s.e."] = _means(np.asarray(helpful))
    if curves is not None:
        beyond = " beyond the prompt baseline" if judgement.result.loss_measure == "p_beyond" else ""
        columns[f"loss{beyond}"] = [percent(loss) for loss in curves.losses]
    if len(columns) == 1:
        return None
    return Grid(tuple(columns), tuple(zip(*columns.values(), strict=True)), (False,) * len(columns))


def _means(items: np.ndarray[Any, Any], sign: str = "-") -> list[str]:
    """Means over items (n_s, n_items), with standard errors."""
    numbers = zip(items.mean(axis=1), standard_error(items), strict=True)
    return [f"{rounded(mean, error, sign=sign)} ± {rounded(error, error)}" for mean, error in numbers]


def _helpful_words(judgement: Judgement) -> str:
    """What helpfulness is here."""
    curves = judgement.result.curves()
    if curves is None or curves.kind not in MEASURE_WORDS:
        return "helpfulness"
    return MEASURE_WORDS[curves.kind].name


def _proof(judgement: Judgement) -> dict[str, Any]:
    """The conditions of the rule on the testing items; nothing without a candidate."""
    best = judgement.recommendation
    if best is None or best.candidate is None or best.reported_on is None:
        return {"proof": None, "proof_of": ""}
    told = best.reported_on
    rows = tuple(
        (condition.name, condition.figure, condition.needed, "yes" if condition.holds else "no")
        for condition in proof(best.record())
    )
    tested = f"{told.n_behavior} behavior items and {told.n_choice} {MEASURE_WORDS[best.kind].items}"
    words = f"What {strength_text(best.candidate)} has to prove, on {tested} that had no part in the choice"
    return {"proof": Grid(("condition", "figure", "needed", "holds"), rows, (True,) * 4), "proof_of": words}


def _setting(judgement: Judgement) -> list[tuple[str, str]]:
    """What strengths count, and why the recommendation is what it is."""
    result, rows = judgement.result, []
    plan, norms = result.manifest.plan, result.manifest.vector.norms
    rows.append(("strengths in", strengths_in(plan.unit, operator=plan.operator, kl=plan.kl, norms=norms)))
    for kind, figures in kinds_at_chance(result.choice).items():
        rows.append((f"guessed {kind}", f"without steering {figures}"))
    if result.behavior is not None:
        mass = float(result.behavior.mean_mass[result.strengths == 0.0][0])
        rows.append(("mass", f"the continuations of B hold {percent(mass)} of the probability without steering"))
    best = judgement.recommendation
    if best is not None and best.strength is not None:
        low, high = best.efficient_regime
        rows.append(("why this one", f"{best.reason}."))
        rows.append((
            "efficient regime", f"{strength_text(low)} to {strength_text(high)}" if high > low else "none"
        ))  # fmt: skip
        end = "not in the grid" if np.isnan(best.break_even) else significant(best.break_even, sign="+")
        rows.append(("break-even", end))
    return rows


def _layers(judgement: Judgement) -> dict[str, Any]:
    """The windows of layers that were tried, and how far the strengths go; nothing where both were given."""
    found = judgement.result.preparation
    if found is None or not found.windows:
        return {"layers": None, "marked_layers": "", "ranges": []}
    rows = tuple(
        (
            window["name"], strength_text(float(f"{window['strength']:.3g}")), plus(window["gain"], 2),
            plus(window["gain_low"], 2), f"{window['cost']:.3f}",
        )
        for window in found.windows
    )  # fmt: skip
    headings = ("layers", "strength", "gain in B", "at least", "cost (nats of KL per token)")
    chosen = next((window["name"] for window in found.windows if tuple(window["layers"]) == found.layers), "")
    ends = " and ".join(strength_text(float(f"{side['end']:.3g}")) for side in found.sides.values())
    ranges: list[tuple[str, str]] = [(signal.measure, signal.words) for signal in found.signals]
    if ends:
        words = f"to about where half of helpfulness is lost, estimated on a few requests before the sweep: {ends}"
        ranges.append(("strengths", words))
    return {"layers": Grid(headings, rows, (True, *(False,) * 4)), "marked_layers": chosen, "ranges": ranges}


def _controls(columns: Columns | None) -> Grid | None:
    """The controls by their names in words."""
    if columns is None:
        return None
    known: dict[str, Sequence[Any] | np.ndarray[Any, Any]] = {"label": (), **columns}
    known["label"] = [_control_name(label) for label in columns["label"]]
    # helpfulness stands there under the name of what was measured as well
    return grid({name: column for name, column in known.items() if not name.startswith("helpfulness")})


def _control_name(label: str) -> str:
    kind, _, number = label.partition("-")
    words = {"random": f"random direction {int(number) + 1}" if number else "", "orthogonal": "orthogonal direction"}
    return words.get(kind, {"prompt": "prompt baseline", "vector": "the vector"}.get(label, label))


def _pushes(definition: Definition) -> Grid:
    """Lengths by layer."""
    columns: dict[str, list[str]] = {
        "layer": [str(push.layer) for push in definition.pushes],
        "|t|": ["–" if push.tensor is None else significant(push.tensor, 4) for push in definition.pushes],
    }
    if any(push.norm is not None for push in definition.pushes):
        columns["median |x|"] = ["–" if push.norm is None else significant(push.norm, 4) for push in definition.pushes]
    if any(push.push is not None for push in definition.pushes):
        columns["|s·t|"] = ["–" if push.push is None else significant(push.push) for push in definition.pushes]
    return Grid(tuple(columns), tuple(zip(*columns.values(), strict=True)), (False,) * len(columns))


def _fits(judgement: Judgement) -> dict[str, list[dict[str, Any]]]:
    """Every fit by what it is of, its numbers as texts."""
    result = judgement.result
    fits = {MEASURES.get(name, name): rows for name, rows in result.fit().items()}
    if result.side_fits:
        sides = {f"alignment, {name} items": (fit,) for name, fit in result.side_fits.items()}
        fits = sides | {name: rows for name, rows in fits.items() if name != MEASURES["alignment"]}
    return {
        name: [
            {
                "form": WORDS[fit.form], "formula": fit.shape.formula, "valid": fit.valid, "reason": fit.reason,
                "r2": significant(fit.r2, 4), "aicc": significant(fit.aicc, 4),
                "params": [
                    (PARAMETERS.get(name, name), _estimate(values)) for name, values in fit.record()["params"].items()
                ],
            }
            for fit in rows
        ]
        for name, rows in fits.items()
    }  # fmt: skip


def _estimate(param: Mapping[str, float]) -> str:
    """A fitted parameter with its interval, to the digits of its standard error."""
    return f"{rounded(param['value'], param['se'])} ({interval(param['low'], param['high'])})"


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
        within = (
            ""
            if measured.low == measured.high
            else f" ({strength_text(measured.low)} to {strength_text(measured.high)})"
        )
        facts = f"measured {strength_text(measured.value)}{within}"
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


def _provenance(judgement: Judgement) -> list[tuple[str, str]]:
    """Which files, when, with what and where."""
    manifest = judgement.result.manifest
    model, vector, machine = manifest.model, manifest.vector, manifest.machine
    size = "" if model.bytes is None else f", {model.bytes:,} bytes"
    rows = [
        ("model", f"{model.file}, {model.description}{size}"), ("its sha256", model.sha256),
        ("vector", f"{judgement.result.vector_path.name}, layers {', '.join(map(str, vector.layers))}"),
        ("its tensors' sha256", vector.sha256),
        ("items' sha256", "; ".join(f"{kind} {digest}" for kind, digest in manifest.plan.items.items())),
        ("begun, finished", f"{manifest.begun}, {manifest.finished or 'not yet'}"),
        ("software", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())),
        ("machine", ", ".join(str(part) for part in machine.values())),
    ]  # fmt: skip
    tokens = manifest.tokens
    if tokens is not None and tokens.token_layers_plain:
        share = tokens.token_layers / tokens.token_layers_plain
        work = (
            f"{tokens.decoded:,} tokens, {tokens.token_layers:,} token-layers, {share:.0%} of what a plain loop takes"
        )
        rows.append(("work", work))
    rows += [("note", note) for note in judgement.notes]
    return [(name, value) for name, value in rows if value]


def _settings(judgement: Judgement) -> dict[str, Any]:
    """All that decides the numbers."""
    manifest = judgement.result.manifest
    return {**manifest.plan.to_json(), **manifest.engine}


def _first(columns: Columns) -> Grid:
    """A table as far as a page goes."""
    shown = grid({name: column[:MOST_ROWS] for name, column in columns.items()})
    n_rows = max((len(column) for column in columns.values()), default=0)
    if n_rows <= MOST_ROWS:
        return shown
    rest = (f"and {n_rows - MOST_ROWS:,} more in the file", *("",) * (len(shown.headings) - 1))
    return Grid(shown.headings, (*shown.rows, rest), shown.is_word)


def _json_text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
