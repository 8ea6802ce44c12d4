"""Places for labels beside points, away from what is drawn already and from each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steercpp.aliases import Bools, Floats

GAP = 3.0  # pixels between a label and anything else
NEARER = 0.7  # of the distance to any other point, at most, is a label's to its own
SIDES = ((1, 1), (0, 1), (-1, 1), (1, -1), (0, -1), (-1, -1), (1, 0), (-1, 0))  # of the point, the best first


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
    found: dict[int, tuple[float, float]] = {}
    taken = np.asarray(taken, np.float64).reshape(-1, 4)
    for i in order:
        apart = np.hypot(*(points - points[i]).T) > reach
        if not apart[list(found)].all():
            continue
        boxes = np.concatenate([_around(points[i], sizes[i], step * reach) for step in (1.0, 2.0)])
        inside = (boxes[:, :2] >= frame[:2] + GAP).all(axis=1) & (boxes[:, 2:] <= frame[2:] - GAP).all(axis=1)
        own, others = _distances(boxes, points[[i]]), _distances(boxes, points[apart])
        clear = (own <= NEARER * others).all(axis=1)
        free = np.flatnonzero(inside & clear & ~_touch(boxes, taken).any(axis=1))
        if len(free):
            best = boxes[free[np.argmin(_holds(boxes[free], crossed))]]
            found[i] = float(best[0]), float(best[1])
            taken = np.vstack([taken, best])
    return found


def _around(point: Floats, size: Floats, reach: float) -> Floats:
    """(8, 4) boxes on every side of a point."""
    sides = np.array(SIDES, np.float64)
    diagonal = np.where((sides != 0).all(axis=1, keepdims=True), np.sqrt(0.5), 1.0)
    middle = point + sides * (reach * diagonal + size / 2)
    return np.hstack([middle - size / 2, middle + size / 2])


def _distances(boxes: Floats, points: Floats) -> Floats:
    """(n_boxes, n_points) from the nearest edge of each to each."""
    a = boxes[:, None]
    beyond = np.maximum(np.maximum(a[..., :2] - points, points - a[..., 2:]), 0.0)
    return np.asarray(np.hypot(beyond[..., 0], beyond[..., 1]))


def _touch(boxes: Floats, others: Floats) -> Bools:
    """(n_boxes, n_others) whether they are nearer than GAP."""
    a, b = boxes[:, None], others[None]
    return np.asarray((a[..., :2] < b[..., 2:] + GAP).all(-1) & (b[..., :2] < a[..., 2:] + GAP).all(-1))


def _holds(boxes: Floats, places: Floats) -> Floats:
    """(n_boxes,) how many of the places (n, 2) each holds."""
    a = boxes[:, None]
    return np.asarray(((places > a[..., :2]) & (places < a[..., 2:])).all(-1).sum(axis=1), np.float64)
