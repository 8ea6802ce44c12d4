"""What a sweep will take, before it is begun: tokens, token-layers, and with a measured speed the time.

work = estimate(engine, found, n_strengths=17, n_directions=9, in_words=True)
work.token_layers / speed      # seconds
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeAlias

from steercpp.engine.engine import Engine
from steercpp.runs.preparation import Preparation
from steercpp.sweeps.own_answers import choosing, telling
from steercpp.sweeps.windows import windows_to_try
from steercpp.sweeps.work import behavior_work, choice_work, own_work

N_STRENGTHS = 17  # of a grid that is found: eight a side, and 0
TRIES = 3  # pushes of a window until its cost is the common one, about

StageName: TypeAlias = Literal["strengths", "in words", "directions", "telling"]
LoadName: TypeAlias = Literal["scored", "choosing", "telling"]


class Sizes(Protocol):
    """What of a model and its engine decides the work; an `Engine` has it."""

    @property
    def n_layer(self) -> int:
        """Blocks."""

    @property
    def n_embd(self) -> int:
        """Values of an activation."""

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""

    @property
    def keep_bytes(self) -> int:
        """Memory for the rows that unsteered passes keep."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The work of a sweep.

    Attributes:
        n_tokens: decoded by the sweep itself.
        token_layers: of it, tokens times blocks; passes above the steered layers are resumed.
        to_find: token-layers of what finds layers and strengths before, about.
        n_bytes: of the rows that unsteered passes keep at once, at most.
    """

    n_tokens: int
    token_layers: int
    to_find: int
    n_bytes: int

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Loads:
    """Tokens of one pass over the items of each kind; of own answers those that choose and those that tell."""

    behavior: float
    choice: float = 0
    choosing: float = 0
    telling: float = 0

    @classmethod
    def of(cls, engine: Engine, found: Preparation) -> Loads:
        """Those of the items that were found."""
        own = (own_work(engine, items).n_tokens if items else 0 for items in (choosing(found.own), telling(found.own)))
        n_choice = choice_work(engine, found.choice).n_tokens if found.choice else 0
        return cls(behavior_work(engine, found.behavior).n_tokens, n_choice, *own)

    def share(self, *, behavior: float, choice: float, own: float) -> Loads:
        """Those of shares of the items."""
        return Loads(self.behavior * behavior, self.choice * choice, self.choosing * own, self.telling * own)

    @property
    def scored(self) -> float:
        """Those whose answers are listed: of behavior and choice."""
        return self.behavior + self.choice


@dataclass(frozen=True, slots=True)
class Passes:
    """How often a stage of a sweep decodes items, once what came before it is kept.

    Attributes:
        stage: one ends before the next one begins.
        load: the items, an attribute of `Loads`.
        unsteered: passes from the first block on.
        steered: those that start above the layers below the first steered one.
        in_words: those after the instruction, from the first block on; of own answers beside one without it.
    """

    stage: StageName
    load: LoadName
    unsteered: int = 0
    steered: int = 0
    in_words: int = 0


def passes_of(*, n_strengths: int, n_directions: int, in_words: bool) -> tuple[Passes, ...]:
    """The passes of a sweep over such items as there may be, in the order in which it makes them.

    Args:
        n_strengths: of the grid, 0 among them.
        n_directions: random ones, and the orthogonal one; own answers are left out of them.
        in_words: whether the prompt baseline is measured.

    >>> [(passes.stage, passes.load, passes.steered) for passes in
    ...  passes_of(n_strengths=17, n_directions=9, in_words=False)]
    [('strengths', 'scored', 16), ('strengths', 'choosing', 16), ('directions', 'scored', 9), ('telling', 'telling', 1)]
    """
    passes = [
        Passes("strengths", "scored", unsteered=1, steered=n_strengths - 1),
        Passes("strengths", "choosing", unsteered=1, steered=n_strengths - 1),
        *((Passes("in words", "scored", in_words=1), Passes("in words", "choosing", in_words=1)) if in_words else ()),
        Passes("directions", "scored", steered=n_directions),
        Passes("telling", "telling", unsteered=1, steered=1),
    ]
    return tuple(one for one in passes if one.unsteered + one.steered + one.in_words)


def estimate(
    engine: Engine, found: Preparation, *, n_strengths: int = N_STRENGTHS, n_directions: int = 9, in_words: bool = True,
    finds_layers: bool = True,
) -> Estimate:  # fmt: skip
    """What the items that were found will take at so many strengths.

    Args:
        engine: the model.
        found: with its items.
        n_strengths: of the grid, 0 among them.
        n_directions: random ones, and the orthogonal one.
        in_words: whether the prompt baseline is measured.
        finds_layers: whether windows of layers are compared before.
    """
    n_windows = (found.scope.windows[0] or len(windows_to_try(engine.n_layer))) if finds_layers else 0
    return work_of(
        engine, Loads.of(engine, found), first_layer=min(found.layers), n_strengths=n_strengths,
        n_directions=n_directions, in_words=in_words, n_windows=n_windows,
    )  # fmt: skip


def work_of(
    sizes: Sizes, loads: Loads, *, first_layer: int, n_strengths: int, n_directions: int, in_words: bool,
    n_windows: int,
) -> Estimate:  # fmt: skip
    """What items of these loads take.

    Args:
        sizes: of the model.
        loads: of the items.
        first_layer: the lowest that is steered.
        n_strengths: of the grid, 0 among them.
        n_directions: random ones, and the orthogonal one.
        in_words: whether the prompt baseline is measured.
        n_windows: of layers that are compared before; 0 for none.
    """
    n_full = n_resumed = 0.0
    for passes in passes_of(n_strengths=n_strengths, n_directions=n_directions, in_words=in_words):
        n_tokens: float = getattr(loads, passes.load)
        n_full += n_tokens * (passes.unsteered + passes.in_words * (1 if passes.load == "scored" else 2))
        n_resumed += n_tokens * passes.steered
    above = sizes.n_layer - first_layer - 1  # the first steered block's own rows are kept
    n_window = loads.behavior / 2 + TRIES * loads.choosing / 8
    n_pass = loads.scored + loads.choosing
    n_bytes = min(sizes.keep_bytes, 4 * sizes.n_embd * n_pass + 4 * sizes.n_vocab * loads.choosing)
    return Estimate(
        round(n_full + n_resumed), round(sizes.n_layer * n_full + above * n_resumed),
        round(sizes.n_layer * (n_windows + 2) * n_window), round(n_bytes),
    )  # fmt: skip
