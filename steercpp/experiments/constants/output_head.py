"""A model's own final norm and output matrix, from its file; read this for when a layer can be read through them.

A GGUF file holds what turns the last activation h into logits: U norm(h), with norm a root-mean-square or a layer norm.
Some architectures do more (they scale or cap logits), so a head is used only after it has given the model's own logits
again, up to what a quantized product rounds away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from steercpp.aliases import Floats
from steercpp.engine.model_file import model_files
from steercpp.errors import SteerError
from steercpp.vectors.gguf_header import Header, read_header

CLOSE = 0.03  # of the logits' spread: products with quantized weights round activations to 8 bits


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The final norm, and the rows of the output matrix for some tokens.

    Attributes:
        weight, bias: (n_embd,) of the norm; no bias is 0.
        epsilon: added to the mean square.
        centred: whether it is a layer norm, which takes the mean away first.
        tokens: (n_tokens,) ascending, whose rows are here.
        rows: (n_tokens, n_embd).
    """

    weight: Floats
    bias: Floats
    epsilon: float
    centred: bool
    tokens: npt.NDArray[np.intp]
    rows: Floats

    def normed(self, x: npt.NDArray[np.float32]) -> Floats:
        """The last hidden state that the output matrix meets, for activations (..., n_embd)."""
        wide = x.astype(np.float64)
        if self.centred:
            wide = wide - wide.mean(axis=-1, keepdims=True)
        scaled: Floats = wide / np.sqrt((wide * wide).mean(axis=-1, keepdims=True) + self.epsilon)
        return scaled * self.weight + self.bias

    def logits(self, x: npt.NDArray[np.float32]) -> Floats:
        """Logits of `tokens` for activations: (..., n_embd) to (..., n_tokens)."""
        return np.asarray(self.normed(x) @ self.rows.T)

    def places(self, tokens: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Where tokens stand in `tokens`."""
        return np.searchsorted(self.tokens, tokens).astype(np.intp)

    def explains(self, x: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> bool:
        """Whether it gives the model's logits again.

        Args:
            x: (n, n_embd) activations of the last layer.
            logits: (n, n_vocab) the model's own.
        """
        wanted = logits[:, self.tokens].astype(np.float64)
        off = np.square(self.logits(x) - wanted).mean()
        return bool(np.sqrt(off) <= CLOSE * logits.astype(np.float64).std())


def read_head(path: Path, tokens: Sequence[int]) -> Head | str:
    """The head of a model file, with these tokens' rows; or in words why there is none."""
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open(file, "rb")) for file in model_files(path)]
            headers = [read_header(file, path) for file in files]
            return _read(_Tensors(files, headers), headers[0], np.unique(np.asarray(tokens, np.intp)))
    except (OSError, SteerError, ValueError, NotImplementedError) as error:
        return f"the model's head cannot be read from its file ({error})"


class _Tensors:
    """The tensors in a model's files, by name."""

    def __init__(self, files: Sequence[BinaryIO], headers: Sequence[Header]) -> None:
        self._places = {
            tensor.name: (file, header.data_start, tensor)
            for file, header in zip(files, headers, strict=True)
            for tensor in header.tensors
        }

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def rows(self, name: str, rows: npt.NDArray[np.intp]) -> Floats:
        """Some rows of a matrix, of whatever type, (n, width)."""
        file, data_start, tensor = self._places[name]
        kind = gguf.GGMLQuantizationType(tensor.type)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        width = tensor.shape[0] // block * size
        packed = np.empty((len(rows), width), np.uint8)
        for place, row in enumerate(rows.tolist()):
            file.seek(data_start + tensor.offset + row * width)
            packed[place] = np.frombuffer(file.read(width), np.uint8)
        return dequantize(packed, kind).astype(np.float64)


def _read(tensors: _Tensors, header: Header, tokens: npt.NDArray[np.intp]) -> Head | str:
    matrix = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    norm, bias = "output_norm.weight", "output_norm.bias"
    if matrix not in tensors or norm not in tensors:
        return "its file holds no output matrix with a final norm"
    keys = {key.rpartition(".")[2]: value.value for key, value in header.values.items() if ".attention." in key}
    epsilon = keys.get("layer_norm_rms_epsilon", keys.get("layer_norm_epsilon"))
    if not isinstance(epsilon, float):
        return "its file does not tell how its final norm is made"
    only = np.zeros(1, np.intp)
    weight = tensors.rows(norm, only)[0]
    return Head(
        weight, tensors.rows(bias, only)[0] if bias in tensors else np.zeros_like(weight), epsilon,
        "layer_norm_rms_epsilon" not in keys, tokens, tensors.rows(matrix, tokens),
    )  # fmt: skip
