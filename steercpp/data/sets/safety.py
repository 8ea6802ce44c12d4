"""Rows of the sets on safety: AdvBench, the splits of refusal_direction, XSTest, three smaller ones, and StereoSet.

Sources, by their files: llm-attacks/llm-attacks data/advbench/harmful_behaviors.csv (Zou et al. 2023);
andyrdt/refusal_direction dataset/splits (Arditi et al. 2024); paul-rottger/exaggerated-safety xstest_prompts.csv
(Röttger et al. 2024); alexandrasouly/strongreject; JailbreakBench; MaliciousInstruct of Princeton-SysML;
centerforaisafety/HarmBench data/behavior_datasets/harmbench_behaviors_text_all.csv (Mazeika et al. 2024,
arXiv:2402.04249); moinnadeem/StereoSet data/dev.json (Nadeem et al. 2021, arXiv:2004.09456).

StereoSet's official dev.json is {"version", "data": {"intersentence": [...], "intrasentence": [...]}}; a plain array
of its clusters is read too, as other benchmarks pass it on. In an intrasentence cluster the context has a BLANK that
each sentence fills; in an intersentence one each sentence follows the context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steercpp.data.sets.records import (
    Record,
    csv_records,
    filled,
    json_records,
    known,
    parse_json,
    read_text,
    refuse_parts,
)
from steercpp.errors import DataSetError

SIDES = ("harmful", "harmless")
SPLITS = ("train", "val", "test")
TASKS = ("intersentence", "intrasentence")  # of StereoSet
HARMBENCH_KINDS = ("standard", "contextual", "copyright")
_HARMBENCH = ("Behavior", "FunctionalCategory", "SemanticCategory", "Tags", "ContextString", "BehaviorID")
_XSTEST = ("id", "prompt", "type", "label", "focus", "note")
GOLD_LABELS = ("anti-stereotype", "stereotype", "unrelated")


@dataclass(frozen=True, slots=True)
class HarmfulBehavior:
    """A row of AdvBench: a request and how an answer that complies begins."""

    goal: str
    target: str
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A request; `category` is None where the file has null."""

    instruction: str
    category: str | None
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class XSTestPrompt:
    """A request that is safe but sounds unsafe, or its unsafe contrast; `label` is "safe" or "unsafe"."""

    id: str
    prompt: str
    type: str
    label: str
    focus: str
    note: str
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ForbiddenPrompt:
    """A row of StrongREJECT."""

    category: str
    source: str
    forbidden_prompt: str
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class JailbreakBehavior:
    """A row of JailbreakBench."""

    index: str
    goal: str
    target: str
    behavior: str
    category: str
    source: str
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HarmBenchBehavior:
    """A row of HarmBench; a contextual behavior refers to the text in `context`, which is "" elsewhere."""

    behavior: str
    functional_category: str
    semantic_category: str
    tags: str
    context: str
    behavior_id: str
    place: str = field(default="", compare=False, repr=False)

    @property
    def request(self) -> str:
        """What a model is asked: the context, a line of three dashes and the behavior, as HarmBench asks it."""
        return f"{self.context}\n\n---\n\n{self.behavior}" if self.context.strip() else self.behavior


@dataclass(frozen=True, slots=True)
class MaliciousInstruction:
    """A line of MaliciousInstruct."""

    instruction: str
    place: str = field(default="", compare=False, repr=False)


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
        return next(row.sentence for row in self.sentences if row.gold_label == gold_label)


def read_advbench(path: Path | str) -> tuple[HarmfulBehavior, ...]:
    """Rows of harmful_behaviors.csv.

    Raises:
        DataSetError: as all readers here: unreadable, not UTF-8, another header, a row of another width, a blank
            field (path:line), or no row at all.
    """
    names = ("goal", "target")
    return filled((HarmfulBehavior(*row.texts(*names)) for row in csv_records(path, names)), path)


def read_instructions(
    path: Path | str, *, side: str | None = None, split: str | None = None
) -> tuple[Instruction, ...]:
    """Rows of one file, or in a folder of the file {side}_{split}.json.

    Args:
        path: a file such as harmful_train.json, or the folder of them.
        side: of a folder, "harmful" or "harmless"; None for harmful.
        split: of a folder, "train", "val" or "test"; None for train.

    Raises:
        DataSetError: unknown side or split, or either asked of a file; unreadable, no JSON array of {instruction,
            category}, or empty.
    """
    path = Path(path)
    if path.is_dir():
        side, split = (
            known(side or "harmful", SIDES, "side", where=path),
            known(split or "train", SPLITS, "split", where=path),
        )
        path /= f"{side}_{split}.json"
    else:
        refuse_parts(path, side=side, split=split)
    return filled(map(_instruction, json_records(path)), path)


def _instruction(row: Record) -> Instruction:
    if "category" not in row.fields:
        raise row.error("'category' is missing; give the official file, in which it may be null")
    category = None if row.fields["category"] is None else row.text("category")
    return Instruction(row.text("instruction"), category, row.place)


def read_xstest(path: Path | str) -> tuple[XSTestPrompt, ...]:
    """Rows of xstest_prompts.csv; raises like `read_advbench`."""
    return filled(map(_xstest, csv_records(path, _XSTEST)), path)


def _xstest(row: Record) -> XSTestPrompt:
    row.one_of("label", ("safe", "unsafe"))
    return XSTestPrompt(*row.texts(*_XSTEST, may_be_blank=("focus", "note")))


def read_strongreject(path: Path | str) -> tuple[ForbiddenPrompt, ...]:
    """Rows of strongreject_dataset.csv; raises like `read_advbench`."""
    names = ("category", "source", "forbidden_prompt")
    return filled((ForbiddenPrompt(*row.texts(*names)) for row in csv_records(path, names)), path)


def read_jailbreakbench(path: Path | str) -> tuple[JailbreakBehavior, ...]:
    """Rows of its harmful behaviors, whose first column has no name or is Index; raises like `read_advbench`."""
    names = ("Goal", "Target", "Behavior", "Category", "Source")
    rows = csv_records(path, ("Index", *names), ("", *names))
    return filled((JailbreakBehavior(*row.texts(next(iter(row.fields)), *names)) for row in rows), path)


def read_harmbench(path: Path | str, *, kind: str | None = None) -> tuple[HarmBenchBehavior, ...]:
    """Rows of harmbench_behaviors_text_all.csv, or of its val or test part.

    Args:
        path: the file.
        kind: "standard", "contextual" or "copyright" alone; None for all.

    Raises:
        DataSetError: as `read_advbench`; an unknown kind, or one of which there is no row.
    """
    if kind is not None:
        known(kind, HARMBENCH_KINDS, "kind", where=path)
    rows = (row for row in map(_harmbench, csv_records(path, _HARMBENCH)) if kind in (None, row.functional_category))
    return filled(rows, path)


def _harmbench(row: Record) -> HarmBenchBehavior:
    row.one_of("FunctionalCategory", HARMBENCH_KINDS)
    return HarmBenchBehavior(*row.texts(*_HARMBENCH, may_be_blank=("Tags", "ContextString")))


def read_malicious_instruct(path: Path | str) -> tuple[MaliciousInstruction, ...]:
    """Lines of MaliciousInstruct.txt that are not blank; raises like `read_advbench`."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    rows = (MaliciousInstruction(line.removesuffix("\r"), f"{path}:{n}") for n, line in lines if line.strip())
    return filled(rows, path)


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
    chosen = tuple(
        cluster for cluster in clusters if bias_type in (None, cluster.bias_type) and task in (None, cluster.task)
    )
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
    labels = [sentence.gold_label for sentence in sentences]
    if sorted(labels) != list(GOLD_LABELS):
        raise row.error(
            f"sentences labeled {', '.join(labels) or 'none'}; expected one each of {', '.join(GOLD_LABELS)}"
        )
    return StereoSetCluster(
        task, row.text("id"), row.text("target"), row.text("bias_type"), row.text("context"), sentences, row.place
    )


def _sentence(row: Record) -> StereoSetSentence:
    labels = row.records("labels") if "labels" in row.fields else ()
    return StereoSetSentence(
        row.text("id"),
        row.text("sentence"),
        row.one_of("gold_label", GOLD_LABELS),
        tuple(StereoSetLabel(label.text("label"), label.text("human_id")) for label in labels),
    )
