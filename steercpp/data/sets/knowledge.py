"""Rows of the sets that ask what a model knows or can do: MMLU, TruthfulQA, HumanEval and CAA's questions.

Sources, by their files: hendrycks/test, data.tar (Hendrycks et al. 2021, arXiv:2009.03300): {dev,val,test}/
{subject}_{split}.csv without header; sylinrl/TruthfulQA TruthfulQA.csv (Lin et al. 2022, arXiv:2109.07958);
openai/human-eval data/HumanEval.jsonl.gz (Chen et al. 2021, arXiv:2107.03374); nrimsky/CAA datasets/generate and
datasets/test (Rimsky et al. 2024, arXiv:2312.06681), of which ../pair_formats.py makes contrast pairs; anthropics/evals
persona, advanced-ai-risk and sycophancy (Perez et al. 2022, arXiv:2212.09251); openai/grade-school-math
grade_school_math/data (GSM8K, Cobbe et al. 2021, arXiv:2110.14168).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from steercpp.data.sets.records import (
    Record,
    csv_records,
    filled,
    headerless_records,
    json_line_records,
    json_records,
    known,
    refuse_parts,
)
from steercpp.errors import DataSetError
from steercpp.inputs import stem

GSM8K_SPLITS = ("train", "test")
MMLU_SPLITS = ("dev", "val", "test")
_MMLU_COLUMNS = ("question", "A", "B", "C", "D", "letter")
_TRUTHFUL = ("Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source")
_TRUTHFUL_2025 = (*_TRUTHFUL[:4], "Best Incorrect Answer", *_TRUTHFUL[4:])
_FINAL = re.compile(r"####\s*(-?[\d,]+(?:\.\d+)?)\s*", re.ASCII)  # the last line of a solution of GSM8K
_CAA_ANSWERS = ("answer_matching_behavior", "answer_not_matching_behavior")


@dataclass(frozen=True, slots=True)
class MmluQuestion:
    """A question with four choices; `answer` is the letter of the right one, A to D."""

    subject: str
    question: str
    choices: tuple[str, str, str, str]
    answer: str
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TruthfulQuestion:
    """A question that many people answer wrongly.

    `correct_answers` and `incorrect_answers` are texts in which a semicolon parts the answers; `best_incorrect_answer`
    is None in files from before 2025, which lack that column.
    """

    type: str
    category: str
    question: str
    best_answer: str
    correct_answers: str
    incorrect_answers: str
    source: str
    best_incorrect_answer: str | None = None
    place: str = field(default="", compare=False, repr=False)

    @property
    def correct(self) -> tuple[str, ...]:
        """The correct answers one by one."""
        return _listed(self.correct_answers)

    @property
    def incorrect(self) -> tuple[str, ...]:
        """The incorrect answers one by one."""
        return _listed(self.incorrect_answers)


@dataclass(frozen=True, slots=True)
class CodeProblem:
    """A function's head and docstring, the solution that continues it, and `check(candidate)` that tests it."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class MathProblem:
    """A problem in words and its solution in steps, whose last line is "#### 42"."""

    question: str
    answer: str
    place: str = field(default="", compare=False, repr=False)

    @property
    def number(self) -> str:
        """What the solution comes to, without commas."""
        found = _FINAL.fullmatch(self.answer.rpartition("\n")[2])
        assert found is not None
        return found[1].replace(",", "")


@dataclass(frozen=True, slots=True)
class CaaQuestion:
    """A question with lettered answers, or, where both answers are None, one to be answered freely."""

    question: str
    answer_matching_behavior: str | None
    answer_not_matching_behavior: str | None
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ModelWrittenQuestion:
    """A question on a behavior, with the answer of who shows it and the answers of who does not.

    `statement` is the text that a persona question asks about, and `label_confidence` how sure its labels are; both are
    None outside persona/. Files of sycophancy/ with more than two choices list several answers that do not match.
    """

    question: str
    statement: str | None
    answer_matching_behavior: str
    answers_not_matching_behavior: tuple[str, ...]
    label_confidence: float | None = None
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


def mmlu_subjects(path: Path | str, *, split: str = "test") -> tuple[str, ...]:
    """Subjects that the folder has in this split, by name.

    Args:
        path: the folder that holds dev/, val/ and test/.
        split: "dev", "val" or "test".

    Raises:
        DataSetError: unknown split, or no files of it there.
    """
    folder = Path(path) / known(split, MMLU_SPLITS, "split", where=path)
    ending = f"_{split}.csv"
    if subjects := sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}")):
        return tuple(subjects)
    raise DataSetError(f"{folder}: no files *{ending}; give the unpacked folder that holds dev/, val/ and test/")


def read_mmlu(path: Path | str, *, subject: str | None = None, split: str | None = None) -> tuple[MmluQuestion, ...]:
    """Questions of one file, or of the official folder.

    Args:
        path: a file {subject}_{split}.csv, or the folder that holds dev/, val/ and test/.
        subject: of a folder, one alone, such as "international_law"; None for all, by name.
        split: of a folder, "dev" (five questions a subject, for k-shot prompts), "val" or "test"; None for test.

    Raises:
        DataSetError: unknown subject (near ones are offered) or split, or either asked of a file; unreadable, not
            UTF-8, a row of another width or answer (path:line), or no row at all.
    """
    path = Path(path)
    if not path.is_dir():
        refuse_parts(path, subject=subject, split=split)
        return read_mmlu_file(path)
    split = split or "test"
    subjects = mmlu_subjects(path, split=split)
    chosen = subjects if subject is None else (known(subject, subjects, "subject", where=path),)
    return tuple(row for name in chosen for row in read_mmlu_file(path / split / f"{name}_{split}.csv"))


def read_mmlu_file(path: Path) -> tuple[MmluQuestion, ...]:
    """Questions of one file, official or of the same form: a choice may be blank, and a letter small.

    Raises:
        DataSetError: unreadable, not UTF-8, a row of another width or answer (path:line), or no row at all.
    """
    subject = stem(path)
    for split in MMLU_SPLITS:
        subject = subject.removesuffix(f"_{split}")
    return filled((_mmlu(subject, row) for row in headerless_records(path, _MMLU_COLUMNS)), path)


def _mmlu(subject: str, row: Record) -> MmluQuestion:
    a, b, c, d = (row.text(letter, may_be_blank=True) for letter in "ABCD")
    answer = row.text("letter").strip().upper()
    if answer not in tuple("ABCD"):
        raise row.error(f"'letter' is {answer!r}; expected A or B or C or D")
    return MmluQuestion(subject, row.text("question"), (a, b, c, d), answer, row.place)


def read_truthfulqa(path: Path | str) -> tuple[TruthfulQuestion, ...]:
    """Rows of TruthfulQA.csv.

    Raises:
        DataSetError: unreadable, not UTF-8, another header, a row of another width, a blank field (path:line), or no
            row at all.
    """
    return filled(map(_truthful, csv_records(path, _TRUTHFUL, _TRUTHFUL_2025)), path)


def _truthful(row: Record) -> TruthfulQuestion:
    key = "Best Incorrect Answer"
    *texts, place = row.texts(*_TRUTHFUL, may_be_blank=("Source",))
    best_incorrect = row.text(key) if key in row.fields else None
    return replace(TruthfulQuestion(*texts), best_incorrect_answer=best_incorrect, place=place)


def _listed(answers: str) -> tuple[str, ...]:
    return tuple(answer.strip() for answer in answers.split(";") if answer.strip())


def read_humaneval(path: Path | str) -> tuple[CodeProblem, ...]:
    """Problems of HumanEval.jsonl.gz, packed or not.

    Raises:
        DataSetError: unreadable, a gzip file cut off or damaged, not UTF-8, not JSON, a field missing or no text, a
            task_id that occurs twice (path:line), or no problem at all.
    """
    problems: dict[str, CodeProblem] = {}
    rows = (
        row.texts("task_id", "prompt", "entry_point", "canonical_solution", "test") for row in json_line_records(path)
    )
    for texts in filled(rows, path):
        problem = CodeProblem(*texts)
        if problem.task_id in problems:
            raise DataSetError(f"{problem.place}: task_id {problem.task_id!r} occurs twice; keep one of them")
        problems[problem.task_id] = problem
    return tuple(problems.values())


def read_caa(path: Path | str) -> tuple[CaaQuestion, ...]:
    """Questions of generate_dataset.json, test_dataset_ab.json or test_dataset_open_ended.json.

    Raises:
        DataSetError: unreadable, not UTF-8, no JSON array, a field missing or no text (path:line), or none at all.
    """
    return filled(map(_question, json_records(path)), path)


def _question(row: Record) -> CaaQuestion:
    matching, other = map(row.text, _CAA_ANSWERS) if set(_CAA_ANSWERS) & set(row.fields) else (None, None)
    return CaaQuestion(row.text("question"), matching, other, row.place)


def read_caa_choices(path: Path | str) -> tuple[CaaChoice, ...]:
    """Questions of mmlu.json or truthful_qa.json; raises like `read_caa`."""
    texts = ("correct_full_text", "incorrect_full_text")
    names = ("prompt", "correct", "incorrect", *texts, "category")
    return filled((CaaChoice(*row.texts(*names, may_be_blank=texts)) for row in json_records(path)), path)


def read_model_written(path: Path | str) -> tuple[ModelWrittenQuestion, ...]:
    """Questions of one file of the model-written evaluations, JSON Lines.

    Raises:
        DataSetError: unreadable, not UTF-8, not JSON, a field missing or of another kind (path:line), or none at all.
    """
    return filled(map(_model_written, json_line_records(path)), path)


def _model_written(row: Record) -> ModelWrittenQuestion:
    matching, other = _CAA_ANSWERS
    others = row.all_texts(other) if isinstance(row.fields.get(other), list) else (row.text(other),)
    confidence = row.fields.get("label_confidence")
    if confidence is not None and (isinstance(confidence, bool) or not isinstance(confidence, int | float)):
        raise row.error("'label_confidence' is no number; give the official file, unchanged")
    statement = row.text("statement") if "statement" in row.fields else None
    if row.text(matching) in others:
        raise row.error(f"{row.text(matching)!r} is {matching!r} and {other!r}; give the official file, unchanged")
    return ModelWrittenQuestion(
        row.text("question"), statement, row.text(matching), others,
        None if confidence is None else float(confidence), row.place,
    )  # fmt: skip


def read_gsm8k(path: Path | str, *, split: str | None = None) -> tuple[MathProblem, ...]:
    """Problems of one file, or of the folder of train.jsonl and test.jsonl.

    Args:
        path: a file, or the folder.
        split: of a folder, "train" or "test"; None for test.

    Raises:
        DataSetError: unknown split, or a split asked of a file; unreadable, not UTF-8, not JSON, a field missing or
            blank, an answer that does not end in a line such as "#### 42" (path:line), or no problem at all.
    """
    path = Path(path)
    if path.is_dir():
        path /= f"{known(split or 'test', GSM8K_SPLITS, 'split', where=path)}.jsonl"
    else:
        refuse_parts(path, split=split)
    return filled(map(_math_problem, json_line_records(path)), path)


def _math_problem(row: Record) -> MathProblem:
    if not _FINAL.fullmatch(row.text("answer").rpartition("\n")[2]):
        raise row.error("'answer' does not end in a line with its number, like '#### 42'; give the official file")
    return MathProblem(*row.texts("question", "answer"))
