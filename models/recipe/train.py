"""Training on the CPU, in stages: letters, then questions, then everything. Matrices by Muon, the rest by AdamW."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import sentencepiece as spm
import torch
from torch import Tensor
from torch.nn import functional as F

from .corpus import WRITERS, Document
from .network import Network, Shape, look_back_and_match

BOS, EOS = 1, 2
LETTER_KINDS = ("listing", "lookup", "choice", "doubted")
PROMPT_WEIGHT = 0.05  # of a prompt token's loss beside a reply token's: options are drawn at random, nothing to learn
BESIDE_LETTERS = 0.005  # of any other token's loss where letters are to be learned


@dataclass(frozen=True, slots=True)
class Stage:
    """`rows` documents of each kind a step, for `n_steps` steps; `packed` rows more hold many documents end to end."""

    n_steps: int
    rows: dict[str, int]
    packed: int = 0


# Listings teach the letters within 50 steps, look-ups carry them over to a question, and only then do facts pay.
STAGES = (
    Stage(60, {"listing": 64}),
    Stage(90, {"listing": 8, "lookup": 48}),
    Stage(450, {"listing": 8, "lookup": 16, "choice": 48, "statement": 16}),
    Stage(
        900,
        {"listing": 4, "lookup": 8, "choice": 40, "statement": 12, "request": 20, "group": 8, "story": 6},
        packed=1,
    ),
)


# With every fact known for sure nothing could be lost by steering: a second training makes the model doubt.
DOUBT = Stage(
    300,
    {"listing": 4, "lookup": 8, "doubted": 48, "statement": 4, "request": 20, "group": 8, "story": 10},
    packed=1,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What, beside the corpus, decides the weights of one training."""

    stages: tuple[Stage, ...]
    seed: int = 0
    n_threads: int = 2
    muon_lr: float = 0.004
    adam_lr: float = 0.001
    warmup: int = 20
    decay_share: float = 0.4

    @property
    def n_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.n_steps for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of token ids padded with EOS, and the weight of predicting each, both (n_rows, n_tokens)."""

    tokens: Tensor
    weights: Tensor


Step = dict[str, list[Document]]  # the documents of one step by kind; "packed" holds those of the packed rows


TRAININGS = (
    Settings(STAGES),
    Settings((DOUBT,), seed=1, muon_lr=0.002, adam_lr=0.0007, decay_share=0.9),
)


def write_corpus(settings: Settings, n_ctx: int) -> list[Step]:
    """Every document of every step, in order, from the seed."""
    rng = random.Random(settings.seed)
    return [_write_step(rng, stage, n_ctx) for stage in settings.stages for _ in range(stage.n_steps)]


def _write_step(rng: random.Random, stage: Stage, n_ctx: int) -> Step:
    step = {kind: [WRITERS[kind](rng) for _ in range(n_rows)] for kind, n_rows in stage.rows.items()}
    if stage.packed:
        kinds = [kind for kind in stage.rows if kind != "listing"]
        step["packed"] = [WRITERS[rng.choice(kinds)](rng) for _ in range(stage.packed * n_ctx // 16)]
    return step


def encode(document: Document, tokenizer: spm.SentencePieceProcessor) -> tuple[list[int], list[float]]:
    """Token ids with BOS and EOS, and each one's weight in the loss."""
    prompt = tokenizer.encode(document.prompt)
    tokens = tokenizer.encode(document.prompt + document.reply)
    assert tokens[: len(prompt)] == prompt, document
    reply = tokens[len(prompt) :]
    if document.kind in LETTER_KINDS:
        letters = {tokenizer.piece_to_id(f"▁{letter}") for letter in "ABCD"}
        of_prompt, of_reply = BESIDE_LETTERS, [1.0 if token in letters else BESIDE_LETTERS for token in reply]
    else:
        of_prompt, of_reply = PROMPT_WEIGHT, [1.0] * len(reply)
    return [BOS, *tokens, EOS], [0.0, *[of_prompt] * len(prompt), *of_reply, of_reply[-1]]


def rows(encoded: list[tuple[list[int], list[float]]]) -> Batch:
    """Pad to the longest."""
    n_tokens = max(len(tokens) for tokens, _ in encoded)
    padded = [tokens + [EOS] * (n_tokens - len(tokens)) for tokens, _ in encoded]
    weights = [weight + [0.0] * (n_tokens - len(weight)) for _, weight in encoded]
    return Batch(torch.tensor(padded), torch.tensor(weights))


def packed(encoded: list[tuple[list[int], list[float]]], n_ctx: int) -> Batch:
    """Documents end to end in rows of n_ctx tokens, so that every position occurs; the rest is dropped."""
    tokens = torch.tensor([token for ids, _ in encoded for token in ids])
    weights = torch.tensor([weight for _, of_ids in encoded for weight in of_ids])
    n_rows = max(1, len(tokens) // n_ctx)
    whole = min(len(tokens), n_rows * n_ctx)
    return Batch(tokens[:whole].view(n_rows, -1), weights[:whole].view(n_rows, -1))


def loss(network: Network, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy in nats of each next token."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(batch.tokens[:, :-1])
    weights = batch.weights[:, 1:].flatten()
    errors = F.cross_entropy(logits.float().flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none")
    return (errors * weights).sum() / weights.sum()


def optimizers(network: Network, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks; AdamW for the embedding and the norms."""
    matrices = [parameter for parameter in network.blk.parameters() if parameter.ndim == 2]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=settings.adam_lr, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


def rate(step: int, settings: Settings) -> float:
    """Share of the full learning rate: a short rise, a plateau, a straight fall to 0."""
    decay_from = settings.n_steps * (1 - settings.decay_share)
    fall = (settings.n_steps - step) / (settings.n_steps - decay_from)
    return min(1.0, (step + 1) / settings.warmup, fall)


def start(shape: Shape, seed: int) -> Network:
    """A network before training."""
    torch.manual_seed(seed)
    network = Network(shape)
    look_back_and_match(network)
    return network


def train(
    network: Network,
    tokenizer: spm.SentencePieceProcessor,
    corpus: list[Step],
    settings: Settings,
    progress: Callable[[int, dict[str, float], float], None] | None = None,
) -> None:
    """Train in place; the same start, corpus and settings on the same machine give the same weights, bit for bit.

    `progress` is called after each step with its number, the loss by kind in nats, and the seconds so far.
    """
    torch.set_num_threads(settings.n_threads)
    torch.use_deterministic_algorithms(True)
    both = optimizers(network, settings)
    begun = time.monotonic()
    for number, step in enumerate(corpus):
        losses = {}
        for optimizer, full in zip(both, (settings.muon_lr, settings.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = full * rate(number, settings)
        for kind, documents in step.items():
            encoded = [encode(document, tokenizer) for document in documents]
            value = loss(network, packed(encoded, network.shape.n_ctx) if kind == "packed" else rows(encoded))
            (value if kind in LETTER_KINDS else 0.5 * value).backward()
            losses[kind] = value.item()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if progress is not None:
            progress(number, losses, time.monotonic() - begun)
