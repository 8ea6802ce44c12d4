"""Types of weights are counted as the file has them, and products with each are timed on this CPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import gguf
import pytest
from places import ModelMaker

from steercpp.engine.weights import block_matrices, time_types


@pytest.mark.parametrize("name", ["tiny-F32", "tiny-Q4_0", "tiny-Q4_K_M", "embedded-Q8_0"])
def test_types_are_counted_as_the_file_has_them(model_maker: ModelMaker, name: str) -> None:
    """Of the blocks alone: embeddings are looked up, and few tokens of a prompt reach the output."""
    path = model_maker(name)
    expected: Counter[str] = Counter()
    shapes = set()
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            expected[tensor.tensor_type.name.lower()] += int(tensor.n_elements)
            shapes.add((tensor.tensor_type.name.lower(), *map(int, tensor.shape)))
    found = block_matrices(path)
    assert {one.type.lower(): one.share for one in found} == pytest.approx(
        {type_: n / expected.total() for type_, n in expected.items()}
    )
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    assert {(one.type.lower(), one.n_in, one.n_out) for one in found} <= shapes


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF and then nothing")
    assert block_matrices(tmp_path / "no.gguf") == () == block_matrices(tmp_path / "none.gguf")


def test_products_are_timed() -> None:
    types = {"f32": 32.0, "f16": 16.0, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5.0, "q5_1": 6.0, "q4_K": 4.5, "iq4_xs": 4.25}
    speeds = time_types(types, n_in=512, n_out=100, threads=1)
    assert {type_: speed.bits for type_, speed in speeds.items()} == types
    assert all(speed.seconds > 0 for speed in speeds.values()) and not speeds["f32"].is_repacked


@pytest.mark.parametrize(
    ("type_", "n_in"), [("q9_9", 256), ("q4_K", 288), ("q4_0", 40), ("i32", 64), ("q8_1", 64), ("q8_K", 256)]
)
def test_products_that_cannot_be(type_: str, n_in: int) -> None:
    with pytest.raises(ValueError, match=r"ggml has no weights|cannot be cut into blocks|does not multiply"):
        time_types([type_], n_in=n_in, n_out=64, threads=1)
