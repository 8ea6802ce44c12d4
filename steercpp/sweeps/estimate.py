"""What a sweep will take, before it is begun: tokens, token-layers, and with a measured speed the time.

work = estimate(engine, found, n_strengths=17, n_directions=9, in_words=True)
work.token_layers / speed      # seconds
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from steercpp.engine.engine import Engine
from steercpp.runs.preparation import Preparation
from steercpp.sweeps.own_answers import choosing, telling
from steercpp.sweeps.windows import windows_to_try
from steercpp.sweeps.work import behavior_work, choice_work, own_work

N_STRENGTHS = 17  # of a grid that is found: eight a side, and 0
TRIES = 3  # pushes of a window until its cost is the common one, about


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
    n_behavior = behavior_work(engine, found.behavior).n_tokens
    n_choice = choice_work(engine, found.choice).n_tokens if found.choice else 0
    n_choosing, n_telling = (
        own_work(engine, items).n_tokens if items else 0 for items in (choosing(found.own), telling(found.own))
    )
    n_pass = n_behavior + n_choice + n_choosing
    n_full = n_pass + n_telling + (n_pass + n_telling) * in_words  # from the first block on
    n_resumed = (n_strengths - 1) * n_pass + n_directions * (n_behavior + n_choice) + n_telling
    above = engine.n_layer - min(found.layers)
    n_window = n_behavior // 2 + TRIES * n_choosing // 8
    n_windows = len(windows_to_try(engine.n_layer)) if finds_layers else 0
    return Estimate(
        n_full + n_resumed, engine.n_layer * n_full + above * n_resumed, engine.n_layer * (n_windows + 2) * n_window,
        min(engine.keep_bytes, 4 * engine.n_embd * n_pass + 4 * engine.n_vocab * n_choosing),
    )  # fmt: skip
