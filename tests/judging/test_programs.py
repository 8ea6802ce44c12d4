"""The program in a generated answer: hand-written answers with the program that is expected, both ways."""

from __future__ import annotations

import ast
import builtins
import random
from pathlib import Path
from textwrap import indent
from typing import Any, cast

import pytest

from steercpp.choices import CODE_WAYS
from steercpp.data.items import CodeItem
from steercpp.data.sets.knowledge import read_humaneval
from steercpp.errors import InputError
from steercpp.judging import code_blocks as code_blocks_module
from steercpp.judging.code_blocks import code_blocks
from steercpp.judging.programs import PREAMBLE, _compiled, answer_code, first_function, program, programs

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
    "two on a line": ("x = 1; print(x)\n" + DEF, IMPORT + "x = 1\n" + DEF),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_the_program_in_an_answer(name: str) -> None:
    answer, expected = ANSWERS[name]
    code = answer_code(ITEM, answer)
    assert code == expected
    assert program(ITEM, answer) == f"{expected.rstrip()}\n\n{TEST.rstrip()}\n\ncheck(total)\n"
    exec(program(ITEM, answer), {})


def fenced(code: str, fence: str = "```python") -> str:
    return f"{fence}\n{code.rstrip()}\n{fence.rstrip('python')}\n"


FUNCTION = "def total(xs):\n    return sum(xs)\n"
LATER = "def total(xs):\n    return sum(TABLE[x] for x in xs)\n"
DRAFT = "def total(xs):\n    return 0\n"

# Right answers whose program passes when it is run whole behind its prompt (what reads input left out).
RIGHT = {
    # what stands at module level makes a name that the function reads
    "for loop": "TABLE = []\nfor i in range(9):\n    TABLE.append(i)\n\n" + LATER,
    "while loop": "TABLE = {}\ni = 0\nwhile i < 9:\n    TABLE[i] = i\n    i += 1\n" + LATER,
    "try import": "try:\n    from math import fsum\nexcept ImportError:\n    fsum = None\n"
    "def total(xs):\n    return int(fsum(xs))\n",
    "augmented": "ZERO = 1\nZERO -= 1\ndef total(xs):\n    return sum(xs, ZERO)\n",
    "if": "import sys\nif sys.version_info > (3,):\n    add = sum\nelse:\n    add = None\n"
    "def total(xs):\n    return add(xs)\n",
    "with": "import contextlib\nwith contextlib.suppress(ImportError):\n    from math import fsum\n"
    "def total(xs):\n    return int(fsum(xs))\n",
    "match": "match 1:\n    case zero:\n        zero -= 1\ndef total(xs):\n    return sum(xs, zero)\n",
    "walrus": "if (zero := 0) is None:\n    pass\ndef total(xs):\n    return sum(xs, zero)\n",
    "behind the function": LATER + "TABLE = list(range(9))\n",
    "called behind the function": "TABLE = {}\n" + LATER + "TABLE.update({1: 1, 2: 2})\n",
    "item": "TABLE = [0] * 9\n" + LATER + "TABLE[1] = 1\nTABLE[2] = 2\n",
    "attribute of the function": "def total(xs):\n    return sum(xs, total.zero)\ntotal.zero = 0\n",
    "set up by a function": "TABLE = []\ndef fill():\n    for i in range(9):\n        TABLE.append(i)\nfill()\n"
    + LATER,
    "set up through another": "TABLE = []\ndef more():\n    global TABLE\n    TABLE = list(range(9))\ndef fill():\n"
    "    more()\n" + LATER + "fill()\n",
    "handed to a function": "TABLE = []\ndef fill(table):\n    table.extend(range(9))\n" + LATER + "fill(TABLE)\n",
    "handed to an imported one": "import heapq\nTABLE = [2, 1, 0]\nheapq.heapify(TABLE)\n" + LATER,
    "recursion limit": "import sys\nsys.setrecursionlimit(5000)\n"
    "def total(xs, deep=1500):\n    return total(xs, deep - 1) if deep else sum(xs)\n",
    "wrapped": "import functools\ndef total(xs):\n    return sum(xs)\ntotal = functools.wraps(total)(total)\n",
    "lambda": "total = lambda xs: sum(xs)\n",
    "class": "class Solution:\n    def total(self, xs):\n        return sum(xs)\n\ntotal = Solution().total\n",
    "by another name": "TABLE = []\nadd = TABLE.append\nfor i in range(9):\n    add(i)\n" + LATER,
    "by a name given beside": "TABLE = OTHER = []\nOTHER.extend(range(9))\n" + LATER,
    "by a thread": "import threading\nTABLE = {}\ndef fill():\n    TABLE.update({1: 1, 2: 2})\n"
    "worker = threading.Thread(target=fill)\nworker.start()\nworker.join()\n" + LATER,
    "by a method": "class Table:\n    def __init__(self):\n        self.rows = {}\n    def fill(self):\n"
    "        self.rows = {1: 1, 2: 2}\nTABLE = Table()\nTABLE.fill()\n"
    "def total(xs):\n    return sum(TABLE.rows[x] for x in xs)\n",
    "by a decorator": "ALL = {}\ndef kept(f):\n    ALL[f.__name__] = f\n    return f\n@kept\ndef add(xs):\n"
    "    return sum(xs)\ndef total(xs):\n    return ALL['add'](xs)\n",
    "input with a default": "try:\n    zero = int(input())\nexcept (EOFError, OSError):\n    zero = 0\n"
    "def total(xs):\n    return sum(xs, zero)\n",
    "two on a line": "import sys\n" + FUNCTION + "x = 1; sys.exit(1)\n",
    "a file that is not there": FUNCTION + "with open('numbers') as file:\n    print(total(list(file)))\n",
    "global statement": "calls = 0\ndef total(xs):\n    global calls\n    calls += 1\n    return sum(xs)\n",
    "globals()": "globals()['add'] = sum\ndef total(xs):\n    return add(xs)\n",
    "corrected below": DRAFT + "\n# That forgets the sum.\n" + FUNCTION,
    # what is shown beside it fails, waits or ends the program
    "input": FUNCTION + "n = int(input())\nprint(total([n]))\n",
    "input, memoized": "memo = {}\ndef total(xs):\n    memo[str(xs)] = sum(xs)\n    return memo[str(xs)]\n"
    "n = int(input())\nprint(total([n]))\n",
    "input in a loop": FUNCTION + "while True:\n    try:\n        print(total([int(input())]))\n    except Exception:\n"
    "        print('again')\n",
    "input in a main function": FUNCTION + "def main():\n    xs = [int(input())]\n    print(total(xs))\nmain()\n",
    "stdin": "import sys\n" + FUNCTION + "data = sys.stdin.read().split()\nprint(total([int(data[0])]))\n",
    "a call that raises": FUNCTION + "result = total(None)\nprint(result)\n",
    "an assertion that fails": FUNCTION + "assert total([1]) == 2\n",
    "a loop of examples": FUNCTION + "for case in [[1], None]:\n    print(total(case))\n",
    "an exit": "import sys\n" + FUNCTION + "print(total([1]))\nsys.exit(0)\n",
    "an exit by name": FUNCTION + "exit()\n",
    "a main guard": FUNCTION + "if __name__ == '__main__':\n    print(total([int(input())]))\n",
    "a test suite": "import unittest\n" + FUNCTION + "class Test(unittest.TestCase):\n    def test(self):\n"
    "        self.assertEqual(total([]), 0)\nunittest.main()\n",
    "an index of what was read": FUNCTION + "words = input().split()\nfirst = words[0]\n",
    "something endless": FUNCTION + "print(sum(range(10 ** 12)))\n",
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("form", ["fenced", "tildes", "bare"])
def test_a_right_answer_passes_whatever_stands_beside_the_function(name: str, form: str) -> None:
    """What broke: of a module's statements all but definitions and assignments went, and these ran, needed or not."""
    code = RIGHT[name]
    answer = {"fenced": f"Sure:\n{fenced(code)}Done.", "tildes": fenced(code, "~~~"), "bare": code}[form]
    exec(program(ITEM, answer), {"__name__": "program"})


DOCUMENTED = 'def total(xs):\n    """Sum.\n\n    ```\n    total([1])\n    ```\n    """\n    return sum(xs)\n'
# Answers in several blocks, with fences that are none, and with thoughts: each has one right program.
FORMS = {
    "draft, then corrected": fenced(DRAFT) + "That is wrong. Corrected:\n" + fenced(FUNCTION),
    "draft among the thoughts": f"<think>\nMaybe\n{fenced(DRAFT)}No.\n</think>\n\n{fenced(FUNCTION)}",
    "thoughts, then the body": "<think>\nI need def total(xs): ... sums.\n</think>\n\n" + BODY,
    "thoughts of harmony": f"<|channel|>analysis<|message|>{fenced(DRAFT)}<|end|><|start|>assistant<|channel|>final"
    f"<|message|>{fenced(FUNCTION)}<|return|>",
    "helper in a block of its own": fenced("def add(a):\n    return sum(a)\n") + "Then\n"
    + fenced("def total(xs):\n    return add(xs)\n"),
    "helper in a block behind": fenced("def total(xs):\n    return add(xs)\n") + "where\n"
    + fenced("def add(a):\n    return sum(a)\n"),
    "imports in a block of their own": fenced("import math\n") + "Then\n"
    + fenced("def total(xs):\n    return int(math.fsum(xs))\n"),
    "an attempt that is no Python": fenced("def total(xs)\n    return\n") + fenced(FUNCTION),
    "an example behind": fenced(FUNCTION) + "Example:\n" + fenced("print(total([1]))\n# 1\n"),
    "an example that reads": fenced(FUNCTION) + "Example:\n" + fenced("xs = input()\nprint(total(xs))\n"),
    "a dialogue behind": fenced(FUNCTION) + fenced(">>> total([1])\n1\n"),
    "output behind": fenced(FUNCTION) + fenced("6\n", "```"),
    "a shell before": fenced("pip install total\n", "```bash") + fenced(FUNCTION),
    "a fence in the docstring": fenced(DOCUMENTED),
    "a fence in the docstring, at the margin": fenced(DOCUMENTED.replace("    ```", "```")),
    "a fence in the docstring, indented by two": fenced(DOCUMENTED.replace("    ", "  ")),
    "a fence in the docstring of what is not closed": "```python\n" + DOCUMENTED,
    "code on the last fence's line": "```python\ndef total(xs):\n    return sum(xs)```",
    "all on one line": "```def total(xs): return sum(xs)```",
    "fence with attributes": fenced(FUNCTION, "```{.python .numberLines}").replace("```{.python .numberLines}\n\n", ""),
    "four backquotes": f"````python\n{DOCUMENTED}````\n",
    "in a list": "1. So:\n\n   ~~~py\n" + indent(FUNCTION, "   ") + "   ~~~\n",
    "never closed": "~~~python\n" + FUNCTION,
    "in an answer tag": f"<think>x</think><answer>\n{fenced(FUNCTION)}</answer>",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_right_answer_passes_in_whatever_form(name: str) -> None:
    exec(program(ITEM, FORMS[name]), {"__name__": "program"})


def passes(answer: str) -> list[bool]:
    """Whether each program of an answer passes, in their order."""
    passed = []
    for source in programs(ITEM, answer):
        try:
            exec(source, {"__name__": "program"})
            passed.append(True)
        except Exception:
            passed.append(False)
    return passed


def test_an_answer_is_read_in_three_ways_each_once() -> None:
    """With what is needed, whole, and the first definition alone, where a second one takes its place."""
    assert passes(BODY) == [True]
    assert passes(FUNCTION + "print(total([1]))\n") == [True, True]
    assert passes(FUNCTION + "print(total(None))\n") == [True, False]
    assert passes(BODY + "\ndef total(xs):\n    return 0\n") == [False, True], "the last definition, and the first"
    assert passes(fenced(FUNCTION) + "Or, shorter:\n" + fenced(DRAFT)) == [False, True]
    assert passes(DRAFT + FUNCTION) == [True, False]


def test_what_passes_whole_passes_though_nobody_can_see_why() -> None:
    """A name that is made in a way which no reading of the statements shows."""
    made = "class Maker:\n    def __del__(self):\n        import builtins\n        builtins.adding = sum\nMaker()\n"
    try:
        assert passes(f"{made}def total(xs):\n    return adding(xs)\n") == [False, True]
    finally:
        vars(builtins).pop("adding", None)


def test_only_the_answer_is_run() -> None:
    """Drafts that pass among the thoughts, and an answer that does not; or none, for the text ended before it."""
    assert True not in passes(f"<think>\n{fenced(FUNCTION)}</think>\n{fenced(DRAFT)}")
    assert True not in passes(f"<think>\n{fenced(FUNCTION)}Hm, ")
    wolf = program(ITEM, f"<think>\n{FUNCTION}</think>\n{DRAFT}", way="wolf2024")
    assert "return 0" in wolf and "sum(xs)" not in wolf


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no block", []),
        ("```\na = 1\n```", [("", "a = 1\n")]),
        ("~~~ py\na = 1\n~~~\n```\nb = 2\n```", [("py", "a = 1\n"), ("", "b = 2\n")]),
        ("````\na = '''\n```\n'''\n````", [("", "a = '''\n```\n'''\n")]),
        ("```python\na = 1", [("python", "a = 1")]),
        ("```bash\nls | grep\n```\ntext\n```\nb = 2\n```", [("bash", "ls | grep\n"), ("", "b = 2\n")]),
        ("use `x` and ``y`` here", []),
        ("```\n~~~\n```", [("", "~~~\n")]),
    ],
)
def test_where_blocks_begin_and_end(text: str, blocks: list[tuple[str, str]]) -> None:
    assert [(block.language, block.code) for block in code_blocks(text)] == blocks


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


@pytest.mark.slow
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
        assert _compiled(item.prompt, text).n_lines == longest, text


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


LONG = {  # once over 20 s each, a traceback, or the end of Python itself
    "elifs": "    if a:\n        pass\n" + "    elif a:\n        pass\n" * 4000,
    "imports": "import a.a.a\n" * 16_000,
    "a long name": "import " + "a." * 100_000 + "a\n",
    "a long name over lines": "import a" + ".\\\na" * 20_000 + "\n",
    "an f-string of many levels": 'x = f"' + "{" * 100_000 + "1" + "}" * 100_000 + '"\n',
    "f-strings within each other": "x = " + 'f"{' * 100_000 + "1" + '}"' * 100_000 + "\n",
    "a comprehension": "x = [a " + "for a in b " * 100_000 + "]\n",
    "a comprehension that is just short enough": "x = [a " + "for a in b " * 5900 + "]\n",
    "signs": "    return " + "-" * 100_000 + "1\n",
    "attributes": "    return a" + ".a" * 2000 + "\n",
    "sums": "    return 1" + "+1" * 20_000 + "\n",
    "calls": "f()\n" * 8000 + "def total(xs): return 1\n",
    "one line": "a;" * 30_000 + "\n",
    "fences": "```\n" * 50_000,
    "backquotes": "`" * 100_000 + "a",
    "thoughts": "`<think> \"<think>' " * 20_000,
    "messages": "<|channel|>x<|message|>" * 20_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_and_deep_answers_are_read_in_bounded_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    takes = code_blocks_module.Work.takes

    def counted(work: code_blocks_module.Work, source: str) -> bool:
        is_taken = takes(work, source)
        compiled.append(len(source) * is_taken)
        return is_taken

    monkeypatch.setattr(code_blocks_module.Work, "takes", counted)
    assert 1 <= len(programs(ITEM, f"{FUNCTION}\n```python\n{LONG[name]}```\n")) <= 6
    assert sum(compiled) <= code_blocks_module.MOST_WORK


def test_what_is_deep_behind_a_right_answer_costs_it_nothing() -> None:
    for name in ("a comprehension that is just short enough", "sums", "an f-string of many levels"):
        code = FUNCTION + "\n" + LONG[name]
        if len(code) < code_blocks_module.MOST_LETTERS:
            assert True in passes(code), name
