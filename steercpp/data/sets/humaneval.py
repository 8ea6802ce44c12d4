"""HumanEval: Python functions to be completed, each with a test.

Source: openai/human-eval data/HumanEval.jsonl.gz (Chen et al. 2021, arXiv:2107.03374).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steercpp.data.sets.records import filled, json_line_records


@dataclass(frozen=True, slots=True)
class CodeProblem:
    """A function's head and docstring, the solution that continues it, and `check(candidate)` that tests it."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    place: str = field(default="", compare=False, repr=False)


def read_humaneval(path: Path | str) -> tuple[CodeProblem, ...]:
    """Problems of HumanEval.jsonl.gz, packed or not.

    Raises:
        DataSetError: unreadable, a gzip file cut off or damaged, not UTF-8, not JSON, a field missing or no text, a
            task_id that occurs twice (path:line), or no problem at all.
    """
    problems: dict[str, CodeProblem] = {}
    for row in json_line_records(path):
        problem = CodeProblem(
            row.text("task_id"),
            row.text("prompt"),
            row.text("entry_point"),
            row.text("canonical_solution"),
            row.text("test"),
            row.place,
        )
        if problem.task_id in problems:
            raise row.error(f"task_id {problem.task_id!r} occurs twice; keep one of them")
        problems[problem.task_id] = problem
    return filled(problems.values(), path)
