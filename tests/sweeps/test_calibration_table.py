"""docs/calibration.md tells what is measured, and what it concludes from it is so."""

from __future__ import annotations

import pytest
from calibration_table import DOCUMENT, PLACES, TEXTS, Cells, measure, rows
from places import ModelMaker

from steercpp.sweeps.calibration import FAR, FIRST, JUMP, LAST, NEAR, TOLERANCE

pytestmark = pytest.mark.slow
Tables = dict[str, list[Cells]]


@pytest.fixture(scope="module")
def measured(model_maker: ModelMaker) -> Tables:
    return measure(model_maker("embedded-Q4_0"))


@pytest.fixture(scope="module")
def written() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def numbers(cells: Cells) -> list[float]:
    return [float(cell.replace("−", "-")) for cell in cells]


def test_the_document_says_what_is_measured(measured: Tables, written: str) -> None:
    """5% or 0.03: other processors round quantized products otherwise. calibration_table.py writes the tables."""
    for heading, named in ((PLACES, 2), (TEXTS, 1)):
        told = rows(written, heading)
        assert [row[:named] for row in told] == [list(row[:named]) for row in measured[heading]]
        for row, found in zip(told, measured[heading], strict=True):
            assert numbers(row[named:]) == pytest.approx(numbers(found[named:]), rel=0.05, abs=0.03), row[:named]


def test_what_the_document_concludes(measured: Tables) -> None:
    columns = list(zip(*(numbers(row[2:]) for row in measured[PLACES]), strict=True))
    lengths, shares, at_1, at_2, _, b_at_1, _ = columns
    assert max(lengths) / min(lengths) > 2.3 and max(shares) / min(shares) > 2.3
    assert max(at_1) - min(at_1) <= 0.01 and max(b_at_1) - min(b_at_1) <= 0.03
    lower, upper = (1.4, 1.1)  # layer 3 has half as much KL again, the others a tenth
    assert max(at_2) > lower * min(at_2) and at_2[0] < upper * at_2[1]
    texts = [numbers(row[2:]) for row in measured[TEXTS]]
    assert all(median > 2 * at_95 and at_95 > largest for median, at_95, largest in texts)
    at_95s = [at_95 for _, at_95, _ in texts]
    assert 1.8 < max(at_95s) / min(at_95s) < 3.5


def test_the_document_names_the_searchs_numbers(written: str) -> None:
    assert (FIRST, LAST, FAR, NEAR) == (1 / 128, 128, 2, 2**0.25) and (TOLERANCE, JUMP) == (0.01, 0.05)
    for words in (
        "a push of 1/128",
        "in steps of 2^(1/4)",
        "within 1% of",
        "up to 128 residual norms",
        "within 5% of",
    ):
        assert words in " ".join(written.split())
