"""Labels of figures: how names and numbers are written, and where a label stands beside its point.

`places` and `free_boxes` keep the labels of many points apart from each other and from what is drawn; `beside` labels a
point that stands alone; `cell_text` writes into a cell of a heat map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from steercpp.aliases import Bools, Floats
from steercpp.reports.style import INK

GAP = 3.0  # pixels between a label and anything else
NEARER = 0.7  # of the distance to any other point, at most, is a label's to its own
SIDES = ((1, 1), (0, 1), (-1, 1), (1, -1), (0, -1), (-1, -1), (1, 0), (-1, 0))  # of the point, the best first


def short_name(name: str, n_letters: int) -> str:
    """The end of a name, which says most, with nothing that matplotlib would take for mathematics."""
    printable = "".join(letter if letter.isprintable() and letter != "$" else "?" for letter in name)
    if printable.startswith("_"):  # matplotlib would leave it out of a legend
        printable = f" {printable}"
    return printable if len(printable) <= n_letters else f"…{printable[1 - n_letters :]}"


def short_names(names: Sequence[str], n_letters: int) -> list[str]:
    """Names as `short_name` has them; where their ends are alike the beginnings, and numbers where these are too."""
    ends = [short_name(name, n_letters) for name in names]
    if len(set(ends)) == len(set(names)):
        return ends
    whole = [short_name(name, len(name)) for name in names]
    starts = [name if len(name) <= n_letters else f"{name[: n_letters - 1]}…" for name in whole]
    if len(set(starts)) == len(set(names)):
        return starts
    return [f"{place} {short_name(name, n_letters - 3)}" for place, name in enumerate(names, start=1)]


def number_text(value: float, *, places: int = 2, sign: str = "+") -> str:
    """A number with a true minus sign, and none before a zero; a dash for NaN.

    Args:
        value: the number.
        places: digits behind the point.
        sign: "+" for one before every number, "-" before those below 0 alone.
    """
    return "–" if value != value else f"{round(value, places) + 0.0:{sign}.{places}f}".replace("-", "−")


def beside(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """A label at an offset from its point, in typographic points."""
    axes.annotate(text, point, xytext=offset, textcoords="offset points", **look)


def cell_text(axes: Axes, x: float, y: float, text: str, *, on_dark: bool = False, **look: Any) -> None:
    """Text in the middle of a cell of a heat map, white where the cell is dark."""
    axes.text(x, y, text, ha="center", va="center", color="white" if on_dark else INK, **look)


def places(
    points: Floats, sizes: Floats, *, order: Sequence[int], taken: Floats, crossed: Floats, frame: Floats, reach: float
) -> dict[int, tuple[float, float]]:
    """Where labels of points can stand without touching anything, each clearly beside its own point.

    All is in pixels, y upwards. Of points within `reach` of each other one has a label.

    Args:
        points: (n, 2).
        sizes: (n, 2) width and height of the label of each.
        order: indices of the points that want a label, the most important first.
        taken: (n_taken, 4) boxes left, bottom, right, top that no label may touch.
        crossed: (n_crossed, 2) places that a label should rather not lie on, such as those of thin lines.
        frame: (4,) the box in which every label must lie.
        reach: from a point to the nearest edge of its label; twice that is tried where nothing is free.

    Returns:
        left and bottom of each label that found a place.
    """
    boxes = np.concatenate([_around(points, sizes, step * reach) for step in (1.0, 2.0)], axis=1)
    offsets = points[:, None] - points
    apart = np.hypot(offsets[..., 0], offsets[..., 1]) > reach
    for i, candidates in enumerate(boxes):
        inside = (candidates[:, :2] >= frame[:2] + GAP).all(axis=1) & (candidates[:, 2:] <= frame[2:] - GAP).all(axis=1)
        distances, others = _distances(candidates, points[[i]]), _distances(candidates, points[apart[i]])
        candidates[~(inside & (distances <= NEARER * others).all(axis=1))] = np.nan
    chosen = free_boxes(boxes, order=order, taken=taken, gap=GAP, crossed=crossed, rivals=~apart)
    return {i: (float(boxes[i, k, 0]), float(boxes[i, k, 1])) for i, k in chosen.items()}


def free_boxes(
    boxes: Floats,
    *,
    order: Sequence[int],
    taken: Floats,
    gap: float = 0.0,
    crossed: Floats | None = None,
    rivals: Bools | None = None,
) -> dict[int, int]:
    """Which of its boxes each label takes, so that none touches another or what is taken; in any one unit.

    Args:
        boxes: (n, n_candidates, 4) left, bottom, right, top of where each label may be, the best first; NaN for a
            box that is out of the question.
        order: indices of the labels, the most important first.
        taken: (n_taken, 4) boxes that no label may touch.
        gap: the least distance between a label and anything else.
        crossed: (n_crossed, 2) places of which a label should cover few.
        rivals: (n, n) labels of which only one is wanted.

    Returns:
        the place of the chosen box, for each label that found one.
    """
    chosen: dict[int, int] = {}
    taken = np.asarray(taken, np.float64).reshape(-1, 4)
    for i in order:
        if rivals is not None and rivals[i, list(chosen)].any():
            continue
        possible = np.isfinite(boxes[i]).all(axis=1)
        free = np.flatnonzero(possible & ~_touch(boxes[i], taken, gap).any(axis=1))
        if len(free):
            covered = np.zeros(len(free)) if crossed is None else _n_inside(boxes[i, free], crossed)
            chosen[i] = int(free[np.argmin(covered)])
            taken = np.vstack([taken, boxes[i, chosen[i]]])
    return chosen


def _around(points: Floats, sizes: Floats, reach: float) -> Floats:
    """(n, 8, 4) boxes on every side of each point."""
    sides = np.array(SIDES, np.float64)
    diagonal = np.where((sides != 0).all(axis=1, keepdims=True), np.sqrt(0.5), 1.0)
    half = sizes[:, None] / 2
    middle = points[:, None] + sides * (reach * diagonal + half)
    return np.concatenate([middle - half, middle + half], axis=2)


def _distances(boxes: Floats, points: Floats) -> Floats:
    """(n_boxes, n_points) from the nearest edge of each to each."""
    a = boxes[:, None]
    beyond = np.maximum(np.maximum(a[..., :2] - points, points - a[..., 2:]), 0.0)
    return np.asarray(np.hypot(beyond[..., 0], beyond[..., 1]))


def _touch(boxes: Floats, others: Floats, gap: float) -> Bools:
    """(n_boxes, n_others) whether they are nearer than the gap."""
    a, b = boxes[:, None], others[None]
    return np.asarray((a[..., :2] < b[..., 2:] + gap).all(-1) & (b[..., :2] < a[..., 2:] + gap).all(-1))


def _n_inside(boxes: Floats, points: Floats) -> Floats:
    """(n_boxes,) how many of the points (n, 2) each holds."""
    a = boxes[:, None]
    return np.asarray(((points > a[..., :2]) & (points < a[..., 2:])).all(-1).sum(axis=1), np.float64)
