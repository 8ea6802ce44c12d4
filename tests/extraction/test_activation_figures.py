"""How far packing moves directions from those of each prompt decoded alone.

`pytest -s tests/extraction/test_activation_figures.py` prints the table of docs/activations.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from places import ROOT, ModelMaker

from steercpp.choices import FlashAttention
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.extraction.activations import Activations, collect
from steercpp.extraction.methods import METHODS

pytestmark = pytest.mark.slow
FAMILIES, FILE_TYPES, FLASH = ("embedded", "tiny"), ("F32", "Q8_0", "Q4_0"), ("off", "on")
DIRECTIONS = ("mean", "pca")
N_PAIRS = 32
CLEAR = 0.05  # mean difference over the residual's norm: below it a direction is made of little but rounding
TABLE = [
    line
    for line in (ROOT / "docs" / "activations.md").read_text(encoding="utf-8").splitlines()
    if re.match(rf"\| ({'|'.join(FAMILIES)}) \|", line)
]
WORDS = ["happy", "good", "day", "help", "man", "work", "never", "house", "long", "year", "people", "life", "world"]


def pairs_for(family: str, rng: np.random.Generator) -> Sequence[ContrastPair]:
    if family == "embedded":
        return load().pairs()[:N_PAIRS]
    # texts behind one head that end in one of two moods: random weights have no opinion, but other words
    tails = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(N_PAIRS)]
    return [
        ContrastPair(
            str(i), f"the people of the house say {tail} yes good", f"the people of the house say {tail} no sorry"
        )
        for i, tail in enumerate(tails)
    ]


def alone(engine: Engine, pairs: Sequence[ContrastPair]) -> Activations:
    """As `collect`, each prompt in a decode of its own."""
    values = [
        engine.activations([engine.encode(prompt)])[0] for pair in pairs for prompt in (pair.positive, pair.negative)
    ]
    return Activations(
        np.stack(values).reshape(len(pairs), 2, engine.n_layer, engine.n_embd), tuple(range(engine.n_layer))
    )


@pytest.mark.parametrize("flash_attn", FLASH)
@pytest.mark.parametrize("file_type", FILE_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_directions_are_those_of_prompts_alone(
    model_maker: ModelMaker, rng: np.random.Generator, family: str, file_type: str, flash_attn: FlashAttention
) -> None:
    pairs = pairs_for(family, rng)
    with Engine(model_maker(f"{family}-{file_type}"), threads=1, flash_attn=flash_attn) as engine:
        packed, single = collect(engine, pairs), alone(engine, pairs)
    lowest = {"all": 1.0, "clear": 1.0}
    moved = 0.0
    for il in packed.layers:
        found, wanted = packed.at(il), single.at(il)
        lengths = np.linalg.norm(np.stack(wanted), axis=-1)
        share = np.linalg.norm(np.mean(wanted[0] - wanted[1], axis=0)) / lengths.mean()
        moved = max(moved, float((np.linalg.norm(np.stack(found) - np.stack(wanted), axis=-1) / lengths).max()))
        cosine = min(float(METHODS[name](*found) @ METHODS[name](*wanted)) for name in DIRECTIONS)
        lowest["all"] = min(lowest["all"], cosine)
        if share >= CLEAR:
            lowest["clear"] = min(lowest["clear"], cosine)
    row = f"| {family} | {file_type} | {flash_attn} | {moved:.0e} | {lowest['clear']:.5f} | {lowest['all']:.5f} |"
    print(f"\n{row}")
    assert lowest["clear"] > 0.999
    # Without flash attention few roundings tip, so that layers with hardly any direction agree as well.
    assert lowest["all"] > 0.999 or flash_attn == "on"
    if file_type == "F32" and flash_attn == "off":
        assert moved < 1e-3  # K and V in float16 alone: nothing is rounded to 8 bits


def test_the_page_has_all_settings_and_what_it_says_of_them() -> None:
    cells = [line.strip(" |").split(" | ") for line in TABLE]
    assert {tuple(row[:3]) for row in cells} == set(product(FAMILIES, FILE_TYPES, FLASH)) and len(cells) == 12
    for _, _, flash_attn, _, clear, lowest in cells:
        assert float(clear) > 0.999 and (float(lowest) > 0.999 or flash_attn == "on")
