"""One name for one quantity: every column of every CSV file and every JSON key of a measure is in docs/measures.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from small_sweep import ANSWER, BEHAVIOR, CHOICE, TEXT, small_sweep

from steercpp.data.items import OwnItem
from steercpp.engine.engine import Engine
from steercpp.reports.headings import ENDS, WORDS, heading
from steercpp.reports.tables import tables
from steercpp.runs.judgement import Judgement, judge
from steercpp.spreadsheets import Columns
from steercpp.statistics.names import OLDER, renamed
from steercpp.sweeps.own_answers import own_answers
from steercpp.sweeps.texts import TextPlan

pytestmark = pytest.mark.slow  # a sweep of every kind of item

# What a table says beside measures: what a row is of, and how a number was made
SETTING = {
    "strength", "strengths", "label", "kind", "id", "subject", "couple", "moves", "was", "is", "measure", "form",
    "parameter", "value", "se", "low", "high", "r2", "aicc", "confidence", "intervals", "n_points", "valid", "reason",
    "formula",
}  # fmt: skip
IN_JSON = {
    "matcher", "n_items", "n_samples", "n_pairs", "context", "by_subject", "unsteered", "separation", "agreement",
    "refused", "n_behavior", "n_choice", "candidate", "confirmed", "break_even", "efficient_regime", "chosen_on",
    "reported_on", "doubts", "max_loss", "max_invalid", "direction", "weight", "failed",
}  # fmt: skip
SINGLE = {"items", "failures", "fits"}  # rows of single items, of counts, and of parameters with ends of their own


def documented() -> dict[str, str]:
    """Names in the last table of docs/measures.md, with their meanings."""
    text = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8").split("| Name | Meaning | Unit |")[1]
    rows = [line.split(" | ") for line in text.replace("\\|", "¦").splitlines() if line.startswith("| `")]
    names = [(name, row[1]) for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert len(names) == len(dict(names)), "a name stands twice"
    return dict(names)


def quantity(column: str) -> str:
    """The name of what a column is of: without its endings."""
    for end in ENDS:
        column = column.removesuffix(end)
    return re.sub(r"^pass_at_\d+(_[a-z0-9]+)?$", "pass_at_K", column)


@pytest.fixture(scope="module")
def judgement(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    """A run of every kind of item but code, which is run in a sandbox."""
    behavior = [replace(item, subject=("harmful", "harmless")[i % 2], couple=f"n{i // 2}") for i, item in
                enumerate(BEHAVIOR)]  # fmt: skip
    contexts = ("ambiguous", "disambiguated")
    choice = [replace(item, by="text", biased=0, unknown=3, context=contexts[i % 2], couple=f"n{i // 2}")
              for i, item in enumerate(CHOICE)]  # fmt: skip
    text = [replace(item, couple=f"p{i // 2}", side=("more", "less")[i % 2]) for i, item in enumerate(TEXT)]
    answer = [replace(item, number="7") for item in ANSWER]
    requests = [OwnItem(f"o-{word}", f"What of the {word}?") for word in ("man", "day", "way", "life", "world", "time")]
    result = small_sweep(
        tiny_engine, tmp_path_factory.mktemp("names") / "run", behavior=behavior, choice=choice, answer=answer,
        text=text, own=own_answers(tiny_engine, requests, max_tokens=4), strengths=(-0.5, 0.5),
        text_plan=TextPlan(max_tokens=4), opposite="yes good",
    )  # fmt: skip
    return judge(result)


@pytest.fixture(scope="module")
def made(judgement: Judgement) -> Mapping[str, Columns]:
    return tables(judgement)


def rows_of_measures(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The parts of a run's JSON that hold measures, each with where it stands."""
    controls, recommendation = record["controls"], record["recommendation"]
    yield from (("strengths", row) for row in record["strengths"])
    yield from (("controls", row) for row in (controls["unsteered"], controls["orthogonal"], *controls["random"]))
    yield "recommendation", recommendation
    for half in ("chosen_on", "reported_on"):
        yield half, recommendation[half] or {}
    for name in ("texts", "numbers", "text_pairs", "likelihood"):
        yield name, record[name] or {}
    yield from (("bias", row) for row in record["bias"])
    yield from (("failures", row) for rows in record["failures"].values() for row in rows or ())
    for name in ("sides", "text_sides"):
        yield from ((name, row) for row in record[name]["rows"])
    yield from (("coupled", row) for row in record["coupled"]["correlations"])


def test_the_run_has_every_table(made: Mapping[str, Columns]) -> None:
    assert set(made) == {
        "alignment", "helpfulness", "tradeoff", "answers", "own", "perplexity", "texts", "likelihood", "numbers",
        "bias", "text_pairs", "items", "failures", "coupled", "controls", "fits",
    }  # fmt: skip


def test_every_column_is_documented_and_has_words(made: Mapping[str, Columns]) -> None:
    names, used = documented(), set()
    for table, columns in made.items():
        for column in columns:
            if column not in SETTING:
                assert quantity(column) in names, f"{table}.csv: {column}"
                assert quantity(column) in WORDS and heading(column), f"{table}.csv: {column}"
                used.add(quantity(column))
    assert {"alignment_texts", "p_own", "nats_apart", "saturated", "over_refusal_texts", "mass"} <= used


def test_every_measure_in_json_is_documented(judgement: Judgement) -> None:
    names = documented()
    record = json.loads(json.dumps(judgement.record()))
    for where, row in rows_of_measures(record):
        for key in row:
            assert key in SETTING | IN_JSON or quantity(key) in names, f"{where}: {key}"


def test_every_name_has_words_of_its_own() -> None:
    documented_names = {name for name in documented() if name not in ("strength", "pass_at_K")}
    assert documented_names <= set(WORDS), "in docs/measures.md, and not in headings.py"
    assert len(set(WORDS.values())) == len(WORDS), "two names have the same words: one quantity, two names?"


def test_no_older_name_is_written(judgement: Judgement, made: Mapping[str, Columns]) -> None:
    """B was `alignment` in one CSV and `b` in another and in JSON, P(correct) `p_correct` and `p_free`."""
    older = set(OLDER) - {"invalid"}  # the name of a judgement of texts as well
    assert not older & {column for name, columns in made.items() if name != "fits" for column in columns}
    record = json.loads(json.dumps(judgement.record()))
    assert not [key for _, row in rows_of_measures(record) for key in row if key in OLDER]
    assert {"alignment", "alignment_raw"} <= set(record["controls"]) and "said" not in record


def test_every_measured_mean_has_an_interval(made: Mapping[str, Columns]) -> None:
    for table in made.keys() - SINGLE:
        columns = set(made[table])
        for name in columns - SETTING:
            if not name.endswith(("_se", "_low", "_high")):
                assert f"{name}_high" in columns, f"{table}.csv: {name}"
                if name not in ("loss", "invalid_share", "broken_share"):  # these are judged by their upper bound alone
                    assert f"{name}_low" in columns, f"{table}.csv: {name}"


def test_intervals_hold_their_means(made: Mapping[str, Columns]) -> None:
    n_checked = 0
    for table in made.keys() - SINGLE:
        for name, values in made[table].items():
            bounds = [made[table].get(f"{name}{end}") for end in ("_low", "_high")]
            for i, value in enumerate(values):
                low, high = (float("nan") if ends is None or ends[i] is None else ends[i] for ends in bounds)
                if isinstance(value, float) and value == value:
                    assert not low > value + 1e-9 and not high < value - 1e-9, (table, name, low, value, high)
                    n_checked += low == low and high == high
    assert n_checked > 100


def test_a_record_of_an_earlier_version_is_renamed() -> None:
    assert renamed({"strength": 0.0, "b": 0.1, "p_free": 0.6}) == {"strength": 0.0, "alignment": 0.1, "p_correct": 0.6}


def test_cross_and_scan_use_the_same_names() -> None:
    texts = {name: Path(ROOT, "steercpp", "experiments", f"{name}.py").read_text() for name in ("cross", "scan")}
    for name, text in texts.items():
        keys = set(re.findall(r'"(\w+)":', text))
        assert not keys & set(OLDER), name
        assert {"alignment", "alignment_raw"} <= keys
