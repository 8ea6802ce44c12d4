"""Running the code that a sweep's model has said; read this for when it runs and what is kept.

    judge_code(store, items, allow=True)              a verdict on each text of kind "code" that has none yet
    judge_run(Path("runs/code"), allow=True)          the same in a run's folder, without its model

What came of them is read by code_verdicts.py.
Nothing runs without the user's word, nor without walls (sandbox.py). The texts are in the store before, and stay there
if nothing may run; verdicts are committed as they come, so the same call goes on from there. Verdicts on the programs
that another way takes out of the same texts stand beside them under a label of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from steercpp.aliases import Floats, Progress
from steercpp.data.items import CodeItem
from steercpp.errors import RunError, SandboxError
from steercpp.judging.programs import WOLF_TIMEOUT_S, Way, program
from steercpp.judging.sandbox import Limits, Outcome, run_program, working_way
from steercpp.judging.texts import GeneratedText, Verdict
from steercpp.provenance import physical_cores
from steercpp.runs.folder import STORE
from steercpp.runs.store import Store
from steercpp.statistics.code_scores import CodeScores

# FOLD: What became of the code that a sweep's model has said, from its store; read this to score a run without a m  # noqa
CODE = "code"


def verdict_label(label: str, way: Way) -> str:
    """Under which label the verdicts on a label's texts stand, by how programs were taken out of these."""
    return label if way == "whole" else f"{label}/{way}"


def stored_code_scores(
    store: Store, strengths: Sequence[float] | Floats, *, label: str = "vector", way: Way = "whole"
) -> CodeScores | None:
    """How many answers passed at each strength; None unless all of them are there and have their verdicts."""
    verdicts = {
        (one.strength, one.item, one.sample): one.passed for one in store.verdicts(verdict_label(label, way), CODE)
    }
    texts = store.texts(label, CODE)
    rows = {float(strength): i for i, strength in enumerate(strengths)}
    passed = np.zeros((len(rows), len(store.items(CODE))), np.int64)
    judged = np.zeros_like(passed)
    n_samples = 1 + max((one.sample for one in texts), default=-1)
    for one in texts:
        found = verdicts.get((one.strength, one.item, one.sample))
        if one.strength in rows and found is not None:
            place = rows[one.strength], one.item
            passed[place] += found
            judged[place] += 1
    if not judged.size or not n_samples or (judged != n_samples).any():
        return None
    return CodeScores(np.array(list(rows), np.float64), passed, n_samples)


def failure_reasons(store: Store, *, label: str = "vector", way: Way = "whole") -> dict[float, dict[str, int]]:
    """At each strength how many answers failed for which reason, the commonest first: an error by its name alone."""
    found: dict[float, Counter[str]] = {}
    for one in store.verdicts(verdict_label(label, way), CODE):
        reasons = found.setdefault(one.strength, Counter())
        if not one.passed:
            reasons[one.reason.partition(":")[0]] += 1
    return {strength: dict(reasons.most_common()) for strength, reasons in sorted(found.items())}


NOT_ALLOWED = (
    "the model's code was not run: running it takes --allow-code-execution, in a sandbox without network, files of "
    "yours or other processes; its texts are kept, and the same command with that option goes on from there"
)
NOT_SAID = "nothing was said: the strength left float32's range"
_LONGEST_REASON = 300  # letters; a program may raise a book


def check_code_execution(allow: bool) -> str:
    """The way to start a sandbox here, if code may run.

    Raises:
        SandboxError: it may not, or no sandbox works here, and what to install.
    """
    if not allow:
        raise SandboxError(NOT_ALLOWED)
    try:
        return working_way()
    except SandboxError as error:
        raise SandboxError(f"{error}; the texts are kept, and the same command goes on from there") from error


def judge_code(
    store: Store,
    items: Sequence[CodeItem],
    *,
    allow: bool,
    label: str = "vector",
    way: Way = "whole",
    limits: Limits | None = None,
    sandbox: str | None = None,
    n_processes: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Run the programs in all texts of code items that have no verdict yet, and keep the verdicts.

    Args:
        store: holds the texts; open for writing.
        items: the problems, in the order of their numbers.
        allow: the user's word that the model's code may run.
        label: of the texts.
        way: how a program is taken out of a text, see code_answers.py.
        limits: of each program; None: `code_limits`.
        sandbox: a name in `sandbox_launch.WAYS`; None: the first that works.
        n_processes: programs at once; None: one for each core, as more would run into the limit on time.
        progress: called with (verdicts, of how many, "programs").

    Returns:
        how many texts were judged now.

    Raises:
        SandboxError: not allowed, or no sandbox works. RunError: the store cannot be written, or has a text of an
            item that there is not. What was judged stays in all cases.
    """
    name = verdict_label(label, way)
    done = {(one.strength, one.item, one.sample) for one in store.verdicts(name, CODE)}
    texts = store.texts(label, CODE)
    todo = [one for one in texts if (one.strength, one.item, one.sample) not in done]
    if not todo:
        return 0
    if any(one.item >= len(items) for one in todo):
        raise RunError(f"{store.path}: has texts of more code items than the {len(items)} that were asked")
    sandbox = sandbox or check_code_execution(allow)
    limits = limits or code_limits(way)

    def run(text: GeneratedText) -> Outcome:
        if text.finish == "nonfinite":
            return Outcome(False, NOT_SAID, "")
        source = program(items[text.item], text.text, way=way)
        return run_program(source, allow=allow, limits=limits, way=sandbox)

    n_judged = len(texts) - len(todo)
    for verdicts in _judged(_alike(todo), run, n_processes or physical_cores()):
        store.add_verdicts(name, CODE, verdicts)
        n_judged += len(verdicts)
        if progress is not None:
            progress(n_judged, len(texts), "programs")
    return len(todo)


def judge_run(
    folder: Path | str,
    *,
    allow: bool,
    way: Way = "whole",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> int:
    """Judge the code of a run's folder, for instance on a machine that has a sandbox, or by another way.

    Returns:
        how many texts were judged now.

    Raises:
        RunError: no run is there, or none with code. SandboxError: as `judge_code`.
    """
    with Store.reopen(Path(folder) / STORE) as store:
        items = [item for item in store.items(CODE) if isinstance(item, CodeItem)]
        if not items or not store.texts("vector", CODE):
            raise RunError(f"{folder}: holds no code that could be run; sweep with --task humaneval first")
        return judge_code(store, items, allow=allow, way=way, limits=limits, progress=progress)


def code_limits(way: Way) -> Limits:
    """Limits of a program by how it was taken out; the study gave each of its three steps 5 s, here 15 s together."""
    return Limits() if way == "whole" else Limits(timeout_s=3 * WOLF_TIMEOUT_S)


def _alike(texts: Sequence[GeneratedText]) -> list[list[GeneratedText]]:
    """Texts by what they say of an item: where the model says the same again, it is run once."""
    found: dict[tuple[int, str, bool], list[GeneratedText]] = {}
    for one in texts:
        found.setdefault((one.item, one.text, one.finish == "nonfinite"), []).append(one)
    return list(found.values())


def _judged(
    texts: Sequence[Sequence[GeneratedText]], run: Callable[[GeneratedText], Outcome], n_processes: int
) -> Iterator[list[Verdict]]:
    """The verdicts on texts that are alike as they come; none waits in a queue, so that Ctrl-C leaves little to do."""
    waiting = list(reversed(texts))
    running: dict[Future[Outcome], Sequence[GeneratedText]] = {}
    with ThreadPoolExecutor(n_processes) as pool:
        while waiting or running:
            while waiting and len(running) < n_processes:
                alike = waiting.pop()
                running[pool.submit(run, alike[0])] = alike
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                alike, found = running.pop(future), future.result()
                reason = _shortened(found.reason)
                yield [Verdict(one.strength, one.item, one.sample, found.passed, reason) for one in alike]


def _shortened(reason: str) -> str:
    """On one line; of a syntax error the last one, behind the place and the line of code."""
    lines = reason.strip().splitlines() or [""]
    return " ".join((lines[-1] if lines[0].startswith("File ") else reason).split())[:_LONGEST_REASON]
