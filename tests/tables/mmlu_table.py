"""What 41 strengths of 100 multiple-choice questions cost in one sweep: measured here, told by docs/mmlu.md.

`make table NAME=mmlu DATA=...` writes the table into the document, on a machine as idle as can be; it takes about ten
minutes. Tokens and token-layers are the same everywhere, and a test compares them; seconds are of one machine.
"""

from __future__ import annotations

import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from places import ROOT

from steercpp.bench.setting import PlainLoop
from steercpp.data.items import ChoiceItem
from steercpp.data.sets.embedded import load
from steercpp.data.sets.names import task_items
from steercpp.engine.batch import Batch
from steercpp.engine.engine import Engine
from steercpp.extraction.extract import extract
from steercpp.provenance import physical_cores
from steercpp.runs.result import SweepResult
from steercpp.sweeps.strengths import grid
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.work import choice_work
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import read_vector

DOCUMENT = ROOT / "docs" / "mmlu.md"
STRENGTHS = grid("-2:2:0.1")
N_QUESTIONS = 100
N_CTX = 2048  # the embedded model was trained with 512
SUBJECTS = ("international_law", "computer_security", "medical_genetics")
SHOTS = (0, 5)
TIMED = (-1.0, 0.1, 2.0)  # of the plain loop, whose strengths all cost the same
HEADING = (
    "| questions | shots | longest prompt | tokens a strength, shared | apart "
    "| token-layers, sweep | plain loop | ratio | seconds, sweep | plain loop | ratio |"
)


@dataclass(frozen=True, slots=True)
class Questions:
    """What one row of the table asks."""

    words: str
    shots: int
    items: tuple[ChoiceItem, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of one pass: of the longest prompt, of all questions packed, and apart; blocks, the first steered one."""

    longest: int
    shared: int
    apart: int
    n_layer: int
    first_layer: int

    @property
    def swept(self) -> int:
        """Token-layers of the sweep: one whole pass, and 40 above the first steered layer."""
        return self.shared * (self.n_layer + (len(STRENGTHS) - 1) * (self.n_layer - self.first_layer - 1))

    @property
    def plain(self) -> int:
        """Token-layers of a loop over strengths and questions."""
        return self.apart * self.n_layer * len(STRENGTHS)


def own_questions() -> Questions:
    """25 of each of the embedded model's own four subjects."""
    items = load().choice()
    subjects = sorted({item.subject for item in items})
    each = N_QUESTIONS // len(subjects)
    chosen = [item for subject in subjects for item in [one for one in items if one.subject == subject][:each]]
    return Questions(f"the model's own: {', '.join(subjects)}", 0, tuple(chosen))


def real_questions(data: Path) -> Iterator[Questions]:
    """The first 100 of each real subject, alone and after five solved ones."""
    for subject in SUBJECTS:
        for shots in SHOTS:
            items = task_items(f"mmlu:{subject}", data=data, limit=N_QUESTIONS, shots=shots)
            yield Questions(subject.replace("_", " "), shots, cast("tuple[ChoiceItem, ...]", items))


def counted(engine: Engine, asked: Questions) -> Counts:
    """What a sweep of these decodes, without decoding anything."""
    work = choice_work(engine, asked.items)
    longest = max(len(query.tokens) for query in work.queries)
    return Counts(longest, work.n_tokens, work.n_tokens_plain, engine.n_layer, load().layers[0])


def own_vector(engine: Engine) -> ControlVector:
    """The embedded model's refusal vector, of unit length."""
    return extract(engine, load().pairs(), layers=load().layers)


def swept(engine: Engine, vector: ControlVector, asked: Questions, folder: Path) -> SweepResult:
    """One sweep of all strengths, without controls."""
    return sweep(
        engine, vector, choice=asked.items, strengths=STRENGTHS, out=folder, unit="norm",
        random_directions=0, orthogonal=False, prompt_baseline=False,
    )  # fmt: skip


def row(asked: Questions, n: Counts, seconds: tuple[float, float] | None) -> str:
    """A line of the table; without seconds what a test can compare."""
    cells = [asked.words, str(asked.shots), f"{n.longest:,}", f"{n.shared:,}", f"{n.apart:,}"]
    cells += [f"{n.swept:,}", f"{n.plain:,}", f"{n.swept / n.plain:.3f}"]
    if seconds:
        ours, plain = seconds
        cells += [f"{ours:.1f}", f"{plain:.0f}", f"{ours / plain:.3f}"]
    return f"| {' | '.join(cells)} |"


def timed(engine: Engine, vector: ControlVector, asked: Questions) -> tuple[float, float]:
    """Seconds of the sweep, as a user waits for them; and of the plain loop, from some of its strengths."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = swept(engine, vector, asked, Path(folder) / "run")
        ours = time.perf_counter() - start
        scaled = read_vector(result.vector_path)
    work = choice_work(engine, asked.items)
    alone: list[Batch] = [batch for query in work.queries for batch in engine.pack([query])]
    each = []
    with PlainLoop(engine) as plain:
        plain.logprobs(alone[:3], scaled, TIMED[0])  # a warm start
        for strength in TIMED:
            start = time.perf_counter()
            plain.logprobs(alone, scaled, strength)
            each.append(time.perf_counter() - start)
    return ours, statistics.median(each) * len(STRENGTHS)


def table(lines: Sequence[str]) -> str:
    """The whole table."""
    n_columns = HEADING.count("|") - 1
    return "\n".join([HEADING, f"| --- |{' ---: |' * (n_columns - 1)}", *lines])


def document(text: str, lines: Sequence[str], machine: str) -> str:
    """The document with its table and the words about the machine made anew."""
    for name, new in (("table", table(lines)), ("machine", machine)):
        marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(\n<!-- {name} ends -->)", re.DOTALL)
        assert len(marks.findall(text)) == 1, name
        text = marks.sub(lambda match, new=new: match[1] + new + match[2], text)  # type: ignore[misc]
    return text


def measured(data: Path) -> list[str]:
    """All lines, with seconds; tells each as soon as it is there."""
    lines = []
    with Engine(load().path, n_ctx=N_CTX, threads=1) as engine:
        vector = own_vector(engine)
        for asked in (own_questions(), *real_questions(data)):
            lines.append(row(asked, counted(engine, asked), timed(engine, vector, asked)))
            print(lines[-1], flush=True)
    return lines


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    told = (
        f"Seconds: {_cpu()}, one thread of {physical_cores()} cores, no GPU;\n"
        f"those of the loop from the median of {len(TIMED)} strengths."
    )
    text = document(DOCUMENT.read_text(encoding="utf-8"), measured(Path(sys.argv[1])), told)
    DOCUMENT.write_text(text, encoding="utf-8")
