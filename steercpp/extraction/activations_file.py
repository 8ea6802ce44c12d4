"""Activations of contrast pairs as safetensors files; docs/activations.md describes the format.

`dump` writes one piece after the other behind a header made here, since the safetensors library writes whole files
only; that library checks and reads them. Neither has more in memory than a chunk of pairs, or one layer.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from steercpp.aliases import FloatArray
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Template
from steercpp.errors import ActivationsFileError, InputError, PairsError
from steercpp.extraction.activations import Activations, Note, notes_of, prepare
from steercpp.extraction.capture import CHANGED, Capture, Survey, Token, one_row, taken
from steercpp.files import Draft, refuse_overwrite, write_whole
from steercpp.inputs import open_input, reading, what_was_said
from steercpp.pipes import Copies, once, rereadable

if TYPE_CHECKING:
    from steercpp.aliases import TokenProgress
    from steercpp.engine.engine import Engine


AGAIN = "copy it again, or dump the activations again"


@contextmanager
def opened(path: Path, copies: Copies | None = None) -> Iterator[Any]:
    """The safetensors library's handle on a file; what goes wrong while it is used is told like what it says itself.

    `copies` are of a named pipe that is opened more than once.

    Raises:
        ActivationsFileError: it cannot be read, or is no safetensors file, or not a whole one.
    """
    with reading(path, ActivationsFileError, again=AGAIN), once(copies):
        open_input(path).close()  # this tells why it cannot be opened, the library does not
        try:
            with safe_open(rereadable(path), "np") as file:
                yield file
        except SafetensorError as error:
            kind = "cut off or damaged" if "fully covered" in str(error) else "no safetensors file, or a damaged one"
            raise ActivationsFileError(f"{path}: {kind} ({what_was_said(error)}); {AGAIN}") from error


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header says of a tensor: its type, such as "F32", and shape."""

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OnePerPrompt:
    """The tensor "activations", (n_pairs, 2, n_layers, n_embd)."""

    path: Path
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    copies: Copies = field(default_factory=dict, repr=False, compare=False)

    def layer(self, place: int) -> FloatArray:
        """Activations at the layer in this place, (n_pairs, 2, n_embd) float32.

        Raises:
            ActivationsFileError: some are not finite.
        """
        with opened(self.path, self.copies) as file:
            values: FloatArray = file.get_slice("activations")[:, :, place]
        _refuse_nonfinite(self.path, self.layers[place], values)
        return values


@dataclass(frozen=True, slots=True)
class AllTokens:
    """The tensors "rows", "tokens", "offsets" and "answer_tokens", of which a choice of tokens makes activations.

    Attributes:
        bos: the begin-of-sequence token, -1 where there is none.
    """

    path: Path
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    token: Token
    bos: int
    copies: Copies = field(default_factory=dict, repr=False, compare=False)

    def check(self) -> None:
        """Do nothing if the file has what is asked for.

        Raises:
            ActivationsFileError: the tensors do not belong together, or a prompt lacks the token.
        """
        with opened(self.path, self.copies) as file:
            self._each(file, lambda prompt, rows: None)

    def layer(self, place: int) -> FloatArray:
        """Activations at the layer in this place, (n_pairs, 2, n_embd) float32.

        Raises:
            ActivationsFileError: some are not finite.
        """
        n_pairs, _, _, n_embd = self.shape
        values = np.empty((2 * n_pairs, n_embd), np.float32)
        with opened(self.path, self.copies) as file:
            rows = file.get_slice("rows")

            def take(prompt: int, places: npt.NDArray[np.int64]) -> None:
                first = int(places[0])
                values[prompt] = one_row(rows[first : int(places[-1]) + 1, place][places - first])

            self._each(file, take)
        both = values.reshape(n_pairs, 2, n_embd)
        _refuse_nonfinite(self.path, self.layers[place], both)
        return both

    def _each(self, file: Any, use: Callable[[int, npt.NDArray[np.int64]], None]) -> None:
        """Call with each prompt's place and the places of its tokens among all rows."""
        offsets, answers = (file.get_tensor(name).tolist() for name in ("offsets", "answer_tokens"))
        tokens = file.get_slice("tokens")
        is_cut = any(stop <= start for start, stop in pairwise(offsets))
        if is_cut or offsets[0] != 0 or offsets[-1] != tokens.get_shape()[0] or min(answers) < 0:
            raise ActivationsFileError(f"{self.path}: its offsets do not fit its rows; {AGAIN}")
        for prompt, (start, stop, n_answer) in enumerate(zip(offsets[:-1], offsets[1:], answers, strict=True)):
            if not n_answer < stop - start:
                raise ActivationsFileError(f"{self.path}: {_side(prompt)} has no tokens; {AGAIN}")
            try:
                # only the mean looks at the tokens themselves
                ids = tokens[start:stop].tolist() if self.token == "mean" else range(stop - start)
                places = taken(self.token, ids, n_answer, self.bos)
            except InputError as error:
                raise ActivationsFileError(f"{self.path}: {_side(prompt)}: {error}") from error
            use(prompt, start + np.array(places, np.int64))


def _refuse_nonfinite(path: Path, il: int, values: FloatArray) -> None:
    good = np.isfinite(values).all(axis=-1)
    if not good.all():
        prompt = int(np.argmin(good.ravel()))
        raise ActivationsFileError(
            f"{path}: layer {il}: {_side(prompt)} is not finite, as are {int((~good).sum()) - 1} others; "
            "dump the activations again"
        )


def _side(prompt: int) -> str:
    return f"pair {prompt // 2 + 1}'s {('positive', 'negative')[prompt % 2]} prompt"


FORMAT = "steercpp activations 1"
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
_NUMBERS = ("n_layer", "n_pairs", "n_batch", "bos")  # notes that are whole numbers
_ALL_TENSORS = {"offsets": "I64", "answer_tokens": "I64", "tokens": "I32", "rows": "F32"}


def dump(
    engine: Engine,
    pairs: Iterable[ContrastPair],
    path: Path | str,
    *,
    layers: Sequence[int] | None = None,
    token: Token | Literal["all"] = "last",
    template: Template = "auto",
    force: bool = False,
    progress: TokenProgress | None = None,
) -> Activations:
    """Write the activations of pairs to a file; the same pairs and engine give the same bytes.

    Args:
        engine: the model.
        pairs: at least one. They are gone through twice; an iterator is read into memory first.
        path: the file appears there whole or not at all.
        layers: which layers; by default all.
        token: as for `activations.collect`; or "all", from which any choice can be made at reading.
        template: how prompts become text, see `Vocabulary.render`.
        force: replace a file that is there.
        progress: called with the number of prompts done and of all.

    Returns:
        What was written, as `read_activations` gives it.

    Raises:
        ActivationsFileError: the file exists, cannot be written, or is larger than the room on the disk.
        PairsError, PromptError, LayerError, ...: as `activations.collect`.

    >>> stored = dump(engine, pairs[:4], "some.safetensors", layers=[5])
    >>> stored.n_pairs, stored.layers
    (4, (5,))
    """
    path = Path(path)
    refuse_overwrite(path, force=force, error=ActivationsFileError)
    capture = prepare(engine, pairs, template=template, layers=layers, token=token)
    survey = capture.survey()
    notes = notes_of(capture, survey)
    if token == "all":
        notes["bos"] = engine.bos
    head = _Head.of(capture, survey, notes)
    _check_room(path, head.n_bytes)

    def write(draft: Draft) -> None:
        _write(_Pieces(draft, head), capture, survey, progress)
        if draft.size != head.n_bytes:
            raise PairsError(CHANGED)

    write_whole(path, write, force=force, error=ActivationsFileError)
    return read_activations(path)


def read_activations(path: Path | str, *, token: Token | None = None) -> Activations:
    """Open a file written by `dump`; values are read a layer at a time, when they are asked for.

    Args:
        path: a safetensors file.
        token: which token's activation stands for a prompt; by default what the file holds, or the last token's where
            it holds all.

    Raises:
        ActivationsFileError: unreadable, not a safetensors file, cut off; none of `dump`'s; tensors of another type or
            shape; another choice of token than the file holds, or one that a prompt lacks.

    >>> stored = dump(engine, pairs[:4], "others.safetensors", layers=[4, 5])
    >>> read_activations("others.safetensors").layers
    (4, 5)
    """
    with reading(path, ActivationsFileError, again=AGAIN):
        path = Path(path)
        copies: Copies = {}
        with opened(path, copies) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - a handle, not a mapping
            entries = {name: Entry(tensor.get_dtype(), tuple(tensor.get_shape())) for name, tensor in tensors.items()}
        notes, layers = _notes(path, metadata)
        if notes["token"] == "all":
            return _of_all_tokens(path, entries, notes, layers, "last" if token is None else token, copies)
        if token is not None and str(token) != notes["token"]:
            raise ActivationsFileError(
                f"{path}: holds the activations of token {notes['token']}, not {token}; dump again, or with `token=all`"
            )
        shape = _checked(path, entries, {"activations": "F32"})["activations"]
        if len(shape) != 4 or shape[1] != 2 or shape[2] != len(layers) or 0 in shape or shape[0] != notes["n_pairs"]:
            expected = f"({notes['n_pairs']}, 2, {len(layers)}, n_embd)"
            raise ActivationsFileError(f"{path}: activations: expected the shape {expected}, got {shape}; {AGAIN}")
        return Activations(OnePerPrompt(path, layers, shape, copies), layers, notes, str(path))


def _of_all_tokens(
    path: Path, entries: Mapping[str, Entry], notes: dict[str, Note], layers: tuple[int, ...],
    token: Token, copies: Copies,
) -> Activations:  # fmt: skip
    shapes, n_pairs = _checked(path, entries, _ALL_TENSORS), int(notes["n_pairs"])
    rows = shapes["rows"]
    expected = {
        "offsets": (2 * n_pairs + 1,), "answer_tokens": (2 * n_pairs,), "tokens": rows[:1],
        "rows": (*rows[:1], len(layers), *rows[2:]),
    }  # fmt: skip
    for name, shape in expected.items():
        if shapes[name] != shape or len(rows) != 3 or 0 in rows or not n_pairs:
            raise ActivationsFileError(f"{path}: {name}: its shape {shapes[name]} does not fit the others; {AGAIN}")
    values = AllTokens(path, layers, (n_pairs, 2, len(layers), rows[2]), token, int(notes.get("bos", -1)), copies)
    values.check()
    return Activations(values, layers, {**notes, "token": str(token)}, str(path))


def _checked(path: Path, entries: Mapping[str, Entry], types: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a file must have."""
    for name, kind in types.items():
        if name not in entries:
            raise ActivationsFileError(f"{path}: tensor {name!r} is missing; {AGAIN}")
        if entries[name].kind != kind:
            raise ActivationsFileError(f"{path}: tensor {name!r} is {entries[name].kind} where {kind} is read; {AGAIN}")
    return {name: entries[name].shape for name in types}


def _notes(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Note], tuple[int, ...]]:
    if metadata.get("format") != FORMAT:
        raise ActivationsFileError(
            f"{path}: a safetensors file, but its metadata do not say {FORMAT!r}; give one written by `steercpp dump`"
        )
    try:
        layers = tuple(int(il) for il in metadata["layers"].split(","))
        numbers = {key: int(metadata[key]) for key in _NUMBERS if key in metadata}
        notes: dict[str, Note] = {"token": metadata["token"], "n_pairs": int(metadata["n_pairs"])}
        n_layer = int(metadata["n_layer"])
    except (KeyError, ValueError) as error:
        raise ActivationsFileError(f"{path}: its metadata are damaged ({error}); {AGAIN}") from error
    if len(set(layers)) < len(layers) or min(layers) < 0 or max(layers) >= n_layer:
        named = f"the layers {metadata['layers']} of {n_layer}"
        raise ActivationsFileError(f"{path}: its metadata name {named}; {AGAIN}")
    notes |= {key: metadata[key] for key in sorted(metadata) if key not in ("format", "layers")}
    return notes | numbers, layers


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before the data.

    Attributes:
        raw: the header's bytes.
        starts: where each tensor begins in the file.
        n_bytes: of the whole file.
    """

    raw: bytes
    starts: dict[str, int]
    n_bytes: int

    @classmethod
    def of(cls, capture: Capture, survey: Survey, notes: Mapping[str, Note]) -> _Head:
        """The header of the tensors that a capture gives."""
        rest = (len(capture.layers), capture.engine.n_embd)
        tensors = {"activations": Entry("F32", (survey.n_pairs, 2, *rest))}
        if capture.token == "all":
            lengths = {"offsets": 2 * survey.n_pairs + 1, "answer_tokens": 2 * survey.n_pairs}
            tensors = {
                name: Entry(kind, (lengths.get(name, survey.n_tokens), *(rest if name == "rows" else ())))
                for name, kind in _ALL_TENSORS.items()
            }
        metadata = {"format": FORMAT, "layers": ",".join(map(str, capture.layers)), **notes}
        entries: dict[str, Any] = {"__metadata__": {key: str(metadata[key]) for key in sorted(metadata)}}
        offsets, stop = {}, 0
        for name, tensor in tensors.items():
            offsets[name], stop = stop, stop + prod(tensor.shape) * _TYPES[tensor.kind].itemsize
            entries[name] = {"dtype": tensor.kind, "shape": tensor.shape, "data_offsets": (offsets[name], stop)}
        text = json.dumps(entries, separators=(",", ":"))
        text += " " * (-len(text) % 8)  # so that the data are aligned
        start = 8 + len(text)
        raw = struct.pack("<Q", len(text)) + text.encode()
        return cls(raw, {name: start + offset for name, offset in offsets.items()}, start + stop)


class _Pieces:
    """Writes several tensors of one file side by side, each from its own start on."""

    def __init__(self, draft: Draft, head: _Head) -> None:
        self._draft, self._places = draft, dict(head.starts)
        draft.write(head.raw)

    def add(self, name: str, values: Any, kind: str) -> None:
        """Go on with a tensor."""
        raw = np.ascontiguousarray(values, _TYPES[kind])
        self._draft.write(raw.tobytes(), at=self._places[name])
        self._places[name] += raw.nbytes


def _write(pieces: _Pieces, capture: Capture, survey: Survey, progress: TokenProgress | None) -> None:
    n_rows = 0
    if capture.token == "all":
        pieces.add("offsets", [0], "I64")
    for prompts, activations in capture.chunks(survey.n_pairs, progress):
        if capture.token != "all":
            for rows in activations:
                pieces.add("activations", one_row(rows), "F32")
            continue
        ends = n_rows + np.cumsum([len(prompt.tokens) for prompt in prompts])
        n_rows = int(ends[-1])
        pieces.add("offsets", ends, "I64")
        pieces.add("answer_tokens", [prompt.n_answer for prompt in prompts], "I64")
        pieces.add("tokens", np.concatenate([prompt.tokens for prompt in prompts]), "I32")
        for rows in activations:
            pieces.add("rows", rows, "F32")


def _check_room(path: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        raise ActivationsFileError(
            f"{path}: the activations need {n_bytes / 2**20:,.2f} MiB and the disk has {free / 2**20:,.2f} MiB free; "
            "choose fewer layers, or another place"
        )
