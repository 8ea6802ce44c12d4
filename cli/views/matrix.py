"""What a person sees of a matrix of runs: what it would take, and what each model comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steercpp.cli import output
from steercpp.cli.views.pieces import relative

if TYPE_CHECKING:
    from steercpp.experiments.study.matrix_estimate import MatrixEstimate
    from steercpp.experiments.study.matrix_report import Best, MatrixOutcome, MatrixResult
    from steercpp.experiments.study.preview import Step


def duration(seconds: float) -> str:
    """About how long, in the unit that suits."""
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


def work_sentence(found: MatrixEstimate) -> str:
    """What is still to be done, in a sentence."""
    n_left = found.n_runs - found.n_finished - len(found.problems)
    kept = f", {found.n_finished} finished already" if found.n_finished else ""
    bad = f", {len(found.problems)} that cannot be measured" if found.problems else ""
    drawn = f", {found.n_drawn:,} tokens of texts at most" if found.n_drawn else ""
    return (
        f"{n_left} of {found.n_runs} runs to measure{kept}{bad}: {found.token_layers:,} token-layers{drawn}, about "
        f"{duration(found.seconds)} here"
    )


def estimate_pieces(found: MatrixEstimate) -> list[output.Renderable]:
    """A table for each model with a line for each vector and run, and what cannot be measured."""
    columns: list[output.Column] = [
        ("part", "left"), ("tokens", "right"), ("token-layers", "right"), ("drawn", "right"), ("about", "right")
    ]  # fmt: skip
    pieces: list[output.Renderable] = []
    for model in dict.fromkeys(step.preset for step in found.steps):
        steps = [step for step in found.steps if step.preset == model]
        rows = [_work(step.title.removeprefix(f"{model}/"), [step]) for step in steps]
        pieces.append(output.table(columns, [*rows, _work("all", steps)], title=model))
    for reason in dict.fromkeys(found.problems.values()):
        names = ", ".join(name for name, said in found.problems.items() if said == reason)
        pieces.append(output.text(f"cannot be measured: {names}: {reason}", "yellow"))
    pieces.append(output.text(f"{work_sentence(found)}.", "bold"))
    pieces.append(output.text("Nothing was measured; leave --dry-run out to begin.", "dim"))
    return pieces


def matrix_pieces(found: MatrixResult) -> list[output.Renderable]:
    """What is best on each model and set with its gain and cost, all combinations in a table, and the page."""
    pieces: list[output.Renderable] = []
    for best in found.best:
        facts: list[tuple[output.Cell, output.Cell]] = [*(best.verdict.facts if best.verdict else [])]
        style = "bold green" if best.outcome else "yellow"
        pieces += [output.text(best.headline(), style), *([output.facts(facts)] if facts else [])]
        pieces += [output.text(best.reason(), "dim"), *([output.text(best.nearest)] if best.nearest else [])]
        pieces += [_combinations(best), output.blank()]
    for reason, outcomes in found.failed.items():
        names = ", ".join(outcome.cell.name for outcome in outcomes)
        pieces.append(output.text(f"not measured: {names}: {reason}", "yellow"))
    page = relative(found.folder / "study.html")
    pieces.append(output.joined([(page, ""), (" shows all of it; matrix.csv and matrix.json have the numbers", "dim")]))
    return pieces


def _combinations(best: Best) -> output.Renderable:
    columns: list[output.Column] = [
        ("vector", "left"), ("layers", "left"), ("operator", "left"), ("use", "right"), ("gain in B", "right"),
        ("loss", "right"),
    ]  # fmt: skip
    return output.table(columns, [_combination(outcome, outcome is best.outcome) for outcome in best.outcomes])


def _combination(outcome: MatrixOutcome, is_best: bool) -> list[output.Cell]:
    (gain, low), (loss, high) = outcome.gain(), outcome.loss()
    cells = [
        *outcome.cell.manner, outcome.use(), f"{gain} ≥ {low}" if gain else "–", f"{loss} ≤ {high}" if loss else "–"
    ]  # fmt: skip
    return [output.text(cell, "bold green" if is_best else "") for cell in cells]


def _work(title: str, steps: Sequence[Step]) -> list[output.Cell]:
    """A line of the estimate, of one part or of several together."""
    sums = (sum(getattr(step, key) for step in steps) for key in ("n_tokens", "token_layers", "n_drawn"))
    return [title, *(f"{number:,}" for number in sums), duration(sum(step.seconds for step in steps))]
