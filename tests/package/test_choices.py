"""steercpp.choices: the tables of the library hold exactly its names, and the command line restates none of them."""

from __future__ import annotations

import ast
import subprocess
import sys

import click
import pytest
from places import ROOT

from steercpp import choices
from steercpp.bench.bench import LINES
from steercpp.bench.models import SHAPES
from steercpp.cli.main import COMMANDS, main
from steercpp.engine.devices import GGML_TYPES
from steercpp.engine.session import FLASH_ATTENTION
from steercpp.engine.steering import REGIONS, SIDES
from steercpp.experiments.synthesis import VARIANTS
from steercpp.extraction.methods import METHODS, ON_ROWS
from steercpp.judging.matchers import MATCHERS
from steercpp.judging.wolf2024 import REFUSES
from steercpp.vectors.notes import CVECTOR_GENERATOR

VALUES = {name: value for name, value in vars(choices).items() if name.isupper()}


def test_it_imports_nothing_but_typing() -> None:
    tree = ast.parse((ROOT / "steercpp/choices.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in imports if isinstance(node, ast.ImportFrom)] == ["typing"] and len(imports) == 1


@pytest.mark.parametrize("name", VALUES)
def test_every_tuple_holds_names(name: str) -> None:
    values = VALUES[name]
    assert isinstance(values, tuple) and values and len(set(values)) == len(values)
    assert all(isinstance(value, str) for value in values)


def test_the_tables_of_the_library_hold_these_names() -> None:
    assert tuple(METHODS) == tuple(ON_ROWS) == choices.METHOD_NAMES
    assert tuple(SIDES) == choices.SIDE_NAMES and tuple(REGIONS) == choices.POSITIONS
    assert set(GGML_TYPES) == set(choices.CACHE_TYPES)
    assert set(FLASH_ATTENTION) == set(choices.FLASH_ATTENTION_NAMES)
    assert tuple(MATCHERS) == (*choices.MATCHER_NAMES, *REFUSES)
    assert tuple(VARIANTS) == choices.SYNTHESIS_VARIANTS
    assert tuple(LINES) == choices.COMPARISONS and tuple(SHAPES) == choices.MODEL_SHAPES
    assert choices.LAYER_CONVENTIONS[1] == CVECTOR_GENERATOR


def commands() -> list[click.Command]:
    context = click.Context(main)
    known = [command for name in COMMANDS if (command := main.get_command(context, name))]
    inner = [command for group in known if isinstance(group, click.Group) for command in group.commands.values()]
    return known + inner


def test_options_offer_these_names() -> None:
    offered = {
        tuple(parameter.type.choices)
        for command in commands()
        for parameter in command.params
        if isinstance(parameter.type, click.Choice)
    }
    assert len(offered) > 10
    assert {tuple(sorted(names)) for names in offered} <= {tuple(sorted(values)) for values in VALUES.values()}


def test_a_name_that_is_added_there_reaches_the_command_line() -> None:
    """An operator that native code and Python had was refused by a list of the command line's own."""
    program = (
        "import steercpp.choices as choices\n"
        "choices.OPERATORS += ('mirror',); choices.METHOD_NAMES += ('ica',)\n"
        "from steercpp.cli.main import main\n"
        "main(['generate', 'm.gguf', '-p', 'x', '--operator', 'mirror', '--vector', 'v.gguf', '--positions', 'some'])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 2 and "--operator" not in ended.stderr and "'some' is not one of" in ended.stderr
    helped = subprocess.run(
        [sys.executable, "-c", program.rpartition("main(")[0] + "main(['sweep', '-h'])"], capture_output=True, text=True
    )
    assert "mirror" in helped.stdout and "ica" in helped.stdout


def test_no_choice_is_spelled_out_on_the_command_line() -> None:
    for path in (ROOT / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.Choice":
                spelled = [
                    each for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value not in (0, 1)
                ]
                assert not spelled, f"{path}:{node.lineno}: take the names from steercpp/choices.py"
