"""How good the direction of a layer is, told from the pairs alone; read this to know what each figure means.

The figures need no steering and cost little beside the decoding of the pairs: they are computed in coordinates of the
space that the activations of a layer fill, by the same methods as the direction itself. docs/methods.md says how to
read them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from steercpp.aliases import FloatArray, Floats
from steercpp.errors import DegenerateError
from steercpp.extraction.methods import ON_ROWS, RowMethod
from steercpp.extraction.pair_rows import PairRows, blocks, checked

N_FOLDS = 5
N_RESAMPLES = 16
MOST_PAIRS = 256  # that the figures which need many directions look at, evenly spread over more


@dataclass(frozen=True, slots=True)
class LayerQuality:
    """Figures on a direction; None where there are too few pairs for one.

    Attributes:
        explained: share of the pair differences' squared length that lies along the direction, 0..1.
        agreement: mean cosine between the differences of two different pairs, -1..1.
        accuracy: share of held-out activations on their own side of the midpoint between the means of the others,
            projected on the direction of the others.
        auc: how often a held-out positive activation projects above a negative one held out with it; a tie is a half.
        norm_ratio: length of the mean difference relative to the mean length of the activations.
        stability: mean cosine with the directions of resampled pairs, -1..1.
    """

    explained: float
    agreement: float | None
    accuracy: float | None
    auc: float | None
    norm_ratio: float
    stability: float | None


NAMES = tuple(field.name for field in fields(LayerQuality))


def quality(positive: FloatArray, negative: FloatArray, method: str) -> LayerQuality:
    """What the pairs of a layer tell about the direction that a method finds in them: see `direction_with_quality`."""
    return direction_with_quality(positive, negative, method)[1]


def direction_with_quality(positive: FloatArray, negative: FloatArray, method: str) -> tuple[FloatArray, LayerQuality]:
    """The direction that a method finds in the pairs of a layer, and how good it is.

    Held-out figures: the pairs are cut into N_FOLDS parts of neighbors (as many as there are pairs if fewer), since
    neighbors in a file are often variations of one text, and each part is held out once. Stability: N_RESAMPLES times
    as many pairs as there are are drawn with replacement, by a generator with a fixed seed; draws in which the method
    finds no direction are left out. Of more than MOST_PAIRS pairs these figures use that many, evenly spread.

    Args:
        positive: (n_pairs, n_embd) float32; may be memory-mapped. Not modified.
        negative: likewise.
        method: a name in `methods.METHODS`.

    Returns:
        the direction, as `methods.METHODS[method]` gives it, and its figures.

    Raises:
        ShapeError, InputError, DegenerateError: as the method.
    """
    rows, find = checked(positive, negative), ON_ROWS[method]
    direction = _unit(find(rows))
    few = rows if rows.n_pairs <= MOST_PAIRS else rows.take(np.linspace(0, rows.n_pairs - 1, MOST_PAIRS).astype(int))
    if method != "random":  # which draws a number for each coordinate
        few = few.coordinates()
    all_rows = few if few.n_pairs == rows.n_pairs else rows
    accuracy, auc = _held_out(few, find)
    return direction.astype(np.float32), LayerQuality(
        explained=_explained(rows, direction), agreement=_agreement(all_rows), accuracy=accuracy, auc=auc,
        norm_ratio=_norm_ratio(all_rows), stability=_stability(few, find),
    )  # fmt: skip


def _explained(rows: PairRows, direction: Floats) -> float:
    along = total = 0.0
    for block in rows.difference_blocks():
        along += float(np.square(block @ direction).sum())
        total += float(np.square(block).sum())
    return min(along / total, 1.0)


def _agreement(rows: PairRows) -> float | None:
    """From the length of the sum of the differences' directions; a pair of equal sides has none and is left out."""
    total, n = np.zeros(rows.n_embd), 0
    for block in rows.difference_blocks():
        norms = np.linalg.norm(block, axis=1)
        differs = norms > rows.noise
        total += (block[differs] / norms[differs, None]).sum(axis=0)
        n += int(differs.sum())
    return float((total @ total - n) / (n * (n - 1))) if n > 1 else None


def _norm_ratio(rows: PairRows) -> float:
    norms = sum(float(np.linalg.norm(block, axis=1).sum()) for side in rows.sides for block in blocks(side))
    return float(np.linalg.norm(rows.mean_difference())) * 2 * rows.n_pairs / norms


def _held_out(rows: PairRows, find: RowMethod) -> tuple[float | None, float | None]:
    """Accuracy and AUC; None where the method finds no direction in what is left of the pairs."""
    right = wins = comparisons = 0.0
    places = np.arange(rows.n_pairs)
    if rows.n_pairs < 2:
        return None, None
    for fold in np.array_split(places, min(N_FOLDS, rows.n_pairs)):
        others = rows.take(np.delete(places, fold))
        try:
            direction = _unit(find(others))
        except DegenerateError:
            return None, None
        between = sum(float((side @ direction).mean()) for side in others.sides) / 2
        positive, negative = (side[fold] @ direction for side in rows.sides)
        right += _count_above(positive - between, rows.noise) + _count_above(between - negative, rows.noise)
        # back from the area to the halves of comparisons that it counts, so that no rounding of the area is left
        wins += round(2 * area_under_curve(positive, negative, rows.noise) * len(fold) ** 2) / 2
        comparisons += len(fold) ** 2
    return right / (2 * rows.n_pairs), wins / comparisons


def area_under_curve(positive: Floats, negative: Floats, noise: float) -> float:
    """How often a positive number is above a negative one; two that are no more than `noise` apart are a tie: a half.

    Args:
        positive: (n,) projections.
        negative: (m,) likewise.
        noise: neighbors in order of size that are no farther apart than this count as equal.
    """
    from sklearn.metrics import roc_auc_score  # which takes longer to import than all else here

    numbers = np.concatenate([positive, negative])
    order = np.argsort(numbers)
    ranks = np.empty(len(numbers), np.intp)
    ranks[order] = np.cumsum(np.diff(numbers[order], prepend=numbers[order[0]]) > noise)
    return float(roc_auc_score(np.repeat([1, 0], [len(positive), len(negative)]), ranks))


def _count_above(differences: Floats, noise: float) -> float:
    """How many differences are above 0; one that is no more than rounding counts as a half."""
    return float((differences > noise).sum() + (np.abs(differences) <= noise).sum() / 2)


def _stability(rows: PairRows, find: RowMethod) -> float | None:
    if rows.n_pairs < 2:
        return None
    direction, cosines = _unit(find(rows)), []
    for draw in np.random.default_rng(0).integers(rows.n_pairs, size=(N_RESAMPLES, rows.n_pairs)):
        try:
            cosines.append(float(_unit(find(rows.take(draw))) @ direction))
        except DegenerateError:
            continue
    return float(np.mean(cosines)) if cosines else None


def _unit(direction: Floats) -> Floats:
    return np.asarray(direction / np.linalg.norm(direction))
