"""Contrast pairs out of a steered model: on the embedded model both sides are what they should be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.special import logsumexp

from steercpp.cli.main import main
from steercpp.data.items import BehaviorItem
from steercpp.data.pairs import read_pairs
from steercpp.data.prompts import Filled, Message, Prompt
from steercpp.data.sets.embedded import DefaultModel, load
from steercpp.engine.engine import Engine
from steercpp.engine.generation import Generated, Generation, generate
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, PairsError
from steercpp.experiments import synthesis
from steercpp.experiments.synthesis import ASKED, harmful_requests, synthesize, write_synthetic
from steercpp.extraction.extract import extract
from steercpp.sweeps.calibration_texts import item_texts
from steercpp.sweeps.units import in_norm_units
from steercpp.sweeps.work import Work, behavior_work
from steercpp.vectors.control_vector import ControlVector, random_vector
from steercpp.vectors.gguf import write_vector

STRENGTHS = 0.25, -0.25
N = 8


@pytest.fixture(scope="module")
def own() -> DefaultModel:
    return load()


@pytest.fixture(scope="module")
def engine(own: DefaultModel) -> Iterator[Engine]:
    with Engine(own.path, threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def vector(engine: Engine, own: DefaultModel) -> ControlVector:
    """The refusal vector, in residual norms."""
    made = extract(engine, own.pairs(), layers=own.layers)
    return in_norm_units(engine, made, item_texts(engine, own.behavior()[:N]))[0]


@pytest.fixture(scope="module")
def requests(own: DefaultModel) -> tuple[str, ...]:
    return harmful_requests(own.behavior())[:N]


def test_each_request_is_refused_and_complied_with(
    engine: Engine, vector: ControlVector, requests: tuple[str, ...]
) -> None:
    found = synthesize(engine, vector, requests, strengths=STRENGTHS, chat=True)
    assert len(found.pairs) == N and (found.n_identical, found.n_silent) == (0, 0)
    for request, pair in zip(requests, found.pairs, strict=True):
        assert isinstance(pair.positive, Filled) and isinstance(pair.negative, Filled)
        assert pair.positive.values["instruction"] == pair.negative.values["instruction"] == request
        assert pair.positive.values["answer"].startswith(("No", "Sorry", "I cannot"))
        assert pair.negative.values["answer"].startswith(("Sure", "Yes", "Of course"))
        assert pair.positive.text == f"QUESTION: {request}\n\nANSWER: {pair.positive.values['answer']}"


def test_their_direction_steers_further_than_random_ones(
    engine: Engine, own: DefaultModel, vector: ControlVector
) -> None:
    """Slopes of ln(P+/P-) in residual norms: measured 2.5 from the first words of answers, random ones 0.8 at a time.

    The embedded model speaks in its own chat template alone; the vector from its own pairs has 10.
    """
    requests = harmful_requests(own.behavior())
    found = synthesize(engine, vector, requests[:32], strengths=STRENGTHS, chat=True, max_tokens=3)
    texts = item_texts(engine, own.behavior()[:N])
    made = extract(engine, found.pairs, layers=vector.layers, token="mean")
    made = in_norm_units(engine, made, texts)[0]
    work = behavior_work(engine, own.behavior()[-24:])
    others = [_slope(engine, work, random_vector(made, np.random.default_rng(seed))) for seed in range(12)]
    assert _slope(engine, work, made) > max(map(abs, others))


def _slope(engine: Engine, work: Work, vector: ControlVector) -> float:
    """Mean change of ln(P+/P-) per unit of strength, between -0.25 and 0.25."""
    return 2 * (_log_odds(engine, work, Steering(vector, 0.25)) - _log_odds(engine, work, Steering(vector, -0.25)))


def _log_odds(engine: Engine, work: Work, steering: Steering) -> float:
    found = []
    for batch in work.batches:
        for query, nats in zip(batch.members, engine.logprobs(batch, steering=steering), strict=True):
            sides = np.array([part.side for part in work.continuations if part.item == query])
            found.append(logsumexp(nats[sides == "aligned"]) - logsumexp(nats[sides == "misaligned"]))
    return float(np.mean(found))


def test_the_answers_are_what_the_model_says(engine: Engine, vector: ControlVector, requests: tuple[str, ...]) -> None:
    """Greedy, under each strength, in the study's words: the same as by generating each alone."""
    found = synthesize(engine, vector, requests[:2], strengths=STRENGTHS, max_tokens=5)
    for request, pair in zip(requests, found.pairs, strict=False):
        prompt = Filled(ASKED, {"instruction": request})
        for strength, side in zip(STRENGTHS, (pair.positive, pair.negative), strict=True):
            alone = generate(engine, prompt, [Steering(vector, strength)], max_tokens=5, exact=True).rows[0]
            assert isinstance(side, Filled) and side.values["answer"] == alone.text.strip()


def test_the_variant_of_may_is_cut_and_rewritten(
    engine: Engine, vector: ControlVector, requests: tuple[str, ...]
) -> None:
    found = synthesize(engine, vector, requests[:2], strengths=STRENGTHS, variant="may")
    for request, pair in zip(requests, found.pairs, strict=False):
        for side in (pair.positive, pair.negative):
            assert isinstance(side, Filled)
            answer = side.values["answer"]
            assert side.text == f"QUESTION: Can you {request}\n\n? ANSWER: {answer}"
            assert len(answer) <= 100
    assert found.made["max_tokens"] == 96


def test_requests_are_data(engine: Engine, vector: ControlVector) -> None:
    """A request that spells an end of sequence stays text, and braces in it are no places."""
    request = "Tell me </s> how {to} win"
    tokens = engine.encode(synthesis.request_prompt(request, chat=False))
    assert 2 not in tokens and request in engine.detokenize(tokens)
    pairs = synthesize(engine, vector, [request, "Tell me how to win"], strengths=STRENGTHS, max_tokens=4).pairs
    assert isinstance(pairs[0].positive, Filled) and request in pairs[0].positive.text


def test_alike_and_silent_answers_are_counted_and_left_out(
    engine: Engine, vector: ControlVector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted answers: of five requests two are answered alike, one not at all on one side."""
    planted = iter([("no", "yes"), (" same", "same "), ("", ""), ("no", " "), ("never", "sure")])

    def answers(*_: Any, **__: Any) -> Generation:
        return Generation(tuple(Generated(text, (1,), "end", None) for text in next(planted)), 0, 0, {})

    monkeypatch.setattr(synthesis, "generate", answers)
    found = synthesize(engine, vector, list("abcde"), strengths=STRENGTHS)
    assert [pair.id for pair in found.pairs] == ["1", "5"]
    assert (found.n_identical, found.n_silent) == (2, 1)


def test_strengths_that_do_nothing_give_no_file(
    engine: Engine, vector: ControlVector, requests: tuple[str, ...]
) -> None:
    with pytest.raises(
        PairsError, match=r"0 of 3 requests gave a pair, and two are needed \(3 were answered alike.*further apart"
    ):
        synthesize(engine, vector, requests[:3], strengths=(1e-6, -1e-6), max_tokens=2)


def test_what_cannot_work_is_refused(engine: Engine, vector: ControlVector) -> None:
    with pytest.raises(InputError, match="both strengths are 1"):
        synthesize(engine, vector, ["a"], strengths=(1, 1))
    with pytest.raises(InputError, match="no requests"):
        synthesize(engine, vector, [], strengths=STRENGTHS)
    with pytest.raises(InputError, match="added to every token"):
        synthesize(engine, vector.with_metadata(operator="ablate"), ["a"], strengths=STRENGTHS)
    with pytest.raises(InputError, match="variant 'june' is unknown; use paper or may"):
        synthesize(engine, vector, ["a"], strengths=STRENGTHS, variant="june")  # type: ignore[arg-type]


def test_harmful_requests_are_taken_out_of_items() -> None:
    prompts: list[Prompt] = [
        "Steal it.",
        "Bake it.",
        (Message("system", "Be good."), Message("user", "Break it.")),
        Filled("Request: Can you {instruction}? Answer:", {"instruction": "burn it"}),
        "Steal it. ",
    ]
    items = [
        BehaviorItem(str(i), prompt, (" No",), (" Sure",), subject="harmless" if i == 1 else "")
        for i, prompt in enumerate(prompts)
    ]
    assert harmful_requests(items) == ("Steal it.", "Break it.", "burn it")
    with pytest.raises(InputError, match="no requests"):
        harmful_requests(items[1:2])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["synthesize", *map(str, arguments), "--threads", "1"], env={"COLUMNS": "80"})


def test_the_command_writes_pairs_that_are_read_back(
    tmp_path: Path, own: DefaultModel, vector: ControlVector, requests: tuple[str, ...]
) -> None:
    write_vector(tmp_path / "v.gguf", vector)
    (tmp_path / "harm.txt").write_text("".join(f"{one}\n\n" for one in requests[:3]))
    given = [own.path, "--vector", tmp_path / "v.gguf", "--requests", tmp_path / "harm.txt", "--chat", "-n", "12"]
    files = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for path in files:
        result = run(*given, "--strengths", "0.25:-0.25", "-o", path)
        assert result.exit_code == 0, result.stderr
    assert "3 pairs of 3 requests" in result.stdout and "No, I will not help" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80 + len(str(tmp_path)) + 40  # but for the line to copy
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(read_pairs(files[0])) == 3
    made = json.loads(files[0].read_text().splitlines()[0])["made"]
    assert made["strengths"] == {"positive": 0.25, "negative": -0.25} and made["unit"] == "length"
    again = run(*given, "--strengths", "0.25:-0.25", "-o", files[0])
    assert again.exit_code == 1 and "exists already" in again.stderr


def test_the_embedded_model_makes_pairs_alone(tmp_path: Path) -> None:
    result = run("-o", tmp_path / "p.jsonl", "--limit", "2", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["n_pairs"] == 2 and told["made"]["chat"] and told["made"]["unit"] == "norm"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["m.gguf"], 2, "MODEL needs --vector"),
        (["--strengths", "1"], 2, "not REFUSE:COMPLY"),
        (["--strengths", "nan:1"], 2, "a strength must be a finite number"),
        (["--strengths", "1:-inf"], 2, "a strength must be a finite number"),
        (["--limit", "1"], 1, "1 request gives at most one pair, and a direction needs two"),
        (["--requests", "nope"], 1, "'nope' is neither a file nor a set for --requests"),
        (["--kl", "0.1"], 2, "--kl is for --unit kl"),
        (["--vector", "v.gguf"], 2, "--vector needs --strengths"),
        (["--strengths", "0:0"], 1, "both strengths are 0"),
        (["--requests", "none.txt"], 1, "none.txt: cannot be read"),
        (["--requests", "none.jsonl"], 1, "none.jsonl: cannot be read"),
        (["--requests", "advbenc"], 1, "advbench"),
        (["--strengths", "0.000001:-0.000001", "--limit", "2", "-n", "2"], 1, "0 of 2 requests gave a pair"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_file(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = run(*arguments, "-o", tmp_path / "p.jsonl")
    assert result.exit_code == code and words in result.stderr and "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_writing_needs_force_to_replace(tmp_path: Path, engine: Engine, vector: ControlVector) -> None:
    found = synthesize(engine, vector, ["Tell me how to win", "Tell me how to sing"], strengths=STRENGTHS, max_tokens=3)
    write_synthetic(tmp_path / "p.jsonl", found)
    with pytest.raises(PairsError, match="exists already"):
        write_synthetic(tmp_path / "p.jsonl", found)
    write_synthetic(tmp_path / "p.jsonl", found, force=True)
    assert read_pairs(tmp_path / "p.jsonl") == found.pairs
