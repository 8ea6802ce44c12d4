"""What each data set gives for each purpose, from a copy of it: the functions behind the names of material.py.

Each takes the path that the set's reader takes, the parts that were named, and `put`, {"template": ...} or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from steercpp.data.pair_formats import open_pairs
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets import knowledge_items as set_items
from steercpp.data.sets import safety_items as set_requests
from steercpp.data.sets.caa_sets import read_caa, read_caa_choices
from steercpp.data.sets.catalog import DATA_SETS
from steercpp.data.sets.knowledge import MMLU_SPLITS, read_mmlu, read_truthfulqa
from steercpp.data.sets.records import known
from steercpp.data.sets.safety import SIDES, SPLITS, Instruction, read_instructions, read_xstest
from steercpp.data.sets.sources import CAA_CHOICES
from steercpp.data.sets.stereoset import read_stereoset
from steercpp.data.tasks import BehaviorItem, Item
from steercpp.errors import TaskError

Parts: TypeAlias = tuple[str, ...]
Put: TypeAlias = Mapping[str, str]
_REQUESTS = {"strongreject": "forbidden_prompt", "jailbreakbench": "goal", "malicious-instruct": "instruction"}


def _chosen(name: str, parts: Parts, **groups: Iterable[str]) -> dict[str, str | None]:
    """The part that is named of each group, at most one."""
    options = {key: tuple(values) for key, values in groups.items()}
    chosen: dict[str, str | None] = dict.fromkeys(options)
    for part in parts:
        known(part, [each for values in options.values() for each in values], f"{name} part")
        key = next(key for key, values in options.items() if part in values)
        if chosen[key] is not None:
            raise TaskError(f"{name}: {chosen[key]} and {part} exclude each other; name one {key}")
        chosen[key] = part
    return chosen


def _one(name: str, parts: Parts, what: str) -> str | None:
    if len(parts) > 1:
        raise TaskError(f"{name}:{':'.join(parts)}: name one {what}, and give the name again for another")
    return parts[0] if parts else None


def _advbench(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    whole = _chosen("advbench", parts, answer=("target",))["answer"] is not None
    return set_requests.advbench_items(DATA_SETS["advbench"].read(path), whole=whole, **put)


def _plain(name: str) -> Callable[[Path, Parts, Put], tuple[BehaviorItem, ...]]:
    def items(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
        _chosen(name, parts)
        return set_requests.plain_items(name, DATA_SETS[name].read(path), _REQUESTS[name], **put)

    return items


def _sides(path: Path, split: str, side: str | None) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """Harmful and harmless requests, those that are not wanted left out."""
    harmful, harmless = (
        read_instructions(path, side=each, split=split) if side in (None, each) else () for each in SIDES
    )
    return harmful, harmless


def _instructions(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    chosen = _chosen("instructions", parts, split=SPLITS, side=SIDES)
    split = chosen["split"] or "test"
    harmful, harmless = _sides(path, split, chosen["side"])
    return set_requests.instruction_items(f"instructions:{split}", harmful, harmless, **put)


def _instruction_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    split = _chosen("instructions", parts, split=SPLITS)["split"] or "train"
    harmful, harmless = _sides(path, split, None)
    return set_requests.instruction_pairs(harmful, harmless, **put)


def _xstest(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    side = _chosen("xstest", parts, side=SIDES)["side"]
    items = set_requests.xstest_items(read_xstest(path), **put)
    return set_requests.of_subject(items, side) if side else items


def _xstest_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    _chosen("xstest", parts)
    return set_requests.xstest_pairs(read_xstest(path), **put)


def _stereoset(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    bias = _one("stereoset", parts, "kind of bias")
    return set_requests.stereoset_items(read_stereoset(path, bias_type=bias, task="intrasentence"), **put)


def _stereoset_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    if put:
        raise TaskError("stereoset: its pairs are statements in the paper's two forms; leave the template out")
    bias = _one("stereoset", parts, "kind of bias")
    return set_requests.stereoset_pairs(read_stereoset(path, bias_type=bias, task="intrasentence"))


def _caa_file(path: Path, parts: Parts, folder: str, file: str) -> tuple[str, Path]:
    """The behaviour that is named, and its file."""
    there = sorted(each.parent.name for each in (path / folder).glob(f"*/{file}"))
    name = _one("caa", parts, "behavior")
    if name is None:
        raise TaskError(
            f"caa: name a behavior, such as caa:{there[0] if there else 'refusal'}; there are {', '.join(there)}"
        )
    return name, path / folder / known(name, there, "caa behavior", where=path) / file


def _caa(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    name, file = _caa_file(path, parts, "test", "test_dataset_ab.json")
    return set_items.caa_items(name, read_caa(file))


def _caa_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    return tuple(open_pairs(_caa_file(path, parts, "generate", "generate_dataset.json")[1], format="caa"))


def mmlu(path: Path, parts: Parts, limit: int | None = None, shots: int = 0) -> tuple[Item, ...]:
    """Questions of a subject, or of all, after so many solved ones; `limit` is how many questions."""
    split = next((part for part in parts if part in MMLU_SPLITS), None)
    subject = _one("mmlu", tuple(part for part in parts if part != split), "subject")
    questions = read_mmlu(path, subject=subject, split=split)[:limit]
    dev = read_mmlu(path, subject=subject, split="dev") if shots else ()
    return set_items.mmlu_items(questions, dev, shots=shots)


def _truthfulqa(path: Path, parts: Parts) -> tuple[Item, ...]:
    form, rows = _chosen("truthfulqa", parts, form=("all", "answers"))["form"], read_truthfulqa(path)
    if form == "answers":
        return set_items.truthfulqa_answers(rows)
    return set_items.truthfulqa_choices(rows, all_wrong=form == "all")


def _truthfulqa_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    _chosen("truthfulqa", parts)
    return set_items.truthfulqa_pairs(read_truthfulqa(path))


def _humaneval(path: Path, parts: Parts) -> tuple[Item, ...]:
    _chosen("humaneval", parts)
    return set_items.humaneval_items(DATA_SETS["humaneval"].read(path))


def _caa_choices(path: Path, parts: Parts) -> tuple[Item, ...]:
    name = _chosen("caa-choices", parts, set=CAA_CHOICES)["set"]
    if name is None:
        raise TaskError(f"caa-choices: name a set, {' or '.join(f'caa-choices:{each}' for each in CAA_CHOICES)}")
    return set_items.caa_choices(name, read_caa_choices(path / CAA_CHOICES[name]))


BEHAVIOR: Mapping[str, Callable[[Path, Parts, Put], tuple[BehaviorItem, ...]]] = {
    "advbench": _advbench, "instructions": _instructions, "xstest": _xstest, "stereoset": _stereoset, "caa": _caa,
    **{name: _plain(name) for name in _REQUESTS},
}  # fmt: skip
TASKS: Mapping[str, Callable[[Path, Parts], tuple[Item, ...]]] = {
    "truthfulqa": _truthfulqa, "humaneval": _humaneval, "caa-choices": _caa_choices,
    "mmlu": mmlu,
}  # fmt: skip
PAIRS: Mapping[str, Callable[[Path, Parts, Put], tuple[ContrastPair, ...]]] = {
    "instructions": _instruction_pairs, "xstest": _xstest_pairs, "stereoset": _stereoset_pairs,
    "truthfulqa": _truthfulqa_pairs, "caa": _caa_pairs,
}  # fmt: skip
