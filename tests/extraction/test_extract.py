"""Extraction on a real model: what is computed from which activations, and that it is written where it was measured."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from vector_bytes import load_like_llama_cpp

from steercpp.aliases import FloatArray
from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.prompts import Message
from steercpp.engine.engine import Engine
from steercpp.errors import ContextOverflowError, DegenerateError, InputError, LayerError, PairsError, PromptError
from steercpp.extraction import extract as extraction
from steercpp.extraction.activations import Activations, collect
from steercpp.extraction.extract import extract, extract_from
from steercpp.extraction.methods import METHODS
from steercpp.extraction.quality import MOST_PAIRS, NAMES, direction_with_quality, quality
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector, write_vector
from steercpp.vectors.layers import default_layers

TEXTS = [
    ("The girl was very happy today and", "The girl was very sad today and"),
    ("We would like to help you", "We cannot help you, sorry"),
    ("Good work is great", "Good work is never great and it should be the last of us"),
    ("yes", "no"),
]
PAIRS = tuple(ContrastPair(str(i), *both) for i, both in enumerate(TEXTS))


def test_mean_difference_of_the_last_tokens(tiny_engine: Engine) -> None:
    made = extract(tiny_engine, PAIRS, layers=[3, 1])
    assert (made.layers, made.model_hint, made.n_layer) == ((1, 3), "llama", 4)
    for il in made.layers:
        rows = []
        for both in TEXTS:  # one prompt at a time, unlike `extract`
            one = [tiny_engine.activations([tiny_engine.encode(side)], layers=[il])[0, 0] for side in both]
            rows.append(one[0].astype(np.float64) - one[1])
        mean = np.mean(rows, axis=0)
        # one prompt alone against several packed: float32 sums in another order, relative errors of some 1e-6
        np.testing.assert_allclose(made.directions[il], mean / np.linalg.norm(mean), atol=1e-4)


@pytest.mark.parametrize("method", ["mean", "pca"])
def test_a_direction_planted_at_a_layer_is_found_at_that_layer(
    tiny_engine: Engine, rng: np.random.Generator, method: str
) -> None:
    v = rng.standard_normal(tiny_engine.n_embd).astype(np.float32)
    planted = ControlVector({2: v}, "llama", tiny_engine.n_layer)
    prompts = [tiny_engine.encode(text) for text, _ in TEXTS]
    base, steered = (tiny_engine.activations(prompts, vector=planted, strengths=s) for s in (0.0, 1.0))
    both = Activations(np.stack([steered, base], axis=1), tuple(range(tiny_engine.n_layer)))
    found = METHODS[method](*both.at(2))
    assert found @ v / np.linalg.norm(v) > 0.9999  # the difference is v, but for the rounding of one float32 addition
    for il in (0, 1):  # a vector shifted by one layer would be found here
        with pytest.raises(DegenerateError, match="identical activations"):
            METHODS[method](*both.at(il))


@pytest.mark.parametrize("method", METHODS)
def test_written_and_applied_where_it_was_measured(tiny_engine: Engine, tmp_path: Path, method: str) -> None:
    made = extract(tiny_engine, PAIRS, method=method, layers=range(1, 4))
    write_vector(tmp_path / "v.gguf", made)
    rows = load_like_llama_cpp(tmp_path / "v.gguf")  # row k-1 is what llama.cpp adds to the output of block k
    prompts = [tiny_engine.encode(TEXTS[0][0])]
    for il in (1, 2, 3):
        np.testing.assert_array_equal(rows[il - 1], made.directions[il])
        one = read_vector(tmp_path / "v.gguf").restricted_to([il])
        base, steered = (tiny_engine.activations(prompts, vector=one, strengths=s)[0, il] for s in (0.0, 0.5))
        # one float32 addition to activations of about 1 rounds by 1e-7
        np.testing.assert_allclose(steered - base, 0.5 * made.directions[il], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_pairs_give_the_same_file(tiny_path: Path, tmp_path: Path, method: str) -> None:
    for name in ("a.gguf", "b.gguf"):
        with Engine(tiny_path, threads=1) as engine:
            write_vector(tmp_path / name, extract(engine, PAIRS, method=method))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_swapped_pairs_give_the_opposite_vector(tiny_engine: Engine) -> None:
    made = extract(tiny_engine, PAIRS)
    swapped = extract(tiny_engine, [ContrastPair(pair.id, pair.negative, pair.positive) for pair in PAIRS])
    for il in made.layers:  # packed in another order: see above
        np.testing.assert_allclose(swapped.directions[il], -made.directions[il], atol=1e-4)


def test_default_layers_unit_length_and_provenance(tiny_engine: Engine) -> None:
    made = extract(tiny_engine, iter(PAIRS), method="pca")
    assert made.layers == default_layers(4)
    assert list(made.norms.values()) == pytest.approx([1.0] * len(made.layers), abs=1e-6)  # float32 elements
    metadata = dict(made.metadata)
    activations = collect(tiny_engine, PAIRS, layers=made.layers)
    found = [quality(*activations.at(il), "pca") for il in made.layers]
    for name in NAMES:
        assert metadata.pop(name) == tuple(getattr(one, name) for one in found)
    assert all(1 / len(PAIRS) <= one.explained <= 1 for one in found)  # the first of 4 axes
    assert metadata.pop("version")
    assert metadata == {
        "method": "pca",
        "layer_convention": "applied",
        "token": "last",
        "template": "auto",
        "unit": "length",
        "n_pairs": len(PAIRS),
        "pairs_sha256": pairs_sha256(PAIRS),
        "model_file": tiny_engine.path.name,
        "model_sha256": hashlib.sha256(tiny_engine.path.read_bytes()).hexdigest(),
    }


def test_template_makes_a_difference(tiny_engine: Engine) -> None:
    chats = [
        ContrastPair(p.id, (Message("user", str(p.positive)),), (Message("user", str(p.negative)),)) for p in PAIRS
    ]
    raw, wrapped = extract(tiny_engine, PAIRS, template="raw"), extract(tiny_engine, PAIRS, template="chat")
    assert not np.array_equal(raw.directions[1], wrapped.directions[1])
    np.testing.assert_array_equal(extract(tiny_engine, chats).directions[1], wrapped.directions[1])
    with pytest.raises(PromptError, match="pair 0: positive prompt: a chat cannot be taken raw"):
        extract(tiny_engine, chats, template="raw")


def test_progress_counts_prompts(tiny_engine: Engine) -> None:
    seen: list[tuple[int, int, str]] = []
    extract(tiny_engine, PAIRS, progress=lambda *report: seen.append(report))
    assert seen[-1] == (8, 8, "reading the pairs")


def test_what_is_refused(tiny_engine: Engine) -> None:
    with pytest.raises(InputError, match="method 'umap' is unknown; use one of mean, pca, pca-centered"):
        extract(tiny_engine, PAIRS, method="umap")
    for layers in ([], [-1], [4]):
        with pytest.raises(LayerError, match=r"the model has layers 0\.\.3"):
            extract(tiny_engine, PAIRS, layers=layers)
    with pytest.raises(PairsError, match="at least one"):
        extract(tiny_engine, [])
    with pytest.raises(DegenerateError, match="layer 1: centring leaves nothing"):
        extract(tiny_engine, PAIRS[:1], method="pca-centered")
    with pytest.raises(ContextOverflowError, match="pair long: negative prompt"):
        extract(tiny_engine, [*PAIRS, ContrastPair("long", "yes", "no " * 2000)])
    assert extract(tiny_engine, PAIRS).layers == default_layers(4)  # the engine is still usable


# ---------------------------------------------------------------- without a model


@pytest.fixture(scope="module")
def activations(tiny_engine: Engine) -> Activations:
    return collect(tiny_engine, PAIRS)


def in_memory(activations: Activations) -> FloatArray:
    """(n_pairs, 2, n_layers, n_embd), a copy."""
    return np.stack([np.stack(activations.at(il), axis=1) for il in activations.layers], axis=2)


@pytest.mark.parametrize("method", METHODS)
def test_activations_give_the_vector_that_the_model_gives(
    tiny_engine: Engine, activations: Activations, tmp_path: Path, method: str
) -> None:
    """Down to the bytes of the file: which layers are captured does not change what is decoded together."""
    write_vector(tmp_path / "a.gguf", extract(tiny_engine, PAIRS, method=method, layers=[2, 1]))
    write_vector(tmp_path / "b.gguf", extract_from(activations, method=method, layers=[1, 2]))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_layers_by_default(activations: Activations) -> None:
    assert extract_from(activations).layers == default_layers(4) == (1, 2)
    upper = Activations(in_memory(activations)[:, :, 2:], (2, 3), activations.notes)
    assert extract_from(upper).layers == (2, 3)  # a part of the band is missing
    assert extract_from(upper, layers=[3]).layers == (3,)


def test_activations_of_another_tool(activations: Activations) -> None:
    made = extract_from(Activations(in_memory(activations), activations.layers), layers=[3])
    assert (made.model_hint, made.n_layer) == ("", 4)
    assert "model_sha256" not in made.metadata and made.metadata["method"] == "mean"


def test_one_pair_leaves_out_what_it_cannot_tell(activations: Activations) -> None:
    one = Activations(in_memory(activations)[:1], activations.layers, activations.notes)
    assert {name for name in NAMES if name in extract_from(one).metadata} == {"explained", "norm_ratio"}


def test_progress_counts_layers(activations: Activations) -> None:
    seen: list[tuple[int, int, str]] = []
    extract_from(activations, layers=[1, 3], progress=lambda *report: seen.append(report))
    assert seen == [(1, 2, "finding directions"), (2, 2, "finding directions")]


def test_what_is_refused_of_activations(activations: Activations) -> None:
    with pytest.raises(LayerError, match="activations: layer 7,40 is not there; name some of 0-3"):
        extract_from(activations, layers=[1, 7, 40])
    with pytest.raises(LayerError, match="no layer was named; name some of 0-3"):
        extract_from(activations, layers=[])
    with pytest.raises(InputError, match="method 'umap' is unknown"):
        extract_from(activations, method="umap")
    values = in_memory(activations)
    values[2, 1, 3, 5] = np.nan
    broken = Activations(values, activations.layers, activations.notes)
    assert extract_from(broken).layers == (1, 2)
    with pytest.raises(InputError, match=r"layer 3: pair 2 \(counted from 0\): its activations are not all finite"):
        extract_from(broken, layers=[3])
    values[:, 1, 1] = values[:, 0, 1]
    with pytest.raises(DegenerateError, match="layer 1: all contrast pairs have identical activations"):
        extract_from(broken)


@pytest.mark.parametrize(("n_pairs", "limited"), [(MOST_PAIRS, True), (MOST_PAIRS + 1, False)])
def test_small_matrices_are_left_to_one_thread(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, n_pairs: int, limited: bool
) -> None:
    """Found by `steercpp bench`: beside another process, two threads took fifteen times as long as one."""

    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    def noting(*arguments: Any) -> Any:
        seen.append(threads())
        return direction_with_quality(*arguments)

    seen: list[list[int]] = []
    monkeypatch.setattr(extraction, "direction_with_quality", noting)
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        extract_from(Activations(rng.standard_normal((n_pairs, 2, 1, 8)).astype(np.float32), (0,)), layers=[0])
        assert threads() == before
    assert seen == [[1] * len(before) if limited else before]
