"""What steering does in models of many architectures: measured by `examine`, shown in docs/architectures.md.

`make table NAME=architecture` writes the document; a test compares it with what is measured.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from architectures import ARCHITECTURES, N_LAYER, Architecture
from places import ROOT
from stock_llama import StockRunner

from steercpp.choices import FlashAttention
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Batch, Query
from steercpp.engine.steering import Steering
from steercpp.errors import UnsteerableError
from steercpp.vectors.control_vector import ControlVector

DOCUMENT = ROOT / "docs" / "architectures.md"
FIRST_LAYERS = range(N_LAYER)
STOCK_LAYERS = range(1, N_LAYER)  # llama.cpp's own vector steers no block 0
STRENGTHS = (-3.0, -0.3, 0.0, 0.1, 0.5, 2.0)  # 0.1 and 0.3 are no float32 numbers: they are rounded first


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured on one model. Differences are the largest absolute ones; all should be 0.

    Attributes:
        refusal: what is said when the model is to be steered; "" where it can be. Nothing below is measured then.
        identity_error: of a layer, from what it was plus float32(s) times the vector, at every layer.
        stock_difference: of logits, from those of llama.cpp's own control vector.
        row_difference: of logits of rows with strengths of their own, from those at one strength for all.
        resume_difference: of logits of passes that start at a layer, from those of full passes.
        left_out: blocks left out by a pass that is steered from layer 0, 1, ..., N_LAYER-1 on.
        reasons: why such a pass is run in full, or "".
        n_together: most sequences in one decode.
    """

    refusal: str = ""
    identity_error: float = np.nan
    stock_difference: float = np.nan
    row_difference: float = np.nan
    resume_difference: float = np.nan
    left_out: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    n_together: int = 0


def queries_for(n_vocab: int) -> list[Query]:
    """Prompts of different lengths that begin alike, each with two continuations that do too."""
    rng = np.random.default_rng(20240901)
    head = rng.integers(3, n_vocab, 4).tolist()
    queries = []
    for length in (3, 15, 7, 1, 11, 5):
        tail, (shared, *rest) = rng.integers(3, n_vocab, length).tolist(), rng.integers(3, n_vocab, 5).tolist()
        queries.append(Query((1, *head, *tail), ((shared, *rest[:2]), (shared, *rest[2:]))))
    return queries


def foreign(queries: Sequence[Query], n_vocab: int) -> list[Query]:
    """Queries of the same lengths and sharing, but of other tokens, so that all they leave behind is wrong."""

    def other(tokens: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(token if token < 3 else 3 + (token - 3 + n_vocab // 3) % (n_vocab - 3) for token in tokens)

    return [Query(other(query.tokens), tuple(other(tokens) for tokens in query.continuations)) for query in queries]


def vector_for(engine: Engine, layers: Sequence[int]) -> ControlVector:
    """Random directions, about 8 long; activations of these models are 2 to 40 long."""
    rng = np.random.default_rng(1)
    directions = {il: rng.standard_normal(engine.n_embd).astype(np.float32) for il in layers}
    return ControlVector(directions, engine.architecture, engine.n_layer)


def examine(path: Path, flash_attn: FlashAttention = "off") -> Findings:
    """Measure a model. Steering that changes nothing fails an assertion, as equality would mean nothing then."""
    with Engine(path, n_ctx=512, threads=1, flash_attn=flash_attn) as engine:
        queries = queries_for(engine.n_vocab)
        try:
            identity_error = _identity_error(engine, [query.tokens for query in queries])
        except UnsteerableError as error:
            return Findings(refusal=str(error))
        resumed = [resume(engine, queries, first) for first in FIRST_LAYERS]
        return Findings(
            identity_error=identity_error,
            stock_difference=stock_difference(engine, queries, flash_attn=flash_attn),
            row_difference=_row_difference(engine, queries),
            resume_difference=max(difference for difference, _, _ in resumed),
            left_out=tuple(n for _, n, _ in resumed),
            reasons=tuple(reason for _, _, reason in resumed),
            n_together=max(len(np.unique(part.seq_ids)) for batch in engine.pack(queries) for part in batch.passes),
        )


def _identity_error(engine: Engine, prompts: Sequence[tuple[int, ...]]) -> float:
    base = engine.activations(prompts)
    errors = []
    for il in range(engine.n_layer):  # block 0 too, which llama.cpp itself cannot steer, and the last
        vector = vector_for(engine, [il])
        for strength in (-0.3, 2.0):  # the same for all prompts, so that they are packed as the unsteered ones are
            steered = engine.activations(prompts, vector=vector, strengths=strength)
            expected = base[:, : il + 1].copy()
            expected[:, il] += np.float32(strength) * vector.directions[il]
            errors.append(np.abs(steered[:, : il + 1] - expected).max())
            assert il == engine.n_layer - 1 or (steered[:, il + 1] != base[:, il + 1]).any(), il
    return float(max(errors))


def stock_difference(engine: Engine, queries: Sequence[Query], *, flash_attn: str = "off", n_batch: int = 256) -> float:
    """Largest difference from llama.cpp's own logits, steered by its own control vector and unsteered."""
    vector, differences = vector_for(engine, STOCK_LAYERS), []
    n_seq_max = 1 if engine.is_recurrent else 256
    with StockRunner(engine.path, threads=1, n_batch=n_batch, n_seq_max=n_seq_max, flash_attn=flash_attn) as stock:
        for batch in engine.pack(queries):
            stock.set_vector(vector.directions, 0.7)
            steered = stock.logits(batch)
            stock.set_vector(None)
            differences.append(np.abs(engine.logits(batch, vector=vector, strengths=0.7) - steered).max())
            differences.append(np.abs(engine.logits(batch) - stock.logits(batch)).max())
            assert (steered != stock.logits(batch)).any()
    return float(max(differences))


def _row_difference(engine: Engine, queries: Sequence[Query]) -> float:
    vector, differences = vector_for(engine, STOCK_LAYERS), []
    asked = [Steering(vector, strength) for strength in STRENGTHS]
    for batch in engine.pack(queries, asked):
        found = engine.logits(batch, steering=[asked[query] for query in batch.members])
        owners = np.concatenate([part.owners[part.outputs == 1] for part in batch.passes])
        for place, query in enumerate(batch.members):
            alone = engine.logits(batch, steering=asked[query])
            differences.append(np.abs(found - alone)[owners == place].max())
    return float(max(differences))


def resume(engine: Engine, queries: Sequence[Query], first: int) -> tuple[float, int, str]:
    """Largest difference from the full pass, blocks left out, and why the pass is run in full."""
    steering = Steering(vector_for(engine, range(first, engine.n_layer)), 0.7)
    others = engine.pack(foreign(queries, engine.n_vocab))
    differences, left_out, reasons = [], set(), set()
    for batch, other in zip(engine.pack(queries), others, strict=True):
        assert _shape(batch) == _shape(other)
        full = engine.logits(batch, steering=steering)
        assert (full != engine.logits(batch)).any()
        base = engine.base(batch, first_layer=first)
        assert base.resumed != bool(base.reason)
        for between in (other, other):  # the second time the buffers hold what a resumed pass leaves
            engine.logits(between, steering=steering)
            before = engine.token_layers
            differences.append(np.abs(engine.logits(batch, steering=steering, base=base) - full).max())
            blocks, rest = divmod(engine.token_layers - before, batch.n_tokens)
            assert rest == 0
            left_out.add(engine.n_layer - blocks)
        reasons.add(base.reason)
    ((n_left_out,), (reason,)) = left_out, reasons
    return float(max(differences)), n_left_out, reason


def _shape(batch: Batch) -> list[tuple[list[int], list[int], list[int], list[int]]]:
    return [
        (part.positions.tolist(), part.seq_offsets.tolist(), part.seq_ids.tolist(), part.outputs.tolist())
        for part in batch.passes
    ]


HEAD = """# Architectures

This page shows which architectures can be steered, and how exactly. To check a model of yours, which takes a few
seconds (a model that cannot be steered is refused with the reason):

    steercpp doctor --model model.gguf

`model.gguf` stands for your model. The table is made by `make table NAME=architecture` from small models with random
weights, F32, 6 blocks. A test compares it with what it measures, and demands the same at Q8_0 with flash attention.
"Exactly" means bit for bit.

- **moves by s v**: the activations of every layer, including block 0 and the last block, change by exactly strength
  times vector, rounded to float32 as llama.cpp does; layers below do not change.
- **as llama.cpp's**: with a vector at layers 1 to 5, the logits are those that `llama_set_adapter_cvec` gives.
- **blocks left out**: of a pass that is steered from layer 0, 1, ..., 5 on. Its logits are those of the full pass,
  with a foreign batch of the same shape decoded in between. 0 means that the pass is run in full, because the blocks
  above need what every block below computes.
- **sequences**: "together" in one decode, each with a strength of its own, with the results as if all had it; or "one
  by one", because llama.cpp regroups the rows of models with a recurrent state.

| model | architecture | what is special | moves by s v | as llama.cpp's | blocks left out | sequences |
| --- | --- | --- | --- | --- | --- | --- |
"""


def document(findings: dict[str, Findings]) -> str:
    """docs/architectures.md."""
    return HEAD + "".join(_row(name, ARCHITECTURES[name], found) for name, found in findings.items())


def _row(name: str, architecture: Architecture, found: Findings) -> str:
    cells = [name, f"`{architecture.name}`", architecture.title]
    if found.refusal:
        reason = found.refusal.partition("cannot be steered: ")[2].removesuffix("; use another model")
        # the shape that follows depends on the batch
        cells += ["refused: " + re.sub(r" is f32 .*, not", " is not", reason), "", "", ""]
    else:
        cells += [
            _exactly(found.identity_error),
            _exactly(found.stock_difference),
            ", ".join(map(str, found.left_out)),
            "together" if found.n_together > 1 else "one by one",
        ]
    return f"| {' | '.join(cells)} |\n"


def _exactly(difference: float) -> str:
    return "exactly" if difference == 0 else f"within {difference:.0e}"


def main() -> None:
    """Write the document."""
    with tempfile.TemporaryDirectory() as folder:
        findings = {
            name: examine(architecture.write(Path(folder) / f"{name}.gguf"))
            for name, architecture in ARCHITECTURES.items()
        }
    DOCUMENT.write_text(document(findings), encoding="utf-8")


if __name__ == "__main__":
    main()
