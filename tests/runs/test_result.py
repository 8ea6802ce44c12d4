"""What follows from a stored run: planted constants come back, and everything fits into plain data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from planted_run import B0, BEHAVIOR, CHOICE, DELTA_LAMBDA, A, B, write_planted_run

from steercpp.errors import RunError
from steercpp.runs.folder import STORE, VECTOR_FILE
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import SweepResult, open_run
from steercpp.runs.store import Group, Store


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return open_run(write_planted_run(tmp_path_factory.mktemp("planted") / "run"))


def test_scores_come_back(planted: SweepResult) -> None:
    assert planted.behavior is not None and planted.choice is not None
    assert planted.behavior.normalized.shape == (25, len(BEHAVIOR))
    np.testing.assert_allclose(planted.behavior.mass, 0.9, rtol=1e-12)  # exp(log(x)) in float64
    at_0 = planted.strengths.tolist().index(0.0)
    np.testing.assert_allclose(planted.choice.p_free[at_0], 1 / (1 + A), rtol=1e-12)
    np.testing.assert_allclose(planted.choice.p_restricted[at_0], 1 / (1 + A), rtol=1e-12)
    assert planted.choice.correct[at_0].all() and len(CHOICE) == 400


def test_planted_constants_are_recovered(planted: SweepResult) -> None:
    """The mean of items that differ is flatter than one item: Delta*lambda 5% below the planted, b within 2%."""
    fits = planted.fit()
    alignment, helpfulness = fits["alignment"][0], fits["helpfulness"][0]
    assert alignment.valid and helpfulness.valid and helpfulness.form.startswith("gaussian")
    assert 0.94 * DELTA_LAMBDA < alignment.params["delta_lambda"].value < DELTA_LAMBDA
    assert alignment.params["b0"].value == pytest.approx(B0, abs=0.1)  # 40 offsets of spread 0.3
    assert helpfulness.params["b"].value == pytest.approx(B, rel=0.02)
    assert alignment.r2 > 0.999 and helpfulness.r2 > 0.999
    assert "helpfulness_restricted" in fits


def test_the_recommendation_keeps_to_the_budget(planted: SweepResult) -> None:
    small, large = planted.recommend(max_loss=0.03), planted.recommend(max_loss=0.2)
    assert small is not None and large is not None and planted.choice is not None
    assert small.candidate is not None and large.candidate is not None and 0 < small.candidate < large.candidate
    p = dict(zip(planted.strengths.tolist(), planted.choice.mean_p_free, strict=True))
    assert 1 - p[large.candidate] / p[0.0] <= 0.2 and 1 - p[small.candidate] / p[0.0] <= 0.03
    # its controls were measured for the plan's own budget
    by_plan = planted.recommend()
    assert by_plan is not None and by_plan.strength == 0.1 == planted.controls.strength and small.strength is None
    assert planted.recommend(max_loss=0.03) is small  # not drawn anew
    other = planted.recommend(direction=-1)
    assert other is not None and other.strength is None  # that way lies less alignment


def test_controls_are_changes_against_strength_0(planted: SweepResult) -> None:
    assert planted.controls is not None
    record = planted.controls.record()
    assert (record["n"], record["strength"]) == (8, 0.1)
    sizes = np.abs(planted.controls.raw_changes)
    assert record["alignment_raw"]["median"] == np.median(sizes) and record["alignment_raw"]["maximum"] == sizes.max()
    assert 0 < record["alignment"]["maximum"] < 0.2  # shifts of spread 0.05 in half the log odds


def test_everything_is_plain_data(planted: SweepResult) -> None:
    data = json.loads(json.dumps(planted.to_json()))
    assert data["finished"] and len(data["strengths"]) == 25
    assert data["strengths"][12]["strength"] == 0 and data["strengths"][12]["p_correct"] == pytest.approx(1 / (1 + A))
    assert data["recommendation"]["strength"] > 0 and data["fits"]["alignment"][0]["valid"]


def test_only_finished_strengths_are_shown(tmp_path: Path) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="-0.4:0.4:0.2", n_random=0)
    with Store.reopen(folder / STORE) as store:
        store._database.rows("DELETE FROM logprobs WHERE kind = 'choice' AND strength = 0.4")
    (folder / MANIFEST).write_text(json.dumps({**read_manifest(folder).to_json(), "finished": None}))
    half = open_run(folder)
    assert half.strengths.tolist() == [-0.4, -0.2, 0.0, 0.2] and not half.finished
    with Store.reopen(folder / STORE) as store:
        store._database.rows("DELETE FROM logprobs")
    with pytest.raises(RunError, match="no strength is finished yet; run the same sweep again"):
        open_run(folder)


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ("DELETE FROM groups WHERE strength > 0.05 AND label = 'vector'", r"behavior measurements at strength \+0\.1"),
        ("DELETE FROM groups", r"behavior measurements at strength -0\.1"),
        (
            "UPDATE logprobs SET nats = substr(nats, 33) WHERE kind = 'choice' AND strength = 0",
            r"choice measurements at .* \+0",
        ),
        (
            "UPDATE logprobs SET items = substr(items, 5), nats = substr(nats, 17) WHERE label = 'random-1'",
            "measurements of random direction 1",
        ),
        ("DELETE FROM groups WHERE label LIKE 'random%'", "measurements of random direction 0"),
        ("DELETE FROM items WHERE kind = 'choice' AND item = 399", "choice items"),
    ],
)
def test_a_finished_run_that_lacks_measurements_is_refused(tmp_path: Path, change: str, lacking: str) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="-0.1:0.1:0.1", n_random=2)
    with Store.reopen(folder / STORE) as store:
        store._database.rows(change)
    with pytest.raises(RunError, match=rf"^{folder / STORE}: lacks {lacking}, though .*`out`.*`force=True`"):
        open_run(folder)


def test_a_finished_run_whose_vector_is_cut_or_changed_is_refused(tmp_path: Path) -> None:
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    path = folder / VECTOR_FILE
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-8 * 4] ^= 1  # the lowest bit of a value of the last tensor
    for data in (whole[:-20], b"", bytes(changed)):
        path.write_bytes(data)
        with pytest.raises(RunError, match=f"^{path}: .*measure it again .*`force=True`"):
            open_run(folder)
    path.unlink()
    with pytest.raises(RunError, match=f"^{path}: .*measure it again .*`force=True`"):
        open_run(folder)


def test_controls_go_where_the_recommendation_is_else_to_the_largest_gain(tmp_path: Path) -> None:
    folder = write_planted_run(tmp_path / "run", n_random=0)
    result = open_run(folder)
    found = result.recommend()
    assert found is not None and result.control_strength() == found.candidate == 0.1
    steep = open_run(write_planted_run(tmp_path / "steep", strengths="0.5,0.6", n_random=0))
    found = steep.recommend()
    assert found is not None and found.candidate is None and steep.control_strength() == 0.6
    alone = open_run(write_planted_run(tmp_path / "alone", strengths="0:0:1", n_random=0))
    assert alone.control_strength() is None


def test_a_word_of_many_tokens_still_has_log_odds(tmp_path: Path) -> None:
    """exp of -800 nats is 0 in float64; the log-odds of two such answers are not."""
    folder = write_planted_run(tmp_path / "run", strengths="0:0:1", n_random=0)
    far = [np.array([-800.0, -802.0])] * len(BEHAVIOR)
    with Store.reopen(folder / STORE) as store:
        store.add(Group("vector", "behavior", 0.0, 0), 1, 4, None, enumerate(far))
    result = open_run(folder)
    assert result.behavior is not None
    np.testing.assert_allclose(result.behavior.normalized, np.tanh(1.0), rtol=1e-12)
