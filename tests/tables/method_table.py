"""Which method finds a planted direction in which pairs: measured here, told by docs/methods.md.

`make table NAME=method` writes the tables into the document; a test compares them with what is measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from places import ROOT
from threadpoolctl import threadpool_limits

from steercpp.aliases import FloatArray, Floats
from steercpp.extraction.methods import METHODS
from steercpp.extraction.quality import LayerQuality, direction_with_quality

DOCUMENT = ROOT / "docs" / "methods.md"
N_EMBD, N_DRAWS = 256, 8


@dataclass(frozen=True, slots=True)
class Scenario:
    """Pairs whose sides differ by a planted unit direction; lengths are in units of the mean push.

    Attributes:
        words: what the document calls it.
        spread: standard deviation of the push.
        shared: of a second direction, in what both sides have in common.
        within: of a third direction, in the difference of the sides.
        lean: mean of the same.
        flipped: share of the pairs whose sides are exchanged.
    """

    words: str
    n_pairs: int = 40
    spread: float = 0.0
    shared: float = 0.0
    within: float = 0.0
    lean: float = 0.0
    flipped: float = 0.0

    def draw(self, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Activations of both sides, (n_pairs, N_EMBD) each, and the planted direction.

        Besides what the scenario says, what a pair has in common is 5 long and each side has noise of length 0.5.
        """
        rng = np.random.default_rng(seed)
        push, common, nuisance = np.linalg.qr(rng.standard_normal((N_EMBD, 3)))[0].T

        def rows(length: float) -> Floats:
            made: Floats = rng.standard_normal((self.n_pairs, N_EMBD)) * length / np.sqrt(N_EMBD)
            return made

        def along(direction: Floats, mean: float, deviation: float) -> Floats:
            made: Floats = (mean + deviation * rng.standard_normal((self.n_pairs, 1))) * direction
            return made

        signs = np.where(np.arange(self.n_pairs) < self.flipped * self.n_pairs, -1, 1)[:, None]
        middle = rows(5) + along(common, 0, self.shared)
        half = (signs * along(push, 1, self.spread) + along(nuisance, self.lean, self.within)) / 2
        both = [middle + half + rows(0.5), middle - half + rows(0.5)]
        return both[0].astype(np.float32), both[1].astype(np.float32), push.astype(np.float32)


SCENARIOS = (
    Scenario("all pairs are pushed alike"),
    Scenario("the push varies by 30%", spread=0.3),
    Scenario("the push varies by 100%", spread=1.0),
    Scenario("6 pairs", n_pairs=6),
    Scenario("both sides share a nuisance, 10 times as long", shared=10),
    Scenario("the sides differ by a nuisance, 1.5 times as long", within=1.5),
    Scenario("the same, 3 times", within=3),
    Scenario("the same, 3 times, and the push varies by 30%", within=3, spread=0.3),
    Scenario("the same, 3 times, in 6 pairs", n_pairs=6, within=3),
    Scenario("the same, 3 times, in 400 pairs", n_pairs=400, within=3),
    Scenario("the sides always differ by a nuisance as long", lean=1),
    Scenario("a quarter of the pairs is the wrong way round", flipped=0.25),
    Scenario("the same, and the push varies by 30%", flipped=0.25, spread=0.3),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Means over the draws of what a method finds in a scenario."""

    cosine: float
    quality: LayerQuality


def measure() -> dict[tuple[str, str], Found]:
    """By words of the scenario and name of the method."""
    with threadpool_limits(1, user_api="blas"):  # more threads only wait for each other here: see extraction/extract.py
        return {(one.words, method): _found(one, method) for one in SCENARIOS for method in METHODS}


def _found(scenario: Scenario, method: str) -> Found:
    cosines, figures = [], []
    for seed in range(N_DRAWS):
        positive, negative, planted = scenario.draw(seed)
        if method in FIGURES_OF:
            direction, quality = direction_with_quality(positive, negative, method)
            figures.append([getattr(quality, name) for name in LayerQuality.__slots__])
        else:
            direction = METHODS[method](positive, negative)
        cosines.append(abs(direction @ planted))
    means = np.mean(figures, axis=0).tolist() if figures else [np.nan] * len(LayerQuality.__slots__)
    return Found(float(np.mean(cosines)), LayerQuality(*means))


FIGURES_OF = ("mean", "pca")  # methods whose quality is told


def recovery_table(found: dict[tuple[str, str], Found]) -> str:
    """A row for each scenario, a column for each method: |cos| with the planted direction."""
    lines = [f"| pairs | {' | '.join(METHODS)} |", f"| --- |{' ---: |' * len(METHODS)}"]
    for one in SCENARIOS:
        cells = " | ".join(f"{found[one.words, method].cosine:.2f}" for method in METHODS)
        lines.append(f"| {one.words} | {cells} |")
    return "\n".join(lines)


def quality_table(found: dict[tuple[str, str], Found]) -> str:
    """A row for each scenario: agreement, and for the mean difference and PCA |cos|, AUC, explained, stability."""
    heads = [f"{method}: {what}" for method in FIGURES_OF for what in ("∣cos∣", "auc", "explained", "stability")]
    lines = [f"| pairs | agreement | {' | '.join(heads)} |", f"| --- | ---: |{' ---: |' * len(heads)}"]
    for one in SCENARIOS:
        cells = [f"{found[one.words, 'mean'].quality.agreement:.2f}"]
        for method in FIGURES_OF:
            each = found[one.words, method]
            cells += [f"{each.cosine:.2f}", f"{each.quality.auc:.2f}", f"{each.quality.explained:.0%}",
                      f"{each.quality.stability:.2f}"]  # fmt: skip
        lines.append(f"| {one.words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def document(text: str, found: dict[tuple[str, str], Found]) -> str:
    """The document with its tables made anew."""
    for name, table in (("recovery", recovery_table(found)), ("quality", quality_table(found))):
        marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(\n<!-- {name} ends -->)", re.DOTALL)
        assert len(marks.findall(text)) == 1, name
        text = marks.sub(lambda match, table=table: match[1] + table + match[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), measure()), encoding="utf-8")
