"""Studies on the embedded model: what is made, what is kept, and what a dry run says before."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from steercpp.cli.main import main
from steercpp.data.pairs import read_pairs
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, RunError
from steercpp.experiments.study.preset import parse_preset
from steercpp.experiments.study.preview import preview, sweep_token_layers
from steercpp.experiments.study.study import Choices, study
from steercpp.runs.result import open_run
from steercpp.sweeps.work import WORKS
from steercpp.vectors.gguf import read_vector

pytestmark = pytest.mark.slow

OWN = load().path
SMALL = f"""
about = "Refusing, on the embedded model."

[vectors.refuse]
model = "chat"
pairs = "{OWN.parent / "refusal.pairs.jsonl"}"
method = "mean"
layers = "5-6"
limit = 8

[synthesis.answers]
model = "chat"
vector = "refuse"
requests = "{OWN.parent / "refusal.behavior.jsonl"}"
refuse = 60.0
comply = -60.0
max_tokens = 6
limit = 4

[vectors.said]
model = "base"
pairs = "answers"
method = "mean"
layers = "5-6"

[runs.refusal]
model = "base"
vector = "said"
strengths = "-8,8"
behavior = "{OWN.parent / "refusal.behavior.jsonl"}"
tasks = ["{OWN.parent / "knowledge.choice.jsonl"}"]
limit = 12
random_directions = 1
max_tokens = 4
matchers = ["refusal"]
constants = true
paper = {{ b_at_0 = -0.5 }}
"""


def opened(path: Path) -> Engine:
    return Engine(path, threads=1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "small"
    study(parse_preset(SMALL, name="small", place="small"), {"base": OWN, "chat": OWN}, load=opened, out=out)
    return out


def test_everything_of_a_study_is_in_its_folder(measured: Path) -> None:
    pairs = read_pairs(measured / "small" / "pairs" / "answers.jsonl")
    assert 2 <= len(pairs) <= 4
    for name in ("refuse", "said"):
        vector = read_vector(measured / "small" / "vectors" / f"{name}.gguf")
        assert vector.layers == (5, 6)
        np.testing.assert_allclose(list(vector.norms.values()), 1.0, atol=1e-6)  # float32
    run = open_run(measured / "small" / "runs" / "refusal")
    assert run.finished and run.strengths.tolist() == [-8.0, 0.0, 8.0]
    assert {path.name for path in run.folder.iterdir()} >= {"constants.json", "tradeoff.png", "alignment.csv"}
    manifest = json.loads((measured / "study.json").read_text())
    assert manifest["finished"] and manifest["runs"] == {"small: refusal": "small/runs/refusal"}
    assert set(manifest["plan"]["presets"]) == {"small"}


def test_the_same_study_again_computes_nothing(measured: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in measured.rglob("*") if path.is_file()}
    preset = parse_preset(SMALL, name="small", place="small")
    found = study(preset, {"base": OWN, "chat": OWN}, load=opened, out=measured)
    (outcome,) = found.outcomes
    assert outcome.result.decoded_now == 0
    changed = {
        path.name for path in measured.rglob("*") if path.is_file() and path.stat().st_mtime_ns != before.get(path)
    }
    assert changed <= {"study.json", "study.html"}
    (rows, said) = outcome.rows()
    assert rows.measure == "probabilities" and said.measure == "refusal"
    at_0 = int(np.flatnonzero(outcome.result.strengths == 0)[0])
    assert outcome.result.behavior is not None
    assert rows.figures["b_at_0"] == outcome.result.behavior.mean_normalized[at_0]
    assert found.to_json()["runs"][0]["paper"] == {"alignment_at_0": -0.5}


def test_the_page_of_a_study_leads_to_the_runs(measured: Path) -> None:
    page = (measured / "study.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]+)"', page)
    assert links == ["small/runs/refusal/report.html"] and (measured / links[0]).is_file()
    assert "the authors&#39; data" in page and "−0.5</td>" in page and page.count("<svg") == 1


def test_a_file_that_was_changed_is_made_again(tmp_path: Path) -> None:
    """Only what depends on it: the vector, and the sweep refuses what it was not begun with."""
    text = (
        SMALL[: SMALL.index("[synthesis")]
        + """
[runs.refusal]
model = "chat"
vector = "refuse"
strengths = "8"
"""
        + f'behavior = "{OWN.parent / "refusal.behavior.jsonl"}"\nlimit = 10\nrandom_directions = 0\n'
    )
    preset, models = parse_preset(text, name="small", place="small"), {"chat": OWN}
    study(preset, models, load=opened, out=tmp_path)  # type: ignore[arg-type]
    vector = tmp_path / "small" / "vectors" / "refuse.gguf"
    good = vector.read_bytes()
    vector.write_bytes(b"damaged")
    found = study(preset, models, load=opened, out=tmp_path)  # type: ignore[arg-type]
    assert vector.read_bytes() == good and found.outcomes[0].result.decoded_now == 0
    with pytest.raises(RunError, match=r"another plan \(other limit\); choose another folder with `out`"):
        study(preset, models, load=opened, out=tmp_path, choices=Choices(limit=5))  # type: ignore[arg-type]
    assert vector.read_bytes() == good


def test_a_missing_model_is_told_before_anything_is_done(tmp_path: Path) -> None:
    preset = parse_preset(SMALL, name="small", place="small")
    with pytest.raises(InputError, match="needs a chat model; give its file as `chat`"):
        study(preset, {"base": OWN}, load=opened, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_dry_run_counts_what_the_run_then_computes(measured: Path) -> None:
    preset = parse_preset(SMALL, name="small", place="small")
    steps = {step.title: step for step in preview(preset, {"base": OWN, "chat": OWN}, load=opened)}
    assert list(steps) == ["vector refuse", "vector said: chat model answers, steered by refuse", "run refusal"]
    run = steps["run refusal"]
    assert run.counts == {"behavior": 12, "choice": 12, "strengths": 3}
    assert run.n_drawn == 12 * 3 * 4 and run.seconds > 0
    result = open_run(measured / "small" / "runs" / "refusal")
    tokens = result.manifest.to_json()["tokens"]
    assert 0.5 < (tokens["token_layers"] + tokens["token_layers_texts"]) / run.token_layers <= 1.0
    with opened(OWN) as engine:
        works = {kind: WORKS[kind](engine, result.items(kind)) for kind in ("behavior", "choice")}
    scored = sweep_token_layers(works, n_layer=8, first_layer=5, n_strengths=3, n_controls=2)
    assert tokens["token_layers"] == scored
    assert steps["vector refuse"].counts == {"pairs": 8}
    prompt, template = run.prompts["choice"]
    assert isinstance(prompt, str) and prompt.endswith("The answer is") and template == "raw"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["study", *arguments], catch_exceptions=False)


def test_presets_are_listed_and_printed() -> None:
    listed = command()
    assert listed.exit_code == 0 and "wolf2024/humaneval" in listed.stdout
    names = [each["name"] for each in json.loads(command("--json").stdout)["presets"]]
    assert "wolf2024/all" in names
    printed = command("wolf2024/fairness-base", "--print")
    assert parse_preset(printed.stdout, name="copy", place="copy").runs.keys() == {"fairness"}
    wrong = command("wolf2024/fairnes-base")
    assert wrong.exit_code == 1 and "did you mean wolf2024/fairness-base?" in wrong.stderr


def test_a_study_from_the_command_line(measured: Path, tmp_path: Path) -> None:
    own = tmp_path / "small.toml"
    own.write_text(SMALL)
    both = ("--base", "embedded", "--chat", "embedded", "--threads", "1")
    dry = command(str(own), *both, "--dry-run")
    assert dry.exit_code == 0 and "Nothing was measured" in dry.stdout and "The answer is" in dry.stdout
    assert max(map(len, dry.stdout.splitlines())) < 400  # prompts stand as they are
    shown = command(str(own), *both, "--out", str(measured))
    assert shown.exit_code == 0 and "small: refusal" in shown.stdout and "the authors' data" in shown.stdout
    data = json.loads(command(str(own), *both, "--out", str(measured), "--json").stdout)
    assert data["preset"] == "small" and len(data["runs"]) == 1
    no_model = command(str(own), "--base", "embedded")
    assert no_model.exit_code == 1 and "--chat" in no_model.stderr


def test_what_a_model_writes_is_not_asked_for_if_it_may_not_run(tmp_path: Path) -> None:
    text = (
        SMALL[: SMALL.index("[synthesis")]
        + """
[runs.code]
model = "chat"
vector = "refuse"
strengths = "1"
tasks = ["code"]
max_tokens = 4
"""
    )
    own = tmp_path / "code.toml"
    own.write_text(text)
    out = tmp_path / "out"
    refused = command(str(own), "--chat", "embedded", "--threads", "1", "--out", str(out))
    assert refused.exit_code == 1 and "run code: the answers are programs" in refused.stderr
    assert "--allow-code-execution" in refused.stderr and not out.exists()
    dry = command(str(own), "--chat", "embedded", "--threads", "1", "--dry-run")
    assert "--allow-code-execution is needed" in dry.stdout


def test_an_error_says_where_and_another_try_is_free(tmp_path: Path) -> None:
    """A single pair leaves nothing when it is centred: nothing was made, so other options are no other study."""
    own, out = tmp_path / "small.toml", tmp_path / "out"
    own.write_text(
        SMALL[: SMALL.index("[synthesis")].replace('"mean"', '"pca-centered"')
        + f"""
[runs.refusal]
model = "chat"
vector = "refuse"
strengths = "8"
behavior = "{OWN.parent / "refusal.behavior.jsonl"}"
random_directions = 0
"""
    )
    given = (str(own), "--chat", "embedded", "--threads", "1", "--out", str(out))
    failed = command(*given, "--limit", "1")
    assert failed.exit_code == 1 and "small, run refusal: vector refuse: layer 5: centring leaves" in failed.stderr
    assert command(*given, "--limit", "6").exit_code == 0
    assert "another plan" in command(*given, "--limit", "5").stderr


def test_of_two_sides_a_study_tells_the_harmful_one(tmp_path: Path) -> None:
    """Their mean B says nothing of a vector that moves them oppositely; and nothing is told of where nothing was."""
    text = (
        SMALL[: SMALL.index("[synthesis")]
        + """
[runs.refusal]
model = "chat"
vector = "refuse"
strengths = "-60:60:20"
behavior = "refusal"
limit = 12
random_directions = 0
"""
    )
    preset = parse_preset(text, name="small", place="small")
    found = study(preset, {"chat": OWN}, load=opened, out=tmp_path)
    (outcome,) = found.outcomes
    (row,) = outcome.rows()
    scores, sides = outcome.result.behavior, outcome.result.side_items
    assert scores is not None and sides is not None
    at_0 = int(np.flatnonzero(outcome.result.strengths == 0)[0])
    assert row.figures["b_at_0"] == pytest.approx(scores.normalized[at_0, sides["harmful"]].mean())
    assert row.figures["b_at_0"] != pytest.approx(scores.mean_normalized[at_0], abs=1e-3)
    assert np.isnan(row.figures["crossing"]) or abs(row.figures["crossing"]) <= 60
