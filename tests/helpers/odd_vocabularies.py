"""Small random models with vocabularies of every kind of tokenizer, which lack some characters."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from gguf import TokenType
from vocabularies import byte_letters

from steercpp.bench.models import Shape, add_sizes, block_shapes


@dataclass(frozen=True, slots=True)
class OddVocabulary:
    """A vocabulary and the keys that llama.cpp reads of it.

    Attributes:
        tokenizer: its kind, in the file's words.
        special: pieces that are special tokens; the first that is called "unk" is the unknown token.
        normal: all other pieces.
        merges: of byte-level BPE.
        bos, eos: numbers of special tokens, None for none.
        adds_bos: whether texts begin with `bos`.
        pre: how words are cut, of byte-level BPE.
        prefix: whether a text is taken to follow a space; None: not said.
        template: for chats.
    """

    tokenizer: str
    special: tuple[str, ...]
    normal: tuple[str, ...]
    merges: tuple[str, ...] = ()
    bos: int | None = None
    eos: int | None = None
    adds_bos: bool = False
    pre: str = ""
    prefix: bool | None = None
    template: str = ""
    user_defined: tuple[str, ...] = field(default=())

    def write(self, path: Path, *, seed: int = 0) -> Path:
        """Write a llama model of 4 blocks with random weights."""
        pieces = [*self.special, *self.normal, *self.user_defined]
        shape = Shape(n_layer=4, n_embd=64, n_head=4, n_head_kv=4, n_ff=64, n_vocab=len(pieces), n_ctx=512)
        writer = gguf.GGUFWriter(path, "llama")
        add_sizes(writer, shape, name="odd", file_type=gguf.LlamaFileType.ALL_F32)
        self._add(writer, pieces)
        rng = np.random.default_rng(seed)
        shapes = {f"blk.{il}.{name}": size for il in range(4) for name, size in block_shapes(shape).items()}
        shapes |= {"token_embd": (len(pieces), 64), "output": (len(pieces), 64), "output_norm": (64,)}
        for name, size in shapes.items():
            values = rng.standard_normal(size) / 8 if len(size) == 2 else np.ones(size)
            writer.add_tensor(f"{name}.weight", values.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _add(self, writer: gguf.GGUFWriter, pieces: Sequence[str]) -> None:
        kinds = [TokenType.UNKNOWN if "unk" in piece.lower() else TokenType.CONTROL for piece in self.special]
        kinds += [TokenType.NORMAL] * len(self.normal) + [TokenType.USER_DEFINED] * len(self.user_defined)
        writer.add_tokenizer_model(self.tokenizer)
        writer.add_token_list(list(pieces))
        writer.add_token_types([int(kind) for kind in kinds])
        if self.pre:
            writer.add_tokenizer_pre(self.pre)
        if self.tokenizer in ("llama", "t5"):
            # as in a trained vocabulary: the longer a piece, the rather it is taken
            writer.add_token_scores(
                [0.0] * len(self.special) + [len(piece) - 20.0 for piece in pieces[len(self.special) :]]
            )
        if self.merges:
            writer.add_token_merges(list(self.merges))
        if TokenType.UNKNOWN in kinds:
            writer.add_unk_token_id(kinds.index(TokenType.UNKNOWN))
        if self.tokenizer == "bert":
            writer.add_sep_token_id(3)
            writer.add_mask_token_id(0)
            writer.add_pad_token_id(0)
        for number, add in ((self.bos, writer.add_bos_token_id), (self.eos, writer.add_eos_token_id)):
            if number is not None:
                add(number)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(False)
        if self.prefix is not None:
            writer.add_add_space_prefix(self.prefix)
        if self.template:
            writer.add_chat_template(self.template)


_LETTERS = tuple(string.ascii_letters)
_WORDS = ("the", "The", "answer", "is", "Which", "What", "oak", "fir", "no", "yes", "happy", "sad", "I", "am")
_CAPITALS = tuple("ABCD")
_SIGNS = ("?", ".", ")")
_SPACED = tuple(dict.fromkeys(f"▁{word}"[:stop] for word in (*_WORDS, *_CAPITALS) for stop in range(2, len(word) + 2)))
_ESCAPED = {byte: repr(bytes([byte]))[2:-1] for byte in range(256)}

SPM = OddVocabulary("llama", ("<unk>", "<s>", "</s>"), ("▁", *_SPACED, *_SIGNS, *_LETTERS), bos=1, eos=2, adds_bos=True)
"""SentencePiece without byte tokens: neither digits nor line breaks, and few signs."""

_BYTES = byte_letters()
_SPELLED = tuple(_BYTES[ord(letter)] for letter in (*string.ascii_letters, *_SIGNS, " "))
BPE = OddVocabulary(
    "gpt2", ("<unk>", "<s>", "</s>"), (*_SPELLED, "ĠA", "ĠB", "Ġo", "Ġoa"), merges=("Ġ A", "Ġ B", "Ġ o", "Ġo a"),
    pre="gpt-2", bos=1, eos=2,
)  # fmt: skip
"""Byte-level BPE without most bytes."""

RWKV = OddVocabulary(
    "rwkv", ("<s>",), (*(_ESCAPED[byte] for byte in range(1, 256)), " A", " B", " C", " D", " answer", " is", "\\n\\n"),
    bos=0, eos=0,
)  # fmt: skip
"""All bytes, and pieces with the space that stands before them."""

RWKV_WITHOUT_5 = OddVocabulary(
    "rwkv",
    ("<s>",),
    (*(_ESCAPED[byte] for byte in range(1, 256) if byte not in b"5\n"), " A", " B", "56"),
    bos=0,
    eos=0,
)
"""A byte that only begins a longer piece, on which llama.cpp's tokenizer never ends."""

WORDPIECE = OddVocabulary(
    "bert", ("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    (*(f"▁{word.lower()}" for word in ("answer", "is", "which", "oak", "fir")),
     *(f"▁{sign}" for sign in (*string.ascii_lowercase, *_SIGNS)), *string.ascii_lowercase),
    bos=2, eos=3, adds_bos=True,
)  # fmt: skip
"""Small letters alone, into which texts are changed."""

UNIGRAM = OddVocabulary("t5", ("<pad>", "</s>", "<unk>"), ("▁", *_SPACED, *_SIGNS, *_LETTERS), eos=1, prefix=True)
"""As of T5: an unknown token, no line breaks."""

ODD = {
    "spm": SPM, "bpe": BPE, "rwkv": RWKV, "rwkv without 5": RWKV_WITHOUT_5, "wordpiece": WORDPIECE, "unigram": UNIGRAM,
}  # fmt: skip
