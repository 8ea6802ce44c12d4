"""Side-by-side generation: each row is what a run of its own would say, and other rows do not touch it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ModelMaker
from random_queries import random_vector
from tiny_model import Shape, quantize, write_tiny_model

from steercpp.choices import Positions
from steercpp.engine.engine import Engine
from steercpp.engine.generation import Generation, generate
from steercpp.engine.packing import Query
from steercpp.engine.sampling import Sampling, TextStream
from steercpp.engine.session import Session, Wanted
from steercpp.engine.steering import Gate, Steering
from steercpp.errors import ContextOverflowError, InputError, NonFiniteError
from steercpp.vectors.control_vector import ControlVector

PROMPT = (1, 300, 17, 45, 211, 98)
STRENGTHS = (-1.5, -0.5, 0.0, 0.25, 1.0)
DRAWN = Sampling(temperature=1.0, top_k=50, top_p=0.95, min_p=0.01, seed=7)


@pytest.fixture(scope="module", params=["embedded-Q8_0", "embedded-Q4_0"])
def engine(request: pytest.FixtureRequest, model_maker: ModelMaker) -> Iterator[Engine]:
    with Engine(model_maker(request.param), threads=1) as opened:
        yield opened


@pytest.fixture
def vector(engine: Engine, rng: np.random.Generator) -> ControlVector:
    return random_vector(engine, rng, (3, 5))


def run(engine: Engine, vector: ControlVector, strengths: tuple[float, ...], **options: object) -> Generation:
    rows = [Steering(vector, s) for s in strengths]
    return generate(engine, PROMPT, rows, max_tokens=24, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("sampling", [Sampling(), DRAWN])
def test_rows_are_runs_of_their_own(engine: Engine, vector: ControlVector, sampling: Sampling, exact: bool) -> None:
    together = run(engine, vector, STRENGTHS, exact=exact, sampling=sampling)
    for row, strength in zip(together.rows, STRENGTHS, strict=True):
        assert run(engine, vector, (strength,), sampling=sampling).rows == (row,)
    assert len({row.tokens for row in together.rows}) > 1, "the strengths change nothing, so equality means nothing"


@pytest.mark.parametrize("exact", [False, True])
def test_other_rows_do_not_touch_a_row(engine: Engine, vector: ControlVector, exact: bool) -> None:
    """Not by their strengths, nor by ending sooner."""
    one = run(engine, vector, STRENGTHS, exact=exact)
    other = run(engine, vector, (0.7, -0.5, 1.3, 0.25, -1.0), exact=exact)
    stop = one.rows[0].text[2:6]
    stopped = run(engine, vector, STRENGTHS, exact=exact, stop=(stop,))
    assert other.rows[1] == one.rows[1] and other.rows[3] == one.rows[3]
    assert stopped.rows[0].finish == "stop" and stop not in stopped.rows[0].text
    for row, whole in zip(stopped.rows, one.rows, strict=True):
        assert whole.text.startswith(row.text)


def test_log_probabilities_of_drawn_tokens(engine: Engine) -> None:
    """By the model itself: temperature, top-k, penalties and bias choose the token and do not change its figure."""
    (batch,) = engine.pack([Query(PROMPT, ((5, 6),))])
    row = int(batch.passes[0].prompt_ends[0])
    unlike = replace(DRAWN, repeat_penalty=2.0, logit_bias=((9, 4.0),))
    samplings = (Sampling(), *(replace(unlike, seed=seed) for seed in range(8)))
    chains = [sampling.sampler(engine.n_vocab, PROMPT) for sampling in samplings]
    wanted = Wanted(logits=True, sampled_logprobs=True)
    result = engine.session.decode(batch.passes[0], wanted=wanted, samplers=[(row, chain) for chain in chains])
    logits = result.logits[np.flatnonzero(np.flatnonzero(batch.passes[0].outputs) == row)[0]].astype(np.float64)
    assert len(set(result.sampled)) > 1 and result.sampled[0] == logits.argmax()
    expected = (logits - np.logaddexp.reduce(logits))[result.sampled]
    np.testing.assert_allclose(result.sampled_logprobs, expected, atol=1e-6)  # exponentials are float32
    plain = engine.session.decode(batch.passes[0], samplers=[(row, chain) for chain in chains])
    assert plain.sampled_logprobs == []


@pytest.mark.parametrize("exact", [False, True])
def test_the_engine_may_be_used_between_two_steps(engine: Engine, vector: ControlVector, exact: bool) -> None:
    expected = run(engine, vector, STRENGTHS, exact=exact)
    (batch,) = engine.pack([Query(PROMPT, ((5, 6),))])

    def disturb(done: int, total: int, label: str) -> None:
        engine.logits(batch, vector=vector)
        if done == 2:
            run(engine, vector, (0.9, 0.1), exact=exact)

    assert run(engine, vector, STRENGTHS, exact=exact, progress=disturb).rows == expected.rows


def test_a_closed_gate_is_told(engine: Engine, vector: ControlVector) -> None:
    gates = [None, Gate(vector.directions[3], 3, 1e9), Gate(vector.directions[3], 3, -1e9)]
    found = generate(engine, PROMPT, [Steering(vector, 1.0, gate=gate) for gate in gates], max_tokens=3)
    assert [row.gate_open for row in found.rows] == [None, False, True]
    assert found.settings["flash_attn"] == "off"


def test_greedy_rows_follow_the_likeliest_token(engine: Engine, vector: ControlVector) -> None:
    """Every drawn token is the most likely one after all before it, decoded again from the start, or nearly so."""
    found = run(engine, vector, STRENGTHS)
    for row, strength in zip(found.rows, STRENGTHS, strict=True):
        (batch,) = engine.pack([Query(PROMPT, (row.tokens,))])
        logits = engine.logits(batch, steering=Steering(vector, strength))[: len(row.tokens)]
        short_of_best = logits.max(axis=1) - np.take_along_axis(logits, np.array(row.tokens)[:, None], 1)[:, 0]
        # Other shapes of attention round otherwise (docs/generation.md): the token must be within that of the best
        assert short_of_best.max() < 0.35, (strength, short_of_best)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
def test_positions_reach_the_prompt_and_what_follows_as_named(
    engine: Engine, vector: ControlVector, positions: Positions
) -> None:
    found = generate(engine, PROMPT, [Steering(vector, 1.0, positions=positions)] * 2, max_tokens=6)
    alike = engine.pack([Query(PROMPT, (found.rows[0].tokens,))], Steering(vector, 1.0, positions=positions))
    logits = engine.logits(alike[0], steering=Steering(vector, 1.0, positions=positions))
    n = len(found.rows[0].tokens)
    short_of_best = logits[:n].max(axis=1) - logits[np.arange(n), list(found.rows[0].tokens)]
    assert short_of_best.max() < 0.35
    assert found.rows[0].tokens == found.rows[1].tokens


@pytest.mark.parametrize("exact", [False, True])
def test_an_unsteered_prompt_is_decoded_once_for_all_rows(engine: Engine, vector: ControlVector, exact: bool) -> None:
    """But for its last token, which each row decodes with its own."""
    rows = [Steering(vector, s, positions="generated") for s in STRENGTHS]
    found = generate(engine, PROMPT, rows, max_tokens=3, exact=exact)
    assert found.token_layers == (len(PROMPT) - 1 + 3 * len(rows)) * engine.n_layer
    assert found.token_layers_plain == len(rows) * (len(PROMPT) + 2) * engine.n_layer


def test_blocks_below_a_steered_prompt_are_computed_once(engine: Engine, vector: ControlVector) -> None:
    """By the unsteered row where there is one; without it, by a pass that pays for four rows, and not for one."""
    n_prompt, n_layer, above = len(PROMPT) - 1, engine.n_layer, engine.n_layer - vector.layers[0] - 1
    for strengths, of_prompt in (
        ((0.0, 0.5, 1.0), n_layer + 2 * above), ((0.5, 1.0, 1.5, 2.0), n_layer + 4 * above), ((0.5,), n_layer)
    ):  # fmt: skip
        found = run(engine, vector, strengths)
        n_steps = sum(len(row.tokens) + (row.end_token is not None) for row in found.rows)
        assert found.token_layers == n_prompt * of_prompt + n_steps * n_layer


def test_rows_that_do_not_fit_into_the_context_together_get_a_larger_one(engine: Engine, vector: ControlVector) -> None:
    """llama.cpp found no place for them in the middle of the generation; each row by itself is short enough."""
    strengths = [s / 10 for s in range(-8, 8)]
    with Engine(engine.path, threads=1, n_ctx=64) as small:
        found = [
            generate(one, PROMPT, [Steering(vector, s) for s in strengths], max_tokens=40, sampling=DRAWN).rows
            for one in (engine, small)
        ]
        assert found[0] == found[1]
        long = generate(small, PROMPT * 6, [Steering(vector, s) for s in strengths], max_tokens=28)  # 36 tokens each
        assert max(len(row.tokens) for row in long.rows) == 28
        with pytest.raises(ContextOverflowError, match="36 prompt tokens and 29 more need 65 positions"):
            generate(small, PROMPT * 6, [Steering(vector, s) for s in strengths], max_tokens=29)


def test_rows_that_need_much_memory_wait_for_others(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty rows of 900 tokens and more took a context of 46,000 cells."""
    sizes, opened = [], Engine.open_session

    def recorded(engine: Engine, **changes: Any) -> Session:
        session = opened(engine, **changes)
        sizes.append(session.options.n_ctx * session.options.n_seq_max)
        return session

    shape = Shape(n_layer=2, n_embd=64, n_ff=64, n_head=2, n_head_kv=1)
    path = quantize(write_tiny_model(tmp_path / "small.gguf", shape=shape), tmp_path / "q8.gguf", "Q8_0")
    with Engine(path, threads=1) as engine:
        assert engine.bytes_per_cell == 2 * (32 + 32) * 2  # two blocks, a head of K and one of V, 16 bits
        prompt = rng.integers(3, engine.n_vocab, 900).tolist()
        vector, ticks, texts = random_vector(engine, rng, (1,)), [], [""] * 5
        rows = [Steering(vector, s) for s in STRENGTHS]

        def add(row: int, text: str) -> None:
            texts[row] += text

        at_once = generate(engine, prompt, rows, max_tokens=6)
        monkeypatch.setattr(Engine, "open_session", recorded)
        monkeypatch.setattr("steercpp.engine.generation._BYTES_AT_ONCE", 1)
        found = generate(engine, prompt, rows, max_tokens=6, on_text=add, progress=lambda *now: ticks.append(now))
        assert sizes == [4096]
        assert found.rows == at_once.rows
        assert texts == [row.text for row in found.rows]
        assert ticks[-1] == (6, 6, "tokens") and ticks == sorted(set(ticks))


def test_a_row_out_of_range_fails_alone(engine: Engine, vector: ControlVector) -> None:
    found = run(engine, vector, (0.5, 1e30, 1.0))
    assert (found.rows[0], found.rows[2]) == run(engine, vector, (0.5, 1.0)).rows
    assert (found.rows[1].finish, found.rows[1].text, found.rows[1].tokens) == ("nonfinite", "", ())
    with pytest.raises(NonFiniteError, match=r"row 0: at strength 1e\+29 the activations leave float32's range"):
        run(engine, vector, (1e29, 1e30))


def test_seeds_make_rows_of_one_strength_differ(engine: Engine, vector: ControlVector) -> None:
    samplings = [Sampling(temperature=1.5, seed=seed) for seed in (1, 2, 1)]
    rows = generate(engine, PROMPT, [Steering(vector, 0.0)] * 3, max_tokens=24, sampling=samplings).rows
    assert rows[0] == rows[2] and rows[0].tokens != rows[1].tokens


def test_text_streams_as_it_is_returned(engine: Engine, vector: ControlVector) -> None:
    streamed = [""] * len(STRENGTHS)

    def add(row: int, text: str) -> None:
        streamed[row] += text

    found = run(engine, vector, STRENGTHS, on_text=add)
    assert streamed == [row.text for row in found.rows]
    for row in found.rows:
        assert engine.detokenize(row.tokens) == row.text
        assert row.finish in ("length", "end") and len(row.tokens) <= 24


def test_the_engine_measures_as_before_afterwards(engine: Engine, vector: ControlVector) -> None:
    (batch,) = engine.pack([Query(PROMPT, ((5, 6),))])
    before = engine.logits(batch, vector=vector, strengths=1.0)
    for strengths in (STRENGTHS, (1e30, 0.0)):
        run(engine, vector, strengths)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=1.0), before)


def test_a_recurrent_model_generates_too(tmp_path: Path) -> None:
    from architectures import ARCHITECTURES

    recurrent = next(one for one in ARCHITECTURES.values() if one.recurrent)
    with Engine(recurrent.write(tmp_path / "recurrent.gguf"), threads=1) as engine:
        rng = np.random.default_rng(0)
        vector = random_vector(engine, rng, (1,))
        rows = [Steering(vector, s) for s in (-1.0, 0.0, 1.0)]
        together = generate(engine, PROMPT, rows, max_tokens=8)
        assert [generate(engine, PROMPT, [row], max_tokens=8).rows[0] for row in rows] == list(together.rows)


def test_bad_input(engine: Engine, vector: ControlVector) -> None:
    def attempt(**options: object) -> None:
        generate(engine, PROMPT, [Steering(vector)], **options)  # type: ignore[arg-type]

    with pytest.raises(ContextOverflowError, match="the context holds"):
        attempt(max_tokens=engine.n_ctx)
    with pytest.raises(InputError, match="max_tokens is 0"):
        attempt(max_tokens=0)
    with pytest.raises(InputError, match="2 samplings for 1 rows"):
        attempt(sampling=[Sampling()] * 2)
    with pytest.raises(InputError, match="a stop string is empty"):
        attempt(stop=("",))
    with pytest.raises(InputError, match="put single ones into a list"):
        attempt(stop="ab")
    with pytest.raises(InputError, match="put single ones into a list"):
        generate(engine, PROMPT, Steering(vector))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 rows"):
        generate(engine, PROMPT, [])
    with pytest.raises(InputError, match="prompt has no tokens"):
        generate(engine, [], [None])
    for options in (
        {"temperature": -1},
        {"temperature": 1e-38},
        {"top_k": -1},
        {"top_k": 2**31},
        {"top_k": 1.5},
        {"top_p": 0},
        {"min_p": 2},
        {"seed": -1},
        {"seed": 2**32 - 1},
    ):
        with pytest.raises(InputError):
            Sampling(**options)
    assert run(engine, vector, STRENGTHS) == run(engine, vector, STRENGTHS)


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.data())
@settings(derandomize=True, deadline=None)
def test_a_stream_gives_all_up_to_the_first_stop_string(text: str, stop: list[str], data: st.DataObject) -> None:
    """However the bytes are cut, also inside a character."""
    raw = text.encode("utf-8", errors="surrogatepass")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    stream = TextStream(stop)
    given_out = ""
    for first, last in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if not stream.stopped:
            given_out += stream.add(raw[first:last])
    given_out += stream.finish()
    assert given_out == stream.text and text.startswith(given_out)
    assert not any(one in given_out for one in stop)
    if stream.stopped:
        rest = text[len(given_out) :]
        assert any(rest.startswith(one) for one in stop)
    else:
        assert given_out == text
