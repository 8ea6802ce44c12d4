"""The tensors of a file of activations, a layer at a time; activations_file.py checks the file and uses these.

A file is mapped only while something is read out of it. So that its pages do not count as memory of this process for
longer, it is opened anew for each layer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from steercpp.errors import ActivationsFileError, InputError
from steercpp.extraction.capture import Token, one_row, taken

FloatArray: TypeAlias = npt.NDArray[np.float32]
AGAIN = "copy it again, or dump the activations again"


def opened(path: Path) -> AbstractContextManager[Any]:
    """The safetensors library's handle on a file.

    Raises:
        ActivationsFileError: it cannot be read, or is no safetensors file, or not a whole one.
    """
    try:
        path.open("rb").close()  # this tells why it cannot be opened, the library does not
        handle: AbstractContextManager[Any] = safe_open(path, "np")
    except SafetensorError as error:
        kind = "cut off or damaged" if "fully covered" in str(error) else "no safetensors file, or a damaged one"
        raise ActivationsFileError(f"{path}: {kind} ({error}); {AGAIN}") from error
    except OSError as error:
        raise ActivationsFileError(f"{path}: cannot be read: {error.strerror or error}; check the path") from error
    return handle


@dataclass(frozen=True, slots=True)
class OnePerPrompt:
    """The tensor "activations", (n_pairs, 2, n_layers, n_embd)."""

    path: Path
    layers: tuple[int, ...]
    shape: tuple[int, ...]

    def layer(self, place: int) -> FloatArray:
        """Activations at the layer in this place, (n_pairs, 2, n_embd) float32.

        Raises:
            ActivationsFileError: some are not finite.
        """
        with opened(self.path) as file:
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

    def check(self) -> None:
        """Do nothing if the file has what is asked for.

        Raises:
            ActivationsFileError: the tensors do not belong together, or a prompt lacks the token.
        """
        with opened(self.path) as file:
            self._each(file, lambda prompt, rows: None)

    def layer(self, place: int) -> FloatArray:
        """Activations at the layer in this place, (n_pairs, 2, n_embd) float32.

        Raises:
            ActivationsFileError: some are not finite.
        """
        n_pairs, _, _, n_embd = self.shape
        values = np.empty((2 * n_pairs, n_embd), np.float32)
        with opened(self.path) as file:
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
                own = tokens[start:stop].tolist() if self.token == "mean" else range(stop - start)
                places = taken(self.token, own, n_answer, self.bos)
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
