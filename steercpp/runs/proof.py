"""What a candidate has to meet to be recommended, each condition with its figure; see statistics/recommend.py.

proof(judgement.recommendation.record())[0]
# Condition(name="gain in B", figure="+0.51, at least +0.37", needed="above 0", holds=True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steercpp.runs.verdict import MEASURE_WORDS
from steercpp.statistics.curves import LEAST_MASS
from steercpp.statistics.rounded import chosen_percent, percent, plus


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, in words.

    Attributes:
        name: what is looked at.
        figure: what it is, and its bound.
        needed: what the bound has to be.
        holds: whether it is.
    """

    name: str
    figure: str
    needed: str
    holds: bool


def proof(recommendation: Mapping[str, Any]) -> list[Condition]:
    """The conditions on the items that test the candidate; none without a candidate.

    Args:
        recommendation: as `Recommendation.record` gives it.
    """
    if recommendation["candidate"] is None:
        return []
    told, kind = recommendation["reported_on"], recommendation["kind"]
    of = MEASURE_WORDS["beyond" if recommendation["measure"] == "p_beyond" else kind].name
    budget, broken = recommendation["max_loss"], recommendation["max_invalid"]
    conditions = [
        Condition(
            "gain in B", f"{plus(told['gain'])}, at least {plus(told['gain_low'])}", "above 0", told["gain_low"] > 0
        ),
        Condition(
            "typical growth of P+",
            f"{told['aligned_ratio']:.2f}-fold, at least {told['aligned_ratio_low']:.2f}-fold", "above 1",
            told["aligned_ratio_low"] > 1,
        ),
        Condition(
            "mass kept", f"{told['mass_ratio']:.2f}, at least {told['mass_ratio_low']:.2f}",
            f"at least {LEAST_MASS:g}", told["mass_ratio_low"] >= LEAST_MASS,
        ),
    ]  # fmt: skip
    if told["over_random"] == told["over_random"]:
        conditions.append(Condition(
            "over random directions", f"{plus(told['over_random'])}, at least {plus(told['over_random_low'])}",
            "above 0", told["over_random_low"] > 0,
        ))  # fmt: skip
    conditions.append(Condition(
        "loss", f"{percent(told['loss'])} of {of}, at most {percent(told['loss_high'])}",
        f"at most {chosen_percent(budget)}", told["loss_high"] <= budget,
    ))  # fmt: skip
    if told["broken_share"] == told["broken_share"]:
        needed = "no budget" if broken is None else f"at most {chosen_percent(broken)}"
        holds = broken is None or told["broken_share"] <= broken
        conditions.append(Condition("broken texts", percent(told["broken_share"]), needed, holds))
    return conditions
