"""`steercpp convert`, `combine` and `cosine` as a user meets them: files, JSON, tables, pictures, one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click import BadParameter
from click.testing import CliRunner, Result
from matplotlib.image import imread
from vector_bytes import I32, gguf_bytes, keys, load_like_llama_cpp, tensor

from steercpp.cli.commands.combine import parse_term
from steercpp.cli.main import COMMANDS, main
from steercpp.reports.vector_figures import cosine_figure
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.formats import read_any_vector, write_any_vector
from steercpp.vectors.gguf import read_vector


def vector(seed: int, layers: tuple[int, ...] = (1, 2, 3), n_embd: int = 16, **metadata: MetaValue) -> ControlVector:
    rng = np.random.default_rng(seed)
    return ControlVector({il: rng.standard_normal(n_embd).astype(np.float32) for il in layers}, "llama", 8, metadata)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_any_vector("a.gguf", vector(0, method="mean", explained=(0.5, 0.25, 0.75)))
    write_any_vector("b.npz", vector(1, (2, 3)))
    write_any_vector("c.safetensors", vector(2, (3, 5)))
    write_any_vector("ablate.gguf", vector(0, operator="ablate"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"COLUMNS": "80"})


def good(*arguments: str) -> Result:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80 or "--json" in arguments
    return result


def sentence(*arguments: str) -> str:
    """What a command says that cannot be done; it writes nothing."""
    before = sorted(Path().iterdir())
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert sorted(Path().iterdir()) == before
    return result.stderr


# --- convert -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["v.npz", "v.safetensors", "v.gguf"])
def test_convert_there_and_back_gives_the_same_file(path: str) -> None:
    good("convert", "a.gguf", path)
    good("convert", path, "back.gguf")
    assert Path("back.gguf").read_bytes() == Path("a.gguf").read_bytes()


def test_the_file_to_write_may_be_named_as_elsewhere() -> None:
    good("convert", "a.gguf", "-o", "o.npz")
    good("convert", "a.gguf", "n.npz")
    assert Path("o.npz").read_bytes() == Path("n.npz").read_bytes()
    for wrong in (["convert", "a.gguf"], ["convert", "a.gguf", "x.npz", "-o", "y.npz"]):
        result = run(*wrong)
        assert result.exit_code == 2 and "name it behind IN, or with --out" in " ".join(result.stderr.split())
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        for option in command.params:
            assert "--out" not in option.opts or "-o" in option.opts


def test_convert_json_describes_what_was_written() -> None:
    data = json.loads(good("convert", "a.gguf", "v.npz", "--layers", "2-3", "--bake", "-2", "--json").stdout)
    assert (data["file"], data["format"], data["notes"]) == ("v.npz", "npz", [])
    assert [row["layer"] for row in data["layers"]] == [2, 3]
    assert data["metadata"]["baked_strength"] == -2 and [row["explained"] for row in data["layers"]] == [0.25, 0.75]
    read, made = read_any_vector("v.npz")[0], read_vector("a.gguf")
    for il in (2, 3):
        np.testing.assert_array_equal(read.directions[il], -2 * made.directions[il])


def test_convert_ends_with_the_option_of_llama_cpp() -> None:
    for arguments, last in (
        (("v.gguf",), "llama-server -m MODEL.gguf --control-vector-scaled v.gguf:1.0"),
        (("w.gguf", "--bake", "1.5"), "llama-server -m MODEL.gguf --control-vector w.gguf"),
        (("it: v.gguf",), "llama-server -m MODEL.gguf --control-vector 'it: v.gguf'"),  # one colon is allowed there
        (("x,y.gguf",), "there."),  # the end of the advice to rename it
    ):
        assert good("convert", "a.gguf", *arguments).stdout.splitlines()[-1].rstrip() == last
    assert "splits the name of a vector at a comma" in good("convert", "a.gguf", "x,y.gguf", "--force").stdout
    assert "llama" not in good("convert", "a.gguf", "v.npz").stdout.splitlines()[-1]


def test_convert_moves_the_layers_of_llama_cvector_generator() -> None:
    raw = gguf_bytes(keys(kind=I32), [tensor("direction.1", [1.0, 0.0]), tensor("direction.2", [0.0, 1.0])])
    Path("theirs.gguf").write_bytes(raw)
    data = json.loads(
        good("convert", "theirs.gguf", "v.gguf", "--layer-convention", "cvector-generator", "--json").stdout
    )
    assert [row["layer"] for row in data["layers"]] == [0, 1] and data["metadata"]["layer_convention"] == "applied"
    assert data["notes"] == [
        "theirs.gguf: each direction was moved to the layer below, where llama-cvector-generator measured it",
        "layer 0 is kept in steercpp.direction.0: llama.cpp steers the other layers only",
    ]
    np.testing.assert_array_equal(load_like_llama_cpp(Path("v.gguf")), [[0, 1]])
    data = json.loads(good("convert", "theirs.gguf", "w.gguf", "--layers", "1", "--json").stdout)
    assert [row["layer"] for row in data["layers"]] == [1] and "block k-1" in data["notes"][0]
    assert "leave it so" in sentence("convert", "v.gguf", "x.gguf", "--layer-convention", "cvector-generator")


def test_convert_does_not_hide_the_pca_fault_of_llama_cvector_generator() -> None:
    """Moving the layers does not mend the directions, and nothing in the new file would tell."""
    raw = gguf_bytes(keys(kind=I32), [tensor("direction.1", [0.5, 0.0]), tensor("direction.2", [0.0, 1.0])])
    Path("theirs.gguf").write_bytes(raw)
    for arguments in (("v.npz",), ("v.gguf", "--layer-convention", "cvector-generator")):
        notes = json.loads(good("convert", "theirs.gguf", *arguments, "--json").stdout)["notes"]
        assert any(note.startswith("theirs.gguf: norms from 0.5 to 1 instead of 1") for note in notes)


def test_convert_sets_the_model_hint_and_takes_the_formats_it_is_told() -> None:
    np.savez("theirs.npz", **{"4": np.ones(3, np.float32)})  # type: ignore[arg-type]
    good("convert", "theirs.npz", "v.bin", "--to", "gguf", "--model-hint", "qwen2")
    good("convert", "v.bin", "v.safetensors", "--from", "gguf")
    read, notes = read_any_vector("v.safetensors")
    assert (read.model_hint, read.layers, notes) == ("qwen2", (4,), ())


@pytest.mark.parametrize("out", ["v.gguf", "v.npz", "v.safetensors"])
def test_convert_tells_how_a_vector_is_kept_that_is_not_simply_added(out: str) -> None:
    result = good("convert", "ablate.gguf", out)
    assert "note: meant for operator ablate: written under steercpp.direction.<layer>" in result.stdout
    assert "--control-vector" not in result.stdout
    assert read_any_vector(out)[0].metadata["operator"] == "ablate"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("ablate.gguf", "v.gguf", "--bake", "2"), "error: ablate.gguf: no strength can be baked into a vector that"),
        (("a.gguf", "v.gguf", "--bake", "0"), "strength 0.0 cannot be baked in"),
        (("a.gguf", "v.gguf", "--bake", "nan"), "strength nan cannot be baked in"),
        (("a.gguf", "v.gguf", "--bake", "1e39"), "error: a.gguf: layer 1: element"),
        (
            ("a.gguf", "v.gguf", "--layers", "5"),
            "error: a.gguf: the vector has no direction at layer 5; it has 1, 2, 3",
        ),
        (("a.gguf", "v.gguf", "--layers", "90"), "--layers 90: there is no layer 90"),
        (("a.gguf", "v.bin"), "v.bin: its name tells no format; end it in .gguf, .npz or .safetensors"),
        (("a.gguf", "b.npz"), "b.npz: exists already; choose another name or give --force"),
        (("a.gguf", "none/v.npz"), "the folder none does not exist; make it first"),
        (("none.gguf", "v.npz"), "none.gguf: cannot be read: No such file"),
        (("b.npz", "v.gguf", "--from", "gguf"), "b.npz: not a GGUF file"),
        (("a.gguf", "v.npz", "--from", "npz"), "a.gguf: not an intact npz file"),
    ],
)
def test_convert_errors(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in sentence("convert", *arguments)


def test_convert_in_place_with_force() -> None:
    good("convert", "a.gguf", "a.gguf", "--bake", "2", "--force")
    assert read_vector("a.gguf").metadata["baked_strength"] == 2


# --- combine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.gguf", ("a.gguf", 1.0)),
        ("a.gguf:0.5", ("a.gguf", 0.5)),
        ("a.gguf:-1e-3", ("a.gguf", -1e-3)),
        (r"C:\vectors\a.gguf", (r"C:\vectors\a.gguf", 1.0)),
        ("c:/vectors/a.gguf", ("c:/vectors/a.gguf", 1.0)),
        (r"C:\vectors\a.gguf:-0.5", (r"C:\vectors\a.gguf", -0.5)),
        ("odd:2", ("odd:2", 1.0)),  # a file of this name is there, and none named "odd"
        ("odd:2:3", ("odd:2", 3.0)),
        ("a:b.gguf", ("a:b.gguf", 1.0)),  # there too
    ],
)
def test_a_term_is_a_file_and_its_weight(text: str, expected: tuple[str, float]) -> None:
    for name in ("odd:2", "a:b.gguf"):
        Path(name).touch()
    assert parse_term(text) == (Path(expected[0]), expected[1])


@pytest.mark.parametrize("text", ["a.gguf:", "a.gguf:x", "a.gguf:nan", "a.gguf:inf", ":1", "none:y.gguf"])
def test_a_term_that_is_none(text: str) -> None:
    with pytest.raises(BadParameter, match="is not FILE or FILE:WEIGHT with a number"):
        parse_term(text)
    assert run("combine", text, "-o", "v.gguf").exit_code == 2


def test_combine_writes_the_sum_and_tells_what_it_was_made_of() -> None:
    data = json.loads(good("combine", "a.gguf:2", "b.npz:-0.5", "-o", "v.gguf", "--json").stdout)
    assert data["metadata"]["combined.files"] == ["a.gguf", "b.npz"]
    assert data["metadata"]["combined.weights"] == [2, -0.5] and data["metadata"]["combined.methods"][0] == "mean"
    assert len(data["metadata"]["combined.sha256"]) == 2 and "explained" not in data["metadata"]
    a, b, total = read_vector("a.gguf"), read_any_vector("b.npz")[0], read_vector("v.gguf")
    np.testing.assert_array_equal(total.directions[1], 2 * a.directions[1])
    # halves and doubles are exact, their sum is rounded once
    np.testing.assert_array_equal(total.directions[2], 2 * a.directions[2] - b.directions[2] / 2)


@pytest.mark.parametrize("normalize", ["unit", "keep", "first"])
def test_combine_orthogonalises_and_then_normalizes(normalize: str) -> None:
    good(
        "combine", "a.gguf", "b.npz", "-o", "v.npz", "--orthogonal-to", "c.safetensors", "--orthogonal-to", "b.npz",
        "--normalize", normalize,
    )  # fmt: skip
    made = read_any_vector("v.npz")[0]
    a, b, c = (read_any_vector(name)[0] for name in ("a.gguf", "b.npz", "c.safetensors"))
    for other in (b, c):
        assert abs(made.directions[3].astype(np.float64) @ other.directions[3]) < 1e-5  # of lengths about 4 and 4
    both = {il: np.linalg.norm(a.directions[il] + (b.directions[il] if il > 1 else 0)) for il in (1, 2, 3)}
    expected = {"unit": dict.fromkeys((1, 2, 3), 1.0), "keep": both, "first": a.norms}[normalize]
    assert made.norms == pytest.approx(expected, rel=1e-6)
    assert made.metadata["orthogonal_to.files"] == ("c.safetensors", "b.npz")
    assert made.metadata["normalized"] == normalize


def test_combine_leaves_out_what_cancels_and_refuses_nothing_at_all() -> None:
    write_any_vector("d.gguf", ControlVector({1: vector(0).directions[1]}, "llama", 8))
    data = json.loads(good("combine", "a.gguf", "d.gguf:-1", "-o", "v.gguf", "--json").stdout)
    assert [row["layer"] for row in data["layers"]] == [2, 3]
    assert "the weighted sum is zero at every layer" in sentence("combine", "a.gguf", "a.gguf:-1", "-o", "w.gguf")
    assert "nothing is left at any layer" in sentence("combine", "a.gguf", "-o", "w.gguf", "--orthogonal-to", "a.gguf")


def test_combine_errors_name_the_files() -> None:
    write_any_vector("wide.gguf", vector(0, n_embd=32))
    other = ControlVector(vector(1).directions, "qwen2", 8)
    write_any_vector("qwen.gguf", other)
    out = ("-o", "v.gguf")
    assert "wide.gguf has 32 values per layer, a.gguf has 16" in sentence("combine", "a.gguf", "wide.gguf", *out)
    assert "qwen.gguf is for a model of architecture 'qwen2'" in sentence("combine", "a.gguf", "qwen.gguf", *out)
    assert "ablate.gguf is meant for operator ablate" in sentence("combine", "a.gguf", "ablate.gguf", *out)
    assert "wide.gguf has 32 values" in sentence("combine", "a.gguf", *out, "--orthogonal-to", "wide.gguf")
    first = sentence("combine", "b.npz", "a.gguf", *out, "--normalize", "first")
    assert "layer 1 has no length; lengths are given for layers 2, 3, as the first vector has" in first
    assert "none.gguf: cannot be read" in sentence("combine", "none.gguf", *out)
    assert "exists already" in sentence("combine", "a.gguf", "-o", "b.npz")
    assert run("combine", "a.gguf", *out, "--normalize", "keep").exit_code == 2
    assert run("combine", *out).exit_code == 2


def test_notes_on_the_files_are_told() -> None:
    Path("theirs.gguf").write_bytes(gguf_bytes(keys(hint=None), [tensor("direction.1", [1.0] * 16)]))
    assert "note: theirs.gguf: " in good("combine", "a.gguf", "theirs.gguf", "-o", "v.gguf").stdout


# --- cosine ------------------------------------------------------------------------------------------------------


def test_cosine_json() -> None:
    data = json.loads(good("cosine", "a.gguf", "b.npz", "c.safetensors", "--json").stdout)
    assert [one["file"] for one in data["vectors"]] == ["a.gguf", "b.npz", "c.safetensors"]
    assert [row["layer"] for row in data["layers"]] == [1, 2, 3, 5]
    assert data["layers"][0]["cosines"][0] == [1, None, None]
    a, b = vector(0).directions[2].astype(np.float64), vector(1, (2, 3)).directions[2].astype(np.float64)
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert data["layers"][1]["cosines"][0][1] == pytest.approx(expected, abs=1e-12)
    assert data["overall"][0][2] == pytest.approx(data["layers"][2]["cosines"][0][2], abs=1e-12)  # layer 3 alone
    assert data["chance"] == pytest.approx(1.96 / 4)


def test_the_old_name_of_cosine_works_and_is_not_listed() -> None:
    files = "a.gguf", "b.npz"
    for how in ((), ("--json",)):
        assert good("compare", *files, *how).stdout == good("cosine", *files, *how).stdout
    listed = good("--help").stdout
    assert "\n  cosine " in listed and "\n  compare " not in listed


def test_cosine_table() -> None:
    lines = [line.split() for line in good("cosine", "a.gguf", "b.npz", "c.safetensors").stdout.splitlines()]
    assert ["layer", "1·2", "1·3", "2·3"] in lines and ["1", "–", "–", "–"] in lines
    assert ["1", "2", "3"] in lines and ["1", "a.gguf"] in lines


def many(n: int, n_layer: int) -> list[str]:
    for k in range(n):
        rows = {il: np.random.default_rng([k, il]).standard_normal(8).astype(np.float32) for il in range(n_layer)}
        write_any_vector(f"many{k}.npz", ControlVector(rows, "llama", n_layer))
    return [f"many{k}.npz" for k in range(n)]


@pytest.mark.parametrize(("n", "n_layer"), [(2, 1), (4, 80), (10, 80), (12, 3)])
def test_cosine_stays_within_80_columns(n: int, n_layer: int) -> None:
    good("cosine", *many(n, n_layer))


@pytest.mark.parametrize(("n", "n_layer"), [(2, 1), (10, 80)])
def test_cosine_draws(n: int, n_layer: int) -> None:
    result = good("cosine", *many(n, n_layer), "--figure", "f.png")
    assert result.stdout.splitlines()[-1] == "f.png"
    assert imread("f.png").shape[1] > 400


def test_the_picture_is_the_same_each_time_and_says_which_vector_is_which() -> None:
    good("cosine", "a.gguf", "b.npz", "--figure", "f.svg")
    good("cosine", "a.gguf", "b.npz", "--figure", "g.svg")
    assert Path("f.svg").read_bytes() == Path("g.svg").read_bytes()
    figure = cosine_figure(["x/a.gguf", "$b$\x1b.npz", "c" * 99], [vector(0), vector(1, (2, 3)), vector(2, (3, 5))])
    words = [text.get_text() for text in figure.axes[0].texts]
    listed = words[-1].splitlines()
    assert listed[0] == "1  x/a.gguf" and listed[1] == "2  ?b??.npz" and listed[2].startswith("3  …c")
    assert words.count("–") == 0 and words.count("1.00") == 3
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[1].lines}
    assert set(lines) == {"1·2", "1·3", "2·3"}
    assert np.isnan(lines["1·2"][0]) and not np.isnan(lines["1·2"][1])  # layers 1 and 2


def test_the_map_of_many_pairs_has_a_row_for_each() -> None:
    figure = cosine_figure([f"{k}" for k in range(5)], [vector(k) for k in range(5)])
    (image,) = figure.axes[1].images
    data = np.asarray(image.get_array())
    assert data.shape == (10, 3)
    a, b = (vector(k).directions[2].astype(np.float64) for k in (1, 4))
    place = [label.get_text() for label in figure.axes[1].get_yticklabels()].index("2·5")
    assert data[place, 1] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)


def test_cosine_errors() -> None:
    write_any_vector("wide.gguf", vector(0, n_embd=32))
    assert "wide.gguf has 32 values per layer, a.gguf has 16" in sentence("cosine", "a.gguf", "wide.gguf")
    assert "end it in .png or .svg" in sentence("cosine", "a.gguf", "b.npz", "--figure", "f.jpg")
    Path("f.png").touch()
    assert "f.png: exists already" in sentence("cosine", "a.gguf", "b.npz", "--figure", "f.png")
    assert run("cosine", "a.gguf").exit_code == 2


def test_cosine_tells_of_different_architectures() -> None:
    write_any_vector("qwen.gguf", ControlVector(vector(1).directions, "qwen2", 8))
    notes = json.loads(good("cosine", "a.gguf", "qwen.gguf", "--json").stdout)["notes"]
    assert notes == ["made for models of different architecture: llama, qwen2"]
