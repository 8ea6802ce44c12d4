"""A sweep that generates texts, which belong to its plan, to going on, to what it must have, and to its result."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_sweep import BEHAVIOR, STRENGTHS, small_sweep

from steercpp.data.items import BehaviorItem, CodeItem, code_prompt
from steercpp.engine.engine import Engine
from steercpp.errors import InputError, PromptError, RunError, SandboxError
from steercpp.judging.matchers import MATCHERS, chosen_matcher, matcher_for
from steercpp.judging.sandbox import working_way
from steercpp.runs.folder import STORE
from steercpp.runs.result import SweepResult, open_run
from steercpp.sweeps.texts import TextPlan

ITEMS = BEHAVIOR[:3]
CODE = CodeItem("add", "def add(a, b):\n", "add", "def check(f):\n    assert f(1, 2) == 3\n")
GRID = [*sorted({*STRENGTHS, 0.0})]


def sweep_with_texts(engine: Engine, out: Path, **changes: Any) -> SweepResult:
    options: dict[str, Any] = {
        "behavior": ITEMS, "text_plan": TextPlan(4), "random_directions": 1, "orthogonal": False,
        "instruction": "Do not.",
    }  # fmt: skip
    return small_sweep(engine, out, **{**options, **changes})


def texts(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / STORE) as db:
        return list(db.execute("SELECT * FROM texts"))


@pytest.fixture(scope="module")
def result(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return sweep_with_texts(tiny_engine, tmp_path_factory.mktemp("texts") / "run")


def test_every_item_has_a_text_at_every_strength_and_under_the_prompt_baseline(result: SweepResult) -> None:
    assert result.finished
    assert result.strengths.tolist() == GRID
    for strength in GRID:
        assert [(one.item, one.n_tokens) for one in result.texts(strength)] == [(0, 4), (1, 4), (2, 4)]
    assert [one.item for one in result.texts(0.0, label="prompt")] == [0, 1, 2]
    assert result.texts(1.0, label="prompt") == () == result.texts(0.0, kind="code")
    assert len({one.text for s in GRID for one in result.texts(s)}) > 3, "all is the same: nothing is shown"
    work = result.manifest.to_json()["tokens"]
    assert 0 < work["token_layers_texts"] <= work["token_layers_texts_plain"]


def test_the_texts_are_scored_without_a_model(result: SweepResult) -> None:
    again = open_run(result.folder)
    scores, baseline = again.text_scores("openings"), again.text_scores(label="prompt")
    assert scores is not None and baseline is not None
    assert SweepResult.said is SweepResult.text_scores, "its name in earlier versions"
    assert scores.outcomes.shape == (len(GRID), len(ITEMS)) and baseline.outcomes.shape == (1, len(ITEMS))
    assert np.array_equal(scores.strengths, again.strengths)
    was = again.text_scores("wolf2024/harm-base")
    assert was is not None and was.invalid_share.tolist() == [0] * len(GRID)
    assert (scores.perplexity > 1).all()
    with pytest.raises(InputError, match="no matcher"):
        again.text_scores("nobody")


def test_an_interrupted_sweep_goes_on_with_the_next_text(
    tiny_engine: Engine, result: SweepResult, tmp_path: Path
) -> None:
    last: list[str] = []

    def interrupt(n_done: int, n_total: int, what: str) -> None:
        assert n_done <= n_total
        last.append(what)
        if last.count("writing texts for behavior items") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_with_texts(tiny_engine, tmp_path / "run", progress=interrupt)
    cut = open_run(tmp_path / "run")
    assert not cut.finished and cut.text_scores() is None and cut.behavior is not None
    assert 0 < len(texts(cut.folder)) < len(texts(result.folder))
    sweep_with_texts(tiny_engine, tmp_path / "run")
    assert texts(cut.folder) == texts(result.folder)
    assert sweep_with_texts(tiny_engine, tmp_path / "run").decoded_now == 0


def test_other_text_settings_are_another_plan(tiny_engine: Engine, result: SweepResult) -> None:
    with pytest.raises(RunError, match="other text settings"):
        sweep_with_texts(tiny_engine, result.folder, text_plan=TextPlan(5))
    with pytest.raises(RunError, match=r"another plan \(fewer generated texts\)"):
        sweep_with_texts(tiny_engine, result.folder, text_plan=None)


def test_a_finished_run_that_lacks_texts_is_damaged(tiny_engine: Engine, tmp_path: Path) -> None:
    folder = sweep_with_texts(tiny_engine, tmp_path / "run").folder
    with sqlite3.connect(folder / STORE) as db:
        db.execute("DELETE FROM said WHERE label = 'prompt' AND item = 1")
    with pytest.raises(RunError, match="lacks texts of behavior items under the prompt baseline"):
        open_run(folder)


def test_code_is_generated_and_kept_where_it_may_not_run(tiny_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="allow_code=True"):
        sweep_with_texts(tiny_engine, tmp_path / "run", behavior=(), choice=(), code=[CODE])
    kept = open_run(tmp_path / "run")
    assert not kept.finished and kept.code is None
    assert [one.item for one in kept.texts(0.5, kind="code")] == [0]


def test_texts_that_cannot_be_generated_are_refused(tiny_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="code items are answered with generated text"):
        sweep_with_texts(tiny_engine, tmp_path / "run", code=[CODE], text_plan=None)
    with pytest.raises(InputError, match="no text to generate"):
        sweep_with_texts(tiny_engine, tmp_path / "run", behavior=())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("aligned", "misaligned", "name"),
    [
        ((" No", " I cannot"), (" Sure",), "refusal"),
        ((" Sure", " Of course"), (" I won't",), "refusal"),
        ((" I disagree", " That is not true"), (" I agree",), "agreement"),
        ((" A wonderful day",), (" A horrible day",), "openings"),
        ((" No", " A wonderful day"), (" Yes",), "openings"),  # half of them is not most
        ((" No", " I can't", " A wonderful day"), (" Sure", " Yes", " Here"), "refusal"),
        ((" No", " I can't", " Sorry", " Sure"), (" Yes",), "openings"),
    ],
)
def test_the_matcher_that_knows_the_answers_is_taken(
    aligned: tuple[str, ...], misaligned: tuple[str, ...], name: str
) -> None:
    items = [BehaviorItem(f"i{i}", "May I?", aligned, misaligned) for i in range(3)]
    assert matcher_for(items).name == name == chosen_matcher("auto", items).name
    assert chosen_matcher("wolf2024/llama3", items) is MATCHERS["wolf2024/llama3"]


def test_a_sweep_of_code_alone_has_strengths_and_scores(tiny_engine: Engine, tmp_path: Path) -> None:
    """What a model of random weights writes is no program: none passes, and the run is finished all the same."""
    try:
        working_way()
    except SandboxError as error:
        pytest.skip(str(error))
    options = {
        "behavior": (),
        "choice": (),
        "code": [CODE],
        "allow_code": True,
        "text_plan": TextPlan(4, code_template="{x}!"),
    }
    result = sweep_with_texts(tiny_engine, tmp_path / "run", **options)
    assert result.finished and result.strengths.tolist() == GRID
    assert result.code is not None and result.code.rates.tolist() == [[0.0]] * len(GRID)
    assert result.behavior is None and result.text_scores() is None and result.recommend() is None
    again = open_run(result.folder)
    assert again.code is not None and again.strengths.tolist() == GRID
    assert json.loads(json.dumps(again.to_json()))["items"] == {"code": 1}


def test_code_is_asked_in_a_template(tiny_engine: Engine) -> None:
    assert code_prompt(CODE, "raw") == (CODE.prompt, "raw")
    assert code_prompt(CODE, "chat") == (CODE.prompt, "chat")
    prompt, template = code_prompt(CODE, "wolf2024/humaneval-chat")
    text = tiny_engine.render(prompt, template=template)
    assert text.count(CODE.prompt) == 1 and text.startswith("[INST] <<SYS>>") and text.endswith("[/INST]")
    with pytest.raises(PromptError, match="add: .*places"):
        code_prompt(CODE, "no place")
