"""What every comparison starts from: model, threads, repeats, tools; and the plain loop they are compared with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steercpp.aliases import Floats
from steercpp.bench.models import SHAPES, Shape, words
from steercpp.bench.result import Promise
from steercpp.choices import FlashAttention
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Batch
from steercpp.engine.session import summed
from steercpp.errors import EngineError
from steercpp.vectors.control_vector import ControlVector

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SEED = 0
_PUSH = 0.05  # strength 1, as a share of the residual stream's length behind the token embeddings


@dataclass(frozen=True, slots=True)
class Setting:
    """What one comparison is run with.

    Attributes:
        name: of the comparison.
        shape_name, shape: such as "1.1b", and its sizes, or fewer layers.
        quant, path: type of the model's weights, and its file.
        threads, gpu_layers: of all sides; blocks on a GPU, -1 for all.
        flash_attn: of the engine and of llama.cpp where it does the same decodes; other tools have their own default.
        repeats: rounds; None for as many as the comparison itself wants.
        tools: folder of llama.cpp's tools; None to look on the PATH.
        tick: called with the share that is done, 0..1.
    """

    name: str
    shape_name: str
    shape: Shape
    quant: str
    path: Path
    threads: int
    gpu_layers: int
    flash_attn: FlashAttention
    repeats: int | None
    tools: Path | None
    tick: Callable[[float], None]

    @property
    def model(self) -> str:
        """The model in a few words."""
        cut = "" if self.shape == SHAPES.get(self.shape_name, self.shape) else f", {self.shape.n_layer} layers"
        return f"{self.shape_name} {self.quant}{cut}"

    @property
    def rng(self) -> np.random.Generator:
        """The same draws for every comparison."""
        return np.random.default_rng(_SEED)

    @property
    def words(self) -> list[str]:
        """Words that are one token each."""
        return words(self.shape.n_vocab)

    def rounds(self, wanted: int) -> int:
        """Repeats as asked for, or as many as wanted."""
        return self.repeats or wanted

    def promised(self, promise: Promise, *shapes: str) -> Promise | None:
        """The promise if this model is one that it is made for: of these shapes, by default 1.1b, in Q4_0."""
        is_uncut = self.shape == SHAPES.get(self.shape_name)
        made_for = is_uncut and self.quant == "q4_0" and self.shape_name in (shapes or ("1.1b",))
        return promise if made_for else None

    def layers(self, first: int, last: int, of: int) -> tuple[int, ...]:
        """Layers that lie as deep in this model as first..last in one of so many blocks."""
        n_layer = self.shape.n_layer
        start = min(max(round(first / of * n_layer), 1), n_layer - 1)
        stop = min(round((last + 1) / of * n_layer), n_layer)
        return tuple(range(start, max(stop, start + 1)))

    def vector(self, layers: Sequence[int]) -> ControlVector:
        """Random directions at these layers."""
        rng = self.rng
        push = {il: (_PUSH * rng.standard_normal(self.shape.n_embd)).astype(np.float32) for il in layers}
        return ControlVector(push, "llama", self.shape.n_layer)

    def engine(self, *, n_ctx: int, n_batch: int = 256) -> Engine:
        """The model, opened."""
        return Engine(
            self.path, n_ctx=n_ctx, n_batch=n_batch,
            threads=self.threads, flash_attn=self.flash_attn, n_gpu_layers=self.gpu_layers,
        )  # fmt: skip

    def tool(self, name: str) -> Path | None:
        """One of llama.cpp's tools; None where it is not installed."""
        path = shutil.which(name, path=self.tools)
        return None if path is None else Path(path).resolve()


def run_program(module: str, side: str, task: DataclassInstance, *, doing: str) -> dict[str, float]:
    """Run a module of ours as a program of one side, with a task in JSON on its stdin; the numbers that it prints.

    Raises:
        EngineError: it failed.
    """
    ended = subprocess.run(
        [sys.executable, "-m", module, side],
        input=json.dumps(asdict(task)), capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise EngineError(f"the process that {doing} {side} ended with code {ended.returncode}: {last}")
    numbers: dict[str, float] = json.loads(ended.stdout)
    return numbers


class PlainLoop:
    """llama.cpp without the hook: a vector is set for all tokens, then batches are decoded in full.

    Attributes:
        token_layers: tokens times blocks computed since it was opened.
    """

    def __init__(self, engine: Engine) -> None:
        self._session = engine.open_session(hook=False)
        self._shape = (engine.n_layer, engine.n_embd)

    def __enter__(self) -> PlainLoop:
        return self

    def __exit__(self, *error: object) -> None:
        del self._session

    @property
    def token_layers(self) -> int:
        """Tokens times blocks computed since it was opened."""
        return self._session.token_layers

    def logprobs(self, batches: Sequence[Batch], vector: ControlVector, strength: float) -> list[Floats]:
        """Log-probabilities of each batch's continuations, (n_continuations,), batch by batch."""
        data = np.zeros(self._shape, np.float32)
        if strength:
            for il, direction in vector.directions.items():
                data[il] = np.float32(strength) * direction
            with self._session.stock_vector(data[1:]):
                return [self._decoded(batch) for batch in batches]
        return [self._decoded(batch) for batch in batches]

    def _decoded(self, batch: Batch) -> Floats:
        runs = ((pass_, self._session.decode(pass_)) for pass_ in batch.passes)
        return np.concatenate(summed(batch, runs))
