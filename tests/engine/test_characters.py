"""Characters that a vocabulary lacks are refused by name, by each kind of tokenizer; what is only changed is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_keys import write_with_keys
from odd_vocabularies import ODD, SPM

from steercpp.data.items import ChoiceItem, choice_prompt
from steercpp.data.prompts import Filled, Message
from steercpp.doctor.self_test import run_self_test
from steercpp.engine.engine import Engine
from steercpp.errors import PromptError, SteerError, VocabularyError
from steercpp.sweeps.work import choice_work
from steercpp.vectors.gguf_header import read_header


@pytest.fixture(scope="module", params=ODD)
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Engine]]:
    path = ODD[request.param].write(tmp_path_factory.mktemp("odd") / "odd.gguf")
    with Engine(path, n_ctx=256, threads=1) as engine:
        yield request.param, engine


LACKING = {
    "spm": {"oak 5": "'5'", "oak 😀": "'😀' (U+1F600)", "oak\nfir": "'\\n'", "a5b\t": "'5', '\\t'"},
    "bpe": {"oak 5": "'5'", "oak 😀": "'😀' (U+1F600)", "oak\nfir": "'\\n'", "5é5": "'5', 'é' (U+00E9)"},
    "rwkv": {"oak\0": "'\\x00'"},
    "rwkv without 5": {"oak 5": "'5'", "51 56": "'5'"},
    "wordpiece": {"oak 5": "'5'", "Oak😀 fir": "'😀' (U+1F600)", "1 2 3 4 5 6": "'1', '2', '3', '4' and 2 more"},
    "unigram": {"oak 5": "'5'", "oak😀😀": "'😀' (U+1F600)", "a\nb": "'\\n'"},
}


def test_what_a_vocabulary_lacks_is_named(odd: tuple[str, Engine]) -> None:
    """It was an IndexError, or dropped, or the unknown token, or no end, without a word."""
    name, engine = odd
    for text, named in LACKING[name].items():
        for use in (engine.encode, engine.tokenize, lambda text: engine.continue_tokens("oak", f" {text}")):
            with pytest.raises(VocabularyError) as caught:
                use(text)
            assert str(caught.value).startswith(f"the model's vocabulary lacks {named} of "), text
            assert isinstance(caught.value, PromptError)
        assert not engine.vocabulary.writes(text)


def test_what_is_only_changed_is_not_refused(odd: tuple[str, Engine]) -> None:
    """Small letters, accents, white space and a leading space are the tokenizer's ways."""
    name, engine = odd
    changed = {"wordpiece": ("Öak ÏS", "oak\n\tfir", "é\u0301"), "unigram": ("  oak   fir ", "▁oak")}
    for text in ("Which oak is fir", " oak", "", *changed.get(name, ())):
        engine.tokenize(text)
        assert engine.vocabulary.writes(text)


def test_a_template_is_read_where_the_vocabulary_lacks_the_signs_of_its_special_tokens(tmp_path: Path) -> None:
    turns = "{% for turn in messages %}<s>{{ turn['role'] }} {{ turn['content'] }}{% endfor %}</s>"
    with Engine(replace(SPM, template=turns).write(tmp_path / "chat.gguf"), n_ctx=256, threads=1) as engine:
        tokens = engine.encode((Message("user", "oak"), Message("assistant", "fir"), Message("user", "no")))
        assert tokens.count(1) == 3 and tokens[-1] == 2
        assert engine.encode(Filled("{x}</s>", {"x": "oak"}))[-1] == 2
        with pytest.raises(VocabularyError, match="lacks '<', '/', '>' of 'user no</s>'"):
            engine.encode((Message("user", "no</s>"),))  # data, which are letters
        assert engine.vocabulary.foreign_texts(Filled("<|im_end|></s>{x}", {"x": "oak"})) == ("<|im_end|>",)


def test_a_model_is_tested_where_its_vocabulary_lacks_the_sentence(tmp_path: Path) -> None:
    few = replace(SPM, normal=("▁", "a", "b", "c"))
    with Engine(few.write(tmp_path / "few.gguf"), n_ctx=256, threads=1) as engine:
        assert engine.vocabulary.lone_space == engine.token_id("▁")
        assert all(check.ok for check in run_self_test(engine))


def test_a_lone_space_is_asked_of_the_vocabulary(odd: tuple[str, Engine], tiny_engine: Engine) -> None:
    name, engine = odd
    space = {"spm": "▁", "bpe": "Ġ", "rwkv": " ", "rwkv without 5": " ", "unigram": "▁"}.get(name)
    assert engine.vocabulary.lone_space == (None if space is None else engine.token_id(space))
    assert tiny_engine.vocabulary.lone_space == tiny_engine.token_id("▁")


def test_a_vocabulary_with_all_bytes_writes_everything(tiny_engine: Engine) -> None:
    for text in REAL_TEXTS:
        assert tiny_engine.detokenize(tiny_engine.tokenize(text)) == text.replace("▁", " ")


REAL_TEXTS = (
    "It's 12345, 100%", "a\n\nb\tc  d", "é ü 日本語 😀\u200d👩 \u200b\ufeff", "\x01\x7f", "</s><|im_end|><|endoftext|>",
    "▁ x ▁", "\r\n ok \u2028 \u00a0x", "e\u0301", "\u1e9b\u0323 ﬁ Å", "   leading", "def f(x):\n    return {x: [1]}\n",
)  # fmt: skip
# each kind of tokenizer, and each way to cut words that does something of its own
SHIPPED = ("bert-bge", "falcon", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "nomic-bert-moe", "phi-3", "qwen2")


def shipped() -> Path:
    """The vocabularies of real models in llama.cpp's sources, as llama-cpp-python's source package has them."""
    source = os.environ.get("STEERCPP_LLAMA_SOURCE")
    folders = [] if source is None else [*Path(source).glob("**/models/templates")]
    if not folders:
        pytest.skip("set STEERCPP_LLAMA_SOURCE to the unpacked source package of llama-cpp-python")
    return folders[0].parent


def with_vocabulary_of(source: Path, path: Path) -> Path:
    """A model of one block with another file's vocabulary, whose keys are copied (gguf-py takes half a minute)."""
    with open(source, "rb") as file:
        values = read_header(file, source).values
    vocabulary = {name: value for name, value in values.items() if name.startswith("tokenizer.")}
    tokens = vocabulary["tokenizer.ggml.tokens"].value
    assert isinstance(tokens, tuple)
    writer = gguf.GGUFWriter(path.with_suffix(".bare"), "llama")
    numbers = {"context_length": 256, "embedding_length": 32, "block_count": 1, "feed_forward_length": 32}
    for key, number in (numbers | {"attention.head_count": 1}).items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_layer_norm_rms_eps(1e-5)
    shapes = {"token_embd": (len(tokens), 32), "output": (len(tokens), 32), "output_norm": (32,)}
    shapes |= {f"blk.0.{name}_norm": (32,) for name in ("attn", "ffn")}
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes |= {f"blk.0.{name}": (32, 32) for name in matrices}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.ones(shape, np.float16 if len(tokens) in shape else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return write_with_keys(path.with_suffix(".bare"), path, vocabulary)


@pytest.mark.slow
def test_vocabularies_of_real_models_lose_nothing_and_their_letters_are_scored(tmp_path: Path) -> None:
    item = ChoiceItem("q", "Which?", ("oak", "fir", "yew", "ash"), 0)
    wrong: dict[str, list[str]] = {}
    scored = {}
    folder = shipped()
    for name in SHIPPED:
        path = with_vocabulary_of(folder / f"ggml-vocab-{name}.gguf", tmp_path / "model.gguf")
        with Engine(path, n_ctx=256, threads=1) as engine:
            for text in REAL_TEXTS:
                try:
                    engine.tokenize(text)
                except SteerError:
                    wrong.setdefault(name, []).append(text)
            work = choice_work(engine, [item])
            for i in range(4):
                tokens = [row.tokens for row in work.continuations if row.side == str(i)]
                assert engine.continue_tokens(choice_prompt(item), f" {'ABCD'[i]}") in tokens, name
            assert work.notes == (), name
            scored[name] = [row.tokens for row in work.continuations if row.side == "0"]
        path.unlink()
    assert wrong.keys() == {"bert-bge"}  # which has neither emoji nor every accented letter
    assert scored["llama-spm"] == [(319,), (29909,)]
