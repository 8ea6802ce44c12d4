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
from steercpp.statistics.rounded import at_most, chosen_percent, percent, plus


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
    evidence, kind = recommendation["reported_on"], recommendation["kind"]
    of = MEASURE_WORDS["beyond" if recommendation["measure"] == "p_beyond" else kind].name
    budget, broken = recommendation["max_loss"], recommendation["max_invalid"]
    conditions = [
        Condition(
            "gain in B", f"{plus(evidence['gain'])}, at least {plus(evidence['gain_low'])}", "above 0",
            evidence["gain_low"] > 0,
        ),
        Condition(
            "typical growth of P+",
            f"{evidence['aligned_ratio']:.2f}-fold, at least {evidence['aligned_ratio_low']:.2f}-fold", "above 1",
            evidence["aligned_ratio_low"] > 1,
        ),
        Condition(
            "mass kept", f"{evidence['mass_ratio']:.2f}, at least {evidence['mass_ratio_low']:.2f}",
            f"at least {LEAST_MASS:g}", evidence["mass_ratio_low"] >= LEAST_MASS,
        ),
    ]  # fmt: skip
    if evidence["over_random"] == evidence["over_random"]:
        conditions.append(Condition(
            "over random directions", f"{plus(evidence['over_random'])}, at least {plus(evidence['over_random_low'])}",
            "above 0", evidence["over_random_low"] > 0,
        ))  # fmt: skip
    conditions.append(Condition(
        "loss", f"{percent(evidence['loss'])} of {of}, {at_most(evidence['loss_high'])}",
        f"at most {chosen_percent(budget)}", evidence["loss_high"] <= budget,
    ))  # fmt: skip
    if evidence["broken_share"] == evidence["broken_share"]:
        needed = "no budget" if broken is None else f"at most {chosen_percent(broken)}"
        holds = broken is None or evidence["broken_share"] <= broken
        conditions.append(Condition("broken texts", percent(evidence["broken_share"]), needed, holds))
    doubts = recommendation.get("doubts", ())
    if doubts and all(condition.holds for condition in conditions):
        conditions.append(Condition("other directions", "; ".join(doubts), "the vector gains more", False))
    return conditions
