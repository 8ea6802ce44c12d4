"""Questions with known answers: MMLU and TruthfulQA.

Sources, by their files: hendrycks/test, data.tar (Hendrycks et al. 2021, arXiv:2009.03300): {dev,val,test}/
{subject}_{split}.csv without header; sylinrl/TruthfulQA TruthfulQA.csv (Lin et al. 2022, arXiv:2109.07958).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steercpp.data.sets.records import Record, csv_records, filled, headerless_records, known, refuse_parts
from steercpp.errors import DataSetError

MMLU_SPLITS = ("dev", "val", "test")
_MMLU_COLUMNS = ("question", "A", "B", "C", "D", "letter")
_TRUTHFUL = ("Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source")
_TRUTHFUL_2025 = (*_TRUTHFUL[:4], "Best Incorrect Answer", *_TRUTHFUL[4:])


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
        return _parts(self.correct_answers)

    @property
    def incorrect(self) -> tuple[str, ...]:
        """The incorrect answers one by one."""
        return _parts(self.incorrect_answers)


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
    if found := sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}")):
        return tuple(found)
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
        return _mmlu_file(path)
    split = split or "test"
    subjects = mmlu_subjects(path, split=split)
    chosen = subjects if subject is None else (known(subject, subjects, "subject", where=path),)
    return tuple(row for name in chosen for row in _mmlu_file(path / split / f"{name}_{split}.csv"))


def _mmlu_file(path: Path) -> tuple[MmluQuestion, ...]:
    subject = path.stem
    for split in MMLU_SPLITS:
        subject = subject.removesuffix(f"_{split}")
    return filled((_mmlu(subject, row) for row in headerless_records(path, _MMLU_COLUMNS)), path)


def _mmlu(subject: str, row: Record) -> MmluQuestion:
    choices = (row.text("A"), row.text("B"), row.text("C"), row.text("D"))
    return MmluQuestion(subject, row.text("question"), choices, row.one_of("letter", "ABCD"), row.place)


def read_truthfulqa(path: Path | str) -> tuple[TruthfulQuestion, ...]:
    """Rows of TruthfulQA.csv.

    Raises:
        DataSetError: unreadable, not UTF-8, another header, a row of another width, a blank field (path:line), or no
            row at all.
    """
    return filled(map(_truthful, csv_records(path, _TRUTHFUL, _TRUTHFUL_2025)), path)


def _truthful(row: Record) -> TruthfulQuestion:
    key = "Best Incorrect Answer"
    return TruthfulQuestion(
        row.text("Type"),
        row.text("Category"),
        row.text("Question"),
        row.text("Best Answer"),
        row.text("Correct Answers"),
        row.text("Incorrect Answers"),
        row.text("Source", may_be_blank=True),
        row.text(key) if key in row.fields else None,
        row.place,
    )


def _parts(answers: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in answers.split(";") if part.strip())
