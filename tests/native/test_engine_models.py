"""Files that are no usable model: one clear sentence each, never a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGUFValueType
from gguf_keys import write_with_keys
from places import ModelMaker
from tiny_model import write_embedding_model, write_vocabulary_only

from steercpp.aliases import FloatArray
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.errors import ModelError
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector
from steercpp.vectors.gguf_header import Value


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Engine(path, threads=1)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "No such file or directory; check the path" in refusal(tmp_path / "none.gguf")
    assert "Is a directory; check the path" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; give a model in GGUF form"),
        (b"PK\x03\x04 a zip archive", r"the file is not a GGUF file, it starts with 'PK\\x03\\x04'; give a model"),
        (b"GGUF\x03\x00\x00", "the file ends after 7 bytes, inside its header; copy or download it again"),
        (b"GGUF" + bytes([1, 0, 0, 0]) + bytes(16), "GGUF version 1 is too old for llama.cpp; convert the model again"),
        (b"GGUF" + bytes([0, 0, 0, 3]) + bytes(16), "GGUF of the other byte order; convert it for this machine"),
        (b"GGUF" + bytes([99, 0, 0, 0]) + b"\x01" + bytes(15), "version 99 but this software only supports"),
    ],
)
def test_a_file_that_is_no_gguf_of_today(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert message in refusal(path)


# The first cuts fall into keys and vocabulary, then into the list of tensors, the last ones into the weights.
@pytest.mark.parametrize("share", [0.0001, 0.001, 0.005, 0.008, 0.012, 0.014, 0.02, 0.3, 0.9, 0.9999995])
def test_a_truncated_model(tmp_path: Path, model_maker: ModelMaker, share: float) -> None:
    whole = model_maker("tiny-Q8_0").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(share * len(whole))])
    message = refusal(path)
    assert "llama.cpp cannot use this model" in message and message.endswith("copy or download it again")


def test_a_vocabulary_without_weights(tmp_path: Path) -> None:
    path = write_vocabulary_only(tmp_path / "vocabulary.gguf")
    assert refusal(path) == "the file holds a vocabulary but no weights; give the model itself"


def test_an_architecture_that_llama_cpp_does_not_know(tmp_path: Path, model_maker: ModelMaker) -> None:
    path = tmp_path / "alpaca.gguf"
    path.write_bytes(model_maker("tiny-Q8_0").read_bytes().replace(b"llama", b"alpac", 1))
    assert "unknown model architecture: 'alpac'; check that llama.cpp itself can run it" in refusal(path)


def test_an_embedding_model(tmp_path: Path) -> None:
    path = write_embedding_model(tmp_path / "bert.gguf")
    message = refusal(path)
    assert message.startswith("the model is no decoder: it keeps no memory of earlier tokens")
    assert message.endswith("; use a decoder, a model that writes text")


def test_a_mapped_file_gives_the_same_bits_as_one_that_is_read(tiny_path: Path) -> None:
    def logits(*, use_mmap: bool) -> FloatArray:
        with Engine(tiny_path, threads=1, use_mmap=use_mmap) as engine:
            return engine.logits(engine.pack([Query(engine.encode("Once upon"))])[0])

    np.testing.assert_array_equal(logits(use_mmap=True), logits(use_mmap=False))


@pytest.mark.parametrize("metadata", [{}, {"operator": "rotate"}], ids=["added", "without tensors"])
def test_a_vector_is_no_model(tmp_path: Path, metadata: dict[str, str]) -> None:
    """llama.cpp does not know its architecture, and that is all it was told."""
    path = tmp_path / "v.gguf"
    write_vector(path, ControlVector({1: np.ones(8, np.float32)}, "llama", 4, metadata))
    assert refusal(path).startswith("is a control vector, not a model; give it as `vector`")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"general.type": "adapter"}, "is a LoRA adapter, not a model; give the model itself"),
        ({"general.architecture": "clip"}, "is the part of a model that sees images (mmproj), not a model"),
    ],
)
def test_parts_of_models_are_told(tmp_path: Path, tiny_path: Path, changes: dict[str, str], told: str) -> None:
    keys: dict[str, Value | None] = {key: Value(GGUFValueType.STRING, text) for key, text in changes.items()}
    keys |= {"llama.block_count": None}  # an adapter has none, and llama.cpp asks for it
    assert refusal(write_with_keys(tiny_path, tmp_path / "part.gguf", keys)).startswith(told)
