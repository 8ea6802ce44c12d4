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
        own = self.harmful > 0
        changes: dict[str, Any] = {"harmful": None, "norms": {name: norm[:, own] for name, norm in self.norms.items()}}
        for name in _BY_QUERY:
            if (array := getattr(self, name)) is not None:
                changes[name] = array[..., own]
        return replace(self, **changes)


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
    ours = next(name for name in NORMS if all(name in part.norms for _, part in _parts(readings)))
    found: dict[str, Any] = {
        "norm": ours, "strengths": s.tolist(), "layers": list(readings.layers), "recipe": recipe,
        "no_lens": readings.no_lens, "assumptions": {}, "norms": {}, "noise": None, "separation": None, "predicted": {},
    }  # fmt: skip
    inside: dict[str, Bools] = {}
    for kind, part in _parts(readings):
        found["norms"][kind] = {name: growth(s, part.norms[name], reach=reach) for name in NORMS if name in part.norms}
        inside[kind] = _window(s, part.norms[ours], reach)
        found["assumptions"].setdefault("A1", {})[kind] = {
            name: _share(own_lines(s, norm, _window(s, norm, reach))[1].astype(float))
            for name, norm in part.norms.items()
        }
    reference = _reference(s, inside.get("behavior", next(iter(inside.values()))), direction)
    found["reference_strength"] = float(s[reference])
    if readings.choice is not None:
        _add_noise(found, s, readings.choice, inside["choice"], ours)
    if readings.behavior is not None:
        _add_separation(found, readings, readings.behavior, inside["behavior"], reference)
    return found


def arrays(readings: Readings) -> dict[str, Floats]:
    """All arrays of the readings, as `Constants` names them: "choice_norms_logits", "behavior_first_gap" and so on."""
    found: dict[str, Floats] = {"strengths": readings.strengths}
    for kind, part in _parts(readings):
        for field_ in fields(part):
            value = getattr(part, field_.name)
            for name, array in (value if isinstance(value, dict) else {"": value}).items():
                if array is not None:
                    found["_".join(filter(None, (kind, field_.name, name)))] = array
    return found


def _parts(readings: Readings) -> list[tuple[str, ChoiceReadings | BehaviorReadings]]:
    both = (("choice", readings.choice), ("behavior", readings.behavior))
    return [(kind, part) for kind, part in both if part is not None]


def _window(s: Floats, norm: Floats, reach: float | None) -> Bools:
    lower, upper = (line(s, norm, sign=sign, reach=reach) for sign in (-1, 1))
    return window(s, (lower, upper))


def _reference(s: Floats, inside: Bools, direction: int) -> int:
    """The place of the strongest of the wanted sign whose |delta| is still on the line; or of the strongest of all."""
    ends = [place for place in range(len(s)) if s[place] * direction > 0 and inside[place]]
    return max(ends or range(len(s)), key=lambda place: abs(s[place]))


def _share(held: Floats) -> dict[str, Any]:
    return {"share": mean(held).record(), "n_queries": int(np.isfinite(held).sum())}


def _add_noise(found: dict[str, Any], s: Floats, part: ChoiceReadings, inside: Bools, ours: str) -> None:
    """Sigma of each choice of tokens, and the curves of P(correct) that it predicts."""
    found["noise"], curves = {}, {}
    slopes = own_lines(s, part.norms[ours], inside)[0]
    size = float(slopes[np.isfinite(slopes)].mean()) or np.nan
    for name, raw in part.moments.items():
        noise = Noise(raw, part.values.get(name))
        rate, r2 = noise.rate(s, inside)
        proportional, unbiased, both = noise.shares(s, inside, r2=QUERY_R2)
        found["noise"][name] = {
            "lambda_sigma": rate.record(), "r2": r2, "sigma": [one / size for one in rate.record()],
            "share_proportional": proportional, "share_unbiased": unbiased, "share_holds": both,
            "n_queries": int(np.isfinite(raw).all(axis=(0, 2)).sum()),
            "at": [noise.at(place) if s[place] else None for place in range(len(s))],
        }  # fmt: skip
        laws = {
            "quadratic": quadratic(rate.value), "gaussian": gaussian(rate.value),
            "gaussian_with_mean": gaussian(rate.value, noise.bias),
        }  # fmt: skip
        curves[name] = {
            law: curve_record(s, helpfulness_curves(s, part.p_free[s == 0][0], odds), part.p_free, inside)
            for law, odds in laws.items()
        }
    found["assumptions"]["A3"] = {name: one["share_holds"] for name, one in found["noise"].items()}
    found["predicted"]["helpfulness"] = {"measured": part.p_free.mean(axis=1).tolist(), **curves}


def _add_separation(
    found: dict[str, Any], readings: Readings, part: BehaviorReadings, inside: Bools, reference: int
) -> None:
    """Delta at the end and at each layer, and the curves of B that it predicts."""
    s, n = readings.strengths, part.log_odds.shape[1]
    ours, sided, part = found["norm"], part.harmful is not None, part.of_harmful()
    log_odds = part.log_odds - part.log_odds[s == 0]
    kinds = {"continuations": log_odds, "first_tokens": part.first_gap, "every_pair": part.worst_gap}
    gaps = {name: Gap(s, gap, part.norms[ours]) for name, gap in kinds.items()}
    found["separation"] = {
        "of": "harmful" if sided else "all",
        "n_left_out": n - part.log_odds.shape[1],
        "gaps": {name: gap.record(inside) for name, gap in gaps.items()},
        "delta_per": {
            name: mean(Gap(s, log_odds, norm).slopes(inside)).record() for name, norm in part.norms.items()
        },
        "layers": [
            _layer(readings, part, place, il, reference, inside) for place, il in enumerate(readings.layers)
        ],
        "circular": None if part.circular is None else mean(part.circular).record(),
    }  # fmt: skip
    found["assumptions"]["A2"] = {name: _share(gap.holds(inside)) for name, gap in gaps.items()}
    measured, near_0 = np.tanh(part.log_odds / 2), near(s)
    slopes = own_lines(s, part.norms[ours], inside)[0]
    at_0 = part.log_odds[s == 0][0]
    own = gaps["continuations"]
    curves = {"queries": alignment_curves(s, at_0, own.rates(near_0))}
    for name, share in (("bound", 0.0), ("bound_nearly_all", NEARLY_ALL)):
        delta = own.worst(inside, -1, share=share), own.worst(inside, 1, share=share)
        curves[name] = bound_curves(s, at_0, delta, slopes)
    found["predicted"]["alignment"] = {
        "measured": measured.mean(axis=1).tolist(),
        **{name: curve_record(s, items, measured, near_0) for name, items in curves.items()},
    }


def _layer(
    readings: Readings, part: BehaviorReadings, place: int, il: int, reference: int, inside: Bools
) -> dict[str, Any]:
    """What one layer tells: at the reference strength in full, at the others the margin and the accuracy."""
    s, norm = readings.strengths, part.delta_norm[:, place]
    aligned, misaligned = part.aligned[:, place], part.misaligned[:, place]
    record: dict[str, Any] = {
        "layer": il,
        "lambda": mean(own_lines(s, norm, inside)[0][:, int(s[reference] > 0)]).record(),
        **layer_record(aligned[reference], misaligned[reference], part.length[place]),
        "margin_at": [None if not one else float(np.mean(aligned[i] - misaligned[i])) for i, one in enumerate(s)],
        "accuracy_at": [None if not one else float(np.mean(aligned[i] > misaligned[i])) for i, one in enumerate(s)],
        "lens": None,
    }
    if part.lens is not None:
        gap = Gap(s, part.lens[:, place], norm)
        whole = gap.record(inside)
        record["lens"] = {name: whole[name] for name in ("delta_gap", "share_holds", "n_queries")}
        record["lens"]["gap"] = mean(gap.gap[reference]).record()
    return record
