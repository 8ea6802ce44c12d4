"""llama.cpp's own tools beside the engine, on the same model file: llama-perplexity, llama-bench, llama-completion.

A tool loads the model again for every strength. What it takes for that is told apart, and left out of the ratios that
something is promised of.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from steercpp.bench.generation import N_PROMPT, N_TOKENS, WRITING_STRENGTHS, one_after_the_other, side_by_side
from steercpp.bench.hook import prompt_pass
from steercpp.bench.result import (
    Comparison,
    Fact,
    Figure,
    Line,
    Side,
    Skipped,
    Timed,
    at_least,
    take_turns,
    time_ratio,
    work_ratio,
)
from steercpp.bench.setting import Setting
from steercpp.bench.sweeps import OURS, STRENGTHS, choice_queries, resumed
from steercpp.bench.tasks import perplexity_tasks, questions
from steercpp.errors import EngineError
from steercpp.files import write_atomically
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

WHERE = "name the folder of llama.cpp's tools with `llama_bin`"

_VECTOR, _TASKS = "vector.gguf", "tasks.bin"  # without a path: a colon in it would end the name for llama.cpp
_TRIES = 20  # llama.cpp does not wait for its log to be written: where a tool ends at once, its times may be lost
_TOTAL = re.compile(r"total time =\s*([0-9.]+) ms")
_PROMPT = re.compile(r"prompt eval time =.*/\s*([0-9]+) tokens")
_SINGLE = re.compile(r"\beval time =.*/\s*([0-9]+) runs")
_TASK = re.compile(r"^([0-9]+)\t([0-9.]+)$", re.MULTILINE)


def compare_perplexity(setting: Setting) -> Line:
    """The same 12 questions at 17 strengths by llama-perplexity --multiple-choice, run once per strength."""
    path = setting.tool("llama-perplexity")
    if path is None:
        return missing(setting, "llama-perplexity")
    vector = setting.vector(setting.layers(11, 13, 22))
    items = questions(setting.words, 12, np.random.default_rng(1))
    with _folder(vector) as name, setting.engine(n_ctx=2048) as engine:
        folder = Path(name)
        write_atomically(folder / _TASKS, perplexity_tasks(items))
        tool = _Tool(path, folder, [*_common(setting), "--binary-file", _TASKS, "--multiple-choice"])
        work: dict[str, int] = {}
        ours: list[list[bool]] = []
        theirs: list[list[bool]] = []
        answers = np.array([item.answer for item in items])

        def sweep() -> None:
            before = engine.token_layers
            batches = engine.pack(choice_queries(engine, setting, 12))
            table = resumed(engine, batches, vector, STRENGTHS)
            order = np.argsort([member for batch in batches for member in batch.members])
            ours[:] = [(row.reshape(12, -1)[order].argmax(axis=1) == answers).tolist() for row in table]
            work[OURS] = engine.token_layers - before

        def by_tool() -> float:
            runs = [tool.run(*_steered(strength)) for strength in STRENGTHS]
            theirs[:] = [_right(printed) for _, printed in runs]
            return sum(seconds for seconds, _ in runs)

        timed = take_turns({OURS: sweep, path.name: by_tool}, setting.rounds(3), tick=setting.tick)
    agreeing = int(sum(np.sum(np.array(a) == np.array(b)) for a, b in zip(ours, theirs, strict=True)))
    facts: dict[str, Fact] = {
        "questions": len(items), "strengths": len(STRENGTHS), "answers judged alike": f"{agreeing} of {12 * 17}",
    }  # fmt: skip
    title = f"A sweep by llama-perplexity: {len(items)} questions, {len(STRENGTHS)} strengths"
    return _compared(setting, title, timed, work, tool, facts, runs=len(STRENGTHS), least=1.6)


def compare_completion(setting: Setting) -> Line:
    """The same texts by llama-completion, run once per strength."""
    path = setting.tool("llama-completion")
    if path is None:
        return missing(setting, "llama-completion")
    vector = setting.vector(setting.layers(11, 13, 22))
    prompt = " ".join(setting.words[: N_PROMPT - 1])  # and the begin-of-sequence token
    with _folder(vector) as folder, setting.engine(n_ctx=2048) as engine:
        greedy = ["--no-conversation", "--no-display-prompt", "--ignore-eos", "--temp", "0"]
        wanted = ["--prompt", prompt, "--n-predict", str(N_TOKENS)]
        tool = _Tool(path, Path(folder), [*_common(setting), *greedy, *wanted])
        work: dict[str, int] = {}
        apart = f"{OURS}, one after the other"
        sides: dict[str, Callable[[], float | None]] = {
            OURS: lambda: _keep(work, OURS, side_by_side(engine, prompt, vector, WRITING_STRENGTHS)),
            apart: lambda: _keep(work, apart, one_after_the_other(engine, prompt, vector, WRITING_STRENGTHS)),
            path.name: lambda: sum(tool.run(*_steered(strength))[0] for strength in WRITING_STRENGTHS),
        }
        timed = take_turns(sides, setting.rounds(3), tick=setting.tick)
    facts: dict[str, Fact] = {"strengths": len(WRITING_STRENGTHS), "tokens of each": N_TOKENS}
    title = f"Texts by llama-completion: {len(WRITING_STRENGTHS)} strengths, {N_TOKENS} tokens after {N_PROMPT}"
    return _compared(setting, title, timed, work, tool, facts, runs=len(WRITING_STRENGTHS))


def compare_llama_bench(setting: Setting) -> Line:
    """A prompt of 512 tokens and 64 single ones, with the hook idle, beside what llama-bench measures."""
    path = setting.tool("llama-bench")
    if path is None:
        return missing(setting, "llama-bench")
    tokens = [int(token) for token in setting.rng.integers(259, setting.shape.n_vocab, size=512)]
    with setting.engine(n_ctx=512, n_batch=512) as engine:
        # of one sequence and as many cells as llama-bench's: llama.cpp takes longer for a step where it could hold more
        session, short = (engine.open_session(n_seq_max=1, n_ctx=n_ctx) for n_ctx in (512, 64))
        prompt = prompt_pass(tokens, n_batch=512)
        steps = [prompt_pass(tokens[:1]) for _ in range(64)]
        for position, step in enumerate(steps):
            step.positions.setflags(write=True)
            step.positions[0] = position

        # llama-bench times a run behind a warm-up of the same kind in its own process; so is each of these
        def prefill() -> float:
            session.decode(prompt)
            began = time.perf_counter()
            session.decode(prompt)
            return time.perf_counter() - began

        def decode() -> float:
            short.decode(steps[0])
            began = time.perf_counter()
            for position, step in enumerate(steps):
                short.decode(step, fresh=position == 0)
            return time.perf_counter() - began

        sides = {
            "prefill, steercpp": prefill,
            "prefill, llama-bench": lambda: _benched(path, setting, "-p", "512", "-n", "0"),
            "decode, steercpp": decode,
            "decode, llama-bench": lambda: _benched(path, setting, "-p", "0", "-n", "64"),
        }
        timed = take_turns(sides, setting.rounds(5), warm_ups=1, tick=setting.tick)
    made = tuple(Side(name, seconds) for name, seconds in timed.items())
    figures = [time_ratio(made, f"{what}, steercpp", f"{what}, llama-bench") for what in ("prefill", "decode")]
    for what, n_tokens in (("prefill", 512), ("decode", 64)):
        figures += [
            Figure(f"tokens a second, {what}, {who}", n_tokens / timed[f"{what}, {who}"].median)
            for who in ("steercpp", "llama-bench")
        ]
    title = "Beside llama-bench: a prompt of 512 tokens, 64 single ones"
    facts: dict[str, Fact] = {"llama-bench": version(path)}
    return Comparison(setting.name, title, setting.model, made, tuple(figures), facts)


def _compared(
    setting: Setting,
    title: str,
    timed: dict[str, Timed],
    work: dict[str, int],
    tool: _Tool,
    facts: dict[str, Fact],
    *,
    runs: int,
    least: float | None = None,
) -> Comparison:
    """The comparison with a tool that was run so often in each round, with its loads apart."""
    name = tool.path.name
    loads = statistics.median(sum(tool.loads[i : i + runs]) for i in range(0, len(tool.loads), runs))
    work |= {name: sum(tool.n_tokens[:runs]) * setting.shape.n_layer}
    made = tuple(Side(side, seconds, work[side]) for side, seconds in timed.items())
    promise = None if least is None else setting.promised(at_least(least))
    with_loads = (timed[name].median + loads) / timed[OURS].median
    figures = (
        time_ratio(made, name, OURS, promise),
        work_ratio(made, name, OURS),
        Figure(f"seconds of its {runs} model loads", loads),
        Figure(f"{name} with its loads / {OURS}", with_loads),
    )
    return Comparison(setting.name, title, setting.model, made, figures, facts | {name: version(tool.path)})


def _keep(work: dict[str, int], name: str, token_layers: int) -> None:
    work[name] = token_layers


def _decoded(log: str) -> int:
    """Tokens that a tool says it decoded; it says 1 where it decoded no single ones."""
    prompt, single = _PROMPT.search(log), _SINGLE.search(log)
    n_single = int(single[1]) if single else 0
    return (int(prompt[1]) if prompt else 0) + (n_single if n_single > 1 else 0)


def _folder(vector: ControlVector) -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="steercpp-bench-")
    write_vector(Path(made.name) / _VECTOR, vector)
    return made


def _common(setting: Setting) -> list[str]:
    """Model and threads; and the tool's times, which it only tells when asked twice."""
    where = ["--model", str(setting.path.resolve()), "--gpu-layers", gpu_layers(setting)]
    return [*where, "--threads", str(setting.threads), "--perf", "--verbosity", "4"]


def _steered(strength: float) -> Sequence[str]:
    return ("--control-vector-scaled", f"{_VECTOR}:{strength:g}") if strength else ()


def _right(printed: str) -> list[bool]:
    """Which questions were answered right, from the running share of right answers in percent."""
    right = [0, *(round(int(n) * float(share) / 100) for n, share in _TASK.findall(printed))]
    return [after > before for before, after in zip(right[:-1], right[1:], strict=True)]


def _benched(path: Path, setting: Setting, *what: str) -> float:
    """Seconds that llama-bench measures for one run after its own warm-up."""
    ended = subprocess.run(
        [
            str(path), "-m", str(setting.path), "-t", str(setting.threads), "-ngl", gpu_layers(setting),
            "-fa", setting.flash_attn, "-r", "1", "-o", "json", *what,
        ],
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    try:
        return float(json.loads(ended.stdout)[0]["samples_ns"][0]) / 1e9
    except (ValueError, LookupError) as error:
        raise failed(path, ended.returncode, ended.stderr) from error


@dataclass(slots=True)
class _Tool:
    """One tool, run in a folder that holds the vector, always with these arguments.

    Of every run, `loads` are the seconds that went into loading the model, and `n_tokens` the tokens it decoded.
    """

    path: Path
    folder: Path
    arguments: list[str]
    loads: list[float] = field(default_factory=list)
    n_tokens: list[int] = field(default_factory=list)

    def run(self, *arguments: str) -> tuple[float, str]:
        """Seconds of its own work, and what it printed.

        Raises:
            EngineError: it failed, or did not tell its time.
        """
        for _ in range(_TRIES):
            start = time.perf_counter()
            ended = subprocess.run(
                [str(self.path), *self.arguments, *arguments],
                cwd=self.folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
            )  # fmt: skip
            wall = time.perf_counter() - start
            total = _TOTAL.search(ended.stderr) or _TOTAL.search(ended.stdout)
            if ended.returncode == 0 and total is not None:
                seconds = float(total[1]) / 1000
                self.loads.append(wall - seconds)
                self.n_tokens.append(_decoded(ended.stderr + ended.stdout))
                return seconds, ended.stdout
            if ended.returncode:
                break
        raise failed(self.path, ended.returncode, ended.stderr)


def missing(setting: Setting, tool: str) -> Skipped:
    """The line in place of a comparison whose tool is not installed."""
    return Skipped(setting.name, f"{tool} is not installed; {WHERE}")


def version(path: Path) -> str:
    """What a tool says it is."""
    ended = subprocess.run([str(path), "--version"], capture_output=True, text=True, errors="replace")
    return (ended.stderr + ended.stdout).strip().splitlines()[0].removeprefix("version: ")


def gpu_layers(setting: Setting) -> str:
    """Blocks on a GPU as the tools count them, the output with them."""
    return str(setting.gpu_layers if setting.gpu_layers >= 0 else setting.shape.n_layer + 1)


def failed(path: Path, code: int, errors: str) -> EngineError:
    """The error of a tool that ended without doing its work."""
    last = (errors.strip().splitlines() or ["it says nothing"])[-1]
    return EngineError(f"{path} ended with code {code}: {last}; run it by hand to see more")
