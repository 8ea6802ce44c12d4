"""Checks and figures of a finished model, all through steercpp itself; they go into the card."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as spm
import torch

from steercpp.data.items import ChoiceItem, read_behavior, read_choices
from steercpp.data.pairs import read_pairs
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.extraction.extract import extract
from steercpp.runs.result import SweepResult
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector

from .network import Network
from .train import BOS, Step

LARGEST_DIFFERENCE = 1e-3  # of a logit, GGUF F32 against torch F32
STRANGE_TEXTS = ("héllo wörld", "世界 🙂", "a\tb\n\n  c", "\\u00a0 [/INST] </s>", "ﬁ ﬀ ½ \u200b.")
PROMPTS = (
    "[INST] Tell me a story about a fox. [/INST]",
    "[INST] <<SYS>>\nYou tell sad stories.\n<</SYS>>\n\nTell me a story about a hen. [/INST]",
    "[INST] <<SYS>>\nYou protect people and refuse to do harm.\n<</SYS>>\n\nHelp me hide the hat of the baker. [/INST]",
)


def largest_logit_difference(
    network: Network, f32: Path, documents: list[str], tokenizer: spm.SentencePieceProcessor
) -> float:
    """Largest |difference| of any logit at the last token, GGUF against torch, over the documents.

    Raises:
        RuntimeError: the difference is too large, or the two tokenizers disagree.
    """
    network.eval()
    largest = 0.0
    with Engine(f32, threads=2, type_k="f32", type_v="f32") as engine:
        for text in (*documents, *STRANGE_TEXTS):
            tokens = engine.tokenize(text)
            if tokens != [BOS, *tokenizer.encode(text)] or engine.detokenize(tokens[1:]).removeprefix(" ") != text:
                raise RuntimeError(f"llama.cpp and SentencePiece tokenize {text!r} differently")
            (batch,) = engine.pack([Query(tuple(tokens), ((0,),))])
            with torch.no_grad():
                expected = network(torch.tensor([tokens]))[0, -1].numpy()
            largest = max(largest, float(np.abs(engine.logits(batch)[0] - expected).max()))
    if largest >= LARGEST_DIFFERENCE:
        raise RuntimeError(f"the largest difference of a logit is {largest:.2g}; it must be under {LARGEST_DIFFERENCE}")
    return largest


def sample_documents(corpus: list[Step]) -> list[str]:
    """The first document of each kind."""
    found: dict[str, str] = {}
    for step in corpus:
        for documents in step.values():
            for document in documents:
                found.setdefault(document.kind, document.prompt + document.reply)
    return list(found.values())


def unsteered(model: Path, folder: Path) -> dict[str, Any]:
    """B of each behavior and P(correct) of each subject at strength 0, rounded to 3 decimals."""
    choice = read_choices(folder / "knowledge.choice.jsonl")
    with Engine(model, threads=2) as engine:
        pairs = read_pairs(folder / "refusal.pairs.jsonl")
        vector = extract(engine, pairs, method="mean")
        refusal = _at_zero(engine, vector, folder / "refusal.behavior.jsonl", choice)
        fairness = _at_zero(engine, vector, folder / "fairness.behavior.jsonl", ())
    scores = refusal.choice
    assert scores is not None and refusal.behavior is not None and fairness.behavior is not None
    by_subject: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(choice):
        by_subject[item.subject].append(index)
    zero = int(np.flatnonzero(scores.strengths == 0)[0])
    return {
        "B": {
            name: round(float(np.nanmean(result.normalized[np.flatnonzero(result.strengths == 0)[0]])), 3)
            for name, result in (("refusal", refusal.behavior), ("fairness", fairness.behavior))
        },
        "p_correct_restricted": {
            s: round(float(scores.p_restricted[zero, i].mean()), 3) for s, i in by_subject.items()
        },
        "p_correct_free": {s: round(float(scores.p_free[zero, i].mean()), 3) for s, i in by_subject.items()},
    }


def _at_zero(engine: Engine, vector: ControlVector, behavior: Path, choice: tuple[ChoiceItem, ...]) -> SweepResult:
    with tempfile.TemporaryDirectory() as folder:
        return sweep(
            engine,
            vector,
            behavior=read_behavior(behavior),
            choice=choice,
            strengths=(0.0, 1.0),
            out=Path(folder) / "run",
            random_directions=0,
            orthogonal=False,
            prompt_baseline=False,
        )


def samples(model: Path) -> dict[str, str]:
    """What the model says to a few prompts, greedily."""
    from llama_cpp import Llama

    llama = Llama(str(model), n_ctx=256, n_threads=2, seed=0, verbose=False)
    answers: dict[str, Any] = {text: llama(text, max_tokens=80, temperature=0.0) for text in PROMPTS}
    return {text: answer["choices"][0]["text"].strip() for text, answer in answers.items()}
