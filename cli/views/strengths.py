"""The table of strengths with the curves of B and of helpfulness, of a finished sweep and of one that is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from steercpp.cli import output
from steercpp.cli.views.chart import LEAST, MOST, Curve, chart, sentence
from steercpp.cli.views.pieces import signed
from steercpp.statistics.rounded import fixed, places_of, plus, significant

if TYPE_CHECKING:
    from steercpp.aliases import Floats
    from steercpp.runs.scores import Scores, StrengthMeans

Line: TypeAlias = "list[output.Cell]"
FEWEST = 3  # strengths that make a curve
HELPFUL = {"p_free": "P(correct)", "p_answer": "P of answers", "p_own": "P of own answers"}  # by the mean that is there


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of means: which, under what heading, how it is written without an error, and whether it is the point."""

    key: str
    heading: str
    form: Callable[[float], str]
    is_main: bool = True
    sign: str = "-"


MEASURES = (
    Measure("b", "B", plus, sign="+"), Measure("mass", "mass", partial(fixed, places=2), is_main=False),
    Measure("p_free", "P(correct)", partial(fixed, places=3)),
    Measure("p_restricted", "choices", partial(fixed, places=3), is_main=False),
    Measure("p_answer", "P of answers", partial(fixed, places=3)),
    Measure("p_own", "own answers", partial(fixed, places=3)),
    Measure("perplexity", "perplexity", partial(significant, digits=4)),
)  # fmt: skip


def strength_table(
    rows: Sequence[StrengthMeans], *, recommended: float | None = None, errors: Mapping[str, Floats] | None = None,
    latest: StrengthMeans | None = None, n_lines: int | None = None,
) -> output.Renderable:  # fmt: skip
    """A line for each strength, with the curves of B and of helpfulness beside it.

    Args:
        rows: means, by ascending strength.
        recommended: the strength that is marked.
        errors: (n_s,) standard errors of some of the means by their names, see `errors_of`; what has none is shown with
            as many digits as its place has always.
        latest: the row that has to be among those shown.
        n_lines: lines that there is room for; the rows nearest to `latest` are shown, and the curves over all.
    """
    every, head = rows, 3
    if n_lines is not None and latest is not None and len(rows) > (room := max(n_lines - head, 1)):
        first = min(max(rows.index(latest) - room // 2, 0), len(rows) - room)
        rows = rows[first : first + room]
    measures = [measure for measure in MEASURES if getattr(rows[0], measure.key) is not None]
    columns: list[output.Column] = [("strength", "right"), *((measure.heading, "right") for measure in measures)]
    forms = {
        measure.key: measure.form if (of_measure := (errors or {}).get(measure.key)) is None else partial(
            fixed, places=places_of(of_measure.tolist()), sign=measure.sign)
        for measure in measures
    }  # fmt: skip
    lines: list[Line] = []
    for row in rows:
        style = "bold green" if row.strength == recommended else ""
        cells: Line = [output.text(signed(row.strength), style)]
        for measure in measures:
            shown = forms[measure.key](getattr(row, measure.key))
            cells.append(output.text(shown, style if measure.is_main else ""))
        lines.append(cells)
    table = output.table(columns, lines)
    strengths, curves = [row.strength for row in every], curves_of(every)
    if len(every) < FEWEST or not curves:
        return table
    if output.is_plain():
        return output.below(*(output.text(f"{sentence(strengths, curve, recommended)}.") for curve in curves), table)

    def draw(width: int, height: int) -> Sequence[output.Words]:
        return chart(strengths, curves, width=width, height=height, mark=recommended)

    return output.beside(table, draw, least=LEAST, most=MOST, below=n_lines is None)


def curves_of(rows: Sequence[StrengthMeans]) -> list[Curve]:
    """B and helpfulness over the strengths, as far as they were measured."""
    curves = []
    if rows[0].b is not None:
        curves.append(Curve("B", [row.b or 0.0 for row in rows], partial(plus, places=2)))
    if rows[0].helpful is not None:
        name = next((words for key, words in HELPFUL.items() if getattr(rows[0], key) is not None), "helpfulness")
        values = [row.helpful or 0.0 for row in rows]
        curves.append(Curve(name, values, partial(fixed, places=2), from_zero=True))
    return curves


def errors_of(scores: Scores) -> dict[str, Floats]:
    """(n_s,) standard errors of the means of behavior, choices and answers, by the names of `StrengthMeans`."""
    from steercpp.statistics.intervals import standard_error

    errors: dict[str, Floats] = {}
    if (b := scores.behavior) is not None:
        errors |= {"b": standard_error(b.normalized), "b_raw": standard_error(b.raw), "mass": standard_error(b.mass)}
    if (c := scores.choice) is not None:
        errors |= {"p_free": standard_error(c.p_free), "p_restricted": standard_error(c.p_restricted)}
    if scores.answer is not None:
        errors["p_answer"] = standard_error(scores.answer.p_token)
    if scores.own is not None:
        errors["p_own"] = standard_error(scores.own.p_own)
    return errors
