"""A model is all its files: which they are, their hash and size, what is said of shards that do not fit together."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_sweep import small_sweep
from tiny_model import TINY, Shape, split, write_tiny_model, write_vocabulary_only

from steercpp.engine.engine import Engine
from steercpp.engine.model_file import model_bytes, model_files, model_sha256
from steercpp.errors import ModelError, RunError
from steercpp.experiments.constants.output_head import Head, read_head

PROMPT = [3, 300, 301, 302]


@pytest.fixture
def shards(tiny_path: Path, tmp_path: Path) -> list[Path]:
    """The tiny model in three shards."""
    return list(model_files(split(tiny_path, tmp_path / "split")))


def with_other_weights(shards: list[Path], folder: Path) -> None:
    """Replace all shards but the first by those of another model of the same shape."""
    write_tiny_model(folder / "tiny-F32.gguf", seed=1, shape=TINY)
    others = model_files(split(folder / "tiny-F32.gguf", folder / "other"))
    for ours, other in zip(shards[1:], others[1:], strict=True):
        shutil.copyfile(other, ours)


def test_the_hash_of_a_single_file_is_that_of_its_bytes(tiny_path: Path) -> None:
    assert model_files(tiny_path) == (tiny_path,)
    assert model_sha256(tiny_path) == hashlib.sha256(tiny_path.read_bytes()).hexdigest()
    assert model_bytes(tiny_path) == tiny_path.stat().st_size


def test_the_hash_of_a_split_model_is_of_the_shards_hashes_in_their_order(shards: list[Path]) -> None:
    lines = [hashlib.sha256(path.read_bytes()).hexdigest() + "\n" for path in shards]
    assert len(lines) == 3
    assert model_sha256(shards[0]) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert model_bytes(shards[0]) == sum(path.stat().st_size for path in shards)


@pytest.mark.parametrize("keys_alone", [False, True])
def test_a_split_model_is_the_whole_one_bit_for_bit(tiny_path: Path, tmp_path: Path, keys_alone: bool) -> None:
    """A first shard may hold keys and no tensors."""
    first = split(tiny_path, tmp_path / "split", keys_alone=keys_alone)
    with Engine(tiny_path, threads=1) as whole, Engine(first, threads=1) as parts:
        np.testing.assert_array_equal(whole.activations([PROMPT]), parts.activations([PROMPT]))
        assert len(model_files(first)) == 3 + keys_alone and parts.sha256 == model_sha256(first)
    heads = [read_head(path, [5, 300]) for path in (tiny_path, first)]
    assert all(isinstance(head, Head) for head in heads)
    assert isinstance(heads[0], Head) and isinstance(heads[1], Head)
    np.testing.assert_array_equal(heads[0].rows, heads[1].rows)
    np.testing.assert_array_equal(heads[0].weight, heads[1].weight)


def test_a_finished_run_is_not_that_of_a_model_with_another_later_shard(shards: list[Path], tmp_path: Path) -> None:
    """What was wrong: the first shard alone was hashed, so the other model was told the numbers of this one."""
    out = tmp_path / "run"
    with Engine(shards[0], threads=1) as engine:
        first = small_sweep(engine, out, random_directions=0)
        assert [shard["file"] for shard in first.manifest.model.shards] == [path.name for path in shards]
        assert small_sweep(engine, out, random_directions=0).decoded_now == 0
    with_other_weights(shards, tmp_path)
    with Engine(shards[0], threads=1) as engine, pytest.raises(RunError, match=r"another plan \(other model\)"):
        small_sweep(engine, out, random_directions=0)


def lose(shards: list[Path], folder: Path) -> None:
    shards[1].unlink()


def swap(shards: list[Path], folder: Path) -> None:
    shutil.copyfile(shards[1], shards[2])


def cut(shards: list[Path], folder: Path) -> None:
    shards[2].write_bytes(shards[2].read_bytes()[:40])


def empty(shards: list[Path], folder: Path) -> None:
    shards[1].write_bytes(b"")


def whole(shards: list[Path], folder: Path) -> None:
    shutil.copyfile(write_tiny_model(folder / "whole.gguf"), shards[1])


def of_another_depth(shards: list[Path], folder: Path) -> None:
    other = write_tiny_model(folder / "tiny-F32.gguf", shape=Shape(n_layer=3))
    shutil.copyfile(model_files(split(other, folder / "other"))[1], shards[1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lose, r"-00001-of-00003\.gguf: its shard tiny-F32-00002-of-00003\.gguf is missing; put all 3 into one folder"),
        (swap, r"-00003-of-00003\.gguf: is shard 2 of 3 and not 3 of 3; copy or download"),
        (whole, r"-00002-of-00003\.gguf: is no shard and not 2 of 3; copy or download"),
        (of_another_depth, r"-00001-of-00003\.gguf: its 3 shards hold \d+ tensors .*; copy or download all of them"),
        (cut, r"-00003-of-00003\.gguf: truncated: ends after 40 bytes"),
        (empty, r"-00002-of-00003\.gguf: the file is empty"),
    ],
)
def test_shards_that_do_not_make_a_model_are_named(
    shards: list[Path], tmp_path: Path, change: Callable[[list[Path], Path], None], sentence: str
) -> None:
    change(shards, tmp_path)
    with pytest.raises(ModelError, match=sentence):
        Engine(shards[0])
    with pytest.raises(ModelError, match=sentence):
        model_sha256(shards[0])


def test_a_later_shard_is_answered_with_the_file_to_give(shards: list[Path]) -> None:
    with pytest.raises(
        ModelError, match=r"is shard 2 of 3 of a model; give the first, .*tiny-F32-00001-of-00003\.gguf"
    ):
        Engine(shards[1])


@pytest.mark.parametrize("name", ["model.gguf", "model-00001-of-00002.gguf", "model-00002-of-00003.gguf"])
def test_a_first_shard_needs_its_name(shards: list[Path], name: str) -> None:
    renamed = shards[0].rename(shards[0].with_name(name))
    with pytest.raises(ModelError, match=r"(call it model-00001-of-00003|a name such as model-00001-of-0000N)\.gguf"):
        Engine(renamed)


def test_a_whole_model_may_be_named_as_a_shard(tiny_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "model-00002-of-00003.gguf"
    shutil.copyfile(tiny_path, path)
    with Engine(path, threads=1) as engine:
        assert engine.sha256 == model_sha256(tiny_path)


def test_a_vocabulary_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds a vocabulary but no weights"):
        Engine(write_vocabulary_only(tmp_path / "vocabulary.gguf"))


def test_a_model_is_no_pipe(tiny_path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="is a pipe or device, which cannot be read twice; save the model as a file"):
        Engine(tmp_path / "pipe")
