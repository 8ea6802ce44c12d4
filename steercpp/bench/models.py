"""Models with random weights for measuring speed, which does not depend on what the weights are.

A file is made once and kept in a cache folder. Its quantized blocks are random bits with a scale that keeps the
activations near the size they have in trained models, so that a model of 13 billion parameters takes as long as writing
its file. The same shape, type and seed give the same bytes.
"""

from __future__ import annotations

import shutil
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import TokenType
from platformdirs import user_cache_path

from steercpp.choices import QUANTS
from steercpp.errors import InputError
from steercpp.files import Draft, replacing
from steercpp.vectors.gguf import gguf_head

Bytes: TypeAlias = npt.NDArray[np.uint8]
Tokens: TypeAlias = tuple[list[str], list[float], list[TokenType]]  # pieces, scores, types

_VERSION = 1  # of these files: raise it when the same name would no longer give the same bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama; heads of n_embd / n_head values, of which keys and values have n_head_kv."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int = 32000
    n_ctx: int = 4096


SHAPES = {
    "15m": Shape(n_layer=6, n_embd=288, n_head=6, n_head_kv=6, n_ff=768),  # stories15M
    "135m": Shape(n_layer=30, n_embd=576, n_head=9, n_head_kv=3, n_ff=1536, n_vocab=49152),  # SmolLM2
    "1.1b": Shape(n_layer=22, n_embd=2048, n_head=32, n_head_kv=4, n_ff=5632),  # TinyLlama
    "7b": Shape(n_layer=32, n_embd=4096, n_head=32, n_head_kv=32, n_ff=11008),  # Llama 2
    "13b": Shape(n_layer=40, n_embd=5120, n_head=40, n_head_kv=40, n_ff=13824),
    "70b": Shape(n_layer=80, n_embd=8192, n_head=64, n_head_kv=8, n_ff=28672),
}


@dataclass(frozen=True, slots=True)
class _Quant:
    """Types of a file's matrices as llama.cpp's quantizer chooses them: of most, and of the last one."""

    most: Type
    output: Type
    file_type: gguf.LlamaFileType


_QUANTS = {
    "f16": _Quant(Type.F16, Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": _Quant(Type.Q8_0, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": _Quant(Type.Q4_0, Type.Q6_K, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_1": _Quant(Type.Q4_1, Type.Q6_K, gguf.LlamaFileType.MOSTLY_Q4_1),
    "q5_0": _Quant(Type.Q5_0, Type.Q6_K, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q5_1": _Quant(Type.Q5_1, Type.Q6_K, gguf.LlamaFileType.MOSTLY_Q5_1),
    "q4_k": _Quant(Type.Q4_K, Type.Q6_K, gguf.LlamaFileType.MOSTLY_Q4_K_S),
    "q5_k": _Quant(Type.Q5_K, Type.Q6_K, gguf.LlamaFileType.MOSTLY_Q5_K_S),
}

N_SPECIAL = 3 + 256  # pieces of a vocabulary before its normal ones: <unk>, <s>, </s> and the bytes
CHARACTERS = ("▁", *string.ascii_letters, *string.digits, *string.punctuation, "\n")
CAPITALS = tuple(f"▁{letter}" for letter in string.ascii_uppercase)

# Bytes of a block's float16 factors, and the standard deviation of what random bits spell in units of the first one.
# Q4_1 is d * q + m with 4-bit q, Q5_1 with 5-bit q: m = -7.5 d and -15.5 d make their mean 0.
# Q4_K is d * scale * q - dmin * min with 6-bit scale and min and 4-bit q: dmin = 7.5 d makes its mean 0; Q5_K likewise.
_FACTORS: dict[Type, tuple[tuple[int, float], ...]] = {
    Type.Q8_0: ((0, 1.0),),
    Type.Q4_0: ((0, 1.0),),
    Type.Q4_1: ((0, 1.0), (2, -7.5)),
    Type.Q5_0: ((0, 1.0),),
    Type.Q5_1: ((0, 1.0), (2, -15.5)),
    Type.Q4_K: ((0, 1.0), (2, 7.5)),
    Type.Q5_K: ((0, 1.0), (2, 15.5)),
    Type.Q6_K: ((208, 1.0),),
}
_SPREAD = {
    Type.Q8_0: 73.9, Type.Q4_0: 4.64, Type.Q4_1: 4.61, Type.Q5_0: 9.25, Type.Q5_1: 9.23, Type.Q4_K: 258.3,
    Type.Q5_K: 526.9, Type.Q6_K: 1365.7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]  # rows first, as NumPy has it
    type: Type
    scale: float = 0.0  # standard deviation of the values; 0 for all ones
    silent_rows: int = 0  # first rows that are zero

    @property
    def n_bytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return int(np.prod(self.shape)) // block * size


def cache_folder() -> Path:
    """Where models are kept unless the user names a folder: the system's place for what can be made again."""
    return user_cache_path("steercpp") / "bench"


def make_model(shape: Shape, quant: str, *, folder: Path | None = None, seed: int = 0) -> Path:
    """The file of a random model, made unless it is there already.

    Args:
        shape: its sizes.
        quant: one of `QUANTS`. Rows that K-quants cannot cut into blocks of 256 are Q8_0.
        folder: where it is kept; by default `cache_folder()`.
        seed: of the weights.

    Raises:
        InputError: an unknown type, or too little room on the disk.
    """
    if quant not in _QUANTS:
        raise InputError(f"quant {quant!r} is unknown; use one of {', '.join(QUANTS)}")
    folder = cache_folder() if folder is None else folder
    sizes = "-".join(str(getattr(shape, name)) for name in Shape.__slots__)
    path = folder / f"llama-{quant}-{sizes}-seed{seed}-v{_VERSION}.gguf"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    n_bytes = model_bytes(shape, quant)
    free = shutil.disk_usage(folder).free
    if free < 1.1 * n_bytes:
        raise InputError(
            f"{folder}: {free / 1e9:.1f} GB are free and the model needs {n_bytes / 1e9:.1f}; "
            "name another folder with `cache`, or make fewer `layers`"
        )
    with replacing(path) as draft:
        _write(draft, shape, quant, seed)
    return path


def model_bytes(shape: Shape, quant: str) -> int:
    """Bytes of such a model's weights."""
    return sum(tensor.n_bytes for tensor in _tensors(shape, _QUANTS[quant]))


def with_layers(shape: Shape, most: int | None) -> Shape:
    """The shape with at most so many blocks.

    Raises:
        InputError: fewer than 2 blocks, of which llama.cpp could steer none.
    """
    if most is None:
        return shape
    if most < 2:
        raise InputError(f"layers is {most}; give at least 2")
    return replace(shape, n_layer=min(shape.n_layer, most))


def words(n_vocab: int) -> list[str]:
    """Five-letter words that are one token each in the vocabulary of a random model."""
    return [piece[1:] for piece in vocabulary(n_vocab)[0] if len(piece) == 6 and piece[0] == "▁"]


def vocabulary(n_vocab: int) -> Tokens:
    """A vocabulary of so many pieces.

    Bytes, characters, capital letters after a space, and words made of consonants and vowels in turn. With a word its
    every beginning is a piece too: that is how the tokenizer arrives at it, and by no other way.

    Raises:
        InputError: too few pieces for bytes and characters, or more than there are words.
    """
    normal = [*CHARACTERS, *CAPITALS, *(f"▁{beginning}" for beginning in _beginnings())]
    n_normal = n_vocab - N_SPECIAL
    if not len(CHARACTERS) + len(CAPITALS) < n_normal <= len(normal):
        raise InputError(f"a vocabulary of {n_vocab} pieces cannot be made; give 500 to {N_SPECIAL + len(normal)}")
    return sentencepiece(normal[:n_normal])


def sentencepiece(normal: Sequence[str]) -> Tokens:
    """Pieces, scores and types in SentencePiece's way: special tokens and bytes, then these pieces, the first best."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *normal]
    scores = [0.0] * N_SPECIAL + [-float(place) for place in range(len(normal))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    kinds += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(normal)
    return pieces, scores, kinds


def _beginnings() -> Iterator[str]:
    """Words of up to five letters, each after its own beginnings."""
    consonants, vowels = "bcdfghjklmnpqrstvwxz", "aeiou"
    for first, second in product(consonants, vowels):
        if second == vowels[0]:
            yield first
        yield first + second
        for third in consonants:
            yield first + second + third
            for fourth in vowels:
                yield (start := first + second + third + fourth)
                yield from (start + last for last in consonants)


def _tensors(shape: Shape, quant: _Quant) -> Iterator[_Tensor]:
    """All tensors, in the order in which llama.cpp's converter writes them."""
    n_embd = shape.n_embd

    def matrix(name: str, n_out: int, n_in: int, kind: Type = quant.most) -> _Tensor:
        block = gguf.GGML_QUANT_SIZES[kind][0]
        return _Tensor(f"{name}.weight", (n_out, n_in), Type.Q8_0 if n_in % block else kind, n_in**-0.5)

    def norm(name: str) -> _Tensor:
        return _Tensor(f"{name}.weight", (n_embd,), Type.F32)

    # No special token is ever the likeliest: a text goes on for as long as it is wanted.
    # K-quants have blocks of 256 values; where these do not fit, llama.cpp's quantizer takes Q8_0
    output = Type.Q8_0 if quant.output == Type.Q6_K and n_embd % 256 else quant.output
    yield replace(matrix("output", shape.n_vocab, n_embd, output), silent_rows=3)
    yield replace(matrix("token_embd", shape.n_vocab, n_embd), scale=1.0)
    yield norm("output_norm")
    for il in range(shape.n_layer):
        for name, sizes in block_shapes(shape).items():
            n_out, *n_in = sizes
            yield matrix(f"blk.{il}.{name}", n_out, n_in[0]) if n_in else norm(f"blk.{il}.{name}")


def block_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The tensors of a block, rows first."""
    n_embd, n_kv, n_ff = shape.n_embd, shape.n_embd // shape.n_head * shape.n_head_kv, shape.n_ff
    return {
        "attn_norm": (n_embd,),
        "attn_q": (n_embd, n_embd),
        "attn_k": (n_kv, n_embd),
        "attn_v": (n_kv, n_embd),
        "attn_output": (n_embd, n_embd),
        "ffn_norm": (n_embd,),
        "ffn_gate": (n_ff, n_embd),
        "ffn_up": (n_ff, n_embd),
        "ffn_down": (n_embd, n_ff),
    }


def add_sizes(writer: gguf.GGUFWriter, shape: Shape, *, name: str, file_type: gguf.LlamaFileType) -> None:
    """Write what llama.cpp reads of a Llama besides its vocabulary and tensors."""
    writer.add_name(name)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(file_type)


def add_tokens(writer: gguf.GGUFWriter, tokens: Tokens) -> None:
    """Write a vocabulary of `sentencepiece`."""
    pieces, scores, kinds = tokens
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def _write(draft: Draft, shape: Shape, quant: str, seed: int) -> None:
    writer = gguf.GGUFWriter(None, "llama")
    add_sizes(writer, shape, name=f"random weights, {quant}", file_type=_QUANTS[quant].file_type)
    writer.add_vocab_size(shape.n_vocab)
    add_tokens(writer, vocabulary(shape.n_vocab))
    tensors = list(_tensors(shape, _QUANTS[quant]))
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.n_bytes, tensor.type)
    draft.write(gguf_head(writer))
    random = np.random.SFC64(seed)
    for tensor in tensors:
        draft.write(_values(tensor, random).tobytes())
        draft.write(bytes(-draft.size % writer.data_alignment))


def _values(tensor: _Tensor, random: np.random.BitGenerator) -> npt.NDArray[np.generic]:
    """A tensor's data as they stand in the file; float16 values are even over their range, quantized ones nearly so."""
    n_values = int(np.prod(tensor.shape))
    if tensor.type == Type.F32:
        return np.ones(tensor.shape, np.float32)
    if tensor.type == Type.F16:
        integers = _random_bytes(2 * n_values, random).view(np.int16).reshape(tensor.shape)
        halves: npt.NDArray[np.float16] = (integers * np.float32(tensor.scale * 3**0.5 / 2**15)).astype("<f2")
        halves[: tensor.silent_rows] = 0
        return halves
    block_bytes = gguf.GGML_QUANT_SIZES[tensor.type][1]
    blocks = _random_bytes(tensor.n_bytes, random).reshape(tensor.shape[0], -1, block_bytes)
    for first, share in _FACTORS[tensor.type]:
        factors = np.full(blocks.shape[:2], share * tensor.scale / _SPREAD[tensor.type], "<f2")
        if len(_FACTORS[tensor.type]) == 1:  # a random sign: integers of a fixed width are not centred on 0
            factors[blocks[:, :, first] < 128] *= -1
        factors[: tensor.silent_rows] = 0
        blocks[:, :, first : first + 2] = factors[:, :, np.newaxis].view(np.uint8)
    return blocks


def _random_bytes(n_bytes: int, random: np.random.BitGenerator) -> Bytes:
    made: Bytes = random.random_raw(-(-n_bytes // 8)).view(np.uint8)[:n_bytes]
    return made
