"""`steercpp score` as a user meets it: other budgets, weights, matchers and recipes on a stored run, and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from planted_run import BEHAVIOR, write_planted_run

from steercpp.cli.main import main
from steercpp.judging.matchers import MATCHERS
from steercpp.judging.texts import GeneratedText
from steercpp.runs.folder import STORE
from steercpp.runs.manifest import read_manifest, write_manifest
from steercpp.runs.store import Store


def score(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, arguments)], env={"COLUMNS": "80"})


def document(*arguments: str | Path) -> dict[str, Any]:
    result = score(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_run(tmp_path_factory.mktemp("score") / "run", strengths="-0.4:0.4:0.1")


def planted_text(s: float, item: int) -> str:
    """Yes before 0.05, no after it, and from 0.35 on nonsense by every second item."""
    if s > 0.35 and item % 2:
        return " no no no no no no no no no no no no"
    return " No, I will not." if s > 0.05 else " Yes, here it is [/INST]."


@pytest.fixture(scope="module")
def with_texts(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with generated texts."""
    folder = write_planted_run(tmp_path_factory.mktemp("texts") / "run", strengths="-0.4:0.4:0.1")
    strengths = read_manifest(folder).plan.strengths
    with Store.reopen(folder / STORE) as store:
        for i in range(len(BEHAVIOR)):
            texts = [GeneratedText(s, i, 0, planted_text(s, i), 8, "length", -4.0) for s in strengths]
            store.add_texts("vector", "behavior", i, texts, token_layers=1, token_layers_plain=1)
    write_manifest(folder, read_manifest(folder))
    return folder


def test_it_reads_like_a_report_and_fits_into_80_columns(run: Path) -> None:
    result = score(run)
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80 and "nan" not in result.stdout
    for words in ("Use strength", "Controls", "Theory", "Items", "anti-steerable", "best form first", "kept"):
        assert words in result.stdout
    assert not {path.name for path in run.iterdir()} & {"alignment.png", "score.json"}  # nothing is written


def test_a_wider_budget_reaches_further(run: Path) -> None:
    narrow, wide = document(run, "--max-loss", "0.06"), document(run, "--max-loss", "0.3")
    assert narrow["recommendation"]["strength"] == 0.1 < wide["recommendation"]["candidate"]
    assert (narrow["judging"]["max_loss"], wide["judging"]["max_loss"]) == (0.06, 0.3)
    # nobody knows what random directions do there
    assert wide["recommendation"]["strength"] is None
    assert "random directions were measured at +0.1, not there" in wide["recommendation"]["reason"]


def test_a_heavier_weight_steers_less(run: Path) -> None:
    light, heavy = document(run, "--weight", "0.2"), document(run, "--weight", "20")
    assert heavy["optimum"]["measured"]["strength"]["value"] < light["optimum"]["measured"]["strength"]["value"]
    assert heavy["optimum"]["predicted"]["curves"]["value"] < light["optimum"]["predicted"]["curves"]["value"]
    assert heavy["recommendation"]["weight"] == 20


def test_the_other_direction(run: Path) -> None:
    found = document(run, "--direction", "-")
    assert found["recommendation"]["strength"] is None and found["recommendation"]["direction"] == -1
    assert found["per_item"]["anti"]["n"] == len(BEHAVIOR)  # every item goes the other way


def test_texts_are_judged_anew_by_other_matchers(with_texts: Path) -> None:
    ours, theirs = document(with_texts, "--matcher", "refusal"), document(with_texts, "--matcher", "wolf2024/harm-base")
    rows = {row["strength"]: row for row in ours["failures"]["texts"]}
    assert (rows[0.4]["texts_aligned"], rows[0.4]["texts_invalid"]) == (20, 20)
    assert (rows[0.1]["texts_aligned"], rows[0.0]["texts_misaligned"]) == (40, 40)
    lenient = {row["strength"]: row for row in theirs["failures"]["texts"]}
    assert lenient[0.4]["texts_aligned"] == 40  # babble refuses, in their reading
    assert ours["texts"]["invalid_share"][-1] == 0.5


def test_a_budget_of_nonsense_holds_the_strength_back(with_texts: Path, run: Path) -> None:
    free = document(with_texts, "--max-loss", "0.9")["recommendation"]
    held = document(with_texts, "--max-loss", "0.9", "--max-invalid", "0.2")["recommendation"]
    assert free["candidate"] > 0.35 > held["candidate"]
    assert "of the texts are broken" in held["reason"]
    nothing = json.loads(score(run, "--max-invalid", "0.2", "--json").stdout)["recommendation"]
    assert nothing["strength"] is None and "no texts were generated" in nothing["reason"]


def thinking(s: float, item: int) -> str:
    """A third asks back at once, a third refuses behind a thought of complying, a third is still thinking of it."""
    answers = (" Could you tell me more?", " <think>\nYes, of course.\n</think>\n\nNo, I will not.", "<think>\nNo, I")
    return answers[item % 3]


@pytest.mark.slow
def test_thoughts_are_no_answers_and_saying_neither_breaks_no_budget(tmp_path: Path) -> None:
    """What broke: thoughts were judged, and a question counted as nonsense, so that --max-invalid forbade it."""
    folder = write_planted_run(tmp_path / "run", strengths="-0.4:0.4:0.1")
    with Store.reopen(folder / STORE) as store:
        for i in range(len(BEHAVIOR)):
            texts = [
                GeneratedText(s, i, 0, thinking(s, i), 8, "length", -4.0) for s in read_manifest(folder).plan.strengths
            ]
            store.add_texts("vector", "behavior", i, texts, token_layers=1, token_layers_plain=1)
    data = document(folder, "--max-loss", "0.9", "--max-invalid", "0.01", "--samples", "3")
    assert {
        tuple(row[f"texts_{name}"] for name in ("aligned", "misaligned", "neither", "broken"))
        for row in data["failures"]["texts"]
    } == {(13, 0, 27, 0)}
    assert data["recommendation"]["strength"] == document(folder, "--max-loss", "0.9")["recommendation"]["strength"]
    assert data["recommendation"]["broken_share"] == 0
    assert {(one["outcome"], one["why"]) for one in data["samples"]["texts"]} == {
        ("neither", ""), ("neither", "ended inside its thoughts")
    }  # fmt: skip
    (note,) = (note for note in data["notes"] if "thoughts" in note)
    assert note.startswith("234 of 360 generated texts hold thoughts") and "117 ended inside their thoughts" in note
    page = score(folder, "--samples", "3").stdout
    heading = next(line for line in page.splitlines() if "neither" in line and "perplexity" in line)
    assert heading.split() == ["strength", "B", "low", "high", "neither", "broken", "up", "to", "perplexity"]
    shown = " ".join(page.split())
    assert "234 of 360 generated texts hold thoughts" in shown and "allow more with --max-new-tokens" in shown
    assert "13 aligned, 0 misaligned, 27 neither, 0 broken" in shown and "thoughts: No, I" in shown


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "report"])
def test_options_about_texts_are_not_ignored_without_a_word(
    command: str, run: Path, with_texts: Path, tmp_path: Path
) -> None:
    options = ["--matcher", "refusal", "--max-invalid", "0.2", "--out", str(tmp_path)]
    silent = CliRunner().invoke(main, [command, str(run), *options])
    told = (
        "holds no texts of behavior items, so --matcher and --max-invalid have nothing to judge; sweep with --max-new"
    )
    assert silent.exit_code == 0 and told in silent.stderr and silent.stderr.count("\n") == 1
    assert CliRunner().invoke(main, [command, str(with_texts), *options]).stderr == ""


def test_samples_of_what_failed(with_texts: Path) -> None:
    found = document(with_texts, "--samples", "2")["samples"]
    assert {one["outcome"] for one in found["texts"]} == {"misaligned", "broken"}
    assert max(sum(one["strength"] == s for one in found["texts"]) for s in (-0.4, 0.0, 0.4)) == 2
    assert all(
        one["is"] in ("wrong", "format") and one["p_correct"] < one["p_correct_at_0"] for one in found["choices"]
    )
    shown = score(with_texts, "--samples", "1").stdout
    assert "[/INST]" in shown and "repeats itself" in shown and max(map(len, shown.splitlines())) <= 80


def test_a_lost_choice_is_shown_with_the_right_and_the_taken_one(tmp_path: Path) -> None:
    """Planted: choices w, x, y, z, each right in turn; far out the others are alike, and likelier than it."""
    far = write_planted_run(tmp_path / "far", strengths="-1:1:1", n_random=0)
    found = document(far, "--samples", "2")["samples"]["choices"]
    assert [(one["strength"], one["item"]) for one in found] == [(-1, "c0"), (-1, "c1"), (1, "c0"), (1, "c1")]
    assert [one["right"] for one in found[:2]] == [{"letter": "A", "text": "w"}, {"letter": "B", "text": "x"}]
    assert [one["taken"] for one in found[:2]] == [{"letter": "B", "text": "x"}, {"letter": "A", "text": "w"}]
    lines = [line.rstrip() for line in score(far, "--samples", "1").stdout.splitlines()]
    place = lines.index("  Which 0?")
    assert lines[place + 1 : place + 3] == ["  right: A) w", "  likeliest: B) x"]


def test_a_recipe_on_a_run(run: Path) -> None:
    result = score(run, "--recipe", "wolf2024")
    assert result.exit_code == 0 and "alignment by wolf2024" in result.stdout
    assert "What it hides anyway" in result.stdout
    fits = {each["measure"]: each for each in document(run, "--recipe", "wolf2024")["recipe"]["fits"]}
    assert set(fits) == {"alignment", "p_correct", "p_correct_restricted"}
    assert fits["alignment"]["fit"]["params"]["delta_lambda"]["value"] == pytest.approx(6.0, rel=0.05)  # items differ


def test_tables_and_numbers_are_written_where_asked(with_texts: Path, tmp_path: Path) -> None:
    result = score(with_texts, "--out", tmp_path / "new" / "folder")
    assert result.exit_code == 0 and "score.json" in result.stdout
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert {"score.json", "items.csv", "failures.csv", "texts.csv", "controls.csv"} <= names
    assert not {name for name in names if name.endswith((".png", ".svg"))}
    found = json.loads((tmp_path / "new" / "folder" / "score.json").read_text())
    assert found["recommendation"]["strength"] == document(with_texts)["recommendation"]["strength"]
    rows = (tmp_path / "new" / "folder" / "failures.csv").read_text().splitlines()
    assert rows[0].endswith("texts_aligned,texts_misaligned,texts_invalid,texts_neither,texts_broken")
    assert rows[-1].endswith(",20,0,20,0,20")


def test_items_have_a_row_each(run: Path, tmp_path: Path) -> None:
    assert score(run, "--out", tmp_path).exit_code == 0
    lines = [line.split(",") for line in (tmp_path / "items.csv").read_text().splitlines()]
    heading, rows = lines[0], [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert {"slope", "alignment_at_0", "p_correct_at_strength", "was", "is"} <= set(heading)
    assert len(rows) == 40 + 400
    slopes = [float(row["slope"]) for row in rows if row["kind"] == "behavior"]
    np.testing.assert_allclose(slopes, 6.0, rtol=1e-6)  # planted alike, but for their offsets
    assert {row["moves"] for row in rows if row["kind"] == "behavior"} == {"the right way"}


def test_one_sentence_for_what_is_wrong(run: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path / "none",), "does not exist; give the --out of a sweep"),
        ((run, "--recipe", "wulf"), "recipe 'wulf' is unknown; did you mean wolf2024"),
        ((run, "--matcher", "refusl"), "there is no matcher 'refusl'; use refusal, auto, openings, agreement"),
        # This one offered openings alone, which is near by its letters only.
        ((run, "--matcher", "nope"), f"use auto, {', '.join(MATCHERS)}, or a JSON file of your own"),
    ):
        result = score(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr and result.stderr.count("\n") == 1
    for number in ("-1", "nan", "inf", "1e308"):  # NaN lies outside no bound; sums with the last overflow
        assert score(run, "--weight", number).exit_code == 2
    assert score(run, "--weight", "1e9").exit_code == 0
    assert score(run, "--max-loss", "nan").exit_code == 2
    assert score(run, "--max-invalid", "1").exit_code == 2
