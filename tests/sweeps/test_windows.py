"""Windows of layers on planted models: equal costs, and the layer that was planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steercpp.aliases import Floats
from steercpp.errors import InputError
from steercpp.sweeps.windows import NEAR, best, compare_windows, windows_to_try
from steercpp.vectors.layers import Window, default_layers

ITEMS = np.linspace(0.5, 1.5, 20)


def cost(window: Window, s: float) -> float:
    """Lower layers cost more for the same push, by four orders of magnitude; beyond a push of 1 not quadratic."""
    return float(10.0 ** (4 - window[0] / 3) * s**2 / (1 + s**2))


def gains(window: Window, s: float) -> Floats:
    """Layers 7 and 8 gain most for their cost."""
    per_nat = math.exp(-((window[0] - 7) ** 2) / 4)
    return math.copysign(1, s) * per_nat * math.sqrt(cost(window, s)) * ITEMS


@pytest.mark.parametrize("sign", [1, -1])
def test_the_planted_layers_are_found_at_equal_cost(sign: int) -> None:
    tried = compare_windows(windows_to_try(16), cost=cost, gains=gains, target=0.05, first=0.05, sign=sign)
    assert all(0.05 / NEAR <= window.cost <= 0.05 * NEAR and window.strength * sign > 0 for window in tried)
    assert tried[0].strength / tried[-1].strength < 0.2 or sign < 0
    if sign > 0:
        assert best(tried).layers[0] in (7, 8)
    else:
        assert best(tried).gain_low < 0  # nothing gains on that side
    assert all(window.gain_low < window.gain for window in tried)


def test_what_costs_nothing_or_breaks_at_once_is_never_the_best() -> None:
    def strange(window: Window, s: float) -> float:
        return {1: 0.0, 2: math.nan}.get(window[0], cost(window, s))

    tried = compare_windows([(1,), (2,), (3,)], cost=strange, gains=gains, target=0.05, first=0.05, sign=1)
    assert [window.strength == 0 for window in tried] == [True, True, False] and best(tried).layers == (3,)
    assert tried[0].record()["name"] == "1"


@pytest.mark.parametrize("n_layer", [2, 3, 4, 8, 12, 30, 80])
def test_windows_lie_where_steering_can_act(n_layer: int) -> None:
    windows = windows_to_try(n_layer)
    assert windows and len(set(windows)) == len(windows) <= 24
    assert all(
        0 < il < n_layer and window == tuple(range(window[0], window[-1] + 1)) for window in windows for il in window
    )
    assert tuple(il for il in default_layers(n_layer) if il) in windows
    if n_layer >= 8:
        assert windows[0][0] == 1 and windows[-1][-1] >= n_layer - 2 - len(windows[-1])


@pytest.mark.parametrize(("windows", "target", "first"), [([], 1.0, 1.0), ([(1,)], 0.0, 1.0), ([(1,)], 1.0, -1.0)])
def test_options_that_do_not_exist(windows: list[Window], target: float, first: float) -> None:
    with pytest.raises(InputError):
        compare_windows(windows, cost=cost, gains=gains, target=target, first=first, sign=1)
