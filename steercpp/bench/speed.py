"""How fast this machine runs the passes of a sweep on models of a shape: a calibration of about a minute.

speed = measure_speed(SHAPES["7b"], "q4_0", SweepSize(), threads=2)
speed.costs["scored steered"].seconds(256, 20)        # 256 tokens through 20 blocks

Two models of the shape's width are made, of few blocks, with random weights, on which speed does not depend. The very
passes that a sweep makes (sweeps/measure.py) are run on them, by turns. What an unsteered pass takes longer on the
deeper one is the cost of its blocks, in all passes; the rest of each is that of a token outside of them: embedding,
output head, scores. A whole model is then reckoned from these. The last block computes output rows alone, so that the
rest may be less than nothing. Generated texts, whose steps are small, have blocks of a cost of their own.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dacite
import numpy as np

from steercpp.aliases import Progress
from steercpp.bench.models import Shape, block_shapes, cache_folder, make_model
from steercpp.bench.sweep_size import SweepSize
from steercpp.choices import QUANTS
from steercpp.engine.batch import Batch
from steercpp.engine.engine import Engine
from steercpp.engine.model import devices
from steercpp.engine.model_file import check_model_file
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, ModelError, VectorFileError
from steercpp.files import write_whole
from steercpp.inputs import read_input
from steercpp.provenance import now, physical_cores, versions
from steercpp.runs.folder import STORE
from steercpp.runs.labels import OWN_TELLING, Label
from steercpp.runs.store import Group, Store
from steercpp.sweeps.estimate import LoadName
from steercpp.sweeps.measure import Bases, Task, Variant, measured
from steercpp.sweeps.texts import TextPlan, TextTask, item_texts
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf_header import read_header

FORMAT = "steercpp speed 1"
BUDGET_S = 60.0
N_CTX = 4096  # of an engine by default
N_BATCH = 256
KEEP_MIB = 512
_SHALLOW = 3  # blocks, so that one is left above the first steered one, and one below
_DEEP = 8  # of the deeper model, at most
_FIRST_LAYER = 1
_PUSH = 0.05
_NEW_TOKENS, _PROMPT_TOKENS = 8, 4  # of each text, and before it
_MOST_WEIGHTS = 270e6  # of the deeper model's blocks
_N_COMMITS = 11
_FEWEST_ROUNDS, _MOST_ROUNDS = 2, 15
WAYS = (
    "scored unsteered", "scored steered", "own unsteered", "own steered", "own in words", "texts",
)  # fmt: skip
_DEEP_WAYS = ("scored unsteered", "texts")  # which are run on the deeper model too


@dataclass(frozen=True, slots=True)
class Cost:
    """What a way of decoding takes.

    Attributes:
        token_s: seconds for a token, its blocks left out; may be below 0.
        token_layer_s: seconds for a token in one block.
        spread: of the runs from which this comes: half of the range of their middle half, as a share of the median.
    """

    token_s: float
    token_layer_s: float
    spread: float = 0.0

    def seconds(self, n_tokens: float, n_blocks: float) -> float:
        """Of so many tokens through so many blocks.

        >>> Cost(0.5, 0.25).seconds(2, 4)
        3.0
        """
        return max(n_tokens * (self.token_s + n_blocks * self.token_layer_s), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """A calibration.

    Attributes:
        shape, quant: of the model; its number of blocks is that of the whole model.
        threads: CPU threads.
        cpu: the machine's, as llama.cpp names it.
        costs: of each of `WAYS`.
        commit_s: seconds to commit a group of numbers to the disk.
        size: the sweep whose passes were measured.
        n_rounds, n_batch: how often each was, and tokens of a batch.
        seconds: that it took, models included.
        is_cpu_time: whether its seconds are those of the CPU, on a machine that others used too.
        when, versions: of it.
    """

    shape: Shape
    quant: str
    threads: int
    cpu: str
    costs: Mapping[str, Cost]
    commit_s: float
    size: SweepSize
    n_rounds: int
    n_batch: int
    seconds: float
    is_cpu_time: bool = False
    when: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"format": FORMAT, **asdict(self)}

    def write(self, path: Path, *, force: bool = False) -> None:
        """Keep it in a file.

        Raises:
            InputError: the file exists, or cannot be written.
        """
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        write_whole(path, text.encode(), force=force, error=InputError)


def read_speed(path: Path, *, elsewhere: bool = False) -> Speed:
    """A calibration that was kept in a file.

    Args:
        path: of the file.
        elsewhere: whether it may be another machine's.

    Raises:
        InputError: it is damaged or no calibration, or another machine's.
    """
    try:
        record = json.loads(read_input(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise InputError(f"{path}: cannot be read ({reason}); measure again, with `out`") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: is no calibration of this version of steercpp; measure again, with `out`")
    try:
        speed = dacite.from_dict(Speed, record, dacite.Config(type_hooks={float: float}))
        numbers = [speed.commit_s, *(number for cost in speed.costs.values() for number in asdict(cost).values())]
        if set(speed.costs) != set(WAYS) or not all(map(math.isfinite, numbers)):
            raise ValueError("a number is missing, or none")
        if min(*asdict(speed.shape).values(), speed.threads, speed.n_batch) < 1 or speed.quant not in QUANTS:
            raise ValueError("a size is none")
    except (dacite.DaciteError, TypeError, ValueError, InputError) as error:
        raise InputError(f"{path}: is damaged ({error}); measure again, with `out`") from error
    if not elsewhere and speed.cpu != cpu_name():
        raise InputError(
            f"{path}: was measured on another CPU ({speed.cpu}; here {cpu_name()}); measure again here, or give "
            "`elsewhere` to plan for that machine"
        )
    return speed


def cpu_name() -> str:
    """This machine's CPU."""
    return next((str(one["description"]).strip() for one in devices() if one["name"] == "CPU"), "unknown")


def measure_speed(
    shape: Shape,
    quant: str,
    size: SweepSize,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    budget_s: float = BUDGET_S,
    is_cpu_time: bool = False,
    progress: Progress | None = None,
) -> Speed:
    """Calibrate.

    Args:
        shape: of the model, with all its blocks.
        quant: type of its weights.
        size: of the sweep whose passes are run, on as few items as a batch holds.
        threads: CPU threads; by default the physical cores.
        cache: folder for the models.
        budget_s: seconds, about; large models take longer.
        is_cpu_time: count seconds of the CPU in place of the clock's: with one thread, on a machine that others use
            too, they tell what it would take alone.
        progress: called with (seconds taken, of how many, what is done).

    Raises:
        InputError: an unknown type, no room for the models, or CPU seconds of several threads, which also wait.
    """
    began = time.perf_counter()
    threads = threads or physical_cores()
    if is_cpu_time and threads > 1:
        raise InputError(f"CPU time of {threads} `threads` tells nothing, as they wait for each other; give 1")
    clock = time.process_time if is_cpu_time else time.perf_counter

    def tell(words: str) -> None:
        if progress is not None:
            elapsed = time.perf_counter() - began
            progress(min(round(elapsed), round(budget_s)), round(budget_s), words)

    depths = _depths(shape)
    with ExitStack() as stack:
        sides: dict[int, _Side] = {}
        for depth in depths:
            tell("making a model")
            cut = Shape(**{**asdict(shape), "n_layer": depth, "n_ctx": max(shape.n_ctx, N_CTX)})
            path = make_model(cut, quant, folder=cache)
            engine = Engine(path, n_ctx=N_CTX, n_batch=N_BATCH, threads=threads, keep_mib=KEEP_MIB)
            sides[depth] = _Side(stack.enter_context(engine), size, _tokens_at_once(shape), clock)
        runs: dict[tuple[str, int], list[float]] = {}
        n_rounds = 0
        for depth, side in sides.items():
            tell(f"warming up, {depth} blocks")
            side.warm_up()
        while n_rounds < _FEWEST_ROUNDS or (
            n_rounds < _MOST_ROUNDS and (time.perf_counter() - began) * (1 + 1 / (n_rounds + 1)) < budget_s
        ):
            for depth, side in sides.items():
                for way, seconds in side.round(is_deep=depth != depths[0]):
                    runs.setdefault((way, depth), []).append(seconds)
                    tell(f"{way}, {depth} blocks")
            n_rounds += 1
        commit_s = _commit_s(cache or cache_folder(), clock)
    return Speed(
        shape=shape, quant=quant, threads=threads, cpu=cpu_name(), size=size, n_rounds=n_rounds, n_batch=N_BATCH,
        costs=_costs(runs, depths), commit_s=commit_s, seconds=time.perf_counter() - began, is_cpu_time=is_cpu_time,
        when=now(), versions=versions(),
    )  # fmt: skip


def _depths(shape: Shape) -> tuple[int, int]:
    """Blocks of the two models: few, and more, as far as they are not too many weights."""
    most = int(_MOST_WEIGHTS / _weights_of_block(shape))
    return _SHALLOW, max(min(shape.n_layer, most, _DEEP), _SHALLOW + 1)


def _tokens_at_once(shape: Shape) -> int:
    """Tokens of a pass: a batch, or fewer where blocks are large, which is about as fast for each."""
    return N_BATCH if _weights_of_block(shape) < 100e6 else N_BATCH // 4


def _weights_of_block(shape: Shape) -> int:
    return sum(math.prod(sizes) for sizes in block_shapes(shape).values())


def _costs(runs: Mapping[tuple[str, int], list[float]], depths: tuple[int, int]) -> dict[str, Cost]:
    """The straight lines through the medians."""
    shallow, deep = depths
    median = {key: statistics.median(seconds) for key, seconds in runs.items()}
    for depth in depths:  # each text reads its prompt under its own steering
        median["texts", depth] -= median["scored unsteered", depth] * _PROMPT_TOKENS / _NEW_TOKENS
    spread = {key: float(np.subtract(*np.percentile(seconds, (75, 25)))) / 2 / statistics.median(seconds)
              for key, seconds in runs.items()}  # fmt: skip
    slope = {way: max((median[way, deep] - median[way, shallow]) / (deep - shallow), 0.0) for way in _DEEP_WAYS}
    costs = {}
    for way in WAYS:
        like = way if way in slope else _DEEP_WAYS[0]
        token_s = median[way, shallow] - slope[like] * _blocks(way, shallow)
        costs[way] = Cost(token_s, slope[like], max(spread[way, shallow], spread[like, shallow], spread[like, deep]))
    return costs


def _commit_s(folder: Path, clock: Callable[[], float]) -> float:
    """Seconds of a commit of a few numbers, the median of some."""
    seconds = []
    with tempfile.TemporaryDirectory(dir=folder) as place, Store.create(Path(place) / STORE, plan_sha256="") as store:
        for number in range(_N_COMMITS):
            before = clock()
            rows = [(item, np.zeros(2)) for item in range(8)]
            store.add(Group(Label.VECTOR, "behavior", 0.0, number), 1, 1, None, rows)
            seconds.append(clock() - before)
    return statistics.median(seconds)


def _blocks(way: str, depth: int) -> int:
    """Blocks that a way passes in a model of so many."""
    return depth - _FIRST_LAYER - 1 if way.endswith(" steered") else depth


class _Side:
    """A model on which all ways are run by turns."""

    def __init__(self, engine: Engine, size: SweepSize, n_tokens: int, clock: Callable[[], float]) -> None:
        self.engine, self.size, self.clock = engine, size, clock
        rng = np.random.default_rng(0)
        push = {il: (_PUSH * rng.standard_normal(engine.n_embd)).astype(np.float32)
                for il in range(_FIRST_LAYER, _SHALLOW)}  # fmt: skip
        self.vector = ControlVector(push, "llama", engine.n_layer)
        self.scored = self._task("behavior", "scored", n_tokens)
        self.own = self._task(OWN_TELLING, "telling", n_tokens)
        n = len(self.own.batch.queries)
        plain = self.size.queries("telling", n_vocab=engine.n_vocab, n=n)
        batch = self._packed("telling", n, in_words=True)
        unsteered = tuple(plain[member] for member in batch.members)
        self.in_words = Task(OWN_TELLING, 1, batch, True, (True,) * len(unsteered), unsteered=unsteered)
        self.n_in_words = batch.n_tokens + sum(other.n_tokens for other in engine.pack(unsteered))

    def _task(self, kind: str, load: LoadName, n_tokens: int) -> Task:
        """As many items as fit into so many tokens, at least one."""
        (query,) = self.size.queries(load, n_vocab=self.engine.n_vocab, n=1)
        of_one = len(query.tokens) + sum(len(answer) - 1 for answer in query.continuations)
        batch = self._packed(load, max(n_tokens // of_one, 1))
        return Task(kind, 0, batch, load != "scored", (True,) * len(batch.queries))

    def _packed(self, load: LoadName, n: int, *, in_words: bool = False) -> Batch:
        queries = self.size.queries(load, n_vocab=self.engine.n_vocab, n=n, in_words=in_words)
        return self.engine.pack(queries)[0]

    def warm_up(self) -> None:
        """Let the model be read once."""
        self.engine.logprobs(self.scored.batch)

    def round(self, *, is_deep: bool) -> Iterator[tuple[str, float]]:
        """Each way, with the seconds that a token takes; of the deeper model those that tell the cost of blocks."""
        bases = Bases(self.engine, _FIRST_LAYER)

        def passed(task: Task, strength: float) -> float:
            return self._timed(lambda: self._measure(task, bases, strength)) / task.batch.n_tokens

        yield "scored unsteered", passed(self.scored, 0.0)
        if not is_deep:
            yield "scored steered", passed(self.scored, 1.0)
            yield "own unsteered", passed(self.own, 0.0)
            yield "own steered", passed(self.own, 1.0)
            alone = Bases(self.engine, self.engine.n_layer, keeps=False)
            seconds = self._timed(lambda: self._measure(self.in_words, alone, 0.0))
            yield "own in words", seconds / self.n_in_words
        yield "texts", self._timed(self._write) / (self.size.n_strengths * self.size.samples * _NEW_TOKENS)

    def _timed(self, run: Callable[[], None]) -> float:
        before = self.clock()
        run()
        return self.clock() - before

    def _measure(self, task: Task, bases: Bases, strength: float) -> None:
        variant = Variant(Label.VECTOR, Steering(self.vector, strength=strength))
        measured(task, bases, variant, n_later=self.size.n_strengths)

    def _write(self) -> None:
        """Continue a prompt at every strength, and read the texts, as a sweep does."""
        # drawn, so that no two are alike, which would be decoded once
        text_plan = TextPlan(max_tokens=_NEW_TOKENS, samples=self.size.samples, temperature=1.0)
        task = TextTask(Label.VECTOR, "behavior", 0, self.scored.batch.queries[0].tokens[:_PROMPT_TOKENS], None)
        draws = [(strength, sample) for strength in _grid(self.size.n_strengths) for sample in range(self.size.samples)]
        item_texts(self.engine, task, text_plan, steering=Steering(self.vector), draws=draws)


def _grid(n_strengths: int) -> list[float]:
    """So many strengths, 0 among them."""
    return [0.0, *(0.1 * (i + 1) for i in range(n_strengths - 1))]


def sizes_of(path: Path) -> tuple[Shape, str]:
    """The sizes of a model file, and the type of most of its blocks' weights.

    Raises:
        ModelError: it is no model file.
        InputError: it is not of a Llama's kind, or of a type that no random model has.
    """
    check_model_file(path)
    try:
        with path.open("rb") as file:
            header = read_header(file, path)
    except VectorFileError as error:
        raise ModelError(f"{path}: its head cannot be read; download the model again") from error
    architecture = header.text("general.architecture")

    def number(key: str, otherwise: int = 0) -> int:
        found = header.values.get(f"{architecture}.{key}")
        value = otherwise if found is None else found.value
        return value if isinstance(value, int) else 0

    n_head = number("attention.head_count")
    tokens = header.values.get("tokenizer.ggml.tokens")
    n_vocab = len(tokens.value) if tokens is not None and isinstance(tokens.value, tuple) else 0
    shape = Shape(
        number("block_count"), number("embedding_length"), n_head, number("attention.head_count_kv", n_head),
        number("feed_forward_length"), n_vocab, number("context_length"),
    )  # fmt: skip
    if min(asdict(shape).values()) < 1 or number("expert_count"):
        raise InputError(
            f"{path}: a model of the kind {architecture!r} with these sizes is not planned; give a `shape`"
        )
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            sizes[tensor.type_name.lower()] += math.prod(tensor.shape)
    quant = max(sizes, key=lambda name: sizes[name], default="none")
    if quant not in QUANTS:
        raise InputError(f"{path}: its weights are {quant}; a plan has {', '.join(QUANTS)}: name the nearest `quant`")
    return shape, quant
