"""The program in a generated answer: hand-written answers with the program that is expected, both ways."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from textwrap import indent
from typing import Any, cast

import pytest

from steercpp.choices import CODE_WAYS
from steercpp.data.items import CodeItem
from steercpp.data.sets.knowledge import read_humaneval
from steercpp.errors import InputError
from steercpp.judging.programs import PREAMBLE, _compiled, answer_code, first_function, program

HEAD = '''from typing import List


def total(xs: List[int]) -> int:
    """Add them up.
    >>> total([1])
    1
    """
'''
TEST = "def check(candidate):\n    assert candidate([1, 2]) == 3\n"
ITEM = CodeItem("t", HEAD, "total", TEST)
IMPORT = "from typing import List\n"
DEF = "def total(xs: List[int]) -> int:\n    return sum(xs)\n"
BODY = "    return sum(xs)\n"
PACKED = HEAD.replace("\n\n\n", "\n")  # blank lines between statements are not kept
CONTINUED = PACKED + BODY

# The answer, and the code that stands for it: all that the problem's test is put behind.
ANSWERS = {
    "continues": (BODY, CONTINUED),
    "continues, then more": (
        BODY + "\n\ndef other():\n    return 1\n\n\nprint(total([1]))\nassert total([1]) == 2\n",
        CONTINUED + "def other():\n    return 1\n",
    ),
    "continues, then talk": (BODY + "\nThis adds them up.", CONTINUED),
    "continues, then fences": (
        BODY + "\n```\n\nExample:\n```python\ntotal([1])\ntotal([2])\ntotal([3])\n```\n",
        CONTINUED,
    ),
    "continues, then a second version": (BODY + "\ndef total(xs):\n    return 0\n", CONTINUED),
    "continues, cut off": (BODY + "\n\ndef other():\n    if (", CONTINUED),
    "lost its first spaces": ("return sum(xs)\n", CONTINUED),
    "lost its first spaces alone": (
        "n = 0\n    for x in xs:\n        n += x\n    return n",
        PACKED + "    n = 0\n    for x in xs:\n        n += x\n    return n\n",
    ),
    "lost its indentation": (
        "n = 0\nfor x in xs:\n    n += x\nreturn n",
        PACKED + "    n = 0\n    for x in xs:\n        n += x\n    return n\n",
    ),
    "repeats the head": (DEF, IMPORT + DEF),
    "repeats it after a space": (" " + DEF, IMPORT + DEF),
    "repeats it, indented": (indent("import math\n" + DEF, "  "), IMPORT + "import math\n" + DEF),
    "repeats it with talk": ("Sure! Here it is:\n\n" + DEF + "\nHope this helps.", IMPORT + DEF),
    "talk that looks like code": ("from what you say:\n" + DEF, IMPORT + DEF),
    "own imports and helpers": (
        "import math\nfrom operator import add\n\nK = 1\n\n\ndef plus(a, b):\n    return add(a, b)\n\n\n@staticmethod\n"
        + DEF,
        IMPORT
        + "import math\nfrom operator import add\nK = 1\ndef plus(a, b):\n    return add(a, b)\n@staticmethod\n"
        + DEF,
    ),
    "a future import": (
        "import math\nfrom __future__ import annotations\n" + DEF,
        "from __future__ import annotations\n" + IMPORT + "import math\n" + DEF,
    ),
    "fenced": (f"Sure:\n```python\n{DEF}```\nIt adds.", IMPORT + DEF),
    "fenced, indented": ("1. So:\n\n   ```\n" + indent(DEF, "   ") + "   ```\n", IMPORT + DEF),
    "fenced, never closed": (f"```py\n{DEF}", IMPORT + DEF),
    "fenced, windows lines": (f"```python\n{DEF}```\n".replace("\n", "\r\n"), IMPORT + DEF),
    "fenced behind an example": (f"You call it so:\n```\ntotal([1])\n```\nand\n```\n{DEF}```", IMPORT + DEF),
    "fenced body": ("Sure:\n```python\nreturn sum(xs)\n```\n", CONTINUED),
    "fenced, with tests": (f"```\n{DEF}\nassert total([]) == 1\nif True:\n    exit()\n```", IMPORT + DEF),
    "two on a line": ("x = 1; print(x)\n" + DEF, IMPORT + "x = 1; print(x)\n" + DEF),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_the_program_in_an_answer(name: str) -> None:
    answer, expected = ANSWERS[name]
    code = answer_code(ITEM, answer)
    assert code == expected
    assert program(ITEM, answer) == f"{expected.rstrip()}\n\n{TEST.rstrip()}\n\ncheck(total)\n"
    exec(program(ITEM, answer), {})


@pytest.mark.parametrize("answer", ["", "I cannot help with that, sorry.", "```python\n```", "\x00", "(" * 5000, "🙂"])
def test_an_answer_without_a_program_fails(answer: str) -> None:
    with pytest.raises((SyntaxError, ValueError, AssertionError, NameError, MemoryError, RecursionError)):
        exec(program(ITEM, answer), {})


def test_functions_above_the_head_are_given_to_an_answer_that_repeats_it() -> None:
    head = 'def half(x):\n    return x // 2\n\n\ndef total(xs):\n    """Half of each."""\n'
    item = CodeItem("t", head, "total", "def check(candidate):\n    assert candidate([2, 4]) == 3\n")
    answer = "def total(xs):\n    return sum(map(half, xs))\n"
    exec(program(item, answer), {})
    exec(program(item, "    return sum(map(half, xs))\n"), {})
    # Theirs takes the first function alone: of the continuation that is the helper, so that nothing can pass.
    assert first_function(item, "    return sum(map(half, xs))\n") == "def half(x):\n    return x // 2\n\n"
    with pytest.raises(NameError, match="total"):
        exec(program(item, "    return sum(map(half, xs))\n", way="wolf2024"), {})


def test_every_form_of_a_right_answer_to_humaneval_keeps_its_function(test_data: Path) -> None:
    def function(source: str, name: str) -> str:
        (found,) = [one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef) and one.name == name]
        return ast.dump(found)

    for item in read_humaneval(test_data / "datasets" / "humaneval" / "HumanEval.jsonl.gz"):
        body = item.canonical_solution
        whole = item.prompt + body
        answers = {
            "body": body,
            "body without its first spaces": body.strip(),
            "body, then more": f"{body}\n\ndef other(x):\n    return 1\n\nprint(other(1))\n",
            "fenced": f"Sure:\n```python\n{whole}\n```\nDone.",
            "talk": f"Sure, here it is:\n\n{whole}\n\nThis works.",
            "space": f" {whole}",
        }
        for name, answer in answers.items():
            found = function(answer_code(item, answer), item.entry_point)
            assert found == function(whole, item.entry_point), (item.task_id, name)


def test_the_studys_extraction_loses_four_of_its_own_problems(test_data: Path) -> None:
    """Those with a helper function above the head: a right continuation of them cannot pass."""
    lost = [
        item.task_id
        for item in read_humaneval(test_data / "datasets" / "humaneval" / "HumanEval.jsonl.gz")
        if f"def {item.entry_point}" not in first_function(item, item.canonical_solution)
    ]
    assert lost == [f"HumanEval/{number}" for number in (10, 32, 38, 50)]


def test_the_longest_run_of_lines_is_found(test_data: Path) -> None:
    """Against every shorter one tried in turn: solutions with lines put in that are none, or none there."""
    junk = (
        "This works, since", "```", "def foo(", "x = (1,", "    return x", "print('a", "'''", "return 5", "else:",
        "if x:", "@dec", "]", ")", "        pass", "Note: (a, b", "", "1 +", "try:", "x = {1:", "    await x", "break",
    )  # fmt: skip
    rng = random.Random(4)
    problems = read_humaneval(test_data / "datasets" / "humaneval" / "HumanEval.jsonl.gz")
    for item in rng.choices(problems, k=200):
        lines = item.canonical_solution.rstrip().split("\n")
        for _ in range(rng.randint(0, 5)):
            lines.insert(rng.randint(0, len(lines)), rng.choice(junk))
        text = "\n".join(lines).rstrip()
        given = item.prompt.rstrip("\n") + "\n"
        runs = range(text.count("\n") + 1, 0, -1)
        longest = next((n for n in runs if _compiles(given + "\n".join(lines[:n]) + "\n")), 0)
        assert _compiled(item.prompt, text, item.entry_point)[0] == longest, text


def _compiles(source: str) -> bool:
    try:
        compile(source, "answer", "exec")
    except SyntaxError:
        return False
    return True


# The answer, and what the study's code takes of it.
WOLF = {
    "continues": (BODY, HEAD[HEAD.index("def") :] + BODY),
    "continues, then more": (BODY + "\ndef other():\n    return 1\n", HEAD[HEAD.index("def") :] + BODY),
    "repeats the head with talk": ("Sure! The def is:\n" + DEF, "Sure! The def is:"),
    "repeats the head": ("Sure! Here:\n\n" + DEF + "\nHope this helps.", DEF),
    "drops imports and helpers": (
        "import math\n\ndef plus(a):\n    return a\n\n" + DEF,
        "def plus(a):\n    return a\n",
    ),
    "fenced": (f"```python\n{DEF}```\n", DEF.rstrip()),
    "nothing": ("", HEAD[HEAD.index("def") :]),
}


@pytest.mark.parametrize("name", WOLF)
def test_the_extraction_of_the_study(name: str) -> None:
    answer, expected = WOLF[name]
    assert first_function(ITEM, answer).rstrip() == expected.rstrip()
    assert program(ITEM, answer, way="wolf2024").startswith(PREAMBLE)


def test_the_preamble_runs_on_the_standard_library_alone() -> None:
    space: dict[str, Any] = {}
    exec(PREAMBLE, space)
    assert {"math", "re", "List", "collections"} <= set(space) and "numpy" not in PREAMBLE


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(InputError, match="'best'.*whole or wolf2024"):
        program(ITEM, BODY, way=cast(Any, "best"))
    assert CODE_WAYS == ("whole", "wolf2024")
