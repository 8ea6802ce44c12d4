"""The tokenizer: SentencePiece BPE with byte fallback, the kind that llama.cpp calls SPM."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sentencepiece as spm

N_VOCAB = 2048


def train_tokenizer(lines: Iterable[str], prefix: Path) -> spm.SentencePieceProcessor:
    """Train on `lines` and write `prefix`.model; deterministic, since one thread sees the lines in order.

    Nothing is normalised away and unknown characters become bytes: any UTF-8 text comes back as it went in.
    """
    sentences = [line for text in lines for line in text.split("\n") if line]
    spm.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=N_VOCAB,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        num_threads=1,
        shuffle_input_sentence=False,
        minloglevel=2,
    )
    return spm.SentencePieceProcessor(model_file=f"{prefix}.model")
