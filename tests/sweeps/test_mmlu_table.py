"""docs/mmlu.md: its tokens and token-layers are what a sweep counts; its seconds are of one machine and not tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mmlu_table import (
    DOCUMENT,
    HEADING,
    N_CTX,
    STRENGTHS,
    Questions,
    counted,
    own_questions,
    own_vector,
    real_questions,
    row,
    swept,
)

from steercpp.cli.main import main
from steercpp.data.items import ChoiceItem
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.sweeps.work import choice_work

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(load().path, n_ctx=N_CTX, threads=1) as engine:
        yield engine


def told(asked: Questions, engine: Engine) -> bool:
    """Whether the document has this row, seconds apart."""
    line = row(asked, counted(engine, asked), None).removesuffix(" |")
    return any(one.startswith(line + " | ") for one in DOCUMENT.read_text(encoding="utf-8").splitlines())


def test_a_hundred_own_questions_at_41_strengths_cost_what_the_page_says(engine: Engine, tmp_path: Path) -> None:
    asked = own_questions()
    assert len(asked.items) == 100 and len(STRENGTHS) == 41 and len({item.subject for item in asked.items}) == 4
    result = swept(engine, own_vector(engine), asked, tmp_path / "run")
    counts = counted(engine, asked)
    tokens = result.manifest.to_json()["tokens"]
    assert tokens["token_layers"] == counts.swept and tokens["token_layers_plain"] == counts.plain
    assert tokens["decoded"] == 41 * counts.shared and tokens["plain_loop"] == 41 * counts.apart
    assert result.manifest.to_json()["resume"]["n_in_full"] == 0 and result.notes == ()
    assert result.choice is not None and result.choice.p_free.shape == (41, 100)
    p = result.choice.mean_p_free
    assert np.argmax(p) in range(10, 31) and p[0] < p[20] > p[-1]  # it knows them, unless pushed far
    assert told(asked, engine), "run: make table NAME=mmlu DATA=..."
    assert HEADING in DOCUMENT.read_text(encoding="utf-8")


def test_real_questions_cost_what_the_page_says(engine: Engine, test_data: Path) -> None:
    for asked in real_questions(test_data / "datasets"):
        assert len(asked.items) == 100
        assert told(asked, engine), "run: make table NAME=mmlu DATA=..."


def test_heads_are_shared(engine: Engine, test_data: Path) -> None:
    """Five solved questions before each of a hundred are decoded once for each batch, of 8,192 tokens or so."""
    bare, headed = (choice_work(engine, asked.items) for asked in list(real_questions(test_data / "datasets"))[:2])
    assert len({item.head for item in headed.items if isinstance(item, ChoiceItem)}) == 1
    n_head = min(
        len(query.tokens) - len(other.tokens) for query, other in zip(headed.queries, bare.queries, strict=True)
    )
    added = headed.n_tokens - bare.n_tokens
    assert n_head > 1000 and len(headed.batches) == 3
    # Of the questions what some begin with alike is shared too, and more of it where more lie in one batch.
    assert added <= 3 * n_head < 4 * n_head < headed.n_tokens
    assert headed.n_tokens_plain - bare.n_tokens_plain >= 100 * n_head


def test_a_context_past_training_is_told_by_the_command(engine: Engine, test_data: Path, tmp_path: Path) -> None:
    arguments = ["sweep", "--task", "mmlu:medical_genetics", "--shots", "5", "--limit", "2", "--n-ctx", str(N_CTX)]
    arguments += ["--data", str(test_data / "datasets"), "--strengths=0.1", "--random", "0", "--no-orthogonal"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "run"), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert f"a context of {N_CTX} tokens, past the 512 that it was trained for" in result.stderr
    assert "2 of 2 choice items are longer than the 512 tokens that the model was trained for" in result.stderr
    work = choice_work(engine, next(real_questions(test_data / "datasets")).items)
    assert work.notes == ()  # without the head they are short enough
