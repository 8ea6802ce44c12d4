"""What a name stands for: items to measure, or contrast pairs; read this for the names there are.

A name is the path of a file; a built-in set, such as "refusal", or subjects of one, "refusal:harmful"; or a data set
with the parts of it that are wanted, in any order: "mmlu:international_law", "instructions:test:harmful". The part
"text" asks a built-in set's choices by their words instead of by letter: "knowledge:text", "knowledge:history:text".

    behavior   advbench[:target]  instructions[:SPLIT][:SIDE]  strongreject  jailbreakbench  malicious-instruct
                xstest[:SIDE]  stereoset[:BIAS]  caa:BEHAVIOR  model-written:BEHAVIOR
                harmbench[:standard|:contextual|:copyright]
    tasks       own (the set everyday)  mmlu[:SUBJECT][:SPLIT]  truthfulqa[:all|:answers]  humaneval
                gsm8k[:SPLIT]  bbq[:CATEGORY]  crows-pairs[:BIAS]  caa-choices:mmlu  caa-choices:truthfulqa
    pairs       instructions[:SPLIT]  xstest  stereoset[:BIAS]  truthfulqa  caa:BEHAVIOR
                model-written:BEHAVIOR[:statements]  crows-pairs[:BIAS]

SIDE is harmful or harmless; SPLIT defaults to test for items and to train for pairs. In all pairs the positive side is
the aligned one (refusing, disagreeing, truthful; in CAA that which matches the behavior), so that a vector of them
raises B of the behavior of the same name. What is asked and what counts is told in safety_items.py and
knowledge_items.py.

The functions below the public ones make the items and pairs of one set each. They take the path that the set's reader
takes, the parts that were named, and `put`, {"template": ...} or nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from steercpp.data.items import BehaviorItem, ChoiceItem, Item, is_named, read_behavior, read_mmlu_csv, read_tasks
from steercpp.data.pair_formats import open_pairs
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets import bias_items, knowledge_items, safety_items
from steercpp.data.sets.bias import read_bbq, read_crows_pairs
from steercpp.data.sets.catalog import DATA_SETS
from steercpp.data.sets.knowledge import (
    GSM8K_SPLITS,
    MMLU_SPLITS,
    ModelWrittenQuestion,
    read_caa,
    read_caa_choices,
    read_gsm8k,
    read_mmlu,
    read_model_written,
    read_truthfulqa,
)
from steercpp.data.sets.records import known
from steercpp.data.sets.safety import (
    HARMBENCH_KINDS,
    SIDES,
    SPLITS,
    Instruction,
    read_harmbench,
    read_instructions,
    read_stereoset,
    read_xstest,
)
from steercpp.data.sets.safety_items import DISAGREE, REFUSE
from steercpp.data.sets.sources import CAA_CHOICES, find_set
from steercpp.errors import TaskError
from steercpp.inputs import stem
from steercpp.pipes import once

OWN, EVERYDAY = "own", "everyday"  # a task, and the built-in requests that it stands for
STATEMENTS = "statements"  # the part of model-written pairs that are a persona's own statements
BY_TEXT = "text"  # the part of a built-in set whose choices are asked by their words instead of letters
_FILES = (".jsonl", ".json", ".csv", ".txt", ".gz")
_Entry = TypeVar("_Entry")
Parts: TypeAlias = tuple[str, ...]
Put: TypeAlias = Mapping[str, str]
_REQUESTS = {"strongreject": "forbidden_prompt", "jailbreakbench": "goal", "malicious-instruct": "instruction"}


def behavior_items(
    name: str | Path,
    *,
    data: Path | str | None = None,
    limit: int | None = None,
    template: str = "auto",
    option: str = "behavior",
) -> tuple[BehaviorItem, ...]:
    """Behavior items by name.

    Args:
        name: see above.
        data: the folder of official files; None for that of STEERCPP_DATA and the cache.
        limit: at most so many, the first ones.
        template: how requests of data sets are put: "auto" as safety_items.py says, "chat" as the user's message, a
            template by name, or a text with one place.
        option: what a message calls the option that the name was given for.

    Raises:
        TaskError: the name is unknown (near ones are offered), or a task file is malformed.
        DataSetError: the set is not there, has no such part, or its file is malformed.
    """
    if is_path(name):
        return _first(read_behavior(Path(name)), limit)
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set, of_subjects

    first, parts = _split(name, option, {*BEHAVIOR, *BEHAVIOR_SETS})
    if first in BEHAVIOR_SETS:
        return _first(of_subjects(behavior_set(first).items, parts, name=first), limit)
    put = {} if template == "auto" else {"template": template}
    return _first(BEHAVIOR[first](find_set(first, data), parts, put), limit)


def task_items(
    name: str | Path, *, data: Path | str | None = None, limit: int | None = None, shots: int = 0
) -> tuple[Item, ...]:
    """Choice, answer, text, code and own items by name.

    Args:
        name: see above.
        data: as for `behavior_items`.
        limit: at most so many, the first ones.
        shots: of MMLU and GSM8K, solved questions before each.

    Raises:
        TaskError, DataSetError: as `behavior_items`; a file has behavior items alone; shots of what has none.
    """
    if is_path(name):
        return _first(_of_file(Path(name)), limit)
    from steercpp.data.sets.builtin import CAPABILITY_SETS, capability_set, of_subjects

    first, parts = _split(name, "task", {*TASKS, *CAPABILITY_SETS, OWN})
    first = EVERYDAY if first == OWN else first
    if first in CAPABILITY_SETS:
        subjects = tuple(part for part in parts if part != BY_TEXT)
        items = _first(of_subjects(capability_set(first), subjects, name=first), limit)
        return items if subjects == parts else _by_text(first, items)
    if first == "mmlu":
        return mmlu(find_set(first, data), parts, limit, shots)
    if first == "gsm8k":
        return gsm8k(find_set(first, data), parts, limit, shots)
    return _first(TASKS[first](find_set(first, data), parts), limit)


def contrast_pairs(
    name: str | Path, *, data: Path | str | None = None, limit: int | None = None, template: str = "auto"
) -> tuple[ContrastPair, ...]:
    """Contrast pairs by name; arguments as of `behavior_items`.

    Raises:
        PairsError: a pair file is malformed. TaskError, DataSetError: as `behavior_items`.
    """
    if is_path(name):
        return _first(tuple(open_pairs(Path(name))), limit)
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set

    first, parts = _split(name, "pairs", {*PAIRS, *BEHAVIOR_SETS})
    if first in BEHAVIOR_SETS:
        _no_parts(name, parts)
        return _first(behavior_set(first).pairs, limit)
    put = {} if template == "auto" else {"template": template}
    return _first(PAIRS[first](find_set(first, data), parts, put), limit)


def names_pairs(name: str | Path) -> bool:
    """Whether a name is that of contrast pairs, and no file's."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS

    return not is_path(name) and str(name).partition(":")[0] in {*PAIRS, *BEHAVIOR_SETS}


def instruction_of(name: str | Path) -> str:
    """What asks for the behavior in words, for the prompt baseline; "" where there is no such text."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set

    first = "" if is_path(name) else str(name).partition(":")[0]
    if first in BEHAVIOR_SETS:
        return behavior_set(first).instruction
    if first == "stereoset":
        return DISAGREE
    return REFUSE if first in BEHAVIOR and first not in ("caa", "model-written") else ""


def _by_text(name: str, items: Sequence[Item]) -> tuple[Item, ...]:
    """Choice items asked by text: the question and "Answer:", after which a choice stands in its own words."""
    asked = tuple(
        replace(item, question=f"Question: {item.question}\nAnswer:", by="text")
        for item in items
        if isinstance(item, ChoiceItem)
    )
    if len(asked) < len(items):
        raise TaskError(f"{name}:{BY_TEXT}: its items have no choices; leave out :{BY_TEXT}")
    return asked


def opposite_of(name: str | Path) -> str:
    """What asks for the opposite of the behavior in words; "" where there is no such text."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set

    first = "" if is_path(name) else str(name).partition(":")[0]
    return behavior_set(first).opposite if first in BEHAVIOR_SETS else ""


def is_path(name: str | Path) -> bool:
    """Whether a name is the path of a file: there is one, or it could be nothing else."""
    text, path = str(name), Path(name)
    named_as_one = "/" in text or "\\" in text or text.lower().endswith(_FILES)
    return named_as_one or (path.exists() and not path.is_dir())  # a pipe is a file too


def short_name(name: str | Path) -> str:
    """What a file or a folder is called after a name: the file's own name without ending, or "set-part"."""
    return stem(Path(name)) if is_path(name) else str(name).replace(":", "-")


@once()
def _of_file(path: Path) -> tuple[Item, ...]:
    if is_named(path, ".csv"):
        return read_mmlu_csv(path)
    if items := tuple(item for item in read_tasks(path) if not isinstance(item, BehaviorItem)):
        return items
    raise TaskError(f"{path}: behavior items alone, which are for `behavior`; give choice, answer, text or code items")


def _first(items: Sequence[_Entry], limit: int | None) -> tuple[_Entry, ...]:
    return tuple(items[:limit])


def _split(name: str | Path, kind: str, offered: Iterable[str]) -> tuple[str, Parts]:
    """The set and its parts."""
    first, *parts = str(name).split(":")
    names = sorted(offered)
    if first in names:
        return first, tuple(parts)
    if first in DATA_SETS:
        raise TaskError(f"{name}: {first} has nothing for `{kind}`; use one of {', '.join(names)}, or a file")
    near = difflib.get_close_matches(first.lower(), names)
    advice = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names)}, or a file"
    raise TaskError(f"{str(name)!r} is neither a file nor a set for `{kind}`; {advice}")


def _no_parts(name: str | Path, parts: Parts) -> None:
    if parts:
        raise TaskError(f"{name}: the pairs of a built-in set have no parts; leave out :{':'.join(parts)}")


def _chosen(name: str, parts: Parts, **groups: Iterable[str]) -> dict[str, str | None]:
    """The part that is named of each group, at most one."""
    options = {key: tuple(values) for key, values in groups.items()}
    chosen: dict[str, str | None] = dict.fromkeys(options)
    for part in parts:
        known(part, [value for values in options.values() for value in values], f"{name} part")
        key = next(key for key, values in options.items() if part in values)
        if chosen[key] is not None:
            raise TaskError(f"{name}: {chosen[key]} and {part} exclude each other; name one {key}")
        chosen[key] = part
    return chosen


def _single(name: str, parts: Parts, what: str) -> str | None:
    if len(parts) > 1:
        raise TaskError(f"{name}:{':'.join(parts)}: name one {what}, and give the name again for another")
    return parts[0] if parts else None


def _advbench(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    target_alone = _chosen("advbench", parts, answer=("target",))["answer"] is not None
    return safety_items.advbench_items(DATA_SETS["advbench"].read(path), target_alone=target_alone, **put)


def _requests(name: str) -> Callable[[Path, Parts, Put], tuple[BehaviorItem, ...]]:
    def items(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
        _chosen(name, parts)
        return safety_items.plain_items(name, DATA_SETS[name].read(path), _REQUESTS[name], **put)

    return items


def _harmbench(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    kind = _chosen("harmbench", parts, kind=HARMBENCH_KINDS)["kind"]
    return safety_items.plain_items("harmbench", read_harmbench(path, kind=kind), "request", **put)


def _sides(path: Path, split: str, side: str | None) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """Harmful and harmless requests, those that are not wanted left out."""
    harmful, harmless = (
        read_instructions(path, side=subject, split=split) if side in (None, subject) else () for subject in SIDES
    )
    return harmful, harmless


def _instructions(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    chosen = _chosen("instructions", parts, split=SPLITS, side=SIDES)
    split = chosen["split"] or "test"
    harmful, harmless = _sides(path, split, chosen["side"])
    return safety_items.instruction_items(f"instructions:{split}", harmful, harmless, **put)


def _instruction_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    split = _chosen("instructions", parts, split=SPLITS)["split"] or "train"
    harmful, harmless = _sides(path, split, None)
    return safety_items.instruction_pairs(harmful, harmless, **put)


def _xstest(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    side = _chosen("xstest", parts, side=SIDES)["side"]
    items = safety_items.xstest_items(read_xstest(path), **put)
    return safety_items.of_subject(items, side) if side else items


def _xstest_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    _chosen("xstest", parts)
    return safety_items.xstest_pairs(read_xstest(path), **put)


def _stereoset(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    bias = _single("stereoset", parts, "kind of bias")
    return safety_items.stereoset_items(read_stereoset(path, bias_type=bias, task="intrasentence"), **put)


def _stereoset_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    if put:
        raise TaskError("stereoset: its pairs are statements in the paper's two forms; leave the template out")
    bias = _single("stereoset", parts, "kind of bias")
    return safety_items.stereoset_pairs(read_stereoset(path, bias_type=bias, task="intrasentence"))


def _caa_file(path: Path, parts: Parts, folder: str, file: str) -> tuple[str, Path]:
    """The behavior that is named, and its file."""
    behaviors = sorted(copy.parent.name for copy in (path / folder).glob(f"*/{file}"))
    name = _single("caa", parts, "behavior")
    if name is None:
        example = behaviors[0] if behaviors else "refusal"
        raise TaskError(f"caa: name a behavior, such as caa:{example}; there are {', '.join(behaviors)}")
    return name, path / folder / known(name, behaviors, "caa behavior", where=path) / file


def _caa(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    name, file = _caa_file(path, parts, "test", "test_dataset_ab.json")
    return knowledge_items.caa_items(name, read_caa(file))


def _caa_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    return tuple(open_pairs(_caa_file(path, parts, "generate", "generate_dataset.json")[1], format="caa"))


def mmlu(path: Path, parts: Parts, limit: int | None = None, shots: int = 0) -> tuple[Item, ...]:
    """Questions of a subject, or of all, after so many solved ones; `limit` is how many questions."""
    split = next((part for part in parts if part in MMLU_SPLITS), None)
    subject = _single("mmlu", tuple(part for part in parts if part != split), "subject")
    questions = read_mmlu(path, subject=subject, split=split)[:limit]
    dev = read_mmlu(path, subject=subject, split="dev") if shots else ()
    return knowledge_items.mmlu_items(questions, dev, shots=shots)


def gsm8k(path: Path, parts: Parts, limit: int | None = None, shots: int = 0) -> tuple[Item, ...]:
    """Problems of a split after the first so many solved ones of train; `limit` is how many problems."""
    split = _chosen("gsm8k", parts, split=GSM8K_SPLITS)["split"] or "test"
    solved = read_gsm8k(path, split="train")[:shots] if shots > 0 else ()
    return knowledge_items.gsm8k_items(split, read_gsm8k(path, split=split)[:limit], solved)


def _truthfulqa(path: Path, parts: Parts) -> tuple[Item, ...]:
    form, rows = _chosen("truthfulqa", parts, form=("all", "answers"))["form"], read_truthfulqa(path)
    if form == "answers":
        return knowledge_items.truthfulqa_answers(rows)
    return knowledge_items.truthfulqa_choices(rows, all_wrong=form == "all")


def _truthfulqa_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    _chosen("truthfulqa", parts)
    return knowledge_items.truthfulqa_pairs(read_truthfulqa(path))


def _bbq(path: Path, parts: Parts) -> tuple[Item, ...]:
    return bias_items.bbq_items(read_bbq(path, category=_single("bbq", parts, "category")))


def _crows(path: Path, parts: Parts) -> tuple[Item, ...]:
    return bias_items.crows_items(read_crows_pairs(path, bias_type=_single("crows-pairs", parts, "kind of bias")))


def _crows_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    return bias_items.crows_pairs(read_crows_pairs(path, bias_type=_single("crows-pairs", parts, "kind of bias")))


def _humaneval(path: Path, parts: Parts) -> tuple[Item, ...]:
    _chosen("humaneval", parts)
    return knowledge_items.humaneval_items(DATA_SETS["humaneval"].read(path))


def _caa_choices(path: Path, parts: Parts) -> tuple[Item, ...]:
    name = _chosen("caa-choices", parts, set=CAA_CHOICES)["set"]
    if name is None:
        raise TaskError(f"caa-choices: name a set, {' or '.join(f'caa-choices:{key}' for key in CAA_CHOICES)}")
    return knowledge_items.caa_choices(name, read_caa_choices(path / CAA_CHOICES[name]))


def _model_written_rows(path: Path, name: str | None) -> tuple[str, tuple[ModelWrittenQuestion, ...]]:
    """The behavior that is named, and its questions; of two files of one name persona/'s, then the model's own."""
    files: dict[str, Path] = {}
    for pattern in (
        "persona/*.jsonl",
        "advanced-ai-risk/lm*/*.jsonl",
        "advanced-ai-risk/h*/*.jsonl",
        "sycophancy/*.jsonl",
    ):
        for file in sorted(path.glob(pattern)):
            files.setdefault(file.stem, file)
    if name is None:
        raise TaskError(f"model-written: name a behavior, such as model-written:{next(iter(files), 'agreeableness')}")
    return name, read_model_written(files[known(name, files, "model-written behavior", where=path)])


def _model_written(path: Path, parts: Parts, put: Put) -> tuple[BehaviorItem, ...]:
    name, rows = _model_written_rows(path, _single("model-written", parts, "behavior"))
    return knowledge_items.model_written_items(name, rows)


def _model_written_pairs(path: Path, parts: Parts, put: Put) -> tuple[ContrastPair, ...]:
    named = tuple(part for part in parts if part != STATEMENTS)
    _, rows = _model_written_rows(path, _single("model-written", named, "behavior"))
    of = knowledge_items.model_written_pairs if named == parts else knowledge_items.statement_pairs
    return of(rows)


BEHAVIOR: Mapping[str, Callable[[Path, Parts, Put], tuple[BehaviorItem, ...]]] = {
    "advbench": _advbench, "instructions": _instructions, "xstest": _xstest, "stereoset": _stereoset, "caa": _caa,
    "model-written": _model_written, "harmbench": _harmbench,
    **{name: _requests(name) for name in _REQUESTS},
}  # fmt: skip
TASKS: Mapping[str, Callable[[Path, Parts], tuple[Item, ...]]] = {
    "truthfulqa": _truthfulqa, "humaneval": _humaneval, "caa-choices": _caa_choices,
    "mmlu": mmlu, "gsm8k": gsm8k, "bbq": _bbq, "crows-pairs": _crows,
}  # fmt: skip
PAIRS: Mapping[str, Callable[[Path, Parts, Put], tuple[ContrastPair, ...]]] = {
    "instructions": _instruction_pairs, "xstest": _xstest_pairs, "stereoset": _stereoset_pairs,
    "truthfulqa": _truthfulqa_pairs, "caa": _caa_pairs, "model-written": _model_written_pairs,
    "crows-pairs": _crows_pairs,
}  # fmt: skip
