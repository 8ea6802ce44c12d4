"""What a notebook shows of a run: the verdict, a small table and one figure, as `SweepResult._repr_html_`."""

from __future__ import annotations

import hashlib

from steercpp.errors import SteerError
from steercpp.html import card, facts, note, table
from steercpp.reports.grids import grid
from steercpp.reports.report import draw_figure, figure_names
from steercpp.reports.style import BLUE, GREEN, INK, LEAF, LINE, ORANGE, PALE, VIOLET, rendered
from steercpp.reports.svg import inline
from steercpp.runs.code_report import code_columns
from steercpp.runs.judgement import Judgement, judge
from steercpp.runs.result import SweepResult
from steercpp.runs.verdict import layers_phrase, verdict_of
from steercpp.statistics.rounded import strength_text

ROWS = 12  # of the table: of more strengths those that are evenly apart
FIGURES = ("tradeoff", "alignment", "helpfulness", "code")
SHOWN = ("alignment", "p_correct", "p_token", "p_own", "perplexity")
# The notebook's own color for what is ink, none for what is paper, and tones that stand out from light and dark
COLORS = {
    INK: "currentColor", "#ffffff": "transparent", LINE: "rgba(128, 128, 128, 0.3)", BLUE: "#4a90c2", LEAF: "#55a878",
    VIOLET: "#9a78c6", ORANGE: ORANGE, GREEN: "rgba(85, 168, 120, 0.18)", PALE: "rgba(128, 128, 128, 0.5)",
}  # fmt: skip


def run_html(result: SweepResult) -> str:
    """The run as HTML; a sentence where its store cannot be read."""
    manifest = result.manifest
    where = f"{manifest.model.file}, steered at {layers_phrase(manifest.vector.layers)}; run {result.folder}"
    try:
        judgement = judge(result)
        verdict = verdict_of(judgement)
        example = [] if verdict.example is None or verdict.example_at is None else [
            ("asked", verdict.example.asked),
            *((f"at {strength_text(s)}", verdict.example.texts[s].reply.answer.strip() or "(nothing)")
              for s in (0.0, verdict.example_at)),
        ]  # fmt: skip
        return card(
            verdict.headline, note(verdict.reason), note(verdict.scope), facts([*verdict.facts, *example]),
            _strengths(judgement, verdict.at), _figure(judgement), note(where),
        )  # fmt: skip
    except SteerError as error:
        return card("This run cannot be shown.", note(str(error)), note(where))


def _strengths(judgement: Judgement, strength: float | None) -> str:
    """Means with their intervals at a few strengths, 0 and the verdict's among them."""
    result = judgement.result
    columns = {"strength": result.strengths, **result.scores.columns(judgement.rng, *SHOWN)}
    if result.code is not None:
        columns |= {name: values for name, values in code_columns(result).items() if name.startswith("pass_at_1")}
    n = len(result.strengths)
    wanted = [i for i, s in enumerate(result.strengths.tolist()) if s in (0.0, strength)]
    rows = range(n) if n <= ROWS else sorted({*(round(i * (n - 1) / (ROWS - 1)) for i in range(ROWS)), *wanted})
    chosen = grid({name: [values[i] for i in rows] for name, values in columns.items() if not name.endswith("_se")})
    left_out = "" if n <= ROWS else f"{len(rows)} of {n} strengths; result.to_frame() has all."
    return table(chosen.headings, chosen.rows, words=chosen.is_word) + note(left_out)


def _figure(judgement: Judgement) -> str:
    """The figure that says most, as an <svg> element."""
    name = next((name for name in FIGURES if name in figure_names(judgement)), "")
    if not name:
        return ""
    svg = rendered(draw_figure(judgement, name), "svg")
    ids = f"s{hashlib.sha256(svg).hexdigest()[:8]}"  # several figures on a page have ids of their own
    return f'<div style="max-width: 42em">{inline(svg, ids, name, COLORS)}</div>'
