"""Constants measured on models: against logits computed in NumPy, and on the embedded model's own sweep."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ARCHITECTURES
from click.testing import CliRunner
from places import ROOT, ModelMaker
from plain_llama import PlainLlama
from small_sweep import BEHAVIOR, small_sweep
from tiny_model import write_tiny_model

from steercpp.cli.main import main
from steercpp.data.items import BehaviorItem, ChoiceItem
from steercpp.data.sets.embedded import load
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering
from steercpp.errors import InputError, RunError
from steercpp.experiments.constants.derive import Constants
from steercpp.experiments.constants.measure import check_run, measure_constants
from steercpp.experiments.constants.output_head import Head, read_head
from steercpp.experiments.constants.store import ARRAYS, RECORD, read_constants, write_constants
from steercpp.extraction.extract import extract
from steercpp.runs.folder import read_swept_vector
from steercpp.runs.result import SweepResult, open_run
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.work import behavior_work, choice_work
from steercpp.vectors.control_vector import ControlVector

pytestmark = pytest.mark.slow

STRENGTHS = (-0.5, -0.25, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def exact(tiny_path: Path) -> Iterator[Engine]:
    """The tiny model with K and V in float32, so that nothing is rounded which NumPy does not round."""
    with Engine(tiny_path, threads=1, type_k="f32", type_v="f32") as engine:
        yield engine


@pytest.fixture(scope="module")
def run(exact: Engine, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return small_sweep(exact, tmp_path_factory.mktemp("constants") / "run", strengths=STRENGTHS)


@pytest.fixture(scope="module")
def found(exact: Engine, run: SweepResult) -> Constants:
    return measure_constants(exact, run, recipe="wolf2024")


def test_what_is_read_off_is_what_numpy_computes(
    exact: Engine, run: SweepResult, found: Constants, tiny_path: Path
) -> None:
    plain, vector = PlainLlama(tiny_path), read_swept_vector(run.folder, run.manifest)
    place = int(np.flatnonzero(run.strengths == 0.5)[0])
    steering = (Steering(vector, 0.5),)

    def ends(tokens: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
        both = [plain.run(tokens, len(tokens), acting) for acting in ((), steering)]
        return [(one.logits[-1], one.activations[:, -1]) for one in both]

    choice = choice_work(exact, run.items("choice"))  # type: ignore[arg-type]
    for item in (0, 3):
        (logits_0, h_0), (logits, h) = ends(choice.queries[item].tokens)
        change = logits - logits_0
        # float32 sums of 256 numbers around 1 in another order: a few 1e-6 each, 1e-4 over the vocabulary
        assert found.arrays["choice_norms_logits"][place, item] == pytest.approx(np.linalg.norm(change), abs=1e-3)
        assert found.arrays["choice_norms_hidden"][place, item] == pytest.approx(
            np.linalg.norm(h[-1] - h_0[-1]), abs=1e-3
        )
        asked = run.items("choice")[item]
        assert isinstance(asked, ChoiceItem)
        letters = [[exact.token_id(form + "ABCD"[i]) for form in ("", "▁")] for i in range(4)]
        chosen = [max(ids, key=lambda token: logits_0[token]) for ids in letters]
        correct = chosen.pop(asked.answer)
        x = change - change[correct]
        np.testing.assert_allclose(found.arrays["choice_values_choices"][place, item], x[chosen], atol=1e-3)
        weights = np.exp(logits_0)
        weights[correct] = 0
        mean = (weights * x).sum() / weights.sum()
        assert found.arrays["choice_moments_all"][place, item, 0] == pytest.approx(mean, abs=1e-3)

    behavior = behavior_work(exact, run.items("behavior"))  # type: ignore[arg-type]
    query = behavior.queries[2]
    (logits_0, h_0), (logits, h) = ends(query.tokens)
    change, moved = logits - logits_0, h - h_0
    firsts = [part[0] for part in query.continuations]
    good, bad = change[firsts[:2]], change[firsts[2:]]
    assert found.arrays["behavior_first_gap"][place, 2] == pytest.approx(good.mean() - bad.mean(), abs=1e-3)
    assert found.arrays["behavior_worst_gap"][place, 2] == pytest.approx(good.min() - bad.max(), abs=1e-3)
    below, other = (
        int(np.flatnonzero(run.strengths == -0.5)[0]),
        plain.run(query.tokens, len(query.tokens), (Steering(vector, -0.5),)),
    )
    back = other.logits[-1] - logits_0
    pairs = back[firsts[:2]][:, None] - back[firsts[2:]]  # every one should be negative here
    assert found.arrays["behavior_worst_gap"][below, 2] == pytest.approx(pairs.max(), abs=1e-3)
    answers = []
    for part in query.continuations:
        tokens = (*query.tokens, *part)
        answers.append(plain.run(tokens, len(tokens)).activations[:, -1])
    for row, il in enumerate(found.record["layers"]):
        unit = moved[il] / np.linalg.norm(moved[il])
        aligned = np.mean([one[il] for one in answers[:2]], axis=0)
        assert found.arrays["behavior_aligned"][place, row, 2] == pytest.approx(aligned @ unit, abs=1e-3)
        # the logit lens: norm and head of the model's own, in NumPy
        seen = [plain._product(plain._norm(one[None], "output_norm"), "output")[0] for one in (h[il], h_0[il])]
        lens = seen[0] - seen[1]
        expected = lens[firsts[:2]].mean() - lens[firsts[2:]].mean()
        assert found.arrays["behavior_lens"][place, row, 2] == pytest.approx(expected, abs=1e-3)


def test_the_worst_pair_moves_no_more_than_the_mean_one(found: Constants) -> None:
    s = found.strengths
    worst, mean_gap = (np.sign(s)[:, None] * found.arrays[f"behavior_{name}_gap"] for name in ("worst", "first"))
    assert (worst <= mean_gap).all() and (worst < mean_gap)[s < 0].any()  # items have two answers of a side
    gaps = found.record["separation"]["gaps"]
    assert gaps["every_pair"]["delta_gap"][0] < gaps["first_tokens"]["delta_gap"][0]


def test_of_two_sides_delta_is_of_the_harmful_items(exact: Engine, tmp_path: Path) -> None:
    """Items that move oppositely were averaged, and their Delta was a difference of two."""
    subjects = ("harmful", "harmless")
    items = tuple(
        replace(item, subject=subjects[i % 2]) if i % 2 == 0 else
        replace(item, subject=subjects[i % 2], aligned=item.misaligned, misaligned=item.aligned)
        for i, item in enumerate(BEHAVIOR)
    )  # fmt: skip
    out, options = tmp_path / "run", {"strengths": STRENGTHS, "random_directions": 0}
    found = measure_constants(exact, small_sweep(exact, out, behavior=items, **options))
    write_constants(out, found)
    alone = small_sweep(exact, tmp_path / "alone", behavior=items[::2], **options)
    expected = measure_constants(exact, alone).record["separation"]
    gaps = found.record["separation"]["gaps"]
    assert found.arrays["behavior_harmful"].tolist() == [1.0, 0.0] * 4
    for name, gap in expected["gaps"].items():
        # the same prompts in other batches: logits differ in the last bits, gaps of some nats by 1e-5
        np.testing.assert_allclose(gaps[name]["mean_gap"], gap["mean_gap"], atol=1e-3)
        assert gaps[name]["n_queries"] == gap["n_queries"] == 4
    shown = CliRunner().invoke(main, ["constants", str(out)], env={"COLUMNS": "80"})
    assert shown.exit_code == 0 and "gap of harmful items" in shown.stdout and "4 of the other side" in shown.stdout


def test_at_the_last_layer_the_lens_is_the_gap_itself(found: Constants) -> None:
    last = found.arrays["behavior_lens"][:, -1]
    np.testing.assert_allclose(last, found.arrays["behavior_first_gap"], atol=1e-3)  # as above


def test_the_first_steered_layer_moves_by_the_strength(run: SweepResult, found: Constants) -> None:
    vector = read_swept_vector(run.folder, run.manifest)
    first = found.arrays["behavior_delta_norm"][:, 0]
    length = np.abs(run.strengths) * float(np.linalg.norm(vector.directions[1].astype(np.float64)))
    np.testing.assert_allclose(first, np.repeat(length[:, None], first.shape[1], axis=1), rtol=1e-4)  # one float32 sum
    layer = found.record["separation"]["layers"][0]
    margin = layer["margin_at"]
    np.testing.assert_allclose([one for one in margin if one is not None], margin[0], rtol=1e-3)  # +-v at any strength


def test_the_authors_recipe_is_there_by_name(found: Constants) -> None:
    assert found.record["recipe"] == "wolf2024"
    assert found.arrays["behavior_circular"].shape == (8,) and found.record["separation"]["circular"] is not None
    line = found.record["norms"]["choice"]["logits"]["positive"]
    assert line["n_points"] == 4 and line["left_at"] is None  # up to 5, which is all there is


@pytest.mark.parametrize("resumed", [False, True])
def test_prompt_ends_are_logits_and_activations(exact: Engine, run: SweepResult, resumed: bool) -> None:
    steering = Steering(read_swept_vector(run.folder, run.manifest), 0.7)
    texts = ("Do you like the man", "What", "Do you like the man", "Do you like")
    queries = [Query(exact.encode(text), ((0,),)) for text in texts]
    (batch,) = exact.pack(queries)
    base = exact.base(batch, first_layer=1) if resumed else None
    logits, values = exact.prompt_ends(batch, layers=(1, 3), steering=steering, base=base)
    alone = exact.activations([query.tokens for query in queries], layers=(1, 3), steering=steering)
    np.testing.assert_allclose(values, alone[list(batch.members)], atol=1e-4)  # another packing: sums in another order
    for row, member in enumerate(batch.members):
        (single,) = exact.pack([queries[member]])
        np.testing.assert_allclose(logits[row], exact.logits(single, steering=steering)[0], atol=1e-4)
    assert base is None or base.resumed
    if base is not None:
        with pytest.raises(InputError, match="below the base's first layer 1"):
            exact.prompt_ends(batch, layers=(0,), steering=steering, base=base)
        with pytest.raises(InputError, match="no continuation"):
            exact.prompt_ends(exact.pack([Query((1, 2))])[0], layers=(1,))


def test_a_head_must_prove_itself(exact: Engine, tiny_path: Path) -> None:
    head = read_head(tiny_path, [5, 300, 7])
    assert isinstance(head, Head) and head.tokens.tolist() == [5, 7, 300]
    (batch,) = exact.pack([Query(exact.encode("What is the man"), ((0,),))])
    logits, values = exact.prompt_ends(batch, layers=(3,))
    np.testing.assert_allclose(head.logits(values[:, 0]), logits[:, head.tokens], atol=1e-4)
    assert head.explains(values[:, 0], logits)
    assert not replace(head, weight=head.weight * 1.2).explains(values[:, 0], logits)
    assert "cannot be read" in str(read_head(tiny_path.with_name("missing.gguf"), [1]))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "Q8_0"])
def test_quantized_heads_are_read_too(model_maker: ModelMaker, kind: str) -> None:
    path = model_maker(f"tiny-{kind}")
    head = read_head(path, range(0, 400, 7))
    assert isinstance(head, Head)
    with Engine(path, threads=1) as engine:
        (batch,) = engine.pack([Query(engine.encode("What is the man"), ((0,),))])
        logits, values = engine.prompt_ends(batch, layers=(3,))
        assert head.explains(values[:, 0], logits)


def test_files_are_whole_and_the_same_and_known_to_be_old(found: Constants, run: SweepResult, tmp_path: Path) -> None:
    for name in ("manifest.json",):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    assert read_constants(tmp_path) is None
    paths = write_constants(tmp_path, found)
    before = [path.read_bytes() for path in paths]
    again = read_constants(tmp_path)
    assert again is not None and again.reference == found.reference
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    write_constants(tmp_path, found)
    assert [path.read_bytes() for path in paths] == before
    (tmp_path / ARRAYS).write_bytes(b"PK")
    with pytest.raises(RunError, match="not the arrays that constants.json was made with"):
        read_constants(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({**json.loads(before[0]), "plan_sha256": "0" * 64}))
    assert read_constants(tmp_path) is None  # of an earlier run in this folder
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(RunError, match=r"constants\.json: damaged \(JSONDecodeError"):
        read_constants(tmp_path)


def test_runs_without_constants_are_refused(run: SweepResult, model_maker: ModelMaker) -> None:
    def changed(**plan: Any) -> SweepResult:
        other = open_run(run.folder)
        other.manifest = replace(other.manifest, plan=replace(other.manifest.plan, **plan))
        return other

    for other, words in (
        (changed(operator="clamp"), "`operator=clamp`; the theory is of a vector that is added"),
        (changed(gate="1:0.5:aa"), "steered with `gate`"),
        (changed(positions="generated"), "`positions=generated`"),
    ):
        with pytest.raises(RunError, match=words):
            check_run(other)
    unfinished = open_run(run.folder)
    unfinished.manifest = replace(unfinished.manifest, finished=None)
    with pytest.raises(RunError, match="not finished"):
        check_run(unfinished)
    with (
        Engine(model_maker("tiny-Q8_0"), threads=1) as engine,
        pytest.raises(RunError, match="not the model of .*`model`"),
    ):
        measure_constants(engine, run)


def test_the_command(run: SweepResult, tiny_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in run.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    arguments = ["constants", str(folder), "--threads", "1"]
    first = CliRunner().invoke(main, [*arguments, "--json"])
    assert first.exit_code == 0, first.stderr
    record = json.loads(first.stdout)
    assert record["plan_sha256"] == run.manifest.plan.sha256 and record["recipe"] == "steercpp"
    names = ("norms", "noise", "separation", "predicted")
    for name in [f"constants-{name}.{kind}" for name in names for kind in ("png", "svg")]:
        assert (folder / name).stat().st_size > 10_000 and str(folder / name) in record["files"]
    second = CliRunner().invoke(main, arguments)
    assert second.exit_code == 0 and "nothing was computed" in second.stderr
    assert max(map(len, second.stdout.splitlines())) <= 80 or str(tmp_path) in max(second.stdout.splitlines(), key=len)
    assert "A2 gap > 0, of 8" in second.stdout and "At each layer, strength +" in second.stdout
    (folder / "constants-norms.png").unlink()
    (folder / "constants-norms.png").mkdir()  # in the way of the file; rights would not stop a test that runs as root
    undrawn = CliRunner().invoke(main, arguments)
    assert undrawn.exit_code == 0 and "shown without figures" in undrawn.stderr and "A2 gap" in undrawn.stdout
    (folder / "constants-norms.png").rmdir()
    other = CliRunner().invoke(main, [*arguments, "--recipe", "wolf2024", "--model", str(tmp_path / "no.gguf")])
    assert other.exit_code == 1 and "no.gguf: the model cannot be read" in other.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["path"] = str(tmp_path / "moved.gguf")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    moved = CliRunner().invoke(main, [*arguments, "--force"])
    assert moved.exit_code == 1 and "not there any more; say where it is with --model" in moved.stderr
    there = CliRunner().invoke(main, [*arguments, "--force", "--model", str(tiny_path), "--json"])
    assert there.exit_code == 0 and {**json.loads(there.stdout), "files": 0} == {**record, "files": 0}


def test_a_folder_that_takes_no_file_is_told_of_before_the_work(
    run: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything was measured and then lost; rights would not stop a test that runs as root."""

    def refused(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    folder = shutil.copytree(run.folder, tmp_path / "ro")
    monkeypatch.setattr("steercpp.runs.folder.probe", refused)
    result = CliRunner().invoke(main, ["constants", str(folder)])
    told = f"error: {folder}: no file can be written there (Read-only file system); constants are kept beside a run"
    assert result.exit_code == 1 and result.stderr.startswith(told)
    assert not (folder / RECORD).exists()


def test_runs_of_one_kind_of_item_have_the_constants_of_that_kind(exact: Engine, tmp_path: Path) -> None:
    for kind, other in (("choice", "behavior"), ("behavior", "choice")):
        result = small_sweep(exact, tmp_path / kind, strengths=STRENGTHS, **{other: ()})
        record = measure_constants(exact, result).record
        assert set(record["norms"]) == {kind} and len(record["predicted"]) == 1
        assert (record["noise"] is None) == (kind == "behavior") == (record["separation"] is not None)


def test_what_cannot_be_told_is_left_open(exact: Engine, tmp_path: Path) -> None:
    """Answers that begin alike, choices that begin alike, strengths of one sign, three items: no number, no warning."""
    behavior = [BehaviorItem(f"b{i}", f"Do you like {w}", (" no cannot",), (" no sure",)) for i, w in enumerate("ABC")]
    texts = ("the old", "the new", "the first")
    choice = [ChoiceItem(f"c{i}", f"Which {w}?", texts, i, by="text") for i, w in enumerate("ABC")]
    result = small_sweep(
        exact, tmp_path / "run", strengths=(0.5, 1.0), behavior=behavior, choice=choice, random_directions=0
    )
    found = measure_constants(exact, result)
    record = found.record
    gaps = record["separation"]["gaps"]
    assert np.isnan(gaps["first_tokens"]["delta_gap"][0]) and np.isfinite(gaps["continuations"]["delta_gap"][0])
    assert record["assumptions"]["A2"]["first_tokens"]["n_queries"] == 0
    assert np.isnan(record["noise"]["choices"]["lambda_sigma"][0]) and record["noise"]["choices"]["n_queries"] == 0
    assert np.isfinite(record["noise"]["all"]["lambda_sigma"][0])
    assert record["norms"]["choice"]["normed"]["negative"] is None
    write_constants(result.folder, found)
    shown = CliRunner().invoke(main, ["constants", str(result.folder)])
    assert shown.exit_code == 0 and re.search("Δ first tokens +– nats", shown.stdout), shown.stderr
    for one in found.record["separation"]["layers"]:
        assert one["accuracy"][1] != one["accuracy"][1]  # three items have no interval


@pytest.mark.parametrize(("name", "norm"), [("lfm2", "hidden"), ("mamba", "normed")])
def test_other_architectures_have_constants_too(tmp_path: Path, name: str, norm: str) -> None:
    """lfm2 calls its final norm by another name; mamba decodes one prompt at a time."""
    with Engine(ARCHITECTURES[name].write(tmp_path / "model.gguf"), threads=1) as engine:
        rows = np.random.default_rng(0).standard_normal((2, engine.n_embd)).astype(np.float32)
        vector = ControlVector(dict(zip((2, 3), rows, strict=True)), engine.architecture, engine.n_layer)
        result = small_sweep(engine, tmp_path / "run", vector=vector, strengths=STRENGTHS, random_directions=0)
        found = measure_constants(engine, result)
    assert found.record["norm"] == norm and found.record["layers"] == [2, 3, 4, 5]
    write_constants(result.folder, found)
    shown = CliRunner().invoke(main, ["constants", str(result.folder)])
    assert shown.exit_code == 0 and ("note: layers are not read" in shown.stdout) == (norm == "hidden"), shown.stderr
    assert (result.folder / "constants-separation.png").exists()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Constants]:
    """A quarter of the embedded model's default sweep."""
    own = load()
    with Engine(own.path, threads=1) as engine:
        result = sweep(
            engine,
            extract(engine, own.pairs(), layers=own.layers),
            behavior=own.behavior()[::4],
            choice=own.choice()[::4],
            strengths=own.strengths,
            unit=own.unit,
            random_directions=0,
            out=tmp_path_factory.mktemp("embedded") / "run",
        )
        return result, measure_constants(engine, result)


def test_the_embedded_models_change_is_linear_near_0(embedded: tuple[SweepResult, Constants]) -> None:
    record = embedded[1].record
    assert record["norm"] == "normed"
    for kind in ("choice", "behavior"):
        for side in ("positive", "negative"):
            line = record["norms"][kind]["normed"][side]
            assert line["r2"] >= 0.99 and abs(line["reach"]) >= 0.5 and line["slope"][1] > 0


def test_what_the_embedded_models_slopes_at_0_predict_is_what_is_measured(
    embedded: tuple[SweepResult, Constants],
) -> None:
    alignment = embedded[1].record["predicted"]["alignment"]
    # Each query's ln(P+/P-) bends a little between the four strengths its slope is from: 0.03 of B where it turns.
    assert alignment["queries"]["largest_near"] < 0.03
    assert alignment["queries"]["r2"] > 0.99
    strengths, bound = embedded[1].strengths, np.array(alignment["bound"]["mean"])
    measured = np.array(alignment["measured"])
    inside = (strengths > 0) & (strengths <= embedded[1].reference)
    assert (bound[inside] <= measured[inside] + 1e-9).all()  # Theorem 1 holds where its assumptions do


def test_bias_and_not_scatter_is_what_costs_the_embedded_model_its_answers(
    embedded: tuple[SweepResult, Constants],
) -> None:
    record = embedded[1].record
    assert record["assumptions"]["A3"]["all"] < 0.3
    curves = record["predicted"]["helpfulness"]["all"]
    assert curves["gaussian_with_mean"]["r2"] > 0.9 > curves["gaussian"]["r2"]


def test_the_page_tells_what_is_measured(embedded: tuple[SweepResult, Constants]) -> None:
    page = (ROOT / "docs" / "constants.md").read_text(encoding="utf-8")
    record = embedded[1].record

    def told(name: str) -> float:
        match = re.search(rf"│  {re.escape(name)} +([0-9.]+)", page)
        assert match is not None, name
        return float(match[1])

    # The page has all items, this a quarter of them: their means differ by a few standard errors, a tenth at most.
    positive = {kind: record["norms"][kind]["normed"]["positive"]["slope"][0] for kind in ("choice", "behavior")}
    assert told("λ choice, s > 0") == pytest.approx(positive["choice"], rel=0.1)
    assert told("λ behavior, s > 0") == pytest.approx(positive["behavior"], rel=0.1)
    assert told("λσ 10 likeliest") == pytest.approx(record["noise"]["top10"]["lambda_sigma"][0], rel=0.15)
    assert told("λσ all by P") == pytest.approx(record["noise"]["all"]["lambda_sigma"][0], rel=0.15)
    gaps = record["separation"]["gaps"]
    assert told("Δ whole answers") == pytest.approx(gaps["continuations"]["delta_gap"][0], rel=0.1)
    assert told("Δλ") == pytest.approx(gaps["continuations"]["rate_gap"][0] / 2, rel=0.1)
    layers = re.findall(
        r"^ +([567]) +([0-9.e+]+) +([+-][0-9.]+) +\S+ +([0-9]+)% +[0-9.]+ +([+-][0-9.]+) *$", page, re.M
    )
    assert [int(row[0]) for row in layers] == [5, 6, 7]
    for row, one in zip(layers, record["separation"]["layers"], strict=True):
        assert float(row[1]) == pytest.approx(one["lambda"][0], rel=0.1)
        assert float(row[4]) == pytest.approx(one["lens"]["gap"][0], rel=0.2)


def test_chats_are_written_as_in_the_run(tmp_path: Path) -> None:
    """A run that was measured with thinking on has no constants with thinking off."""
    source = "{{ messages[0].content }}{% if enable_thinking is false %} no{% endif %}{{ strftime_now('%d') }}"
    path = write_tiny_model(tmp_path / "m.gguf", chat_template=source)
    asked = tuple(replace(item, template="chat") for item in BEHAVIOR)
    thinking = {"enable_thinking": True}
    with Engine(path, n_ctx=256, threads=1, date="2020-01-01", template_kwargs=thinking) as engine:
        run = small_sweep(engine, tmp_path / "run", behavior=asked, choice=(), random_directions=0)
    with (
        Engine(path, n_ctx=256, threads=1) as engine,
        pytest.raises(RunError, match="other template_kwargs and thinking"),
    ):
        measure_constants(engine, run)
    with Engine(path, n_ctx=256, threads=1, template_kwargs=thinking) as engine:  # on the run's own day
        assert measure_constants(engine, run).record["items"]["behavior"] == len(asked)
    result = CliRunner().invoke(main, ["constants", str(tmp_path / "run"), "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output  # which knows the run's variables
