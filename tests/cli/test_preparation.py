"""`steercpp sweep MODEL` with nothing but a vector's source named: what is found, said, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from architectures import ARCHITECTURES
from click.testing import CliRunner, Result
from gguf import GGUFValueType
from gguf_keys import write_with_keys
from tiny_model import CHAT_TEMPLATE

from steercpp.cli.main import main
from steercpp.data.sets.embedded import load
from steercpp.runs.folder import PREPARED
from steercpp.runs.result import open_run
from steercpp.vectors.gguf_header import Value

EMBEDDED = load()
FOLDER = EMBEDDED.path.parent
NAMED = (
    "sweep", EMBEDDED.path, "--pairs", FOLDER / "refusal.pairs.jsonl", "--behavior", FOLDER / "refusal.behavior.jsonl",
    "--limit", "24", "--instruction", EMBEDDED.instruction, "--random", "2", "--threads", "1", "--no-texts",
)  # fmt: skip


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.mark.slow
def test_layers_and_strengths_are_found_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*NAMED, "--json", "-o", "run")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout.splitlines()[-1])
    found = data["preparation"]
    assert len(found["windows"]) >= 4 and set(found["sides"]) == {"+", "-"} and len(found["strengths"]) == 17
    assert data["plan"]["unit"] == "norm" and data["plan"]["strengths"] == found["strengths"]
    assert data["vector"]["layers"] == found["layers"] and data["items"]["own"] < data["items"]["own_telling"]
    assert data["verdict"]["kind"] in ("use", "unproved", "costs", "nothing")

    # what was found is read, not found again; --details shows it
    written = (tmp_path / "run" / PREPARED).read_bytes()
    again = run(*NAMED, "--details", "-o", "run")
    assert again.exit_code == 0 and "finished already" in again.stderr
    assert (tmp_path / "run" / PREPARED).read_bytes() == written
    assert "Found on this model" in again.stdout and "windows at about" in again.stdout
    assert max(map(len, again.stdout.splitlines())) <= 80 or "llama-server" in again.stdout

    # other layers are another plan
    other = run(*NAMED, "--layers", "5-6", "-o", "run")
    assert (other.exit_code, other.stdout) == (1, "") and "holds a sweep of another plan" in other.stderr
    assert open_run("run").preparation is not None


@pytest.mark.slow
def test_a_dry_run_tells_signals_and_work_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*NAMED, "--dry-run")
    assert result.exit_code == 0, result.output
    for words in ("own answers", "continuations", "letters", "token-layers", "minutes", "MiB"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    data = json.loads(run(*NAMED, "--dry-run", "--json").stdout)
    assert data["plan"]["token_layers"] > data["plan"]["n_tokens"] > 1000 and data["reason"] == ""
    assert {signal["measure"] for signal in data["signals"]} >= {"own answers", "continuations"}
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_quick_answer_is_marked_and_lies_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*NAMED, "--quick")
    assert result.exit_code == 0, result.output
    (folder,) = Path("runs").iterdir()
    assert folder.name.endswith("-quick")
    found = open_run(folder).preparation
    assert found is not None and found.scope.quick
    for text in (result.stdout, result.stderr):
        assert (
            " ".join(text.split()).count("A quick first answer: 20 of 24 behavior items, 24 of 72 everyday answers")
            == 1
        )
    assert "A quick first answer: 20 of 24" in (folder / "report.html").read_text()
    data = json.loads(run(*NAMED, "--quick", "--json").stdout.splitlines()[-1])  # the same command: nothing is computed
    assert data["verdict"]["scope"] == found.scope.sentence and data["preparation"]["scope"]["quick"] is True
    assert data["preparation"]["strengths"] == list(found.strengths)
    # nothing of it is taken for a full sweep, and a full one is not refused by it
    other = run(*NAMED, "-o", folder)
    assert (other.exit_code, other.stdout) == (1, "")
    message = " ".join(other.stderr.split())
    assert "holds a quick sweep, not a full sweep" in message and "choose another folder with --out" in message


@pytest.mark.slow
def test_a_budget_that_nothing_fits_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*NAMED, "--budget", "0.01s")
    assert (result.exit_code, result.stdout) == (1, "") and not list(tmp_path.glob("runs/*/*"))
    told = " ".join(result.stderr.split())
    assert "the smallest sweep, of 20 behavior items" in told and "raise --budget" in told and "`" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget", "10"), "is no time: write 90s, 10m or 2h"),
        (("--budget", "0m"), "is no time"),
        (("--budget", "tenm"), "is no time"),
        (("--strengths=-1,1", "--quick"), "leave --strengths out"),
        (("--unit", "kl", "--budget", "1h"), "for what is found on MODEL"),
    ],
)
def test_how_much_is_said_well(tiny_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run("sweep", tiny_path, "--pairs", "honesty", *arguments, "--threads", "1")
    assert result.exit_code == 2 and words in " ".join(result.stderr.split()), result.stderr


def test_a_quick_sweep_of_the_embedded_model_is_refused() -> None:
    result = run("sweep", "--quick")
    assert result.exit_code == 2 and "MODEL is missing" in " ".join(result.stderr.split())


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gemma3"])
def test_random_weights_cannot_be_measured(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    path = tiny_path
    if shape != "llama":
        bare = ARCHITECTURES[shape].write(tmp_path / "bare.gguf")
        template = Value(GGUFValueType.STRING, CHAT_TEMPLATE)
        path = write_with_keys(bare, tmp_path / f"{shape}.gguf", {"tokenizer.chat_template": template})
    monkeypatch.chdir(tmp_path)
    asks = ("--instruction", "say no", "--opposite", "say yes", "--behavior", "own", "--limit", "6")
    result = run("sweep", path, "--pairs", FOLDER / "refusal.pairs.jsonl", *asks, "--threads", "1", "-o", "run")
    assert result.exit_code == 0, result.output
    assert "This model cannot be measured so" in result.stdout and "llama-server" not in result.stdout
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pairs", "p.jsonl", "--behavior", "own"), "give --instruction and --opposite"),
        (("--pairs", "p.jsonl"), "--instruction and --opposite ask the model"),
        (("--pairs", "honesty", "--strengths", "-1,1", "--dry-run"), "leave --strengths out"),
    ],
)
def test_what_is_needed_is_said(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_bytes((FOLDER / "refusal.pairs.jsonl").read_bytes())
    result = run("sweep", tiny_path, *arguments, "--threads", "1")
    assert result.exit_code == 2 and words in " ".join(result.stderr.split()), result.stderr
