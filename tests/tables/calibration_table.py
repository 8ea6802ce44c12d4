"""What a calibrated strength is and does on the embedded model: measured here, told by docs/calibration.md.

`make table NAME=calibration` writes the tables into the document; a test compares them with what is measured.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from places import EMBEDDED, ROOT
from tiny_model import quantize

from steercpp.data.sets.embedded import load
from steercpp.engine.engine import Engine
from steercpp.extraction.extract import extract
from steercpp.sweeps.calibration import calibrate, in_kl_units
from steercpp.sweeps.calibration_texts import item_texts, pair_texts
from steercpp.sweeps.token_kl import TokenKl
from steercpp.sweeps.work import Work, behavior_work
from steercpp.vectors.control_vector import ControlVector

DOCUMENT = ROOT / "docs" / "calibration.md"
PLACES = "| model | layers | length | share | KL at 1 | KL at 2 | B at −1 | B at 1 | B at 2 |"
TEXTS = "| texts | tokens | median | 95% | largest |"
LAYERS = ((5, 6), (6,), (3,))
QUANTILES = (0.5, 0.95, 1.0)

Cells = Sequence[str]


def measure(quantized: Path) -> dict[str, list[Cells]]:
    """The rows of both tables, by their headings.

    Args:
        quantized: the embedded model in Q4_0.
    """
    own = load()
    with Engine(own.path, threads=1) as engine:
        whole = extract(engine, own.pairs(), layers=sorted({il for layers in LAYERS for il in layers}))
        texts = list(_texts(engine, whole.restricted_to(own.layers)))
        places = list(_places(engine, "Q8_0, as it comes", whole))
    with Engine(quantized, threads=1) as engine:
        places += _places(engine, "Q4_0", whole)
    return {PLACES: places, TEXTS: texts}


def _places(engine: Engine, name: str, whole: ControlVector) -> Iterator[Cells]:
    """What strength 1 is at some layers, with the same directions everywhere, and the changes of mean B."""
    items = load().behavior()[:32]
    work, prompts = behavior_work(engine, items), item_texts(engine, items)
    for layers in LAYERS:
        vector, found = in_kl_units(engine, whole.restricted_to(layers), prompts)
        meter = TokenKl.of(engine, vector, prompts)
        kl = [float(np.quantile(meter.at(s), 0.95)) for s in (1.0, 2.0)]
        il = max(found.shares, key=lambda il: found.shares[il])
        before = _mean_b(engine, work, vector, 0.0)
        b = [_mean_b(engine, work, vector, s) - before for s in (-1.0, 1.0, 2.0)]
        where = ", ".join(map(str, layers))
        shown = [f"{found.lengths[il]:.0f}", f"{found.shares[il]:.3f}", *(f"{x:.2f}" for x in kl)]
        yield [name, where, *shown, *(f"{x:+.2f}".replace("-", "−") for x in b)]


def _mean_b(engine: Engine, work: Work, vector: ControlVector, strength: float) -> float:
    """Mean normalized B."""
    aligned, both = np.zeros(len(work.items)), np.zeros(len(work.items))
    sides: list[list[bool]] = [[] for _ in work.items]
    for part in work.continuations:
        sides[part.item].append(part.side == "aligned")
    for batch in work.batches:
        for item, logprobs in zip(
            batch.members, engine.logprobs(batch, vector=vector, strengths=strength), strict=True
        ):
            aligned[item], both[item] = np.exp(logprobs[sides[item]]).sum(), np.exp(logprobs).sum()
    return float((2 * aligned / both - 1).mean())


def _texts(engine: Engine, vector: ControlVector) -> Iterator[Cells]:
    """The strength at which each quantile is 0.1 nat, on different texts."""
    own = load()
    kinds = {
        "behavior items": item_texts(engine, own.behavior()[:32]),
        "contrast pairs": pair_texts(engine, own.pairs()[:16]),
        "choice items": item_texts(engine, own.choice()[:16]),
    }
    for name, texts in kinds.items():
        found = [calibrate(engine, vector, texts, quantile=quantile) for quantile in QUANTILES]
        yield [name, str(found[0].n_tokens), *(f"{one.strength:.0f}" for one in found)]


def rows(text: str, heading: str) -> list[Cells]:
    """The rows that a document has under a heading."""
    table = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def document(text: str, measured: dict[str, list[Cells]]) -> str:
    """The document with these tables."""
    for heading, cells in measured.items():
        ruler = re.sub(r"[^|]+", "---", heading)
        table = "\n".join([heading, ruler, *("| " + " | ".join(row) + " |" for row in cells)])
        start = text.index(heading)
        stop = text.index("\n\n", start)
        text = text[:start] + table + text[stop:]
    return text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = measure(quantize(EMBEDDED, Path(folder, "q4_0.gguf"), "Q4_0"))
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), found), encoding="utf-8")
