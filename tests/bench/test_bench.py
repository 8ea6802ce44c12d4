"""The benchmark on tiny models: figures follow from the times, work is counted exactly, missing tools are named."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import steercpp.bench.bench
from steercpp.bench import extraction as bench_extraction
from steercpp.bench.bench import LINES, bench
from steercpp.bench.models import SHAPES, Shape, make_model
from steercpp.bench.result import BenchResult, Comparison, Figure, Promise, at_least, at_most
from steercpp.bench.setting import Setting
from steercpp.bench.weights import TYPES
from steercpp.cli.main import main
from steercpp.errors import InputError

pytestmark = pytest.mark.slow

TOOLS = {"perplexity": "llama-perplexity", "completion": "llama-completion", "llama-bench": "llama-bench"}
N_LAYER = {"15m": 6, "135m": 6, "1.1b": 6, "13b": 5}
# Blocks up to the first steered one: of the bands 11-13 of 22 and 8-15 of 40, as deep in models of 6, 6 and 5.
KEPT = {"sweep": 4, "sweep-15m": 4, "head": 4, "deep": 2}


def tiny(n_layer: int) -> Shape:
    return Shape(n_layer=n_layer, n_embd=32, n_head=2, n_head_kv=1, n_ff=64, n_vocab=500)


@pytest.fixture(scope="module", autouse=True)
def small_shapes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, n_layer in N_LAYER.items():
            patch.setitem(SHAPES, name, tiny(n_layer))
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def result(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    return bench(threads=1, repeats=2, cache=cache, llama_bin=tmp_path_factory.mktemp("no-tools"))


def line(result: BenchResult, name: str) -> Comparison:
    return next(one for one in result.comparisons if one.name == name)


def work(one: Comparison) -> dict[str, int]:
    return {side.name: side.token_layers for side in one.sides}


def test_every_line_is_run_but_those_of_missing_tools(result: BenchResult) -> None:
    assert [one.name for one in result.lines] == list(LINES)
    assert [one.name for one in result.skipped] == list(TOOLS) and not result.failed
    for one in result.skipped:
        assert one.reason.startswith(f"{TOOLS[one.name]} is not installed; ") and "`llama_bin`" in one.reason
    assert {"cpu", "threads", "llama-cpp-python", "commit"} <= set(result.machine)


def test_times_are_there_and_ratios_are_of_medians(result: BenchResult) -> None:
    n_ratios = 0
    for one in result.comparisons:
        times = {side.name: side.timed for side in one.sides}
        assert all(len(timed.seconds) == 2 and timed.minimum > 0 for timed in times.values()), one.name
        for figure in one.figures:
            kind, _, names = figure.name.partition(", ")
            if kind == "time":
                above, below = names.split(" / ")
                assert figure.value == times[above].median / times[below].median
                n_ratios += 1
    assert n_ratios >= 12


@pytest.mark.parametrize(("name", "n_questions"), [("sweep", 12), ("sweep-15m", 100)])
def test_a_sweep_is_counted_exactly(result: BenchResult, name: str, n_questions: int) -> None:
    one = line(result, name)
    n_tokens = one.facts["tokens a strength"]
    assert isinstance(n_tokens, int)
    assert one.facts["questions"] == n_questions and one.facts["strengths"] == 17
    # A question has 100 tokens, of which all share the first.
    assert n_tokens <= n_questions * 100
    resumed = n_tokens * (6 + 16 * (6 - KEPT[name]))
    assert work(one) == {"steercpp": resumed, "plain loop": n_tokens * 17 * 6}
    figure = one.figure("token-layers, steercpp / plain loop")
    assert figure.value == pytest.approx((6 + 16 * 2) / (17 * 6)) and figure.kept
    assert one.facts["same bits"] is True


def test_an_added_strength_of_a_deep_model(result: BenchResult) -> None:
    one = line(result, "deep")
    assert work(one) == {"added strength": 128 * (5 - KEPT["deep"]), "full pass": 128 * 5}
    assert one.facts["same bits"] is True and one.facts["resumed"] is True


def test_a_shared_head(result: BenchResult) -> None:
    one = line(result, "head")
    shared, apart = one.facts["tokens a strength, shared"], one.facts["tokens a strength, apart"]
    head = one.facts["tokens of the head"]
    assert isinstance(shared, int) and isinstance(apart, int) and isinstance(head, int)
    # The last line break of the head and the first word of a question may be tokenized together: hence not exactly.
    assert 500 <= head <= 560 and apart - shared == pytest.approx(19 * head, rel=0.01)
    assert work(one) == {"steercpp": shared * (6 + 4 * (6 - KEPT["head"])), "plain loop": apart * 5 * 6}
    # Batches of other sizes round otherwise, in 4-bit weights and 16-bit K/V; a wrong row would be off by nats.
    assert float(one.facts["largest difference of a log-probability, nats"]) < 0.5


def test_the_hook_changes_no_bits(result: BenchResult) -> None:
    for name, n_tokens in (("hook-prefill", 512), ("hook-decode", 1)):
        one = line(result, name)
        assert one.facts["idle hook, same bits"] is True
        assert set(work(one).values()) == {n_tokens * 6} and len(one.sides) == 4
        control = one.figure("time, no hook, once more / no hook").value
        promise = one.figure("time, hook adding / no hook").promise
        assert promise == Promise(max(1.0, control) + 0.02, at_most=True)


def test_types_of_weights(result: BenchResult) -> None:
    """Each in a model of its own, of 4 blocks, and all beside Q4_0."""
    one = line(result, "weights")
    assert set(work(one)) == set(TYPES) and set(work(one).values()) == {256 * 4} and one.facts["layers"] == 4
    assert [figure.name for figure in one.figures] == [f"time, {quant} / q4_0" for quant in TYPES[1:]]


def test_memory_is_read(result: BenchResult) -> None:
    one = line(result, "memory")
    ours, stock = (one.figure(f"peak MiB, {name}").value for name in ("steercpp", "llama.cpp"))
    assert stock > 20 and 20 < ours < stock + 512
    # 32 prompts of 128 tokens, or as many as one batch holds, in float32 of 32 numbers.
    kept = one.figure("MiB kept for resuming").value
    assert 0 < kept <= 32 * 128 * 32 * 4 / 2**20 * 1.01
    assert one.figures[3].kept == (one.figures[3].value <= 1.05)


def test_generation_is_counted(result: BenchResult) -> None:
    one = line(result, "generation")
    found = work(one)
    assert len(found) == 4
    for way, of_prompt in (("one after the other", 16 * 7 * 6), ("side by side", 7 * (6 + 16 * 2))):
        # Steered from layer 3 of 6 on: two blocks above for each row. The prompt's last token gives the first one.
        assert (found[way], found[f"{way}, with the prompt"]) == (16 * 63 * 6, of_prompt + 16 * 64 * 6)


def test_prompts_are_counted(result: BenchResult) -> None:
    """In one buffer every row computes its prompt in full; here the blocks up to the first steered one are shared."""
    one = line(result, "prompts")
    assert one.facts["strengths"] == 8 and len(one.sides) == 4
    for n_prompt in (256, 1024):
        assert work(one)[f"in one buffer, {n_prompt} tokens"] == 8 * (n_prompt + 23) * 6
        assert work(one)[f"steercpp, {n_prompt} tokens"] == (n_prompt - 1) * (6 + 8 * 3) + 8 * 24 * 6
    assert all(figure.promise is None for figure in one.figures)


@pytest.mark.parametrize("n_pairs", [16, 100])
def test_extraction_computes_what_the_bare_decode_does(result: BenchResult, n_pairs: int) -> None:
    one = line(result, "extraction")
    # Every distinct beginning is decoded once, that of no words too, and again only where a batch begins: 1 row in 32.
    setting = Setting("extraction", "1.1b", tiny(6), "q4_0", Path(), 1, 0, "off", None, None, lambda share: None)
    prompts = [text.split() for pair in bench_extraction.drawn(setting, n_pairs) for text in pair]
    beginnings = {tuple(prompt[:n]) for prompt in prompts for n in range(10)}
    bare = work(one)[f"{n_pairs} pairs, bare decode"]
    assert work(one)[f"{n_pairs} pairs, steercpp"] == bare
    assert len(beginnings) <= bare / 6 <= len(beginnings) * (1 + 1 / 32)
    # By default layers 2 and 3 of 6: nothing is computed above.
    assert work(one)[f"{n_pairs} pairs, layers 2-3"] * 6 == bare * 4
    figure = one.figure(f"token-layers, {n_pairs} pairs, layers 2-3 / {n_pairs} pairs, steercpp")
    assert figure.value == pytest.approx(4 / 6)
    assert one.facts["llama-cvector-generator"] == (
        "not installed, name the folder of llama.cpp's tools with `llama_bin`"
    )


def test_extraction_promises_what_it_measures(result: BenchResult) -> None:
    found = {figure.name: figure.promise for figure in line(result, "extraction").figures}
    assert found["time, 16 pairs, steercpp / 16 pairs, bare decode"] == at_most(1.1)
    assert found["time, 100 pairs, layers 2-3 / 100 pairs, bare decode"] == at_most(1.0)
    assert found["MiB above the model's file, steercpp"] == at_most(300)


def test_the_memory_of_extraction_is_that_of_its_process(result: BenchResult) -> None:
    one = line(result, "extraction")
    peak, loaded = (one.figure(f"peak MiB, steercpp{what}").value for what in ("", ", model loaded only"))
    # Python with NumPy alone is more than 20 MiB.
    assert 20 < loaded < peak + 1
    assert one.figure("MiB above the loaded model, steercpp").value == peak - loaded
    assert (
        one.figure("MiB above the model's file, steercpp").value == peak - one.figure("MiB of the model's file").value
    )
    assert all(one.figure(f"seconds of {what}, steercpp").value > 0 for what in ("imports", "a model load"))


def test_a_promise_is_for_the_models_it_names(tmp_path: Path) -> None:
    def setting(shape_name: str, shape: Shape, quant: str = "q4_0") -> Setting:
        return Setting("sweep", shape_name, shape, quant, tmp_path, 1, 0, "off", None, None, lambda share: None)

    promise = at_most(0.6)
    assert setting("1.1b", SHAPES["1.1b"]).promised(promise) == promise
    assert setting("1.1b", SHAPES["1.1b"]).promised(promise, "13b") is None
    assert setting("1.1b", tiny(3)).promised(promise) is None
    assert setting("1.1b", SHAPES["1.1b"], "q8_0").promised(promise) is None
    assert Figure("a", 0.6, promise).kept and not Figure("a", 0.61, promise).kept and Figure("a", 1.0).kept is None
    assert Figure("a", 2.0, at_least(2.0)).kept and not Figure("a", 1.9, at_least(2.0)).kept


def test_layers_lie_as_deep(tmp_path: Path) -> None:
    def layers(n_layer: int, *band: int) -> tuple[int, ...]:
        shape = tiny(n_layer)
        return Setting("x", "x", shape, "q4_0", tmp_path, 1, 0, "off", None, None, lambda share: None).layers(*band)

    assert layers(22, 11, 13, 22) == (11, 12, 13) and layers(22, 5, 16, 22) == tuple(range(5, 17))
    assert layers(40, 8, 15, 40) == tuple(range(8, 16)) and layers(6, 11, 13, 22) == (3,)
    assert layers(2, 5, 16, 22) == (1,) and layers(2, 8, 15, 40) == (1,)


def test_progress_goes_up(cache: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    only = ("hook-decode", "deep")
    bench(threads=1, repeats=1, only=only, cache=cache, progress=lambda *call: calls.append(call))
    steps = [done for done, _, _ in calls]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == calls[-1][1]
    assert {name for _, _, name in calls} == set(only)


def run(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)], env={"COLUMNS": "80"})


def test_json_is_one_document(cache: Path) -> None:
    ended = run("--threads", 1, "--repeats", 1, "--only", "deep", "--only", "hook-decode", "--cache", cache, "--json")
    assert (ended.exit_code, ended.stderr) == (0, "")
    data = json.loads(ended.stdout)
    assert [one["name"] for one in data["comparisons"]] == ["hook-decode", "deep"] and data["skipped"] == []
    deep = data["comparisons"][1]
    full = next(side for side in deep["sides"] if side["name"] == "full pass")
    assert full["seconds"] == [full["median_s"]] == [full["minimum_s"]] and full["token_layers"] == 128 * 5
    assert deep["figures"][0]["promise"] == {"at_most": 0.86} and isinstance(deep["figures"][0]["kept"], bool)


def test_a_table_for_people(cache: Path, tmp_path: Path) -> None:
    ended = run("--threads", 1, "--repeats", 1, "--only", "deep", "--only", "perplexity", "--cache", cache,
                "--llama-bin", tmp_path)  # fmt: skip
    assert (ended.exit_code, ended.stderr) == (0, "")
    words = " ".join(ended.stdout.split())
    for part in ("A deep model", "13b q4_0", "median", "640", "at most 0.86", "Not run", "llama-perplexity is not"):
        assert part in words


def test_what_goes_wrong_is_told_with_the_rest(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(shape: Shape, *arguments: object, **options: object) -> Path:
        if shape == SHAPES["13b"]:
            raise InputError("no room for it")
        return make_model(tiny(6), "q4_0", folder=cache)

    monkeypatch.setattr(steercpp.bench.bench, "make_model", refuse)
    arguments = ("--threads", 1, "--repeats", 1, "--only", "deep", "--only", "hook-decode", "--cache", cache)
    ended = run(*arguments)
    assert ended.exit_code == 1 and ended.stderr == ""
    assert "no room for it" in ended.stdout and "The hook: single tokens" in ended.stdout
    data = json.loads(run(*arguments, "--json").stdout)
    assert data["skipped"] == [{"name": "deep", "reason": "no room for it", "failed": True}]


def test_a_model_too_large_for_memory_is_skipped(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    found = bench(threads=1, repeats=1, only=["deep"], cache=cache)
    assert [one.name for one in found.skipped] == ["deep"] and "`layers`" in found.skipped[0].reason


def test_wrong_requests(cache: Path) -> None:
    for options, message in (
        ({"shape": "7000b"}, "shape '7000b' is unknown; use one of 15m"),
        ({"quant": "q1"}, "quant 'q1' is unknown"),
        ({"only": ["swep"]}, "comparison 'swep' is unknown; use hook-prefill"),
        ({"repeats": 0}, "repeats is 0"),
        ({"layers": 1}, "layers is 1"),
        ({"llama_bin": cache / "none"}, "no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            bench(cache=cache, **options)


def test_other_shapes_leave_out_the_lines_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(steercpp.bench.bench, "_line", lambda setting, folder: names.append(setting.name))
    bench(shape="15m", cache=cache)
    assert names == [name for name in LINES if name not in ("device", "sweep-15m", "deep")]


@pytest.mark.parametrize("name", TOOLS)
def test_tools_of_llama_cpp(cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the tools are: STEERCPP_LLAMA_BIN or the PATH."""
    # With a smaller model the tools may end before their log is written, which they do not wait for.
    larger = Shape(n_layer=3, n_embd=288, n_head=6, n_head_kv=6, n_ff=768)
    monkeypatch.setitem(SHAPES, "1.1b", larger)
    folder = os.environ.get("STEERCPP_LLAMA_BIN")
    if shutil.which(TOOLS[name], path=folder) is None:
        pytest.skip(f"{TOOLS[name]} is not installed; set STEERCPP_LLAMA_BIN")
    found = bench(threads=1, repeats=1, only=[name], cache=cache, llama_bin=Path(folder) if folder else None)
    assert found.skipped == ()
    one = found.comparisons[0]
    assert "0c1e570" in str(one.facts[TOOLS[name]])
    layers = work(one)
    if name == "completion":
        assert layers["llama-completion"] == layers["steercpp"] == 16 * (8 + 63) * 3
    if name == "perplexity":
        # It decodes the four letters too, and shares nothing between questions, not even the first token.
        assert layers["llama-perplexity"] == 12 * (100 + 4) * 17 * 3
        # Letters whose probabilities nearly tie may fall differently in batches of another size.
        agreeing, of = map(int, str(one.facts["answers judged alike"]).split(" of "))
        assert of == 12 * 17 and agreeing >= 0.97 * of
        assert one.figure("seconds of its 17 model loads").value > 0


def test_extraction_by_llama_cvector_generator(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the tool is: STEERCPP_LLAMA_BIN or the PATH."""
    monkeypatch.setattr(bench_extraction, "FASTER", {2: 2.5, 3: 1.6})
    folder = os.environ.get("STEERCPP_LLAMA_BIN")
    tool = "llama-cvector-generator"
    if shutil.which(tool, path=folder) is None:
        pytest.skip(f"{tool} is not installed; set STEERCPP_LLAMA_BIN")
    found = bench(threads=1, repeats=1, only=["extraction"], cache=cache, llama_bin=Path(folder) if folder else None)
    assert found.skipped == ()
    one = found.comparisons[0]
    assert "0c1e570" in str(one.facts[tool])
    # One prompt after the other, and nothing is shared.
    assert {name: work(one)[f"{name}, {tool}"] for name in ("2 pairs", "3 pairs")} == {
        "2 pairs": 2 * 2 * 10 * 6, "3 pairs": 2 * 3 * 10 * 6
    }  # fmt: skip
    for n_pairs, least in ((2, 2.5), (3, 1.6)):
        theirs, ours = f"{n_pairs} pairs, {tool}", f"{n_pairs} pairs, steercpp"
        assert one.figure(f"time, {theirs} / {ours}").promise == at_least(least)
        own = one.figure(f"seconds of decoding, {theirs}").value + one.figure(f"seconds of PCA, {theirs}").value
        side = next(side for side in one.sides if side.name == theirs)
        assert side.timed.median == pytest.approx(own)
        # Its own times are parts of what the whole process took.
        whole = next(side for side in one.sides if side.name == f"whole process, {tool}")
        assert own < 1.5 * whole.timed.median
    assert one.figure(f"seconds of a model load, {tool}").value > 0 and one.figure(f"peak MiB, {tool}").value > 5


@pytest.mark.skipif(sys.platform == "win32", reason="the tool is not run there")
def test_a_tool_that_fails_is_named(cache: Path, tmp_path: Path) -> None:
    tool = tmp_path / "llama-cvector-generator"
    tool.write_text("#!/bin/sh\necho 'n_total_tokens: 20'\necho 'no such model' >&2\nexit 3\n")
    tool.chmod(0o755)
    found = bench(threads=1, repeats=1, only=["extraction"], cache=cache, llama_bin=tmp_path)
    assert found.failed and found.skipped[0].reason.endswith(
        "ended with code 3: no such model; run it by hand to see more"
    )
