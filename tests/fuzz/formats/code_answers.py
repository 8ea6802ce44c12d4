"""Generated answers to coding problems: what of them is a program is found in bounded time, whatever they are."""

from __future__ import annotations

import ast
from pathlib import Path

from campaign import Format
from mutations import Rng, spoil_bytes

from steercpp.choices import CODE_WAYS
from steercpp.data.items import CodeItem
from steercpp.judging.programs import program, programs

ITEM = CodeItem(
    "total",
    "from typing import List\n\n\ndef half(x):\n    return x // 2\n\n\n"
    'def total(xs: List[int]) -> int:\n    """Sum."""\n',
    "total",
    "def check(f):\n    assert f([1, 2]) == 3\n",
)
FUNCTION = "def total(xs):\n    result = 0\n    for x in xs:\n        result += x\n    return result\n"
SEEDS = (
    "    return sum(xs)\n",
    f"Sure, here it is:\n\n```python\n{FUNCTION}```\n\nIt adds all of them.\n```python\nprint(total([1, 2]))\n```\n",
    f"<think>\nMaybe\n```python\n{FUNCTION}```\nNo.\n</think>\n\n"
    f"~~~py\nimport math\nT = []\n{FUNCTION}T.append(1)\n~~~\n",
    f"{FUNCTION}\n\nclass Test:\n    def go(self):\n        assert total([]) == 0\n\n{FUNCTION}total.memo = {{}}\n",
    '````python\ndef total(xs):\n    """Doc.\n\n    ```\n    total([1])\n    ```\n    """\n    return sum(xs)\n````\n',
    f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>```\n{FUNCTION}```<|return|>",
)
DEEP = {  # (before, repeated, within, repeated behind, behind)
    "f-string": ('f"', "{", "1", "}", '"'),
    "f-strings within each other": ("", 'f"{', "1", '}"', ""),
    "format specs": ("f'", "{a:", "", "}", "'"),
    "brackets": ("", "(", "1", ")", ""),
    "lists": ("", "[", "", "]", ""),
    "subscripts": ("", "a[", "1", "]", ""),
    "calls": ("", "a(", "", ")", ""),
    "calls of calls": ("a", "()", "", "", ""),
    "signs": ("", "-", "1", "", ""),
    "nots": ("", "not ", "1", "", ""),
    "sums": ("1", "+1", "", "", ""),
    "powers": ("1", "**1", "", "", ""),
    "attributes": ("a", ".a", "", "", ""),
    "spaced attributes": ("a", " . a", "", "", ""),
    "lambdas": ("", "lambda:", "1", "", ""),
    "choices": ("", "1 if 1 else ", "1", "", ""),
    "comprehension": ("[a ", "for a in b ", "", "", "]"),
    "conditions": ("[a for a in b ", "if a ", "", "", "]"),
    "comparisons": ("a", "<a", "", "", ""),
    "walruses": ("", "(a:=", "1", ")", ""),
    "stars": ("", "a(*", "b", ")", ""),
    "texts": ("", '"a" ', "", "", ""),
    "formatted texts": ("", 'f"{a}" ', "", "", ""),
    "assignments": ("", "a=", "1", "", ""),
    "awaits": ("", "await ", "a", "", ""),
    "digits": ("", "9", "", "", ""),
}
LINES = (
    "import a.a.a", "elif a:\n    pass", "if a:", "try:\n    pass\nexcept a:\n    pass", "except a:\n    pass", "@a",
    "a;", "```", "~~~", "```python", "<think>", "</think>", "`<think>`", "def total(xs):", "def f(): pass", "f()",
    "T.append(f)", "a = b = c", "x = 1; y = 2", "class A:", "else:", "with a, b:", "case a:", "global a", "'''",
    '"""', "\\", "# x", "a b", "from __future__ import annotations", "match a:\n    case [a, *b]:\n        pass",
    ">>> a", "return", "x: int = 5",
)  # fmt: skip
ONE_LINE = (
    "a.",
    "import a.",
    "from a.",
    "a = ",
    "x: a[",
    "import a, ",
    "`",
    "``` ",
    "<think> ",
    "\"<think>' ",
    "<|end|>",
)


def prepare(folder: Path) -> None:
    """The seeds hold programs that compile."""
    for seed in SEEDS:
        ast.parse(program(ITEM, seed))


def make(rng: Rng, prepared: object, folder: Path) -> None:
    """A damaged answer, or one with much of something."""
    (folder / "answer.txt").write_text(_text(rng), encoding="utf-8", errors="surrogatepass")


def _text(rng: Rng) -> str:
    kind = int(rng.integers(6))
    seed = SEEDS[int(rng.integers(len(SEEDS)))]
    many = int(rng.choice([3, 50, 150, 900, 5000, 20_000, 100_000]))
    if kind == 0:
        return spoil_bytes(seed.encode(), rng).decode(errors="replace")
    if kind == 1:
        before, left, within, right, behind = list(DEEP.values())[int(rng.integers(len(DEEP)))]
        text = f"{before}{left * many}{within}{right * many}{behind}"
        start = str(rng.choice(["    return ", "x = ", "assert ", "import ", "@", "", "    x = 1\n    return "]))
        return _placed(start + text + "\n", rng)
    if kind == 2:
        lines = [LINES[int(i)] for i in rng.integers(len(LINES), size=int(rng.integers(1, 4)))]
        return _placed("\n".join([*lines, ""]) * min(many, 1_500_000 // len("\n".join([*lines, ""]))), rng)
    if kind == 3:
        return _placed(ONE_LINE[int(rng.integers(len(ONE_LINE)))] * many + str(rng.choice(["", "a", "\n", "=1"])), rng)
    if kind == 4:
        margin = str(rng.choice([" ", "    ", "\t"]))
        depth = min(many, 700)
        return _placed("".join(f"{margin * i}if a:\n" for i in range(depth)) + margin * depth + "pass\n", rng)
    lines = seed.split("\n")
    for _ in range(int(rng.integers(1, 40))):
        lines.insert(int(rng.integers(len(lines) + 1)), LINES[int(rng.integers(len(LINES)))])
    return "\n".join(lines)


def _placed(code: str, rng: Rng) -> str:
    """Code by itself, in a fence, or before or behind the function."""
    fenced, tildes = f"```python\n{code}```\n", f"~~~\n{code}{FUNCTION}~~~"
    forms = (code, fenced, FUNCTION + code, tildes, SEEDS[1] + code, code + SEEDS[2])
    return forms[int(rng.integers(len(forms)))]


def use(folder: Path) -> None:
    """Take the programs out of it, in both ways, as the judging of a run does."""
    text = (folder / "answer.txt").read_text(encoding="utf-8", errors="surrogatepass")
    for way in CODE_WAYS:
        found = programs(ITEM, text, way=way)
        assert found and all(isinstance(source, str) for source in found)


FORMATS = (Format("code_answers", prepare, make, use),)
