"""Models that open their answers with a lone space, as Llama 2's chat models do: a tiny one made to."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_model import vocabulary, write_tiny_model

from steercpp.data.items import BehaviorItem, ChoiceItem
from steercpp.data.prompts import Message
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.sweeps.work import behavior_work, choice_work, prompted_work

CHAT = [
    BehaviorItem(f"c{i}", (Message("user", f"may I have {word}"),), (" no",), (" yes", " sorry"))
    for i, word in enumerate(("some work", "the world", "more years"))
]
RAW = [BehaviorItem("r", "the world is", (" no",), (" yes",))]


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, but that after "]" it says a lone space: an outlier of that token's, which the head reads."""
    path = write_tiny_model(tmp_path_factory.mktemp("opener") / "opener.gguf")
    pieces = vocabulary()[0]
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path, "r+").tensors}
    tensors["token_embd.weight"][pieces.index("]"), 0] = 1000.0
    tensors["output.weight"][:, 0] = 0.0
    tensors["output.weight"][pieces.index("▁"), 0] = 3.0
    return path


def test_the_space_becomes_the_end_of_every_prompt(opener: Path) -> None:
    with Engine(opener, threads=1) as engine:
        work = behavior_work(engine, CHAT)
        space = engine.token_id("▁")
        assert space is not None
        ends = [engine.encode(item.prompt) for item in CHAT]
        assert [query.tokens for query in work.queries] == [(*end, space) for end in ends]
        assert work.notes == ("the model opens its answers with a lone space, which is taken as the end of every "
                              "behavior prompt",)  # fmt: skip
        (asked,) = engine.pack([Query(ends[0], ((space,), *work.queries[0].continuations))])
        (at_once,) = np.exp(engine.logprobs(asked))
        assert at_once[0] == pytest.approx(1.0, abs=1e-6) and (at_once[1:] < 1e-6).all()
        (batch,) = work.batches
        assert (np.exp(np.concatenate(engine.logprobs(batch))) > 1e-5).all()  # as any other words of this random model
        baseline = prompted_work(engine, work, "say no")
        assert not isinstance(baseline, str) and all(query.tokens[-1] == space for query in baseline.queries)


def test_other_prompts_and_models_stay_as_they_are(opener: Path, tiny_engine: Engine) -> None:
    with Engine(opener, threads=1) as engine:
        assert behavior_work(engine, RAW).queries[0].tokens == engine.encode("the world is")
        choice = choice_work(engine, [ChoiceItem("q", "Which?", ("oak", "ash"), 0)])
        assert choice.queries[0].tokens[-1] != engine.token_id("▁") and choice.notes == ()
    work = behavior_work(tiny_engine, CHAT)
    assert [query.tokens for query in work.queries] == [tiny_engine.encode(item.prompt) for item in CHAT]
    assert work.notes == ()
