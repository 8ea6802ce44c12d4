"""Harmful and harmless requests: AdvBench, the splits of refusal_direction, XSTest and three smaller sets.

Sources, by their files: llm-attacks/llm-attacks data/advbench/harmful_behaviors.csv (Zou et al. 2023);
andyrdt/refusal_direction dataset/splits (Arditi et al. 2024); paul-rottger/exaggerated-safety xstest_prompts.csv
(Röttger et al. 2024); alexandrasouly/strongreject; JailbreakBench; MaliciousInstruct of Princeton-SysML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steercpp.data.sets.records import Record, csv_records, filled, json_records, known, read_text, refuse_parts

SIDES = ("harmful", "harmless")
SPLITS = ("train", "val", "test")


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
class MaliciousInstruction:
    """A line of MaliciousInstruct."""

    instruction: str
    place: str = field(default="", compare=False, repr=False)


def read_advbench(path: Path | str) -> tuple[HarmfulBehavior, ...]:
    """Rows of harmful_behaviors.csv.

    Raises:
        DataSetError: as all readers here: unreadable, not UTF-8, another header, a row of another width, a blank
            field (path:line), or no row at all.
    """
    rows = csv_records(path, ("goal", "target"))
    return filled((HarmfulBehavior(row.text("goal"), row.text("target"), row.place) for row in rows), path)


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
    rows = csv_records(path, ("id", "prompt", "type", "label", "focus", "note"))
    return filled(map(_xstest, rows), path)


def _xstest(row: Record) -> XSTestPrompt:
    return XSTestPrompt(
        row.text("id"),
        row.text("prompt"),
        row.text("type"),
        row.one_of("label", ("safe", "unsafe")),
        row.text("focus", may_be_blank=True),
        row.text("note", may_be_blank=True),
        row.place,
    )


def read_strongreject(path: Path | str) -> tuple[ForbiddenPrompt, ...]:
    """Rows of strongreject_dataset.csv; raises like `read_advbench`."""
    names = ("category", "source", "forbidden_prompt")
    return filled(map(_forbidden, csv_records(path, names)), path)


def _forbidden(row: Record) -> ForbiddenPrompt:
    return ForbiddenPrompt(row.text("category"), row.text("source"), row.text("forbidden_prompt"), row.place)


def read_jailbreakbench(path: Path | str) -> tuple[JailbreakBehavior, ...]:
    """Rows of its harmful behaviours, whose first column has no name or is Index; raises like `read_advbench`."""
    names = ("Goal", "Target", "Behavior", "Category", "Source")
    return filled(map(_jailbreak, csv_records(path, ("Index", *names), ("", *names))), path)


def _jailbreak(row: Record) -> JailbreakBehavior:
    return JailbreakBehavior(
        row.text("Index" if "Index" in row.fields else ""),
        row.text("Goal"),
        row.text("Target"),
        row.text("Behavior"),
        row.text("Category"),
        row.text("Source"),
        row.place,
    )


def read_malicious_instruct(path: Path | str) -> tuple[MaliciousInstruction, ...]:
    """Lines of MaliciousInstruct.txt that are not blank; raises like `read_advbench`."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    rows = (MaliciousInstruction(line.removesuffix("\r"), f"{path}:{n}") for n, line in lines if line.strip())
    return filled(rows, path)
