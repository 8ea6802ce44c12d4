"""What a report tells of generated code: a record and a table of pass@k over strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steercpp.aliases import NAN, Floats
from steercpp.choices import CODE_WAYS, CodeWay
from steercpp.runs.code import failure_reasons
from steercpp.runs.folder import STORE
from steercpp.runs.result import SweepResult
from steercpp.runs.store import Store
from steercpp.statistics.code_scores import CodeScores


def ways_of(result: SweepResult) -> dict[CodeWay, CodeScores]:
    """The scores by each way in which the programs were taken out of the answers."""
    scores_by_way = {way: result.code_by(way) for way in CODE_WAYS}
    return {way: scores for way, scores in scores_by_way.items() if scores is not None}


def largest_k(scores: CodeScores) -> int:
    """The k of pass@k that is told beside pass@1: half of the answers, since all of them leave nothing to average."""
    return max(1, scores.n_samples // 2)


def bounds(result: SweepResult, scores: CodeScores, k: int) -> tuple[Floats, Floats]:
    """95% interval of pass@k at each strength; NaN for fewer than 5 problems."""
    interval = scores.interval(k, rng=result.rng())
    missing = np.full(len(scores.strengths), NAN)
    return (missing, missing) if interval is None else (interval.low, interval.high)


def code_record(result: SweepResult) -> dict[str, Any] | None:
    """Plain data for JSON; None where there is no code, or not all of it was run."""
    ways = ways_of(result)
    if not ways:
        return None
    first = next(iter(ways.values()))
    record: dict[str, Any] = {"n_items": first.passed.shape[1], "n_samples": first.n_samples, "ways": {}}
    with Store.read(result.folder / STORE, settled=result.finished) as store:
        reasons = {way: failure_reasons(store, way=way) for way in ways}
    for way, scores in ways.items():
        k = largest_k(scores)
        low, high = bounds(result, scores, 1)
        record["ways"][way] = [
            {
                "strength": float(s), "pass_at_1": float(p), "pass_at_1_low": float(a), "pass_at_1_high": float(b),
                "pass_at_1_se": float(error), f"pass_at_{k}": float(more), "failed": reasons[way].get(float(s), {}),
            }
            for s, p, a, b, error, more in zip(
                scores.strengths, scores.mean_pass_at(1), low, high, scores.standard_error(), scores.mean_pass_at(k),
                strict=True,
            )
        ]  # fmt: skip
    return record


def code_columns(result: SweepResult) -> Mapping[str, Floats]:
    """The table code.csv: at each strength pass@1 with its interval and the study's standard error, and pass@k."""
    columns: dict[str, Floats] = {}
    for way, scores in ways_of(result).items():
        end = "" if way == CODE_WAYS[0] else f"_{way}"
        k = largest_k(scores)
        low, high = bounds(result, scores, 1)
        columns |= {
            "strength": scores.strengths, f"pass_at_1{end}": scores.mean_pass_at(1), f"pass_at_1{end}_low": low,
            f"pass_at_1{end}_high": high, f"pass_at_1{end}_se": scores.standard_error(),
        }  # fmt: skip
        if k > 1:
            low, high = bounds(result, scores, k)
            mean, name = scores.mean_pass_at(k), f"pass_at_{k}{end}"
            columns |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return columns
