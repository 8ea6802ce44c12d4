"""Random plans for test_random_plans.py: what the engine is to run, and how. A plan is drawn from its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

import numpy as np
from tiny_model import Shape

from steercpp.choices import OPERATORS, Operator, Positions, Side
from steercpp.engine.batch import BatchLimits, Query
from steercpp.engine.steering import Gate, PerQuery, Steering
from steercpp.vectors.control_vector import ControlVector

SEED = 20_240_901
TOKENS = (300, 303)  # three letters
SHAPES = {
    tied: Shape(n_layer=3, n_embd=32, n_ff=64, n_head=4, n_head_kv=2, words="", random_norms=True, tied=tied)
    for tied in (False, True)
}
_MOST_PROMPT, _MOST_CONTINUATION = 12, 4  # tokens; all but the last one of a continuation are decoded
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setup:
    """An engine.

    Attributes:
        name: of the setup.
        n_batch, n_ctx: the engine's.
        tied: whether the model's output matrix is its embeddings.
        always_copy: treat every tensor as if it lay on a device.
        meets: what its plans must meet beside what those of all setups must.
    """

    name: str
    n_batch: int
    n_ctx: int
    tied: bool = False
    always_copy: bool = False
    meets: tuple[str, ...] = ("rows are shared", "a trunk is copied")


SETUPS = (
    Setup("roomy", n_batch=256, n_ctx=512),
    Setup("short pieces", n_batch=24, n_ctx=40, tied=True),
    Setup("tight", n_batch=6, n_ctx=16),
    Setup("one sequence", n_batch=2, n_ctx=20, tied=True, meets=("several passes",)),  # no sequence for the trunk
    Setup("as on a device", n_batch=64, n_ctx=64, always_copy=True),
)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is run, and how.

    Attributes:
        queries, steering: what.
        limits: how it is packed; None for the engine's own.
        first_layer: of the base pass, lowered to what is steered; None for no base.
        factors: of all strengths, one run of the same batches for each.
        top_k: how many tokens are measured, with entropy and KL; None for no measures.
        captured: whether activations are read off too.
    """

    queries: tuple[Query, ...]
    steering: PerQuery
    limits: BatchLimits | None
    first_layer: int | None
    factors: tuple[float, ...]
    top_k: int | None
    captured: bool


def draw(setup: Setup, number: int) -> Plan:
    """The plan of this number."""
    return _Draw(setup, number).plan()


class _Draw:
    def __init__(self, setup: Setup, number: int) -> None:
        self.rng = np.random.default_rng([SEED, SETUPS.index(setup), number])
        self.setup = setup
        self.shape = SHAPES[setup.tied]

    def plan(self) -> Plan:
        queries = self.queries()
        measured = self.chance(0.3)
        return Plan(
            queries,
            self.steering(len(queries)),
            limits=self.limits(queries) if self.chance(0.5) else None,
            first_layer=self.count(0, self.shape.n_layer - 1) if measured or self.chance(0.4) else None,
            factors=(1.0, -0.5) if self.chance(0.15) else (1.0,),
            top_k=self.count(0, 3) if measured else None,
            captured=self.chance(0.1),
        )

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def count(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def one_of(self, things: Sequence[T]) -> T:
        return things[self.count(0, len(things) - 1)]

    def tokens(self, least: int, most: int) -> tuple[int, ...]:
        """Of few kinds, so that beginnings are often the same."""
        return tuple(self.rng.integers(*TOKENS, self.count(least, most)).tolist())

    def queries(self) -> tuple[Query, ...]:
        """Many prompts begin as another one does, go on from its end, or are the same."""
        made: list[Query] = []
        for _ in range(self.count(1, 6)):
            head: tuple[int, ...] = ()
            if made and self.chance(0.7):
                head = self.one_of(made).tokens
                head = head if self.chance(0.5) else head[: self.count(1, len(head))]
            tail = () if head and self.chance(0.4) else self.tokens(1, 6)
            prompt = (head + tail)[:_MOST_PROMPT]
            continuations = [self.tokens(1, _MOST_CONTINUATION) for _ in range(self.count(0, 4))]
            made.append(Query(prompt, tuple(continuations)))
        return tuple(made)

    def limits(self, queries: Sequence[Query]) -> BatchLimits:
        """Narrower than the engine's own."""
        longest = max(len(query.tokens) + max(map(len, query.continuations), default=1) - 1 for query in queries)
        return BatchLimits(
            n_batch=self.count(1, min(self.setup.n_batch, 12)),
            n_ctx=self.count(longest, self.setup.n_ctx),
            n_seq_max=self.count(1, min(self.setup.n_batch, 8)),  # the engine has no more sequences than n_batch
            n_group=self.count(1, 40),
        )

    def steering(self, n_queries: int) -> PerQuery:
        """Several ways of steering, some of them nearly the same, of which each query has one."""
        vectors = [self.vector() for _ in range(self.count(1, 3))]
        gates = [None, *(self.gate() for _ in range(2 if self.chance(0.2) else 0))]
        if self.chance(0.1):
            return self.acting(vectors, gates)
        ways = [[self.acting(vectors, gates) for _ in range(self.count(0, 3))] for _ in range(self.count(1, 3))]
        for _ in range(self.count(0, 2)):
            ways.append(self.altered(self.one_of(ways), self.acting(vectors, gates)))
        forms: list[None | Steering | list[Steering]] = [None, self.acting(vectors, gates), *ways]
        return [self.one_of(forms) for _ in range(n_queries)]

    def altered(self, way: list[Steering], other: Steering) -> list[Steering]:
        """In the other order, or with one property of one steering as in another: packing must tell them apart."""
        if not way or (len(way) > 1 and self.chance(0.4)):
            return way[::-1]
        place, name = self.count(0, len(way) - 1), self.one_of(("vector", "strength", "operator", "positions", "side"))
        operator = other.operator if name == "operator" else way[place].operator
        side = other.side if name == "side" else way[place].side
        changes: dict[str, Any] = {"operator": operator, "side": "both" if operator == "cap" else side}
        if name not in changes:
            changes[name] = getattr(other, name)
        return [*way[:place], replace(way[place], **changes), *way[place + 1 :]]

    def vector(self) -> ControlVector:
        """At some layers, half to twice as long as the rows of token embeddings; now and then 0 at one of them."""
        n_layer, n_embd = self.shape.n_layer, self.shape.n_embd
        layers = [il for il in range(n_layer) if self.chance(0.5)] or [self.count(0, n_layer - 1)]
        directions = {
            il: (self.rng.uniform(0.5, 2) * self.rng.standard_normal(n_embd)).astype(np.float32) for il in layers
        }
        if self.chance(0.05):
            directions[layers[0]][:] = 0
        return ControlVector(directions, "llama", n_layer)

    def gate(self) -> Gate:
        """Projections of rows on a random direction lie about -1 to 1."""
        direction = self.rng.standard_normal(self.shape.n_embd).astype(np.float32)
        il = self.count(0, self.shape.n_layer - 1)
        return Gate(direction, il, threshold=float(self.rng.uniform(-1, 1)), above=self.chance(0.5))

    def acting(self, vectors: Sequence[ControlVector], gates: Sequence[Gate | None]) -> Steering:
        operator: Operator = self.one_of(OPERATORS)
        positions: tuple[Positions, ...] = get_args(Positions)
        sides: tuple[Side, ...] = get_args(Side)
        return Steering(
            self.one_of(vectors),
            self.strength(operator),
            operator=operator,
            positions=self.one_of(positions),
            side="both" if operator == "cap" else self.one_of(sides),
            gate=self.one_of(gates),
        )

    def strength(self, operator: Operator) -> float:
        """Sometimes a round number, 0 among them; for cap among the projections of rows, so that it acts on some."""
        if operator == "cap":
            return float(self.rng.uniform(-0.2, 0.2))
        if self.chance(0.2):
            return self.one_of((0.0, 0.5, 1.0, -1.0))
        return float(self.rng.uniform(0.1, 1.5)) * self.one_of((-1, 1))
