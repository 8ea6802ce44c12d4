"""The theory's constants from what was read off a model; read this for what `constants.json` says and how it follows.

`Readings` is what a model gave, query by query; `derive` makes the record of it: lambda with its lines (norm_lines),
sigma and normality (noise), Delta at the end and at each layer (separation), the predicted curves (predicted), and for
what share of queries each assumption of the theory holds. No model is needed for that, and nothing is drawn at random
but with a fixed seed: the same readings give the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from steercpp.aliases import Bools, Floats
from steercpp.choices import ConstantsRecipe
from steercpp.experiments.constants.noise import Noise
from steercpp.experiments.constants.norm_lines import QUERY_R2, WOLF2024, growth, line, own_lines, window
from steercpp.experiments.constants.predicted import (
    alignment_curves,
    bound_curves,
    curve_record,
    gaussian,
    helpfulness_curves,
    near,
    quadratic,
)
from steercpp.experiments.constants.separation import Gap, layer_record
from steercpp.statistics.intervals import mean

NORMS = ("normed", "hidden", "logits")  # of the last activation after and before the final norm, of the logits;
# the first that there is, is the |delta| of the theory, in whose window constants are taken
NEARLY_ALL = 0.05  # of the queries may break the second of the bounds


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceReadings:
    """What choice questions gave.

    Attributes:
        norms: (n_s, n_queries) |delta| by name, see NORMS; "normed" may be missing.
        moments: (n_s, n_queries, 4) of the noise, by the choice of wrong tokens: see `noise.moments`.
        values: (n_s, n_queries, k) the noise itself, for those choices whose tokens are few.
        p_free: (n_s, n_queries) P(correct), of the run.
    """

    norms: Mapping[str, Floats]
    moments: Mapping[str, Floats]
    values: Mapping[str, Floats]
    p_free: Floats


@dataclass(frozen=True, slots=True, eq=False)
class BehaviorReadings:
    """What behavior items gave.

    Attributes:
        norms: (n_s, n_queries) |delta| by name.
        log_odds: (n_s, n_queries) ln(P+/P-), of the run.
        first_gap, worst_gap: (n_s, n_queries), see `separation.first_token_gap`; NaN where the sides begin alike.
        delta_norm: (n_s, n_layers, n_queries) |delta| at each layer.
        aligned, misaligned: (n_s, n_layers, n_queries), see `separation.layer_record`; NaN at strength 0.
        length: (n_layers, n_queries) of the difference of both.
        lens: (n_s, n_layers, n_queries) the gap as `first_gap`, read at each layer through the model's own final norm
            and head; None where they cannot be had exactly.
        circular: (n_queries,) see `separation.circular`; None unless asked for.
        harmful: (n_queries,) 1 for a harmful and 0 for a harmless request, where the items have these two sides, which
            a vector moves oppositely: Delta is then of the harmful alone. None where they have not.
    """

    norms: Mapping[str, Floats]
    log_odds: Floats
    first_gap: Floats
    worst_gap: Floats
    delta_norm: Floats
    aligned: Floats
    misaligned: Floats
    length: Floats
    lens: Floats | None = None
    circular: Floats | None = None
    harmful: Floats | None = None

    def of_harmful(self) -> BehaviorReadings:
        """The harmful queries alone; itself where there are no sides. `circular`, of a few, stays as it is."""
        if self.harmful is None:
            return self
        kept = self.harmful > 0
        changes: dict[str, Any] = {
            name: array[..., kept] for name in _BY_QUERY if (array := getattr(self, name)) is not None
        }
        return replace(self, **changes, harmful=None, norms={name: norm[:, kept] for name, norm in self.norms.items()})


_BY_QUERY = ("log_odds", "first_gap", "worst_gap", "delta_norm", "aligned", "misaligned", "length", "lens")


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Everything read off a model at a run's strengths.

    Attributes:
        strengths: (n_s,) ascending, 0 among them.
        layers: from the first steered one up.
        choice, behavior: None where the run has no such items.
        no_lens: why the model's final norm and head are not used; "" where they are.
    """

    strengths: Floats
    layers: tuple[int, ...]
    choice: ChoiceReadings | None
    behavior: BehaviorReadings | None
    no_lens: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """What was found.

    Attributes:
        record: plain data, as `constants.json` has them; NaN stands where a number would mean nothing.
        arrays: by name, query by query, as `constants.npz` has them.
    """

    record: Mapping[str, Any]
    arrays: Mapping[str, Floats] = field(repr=False)

    @property
    def strengths(self) -> Floats:
        """(n_s,) of the run."""
        return np.array(self.record["strengths"], np.float64)

    @property
    def reference(self) -> float:
        """The strength that layers are compared at."""
        return float(self.record["reference_strength"])


def derive(readings: Readings, *, recipe: ConstantsRecipe = "steercpp", direction: int = 1) -> dict[str, Any]:
    """The record of the constants.

    Args:
        readings: what the model gave.
        recipe: "wolf2024" takes the authors' fixed window.
        direction: +1 or -1, the sign of the strengths that are wanted: layers are compared on that side.
    """
    s, reach = readings.strengths, WOLF2024 if recipe == "wolf2024" else None
    by_kind = _by_kind(readings)
    ours = next(name for name in NORMS if all(name in of_kind.norms for of_kind in by_kind.values()))
    norms, linear, inside = {}, {}, {}
    for kind, of_kind in by_kind.items():
        norms[kind] = {
            name: growth(s, of_kind.norms[name], reach=reach) for name in NORMS if name in of_kind.norms
        }  # fmt: skip
        inside[kind] = _window(s, of_kind.norms[ours], reach)
        linear[kind] = {
            name: _share(own_lines(s, norm, _window(s, norm, reach))[1].astype(float))
            for name, norm in of_kind.norms.items()
        }
    reference = _reference(s, inside.get("behavior", next(iter(inside.values()))), direction)
    record: dict[str, Any] = {
        "norm": ours, "strengths": s.tolist(), "layers": list(readings.layers), "recipe": recipe,
        "no_lens": readings.no_lens, "assumptions": {"A1": linear}, "norms": norms, "noise": None, "separation": None,
        "predicted": {}, "reference_strength": float(s[reference]),
    }  # fmt: skip
    if (choice := readings.choice) is not None:
        noise, curves = _noise(s, choice, inside["choice"], ours)
        record["noise"] = noise
        record["assumptions"]["A3"] = {name: of_tokens["share_holds"] for name, of_tokens in noise.items()}
        record["predicted"]["helpfulness"] = curves
    if (behavior := readings.behavior) is not None:
        of_harmful = behavior.of_harmful()
        gaps = _gaps(s, of_harmful, ours)
        record["separation"] = _separation(readings, behavior, gaps, inside["behavior"], reference)
        record["assumptions"]["A2"] = {name: _share(gap.holds(inside["behavior"])) for name, gap in gaps.items()}
        record["predicted"]["alignment"] = _alignment(
            s, of_harmful, gaps["continuations"], inside["behavior"], of_harmful.norms[ours]
        )
    return record


def arrays(readings: Readings) -> dict[str, Floats]:
    """All arrays of the readings, as `Constants` names them: "choice_norms_logits", "behavior_first_gap" and so on."""
    named: dict[str, Floats] = {"strengths": readings.strengths}
    for kind, of_kind in _by_kind(readings).items():
        for field_ in fields(of_kind):
            value = getattr(of_kind, field_.name)
            for name, array in (value if isinstance(value, dict) else {"": value}).items():
                if array is not None:
                    named["_".join(filter(None, (kind, field_.name, name)))] = array
    return named


def _by_kind(readings: Readings) -> dict[str, ChoiceReadings | BehaviorReadings]:
    """The readings of those kinds of items that there are."""
    both = {"choice": readings.choice, "behavior": readings.behavior}
    return {kind: of_kind for kind, of_kind in both.items() if of_kind is not None}


def _window(s: Floats, norm: Floats, reach: float | None) -> Bools:
    lower, upper = (line(s, norm, sign=sign, reach=reach) for sign in (-1, 1))
    return window(s, (lower, upper))


def _reference(s: Floats, inside: Bools, direction: int) -> int:
    """The place of the strongest of the wanted sign whose |delta| is still on the line; or of the strongest of all."""
    ends = [place for place in range(len(s)) if s[place] * direction > 0 and inside[place]]
    return max(ends or range(len(s)), key=lambda place: abs(s[place]))


def _share(held: Floats) -> dict[str, Any]:
    return {"share": mean(held).record(), "n_queries": int(np.isfinite(held).sum())}


def _noise(s: Floats, choice: ChoiceReadings, inside: Bools, ours: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sigma of each choice of tokens, and the curves of P(correct) that it predicts."""
    noises: dict[str, Any] = {}
    curves: dict[str, Any] = {"measured": choice.p_free.mean(axis=1).tolist()}
    slopes = own_lines(s, choice.norms[ours], inside)[0]
    size = float(slopes[np.isfinite(slopes)].mean()) or np.nan
    for name, raw in choice.moments.items():
        noise = Noise(raw, choice.values.get(name))
        rate, r2 = noise.rate(s, inside)
        proportional, unbiased, both = noise.shares(s, inside, r2=QUERY_R2)
        noises[name] = {
            "lambda_sigma": rate.record(), "r2": r2, "sigma": [number / size for number in rate.record()],
            "share_proportional": proportional, "share_unbiased": unbiased, "share_holds": both,
            "n_queries": int(np.isfinite(raw).all(axis=(0, 2)).sum()),
            "at": [noise.at(place) if s[place] else None for place in range(len(s))],
        }  # fmt: skip
        laws = {
            "quadratic": quadratic(rate.value), "gaussian": gaussian(rate.value),
            "gaussian_with_mean": gaussian(rate.value, noise.bias),
        }  # fmt: skip
        curves[name] = {
            law: curve_record(s, helpfulness_curves(s, choice.p_free[s == 0][0], odds), choice.p_free, inside)
            for law, odds in laws.items()
        }
    return noises, curves


def _gaps(s: Floats, behavior: BehaviorReadings, ours: str) -> dict[str, Gap]:
    """The gap of whole answers, of their first tokens, and of the worst pair of those."""
    log_odds = behavior.log_odds - behavior.log_odds[s == 0]
    kinds = {"continuations": log_odds, "first_tokens": behavior.first_gap, "every_pair": behavior.worst_gap}
    return {name: Gap(s, gap, behavior.norms[ours]) for name, gap in kinds.items()}


def _separation(
    readings: Readings, behavior: BehaviorReadings, gaps: Mapping[str, Gap], inside: Bools, reference: int
) -> dict[str, Any]:
    """Delta at the end and at each layer."""
    s, of_harmful, gap = readings.strengths, behavior.of_harmful(), gaps["continuations"].gap
    return {
        "of": "all" if behavior.harmful is None else "harmful",
        "n_left_out": behavior.log_odds.shape[1] - gap.shape[1],
        "gaps": {name: gap_of_kind.record(inside) for name, gap_of_kind in gaps.items()},
        "delta_per": {
            name: mean(Gap(s, gap, norm).slopes(inside)).record() for name, norm in of_harmful.norms.items()
        },
        "layers": [
            _layer(readings, of_harmful, place, il, reference, inside) for place, il in enumerate(readings.layers)
        ],
        "circular": None if of_harmful.circular is None else mean(of_harmful.circular).record(),
    }  # fmt: skip


def _alignment(s: Floats, behavior: BehaviorReadings, gap: Gap, inside: Bools, norm: Floats) -> dict[str, Any]:
    """B as measured, and the curves of it that Delta and lambda predict."""
    measured, near_0 = np.tanh(behavior.log_odds / 2), near(s)
    slopes, at_0 = own_lines(s, norm, inside)[0], behavior.log_odds[s == 0][0]
    curves = {"queries": alignment_curves(s, at_0, gap.rates(near_0))}
    for name, share in (("bound", 0.0), ("bound_nearly_all", NEARLY_ALL)):
        delta = gap.worst(inside, -1, share=share), gap.worst(inside, 1, share=share)
        curves[name] = bound_curves(s, at_0, delta, slopes)
    records = {name: curve_record(s, items, measured, near_0) for name, items in curves.items()}
    return {"measured": measured.mean(axis=1).tolist(), **records}


def _layer(
    readings: Readings, behavior: BehaviorReadings, place: int, il: int, reference: int, inside: Bools
) -> dict[str, Any]:
    """What one layer separates: at the reference strength in full, at the others the margin and the accuracy."""
    s, norm = readings.strengths, behavior.delta_norm[:, place]
    aligned, misaligned = behavior.aligned[:, place], behavior.misaligned[:, place]
    steered = [i if strength else None for i, strength in enumerate(s)]
    record: dict[str, Any] = {
        "layer": il,
        "lambda": mean(own_lines(s, norm, inside)[0][:, int(s[reference] > 0)]).record(),
        **layer_record(aligned[reference], misaligned[reference], behavior.length[place]),
        "margin_at": [None if i is None else float(np.mean(aligned[i] - misaligned[i])) for i in steered],
        "accuracy_at": [None if i is None else float(np.mean(aligned[i] > misaligned[i])) for i in steered],
        "lens": None,
    }
    if behavior.lens is not None:
        gap = Gap(s, behavior.lens[:, place], norm)
        of_gap = gap.record(inside)
        record["lens"] = {name: of_gap[name] for name in ("delta_gap", "share_holds", "n_queries")}
        record["lens"]["gap"] = mean(gap.gap[reference]).record()
    return record
