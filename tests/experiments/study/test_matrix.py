"""What a file with [matrix] says: its runs, their names and folders, and what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from steercpp.engine.engine import Engine
from steercpp.errors import InputError, ModelError, PresetError
from steercpp.experiments.study.matrix import MatrixSpec
from steercpp.experiments.study.matrix_work import study_matrix
from steercpp.experiments.study.parts import refuse_shared_places
from steercpp.experiments.study.preset import Preset, parse_preset, with_included
from steercpp.experiments.study.study import Choices, study

TEXT = """
about = "A small matrix"

[matrix]
models = { small = "embedded", big = "chat" } # more
bands = ["5-6", "all"]
operators = ["add", "ablate"]
strengths = "-1:1:0.5"
exclude = [{ operator = "ablate", band = ["all"], model = "big" }, { set = "other", vector = "mine" }]

[matrix.vectors.refusal]
pairs = "refusal"

[matrix.vectors.mine]
file = "{model}.gguf"

[matrix.sets.own]
behavior = "refusal"
tasks = ["knowledge"]
limit = 8

[matrix.sets.other]
tasks = ["reading"]
"""


def parsed(text: str = TEXT) -> Preset:
    return parse_preset(text, name="small", place="small.toml")


def matrix(text: str = TEXT) -> MatrixSpec:
    found = parsed(text).matrix
    assert found is not None
    return found


def test_every_combination_is_a_run_but_for_excluded_ones() -> None:
    names = [cell.name for cell in matrix().cells]
    assert len(names) == len(set(names)) == 2 * 2 * 2 * 2 * 2 - 4 - 8 + 1  # one is excluded twice
    assert names[:3] == ["small/refusal/5-6/add/own", "small/refusal/5-6/add/other", "small/refusal/5-6/ablate/own"]
    assert "small/refusal/all/ablate/own" in names and "big/refusal/all/ablate/own" not in names
    assert not any(name.endswith("other") and "/mine/" in name for name in names)
    assert [cell.folder for cell in matrix().cells] == names
    assert names == sorted(names, key=lambda name: name.startswith("big"))  # those of a model together


def test_tables_and_lists_say_the_same() -> None:
    tables = TEXT.replace('["5-6", "all"]', '{ "5-6" = "5-6", all = "all" }').replace(
        'operators = ["add", "ablate"]', "operators = { add = {}, ablate = {} }"
    )
    assert matrix(tables).cells == matrix().cells
    bare = TEXT.replace('bands = ["5-6", "all"]\noperators = ["add", "ablate"]', "")
    bare = bare[: bare.index("exclude")] + bare[bare.index("[matrix.vectors.refusal]") :]
    assert {(cell.band, cell.operator) for cell in matrix(bare).cells} == {("default", "add")}


def test_an_operator_has_a_name_and_strengths_of_its_own() -> None:
    text = TEXT.replace('operators = ["add", "ablate"]\n', "").replace('operator = "ablate", ', 'operator = "away", ')
    text += '[matrix.operators.add]\n[matrix.operators.away]\noperator = "ablate"\nstrengths = "0.5,1"\n'
    found = matrix(text)
    by_operator = {cell.operator: (found.operator_of(cell), found.strengths_of(cell)) for cell in found.cells}
    assert by_operator == {"add": ("add", "-1:1:0.5"), "away": ("ablate", "0.5,1")}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"chat" } # more', '"chat", Small = "base" }',
         "run small/refusal/5-6/add/own and run Small/refusal/5-6/add/own want one folder"),
        ('"chat" } # more', '"chat", "small." = "base" }',
         "which many file systems take for small/refusal/5-6/add/own"),
        ("exclude", 'folder = "{model}/{band}/{set}"\nexclude',
         "run small/refusal/5-6/add/own and run small/refusal/5-6/ablate/own want one folder, small/5-6/own; give"),
        ("exclude", 'folder = "{model}/{bnd}"\nexclude', "matrix.folder: 'bnd' is unknown; did you mean band?"),
        ("exclude", 'folder = "../{model}"\nexclude', "the name '..' becomes a file's"),
        ('"5-6", "all"', '"5-6", "5-6"', "matrix.bands: '5-6' stands there twice"),
        ('"5-6", "all"', '"5-6", "1,3"', "the name '1,3' becomes a file's"),
        ('["add", "ablate"]', '["add", "ablat"]', "matrix.operators: 'ablat' is unknown; did you mean ablate?"),
        ('["add", "ablate"]', "[]", "matrix.operators: there are none"),
        ('operator = "ablate", band', 'operator = "rotate", band', "matrix.exclude: operator 'rotate' is unknown"),
        ('{ operator = "ablate", band = ["all"], model = "big" }', "{}", "matrix.exclude: entry 1 names nothing"),
        ('{ operator = "ablate", band = ["all"], model = "big" }', '{ model = ["big", "small"] }', "leaves no run"),
        ('{ operator = "ablate"', '{ operatr = "ablate"', "key operatr is unknown"),
        ('strengths = "-1:1:0.5"\n', "", "matrix.operators.add: no strengths"),
        ('strengths = "-1:1:0.5"', 'strengths = "-1:1"', "write first:last:step"),
        ('pairs = "refusal"', "", "made of pairs or read from a file"),
        ('pairs = "refusal"', 'pairs = "refusal"\nmethod = "avg"', "method 'avg' is unknown"),
        ('tasks = ["reading"]', "", "nothing is measured"),
        ("limit = 8", "limit = 0", "limit is 0"),
        ("[matrix]", '[runs.one]\nmodel = "chat"\nvector = "v"\nstrengths = "1"\nbehavior = "refusal"\n[matrix]',
         "that matrix alone"),
        ("[matrix]\n", "[matrix]\nmodles = 1\n", "key modles is unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(PresetError, match="^small.toml: ") as error:
        parsed(TEXT.replace(old, new, 1))
    assert says in str(error.value)


def test_a_matrix_has_a_bound() -> None:
    bands = ", ".join(f'"{il}"' for il in range(699))
    with pytest.raises(PresetError, match="11,200 runs; make a matrix of at most 10,000"):
        parsed(TEXT.replace('"5-6", "all"', f'"all", {bands}'))


def test_folders_that_lie_in_each_other_are_refused() -> None:
    refuse_shared_places({"a": "x/y", "b": "x/z"})
    with pytest.raises(InputError, match="b wants a folder within that of a, X/Y; give it another one"):
        refuse_shared_places({"a": "X/Y", "b": "x/y/z"})


def test_runs_and_presets_that_want_one_folder_are_refused(tmp_path: Path) -> None:
    """Not of a matrix alone: names that differ by case, and presets whose names differ by / alone."""
    run = 'about = "x"\n[vectors.v]\nmodel = "base"\npairs = "refusal"\n'
    run += "".join(f'[runs.{name}]\nmodel = "base"\nvector = "v"\nstrengths = "1"\nbehavior = "refusal"\n'
                   for name in ("One", "one"))  # fmt: skip
    with pytest.raises(PresetError, match="^p: runs.One and runs.one want one folder"):
        parse_preset(run, name="p", place="p")
    single = run.replace("[runs.one]", "[runs.two]")
    (tmp_path / "wolf2024-MMLU.toml").write_text(single)
    both = parse_preset(
        f'about = "y"\ninclude = ["wolf2024/mmlu", "{tmp_path / "wolf2024-MMLU.toml"}"]\n', name="b", place="b"
    )
    with pytest.raises(PresetError, match="^b: wolf2024/mmlu and wolf2024-MMLU want one folder"):
        with_included(both)
    (tmp_path / "m.toml").write_text(TEXT)
    above = parse_preset(f'about = "y"\ninclude = ["{tmp_path / "m.toml"}"]\n', name="b", place="b")
    with pytest.raises(PresetError, match="b: includes the matrix m; measure that one by itself"):
        with_included(above)


def test_what_is_missing_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    def load(path: Path) -> Engine:
        raise AssertionError(path)

    out = tmp_path / "out"
    with pytest.raises(InputError, match="model big is the chat model; give its file as `chat`"):
        study_matrix(parsed(), {}, load=load, out=out)
    lost = parsed(TEXT.replace('"chat"', f'"{tmp_path / "lost.gguf"}"'))
    with pytest.raises(ModelError, match="model big: .*lost.gguf cannot be read"):
        study_matrix(lost, {}, load=load, out=out)
    with pytest.raises(InputError, match="its bands say where it steers"):
        study_matrix(parsed(), {"chat": tmp_path}, load=load, out=out, choices=Choices(layers="5"))
    with pytest.raises(InputError, match="is a matrix; measure it with `study_matrix`"):
        study(parsed(), {}, load=load, out=out)
    assert not out.exists()
