"""Random models: the same seed gives the same bytes, the weights have the size they should, words are tokens."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import gguf
import llama_cpp
import pytest
from gguf import GGMLQuantizationType

from steercpp.bench.models import SHAPES, Shape, make_model, model_bytes, vocabulary, with_layers, words
from steercpp.choices import QUANTS
from steercpp.errors import InputError

SMALL = Shape(n_layer=4, n_embd=256, n_head=8, n_head_kv=4, n_ff=512, n_vocab=700, n_ctx=1024)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def tensors(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (make_model(SMALL, "q4_0", folder=tmp_path / name, seed=3) for name in ("one", "other"))
    assert one != other and one.read_bytes() == other.read_bytes()
    third = make_model(SMALL, "q4_0", folder=tmp_path / "one", seed=4)
    assert third.name != one.name and third.read_bytes() != one.read_bytes()


def test_a_model_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = make_model(SMALL, "q8_0", folder=tmp_path)
    before = path.stat().st_mtime_ns
    assert make_model(SMALL, "q8_0", folder=tmp_path) == path and path.stat().st_mtime_ns == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # no draft is left


@pytest.mark.parametrize("quant", QUANTS)
def test_weights_have_the_size_of_trained_ones(folder: Path, quant: str) -> None:
    found = tensors(make_model(SMALL, quant, folder=folder))
    assert len(found) == 3 + 9 * SMALL.n_layer
    for name, tensor in found.items():
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if name.endswith("norm.weight"):
            assert (values == 1).all()
            continue
        drawn = values[3:]
        expected = 1.0 if name == "token_embd.weight" else values.shape[1] ** -0.5
        # Of 65536 values or more, and of 256 block scales for the coarsest type: a tenth is several standard errors.
        assert drawn.std() == pytest.approx(expected, rel=0.1), name
        assert abs(drawn.mean()) < 0.1 * expected, name


def test_types_are_those_of_llama_cpps_quantizer(folder: Path) -> None:
    found = {name: tensor.tensor_type for name, tensor in tensors(make_model(SMALL, "q4_0", folder=folder)).items()}
    assert found["output.weight"] == GGMLQuantizationType.Q6_K and found["blk.0.attn_q.weight"] == 2
    narrow = Shape(n_layer=2, n_embd=96, n_head=2, n_head_kv=2, n_ff=256, n_vocab=500)
    found = {name: tensor.tensor_type for name, tensor in tensors(make_model(narrow, "q4_k", folder=folder)).items()}
    assert found["blk.0.attn_q.weight"] == GGMLQuantizationType.Q8_0  # 96 is no multiple of a K-quant's 256
    assert found["blk.0.ffn_down.weight"] == GGMLQuantizationType.Q4_K


@pytest.mark.parametrize("quant", QUANTS)
def test_special_tokens_are_never_likely(folder: Path, quant: str) -> None:
    output = tensors(make_model(SMALL, quant, folder=folder))["output.weight"]
    values = gguf.dequantize(output.data, output.tensor_type)
    assert not values[:3].any() and values[3:].any(axis=1).all()


def test_sizes_are_known_before(folder: Path) -> None:
    for quant in QUANTS:
        path = make_model(SMALL, quant, folder=folder)
        assert sum(tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors) == model_bytes(SMALL, quant)
    # GB of the well-known Q4_0 files of TinyLlama and Llama 2, which have a MB of vocabulary besides.
    for name, known in (("1.1b", 0.6377), ("7b", 3.8258), ("13b", 7.3658)):
        assert model_bytes(SHAPES[name], "q4_0") / 1e9 == pytest.approx(known, rel=0.005)


@pytest.mark.parametrize("n_vocab", [500, 700, 32000])
def test_words_and_letters_are_single_tokens(folder: Path, n_vocab: int) -> None:
    pieces, scores, kinds = vocabulary(n_vocab)
    assert len(pieces) == len(set(pieces)) == len(scores) == len(kinds) == n_vocab
    assert {"A", "B", "C", "D", "▁A", "▁B", "▁C", "▁D"} <= set(pieces)
    shape = Shape(n_layer=2, n_embd=32, n_head=2, n_head_kv=2, n_ff=32, n_vocab=n_vocab)
    path = make_model(shape, "q4_0", folder=folder)
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    some = words(n_vocab)[:: max(len(words(n_vocab)) // 50, 1)]
    assert len(some) >= 40
    tokens = model.tokenize(" ".join([*some, "A"]).encode(), add_bos=True)
    assert tokens == [1, *(pieces.index(f"▁{word}") for word in some), pieces.index("▁A")]
    model.close()


def test_layers_are_cut(folder: Path) -> None:
    assert with_layers(SHAPES["13b"], 20).n_layer == 20
    assert with_layers(SMALL, 20) == with_layers(SMALL, None) == SMALL
    with pytest.raises(InputError, match="layers is 1"):
        with_layers(SMALL, 1)


def test_what_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'q3' is unknown; use one of f16, q8_0"):
        make_model(SMALL, "q3", folder=tmp_path)
    for n_vocab in (100, 300000):
        with pytest.raises(InputError, match="give 500 to"):
            vocabulary(n_vocab)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(InputError, match="0.0 GB are free and the model needs 0.0; name another folder with `cache`"):
        make_model(SMALL, "q8_0", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
