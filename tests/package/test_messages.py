"""The library's sentences name its parameters, in backticks; options belong to the command line, which puts them in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from places import ROOT

FLAG = re.compile(r"(?<![\w-])--[a-z]")
# How strings begin that are command lines of other programs, by file below steercpp/.
OTHER_PROGRAMS = {
    "bench/cvector.py": "--",
    "bench/peers.py": "--",
    "engine/devices.py": "pip install ",
    "judging/sandbox_walls.py": r"--|(; |\] \|\| )?mount --bind ",
    "provenance.py": "--",
    "reports/style.py": r"var\(--",
    "runs/commands.py": "--",
}
ROOMS = sorted(
    {path.relative_to(ROOT / "steercpp").parts[0] for path in (ROOT / "steercpp").rglob("*.py")} - {"cli", "models"}
)


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """The string constants of a module and the texts within its f-strings, but no docstrings."""
    bodies = [node.body for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
    documents = {id(each.value) for body in bodies for each in body if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node


def offences(source: str, allowed: str | None = None) -> list[str]:
    """Strings of a module that name a flag, each with its line."""
    return [
        f"{node.lineno}: {node.value}"
        for node in strings(ast.parse(source))
        if isinstance(node.value, str)
        and FLAG.search(node.value)
        and not (allowed and re.match(allowed, node.value.lstrip()))
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_no_message_of_the_library_names_an_option(room: str) -> None:
    place = ROOT / "steercpp" / room
    found = []
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        name = path.relative_to(ROOT / "steercpp").as_posix()
        found += [f"{name}:{each}" for each in offences(path.read_text(), OTHER_PROGRAMS.get(name))]
    assert not found, "\n".join(["write the parameter in backticks, as `n_ctx` or `force=True`:", *found])


def test_a_message_with_an_option_is_found() -> None:
    source = '"""Documents --out."""\ndef f(x):\n    """And --force."""\n    raise ValueError(f"{x}: give --force")\n'
    assert offences(source) == ["4: : give --force"]
    assert offences('run(["--bind", x])', "--") == [] and offences('say("use --bind")', "--") != []
