"""What an interval of 95% is worth: 1,000 seeded studies of each kind. `pytest -s` prints the table of the docs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from coverage_study import CASES, Coverage, cover, table
from places import ROOT

DOCS = ROOT / "docs" / "statistics.md"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Coverage]]:
    """Cases that are done, by name; in the end the table of the docs."""
    cases: dict[str, Coverage] = {}
    yield cases
    print("", *table(cases), sep="\n")


@pytest.fixture(scope="module", params=CASES)
def coverage(request: pytest.FixtureRequest, measured: dict[str, Coverage]) -> Coverage:
    """1,000 fits with 1,000 resamples each, ten seconds in two processes; in one where others test beside it."""
    jobs = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
    measured[request.param] = cover(CASES[request.param], jobs=jobs)
    return measured[request.param]


def test_intervals_hold_what_a_million_items_would_give(coverage: Coverage) -> None:
    """95% of 1,000 studies are uncertain by 0.7%; the bar, 92 to 97.5%, is 3.6 of that on the narrower side.

    The truth, the same fit on a million items, is itself uncertain by a hundredth of these intervals.
    """
    held = coverage.held
    assert ((held >= 0.92) & (held <= 0.975)).all(), dict(zip(coverage.parameters, held, strict=True))
    assert coverage.n_invalid <= 10  # an invalid fit holds nothing: coverage counts it as a miss


def test_intervals_are_hardly_wider_than_the_sandwich(coverage: Coverage) -> None:
    """The sandwich is the narrowest that large samples allow; below 0.95 of it, an interval would be too sure."""
    ratio = coverage.width / coverage.sandwich
    assert ((ratio > 0.95) & (ratio < 1.3)).all(), ratio


def test_the_documentation_shows_these_figures(coverage: Coverage, request: pytest.FixtureRequest) -> None:
    """Within what other versions of the libraries may draw: 2.5% of coverage are 2.5 errors of a difference."""
    rows = [line.split(" | ") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    shown = {(cells[0].removeprefix("| "), cells[1]): cells for cells in rows if len(cells) == 8}
    for i, parameter in enumerate(coverage.parameters):
        cells = shown[request.node.callspec.params["coverage"], parameter]
        assert float(cells[2]) == pytest.approx(coverage.truth[i], abs=0.002)
        assert float(cells[3].rstrip("%")) == pytest.approx(100 * coverage.held[i], abs=2.5)
        assert float(cells[6]) == pytest.approx(coverage.width[i], rel=0.05)
        ratio = coverage.width[i] / coverage.sandwich[i]
        assert float(re.sub(r"\D+$", "", cells[7])) == pytest.approx(ratio, abs=0.05)


def test_a_bad_interval_would_be_seen() -> None:
    """Intervals of 85%, taken for 95%: 300 studies are uncertain by 2%, and fail the bar."""
    held = cover(CASES["differ, B"], studies=300, confidence=0.85).held
    assert (held < 0.92).all() and (held > 0.77).all(), held
