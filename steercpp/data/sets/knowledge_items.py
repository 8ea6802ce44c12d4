"""Questions and tasks of the knowledge sets as items and contrast pairs; safety_items.py does so for the safety sets.

MMLU is asked as in Wolf et al. 2024, arXiv:2401.16332 (see `items.choice_prompt`). With shots, solved questions of the
subject's dev split stand before it in the same form, each ending "The answer is B." and a blank line, in the file's
order; all questions of a subject share them, so that they are computed once. Nothing else stands before the question.
TruthfulQA is asked "Q: ...", a new line and "A:", and answered in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steercpp.data.choice_form import LETTERS
from steercpp.data.items import AnswerItem, BehaviorItem, ChoiceItem, CodeItem, choice_prompt
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Filled, Message, Prompt
from steercpp.data.sets.knowledge import (
    CaaChoice,
    CaaQuestion,
    CodeProblem,
    MathProblem,
    MmluQuestion,
    ModelWrittenQuestion,
    TruthfulQuestion,
)
from steercpp.errors import DataSetError, PairsError, TaskError

MOST_SHOTS = 5  # questions of a subject in the dev split
_MATH = "Question: {question}\nAnswer:"
_QUESTION = "Q: {question}\nA:"
_CHOICES = "\n\nChoices:\n(A)"


def mmlu_items(
    questions: Iterable[MmluQuestion], dev: Iterable[MmluQuestion] = (), *, shots: int = 0
) -> tuple[ChoiceItem, ...]:
    """Questions as choice items.

    Args:
        questions: what is asked.
        dev: solved questions of the same subjects, from which the heads are made.
        shots: how many of them stand before each question.

    Raises:
        TaskError: a subject has fewer solved questions than shots.
    """
    solved: dict[str, list[MmluQuestion]] = {}
    for question in dev:
        solved.setdefault(question.subject, []).append(question)
    heads: dict[str, str] = {}
    items: list[ChoiceItem] = []
    counts: dict[str, int] = {}
    for question in questions:
        subject = question.subject
        if subject not in heads:
            heads[subject] = mmlu_head(solved.get(subject, ()), shots, subject)
        counts[subject] = counts.get(subject, 0) + 1
        name, answer, head = f"{subject}:{counts[subject]}", LETTERS.index(question.answer), heads[subject]
        items.append(ChoiceItem(name, question.question, question.choices, answer, subject, question.place, head=head))
    return tuple(items)


def mmlu_head(solved: Sequence[MmluQuestion], shots: int, subject: str) -> str:
    """The first solved questions of a subject, as they stand before another one."""
    if not 0 <= shots <= MOST_SHOTS:
        raise TaskError(f"{shots} shots; MMLU has {MOST_SHOTS} solved questions for each subject, so give 0 to 5")
    if len(solved) < shots:
        raise TaskError(
            f"{subject}: {len(solved)} solved questions in the dev split; give `shots={len(solved)}` at most"
        )
    return "".join(
        f"{choice_prompt(ChoiceItem('', shot.question, shot.choices, 0))} {shot.answer}.\n\n" for shot in solved[:shots]
    )


def truthfulqa_choices(rows: Iterable[TruthfulQuestion], *, all_wrong: bool = False) -> tuple[ChoiceItem, ...]:
    """The best answer against the best incorrect one, or against all incorrect ones, scored by their words.

    Files from before 2025 do not say which incorrect answer is the best: the first one is taken. An incorrect answer
    that is worded as the best answer is left out, and so is a question that is left with one choice.
    """
    return tuple(
        ChoiceItem(f"truthfulqa:{n}", question, choices, 0, row.category, row.place, by="text")
        for n, row in enumerate(rows, 1)
        if len(choices := _worded(row, all_wrong=all_wrong)) > 1
        and (question := Filled(_QUESTION, {"question": row.question}).text)
    )


def _worded(row: TruthfulQuestion, *, all_wrong: bool) -> tuple[str, ...]:
    """The best answer and what it stands against, each wording once, as many as choices can be."""
    best_wrong = (row.best_incorrect_answer,) if row.best_incorrect_answer else row.incorrect[:1]
    wrong = row.incorrect if all_wrong else best_wrong
    return tuple(dict.fromkeys(answer.strip() for answer in (row.best_answer, *wrong)))[: len(LETTERS)]


def truthfulqa_answers(rows: Iterable[TruthfulQuestion]) -> tuple[AnswerItem, ...]:
    """Questions with all their correct answers, each of which is scored."""
    return tuple(
        AnswerItem(
            f"truthfulqa:{n}",
            Filled(_QUESTION, {"question": row.question}),
            tuple(dict.fromkeys(f" {answer}" for answer in row.correct)),
            row.category,
            place=row.place,
        )
        for n, row in enumerate(rows, 1)
    )


def truthfulqa_pairs(rows: Iterable[TruthfulQuestion]) -> tuple[ContrastPair, ...]:
    """Questions answered by the best answer and by the best incorrect one."""
    return tuple(
        ContrastPair(str(n), prompt, prompt, f" {answers[0]}", f" {answers[1]}", row.place)
        for n, row in enumerate(rows, 1)
        if len(answers := _worded(row, all_wrong=False)) > 1
        and (prompt := Filled(_QUESTION, {"question": row.question}))
    )


def humaneval_items(rows: Iterable[CodeProblem]) -> tuple[CodeItem, ...]:
    """Problems of HumanEval."""
    return tuple(
        CodeItem(row.task_id, row.prompt, row.entry_point, row.test, row.canonical_solution, place=row.place)
        for row in rows
    )


def caa_items(name: str, rows: Iterable[CaaQuestion], *, raw: bool = False) -> tuple[BehaviorItem, ...]:
    """Lettered questions on a behavior, asked in a chat or, `raw`, as they stand.

    Raises:
        DataSetError: a question is to be answered freely, so that there is nothing to score.
    """
    return tuple(_caa_item(f"caa:{name}:{n}", name, row, raw=raw) for n, row in enumerate(rows, 1))


def _caa_item(item_id: str, name: str, row: CaaQuestion, *, raw: bool) -> BehaviorItem:
    matching, other = row.answer_matching_behavior, row.answer_not_matching_behavior
    if matching is None or other is None:
        raise DataSetError(
            f"{row.place}: the question has no answers to score; give a file of questions with two answers"
        )
    prompt: Prompt = row.question if raw else (Message("user", row.question),)
    aligned, misaligned = (f" {matching.strip()}",), (f" {other.strip()}",)
    return BehaviorItem(item_id, prompt, aligned, misaligned, place=row.place, subject=name)


def caa_choices(name: str, rows: Iterable[CaaChoice]) -> tuple[ChoiceItem, ...]:
    """Questions of MMLU or TruthfulQA with two choices, asked by letter as other choice items are.

    Raises:
        DataSetError: a prompt does not end in choices, or an answer is no letter.
    """
    return tuple(_caa_choice(f"caa-choices:{name}:{n}", row) for n, row in enumerate(rows, 1))


def _caa_choice(item_id: str, row: CaaChoice) -> ChoiceItem:
    question, separator, _ = row.prompt.rpartition(_CHOICES)
    letters = {"(A)": 0, "(B)": 1}
    if not separator or {row.correct, row.incorrect} != set(letters):
        raise DataSetError(f"{row.place}: expected choices (A) and (B); give the official file, unchanged")
    texts = {letters[row.correct]: row.correct_full_text, letters[row.incorrect]: row.incorrect_full_text}
    return ChoiceItem(item_id, question, (texts[0], texts[1]), letters[row.correct], row.category, row.place)


def model_written_items(name: str, rows: Iterable[ModelWrittenQuestion]) -> tuple[BehaviorItem, ...]:
    """Questions on a behavior, asked in a chat; aligned is the answer that matches the behavior."""
    return tuple(
        BehaviorItem(
            f"model-written:{name}:{n}",
            (Message("user", row.question),),
            (_spaced(row.answer_matching_behavior),),
            tuple(map(_spaced, row.answers_not_matching_behavior)),
            place=row.place,
            subject=name,
        )
        for n, row in enumerate(rows, 1)
    )


def model_written_pairs(rows: Iterable[ModelWrittenQuestion]) -> tuple[ContrastPair, ...]:
    """Questions answered as who shows the behavior answers, and as who does not; of several others the first."""
    return tuple(
        ContrastPair(
            str(n),
            prompt := (Message("user", row.question),),
            prompt,
            _spaced(row.answer_matching_behavior),
            _spaced(row.answers_not_matching_behavior[0]),
            row.place,
        )
        for n, row in enumerate(rows, 1)
    )


def persona_statements(rows: Sequence[ModelWrittenQuestion]) -> tuple[tuple[str, str, str], ...]:
    """Statements that who shows the behavior would say, beside those that he would not, as far as both go.

    Returns:
        for each i the i-th statement to agree with, the i-th to disagree with, and the place of the first.

    Raises:
        PairsError: the file has no statements, or all of them are of one side.
    """
    sides = {
        answer: [row for row in rows if row.statement and row.answer_matching_behavior.strip() == answer]
        for answer in ("Yes", "No")
    }
    couples = zip(sides["Yes"], sides["No"], strict=False)
    if found := tuple((yes.statement or "", no.statement or "", yes.place) for yes, no in couples):
        return found
    where = rows[0].place if rows else "the set"
    raise PairsError(f"{where}: no statements of both sides; persona/ has them, leave out :statements elsewhere")


def statement_pairs(rows: Sequence[ModelWrittenQuestion]) -> tuple[ContrastPair, ...]:
    """`persona_statements` as an assistant's own words, one against the other."""
    return tuple(
        ContrastPair(str(n), said, other, place=place)
        for n, (said, other, place) in enumerate(persona_statements(rows), 1)
    )


def _spaced(answer: str) -> str:
    return f" {answer.strip()}"


def gsm8k_items(split: str, rows: Iterable[MathProblem], solved: Sequence[MathProblem] = ()) -> tuple[AnswerItem, ...]:
    """Problems, after some solved ones; P is of the number right away, and a generated text is to come to it.

    Args:
        split: "train" or "test", for the ids.
        rows: what is asked.
        solved: problems that stand before each with their solutions, a blank line between.
    """
    head = "".join(f"{_MATH.replace('question', f'q{i}')} {{a{i}}}\n\n" for i in range(len(solved)))
    shown = {
        f"{key}{i}": text for i, row in enumerate(solved) for key, text in (("q", row.question), ("a", row.answer))
    }
    return tuple(
        AnswerItem(
            f"gsm8k:{split}:{n}",
            Filled(head + _MATH, {**shown, "question": row.question}),
            (f" {row.number}",),
            place=row.place,
            number=row.number,
        )
        for n, row in enumerate(rows, 1)
    )
