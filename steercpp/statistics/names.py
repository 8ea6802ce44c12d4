"""One name for each quantity in every CSV file and JSON document; docs/measures.md lists all of them.

    renamed({"b": 0.1, "p_free": 0.6})     {"alignment": 0.1, "p_correct": 0.6}

A name with an ending is the same quantity's: `_se` its standard error, `_low` and `_high` its bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names of earlier versions, in rows, curve files and presets, with those of today.
OLDER: Mapping[str, str] = {
    "b": "alignment",
    "b_raw": "alignment_raw",
    "p_free": "p_correct",
    "p_restricted": "p_correct_restricted",
    "p_restricted_norm": "p_correct_restricted_norm",
    "p_answer": "p_token",
    "nats_answer": "nats",
    "helpful": "helpfulness",
    "invalid": "broken_share",
    "b_normalized": "alignment",
    "b_normalized_at_0": "alignment_at_0",
    "helpfulness_restricted": "p_correct_restricted",
}


def renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with today's names in place of older ones, in its order; other keys stay."""
    return {OLDER.get(name, name): value for name, value in record.items()}


def today(name: str) -> str:
    """Today's name of a quantity: "p_correct" for "p_free"; of another one that name itself."""
    return OLDER.get(name, name)
