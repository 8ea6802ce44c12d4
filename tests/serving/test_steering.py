"""How requests say what steers them: three spellings and the model's name mean the same, and nothing else is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import Served, write_vectors

from steercpp.engine.engine import Engine
from steercpp.engine.steering import Gate
from steercpp.errors import InputError, LayerError, StrengthError
from steercpp.serving.folder import VectorFolder
from steercpp.serving.spellings import Applied, applied, parse_model, parse_steering
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector


@pytest.fixture
def folder(tmp_path: Path, tiny_engine: Engine) -> VectorFolder:
    write_vectors(tmp_path)
    return VectorFolder(tmp_path, tiny_engine)


def read(value: Any, folder: VectorFolder, engine: Engine) -> tuple[Applied, ...]:
    return applied(parse_steering(value), folder, engine)


SAME = [
    "refusal:1.5, cheer:-0.5",
    ["refusal:1.5", "cheer:-0.5"],
    [{"vector": "refusal", "strength": 1.5}, {"vector": "cheer", "strength": -0.5}],
    [{"vector": "refusal", "strength": "1.5", "operator": "add", "positions": "all"}, "cheer:-0.5"],
    {"vectors": [{"source": "refusal", "scale": 1.5}, {"name": "cheer", "scale": -0.5, "algorithm": "direct"}]},
    {"vectors": [{"vector": "refusal", "strength": 1.5, "layers": [1, 2]},
                 {"source": "cheer", "scale": -0.5, "layers": [1, 2],
                  "apply": {"phases": ["prompt", "generation"], "tokens": None}}], "conflict": "sequential"},
]  # fmt: skip


@pytest.mark.parametrize("value", SAME, ids=str)
def test_spellings_of_one_meaning(value: object, folder: VectorFolder, tiny_engine: Engine) -> None:
    first = read(SAME[0], folder, tiny_engine)
    assert [one.record() for one in read(value, folder, tiny_engine)] == [one.record() for one in first]
    by_model = parse_model("m+refusal@1.5+cheer@-0.5", "m")
    assert by_model is not None
    assert [one.record() for one in applied(by_model, folder, tiny_engine)] == [one.record() for one in first]


def test_what_is_recommended(folder: VectorFolder, tiny_engine: Engine) -> None:
    for value in ("sweep", "sweep:recommended", {"vector": "sweep"}, {"vector": "sweep", "strength": "recommended"}):
        assert read(value, folder, tiny_engine)[0].steering.strength == 0.75
    with pytest.raises(StrengthError, match="'refusal' has no recommended strength; give one, such as refusal:1"):
        read("refusal", folder, tiny_engine)
    with pytest.raises(StrengthError, match="no recommended strength for these layers"):
        read({"vector": "sweep", "layers": "1"}, folder, tiny_engine)


def test_a_vector_acts_as_its_file_means_it(folder: VectorFolder, tiny_engine: Engine) -> None:
    acts = read("late:1", folder, tiny_engine)[0].steering
    assert (acts.operator, acts.positions) == ("clamp", "generated")
    acts = read({"vector": "late", "strength": 1, "operator": "add", "layers": [2]}, folder, tiny_engine)[0].steering
    assert (acts.operator, acts.positions, acts.vector.layers) == ("add", "generated", (2,))


def test_gates(folder: VectorFolder, tiny_engine: Engine, tmp_path: Path) -> None:
    for gate in ("1:below:0.5", {"layer": 1, "threshold": 0.5, "below": True, "vector": "cheer"}):
        acts = read({"vector": "refusal", "strength": 1, "gate": gate}, folder, tiny_engine)[0].steering
        assert acts.gate is not None and (acts.gate.il, acts.gate.threshold, acts.gate.above) == (1, 0.5, False)
    row = np.ones(256, np.float32)
    meant = Gate(row, 1, 0.25).identity
    write_vector(tmp_path / "gated.gguf", ControlVector({1: row}, "llama", 4, metadata={"gate": meant}))
    acts = read("gated:1", folder, tiny_engine)[0].steering
    assert acts.gate is not None and acts.gate.identity == meant
    write_vector(tmp_path / "behind.gguf", ControlVector({1: 2 * row}, "llama", 4, metadata={"gate": meant}))
    with pytest.raises(InputError, match="meant to act behind a gate of another vector's direction; give `gate`"):
        read("behind:1", folder, tiny_engine)
    with pytest.raises(LayerError, match="`gate` is at layer 3; its direction is known at 1, 2"):
        read({"vector": "refusal", "strength": 1, "gate": "3:0"}, folder, tiny_engine)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (7, "`steering` is 7; write it as"),
        ([7], "`steering` holds 7"),
        (":1", "has ':1'"),
        ("refusal:strong", "strength 'strong' is no finite number"),
        ("refusal:nan", "strength 'nan' is no finite number"),
        ("refusal:1e39", "is not a finite number in float32; give a smaller one"),
        ({"vector": "refusal", "strength": 10**400}, "strength a huge number is no finite number"),
        ({"vector": "refusal", "strength": True}, "strength True is no finite number"),
        ({"vector": "refusal", "power": 1}, "has a key 'power'; it takes vector, strength"),
        ({"strength": 1}, "has None for its `vector`"),
        ({"vector": "refusal", "strength": 1, "operator": "push"}, "operator 'push' is unknown"),
        ({"vector": "refusal", "strength": 1, "positions": 3}, "`positions` is 3; give a word"),
        ({"vector": "refusal", "strength": 1, "layers": [1, -2]}, "`layers` is [1, -2]"),
        ({"vector": "refusal", "strength": 1, "layers": "3"}, "the vector has no direction at layer 3"),
        ({"vector": "refusal", "strength": 1, "layers": [99]}, "layer"),
        ({"vector": "refusal", "strength": 1, "gate": "x"}, "`gate` is 'x'; write it as"),
        ({"vectors": "refusal"}, "`vectors` is no list of objects"),
        ({"vectors": [{"source": "refusal", "algorithm": "loreft"}]}, "only direct is known here"),
        ({"vectors": [{"source": "refusal", "apply": {"phases": ["prompt"], "tokens": [5]}}]}, "has a key 'tokens'"),
        ({"vectors": [{"source": "refusal", "apply": {"phases": []}}]}, "`phases` is []"),
        (["refusal:1"] * 17, "names 17 vectors; name at most 16"),
        ("/etc/passwd:1", "is a path or an address"),
        ("../refusal:1", "is a path or an address"),
        ("http://example.org/v.gguf", "is a path or an address"),
        ({"vector": "file:v.gguf", "strength": 1}, "is a path or an address"),
        ({"vector": "C:\\v.gguf", "strength": 1}, "is a path or an address"),
        ({"vector": "..", "strength": 1}, "is a path or an address"),
        ({"vectors": [{"source": "/v.gguf"}]}, "is a path or an address"),
        ("missing:1", "there is no vector 'missing'"),
        ("wide:1", "has 257 values per layer"),
        ("other:1", "is for models of architecture qwen2, this one is llama"),
    ],
    ids=str,
)
def test_what_is_refused(value: object, sentence: str, folder: VectorFolder, tiny_engine: Engine) -> None:
    with pytest.raises(InputError) as refused:
        read(value, folder, tiny_engine)
    assert sentence in str(refused.value) and str(folder.folder) not in str(refused.value)
    assert "\n" not in str(refused.value) and str(tiny_engine.path) not in str(refused.value)


def test_the_folder_is_looked_at_again(folder: VectorFolder, tiny_engine: Engine, tmp_path: Path) -> None:
    before = read("refusal:1", folder, tiny_engine)[0]
    assert read("refusal:1", folder, tiny_engine)[0].named is before.named  # not read twice
    vector = ControlVector({1: np.ones(256, np.float32)}, "llama", 4)
    write_vector(tmp_path / "refusal.gguf", vector, force=True)
    assert read("refusal:1", folder, tiny_engine)[0].named.sha256 != before.named.sha256
    write_vector(tmp_path / "new.gguf", vector)
    assert "new" in folder.names()
    (tmp_path / "refusal.gguf").unlink()
    with pytest.raises(InputError, match="there is no vector 'refusal'"):
        read("refusal:1", folder, tiny_engine)
    (tmp_path / "new").mkdir()
    write_vector(tmp_path / "new" / "vector.gguf", vector)
    with pytest.raises(InputError, match="2 files are called 'new'"):
        read("new:1", folder, tiny_engine)
    assert "new" not in folder.names()
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError) as broken:
        read("broken:1", folder, tiny_engine)
    assert str(broken.value).startswith("broken: ")


def test_a_misspelled_field_is_not_passed_over(served: Served) -> None:
    error = served.error("/v1/completions", {"prompt": "the", "sterring": "refusal:1"})
    assert error["param"] == "steering"
    error = served.error(
        "/v1/completions", {"prompt": "the", "steering": "refusal:1", "model": f"{served.model}+sweep"}
    )
    assert "give one of them" in error["message"]
