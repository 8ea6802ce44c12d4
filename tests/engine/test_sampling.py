"""Draws are those of llama.cpp's own chain, token for token, with its samplers in its order."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import starmap
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from llama_cpp import llama_cpp as api

from steercpp.aliases import FloatArray
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.sampling import Sampling, parse_bias
from steercpp.errors import InputError

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # struct llama_token_data


class StockChain:
    """llama.cpp's chain for a sampling, as its programs build it, without any of ours."""

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        self._chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        biases = (llama_cpp.llama_logit_bias * len(sampling.logit_bias))(
            *starmap(llama_cpp.llama_logit_bias, sampling.logit_bias)
        )
        parts = [
            api.llama_sampler_init_logit_bias(n_vocab, len(biases), biases),
            # llama-cpp-python declares this function without its first argument
            self._penalties(
                n_vocab, sampling.repeat_last_n, sampling.repeat_penalty, sampling.frequency_penalty,
                sampling.presence_penalty,
            ),
        ]  # fmt: skip
        if sampling.temperature > 0:
            parts += [
                api.llama_sampler_init_top_k(sampling.top_k),
                api.llama_sampler_init_top_p(sampling.top_p, 1),
                api.llama_sampler_init_min_p(sampling.min_p, 1),
                api.llama_sampler_init_temp(sampling.temperature),
                api.llama_sampler_init_dist(sampling.seed),
            ]
        else:
            parts.append(api.llama_sampler_init_greedy())
        for part in parts:
            api.llama_sampler_chain_add(self._chain, part)

    @staticmethod
    def _penalties(*arguments: float) -> object:
        function = api._lib.llama_sampler_init_penalties
        function.restype = api.llama_sampler_p_ctypes
        function.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_float, ctypes.c_float, ctypes.c_float]
        return function(*arguments)

    def accept(self, token: int) -> None:
        api.llama_sampler_accept(self._chain, token)

    def sample(self, logits: FloatArray) -> int:
        candidates = np.zeros(len(logits), CANDIDATE)
        candidates["id"], candidates["logit"] = np.arange(len(logits)), logits
        data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
        row = llama_cpp.llama_token_data_array(data, len(logits), -1, False)
        api.llama_sampler_apply(self._chain, ctypes.byref(row))
        token = int(candidates["id"][row.selected])
        self.accept(token)
        return token

    def close(self) -> None:
        api.llama_sampler_free(self._chain)


@contextmanager
def stock(sampling: Sampling, n_vocab: int) -> Iterator[StockChain]:
    chain = StockChain(sampling, n_vocab)
    try:
        yield chain
    finally:
        chain.close()


def drawn_alike(sampling: Sampling, rows: list[FloatArray], prompt: tuple[int, ...] = ()) -> list[int]:
    """What is drawn from these rows one after the other, by ours and by llama.cpp's chain alike."""
    n_vocab = len(rows[0])
    ours = sampling.sampler(n_vocab, prompt)
    with stock(sampling, n_vocab) as chain:
        for token in prompt:
            chain.accept(token)
        expected = [chain.sample(row) for row in rows]
    assert [ours.sample(row) for row in rows] == expected
    return expected


def a_row(rng: np.random.Generator, n_vocab: int, spread: float, level: float, step: float) -> FloatArray:
    """Logits around a level, in steps so that some are equal, or in none."""
    logits = level + spread * rng.standard_normal(n_vocab)
    return (np.round(logits / step) * step if step else logits).astype(np.float32)


@pytest.mark.parametrize("step", [0.0, 1 / 64, 1 / 2])
@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 3.0, 8.0, 30.0])  # from flat to peaked
@pytest.mark.parametrize("n_vocab", [40, 300, 1025, 9000])
def test_top_p_draws_what_llama_cpp_draws(rng: np.random.Generator, n_vocab: int, spread: float, step: float) -> None:
    """Where it sorts all, where it sorts 256, where two logits are equal, and where float32's sum never reaches p."""
    for number, top_p in enumerate((0.1, 0.6, 0.95, 0.9999, 0.999999)):
        for min_p in (0.0, 0.05):
            level = float(rng.choice([0.0, 20.0, -20.0]))
            sampling = Sampling(temperature=(1.0, 0.8, 1.7)[number % 3], top_p=top_p, min_p=min_p, seed=number)
            drawn_alike(sampling, [a_row(rng, n_vocab, spread, level, step) for _ in range(4)])


@pytest.mark.slow
def test_top_p_over_many_seeds(rng: np.random.Generator) -> None:
    """One flat row, one peaked, one with many equal logits, of a vocabulary of 49,152."""
    for spread, step in ((0.5, 0.0), (3.0, 0.0), (1.0, 1 / 256)):
        row = a_row(rng, 49152, spread, 0.0, step)
        drawn = {drawn_alike(Sampling(temperature=1.0, top_p=0.95, seed=seed), [row])[0] for seed in range(100)}
        assert len(drawn) > 20


def test_top_p_with_tokens_banned(rng: np.random.Generator) -> None:
    """Of a few, of all but one, and of all but two equal ones."""
    row = a_row(rng, 2000, 1.0, 0.0, 0.0)
    row[:2] = 1.0
    for allowed in (range(1000), range(1), range(2)):
        banned = tuple((token, -math.inf) for token in range(2000) if token not in allowed)
        sampling = Sampling(temperature=1.0, top_p=0.9, seed=5, logit_bias=banned)
        assert set(drawn_alike(sampling, [row] * 20)) <= set(allowed)


PENALTIES = [
    {"repeat_penalty": 1.5},
    {"repeat_penalty": 0.7, "repeat_last_n": 3},
    {"frequency_penalty": 0.8, "repeat_last_n": 8},
    {"presence_penalty": 2.5},
    {"presence_penalty": -1.0, "frequency_penalty": 0.4, "repeat_penalty": 1.1, "repeat_last_n": 5},
    {"logit_bias": ((3, 2.5), (9, -math.inf), (0, -0.5))},
    {"logit_bias": ((3, 4.0),), "repeat_penalty": 1.4, "frequency_penalty": 0.5},
]


@pytest.mark.parametrize("options", PENALTIES)
@pytest.mark.parametrize("way", [{"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9},
                                 {"temperature": 1.2, "top_k": 10, "top_p": 0.9, "min_p": 0.02}])  # fmt: skip
def test_penalties_and_biases_are_llama_cpps(
    rng: np.random.Generator, way: dict[str, float], options: dict[str, float]
) -> None:
    """With the prompt's tokens among those that are looked back over; and they change what is drawn."""
    sampling = replace(Sampling(seed=3), **way)  # type: ignore[arg-type]
    rows = [a_row(rng, 24, 1.0, 0.0, 0.0) for _ in range(60)]
    prompt = tuple(int(token) for token in rng.integers(24, size=12))
    changed = drawn_alike(replace(sampling, **options), rows, prompt)  # type: ignore[arg-type]
    assert changed != drawn_alike(sampling, rows, prompt)


def test_what_is_looked_back_over(tiny_engine: Engine) -> None:
    """The last tokens of the prompt, then those drawn; none of them with 0."""
    row = np.zeros(tiny_engine.n_vocab, np.float32)
    row[[5, 6, 7]] = 3.0, 2.5, 2.0
    sampling = Sampling(presence_penalty=10.0, repeat_last_n=2)

    def drawn(asked: Sampling, prompt: tuple[int, ...]) -> list[int]:
        sampler = asked.sampler(len(row), prompt)
        return [sampler.sample(row) for _ in range(4)]

    assert drawn(sampling, ()) == [5, 6, 7, 5]
    assert drawn(sampling, (5, 1)) == [6, 5, 7, 6]
    assert drawn(sampling, (5, 1, 1)) == [5, 6, 7, 5]
    assert drawn(replace(sampling, repeat_last_n=0), (5, 5)) == [5, 5, 5, 5]


@pytest.mark.parametrize("way", [{}, {"temperature": 1.5}, {"temperature": 1.5, "top_p": 0.9}])
def test_a_banned_token_is_not_generated(tiny_engine: Engine, way: dict[str, float]) -> None:
    """The most likely one of each step, at temperature 0 too; and penalties see the prompt."""
    free = generate(tiny_engine, (1, 2, 3), [None], max_tokens=8, sampling=Sampling(**way, seed=1))  # type: ignore[arg-type]
    banned = tuple((token, -math.inf) for token in set(free.rows[0].tokens))
    sampling = Sampling(**way, seed=1, logit_bias=banned)  # type: ignore[arg-type]
    other = generate(tiny_engine, (1, 2, 3), [None], max_tokens=8, sampling=sampling)
    assert not set(free.rows[0].tokens) & set(other.rows[0].tokens)

    prompt = (1, *free.rows[0].tokens[:1])
    away = Sampling(presence_penalty=1e6, repeat_last_n=64)
    tokens = generate(tiny_engine, prompt, [None], max_tokens=8, sampling=away).rows[0].tokens
    assert len({*prompt, *tokens}) == len(set(prompt)) + len(tokens), "a token came twice"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat_penalty": 0.0}, "`repeat_penalty` is 0.0; give 1 for none"),
        ({"repeat_penalty": math.inf}, "`repeat_penalty` is inf"),
        ({"repeat_penalty": math.nan}, "`repeat_penalty` is nan"),
        ({"frequency_penalty": math.nan}, "`frequency_penalty` is nan; give 0 for none"),
        ({"presence_penalty": -1e7}, "`presence_penalty` is -10000000.0"),
        ({"repeat_last_n": -1}, "`repeat_last_n` is -1; give 0 to"),
        ({"repeat_last_n": 2**31}, "`repeat_last_n` is 2147483648"),
        ({"logit_bias": ((5, math.inf),)}, "`logit_bias` of token 5 is inf"),
        ({"logit_bias": ((5, math.nan),)}, "`logit_bias` of token 5 is nan"),
        ({"logit_bias": ((5, 1.0), (5, 1.0))}, "names token 5 twice"),
    ],
)
def test_bad_values(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**options)  # type: ignore[arg-type]


def test_biases_of_another_vocabulary(tiny_engine: Engine, tiny_path: Path) -> None:
    n_vocab = tiny_engine.n_vocab
    for token in (-1, n_vocab):
        with pytest.raises(InputError, match=f"names token {token}; the model has tokens 0 to {n_vocab - 1}"):
            generate(tiny_engine, (1, 2), [None], sampling=Sampling(logit_bias=((token, 1.0),)))
    banned = tuple((token, -math.inf) for token in range(n_vocab))
    with pytest.raises(InputError, match="bans every token of the model; leave some"):
        generate(tiny_engine, (1, 2), [None], sampling=Sampling(logit_bias=banned))


@pytest.mark.parametrize(
    ("words", "expected"),
    [("15043+1", (15043, 1.0)), ("15043-1.5", (15043, -1.5)), ("2-inf", (2, -math.inf)), ("7+.5e1", (7, 5.0))],
)
def test_biases_as_llama_cpp_writes_them(words: str, expected: tuple[int, float]) -> None:
    assert parse_bias(words) == expected


@pytest.mark.parametrize("words", ["", "5", "+1", "5+", "5*2", "-5+1", "5+1x", "5+nan", "5 + +1", "hello+1"])
def test_no_biases(words: str) -> None:
    with pytest.raises(InputError, match="is no token with its bias; write it as 15043"):
        parse_bias(words)
