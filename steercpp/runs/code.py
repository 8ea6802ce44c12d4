"""Code that a sweep's model generated: when it runs, which verdicts are kept, which scores follow.

    judge_code(store, items, allow=True)              a verdict on each text of kind "code" that has none yet
    judge_run(Path("runs/code"), allow=True)          the same in a run's folder, without its model

Nothing runs without the user's word, nor without walls (judging/sandbox.py). The texts are in the store before, and
stay there if nothing may run; verdicts are committed as they come, so the same call goes on from there. Verdicts stand
under labels that name the way in which programs are taken out of texts, and the version of its rule. Those by an
earlier rule are read where there are not all by today's, and never mixed with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from steercpp.aliases import Floats, Progress
from steercpp.choices import CODE_WAYS, CodeWay
from steercpp.data.items import CodeItem, Kind
from steercpp.errors import RunError, SandboxError
from steercpp.judging.programs import WOLF_TIMEOUT_S, programs
from steercpp.judging.sandbox import ProgramOutcome, SandboxLimits, run_program, working_way
from steercpp.judging.texts import GeneratedText, Verdict
from steercpp.locks import writing
from steercpp.provenance import physical_cores
from steercpp.runs.folder import STORE
from steercpp.runs.labels import Label
from steercpp.runs.store import Store
from steercpp.statistics.code_scores import CodeScores

NOT_ALLOWED = (
    "the model's code was not run: running it takes `allow_code=True`, in a sandbox without network, files of "
    "yours or other processes; its texts are kept, and the same command with it goes on from there"
)
NO_TEXT = "no text: the strength left float32's range"
NO_ANSWER = "no answer: the text ended inside its thoughts"
RULE = 3  # version of the rules by which programs are taken out of texts and tested, one for all ways
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
    label: str = Label.VECTOR,
    way: CodeWay = "whole",
    limits: SandboxLimits | None = None,
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
        way: how a program is taken out of a text, see judging/programs.py.
        limits: of each program; None: `code_limits`.
        sandbox: a name in `sandbox.WAYS`; None: the first that works.
        n_processes: programs at once; None: one for each core, as more would run into the limit on time.
        progress: called with (verdicts, of how many, "programs").

    Returns:
        how many texts were judged now; 0 also where nothing may run and all have verdicts by an earlier rule.

    Raises:
        SandboxError: not allowed, or no sandbox works. RunError: the store cannot be written, or has a text of an
            item that there is not. What was judged stays in all cases.
    """
    name = verdict_label(label, way)
    done = {(verdict.strength, verdict.item, verdict.sample) for verdict in store.verdicts(name, Kind.CODE)}
    texts = store.texts(label, Kind.CODE)
    todo = [text for text in texts if (text.strength, text.item, text.sample) not in done]
    if not todo or (not allow and len(stored_verdicts(store, label, way)) == len(texts)):
        return 0
    if any(text.item >= len(items) for text in todo):
        raise RunError(f"{store.path}: has texts of more code items than the {len(items)} that were asked")
    sandbox = sandbox or check_code_execution(allow)
    limits = limits or code_limits(way)

    def run(text: GeneratedText) -> ProgramOutcome:
        if text.finish == "nonfinite":
            return ProgramOutcome(False, NO_TEXT, "")
        if text.reply.unfinished:
            return ProgramOutcome(False, NO_ANSWER, "")
        outcomes = []
        for source in programs(items[text.item], text.whole, way=way):
            outcomes.append(run_program(source, allow=allow, limits=limits, way=sandbox))
            if outcomes[-1].passed:
                return outcomes[-1]
        return outcomes[0]

    n_judged = len(texts) - len(todo)
    for verdicts in _judged(_alike(todo), run, n_processes or physical_cores()):
        store.add_verdicts(name, Kind.CODE, verdicts)
        n_judged += len(verdicts)
        if progress is not None:
            progress(n_judged, len(texts), "programs")
    return len(todo)


def judge_run(
    folder: Path | str,
    *,
    allow: bool,
    way: CodeWay = "whole",
    limits: SandboxLimits | None = None,
    progress: Progress | None = None,
) -> int:
    """Judge the code of a run's folder, for instance on a machine that has a sandbox, or by another way.

    Returns:
        how many texts were judged now.

    Raises:
        RunError: no run is there, or none with code, or another process writes there. SandboxError: as `judge_code`.
    """
    folder = Path(folder)
    with writing(folder, otherwise=""), Store.reopen(folder / STORE) as store:
        items = [item for item in store.items(Kind.CODE) if isinstance(item, CodeItem)]
        if not items or not store.texts(Label.VECTOR, Kind.CODE):
            raise RunError(f"{folder}: holds no code that could be run; sweep `code` items first")
        return judge_code(store, items, allow=allow, way=way, limits=limits, progress=progress)


def code_limits(way: CodeWay) -> SandboxLimits:
    """Limits of a program by how it was taken out; the study gave each of its three steps 5 s, here 15 s together."""
    return SandboxLimits() if way == "whole" else SandboxLimits(timeout_s=3 * WOLF_TIMEOUT_S)


def _alike(texts: Sequence[GeneratedText]) -> list[list[GeneratedText]]:
    """Texts that are the same for the same item: they are run once."""
    groups: dict[tuple[int, str, bool], list[GeneratedText]] = {}
    for text in texts:
        groups.setdefault((text.item, text.whole, text.finish == "nonfinite"), []).append(text)
    return list(groups.values())


def _judged(
    texts: Sequence[Sequence[GeneratedText]], run: Callable[[GeneratedText], ProgramOutcome], n_processes: int
) -> Iterator[list[Verdict]]:
    """The verdicts on texts that are alike as they come; none waits in a queue, so that Ctrl-C leaves little to do."""
    waiting = list(reversed(texts))
    running: dict[Future[ProgramOutcome], Sequence[GeneratedText]] = {}
    with ThreadPoolExecutor(n_processes) as pool:
        while waiting or running:
            while waiting and len(running) < n_processes:
                alike = waiting.pop()
                running[pool.submit(run, alike[0])] = alike
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                alike, outcome = running.pop(future), future.result()
                reason = _shortened(outcome.reason)
                yield [Verdict(text.strength, text.item, text.sample, outcome.passed, reason) for text in alike]


def _shortened(reason: str) -> str:
    """On one line; of a syntax error the last one, behind the place and the line of code."""
    lines = reason.strip().splitlines() or [""]
    return " ".join((lines[-1] if lines[0].startswith("File ") else reason).split())[:_LONGEST_REASON]


def verdict_label(label: str, way: CodeWay) -> str:
    """Under which label the verdicts on a label's texts stand, by how programs were taken out of these."""
    return f"{label}/{way}-{RULE}"


def earlier_labels(label: str, way: CodeWay) -> tuple[str, ...]:
    """The same in runs of earlier versions, the latest first; before the rules had numbers there was none in it."""
    numbered = (f"{label}/{way}-{rule}" for rule in range(RULE - 1, 1, -1))
    return (*numbered, label if way == "whole" else f"{label}/{way}")


def stored_verdicts(store: Store, label: str, way: CodeWay) -> tuple[Verdict, ...]:
    """The verdicts on a label's texts: by today's rule, or by an earlier one that has judged more of them."""
    labels = (verdict_label(label, way), *earlier_labels(label, way))
    return max((store.verdicts(one, Kind.CODE) for one in labels), key=len)  # the first of those with the most


def judged_by_earlier_rule(store: Store, *, label: str = Label.VECTOR) -> bool:
    """Whether verdicts that are read are by an earlier version's rule, in one of the ways."""
    return any(
        stored_verdicts(store, label, way) != store.verdicts(verdict_label(label, way), Kind.CODE) for way in CODE_WAYS
    )


def stored_code_scores(
    store: Store, strengths: Sequence[float] | Floats, *, label: str = Label.VECTOR, way: CodeWay = "whole"
) -> CodeScores | None:
    """How many answers passed at each strength; None unless all of them are there and have their verdicts."""
    verdicts = stored_verdicts(store, label, way)
    has_passed = {(verdict.strength, verdict.item, verdict.sample): verdict.passed for verdict in verdicts}
    texts = store.texts(label, Kind.CODE)
    rows = {float(strength): i for i, strength in enumerate(strengths)}
    passed = np.zeros((len(rows), len(store.items(Kind.CODE))), np.int64)
    judged = np.zeros_like(passed)
    n_samples = 1 + max((text.sample for text in texts), default=-1)
    for text in texts:
        verdict = has_passed.get((text.strength, text.item, text.sample))
        if text.strength in rows and verdict is not None:
            place = rows[text.strength], text.item
            passed[place] += verdict
            judged[place] += 1
    if not judged.size or not n_samples or (judged != n_samples).any():
        return None
    return CodeScores(np.array(list(rows), np.float64), passed, n_samples)


def failure_reasons(store: Store, *, label: str = Label.VECTOR, way: CodeWay = "whole") -> dict[float, dict[str, int]]:
    """At each strength how many answers failed for which reason, the commonest first: an error by its name alone."""
    counters: dict[float, Counter[str]] = {}
    for verdict in stored_verdicts(store, label, way):
        reasons = counters.setdefault(verdict.strength, Counter())
        if not verdict.passed:
            reasons[verdict.reason.partition(":")[0]] += 1
    return {strength: dict(reasons.most_common()) for strength, reasons in sorted(counters.items())}
