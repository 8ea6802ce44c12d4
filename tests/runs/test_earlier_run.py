"""A run that was written before plan and manifest became dataclasses: it opens, and gives the same numbers.

earlier_run/ is a sweep of the tiny random model in the unit "kl" with generated texts; earlier_run.json is what the
version that wrote it read from it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from places import ROOT

from steercpp.runs.database import FORMAT
from steercpp.runs.folder import examine
from steercpp.runs.judgement import judge
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import open_run
from steercpp.statistics.names import OLDER, renamed

RUN = ROOT / "tests" / "runs" / "earlier_run"


def same(left: Any, right: Any) -> bool:
    """Whether a JSON value holds all of another one; numbers to 1e-6, as fits end in other last digits elsewhere.

    Keys of the second must be there and in their order; the first may have more.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        known = [key for key in left if key in right]
        return known == list(right) and all(same(left[key], right[key]) for key in right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9)
    return bool(left == right)


def by_todays_names(record: dict[str, Any]) -> dict[str, Any]:
    """What the earlier version read, with the names that its quantities have today."""
    controls = renamed(record["controls"])
    for label in ("unsteered", "orthogonal", "prompt"):
        controls[label] = None if controls[label] is None else renamed(controls[label])
    controls["random"] = [renamed(row) for row in controls["random"]]
    recommendation = renamed(record["recommendation"])
    recommendation["measure"] = OLDER.get(recommendation["measure"], recommendation["measure"])
    for half in ("chosen_on", "reported_on"):
        recommendation[half] = None if recommendation[half] is None else renamed(recommendation[half])
    return record | {
        "strengths": [renamed(row) for row in record["strengths"]], "fits": renamed(record["fits"]),
        "controls": controls, "recommendation": recommendation,
    }  # fmt: skip


def test_the_manifest_is_written_as_it_was_read() -> None:
    stored = json.loads((RUN / MANIFEST).read_text())
    manifest = read_manifest(RUN)
    # the order of the keys as well
    assert json.dumps(manifest.to_json()) == json.dumps({**stored, "format": FORMAT})
    assert manifest.plan.sha256 == stored["plan_sha256"]
    assert examine(RUN) == manifest


def test_a_run_of_the_version_before_gives_the_same_numbers() -> None:
    expected = json.loads((ROOT / "tests" / "runs" / "earlier_run.json").read_text())
    result = open_run(RUN)
    read = json.loads(json.dumps(result.to_json()))
    del read["run"], read["vector"]["file"]
    assert same(read, by_todays_names(expected["result"]))
    assert [text.text for text in result.texts(0.5)] == expected["texts"]


def test_the_comparison_sees_a_difference() -> None:
    assert not same({"a": [1.0, 2.0]}, {"a": [1.0, 2.001]}) and not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert same({"a": 1, "b": 2}, {"a": 1}) and not same({"a": 1}, {"a": 1, "b": 2})


def test_the_keys_of_a_judgement_stay() -> None:
    assert set(judge(open_run(RUN)).record()) == {
        "run", "finished", "model", "items", "plan", "tokens", "resume", "gate_open", "vector", "strengths", "fits",
        "recommendation", "controls", "notes", "judging", "per_item", "optimum", "sides", "text_sides", "coupled",
        "by_side", "failures", "code", "likelihood", "texts", "showcase", "numbers", "bias", "text_pairs",
    }  # fmt: skip
