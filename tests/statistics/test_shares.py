"""Bounds of shares near their ends: known formulas, what they hold, and that they are no wider than they must be."""

from __future__ import annotations

import numpy as np
import pytest
from places import ROOT
from scipy import stats
from share_coverage import CASES, N_ITEMS, SHARES, Held, planted_scores, table

from steercpp.statistics.code_scores import CodeScores
from steercpp.statistics.shares import difference_bounds, mean_bounds, share_bounds

DOCS = ROOT / "docs" / "statistics.md"
ALONE = "pass@1, four answers, resampling alone"


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, int], list[Held]]:
    """Some ten seconds."""
    measured = {(name, n): case(n) for name, case in CASES.items() for n in N_ITEMS}
    print("", *table(measured), sep="\n")
    return measured


def test_none_of_a_hundred_has_the_exact_bound() -> None:
    """What broke: 100 of 100 aligned gave B the interval [1, 1], and 164 problems without a pass [0, 0]."""
    texts = planted_scores(np.ones((1, 100)), np.zeros((1, 100)), 1).bounds(rng=np.random.default_rng(0))
    exact = stats.binomtest(100, 100).proportion_ci(0.95, method="exact")
    assert texts.b_low[0] == pytest.approx(2 * exact.low - 1) and texts.b_high[0] == 1
    for n_samples in (1, 16):
        code = CodeScores(np.zeros(1), np.zeros((1, 164), int), n_samples).interval(1, rng=np.random.default_rng(0))
        assert code is not None and code.low[0] == 0
        assert code.high[0] == pytest.approx(stats.binomtest(0, 164).proportion_ci(0.95, method="exact").high)


@pytest.mark.parametrize(("k", "n"), [(1, 60), (7, 60), (30, 60), (99, 100)])
def test_bounds_are_where_half_of_as_many_counts(k: int, n: int) -> None:
    low, high = (float(end[0]) for end in share_bounds(np.array([k / n]), np.array([float(n)]), tail=0.025))
    assert stats.binom.sf(k, n, low) + stats.binom.pmf(k, n, low) / 2 == pytest.approx(0.025)
    assert stats.binom.cdf(k - 1, n, high) + stats.binom.pmf(k, n, high) / 2 == pytest.approx(0.025)


def test_texts_that_go_together_count_once() -> None:
    """All four texts of an item alike: as one text an item. Apart: nearly as four times the items."""
    together = np.zeros((1, 60))
    together[0, :12] = 1
    one, _ = mean_bounds(together, tail=0.025), mean_bounds(together, tail=0.025, cases=4)
    np.testing.assert_allclose(mean_bounds(together, tail=0.025, cases=4), one, rtol=0.05)  # t of 36 for the normal
    apart = np.zeros((1, 60))
    apart[0, :48] = 0.25
    low, high = mean_bounds(apart, tail=0.025, cases=4)
    assert 0.45 < (high - low)[0] / (one[1] - one[0])[0] < 0.55


@pytest.mark.parametrize(("n_items", "n_answers"), [(100, 10), (164, 20)])
def test_many_answers_of_which_few_pass(n_items: int, n_answers: int) -> None:
    """pass@1 of 1% where problems differ: three degrees of freedom for each solved problem held 90%."""
    rng = np.random.default_rng(n_answers)
    solved = rng.binomial(n_answers, rng.beta(0.01, 0.99, (3000, n_items)))
    low, high = mean_bounds(solved / n_answers, tail=0.025, cases=n_answers)
    held = ((low <= 0.01) & (high >= 0.01)).mean()
    assert held > 0.925  # 95% to within 0.4%


def test_thirds_that_do_not_add_up_are_none() -> None:
    rest = np.full((1, 100), 1 - 1 / 3 - 2 / 3)
    assert rest.max() > 0
    np.testing.assert_allclose(mean_bounds(rest, tail=0.025, cases=3)[1], 1 - 0.025 ** (1 / 100))


def test_nothing_said_is_no_difference() -> None:
    """All of 100 texts invalid: B is 0, and either share may be as large as the exact bound of none."""
    low, high = difference_bounds(np.zeros((1, 100)), np.zeros((1, 100)), confidence=0.95)
    assert high[0] == -low[0] == pytest.approx(1 - 0.025 ** (1 / 100))


@pytest.mark.slow
@pytest.mark.parametrize("n", N_ITEMS)
@pytest.mark.parametrize("name", [name for name in CASES if name != ALONE])
def test_intervals_hold_the_truth_near_the_ends(found: dict[tuple[str, int], list[Held]], name: str, n: int) -> None:
    """1,500 studies tell 95% to within 0.6%, and 92% is five of that below; one text an item is exact.

    Above 95% near the ends, for counts are whole numbers: with half a case expected, none is met in 61% of studies
    and at most one in 91%, so that an interval that holds at 2 cases, too, holds in 98.6%.
    """
    held = [one.held for one in found[name, n]]
    assert min(held) >= 0.92, held
    assert max(held[-2:]) <= 0.975, "nor more than asked for where counts are many"


@pytest.mark.slow
@pytest.mark.parametrize("n", N_ITEMS)
def test_resampling_alone_does_not(found: dict[tuple[str, int], list[Held]], n: int) -> None:
    assert min(one.held for one in found[ALONE, n]) < 0.8, "or the studies could not tell a bad interval"


@pytest.mark.slow
@pytest.mark.parametrize("n", N_ITEMS)
def test_intervals_are_hardly_wider_in_the_middle(found: dict[tuple[str, int], list[Held]], n: int) -> None:
    """The wider of two ends that scatter apart by a percent or two, and that of resampling 300 times only."""
    at = SHARES.index(0.3)
    assert found["pass@1, four answers", n][at].width < 1.06 * found[ALONE, n][at].width
    assert found["B, one text", n][at].width < 1.02 * 2 * 1.96 * np.sqrt((1 - 0.4**2) / n)


@pytest.mark.slow
def test_the_documentation_shows_these_figures(found: dict[tuple[str, int], list[Held]]) -> None:
    """Within four errors of a difference where items are drawn, with other versions of the libraries; else exactly."""
    rows = [line.strip("| ").split(" | ") for line in DOCS.read_text(encoding="utf-8").splitlines()]
    shown = {(cells[0], cells[1]): cells[2:] for cells in rows if len(cells) == 2 + len(SHARES)}
    for (name, n), each in found.items():
        figures = [float(cell.rstrip("%")) / 100 for cell in shown[name, str(n)]]
        room = 0.0006 if "one text" in name else 0.04 if name == ALONE else 0.025
        np.testing.assert_allclose(figures, [one.held for one in each], atol=room)
