"""Presets: what a file may say, and that the package's own can be read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from steercpp.errors import PresetError
from steercpp.experiments.study.preset import load_preset, parse_preset, preset_names, with_included
from steercpp.toml import parse_toml

SMALL = """
about = "A small study"

[vectors.v]
model = "base"
pairs = "refusal"
method = "mean"

[runs.one]
model = "base"
vector = "v"
strengths = "-1:1:0.5"
behavior = "refusal"
tasks = ["knowledge"]
paper = { b_at_0 = -0.5 }
"""


def test_a_preset_says_what_it_says() -> None:
    found = parse_preset(SMALL, name="small", place="small.toml")
    assert (found.name, found.about, found.text) == ("small", "A small study", SMALL)
    assert found.vectors["v"].method == "mean" and found.roles == ("base",)
    assert found.runs["one"].tasks == ("knowledge",) and found.runs["one"].paper == {"b_at_0": -0.5}
    assert found.runs["one"].max_tokens == 0 and not found.runs["one"].constants


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('about = "A small study"', "", "small.toml: about is missing"),
        ('about = "A small study"', "about", "not TOML"),
        ('method = "mean"', 'methd = "mean"', "key methd is unknown"),
        ('method = "mean"', 'method = "avg"', "method 'avg' is unknown"),
        ('model = "base"\npairs', 'model = "big"\npairs', "big"),
        ("[runs.one]", '[runs."../../one"]', "the name '../../one' becomes a file's"),
        ('vector = "v"', 'vector = "w"', "runs.one: vector 'w' is unknown; use one of v"),
        ('strengths = "-1:1:0.5"', 'strengths = "-1:1"', "write first:last:step"),
        ('behavior = "refusal"\ntasks = ["knowledge"]', "", "nothing is measured"),
        ("b_at_0 = -0.5", "b_at0 = -0.5", "did you mean b_at_0"),
        ('model = "base"\nvector', 'model = "chat"\nvector', "made on the other model"),
        ('pairs = "refusal"', 'pairs = "refusal"\nlimit = 0', "limit is 0"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(old: str, new: str, says: str) -> None:
    assert old in SMALL
    with pytest.raises(PresetError, match="^small.toml: ") as error:
        parse_preset(SMALL.replace(old, new, 1), name="small", place="small.toml")
    assert says in str(error.value)


def test_pairs_that_need_their_own_vector_are_refused() -> None:
    circle = """
[synthesis.said]
model = "base"
vector = "v"
requests = "refusal"
refuse = -1.0
comply = 2.0
"""
    with pytest.raises(PresetError, match="vectors.v: its pairs need the vector itself"):
        parse_preset(SMALL.replace('pairs = "refusal"', 'pairs = "said"') + circle, name="small", place="small.toml")


@pytest.mark.parametrize("name", preset_names())
def test_the_presets_of_the_package_are_whole(name: str) -> None:
    preset = load_preset(name)
    assert preset.about.endswith(".") and preset.source
    assert all(part.runs for part in with_included(preset))


def test_all_of_the_paper_is_there() -> None:
    names = [
        "harmfulness-base",
        "harmfulness-chat",
        "fairness-base",
        "fairness-chat",
        "mmlu",
        "humaneval",
        "assumptions",
    ]
    assert {f"wolf2024/{name}" for name in [*names, "all"]} == set(preset_names())
    assert [part.name for part in with_included(load_preset("wolf2024/all"))] == [f"wolf2024/{name}" for name in names]


def test_unknown_names_are_told_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="did you mean wolf2024/fairness-base"):
        load_preset("fairness-bas")
    with pytest.raises(PresetError, match="use one of wolf2024/all, "):
        load_preset("xyzzy")
    with pytest.raises(PresetError, match="cannot be read"):
        load_preset(str(tmp_path / "none.toml"))
    own = tmp_path / "own.toml"
    own.write_text(SMALL.replace("[vectors.v]", 'include = ["wolf2024/nothing"]\n[vectors.v]'))
    with pytest.raises(PresetError, match="'wolf2024/nothing' is unknown"):
        with_included(load_preset(str(own)))


DEEP = {
    "dotted": "a" + ".a" * 20_000 + " = 1",
    "with blanks and quotes": "a" + ' . "a"' * 9_000 + " = 1",
    "a header": "[a" + ".a" * 20_000 + "]",
    "headers": "".join("[" + "a." * 900 + f"b{n}]\n" for n in range(30)),
    "in a table": "x = {" + "a." * 20_000 + "a = 1}",
    "behind a text": 'x = """a""""" # "\n' + "a." * 20_000 + "a = 1",
    "behind an escape": "x = \"\\\"\" # '''\n" + "a." * 20_000 + "a = 1",
    "arrays": "x = " + "[" * 20_000 + "]" * 20_000,
    "tables": "x = " + "{a = " * 9_000 + "1" + "}" * 9_000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_keys_are_refused_before_they_are_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong: a preset of 40 KB took 42 s and 1.6 GiB, as the work grows with the square of a key's parts."""
    monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("was parsed"))
    with pytest.raises(PresetError, match="x.toml: not TOML: line [12]: (a key has more than|more than) 32"):
        parse_preset(text, name="x", place="x.toml")


@pytest.mark.parametrize("text", [
    f'x = "{"." * 99}"', f"x = '{'[' * 99}'", f'x = """\n{"a.[" * 99}\\""""', f"x = \'\'\'\n{'{.' * 99}\'\'\'\'\'",
    f"# {'[.' * 99}\nx = 1", f"x = [{'1.5, ' * 99}]", f"x = [{'[1.5], ' * 99}]",
    "a.b.c = 1\n" + "".join(f"a.d{n} = 1.5\n" for n in range(99)),
    f'"{"." * 99}"."\\"{"." * 99}".c = 1', "".join(f"[a.b{n}]\nc = {{d.e = 1}}\n" for n in range(99)),
])  # fmt: skip
def test_dots_and_brackets_within_texts_are_no_depth(text: str) -> None:
    assert parse_toml(text) == tomllib.loads(text)
