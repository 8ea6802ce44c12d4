"""Files of activations: their bytes, what is read back, and the sentence for each that cannot be used."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Message
from steercpp.engine.engine import Engine
from steercpp.errors import ActivationsFileError, LayerError
from steercpp.extraction.activations import Activations, collect
from steercpp.extraction.activations_file import dump, read_activations

ASK = (Message("user", "what is it?"),)
PAIRS = (
    ContrastPair("1", "what is it?", "what is it?", " yes it is", " no"),
    ContrastPair("2", ASK, ASK, "yes", "no it is not"),
    ContrastPair("3", "the house of a man", "the day of never and ever", " good", " good"),
)
PLAIN = (ContrastPair("1", "good day to you", "bad day"), ContrastPair("2", "a", "the other thing"))
CHOICES: tuple[Any, ...] = ("last", "mean", "answer", 1, -2)


def same(one: Activations, other: Activations, tolerance: float = 0.0) -> None:
    assert (one.layers, one.n_pairs, one.n_embd) == (other.layers, other.n_pairs, other.n_embd)
    for il in one.layers:
        np.testing.assert_allclose(np.stack(one.at(il)), np.stack(other.at(il)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("token", CHOICES)
def test_what_is_dumped_is_what_is_collected(tiny_engine: Engine, tmp_path: Path, token: Any) -> None:
    layers = [3, 0]
    written = dump(tiny_engine, PAIRS, tmp_path / "a.safetensors", layers=layers, token=token)
    collected = collect(tiny_engine, PAIRS, layers=layers, token=token)
    for found in (written, read_activations(tmp_path / "a.safetensors", token=token)):
        same(found, collected)
        assert found.notes == collected.notes and found.place == str(tmp_path / "a.safetensors")


def test_the_format(tiny_engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    dump(tiny_engine, iter(PAIRS), path, layers=[1, 2], template="auto")
    with safe_open(path, "np") as file:
        assert list(file.keys()) == ["activations"]
        values, metadata = file.get_tensor("activations"), file.metadata()
    collected = collect(tiny_engine, PAIRS, layers=[1, 2])
    assert values.dtype == np.float32 and values.shape == (3, 2, 2, 256)
    np.testing.assert_array_equal(values, collected.values)
    notes = {key: str(value) for key, value in collected.notes.items()}
    assert metadata == {**notes, "format": "steercpp activations 1", "layers": "1,2"}
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert (8 + length) % 8 == 0 and len(raw) == 8 + length + values.nbytes
    assert raw[8 + length :] == values.tobytes()


def test_all_tokens(tiny_engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    dump(tiny_engine, PAIRS, path, token="all", layers=[0, 2])
    tensors = load_file(path)
    sides = [tiny_engine.encode_answered(prompt, answer) for pair in PAIRS for _, prompt, answer in pair.sides]
    prompts = [list(tokens) for tokens, _ in sides]
    assert tensors["tokens"].tolist() == sum(prompts, []) and tensors["tokens"].dtype == np.int32
    assert tensors["offsets"].tolist() == np.cumsum([0, *map(len, prompts)]).tolist()
    assert tensors["answer_tokens"].tolist() == [n_answer for _, n_answer in sides]
    assert tensors["offsets"].dtype == tensors["answer_tokens"].dtype == np.int64
    rows = tiny_engine.activations_at(prompts, [range(len(tokens)) for tokens in prompts], layers=[0, 2])
    np.testing.assert_array_equal(tensors["rows"], np.concatenate(rows))
    assert read_activations(path).notes["token"] == "last"
    for token in CHOICES:
        # K/V in float16 in other batches: 1e-2 at the most, as in test_engine.py
        same(read_activations(path, token=token), collect(tiny_engine, PAIRS, token=token, layers=[0, 2]), 1e-2)


def test_all_tokens_in_several_chunks(tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, chunks = Engine.activations_at, list[int]()

    def counted(engine: Engine, tokens: Any, *arguments: Any, **options: Any) -> Any:
        chunks.append(len(tokens))
        return decode(engine, tokens, *arguments, **options)

    monkeypatch.setattr(Engine, "activations_at", counted)
    whole = dump(tiny_engine, PAIRS * 5, tmp_path / "a.safetensors", token="all")
    monkeypatch.setattr("steercpp.extraction.capture._CHUNK_TOKENS", 30)
    cut = dump(tiny_engine, PAIRS * 5, tmp_path / "b.safetensors", token="all")
    same(whole, cut, 1e-2)  # as above
    first, *others = chunks
    assert len(others) > 1 and sum(others) == first
    one, other = (load_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    for name in ("tokens", "offsets", "answer_tokens"):
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("token", ["last", "all"])
def test_the_same_pairs_give_the_same_bytes(tiny_path: Path, tmp_path: Path, token: Any) -> None:
    for name in ("a", "b"):
        with Engine(tiny_path, threads=1) as engine:
            dump(engine, PAIRS, tmp_path / name, token=token)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_pair_and_all_layers(tiny_engine: Engine, tmp_path: Path) -> None:
    found = dump(tiny_engine, PLAIN[:1], tmp_path / "a.safetensors")
    assert found.n_pairs == 1 and found.layers == (0, 1, 2, 3)


def test_a_choice_that_the_file_lacks(tiny_engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    found = dump(tiny_engine, PLAIN, path, layers=[1, 2])
    with pytest.raises(ActivationsFileError, match="holds the activations of token last, not mean; .*`token=all`"):
        read_activations(path, token="mean")
    with pytest.raises(LayerError, match=r"a\.safetensors: layer 3 is not there, only 1, 2; name some of them"):
        found.at(3)
    dump(tiny_engine, PLAIN, path, token="all", force=True)
    for token, expected in (("answer", "pair 1's positive prompt: no answer"), (-3, "pair 2's positive prompt: token")):
        with pytest.raises(ActivationsFileError, match=expected):
            read_activations(path, token=token)  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["last", "all"])
def test_rows_that_are_not_finite(tiny_engine: Engine, tmp_path: Path, token: Any) -> None:
    path = tmp_path / "a.safetensors"
    dump(tiny_engine, PLAIN, path, token=token)
    values = load_file(path)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    if token == "all":
        values["rows"][values["offsets"][4] - 1, 2, 7] = np.inf
    else:
        values["activations"][1, 1, 2, 7] = np.nan
    save_file(values, path, metadata)
    found = read_activations(path)
    found.at(1)
    with pytest.raises(ActivationsFileError, match=r"a\.safetensors: layer 2: pair 2's negative prompt is not finite"):
        found.at(2)


@pytest.fixture(scope="module")
def good(tiny_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    for token in ("last", "all"):
        dump(tiny_engine, PLAIN, folder / token, token=token, layers=[1, 2])
    return {token: (folder / token).read_bytes() for token in ("last", "all")}


def changed(raw: bytes, tmp_path: Path, metadata: dict[str, str], **tensors: np.ndarray) -> bytes:
    """The file with other metadata and tensors, written by the library."""
    (tmp_path / "old").write_bytes(raw)
    with safe_open(tmp_path / "old", "np") as file:
        told = {key: value for key, value in {**file.metadata(), **metadata}.items() if value}
    save_file({**load_file(tmp_path / "old"), **tensors}, tmp_path / "new", told)
    return (tmp_path / "new").read_bytes()


def shaped(*shape: int, kind: Any = np.float32) -> np.ndarray:
    return np.ones(shape, kind)


HOSTILE: dict[str, tuple[str, Any, str]] = {
    "empty": ("last", lambda raw, _: b"", "no safetensors file, or a damaged one"),
    "text": ("last", lambda raw, _: b"hello, I am a text and no safetensors file", "no safetensors file"),
    "GGUF": ("last", lambda raw, _: b"GGUF" + bytes(60), "no safetensors file"),
    "cut in the header": ("last", lambda raw, _: raw[:100], "no safetensors file, or a damaged one"),
    "cut in the data": ("last", lambda raw, _: raw[:-4], "cut off or damaged"),
    "too long": ("last", lambda raw, _: raw + bytes(8), "cut off or damaged"),
    "broken JSON": ("last", lambda raw, _: raw[:8] + b"[" + raw[9:], "no safetensors file"),
    "of others": ("last", lambda raw, at: changed(raw, at, {"format": "pt"}), "its metadata do not say 'steercpp"),
    "no layers": ("last", lambda raw, at: changed(raw, at, {"layers": ""}), "its metadata are damaged ('layers')"),
    "layers of words": ("last", lambda raw, at: changed(raw, at, {"layers": "1,b"}), "its metadata are damaged"),
    "a layer twice": ("last", lambda raw, at: changed(raw, at, {"layers": "1,1"}), "its metadata name the layers 1,1"),
    "no number": ("last", lambda raw, at: changed(raw, at, {"n_layer": "x"}), "its metadata are damaged"),
    "no depth": ("last", lambda raw, at: changed(raw, at, {"n_layer": ""}), "its metadata are damaged ('n_layer')"),
    "beyond the depth": ("last", lambda raw, at: changed(raw, at, {"n_layer": "2"}), "name the layers 1,2 of 2"),
    "other layers": ("last", lambda raw, at: changed(raw, at, {"layers": "1"}), "expected the shape (2, 2, 1, n_embd)"),
    "other pairs": ("last", lambda raw, at: changed(raw, at, {"n_pairs": "3"}), "expected the shape (3, 2, 2, n_embd)"),
    "F16": (
        "last",
        lambda raw, at: changed(raw, at, {}, activations=shaped(2, 2, 2, 256, kind=np.float16)),
        "tensor 'activations' is F16 where F32 is read",
    ),
    "three axes": ("last", lambda raw, at: changed(raw, at, {}, activations=shaped(4, 2, 256)), "got (4, 2, 256)"),
    "no width": ("last", lambda raw, at: changed(raw, at, {}, activations=shaped(2, 2, 2, 0)), "got (2, 2, 2, 0)"),
    "all, none there": ("last", lambda raw, at: changed(raw, at, {"token": "all"}), "tensor 'offsets' is missing"),
    "one, all there": ("all", lambda raw, at: changed(raw, at, {"token": "last"}), "tensor 'activations' is missing"),
    "rows F64": (
        "all",
        lambda raw, at: changed(raw, at, {}, rows=shaped(11, 2, 256, kind=np.float64)),
        "tensor 'rows' is F64 where F32 is read",
    ),
    "fewer rows": ("all", lambda raw, at: changed(raw, at, {}, rows=shaped(9, 2, 256)), "tokens: its shape"),
    "flat rows": ("all", lambda raw, at: changed(raw, at, {}, rows=shaped(11, 512)), "does not fit the others"),
    "few offsets": ("all", lambda raw, at: changed(raw, at, {"n_pairs": "1"}), "offsets: its shape (5,) does not fit"),
    "no pairs": ("all", lambda raw, at: changed(raw, at, {"n_pairs": "0"}), "does not fit the others"),
    "wrong offsets": (
        "all",
        lambda raw, at: changed(raw, at, {}, offsets=np.array([0, 5, 8, 10, 99])),
        "its offsets do not fit its rows",
    ),
    "falling offsets": (
        "all",
        lambda raw, at: changed(raw, at, {}, offsets=np.array([0, 9, 8, 10, json.loads(count(raw))])),
        "its offsets do not fit its rows",
    ),
    "long answer": (
        "all",
        lambda raw, at: changed(raw, at, {}, answer_tokens=np.array([99, 0, 0, 0])),
        "pair 1's positive prompt has no tokens",
    ),
    "negative answer": (
        "all",
        lambda raw, at: changed(raw, at, {}, answer_tokens=np.array([-1, 0, 0, 0])),
        "its offsets do not fit its rows",
    ),
}


def count(raw: bytes) -> str:
    """Number of rows of a file with all tokens."""
    (length,) = struct.unpack("<Q", raw[:8])
    return str(json.loads(raw[8 : 8 + length])["tokens"]["shape"][0])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(good: dict[str, bytes], tmp_path: Path, name: str) -> None:
    kind, change, expected = HOSTILE[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(change(good[kind], tmp_path))
    with pytest.raises(ActivationsFileError) as caught:
        read_activations(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: ") and expected in found and "\n" not in found and "; " in found


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ActivationsFileError, match=r"none: cannot be read: No such file or directory; check the path"):
        read_activations(tmp_path / "none")
    with pytest.raises(ActivationsFileError, match="cannot be read: Is a directory; check"):
        read_activations(tmp_path)


class Failing:
    """Pairs that are good once and end in an error in the middle of the second reading."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.n_read = error, 0

    def __iter__(self) -> Any:
        self.n_read += 1
        yield PLAIN[0]
        if self.n_read > 1:
            raise self.error
        yield PLAIN[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()])
def test_nothing_is_left_behind(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("steercpp.extraction.capture._CHUNK_TOKENS", 1)  # so that some of it is written
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(ActivationsFileError if isinstance(error, OSError) else type(error)) as caught:
        dump(tiny_engine, Failing(error), path, force=True)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written: No space left on device; choose another place"
    assert path.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [path]


def test_no_room_is_found_before_anything_is_decoded(
    tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 8_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    before = tiny_engine.token_layers
    with pytest.raises(
        ActivationsFileError, match=r"the activations need 0.02 MiB and the disk has 0.01 MiB free; choose"
    ):
        dump(tiny_engine, PLAIN, tmp_path / "a.safetensors")
    assert tiny_engine.token_layers == before and list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(tiny_engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(ActivationsFileError, match="exists already; choose another name or give `force=True`"):
        dump(tiny_engine, PLAIN, path)
    assert path.read_bytes() == b"precious"
    with pytest.raises(ActivationsFileError, match="the folder .* does not exist; make it first"):
        dump(tiny_engine, PLAIN, tmp_path / "none" / "a.safetensors")
