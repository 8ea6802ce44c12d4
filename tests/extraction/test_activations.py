"""Activations of pairs: which token's they are, whatever the chunks, and in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import write_tiny_model

from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.prompts import Filled, Message
from steercpp.engine.engine import Engine
from steercpp.errors import (
    ActivationsFileError,
    DegenerateError,
    InputError,
    LayerError,
    PairsError,
    PromptError,
    ShapeError,
    SteerError,
)
from steercpp.extraction.activations import Activations, collect
from steercpp.extraction.activations_file import dump, read_activations
from steercpp.extraction.capture import taken

ASK = (Message("user", "what is it?"),)
ANSWERED = (
    ContrastPair("text", "what is it?", "what is it?", " yes it is", " no"),
    ContrastPair("chat", ASK, (Message("system", "be kind"), *ASK), "yes it is good", "no"),
)
PLAIN = (ContrastPair("1", "good day to you", "bad day"), ContrastPair("2", "a", "the other thing"))


def expected(engine: Engine, pair: ContrastPair, token: Any) -> np.ndarray:
    """(2, n_layers, n_embd), by the words of the docs and not by the code's own helpers."""
    found = []
    for _, prompt, answer in pair.sides:
        tokens, n_answer = engine.encode_answered(prompt, answer)
        (values,) = engine.activations_at([tokens], [range(len(tokens))])
        if token == "mean":
            assert tokens[0] == 1 and tokens.count(1) == 1
            found.append(values[1:].astype(np.float64).sum(axis=0) / (len(tokens) - 1))
        elif token == "answer":
            assert n_answer > 0
            found.append(values[len(tokens) - n_answer :].astype(np.float64).sum(axis=0) / n_answer)
        else:
            found.append(values[-1 if token == "last" else token])
    return np.stack(found)


@pytest.mark.parametrize("token", ["last", "mean", "answer", 2, -2])
def test_the_token_asked_for(tiny_engine: Engine, token: Any) -> None:
    found = collect(tiny_engine, ANSWERED, token=token)
    for place, pair in enumerate(ANSWERED):
        for il, values in zip(found.layers, expected(tiny_engine, pair, token).swapaxes(0, 1), strict=True):
            own = np.stack(found.at(il))[:, place]
            # two packings: K/V in float16 rounds sums of about 30 by 1e-2 at the most, as in test_engine.py
            np.testing.assert_allclose(own, values, rtol=0, atol=1e-2)
    assert found.notes["token"] == str(token)


def test_the_mean_leaves_out_a_begin_token_at_the_start_alone(tmp_path: Path) -> None:
    """SmolLM2's is also its turn mark: every one of them was left out."""
    marked = (
        "{% for turn in messages %}{{ bos_token + turn['role'] + ' ' + turn['content'] }}{% endfor %}{{ bos_token }}"
    )
    path = write_tiny_model(tmp_path / "marked.gguf", chat_template=marked)
    with Engine(path, n_ctx=256, threads=1) as engine:
        pair = ContrastPair("1", (Message("system", "be kind"), Message("user", "yes")), (Message("user", "no"),))
        activations = collect(engine, [pair], token="mean")
        for il in (1, 3):
            for side, (_, prompt, _) in enumerate(pair.sides):
                tokens = engine.encode(prompt)
                assert tokens[0] == tokens[-1] == 1 and tokens.count(1) > 1
                (values,) = engine.activations_at([tokens], [range(len(tokens))], layers=[il])
                expected = values[1:, 0].mean(axis=0)
                np.testing.assert_allclose(activations.at(il)[side][0], expected, rtol=0, atol=1e-2)  # as above
        dump(engine, [pair], tmp_path / "all.safetensors", token="all")
        read = read_activations(tmp_path / "all.safetensors", token="mean")
        np.testing.assert_allclose(read.at(3), activations.at(3), rtol=0, atol=1e-6)
    assert list(taken("mean", (5, 1, 6), 0, 1)) == [0, 1, 2] and list(taken("mean", (1, 1, 6), 0, 1)) == [1, 2]


def test_the_last_token_is_the_answers(tiny_engine: Engine) -> None:
    one = collect(tiny_engine, ANSWERED[:1], layers=[3]).at(3)[0]
    whole = tiny_engine.activations([tiny_engine.encode("what is it? yes it is")], layers=[3])[0]
    np.testing.assert_allclose(one, whole, rtol=0, atol=1e-2)  # as above


def test_notes_tell_what_was_decoded(tiny_engine: Engine) -> None:
    found = collect(tiny_engine, iter(PLAIN), template="chat", layers=[2, 1])
    notes = dict(found.notes)
    assert notes.pop("version") and notes.pop("llama_cpp")
    assert notes == {
        "architecture": "llama",
        "n_layer": 4,
        "token": "last",
        "template": "chat",
        "n_pairs": 2,
        "pairs_sha256": pairs_sha256(PLAIN),
        "model_file": tiny_engine.path.name,
        "model_sha256": hashlib.sha256(tiny_engine.path.read_bytes()).hexdigest(),
        "flash_attn": "off",
        "n_batch": 256,
    }
    assert (found.n_pairs, found.n_embd, found.layers) == (2, 256, (2, 1))


def many(rng: np.random.Generator, n_pairs: int) -> list[ContrastPair]:
    words = ["good", "day", "help", "man", "work", "never", "always", "house"]
    return [
        ContrastPair(
            str(i), f"{i} " + " ".join(rng.choice(words, 30)), " ".join(rng.choice(words, rng.integers(1, 30)))
        )
        for i in range(n_pairs)
    ]


@pytest.mark.parametrize("token", ["last", "mean"])
def test_chunks_change_nothing_but_the_batches(
    tiny_engine: Engine, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, token: Any
) -> None:
    pairs, calls = many(rng, 40), []
    whole = collect(tiny_engine, pairs, token=token)
    name = "activations" if token == "last" else "activations_at"
    real = getattr(Engine, name)

    def counted(self: Engine, prompts: Sequence[Any], *rest: Any, **options: Any) -> Any:
        calls.append(len(prompts))
        return real(self, prompts, *rest, **options)

    monkeypatch.setattr(Engine, name, counted)
    monkeypatch.setattr("steercpp.extraction.capture._CHUNK_TOKENS", 300)
    seen: list[tuple[int, int]] = []
    cut = collect(tiny_engine, pairs, token=token, progress=lambda *report: seen.append(report))
    assert sum(calls) == 80 and len(calls) > 5 and not any(n % 2 for n in calls)
    assert seen[-1] == (80, 80) and seen == sorted(seen)
    for il in whole.layers:
        np.testing.assert_allclose(np.stack(cut.at(il)), np.stack(whole.at(il)), rtol=0, atol=1e-2)  # as above


def test_fewer_layers_have_the_same_bits(tiny_engine: Engine, rng: np.random.Generator) -> None:
    pairs = many(rng, 12)
    whole, one = collect(tiny_engine, pairs), collect(tiny_engine, pairs, layers=[1])
    np.testing.assert_array_equal(np.stack(one.at(1)), np.stack(whole.at(1)))


def test_much_goes_to_a_temporary_file(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    pairs = many(rng, 9)
    kept = collect(tiny_engine, pairs)
    monkeypatch.setattr("steercpp.extraction.activations._IN_MEMORY", 9 * 2 * 4 * 256 * 4 - 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stored = collect(tiny_engine, pairs)
    assert not isinstance(stored.values, np.ndarray) and stored.n_pairs == 9
    for il in kept.layers:
        np.testing.assert_array_equal(np.stack(stored.at(il)), np.stack(kept.at(il)))
    assert list(tmp_path.iterdir()) == []  # nothing that could be left behind
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(ActivationsFileError, match="none: the activations need a temporary file: No such file"):
        collect(tiny_engine, pairs)


@pytest.mark.parametrize(
    ("pairs", "token", "error", "expected"),
    [
        ([], "last", PairsError, "no pairs were given"),
        (PLAIN, "answer", PairsError, 'pair 1: positive prompt: no answer, whose tokens .* take the token "last"'),
        (PLAIN, 9, InputError, "pair 1: positive prompt: token 9 is asked for, and it has 5 tokens"),
        (PLAIN, -3, InputError, "pair 2: positive prompt: token -3 is asked for, and it has 2 tokens"),
        (PLAIN, "first", InputError, "token 'first' is unknown; use last, mean, answer or a position"),
        ([ContrastPair("b", Filled("<s>"), "a")], "mean", DegenerateError, "pair b: positive prompt: no tokens but"),
        ([ContrastPair("m", "it i", "it", "s", " s")], "last", PromptError, "pair m: positive prompt: .* merges with"),
    ],
)
def test_the_pair_is_named(
    tiny_engine: Engine, pairs: Sequence[ContrastPair], token: Any, error: type[SteerError], expected: str
) -> None:
    before = tiny_engine.token_layers
    with pytest.raises(error, match=expected):
        collect(tiny_engine, pairs, token=token)
    assert tiny_engine.token_layers == before  # found before anything was decoded


def test_pairs_that_change_meanwhile(tiny_engine: Engine) -> None:
    class Changing:
        def __init__(self, *lengths: int) -> None:
            self.lengths = list(lengths)

        def __iter__(self) -> Any:
            return iter(PLAIN[: self.lengths.pop(0)])

    for lengths in ((1, 2), (2, 1)):
        with pytest.raises(PairsError, match="the pairs changed while they were read"):
            collect(tiny_engine, Changing(*lengths))


def test_what_activations_refuse(rng: np.random.Generator) -> None:
    values = rng.standard_normal((3, 2, 2, 8)).astype(np.float32)
    made = Activations(values, (4, 7), {"model_sha256": "ab" * 32, "model_file": "a.gguf"}, "a.safetensors")
    np.testing.assert_array_equal(made.at(7)[1], values[:, 1, 1])
    with pytest.raises(LayerError, match=r"a\.safetensors: layer 5 is not there, only 4, 7; name some of them"):
        made.at(5)
    with pytest.raises(ShapeError, match=r"expected \(n_pairs, 2, 1, n_embd\), got \(3, 2, 2, 8\)"):
        Activations(values, (4,))
    made.check_model("a.gguf", "ab" * 32)
    Activations(values, (4, 7)).check_model("b.gguf", "cd" * 32)  # nobody said whose they are
    with pytest.raises(ActivationsFileError, match=r"made with a\.gguf \(sha256 abab.*, not with b\.gguf"):
        made.check_model("b.gguf", "cd" * 32)


def test_a_pair_that_its_template_makes_equal_is_told(tmp_path: Path) -> None:
    source = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"
    pair = ContrastPair("0", (Message("user", "a"),), (Message("user", " a"),))
    with (
        Engine(write_tiny_model(tmp_path / "m.gguf", chat_template=source), n_ctx=128, threads=1) as engine,
        pytest.raises(PairsError, match="pair 0: both prompts become the same tokens, though their texts differ"),
    ):
        collect(engine, [pair])


def test_pairs_that_differ_in_their_system_message_alone_stay_different(tmp_path: Path) -> None:
    """Also where the template leaves it out."""
    source = "{% for m in messages %}{% if m.role != 'system' %}[{{ m.content }}]{% endif %}{% endfor %}"
    pair = ContrastPair("s", (Message("system", "be good"), *ASK), (Message("system", "be bad"), *ASK))
    with Engine(write_tiny_model(tmp_path / "m.gguf", chat_template=source), n_ctx=128, threads=1) as engine:
        positive, negative = collect(engine, [pair]).at(2)
        assert not np.array_equal(positive, negative)


def test_notes_tell_how_chats_were_written(tmp_path: Path) -> None:
    source = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if enable_thinking %}<think>{% endif %}"
    path = write_tiny_model(tmp_path / "m.gguf", chat_template=source + "{{ strftime_now('%Y') }}")
    with Engine(path, n_ctx=128, threads=1, template_kwargs={"tone": "low"}, date="2026-11-29") as engine:
        notes = collect(engine, ANSWERED).notes
        told = {key: notes[key] for key in ("template_kwargs", "thinking", "date")}
        assert told == {"template_kwargs": '{"tone": "low"}', "thinking": "off", "date": "2026-11-29"}
        assert "thinking" not in collect(engine, PLAIN).notes  # no chat among them
