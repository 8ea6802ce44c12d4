"""StereoSet: what a model holds more likely of people, a stereotype or its opposite.

The official dev.json is {"version", "data": {"intersentence": [...], "intrasentence": [...]}}; a plain array of its
clusters is read too, as other benchmarks pass it on. In an intrasentence cluster the context has a BLANK that each
sentence fills; in an intersentence one each sentence follows the context.
Source: moinnadeem/StereoSet data/dev.json (Nadeem et al. 2021, arXiv:2004.09456).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steercpp.data.sets.records import Record, filled, json_records, known, parse_json, read_text
from steercpp.errors import DataSetError

TASKS = ("intersentence", "intrasentence")
GOLD_LABELS = ("anti-stereotype", "stereotype", "unrelated")


@dataclass(frozen=True, slots=True)
class StereoSetLabel:
    """What one annotator called a sentence."""

    label: str
    human_id: str


@dataclass(frozen=True, slots=True)
class StereoSetSentence:
    """A sentence, what it was agreed to be, and the annotators' labels, of which some copies have none."""

    id: str
    sentence: str
    gold_label: str
    labels: tuple[StereoSetLabel, ...] = ()


@dataclass(frozen=True, slots=True)
class StereoSetCluster:
    """A context with three sentences, one for each gold label, in the file's order."""

    task: str
    id: str
    target: str
    bias_type: str
    context: str
    sentences: tuple[StereoSetSentence, ...]
    place: str = field(default="", compare=False, repr=False)

    def sentence(self, gold_label: str) -> str:
        """The sentence with this gold label."""
        return next(each.sentence for each in self.sentences if each.gold_label == gold_label)


def read_stereoset(
    path: Path | str, *, bias_type: str | None = None, task: str | None = None
) -> tuple[StereoSetCluster, ...]:
    """Clusters in the file's order.

    Args:
        path: dev.json, or an array of its clusters.
        bias_type: one alone, such as "race"; None for all.
        task: "intersentence" or "intrasentence" alone; None for both.

    Raises:
        DataSetError: unreadable, not UTF-8, another tree, a field missing or of another kind (path:line); unknown
            bias type or task (near ones are offered); nothing left.
    """
    if task is not None:
        known(task, TASKS, "task", where=path)
    clusters = filled(_clusters(path), path)
    if bias_type is not None:
        known(bias_type, {cluster.bias_type for cluster in clusters}, "bias type", where=path)
    chosen = tuple(each for each in clusters if bias_type in (None, each.bias_type) and task in (None, each.task))
    if not chosen:
        raise DataSetError(f"{path}: no cluster of {bias_type or 'any bias type'} in {task}; choose another task")
    return chosen


def _clusters(path: Path | str) -> Iterator[StereoSetCluster]:
    text = read_text(path)
    if text.lstrip().startswith("["):
        for row in json_records(path):
            yield _cluster(row, "intrasentence" if "BLANK" in row.text("context") else "intersentence")
        return
    tree = parse_json(text, path)
    data = tree.get("data") if isinstance(tree, dict) else None
    if not isinstance(data, dict) or not any(isinstance(data.get(task), list) for task in TASKS):
        raise DataSetError(f'{path}: no {{"data": {{"intersentence": [...], ...}}}}; give dev.json of StereoSet')
    for task in TASKS:
        for place, item in _placed(text, task, path) if isinstance(data.get(task), list) else ():
            if not isinstance(item, dict):
                raise DataSetError(f"{place}: expected an object, found {json.dumps(item)[:40]}; give dev.json")
            yield _cluster(Record(place, item), task)


def _placed(text: str, key: str, path: Path | str) -> Iterator[tuple[str, Any]]:
    """path:line and value of each item of the array under this key, in a text that is known to be JSON."""
    begin = re.search(rf'"{key}"\s*:\s*\[', text)
    assert begin is not None, key
    parse, blank, at, line, counted = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*"), begin.end(), 1, 0
    while True:
        gap = blank.match(text, at)
        assert gap is not None
        at = gap.end()
        if text[at] == "]":
            return
        line, counted = line + text.count("\n", counted, at), at
        value, at = parse(text, at)
        yield f"{path}:{line}", value


def _cluster(row: Record, task: str) -> StereoSetCluster:
    sentences = tuple(map(_sentence, row.records("sentences")))
    if sorted(each.gold_label for each in sentences) != list(GOLD_LABELS):
        found = ", ".join(each.gold_label for each in sentences) or "none"
        raise row.error(f"sentences labelled {found}; expected one each of {', '.join(GOLD_LABELS)}")
    return StereoSetCluster(
        task,
        row.text("id"),
        row.text("target"),
        row.text("bias_type"),
        row.text("context"),
        sentences,
        row.place,
    )


def _sentence(row: Record) -> StereoSetSentence:
    labels = row.records("labels") if "labels" in row.fields else ()
    return StereoSetSentence(
        row.text("id"),
        row.text("sentence"),
        row.one_of("gold_label", GOLD_LABELS),
        tuple(StereoSetLabel(each.text("label"), each.text("human_id")) for each in labels),
    )
