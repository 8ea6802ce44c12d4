r"""A table of runs for a paper, in LaTeX with booktabs: a line for each run, with the digits that its bounds earn.

    Path("table.tex").write_text(latex_table([open_run("runs/refusal"), open_run("runs/sentiment")]))

and in the paper `\usepackage{booktabs}` and `\input{table}`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from steercpp.encoding import printable
from steercpp.errors import InputError
from steercpp.runs.judgement import Judgement, judge
from steercpp.runs.result import SweepResult
from steercpp.runs.verdict import MEASURE_WORDS, Beside, Cost, Gain, Verdict, verdict_of
from steercpp.statistics.rounded import chosen_percent, plus, rounded
from steercpp.vectors.layers import format_layers

NOTHING = "--"
HEADINGS = ("Model", "Layers", "Strength", "Gain in $B$", r"Loss (\%)", "Prompt baseline", "Random directions")
UNITS = {"norm": "residual norms", "kl": "pushes of KL", "length": "lengths"}
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedblright{}",
    "[": "{[}", "]": "{]}",  # no optional argument of the rule above
    "–": "--", "−": "$-$", "-": "{-}",
    **{sign: rf"\{sign}" for sign in "{}$&#%_"},
}  # fmt: skip


def latex_table(runs: Sequence[SweepResult | Judgement]) -> str:
    r"""A `table` environment with a line for each run, in their order.

    Args:
        runs: finished or not, judged as they were planned or otherwise; at least one.

    Returns:
        LaTeX that needs the package booktabs. The gain in B stands with the lower end of its interval of 95%, the loss
        in percent with its upper bound, of a recommended strength both on the items that had no part in the choice;
        under the controls are the changes of B by the prompt baseline and, on average and at most, by random
        directions.

    Raises:
        InputError: no runs. RunError: a store cannot be read.
    """
    if not runs:
        raise InputError("a table takes at least one run")
    judgements = [judge(run) if isinstance(run, SweepResult) else run for run in runs]
    results, verdicts = [judgement.result for judgement in judgements], list(map(verdict_of, judgements))
    units = {result.manifest.plan.unit for result in results}
    lines = [_line(*run, with_unit=len(units) > 1) for run in zip(results, verdicts, strict=True)]
    rows = [f"    {' & '.join(cells)} \\\\" for cells in (HEADINGS, *lines)]
    return "\n".join([
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(judgements, verdicts, units)}}}",
        r"  \begin{tabular}{llrrrrr}",
        r"    \toprule", rows[0], r"    \midrule", *rows[1:], r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def escaped(text: str) -> str:
    r"""A text as LaTeX shows it; of letters beyond Latin-1, which few fonts of LaTeX have, the code.

    >>> print(escaped("50%_of $x$"))
    50\%\_of \$x\$
    """
    shown = "".join(letter if letter in _SPECIAL or ord(letter) < 256 else _coded(letter) for letter in text)
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(printable(shown).split()))


def _coded(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()


def _line(result: SweepResult, verdict: Verdict, *, with_unit: bool) -> tuple[str, ...]:
    unit = f" {UNITS[result.manifest.plan.unit]}" if with_unit else ""
    strength = NOTHING if verdict.at is None else f"none (at ${verdict.at:+.10g}${unit})"
    if verdict.strength is not None:
        strength = f"${verdict.strength:+.10g}${unit}"
    return (
        escaped(result.manifest.model.file), format_layers(result.manifest.vector.layers).replace("-", "--"), strength,
        _gain(verdict.gain), _loss(verdict.cost), _beside(verdict.prompt), _beside(verdict.random),
    )  # fmt: skip


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return NOTHING
    error = (gain.value - gain.low) / 2
    return f"${rounded(gain.value, error, sign='+')}$ ($\\geq {rounded(gain.low, error, sign='+')}$)"


def _loss(cost: Cost | None) -> str:
    if cost is None:
        return NOTHING
    if math.isinf(cost.high):
        return f"${rounded(100 * cost.value, math.nan)}$ (unbounded)"
    error = 100 * (cost.high - cost.value) / 2
    return f"${rounded(100 * cost.value, error)}$ ($\\leq {rounded(100 * cost.high, error)}$)"


def _beside(control: Beside | None) -> str:
    if control is None:
        return NOTHING
    mean = f"${plus(control.b, 2)}$"
    return mean if control.n == 1 else f"{mean} ($\\leq {plus(control.b_most, 2)}$)"


def _caption(judgements: Sequence[Judgement], verdicts: Sequence[Verdict], units: Collection[str]) -> str:
    kinds = sorted({MEASURE_WORDS[verdict.cost.kind].name for verdict in verdicts if verdict.cost is not None})
    budgets = sorted({judgement.max_loss for judgement in judgements})
    unit = f" Strengths in {UNITS[next(iter(units))]}." if len(units) == 1 else ""
    of = f" of {escaped(' or '.join(kinds))}" if kinds else ""
    budget = " or ".join(chosen_percent(share) for share in budgets)
    return (
        f"Recommended strengths within a loss of {escaped(budget)}.{unit} Gain in $B$ with the lower end of its "
        f"95\\% interval; loss{of} with its one-sided 95\\% upper bound; of recommended strengths both are of items "
        "that had no part in the choice. Controls: change of $B$, of random directions the mean and the largest."
    )
