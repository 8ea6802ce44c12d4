"""The questions of Contrastive Activation Addition, for measuring; pair_formats.py makes contrast pairs of them.

Source: nrimsky/CAA datasets/generate and datasets/test (Rimsky et al. 2024, arXiv:2312.06681).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steercpp.data.sets.records import Record, filled, json_records

_ANSWERS = ("answer_matching_behavior", "answer_not_matching_behavior")


@dataclass(frozen=True, slots=True)
class CaaQuestion:
    """A question with lettered answers, or, where both answers are None, one to be answered freely."""

    question: str
    answer_matching_behavior: str | None
    answer_not_matching_behavior: str | None
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CaaChoice:
    """A question of MMLU or TruthfulQA with two of its answers, as CAA asks it.

    A full text may be empty: the official truthful_qa.json has such a row.
    """

    prompt: str
    correct: str
    incorrect: str
    correct_full_text: str
    incorrect_full_text: str
    category: str
    place: str = field(default="", compare=False, repr=False)


def read_caa(path: Path | str) -> tuple[CaaQuestion, ...]:
    """Questions of generate_dataset.json, test_dataset_ab.json or test_dataset_open_ended.json.

    Raises:
        DataSetError: unreadable, not UTF-8, no JSON array, a field missing or no text (path:line), or none at all.
    """
    return filled(map(_question, json_records(path)), path)


def _question(row: Record) -> CaaQuestion:
    matching, other = map(row.text, _ANSWERS) if set(_ANSWERS) & set(row.fields) else (None, None)
    return CaaQuestion(row.text("question"), matching, other, row.place)


def read_caa_choices(path: Path | str) -> tuple[CaaChoice, ...]:
    """Questions of mmlu.json or truthful_qa.json; raises like `read_caa`."""
    return filled(map(_choice, json_records(path)), path)


def _choice(row: Record) -> CaaChoice:
    return CaaChoice(
        row.text("prompt"),
        row.text("correct"),
        row.text("incorrect"),
        row.text("correct_full_text", may_be_blank=True),
        row.text("incorrect_full_text", may_be_blank=True),
        row.text("category"),
        row.place,
    )
