"""Figures and tables of a run, from its store alone; read this to change what a report shows.

    alignment.png .svg      B against strength, with the tanh fit, its band and the random directions
    helpfulness.png .svg    P(correct) against strength, with the fits
    tradeoff.png .svg       helpfulness against alignment, strength along the curve, and the loss budget
    alignment.csv helpfulness.csv tradeoff.csv    the measured means behind them, with standard errors

The same run gives the same bytes. The first two tables can be given to `steercpp fit`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from steercpp.errors import RunError
from steercpp.run_folder import write_atomically
from steercpp.scoring import Floats
from steercpp.sweep_result import SweepResult
from steercpp.sweep_scores import standard_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Columns: TypeAlias = Mapping[str, Floats]


def write_report(
    result: SweepResult, *, out: Path | None = None, max_loss: float | None = None, direction: int | None = None
) -> tuple[Path, ...]:
    """Draw the figures and write the tables that the run's measurements allow.

    Args:
        result: the run.
        out: where to, by default its own directory.
        max_loss: the loss budget, by default the plan's.
        direction: the wanted sign, likewise.

    Returns:
        the files written.

    Raises:
        RunError: they cannot be written.
    """
    from steercpp.figures import alignment_figure, helpfulness_figure, rendered, tradeoff_figure

    folder = result.folder if out is None else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}); choose another place with --out") from error
    figures: dict[str, Figure] = {}
    tables: dict[str, Columns] = {}
    if result.behavior is not None:
        tables["alignment"] = _alignment(result)
        figures["alignment"] = alignment_figure(result, max_loss=max_loss, direction=direction)
    if result.choice is not None:
        tables["helpfulness"] = _helpfulness(result)
        figures["helpfulness"] = helpfulness_figure(result)
    if result.behavior is not None and result.choice is not None:
        tables["tradeoff"] = _tradeoff(result)
        figures["tradeoff"] = tradeoff_figure(result, max_loss=max_loss, direction=direction)
    files = {f"{name}.csv": _csv(columns) for name, columns in tables.items()}
    files |= {f"{name}.{kind}": rendered(figure, kind) for name, figure in figures.items() for kind in ("png", "svg")}
    for name, data in files.items():
        write_atomically(folder / name, data)
    return tuple(folder / name for name in files)


def ensure_report(result: SweepResult) -> tuple[Path, ...]:
    """The files of the run's report; written only where something was measured anew or one of them is missing."""
    files = tuple(result.folder / name for name in report_names(result))
    if result.decoded_now or not all(path.is_file() for path in files):
        write_report(result)
    return files


def report_names(result: SweepResult) -> list[str]:
    """Names of the files that a report of this run consists of."""
    names = [name for name, scores in (("alignment", result.behavior), ("helpfulness", result.choice)) if scores]
    names += ["tradeoff"] if len(names) == 2 else []
    return [f"{name}.{kind}" for kind in ("csv", "png", "svg") for name in names]


def _alignment(result: SweepResult) -> Columns:
    scores = result.behavior
    assert scores is not None
    return {
        "strength": scores.strengths,
        "alignment": scores.mean_normalized,
        "alignment_se": standard_error(scores.normalized),
        "alignment_raw": scores.mean_raw,
        "alignment_raw_se": standard_error(scores.raw),
        "mass": scores.mean_mass,
    }


def _helpfulness(result: SweepResult) -> Columns:
    scores = result.choice
    assert scores is not None
    return {
        "strength": scores.strengths,
        "p_correct": scores.mean_p_free,
        "p_correct_se": standard_error(scores.p_free),
        "p_correct_restricted": scores.mean_p_restricted,
        "p_correct_restricted_se": standard_error(scores.p_restricted),
        "accuracy": scores.accuracy,
    }


def _tradeoff(result: SweepResult) -> Columns:
    assert result.behavior is not None and result.choice is not None
    at_0 = int(np.flatnonzero(result.strengths == 0)[0])
    p = result.choice.mean_p_free
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = 1.0 - p / p[at_0]
    return {
        "strength": result.strengths,
        "alignment": result.behavior.mean_normalized,
        "gain_raw": result.behavior.mean_raw - result.behavior.mean_raw[at_0],
        "loss": loss,
    }


def _csv(columns: Columns) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([f"{value:.10g}" for value in row])
    return text.getvalue().encode()
