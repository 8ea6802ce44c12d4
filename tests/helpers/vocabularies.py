"""Small vocabularies in files that hold nothing else, tokenized by llama.cpp itself."""

from __future__ import annotations

from pathlib import Path

import gguf
import llama_cpp
from tiny_model import add_vocabulary, vocabulary

SPECIAL = ("<unk>", "<|endoftext|>", "<s>", "</s>", "<|user|>", "<|end|>", "<mask>")
_MERGES = ("Ġ t", "h e", "Ġt he", "i n", "Ġ w", "Ġw o", "r l", "Ġwo rl", "Ġworl d", "Ċ Ċ", "Ġ Ġ", "< /", "| >")


class FileTokenizer:
    """llama.cpp's tokenizer of a file, without the model."""

    def __init__(self, path: Path) -> None:
        options = llama_cpp.llama_model_default_params()
        options.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        assert self._model, path
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 16))()
        n = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), tokens, len(tokens), add_special, parse_special)
        assert n >= 0
        return list(tokens[:n])

    def pieces(self) -> list[str]:
        n = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        return [llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode() for token in range(n)]

    def close(self) -> None:
        llama_cpp.llama_model_free(self._model)


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level BPE vocabulary, as GPT-2's bytes_to_unicode."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


def write_bpe_vocabulary(path: Path, *, pre: str) -> Path:
    """A byte-level BPE vocabulary; `pre` names how llama.cpp cuts words."""
    writer = gguf.GGUFWriter(path, "llama")
    pieces = [*SPECIAL, *byte_letters(), *(merge.replace(" ", "") for merge in _MERGES)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces)
    writer.add_token_merges(list(_MERGES))
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(pieces) - len(SPECIAL))
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    return _written(writer, path)


def write_spm_vocabulary(path: Path, *, name: str) -> Path:
    """The tiny model's SentencePiece vocabulary with more special tokens; llama.cpp looks at a model's name too."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    add_vocabulary(writer, None)
    pieces, scores, kinds = vocabulary()
    more = [piece for piece in SPECIAL if piece not in pieces]
    for key, values in (
        ("tokens", pieces + more),
        ("scores", scores + [0.0] * len(more)),
        ("token_type", kinds + [gguf.TokenType.CONTROL] * len(more)),
    ):
        writer.kv_data[0].pop(f"tokenizer.ggml.{key}")
        writer.add_array(f"tokenizer.ggml.{key}", values)
    return _written(writer, path)


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path
