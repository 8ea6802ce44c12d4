"""`steercpp extract` as a user meets it: the file, the JSON, and one sentence where it cannot be done."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from places import EMBEDDED
from tiny_model import write_tiny_model, write_vocabulary_only

from steercpp.cli.commands.extract import _next
from steercpp.cli.main import main
from steercpp.cli.options.pairs import PairOptions
from steercpp.data.pairs import read_pairs
from steercpp.engine.engine import Engine
from steercpp.extraction.activations_file import dump
from steercpp.extraction.methods import METHODS
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import read_any_vector
from steercpp.vectors.gguf import read_vector, write_vector
from steercpp.vectors.notes import small_majorities

LINES = [
    {"positive": "The girl was very happy and", "negative": "The girl was very sad and"},
    {"positive": "We would like to help you", "negative": "We cannot help you, sorry"},
    {"positive": "yes", "negative": "no"},
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["extract", "--threads", "1", *map(str, arguments)], env={"COLUMNS": "80"})


def test_json_and_file_agree(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.gguf"
    result = run(tiny_path, "--pairs", pairs, "-o", out, "--layers", "1-2", "--method", "pca", "--json")
    assert (result.exit_code, result.stderr) == (0, "")  # no progress bar where stderr is no terminal
    data = json.loads(result.stdout)
    vector = read_vector(out)
    assert data["file"] == str(out) and data["notes"] == []
    assert [row["layer"] for row in data["layers"]] == list(vector.layers) == [1, 2]
    assert data["metadata"]["method"] == vector.metadata["method"] == "pca"
    assert data["metadata"]["n_pairs"] == 3
    shown = CliRunner().invoke(main, ["show", str(out), "--json"])
    assert json.loads(shown.stdout) == data


@pytest.mark.parametrize("method", ["pca-centered", "pca-pairs", "mean"])
def test_a_sign_by_a_small_majority_is_told(tiny_path: Path, tmp_path: Path, method: str) -> None:
    """Centring leaves no mean, so the sign is that of most pairs: 11 to 9 was taken without a word."""
    path, out = tmp_path / "pairs.jsonl", tmp_path / "v.gguf"
    sides = [(f"The {word} is good", f"A {word} was not") for word in "abcdefghijklmnopqrst"]
    lines = [{"positive": a, "negative": b} for a, b in sides]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(tiny_path, "--pairs", path, "-o", out, "--layers", "2", "--method", method, "--json")
    data, vector = json.loads(result.stdout), read_vector(out)
    if method == "mean":  # whose sign is its own
        assert "majority" not in vector.metadata and data["notes"] == []
        return
    with Engine(tiny_path, threads=1) as engine:
        positive, negative = (engine.activations([engine.encode(text) for text in side], layers=(2,)) for side in
                              zip(*sides, strict=True))  # fmt: skip
    n = int((((positive - negative)[:, 0] @ vector.directions[2]) > 0).sum())
    assert data["layers"][0]["majority"] == pytest.approx(n / 20) and 10 <= n <= 20
    told = [note for note in data["notes"] if f"{n} of 20 pairs at layer 2" in note]
    assert bool(told) == (n < 15)  # 14 to 6 is not sure at 5%, nor 20 coins that fall so


def test_a_small_majority_is_told_by_show_and_turns_with_the_vector(tmp_path: Path) -> None:
    path = tmp_path / "v.gguf"
    rows = {il: np.ones(8, np.float32) for il in (1, 2)}
    vector = ControlVector(rows, "llama", 4).with_metadata(method="pca-centered", n_pairs=20, majority=(0.55, 0.9))
    write_vector(path, vector)
    shown = CliRunner().invoke(main, ["show", str(path)], env={"COLUMNS": "80"}).stdout
    assert "majority that chance can give (11 of 20 pairs at layer 1)" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert vector.scaled(-1.0).metadata["majority"] == pytest.approx((0.45, 0.1))
    assert small_majorities(vector.restricted_to([2])) == ()


def test_report_for_people_ends_with_the_next_command(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "a vector.gguf"
    result = run(tiny_path, "--pairs", pairs, "-o", out)
    assert (result.exit_code, result.stderr) == (0, "")
    last = result.stdout.splitlines()[-1]
    assert last == f"steercpp sweep {tiny_path} --vector '{out}' --behavior B.jsonl --task T.jsonl"


def test_without_a_model_the_embedded_one_and_its_pairs(tmp_path: Path) -> None:
    if find_spec("steercpp.data.sets.embedded") is None or not EMBEDDED.exists():
        pytest.skip("models/embedded.gguf is not there; make it with `make model`")
    result = run("-o", tmp_path / "v.gguf")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == f"steercpp sweep --vector {tmp_path / 'v.gguf'}"
    assert read_vector(tmp_path / "v.gguf").metadata["model_file"] == EMBEDDED.name


def test_raw_and_chat(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    for flags in ([], ["--raw"], ["--chat"]):
        assert run(tiny_path, "--pairs", pairs, "-o", tmp_path / "".join(["v", *flags, ".gguf"]), *flags).exit_code == 0
    auto, raw, chat = (
        read_vector(tmp_path / name).directions[1].tobytes() for name in ("v.gguf", "v--raw.gguf", "v--chat.gguf")
    )
    assert auto == raw != chat


def test_an_existing_file_is_kept_before_anything_is_computed(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.gguf"
    out.write_bytes(b"precious")
    result = run(tmp_path / "no-model.gguf", "--pairs", pairs, "-o", out)
    assert result.exit_code == 1 and "v.gguf: exists already" in result.stderr and "--force" in result.stderr
    assert out.read_bytes() == b"precious"


def test_force_does_not_replace_what_is_read(tiny_path: Path, pairs: Path, dumped: Path, tmp_path: Path) -> None:
    """`-o MODEL --force` used to leave a vector in the model's place."""
    model = tmp_path / "model.gguf"
    shutil.copy(tiny_path, model)
    for arguments, out in (((model, "--pairs", pairs), model), ((model, "--pairs", pairs), pairs),
                           (("--activations", dumped), dumped)):  # fmt: skip
        before = out.read_bytes()
        result = run(*arguments, "-o", out, "--force")
        assert result.exit_code == 1 and "is read for what would be written there" in result.stderr
        assert out.read_bytes() == before


def test_the_next_command_after_activations_is_for_their_model(dumped: Path, tiny_path: Path, tmp_path: Path) -> None:
    """It used to be one for the embedded model."""
    last = run("--activations", dumped, "-o", tmp_path / "v.gguf").stdout.splitlines()[-1]
    assert last == f"steercpp sweep {tiny_path.name} --vector {tmp_path / 'v.gguf'} --behavior B.jsonl --task T.jsonl"


def test_force_replaces_it(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.gguf"
    out.write_bytes(b"old")
    assert run(tiny_path, "--pairs", pairs, "-o", out, "--force").exit_code == 0
    assert read_vector(out).model_hint == "llama"


def test_bad_input_is_one_sentence_and_leaves_no_file(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"positive": "a"}\n')
    one = tmp_path / "one.jsonl"
    one.write_text(json.dumps(LINES[0]) + "\n")
    chat = tmp_path / "chat.jsonl"
    chat.write_text('{"positive": "yes", "negative": "no", "system": "Be brief."}\n')
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps(LINES[0]) + "\n" + json.dumps({"positive": "a", "negative": "b " * 1100}) + "\n")
    (tmp_path / "text.gguf").write_text("not a model")
    plain = write_tiny_model(tmp_path / "plain.gguf", chat_template=None)
    words = write_vocabulary_only(tmp_path / "words.gguf")
    cases: list[tuple[list[str | Path], str]] = [
        ([tiny_path, "--pairs", bad], "bad.jsonl:1: 'negative' is missing"),
        ([tiny_path, "--pairs", tmp_path / "none"], "none: cannot be read"),
        ([tiny_path, "--pairs", one, "--method", "pca-centered"], "layer 1: centring leaves nothing"),
        ([tiny_path, "--pairs", pairs, "--layers", "1-4"], "there is no layer 4; the model has layers 0..3"),
        ([tiny_path, "--pairs", pairs, "--layers", "x"], "'x' is not a layer"),
        ([tiny_path, "--pairs", chat, "--raw"], "a chat cannot be taken raw"),
        ([plain, "--pairs", chat], "chat.jsonl:1: positive prompt: the model file has no chat template"),
        # A base model and a chat: once each of two errors advised what the other refused.
        ([plain, "--pairs", chat, "--raw"], "the prompt is a chat; take the model's chat version, or items and pairs"),
        ([plain, "--pairs", "sentiment"], "the prompt is a chat; take the model's chat version, or items and pairs"),
        ([plain, "--pairs", pairs, "--chat"], "take the text as it stands, with --raw"),
        ([tiny_path, "--pairs", long], "long.jsonl:2: negative prompt: "),
        ([tiny_path, "--pairs", long], "tokens, the context holds 1024; shorten it or raise --n-ctx"),
        ([tmp_path / "none.gguf", "--pairs", pairs], "none.gguf"),
        ([tmp_path / "text.gguf", "--pairs", pairs], "text.gguf"),
        ([words, "--pairs", pairs], "words.gguf"),
    ]
    for arguments, expected in cases:
        result = run(*arguments, "-o", tmp_path / "v.gguf")
        assert (result.exit_code, result.stdout) == (1, ""), arguments
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
        assert expected in result.stderr
        assert not (tmp_path / "v.gguf").exists()


def test_a_folder_that_is_not_there(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    result = run(tiny_path, "--pairs", pairs, "-o", tmp_path / "none" / "v.gguf")
    assert result.exit_code == 1 and "does not exist; make it first" in result.stderr


def test_wrong_usage_is_exit_code_2(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.gguf"
    assert run(tiny_path, "--pairs", pairs).exit_code == 2
    assert run(tiny_path, "--pairs", pairs, "-o", out, "--method", "umap").exit_code == 2
    assert run(tiny_path, "--pairs", pairs, "-o", out, "--token", "all").exit_code == 2
    assert run(tiny_path, "--pairs", pairs, "-o", out, "--token", "first").exit_code == 2
    assert run(tiny_path, "--pairs", pairs, "-o", out, "--threads", "0").exit_code == 2
    alone = run(tiny_path, "-o", out)
    assert alone.exit_code == 2 and "--pairs" in alone.stderr
    assert not out.exists()


def test_block_0_is_written_with_a_note(tiny_path: Path, pairs: Path, tmp_path: Path) -> None:
    result = run(tiny_path, "--pairs", pairs, "-o", tmp_path / "v.gguf", "--layers", "0-1", "--json")
    assert "llama.cpp steers the other layers only" in json.loads(result.stdout)["notes"][0]
    assert read_vector(tmp_path / "v.gguf").layers == (0, 1)


def test_quality_is_shown_within_80_columns(tiny_path: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "more.jsonl"
    words = ("happy", "glad", "kind", "warm", "good", "great")
    pairs.write_text(
        "".join(json.dumps({"positive": f"We are {a}", "negative": f"We are not {a}"}) + "\n" for a in words)
    )
    out, picture = tmp_path / "v.gguf", tmp_path / "q.png"
    result = run(tiny_path, "--pairs", pairs, "-o", out, "--layers", "all", "--method", "lda", "--figure", picture)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    heading = next(line for line in lines if "layer" in line and "norm" in line)
    assert heading.split() == ["layer", "norm", "explained", "agree", "accuracy", "auc", "ratio", "stable"]
    at = lines.index(heading)
    assert [line.split()[0] for line in lines[at + 2 : at + 5]] == ["1", "2", "3"]
    assert max(len(line) for line in lines[at:] if str(tmp_path) not in line) <= 80
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = CliRunner().invoke(main, ["show", str(out)], env={"COLUMNS": "80"})
    assert heading in shown.stdout.splitlines()


@pytest.fixture
def dumped(tiny_path: Path, pairs: Path, tmp_path: Path) -> Path:
    with Engine(tiny_path, threads=1, n_batch=256) as engine:
        dump(engine, read_pairs(pairs), tmp_path / "a.safetensors", token="all")
    return tmp_path / "a.safetensors"


def test_activations_instead_of_a_model(tiny_path: Path, pairs: Path, dumped: Path, tmp_path: Path) -> None:
    """The same bytes, whether the pairs are decoded now or were before; and for another token another vector."""
    for token in ("last", "mean", "-2"):
        a, b = tmp_path / f"a{token}.gguf", tmp_path / f"b{token}.gguf"
        result = run("--activations", dumped, "-o", a, "--token", token, "--method", "pca")
        assert (result.exit_code, result.stderr) == (0, "")
        assert run(tiny_path, "--pairs", pairs, "-o", b, "--token", token, "--method", "pca").exit_code == 0
        assert read_vector(a).metadata["token"] == token
        if token == "last":
            assert a.read_bytes() == b.read_bytes()
        for il in (1, 2):  # dumped together with the other tokens: float32 sums in another order
            np.testing.assert_allclose(read_vector(a).directions[il], read_vector(b).directions[il], atol=1e-4)
    assert not np.allclose(read_vector(tmp_path / "alast.gguf").directions[1], read_vector(a).directions[1], atol=0.1)
    assert run(tiny_path, "--activations", dumped, "-o", a, "--layers", "all", "--force").exit_code == 0
    assert read_vector(a).layers == (1, 2, 3)


def test_activations_that_do_not_fit(tiny_path: Path, pairs: Path, dumped: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", seed=7)
    with Engine(tiny_path, threads=1) as engine:
        dump(engine, read_pairs(pairs), tmp_path / "part.safetensors", layers=[2])
    (tmp_path / "cut.safetensors").write_bytes(dumped.read_bytes()[:-100])
    cases: list[tuple[list[str | Path], str]] = [
        ([other, "--activations", dumped], "a.safetensors: made with tiny-F32.gguf"),
        (["--activations", dumped, "--layers", "2-5"], "there is no layer 5; the model has layers 0..3"),
        (["--activations", tmp_path / "part.safetensors", "--layers", "1-3"], "layer 1,3 is not there; name some of 2"),
        (["--activations", tmp_path / "part.safetensors", "--token", "mean"], "token last, not mean"),
        (["--activations", tmp_path / "cut.safetensors"], "cut.safetensors: cut off"),
        (["--activations", tmp_path / "none.safetensors"], "none.safetensors: cannot be read"),
        (["--activations", dumped, "--figure", tmp_path / "q.pdf"], "q.pdf: not the name of a picture"),
        (["--activations", pairs], "pairs.jsonl: no safetensors file"),
    ]
    for arguments, expected in cases:
        result = run(*arguments, "-o", tmp_path / "v.gguf")
        assert (result.exit_code, result.stdout) == (1, ""), arguments
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
        assert expected in result.stderr
        assert not (tmp_path / "v.gguf").exists()
    for more in (["--pairs", pairs], ["--raw"], ["--system", "Be kind."]):
        assert run("--activations", dumped, *more, "-o", tmp_path / "v.gguf").exit_code == 2
    assert run("--activations", tmp_path / "part.safetensors", "-o", tmp_path / "v.gguf").exit_code == 0


@pytest.mark.parametrize("name", ["v.npz", "v.safetensors", "v.GGUF"])
def test_the_name_tells_the_format(tiny_path: Path, pairs: Path, tmp_path: Path, name: str) -> None:
    assert run(tiny_path, "--pairs", pairs, "-o", tmp_path / name).exit_code == 0
    assert run(tiny_path, "--pairs", pairs, "-o", tmp_path / "w.gguf").exit_code == 0
    head = (tmp_path / name).read_bytes()[:9]
    assert head.startswith({"v.npz": b"PK", "v.GGUF": b"GGUF"}.get(name, b"")) and (
        name != "v.safetensors" or head[8:] == b"{"
    )
    made, _ = read_any_vector(tmp_path / name)
    expected = read_vector(tmp_path / "w.gguf")
    assert made.metadata == expected.metadata
    np.testing.assert_array_equal(made.directions[1], expected.directions[1])


def test_help_has_an_example_and_every_method() -> None:
    text = run("-h").stdout
    assert "Example: steercpp extract" in text
    assert all(method in text for method in METHODS)


def test_a_name_that_tells_no_format_is_refused(tmp_path: Path, tiny_path: Path, pairs: Path) -> None:
    """GGUF was written into v.txt without a word."""
    result = run(tiny_path, "--pairs", pairs, "-o", tmp_path / "v.txt")
    assert result.exit_code == 1 and "end it in .gguf, .npz or .safetensors" in result.stderr
    assert not (tmp_path / "v.txt").exists()


def test_a_built_in_set_is_measured_next_by_its_own_name(pairs: Path) -> None:
    vector = ControlVector({1: np.ones(8, np.float32)}, "llama", 4)
    for path, option in (("sentiment", "--behavior sentiment"), (pairs, "--behavior B.jsonl --task T.jsonl")):
        named = PairOptions(Path(path), "auto", None, None, (), None, None, None)
        command = _next(Path("m.gguf"), named, vector, Path("v.gguf"))[-1]
        assert str(command) == f"steercpp sweep m.gguf --vector v.gguf {option}"
