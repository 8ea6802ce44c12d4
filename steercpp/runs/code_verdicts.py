"""What became of the code that a sweep's model has said, from its store; read this to score a run without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from steercpp.judging.programs import Way
from steercpp.runs.store import Store
from steercpp.statistics.code_scores import CodeScores
from steercpp.statistics.scores import Floats

CODE = "code"


def verdict_label(label: str, way: Way) -> str:
    """Under which label the verdicts on a label's texts stand, by how programs were taken out of these."""
    return label if way == "whole" else f"{label}/{way}"


def stored_code_scores(
    store: Store, strengths: Sequence[float] | Floats, *, label: str = "vector", way: Way = "whole"
) -> CodeScores | None:
    """How many answers passed at each strength; None unless all of them are there and have their verdicts."""
    verdicts = {
        (one.strength, one.item, one.sample): one.passed for one in store.verdicts(verdict_label(label, way), CODE)
    }
    texts = store.texts(label, CODE)
    rows = {float(strength): i for i, strength in enumerate(strengths)}
    passed = np.zeros((len(rows), len(store.items(CODE))), np.int64)
    judged = np.zeros_like(passed)
    n_samples = 1 + max((one.sample for one in texts), default=-1)
    for one in texts:
        found = verdicts.get((one.strength, one.item, one.sample))
        if one.strength in rows and found is not None:
            place = rows[one.strength], one.item
            passed[place] += found
            judged[place] += 1
    if not judged.size or not n_samples or (judged != n_samples).any():
        return None
    return CodeScores(np.array(list(rows), np.float64), passed, n_samples)


def failure_reasons(store: Store, *, label: str = "vector", way: Way = "whole") -> dict[float, dict[str, int]]:
    """At each strength how many answers failed for which reason, the commonest first: an error by its name alone."""
    found: dict[float, Counter[str]] = {}
    for one in store.verdicts(verdict_label(label, way), CODE):
        reasons = found.setdefault(one.strength, Counter())
        if not one.passed:
            reasons[one.reason.partition(":")[0]] += 1
    return {strength: dict(reasons.most_common()) for strength, reasons in sorted(found.items())}
