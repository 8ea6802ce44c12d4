"""A GGUF file in transformers: its weights dequantised to float32, a hook on each steered block; needs torch.

The other side of docs/evidence.md. Nothing is shared with the engine but the file, the tokens and the vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import transformers

from steercpp.aliases import FloatArray, Floats
from steercpp.engine.batch import Query


class SecondEngine:
    """A model of transformers, on the CPU, with eager attention; no cache, no packing, no sharing."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def logprobs(
        self, queries: Sequence[Query], directions: Mapping[int, FloatArray], strength: float
    ) -> list[Floats]:
        """ln P of each continuation, as `Engine.logprobs` with strength times a direction added after each block."""
        with ExitStack() as hooks, torch.no_grad():
            for il, row in directions.items():
                block = self._model.model.layers[il]
                hooks.enter_context(block.register_forward_hook(_adding(strength * torch.from_numpy(row.copy()))))
            return [self._scored(query) for query in queries]

    def _scored(self, query: Query) -> Floats:
        """Each longer continuation as a row of its own; what fills a row up stands at its end, where nothing sees it."""
        starts = {tokens[:-1] for tokens in query.continuations}
        longest = max(map(len, starts))
        rows = {start: row for row, start in enumerate(sorted(starts))}
        filled = [[*query.tokens, *start, *[0] * (longest - len(start))] for start in rows]
        logits = self._model(torch.tensor(filled)).logits[:, len(query.tokens) - 1 :].double()
        nats = torch.log_softmax(logits, dim=-1)
        scores = [
            sum(float(nats[rows[tokens[:-1]], place, token]) for place, token in enumerate(tokens))
            for tokens in query.continuations
        ]
        made: Floats = torch.tensor(scores, dtype=torch.float64).numpy()
        return made


def _adding(push: Any) -> Any:
    """A hook that adds a row to a block's output, which is a tuple in older releases."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push

    return hook
