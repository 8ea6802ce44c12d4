"""The tables of a report: columns by name, from a judged run; read this for what a column means.

    alignment, helpfulness, tradeoff, answers, own, perplexity, texts, likelihood, code, numbers, bias,
    text_pairs
               a row for each strength
    items      a row for each behavior item (slope, B) and choice item (P, what became of it)
    failures   a row for each strength: choice items and texts by what became of them
    coupled    a row for each strength: over-refusal, compliance, and correlations over couples
    controls   a row for each control, and one for the vector
    fits       a row for each parameter of each fit, with its interval, and one for each form that is not valid

Every measured mean has its interval: `_low` and `_high`, of 95% unless one alone is there, which is one-sided; `_se`
is the standard error over items. docs/measures.md lists all names; JSON has the same. `alignment` and `helpfulness` can
be given to `steercpp fit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from steercpp.aliases import Floats
from steercpp.runs.code_report import code_columns
from steercpp.runs.judgement import Judgement
from steercpp.runs.labels import Label
from steercpp.spreadsheets import Columns
from steercpp.statistics.failures import WORDS
from steercpp.statistics.intervals import mean_columns
from steercpp.statistics.names import today
from steercpp.statistics.scores import perplexity_columns
from steercpp.statistics.shares import share_columns


def tables(judgement: Judgement) -> dict[str, Columns]:
    """Every table that the run's measurements allow, by name."""
    makers = {
        "alignment": _alignment, "helpfulness": _helpfulness, "tradeoff": _tradeoff, "answers": _answers,
        "own": _own, "perplexity": _perplexity, "texts": _texts, "likelihood": _likelihood, "code": _code,
        "numbers": _numbers, "bias": _bias, "text_pairs": _text_pairs,
        "items": _items, "failures": _failures, "coupled": _coupled, "controls": _controls, "fits": _fits,
    }  # fmt: skip
    return {name: columns for name, make in makers.items() if (columns := make(judgement))}


def _alignment(judgement: Judgement) -> Columns:
    scores = judgement.result.behavior
    if scores is None:
        return {}
    columns = {"strength": scores.strengths, **_means(judgement, "alignment", "alignment_raw", "mass")}
    for name, places in (judgement.result.side_items or {}).items():
        columns |= mean_columns(f"alignment_{name}", scores.take(places).normalized, rng=judgement.rng())
    return columns


def _helpfulness(judgement: Judgement) -> Columns:
    scores = judgement.result.choice
    names = ("p_correct", "p_correct_restricted", "accuracy", "p_correct_restricted_norm", "accuracy_norm")
    return {} if scores is None else {"strength": scores.strengths, **_means(judgement, *names)}


def _means(judgement: Judgement, *names: str) -> Mapping[str, Floats]:
    """Means over items of some quantities at each strength, with standard errors and intervals."""
    return judgement.result.scores.columns(judgement.rng, *names)


def _tradeoff(judgement: Judgement) -> Columns:
    """Gain, loss and utility of all items, with the bounds that a strength is judged by."""
    result, p = judgement.result, judgement.helpful_items
    if result.behavior is None or p is None:
        return {}
    curves = result.curves()
    assert curves is not None
    columns = {"strength": result.strengths, **_means(judgement, "alignment")}
    del columns["alignment_se"]
    return columns | curves.columns(weight=judgement.how.weight, rng=judgement.rng())


def _answers(judgement: Judgement) -> Columns:
    scores = judgement.result.answer
    return {} if scores is None else {"strength": scores.strengths, **_means(judgement, "p_token", "nats")}


def _own(judgement: Judgement) -> Columns:
    """Own answers that choose, and where they are measured the others, which tell."""
    scores, telling = judgement.result.own, judgement.result.telling
    if scores is None:
        return {}
    columns: dict[str, Any] = {"strength": scores.strengths, **_means(judgement, "p_own", "kl", "kl_twin")}
    if telling is not None:
        row_of = {s: row for row, s in enumerate(telling.strengths.tolist())}
        for name, values in mean_columns("p_own_telling", telling.p_own, rng=judgement.rng()).items():
            columns[name] = [values[row_of[s]] if s in row_of else None for s in scores.strengths.tolist()]
    return columns


def _perplexity(judgement: Judgement) -> Columns:
    scores = judgement.result.text
    return {} if scores is None else {"strength": scores.strengths, **_means(judgement, "perplexity")}


def _texts(judgement: Judgement) -> Columns:
    scores = judgement.text_scores
    if scores is None:
        return {}
    bounds, n = scores.bounds(rng=judgement.rng()), scores.n_samples
    aligned = (1.0 - scores.invalid + scores.outcomes) / 2
    return {
        "strength": scores.strengths, "alignment_texts": scores.b, "alignment_texts_low": bounds.b_low,
        "alignment_texts_high": bounds.b_high, **share_columns("aligned_share", aligned, cases=n),
        "invalid_share": scores.invalid_share, "invalid_share_high": bounds.invalid_high,
        **share_columns("neither_share", scores.invalid - scores.broken, cases=n),
        "broken_share": scores.broken_share, "broken_share_high": bounds.broken_high,
        **perplexity_columns("perplexity_texts", scores.nats, scores.n_tokens, rng=judgement.rng()),
        **mean_columns("repetition", scores.repetition, rng=judgement.rng()),
    }  # fmt: skip


def _likelihood(judgement: Judgement) -> Columns:
    if judgement.likelihood is None:
        return {}
    scores = judgement.likelihood.scores
    return {"strength": scores.strengths, **scores.columns()}


def _code(judgement: Judgement) -> Columns:
    return {} if judgement.result.code is None else code_columns(judgement.result)


def _numbers(judgement: Judgement) -> Columns:
    scores = judgement.result.numbers
    if scores is None:
        return {}
    low, high = scores.interval()
    return {
        "strength": scores.strengths, "right_number": scores.accuracy, "right_number_low": low,
        "right_number_high": high, **share_columns("without_number", scores.without, cases=scores.n_samples),
    }  # fmt: skip


def _bias(judgement: Judgement) -> Columns:
    columns: dict[str, Any] = {}
    for scores in judgement.bias:
        columns |= {"strength": scores.strengths, **scores.columns()}
    return columns


def _text_pairs(judgement: Judgement) -> Columns:
    scores = judgement.text_pairs
    if scores is None:
        return {}
    low, high = scores.interval()
    return {
        "strength": scores.strengths, "stereotyped_likelier": scores.share, "stereotyped_likelier_low": low,
        "stereotyped_likelier_high": high, **mean_columns("nats_apart", scores.difference, rng=judgement.rng()),
    }  # fmt: skip


def _items(judgement: Judgement) -> Columns:
    """A row for each item, at 0 and at the recommended strength, or the candidate for it."""
    result, recommendation = judgement.result, judgement.recommendation
    strength = 0.0 if recommendation is None or recommendation.candidate is None else recommendation.candidate
    at_0, at = (int(np.flatnonzero(result.strengths == s)[0]) for s in (0.0, strength))
    rows: list[dict[str, Any]] = []
    if result.behavior is not None and (slopes := judgement.item_slopes) is not None:
        of_all = result.behavior.normalized, result.behavior.raw
        at_both = [values[row].tolist() for values in of_all for row in (at_0, at)]
        for item, slope, b_at_0, b, raw_at_0, raw in zip(
            judgement.behavior_items, slopes.tolist(), *at_both, strict=True
        ):
            rows.append({
                "kind": "behavior", "id": item.id, "subject": item.subject, "couple": item.couple,
                "slope": slope, "moves": _way(slope * judgement.direction),
                "alignment_at_0": b_at_0, "alignment_at_strength": b,
                "alignment_raw_at_0": raw_at_0, "alignment_raw_at_strength": raw,
            })  # fmt: skip
    if result.choice is not None and judgement.failures is not None:
        codes = judgement.failures.codes
        for i, choice in enumerate(judgement.choice_items):
            rows.append({
                "kind": "choice", "id": choice.id, "subject": choice.subject, "couple": choice.couple,
                "p_correct_at_0": result.choice.p_free[at_0, i], "p_correct_at_strength": result.choice.p_free[at, i],
                "was": WORDS[codes[at_0, i]], "is": WORDS[codes[at, i]],
            })  # fmt: skip
    if not rows:
        return {}
    names = dict.fromkeys(name for row in (*rows[:1], *rows[-1:]) for name in row)  # of behavior items, then of choice
    return {"strength": [strength] * len(rows), **{name: [row.get(name) for row in rows] for name in names}}


def _way(slope: float) -> str:
    return "the right way" if slope > 0 else "the wrong way" if slope < 0 else "not at all"


def _failures(judgement: Judgement) -> Columns:
    columns: dict[str, Any] = {}
    if judgement.failures is not None:
        columns |= _of_rows(map(asdict, judgement.failures.counts))
    texts = {row.strength: row for row in judgement.texts}
    if texts:
        strengths = columns.get("strength", list(texts))
        columns["strength"] = strengths
        for name in ("aligned", "misaligned", "invalid", "neither", "broken"):
            columns[f"texts_{name}"] = [getattr(texts[s], name) if s in texts else None for s in strengths]
    return columns


def _coupled(judgement: Judgement) -> Columns:
    columns: dict[str, Any] = {}
    for sides, by in ((judgement.sides, ""), (judgement.text_sides, "_texts")):
        if sides is not None:
            columns.setdefault("strength", sides.strengths)
            for name, values in (("over_refusal", sides.over_refusal), ("compliance", sides.compliance)):
                columns |= {f"{name}{by}{end}": values[:, i] for i, end in enumerate(("", "_low", "_high"))}
    coupled = judgement.coupled
    if coupled is not None and coupled.correlations:
        columns.setdefault("strength", coupled.strengths)
        at = {row.strength: row for row in coupled.correlations}
        for name in ("pearson", "spearman"):
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                columns[f"{name}{end}"] = [
                    getattr(getattr(at[s], name), key) if s in at else None for s in columns["strength"]
                ]
    return columns


def _controls(judgement: Judgement) -> Columns:
    """The vector at 0 and where directions are compared, and every control; what was not measured has no row."""
    result, controls = judgement.result, judgement.result.controls
    vector = result.scores.columns(judgement.rng)
    rows = [
        {"strength": s, "label": str(Label.VECTOR), **{name: float(values[i]) for name, values in vector.items()}}
        for i, s in enumerate(result.strengths.tolist())
        if s in (0.0, controls.strength)
    ]
    for control in (*controls.random, controls.orthogonal, controls.prompt):
        if control is not None:
            of_control = control.scores.columns(judgement.rng)
            rows.append({
                "strength": control.row.strength, "label": control.label,
                **{name: float(of_control[name][0]) if name in of_control else None for name in vector},
            })  # fmt: skip
    return _of_rows(rows)


def _fits(judgement: Judgement) -> Columns:
    """Every fit, parameter by parameter; of two sides that of each."""
    result = judgement.result
    fits = {**{f"alignment_{side}": (fit,) for side, fit in result.side_fits.items()}, **result.fit()}
    rows = []
    for measure, forms in fits.items():
        for fit in forms:
            record = fit.record()
            of_form = {name: record[name] for name in ("r2", "aicc", "confidence", "intervals", "n_points")}
            estimates = record["params"].items() if fit.valid else [("", dict.fromkeys(("value", "se", "low", "high")))]
            rows += [
                {
                    "measure": today(measure), "form": fit.form, "parameter": name, **estimate, **of_form,
                    "valid": fit.valid, "reason": fit.reason, "formula": fit.shape.formula,
                }
                for name, estimate in estimates
            ]  # fmt: skip
    return _of_rows(rows)


def _of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of rows that all have the same keys."""
    records = list(rows)
    return {name: [record[name] for record in records] for name in records[0]} if records else {}
