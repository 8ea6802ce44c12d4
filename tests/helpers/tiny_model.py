"""A small random llama model with a real tokenizer, made from a seed; and llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from steercpp.bench import models
from steercpp.bench.models import (
    CAPITALS,
    CHARACTERS,
    Tokens,
    add_sizes,
    add_tokens,
    block_shapes,
    sentencepiece,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model looks like.

    Attributes:
        n_layer, n_embd, n_ff, n_head, n_head_kv: by default n_embd is a multiple of 256, so that K-quants do not fall
            back to another type.
        words: of the vocabulary, beside bytes and characters; None for common ones.
        random_norms: the weights of the norms are random too, not 1.
        tied: the token embeddings are the output matrix too.
    """

    n_layer: int = 4
    n_embd: int = 256
    n_ff: int = 256
    n_head: int = 8
    n_head_kv: int = 4
    words: str | None = None
    random_norms: bool = False
    tied: bool = False

    @property
    def sizes(self) -> models.Shape:
        """The sizes of the model's file."""
        n_vocab = len(vocabulary(self.words)[0])
        return models.Shape(self.n_layer, self.n_embd, self.n_head, self.n_head_kv, self.n_ff, n_vocab, N_CTX)


TINY = Shape()
N_CTX = 1024

FILE_TYPES = {
    "F32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "{% if turn['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + turn['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn['content'] + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)

_WORDS = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its about "
    "than into them can only other time new some could these two may first then do any like my now over such our man "
    "me even most made after also well many must before back through years where much your way down should because "
    "long each just state people too mr how little good world make very year still see own work men day get here old "
    "life both between being under three never know same last another while us off might great go come since against "
    "right answer question cannot sure sorry help happy sad yes"
)


def vocabulary(words: str | None = None) -> Tokens:
    """Pieces, scores and types: bytes as fallback, characters, then merges up to whole words."""
    merged: dict[str, None] = {}
    for word in (_WORDS if words is None else words).split():
        for stop in range(2, len(word) + 2):
            merged["▁" + word[: stop - 1]] = None
    merged |= dict.fromkeys(CAPITALS)
    return sentencepiece([*merged, *CHARACTERS])


def write_tiny_model(
    path: Path, *, seed: int = 0, chat_template: str | None = CHAT_TEMPLATE, shape: Shape = TINY
) -> Path:
    """Write an F32 llama model with random weights; the same seed gives the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    add_sizes(writer, shape.sizes, name="tiny", file_type=gguf.LlamaFileType.ALL_F32)
    add_vocabulary(writer, chat_template, shape.words)
    for name, values in _weights(seed, shape):
        writer.add_tensor(f"{name}.weight", values)
    finish(writer)
    return path


def write_embedding_model(path: Path) -> Path:
    """Write a random bert model of one block, which keeps no memory of earlier tokens."""
    rng = np.random.default_rng(0)
    n_embd, n_ctx, n_vocab = 64, 64, len(vocabulary()[0])
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(1)
    writer.add_feed_forward_length(n_embd)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    writer.add_token_type_count(2)
    add_vocabulary(writer, None)
    shapes = {
        "token_embd.weight": (n_vocab, n_embd),
        "token_types.weight": (2, n_embd),
        "position_embd.weight": (n_ctx, n_embd),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}.weight"] = (n_embd, n_embd)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        tensors[f"{name}.weight"] = np.ones(n_embd, np.float32)
        tensors[f"{name}.bias"] = np.zeros(n_embd, np.float32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        tensors[f"blk.0.{name}.bias"] = np.zeros(n_embd, np.float32)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    finish(writer)
    return path


def write_vocabulary_only(path: Path) -> Path:
    """Write a GGUF file that has the tokenizer and no tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    add_vocabulary(writer, None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def quantize(source: Path, target: Path, file_type: str) -> Path:
    """Write the model as another of `FILE_TYPES`, from whatever type it has, by llama.cpp's own quantizer."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = 1
    params.ftype = FILE_TYPES[file_type]
    params.allow_requantize = True
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert status == 0, f"llama_model_quantize returned {status}"
    return target


def split(source: Path, folder: Path, *, n_shards: int = 3, keys_alone: bool = False) -> Path:
    """Write the model in shards, as gguf-split does; the path of the first.

    Args:
        source: a model of one file.
        folder: where to.
        n_shards: at most so many that hold tensors.
        keys_alone: the first shard holds no tensors, as of gguf-split --no-tensor-first-split; it is one more.
    """
    reader = gguf.GGUFReader(source)
    most = -(-len(reader.tensors) // n_shards)
    folder.mkdir(exist_ok=True)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(folder / source.name, architecture, split_max_tensors=most, small_first_shard=keys_alone)
    for name, value in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = value.types[-1] if value.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, value.contents(), value.types[0], sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    finish(writer)
    return min(folder.glob(f"{source.stem}-00001-of-*.gguf"))


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, chat_template: str | None, words: str | None = None) -> None:
    add_tokens(writer, vocabulary(words))
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _weights(seed: int, shape: Shape) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    n_vocab, n_embd = shape.sizes.n_vocab, shape.n_embd
    yield "token_embd", rng.standard_normal((n_vocab, n_embd)).astype(np.float32)
    sizes = {
        f"blk.{il}.{name}": size for il in range(shape.n_layer) for name, size in block_shapes(shape.sizes).items()
    }
    sizes |= {"output_norm": (n_embd,)} | ({} if shape.tied else {"output": (n_vocab, n_embd)})
    for name, size in sizes.items():
        if len(size) == 2:
            values: np.ndarray = rng.standard_normal(size) / np.sqrt(size[1])
        else:
            values = rng.uniform(0.5, 1.5, n_embd) if shape.random_norms else np.ones(n_embd)
        yield name, values.astype(np.float32)
