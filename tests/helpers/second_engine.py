"""A GGUF file in transformers: its weights dequantized to float32, a hook on each steered block; needs torch.

The other side of docs/evidence.md. Nothing is shared with the engine but the file, the tokens and the vector.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from steercpp.aliases import FloatArray, Floats
from steercpp.engine.batch import Query


class SecondEngine:
    """A model of transformers, on the CPU, in float32 with eager attention, one prompt at a time."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def logprobs(self, queries: Sequence[Query], directions: Mapping[int, FloatArray], strength: float) -> list[Floats]:
        """ln P of each continuation, as `Engine.logprobs` with strength times a direction added after each block."""
        with ExitStack() as hooks, torch.no_grad():
            for il, row in directions.items():
                block = self._model.model.layers[il]
                hooks.enter_context(block.register_forward_hook(_adding(strength * torch.from_numpy(row.copy()))))
            return [self._scored(query) for query in queries]

    def _scored(self, query: Query) -> Floats:
        """The prompt once, and after it each longer continuation by itself, on a copy of the prompt's cache."""
        asked = self._model(torch.tensor([query.tokens]), use_cache=True)
        scores = []
        for tokens in query.continuations:
            logits = asked.logits[0, -1:]
            if len(tokens) > 1:
                after = self._model(torch.tensor([tokens[:-1]]), **_copied(asked)).logits[0]
                logits = torch.cat((logits, after))
            nats = torch.log_softmax(logits.double(), dim=-1)
            scores.append(sum(float(row[token]) for row, token in zip(nats, tokens, strict=True)))
        return np.array(scores)


def _copied(answered: Any) -> dict[str, Any]:
    """The cache of an answer, by the name that this release of transformers has for it."""
    name = "cache" if "cache" in answered else "past_key_values"
    return {name: copy.deepcopy(answered[name])}


def _adding(push: Any) -> Any:
    """A hook that adds a row to a block's output, which is a tuple in older releases."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push

    return hook
