"""The stages of a sweep in plain words, and the work that is left of it; read this to show how far a sweep is.

    def show(stage: Stage) -> None:
        print(f"{stage.name}, {stage.left():,.0f} token-layers to go")     # nan as long as nobody knows

    prepare(engine, wanted, out=out, on_stage=show)
    sweep(engine, vector, spec, out=out, on_stage=show)

Work is counted in token-layers, tokens times the blocks that they pass: at the speed so far they tell the time left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from steercpp.aliases import NAN

PAIRS, ANSWERS, MEASURES = "reading the pairs", "collecting the model's answers", "finding what can be measured"
LAYERS, BRACKET = "finding the layers", "finding the strengths"
STRENGTHS, CONTROLS, TEXTS = "measuring the strengths", "measuring the controls", "writing texts"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a sweep begins to do.

    Attributes:
        name: one of those above.
        left: gives the token-layers that are left of the whole sweep whenever it is called; NaN where these are not
            known yet.
    """

    name: str
    left: Callable[[], float] = lambda: NAN


OnStage: TypeAlias = Callable[[Stage], None]


def stages_to_find(*, layers: bool, strengths: bool) -> tuple[str, ...]:
    """Those before a sweep, in order.

    Args:
        layers: whether layers are looked for.
        strengths: whether strengths are.
    """
    return (PAIRS, ANSWERS, MEASURES, *((LAYERS,) if layers else ()), *((BRACKET,) if strengths else ()))


def stages_to_measure(*, controls: bool, texts: bool) -> tuple[str, ...]:
    """Those of a sweep itself, in order, with or without controls and texts."""
    return (STRENGTHS, *((CONTROLS,) if controls else ()), *((TEXTS,) if texts else ()))
