"""Activations of contrast pairs; read this for what a direction is computed from.

`collect` makes them with a model. activations_file.py writes them to a file and reads them back, and then no model is
needed. In either case the values of one layer at a time come into memory where all of them would be much.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Template
from steercpp.encoding import spelled
from steercpp.engine.steering import checked_layers
from steercpp.errors import ActivationsFileError, LayerError, ShapeError
from steercpp.extraction.capture import Capture, Survey, Token, one_row

if TYPE_CHECKING:
    from steercpp.aliases import TokenProgress
    from steercpp.engine.engine import Engine


Note: TypeAlias = str | int
_IN_MEMORY = 256 * 2**20  # bytes; more goes to a temporary file


class Stored(Protocol):
    """Activations that are not in memory; `shape` as if they were: (n_pairs, 2, n_layers, n_embd)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all of them."""

    def layer(self, place: int) -> FloatArray:
        """Those of the layer at this place of the third axis, (n_pairs, 2, n_embd) float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """Activations of contrast pairs, one for each prompt and layer.

    Attributes:
        values: (n_pairs, 2, n_layers, n_embd) float32, the positive prompt first; or where they are stored.
        layers: the layer of each row along the third axis.
        notes: what they are of: architecture, n_layer, token, template, model_file, model_sha256, pairs_sha256,
            n_pairs, flash_attn, n_batch, llama_cpp, version, and template_kwargs, thinking and date where they decide
            how chats are written; none where somebody else made them.
        place: what messages call them.
    """

    values: FloatArray | Stored
    layers: tuple[int, ...]
    notes: Mapping[str, Note] = field(default_factory=dict)
    place: str = "activations"

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if len(shape) != 4 or shape[1] != 2 or shape[2] != len(self.layers):
            expected = f"(n_pairs, 2, {len(self.layers)}, n_embd)"
            raise ShapeError(f"{self.place}: expected {expected}, got {shape}")

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return self.values.shape[0]

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self.values.shape[3]

    def at(self, layer: int) -> tuple[FloatArray, FloatArray]:
        """Activations of the positive and of the negative prompts at a layer, (n_pairs, n_embd) float32 each.

        Raises:
            LayerError: a layer that they lack.
            ActivationsFileError: they are read from a file, and it is damaged there.
        """
        if layer not in self.layers:
            raise LayerError(
                f"{self.place}: layer {layer} is not there, only {', '.join(map(str, self.layers))}; name some of them"
            )
        place = self.layers.index(layer)
        both = self.values[:, :, place] if isinstance(self.values, np.ndarray) else self.values.layer(place)
        return both[:, 0], both[:, 1]

    def check_model(self, name: str, sha256: str) -> None:
        """Do nothing if they were made with the model whose file has this hash, or tell no model.

        Raises:
            ActivationsFileError: they are another model's.
        """
        origin = self.notes.get("model_sha256", sha256)
        if origin != sha256:
            raise ActivationsFileError(
                f"{self.place}: made with {self.notes.get('model_file', 'another model')} "
                f"(sha256 {str(origin)[:16]}…), not with {name} ({sha256[:16]}…); dump the activations of this model"
            )


def collect(
    engine: Engine,
    pairs: Iterable[ContrastPair],
    *,
    template: Template = "auto",
    layers: Sequence[int] | None = None,
    token: Token = "last",
    progress: TokenProgress | None = None,
) -> Activations:
    """Decode both prompts of every pair, with their answers, and keep an activation of each.

    Args:
        engine: the model.
        pairs: at least one. They are gone through twice; an iterator is read into memory first.
        template: how prompts become text, see `Vocabulary.render`.
        layers: which layers; by default all.
        token: whose activation: the last token's, the mean over all tokens but the begin-of-sequence token, the mean
            over the answer's tokens, or that of a position, negative ones from the end.
        progress: called with the number of prompts done and of all.

    Returns:
        In memory up to 256 MiB; beyond that in a temporary file that lives as long as they do.

    Raises:
        PairsError: no pairs, a bad one, or one without the answer that is asked for.
        PromptError, ContextOverflowError, InputError: a prompt that cannot be rendered, is too long or lacks the
            token, with the pair's place or id.
        LayerError, UnsteerableError: layers that the model lacks.
    """
    capture = prepare(engine, pairs, template=template, layers=layers, token=token)
    survey = capture.survey()
    shape = (survey.n_pairs, 2, len(capture.layers), engine.n_embd)
    rows = _rows(capture, survey, progress)
    values: FloatArray | Stored
    if 4 * int(np.prod(shape)) <= _IN_MEMORY:
        kept = np.empty((2 * shape[0], *shape[2:]), np.float32)
        for place, row in enumerate(rows):
            kept[place] = row
        values = kept.reshape(shape)
    else:
        values = _Temporary(_written(rows), shape)
    return Activations(values, capture.layers, notes_of(capture, survey))


def prepare(
    engine: Engine,
    pairs: Iterable[ContrastPair],
    *,
    template: Template,
    layers: Sequence[int] | None,
    token: Token | str,
) -> Capture:
    """What is to be captured, its layers checked."""
    chosen = range(engine.n_layer) if layers is None else checked_layers(layers, engine.n_layer)
    again = tuple(pairs) if isinstance(pairs, Iterator) else pairs
    return Capture(engine, again, tuple(chosen), token, template)


def notes_of(capture: Capture, survey: Survey) -> dict[str, Note]:
    """What activations are of; see `Activations`."""
    engine = capture.engine
    settings = engine.settings()
    return {
        "architecture": engine.architecture, "n_layer": engine.n_layer,
        "token": capture.token if isinstance(capture.token, str) else str(capture.token), "template": capture.template,
        "n_pairs": survey.n_pairs, "pairs_sha256": survey.pairs_sha256, "model_file": spelled(engine.path.name),
        "model_sha256": engine.sha256, **{key: settings[key] for key in ("flash_attn", "n_batch", "llama_cpp")},
        "version": version("steercpp"), **(engine.vocabulary.chat_texts if survey.has_chats else {}),
    }  # fmt: skip


def _rows(capture: Capture, survey: Survey, progress: TokenProgress | None) -> Iterator[FloatArray]:
    """(n_layers, n_embd) for one prompt after the other, positive and negative by turns."""
    for _, activations in capture.chunks(survey.n_pairs, progress):
        yield from map(one_row, activations)


def _written(rows: Iterable[FloatArray]) -> IO[bytes]:
    with ExitStack() as on_failure:
        try:
            file = on_failure.enter_context(tempfile.TemporaryFile())
            for row in rows:
                file.write(row.tobytes())
            file.flush()
        except OSError as error:
            raise ActivationsFileError(
                f"{tempfile.gettempdir()}: the activations need a temporary file: {error.strerror or error}; "
                "make room, or set TMPDIR"
            ) from error
        on_failure.pop_all()
    return file


class _Temporary:
    """Values in a temporary file, mapped only while a layer is copied out of it, so that memory stays small."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self._file, self.shape = file, shape
        weakref.finalize(self, file.close)

    def layer(self, place: int) -> FloatArray:
        """See `Stored`."""
        return np.array(np.memmap(self._file, np.float32, "r", shape=self.shape)[:, :, place])
