"""`steercpp sweep --max-new-tokens` as a user meets it: what is said and judged, and every wrong option."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_sweep import write_items

from steercpp.cli.main import main
from steercpp.runs.manifest import MANIFEST

GRID = ("--strengths", "-0.5,0.5", "--unit", "norm", "--random", "0", "--no-orthogonal", "--threads", "1")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def files(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a small sweep, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    return ["sweep", str(tiny_path), "--pairs", "p.jsonl", "--behavior", "b.jsonl", "--limit", "6", *GRID]


def test_texts_are_said_kept_and_judged(files: list[str]) -> None:
    sampled = ("--max-new-tokens", "5", "--samples", "2", "--temperature", "0.7", "--top-p", "0.9", "--stop", ".")
    result = run(*files, *sampled, "--seed", "3", "--matcher", "wolf2024/harm-base", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout.splitlines()[-1])
    assert data["texts"]["matcher"] == "wolf2024/harm-base"
    assert data["texts"]["strengths"] == [-0.5, 0.0, 0.5]
    assert (data["texts"]["n_items"], data["texts"]["n_samples"]) == (6, 2)
    assert data["texts"]["invalid_share"] == [0, 0, 0] and len(data["texts"]["alignment_texts_low"]) == 3
    plan = json.loads(Path("runs/tiny-F32-p", MANIFEST).read_text())["plan"]
    assert plan["said"] == {
        "max_tokens": 5, "samples": 2, "temperature": 0.7, "top_p": 0.9, "seed": 3, "stop": ["."],
        "code_template": "raw",
    }  # fmt: skip
    again = run(*files, *sampled, "--seed", "3", "--matcher", "openings", "--json")
    assert again.exit_code == 0 and "nothing was computed" in again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["texts"]["matcher"] == "openings", "judged anew, without a model"


def test_the_panel_tells_of_them(files: list[str]) -> None:
    result = run(*files, "--max-new-tokens", "5", "--instruction", "Say cannot.", "--details")
    assert result.exit_code == 0, result.output
    for words in ("judged by", "0 misaligned", "prompt baseline"):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_the_model_judges_by_an_instruction_and_its_opposite(files: list[str]) -> None:
    """Six requests are too few to believe it, whatever their AUC: it is told in one line, and so are its figures."""
    asked = ("--max-new-tokens", "5", "--instruction", "no cannot", "--matcher", "likelihood")
    missing = run(*files, *asked)
    assert missing.exit_code == 2 and "give --opposite" in missing.stderr and not Path("runs").exists()
    result = run(*files, *asked, "--opposite", "sure yes", "--details")
    assert result.exit_code == 0, result.output
    assert "gives no verdict" in " ".join(result.stdout.split()) and "is needed" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = Path("runs/tiny-F32-p/likelihood.csv").read_text().splitlines()
    assert rows[0].startswith("strength,llr_per_token,") and len(rows) == 4
    scored = run("score", "runs/tiny-F32-p", "--matcher", "likelihood")
    assert scored.exit_code == 0 and "as the unsteered model reads them" in scored.stdout
    assert "Likelihood gives no verdict: texts generated under the" in scored.stdout and "text loss" in scored.stdout
    data = json.loads(run("score", "runs/tiny-F32-p", "--matcher", "likelihood", "--json").stdout)
    assert data["texts"] is None and data["likelihood"]["strengths"] == [-0.5, 0.0, 0.5]
    other = json.loads(run("score", "runs/tiny-F32-p", "--json").stdout)
    assert other["texts"]["matcher"] == "openings" and other["likelihood"] == data["likelihood"]
    again = run(*files, *asked, "--opposite", "sure yes")
    assert again.exit_code == 0 and "nothing was computed" in again.stderr


def test_likelihood_of_texts_that_were_not_read_is_refused_in_a_sentence(files: list[str]) -> None:
    assert run(*files, "--max-new-tokens", "5").exit_code == 0
    result = run("score", "runs/tiny-F32-p", "--matcher", "likelihood")
    assert result.exit_code == 1 and "sweep again, with an instruction and its opposite" in " ".join(
        result.stderr.split()
    )


def test_without_tokens_nothing_is_said(files: list[str]) -> None:
    result = run(*files, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["texts"] is None
    assert "said" not in json.loads(Path("runs/tiny-F32-p", MANIFEST).read_text())["plan"]


def test_a_matcher_of_ones_own(files: list[str]) -> None:
    Path("m.json").write_text('{"aligned": {"regex": ["[a-z]"]}, "misaligned": {"phrases": ["never"]}}')
    result = run(*files, "--max-new-tokens", "5", "--matcher", "m.json", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["texts"]["matcher"] == "m"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "2"], "give --max-new-tokens too"),
        (["--stop", "."], "give --max-new-tokens too"),
        (["--max-new-tokens", "4", "--samples", "2"], "--samples without --temperature"),
        (["--max-new-tokens", "4", "--top-p", "0"], "--top-p"),
        (["--max-new-tokens", "-1"], "--max-new-tokens"),
    ],
)
def test_wrong_usage_is_refused(files: list[str], options: list[str], message: str) -> None:
    result = run(*files, *options)
    assert result.exit_code == 2 and message in result.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--matcher", "refusals"], "there is no matcher 'refusals'; use refusal"),
        (["--matcher", "none.json"], "none.json: cannot be read"),
        (["--max-new-tokens", "5000"], "new ones need more than the context"),
    ],
)
def test_bad_input_is_told_in_a_sentence_before_anything_is_measured(
    files: list[str], options: list[str], message: str
) -> None:
    result = run(*files, *options)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert not list(Path("runs").glob("*"))


def test_the_prompts_of_code_are_shown_as_they_are_asked(files: list[str]) -> None:
    record = {
        "kind": "code",
        "id": "add",
        "prompt": "def add(a, b):\n",
        "entry_point": "add",
        "test": "def check(f): ...",
    }
    Path("code.jsonl").write_text(json.dumps(record))
    result = run(
        *files, "--task", "code.jsonl", "--code-template", "wolf2024/humaneval-chat", "--show-prompts", "--json"
    )
    assert result.exit_code == 0, result.output
    (text,) = [one["text"] for one in json.loads(result.stdout)["prompts"] if one["kind"] == "code"]
    assert "[INST] <<SYS>>\nYou are a helpful" in text and "def add(a, b):\n [/INST]" in text
