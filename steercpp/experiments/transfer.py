"""Does a vector of one model file act on another: of a quantisation, a fine-tune? The flow behind `steercpp transfer`.

    found = transfer(Path("f16.gguf"), Path("q4.gguf"), read_vector("v.gguf"), open_engine=Engine, pairs=...,
                     behavior=..., choice=..., out=Path("runs/q4"))
    print(found.conclusion)

Three short sweeps, each in a folder of its own inside `out`: the vector on A, the vector on B, and B's own vector on B,
extracted there from the same pairs by the same method. In residual norms, so that all push equally hard at a layer. The
directions that were extracted on either model lie beside them, `own-on-a.gguf` and `own-on-b.gguf`, at all layers. What
is there already is not computed again. One model is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.prompts import Template
from steercpp.data.tasks import BehaviorItem, ChoiceItem
from steercpp.engine.engine import Engine
from steercpp.engine.model_file import check_model_file
from steercpp.errors import InputError, LayerError, RunError, ShapeError, VectorFileError
from steercpp.experiments.scan import GRIDS, check_methods
from steercpp.experiments.scan_result import Band
from steercpp.experiments.transfer_result import LayerCosines, Transfer
from steercpp.extraction.capture import Token, token_named
from steercpp.extraction.extract import extract
from steercpp.extraction.methods import METHODS
from steercpp.runs.folder import MANIFEST, new_folder_removed_on_failure, prepare
from steercpp.sweeps.sweep import check_vector, sweep
from steercpp.vectors.algebra import cosines
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.conversion import manner
from steercpp.vectors.gguf import read_vector, write_vector
from steercpp.vectors.gguf_header import read_header

Progress: TypeAlias = Callable[[int, int, str], None]
Side: TypeAlias = Literal["a", "b"]
RUNS: dict[str, tuple[Side, str]] = {
    "vector-on-a": ("a", "the vector on A"),
    "vector-on-b": ("b", "the vector on B"),
    "own-on-b": ("b", "B's own vector on B"),
}


@dataclass(frozen=True, slots=True)
class Material:
    """What both models are asked, and how.

    Attributes:
        pairs: what directions are extracted from, gone through again and again; None for no directions.
        behavior, choice: items to measure; none of both for no sweeps.
        method: a name in `directions.METHODS`; None: the vector's.
        template, token: how the pairs' prompts become text and whose activation is taken; None: as for the vector.
        strengths: the grid in residual norms; None: that of a scan.
        direction, max_loss, seed: as in `sweep`.
    """

    pairs: Iterable[ContrastPair] | None = None
    behavior: Sequence[BehaviorItem] = ()
    choice: Sequence[ChoiceItem] = ()
    method: str | None = None
    template: Template | None = None
    token: Token | None = None
    strengths: Sequence[float] | None = None
    direction: int = 1
    max_loss: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.behavior) != bool(self.choice):
            raise InputError("an effect is weighed against a loss: give behavior items and choice items, or neither")
        if self.pairs is None and not self.behavior:
            raise InputError("nothing to compare: give pairs for the directions, items for the effect, or both")
        if self.method is not None:
            check_methods([self.method])

    def completed(self, vector: ControlVector) -> Material:
        """With what was left open taken from the vector's metadata.

        Raises:
            InputError: the vector does not tell its method.
        """
        own = vector.metadata
        method, template = self.method or str(own.get("method", "")), str(own.get("template", "auto"))
        if self.pairs is not None and method not in METHODS:
            told = f"by {method!r}" if method else "without telling how"
            raise InputError(
                f"the vector was made {told}, so its like cannot be extracted; name a method with --method: "
                f"{', '.join(METHODS)}"
            )
        token = self.token if self.token is not None else token_named(own.get("token"))
        known: Template = "chat" if template == "chat" else "raw" if template == "raw" else "auto"
        return replace(self, method=method, template=self.template or known, token="last" if token is None else token)


def transfer(
    a: Path | str,
    b: Path | str,
    vector: ControlVector,
    material: Material,
    *,
    out: Path | str,
    open_engine: Callable[[Path], Engine] = Engine,
    force: bool = False,
    progress: Progress | None = None,
) -> Transfer:
    """Compare a vector's directions and effect on two model files, or go on with a comparison that was begun.

    Args:
        a: the model that the vector is of.
        b: the model that it is tried on, of the same width and depth.
        vector: simply added, at layers from 1 on.
        material: pairs, items and options.
        out: the folder.
        open_engine: opens a model file; called for one at a time.
        force: replace what is there.
        progress: called with (done, of how many, what is being done).

    Raises:
        ShapeError, LayerError: the models differ in width or depth, or the vector is not for them.
        InputError: a vector with another operator, or one that does not tell its method where none is given.
        RunError: `out` cannot be used.
        ModelError, EngineError, ...: as `sweep` and `extract`. What is finished is kept in all cases.
    """
    out = Path(out)
    paths: dict[Side, Path] = {"a": Path(a), "b": Path(b)}
    _check(vector, paths["a"], paths["b"])
    material = material.completed(vector)
    if (out / MANIFEST).exists():
        raise RunError(f"{out}: is the folder of a single sweep; choose another one with --out")
    bands: dict[str, Band] = {}
    own: dict[Side, ControlVector] = {}
    notes: tuple[str, ...] = ()
    with new_folder_removed_on_failure(out):
        for side, path in paths.items():
            with open_engine(path) as engine:
                check_vector(engine, vector)
                prepare(out)
                if side == "a":
                    notes = tuple(_notes(vector, engine, material))
                if material.pairs is not None:
                    own[side] = _own(engine, material, out / f"own-on-{side}.gguf", force, progress)
                for name, (where, words) in RUNS.items():
                    swept = own.get(side) if name.startswith("own") else vector
                    if where == side and material.behavior and swept is not None:
                        tell = progress and _labelled(progress, words)
                        part = swept.restricted_to(vector.layers)
                        bands[name] = _swept(engine, part, material, out / name, force, tell)
    return Transfer(
        out, paths["a"], paths["b"], vector.layers, str(material.method), material.direction, material.max_loss,
        _cosines(vector, own), bands, notes,
    )  # fmt: skip


def _check(vector: ControlVector, a: Path, b: Path) -> None:
    """Everything that can be known before a model is loaded."""
    if not vector.is_added_everywhere:
        raise InputError(
            f"the vector is meant for {manner(vector)}; transfer compares vectors that are added to every token"
        )
    if vector.layers[0] == 0:
        raise LayerError("the vector steers layer 0, which llama.cpp cannot; cut it with steercpp convert --layers")
    shapes = {path: _shape(path) for path in (a, b)}
    if None not in shapes.values() and shapes[a] != shapes[b]:
        told = " and ".join(
            f"{path} has {shape[0]} layers of width {shape[1]}" for path, shape in shapes.items() if shape
        )
        raise ShapeError(f"{told}; a vector can carry over only between files of equal depth and width")


def _shape(path: Path) -> tuple[int, int] | None:
    """Depth and width from the file's header; None where it does not tell them in the usual way."""
    check_model_file(path)
    with suppress(VectorFileError), open(path, "rb") as file:
        values = {key: value.value for key, value in read_header(file, path).values.items()}
        name = values.get("general.architecture")
        depth, width = values.get(f"{name}.block_count"), values.get(f"{name}.embedding_length")
        if isinstance(depth, int) and isinstance(width, int):
            return depth, width
    return None


def _own(engine: Engine, material: Material, path: Path, force: bool, progress: Progress | None) -> ControlVector:
    """The model's own directions at all layers but the first, which llama.cpp cannot steer; read if they are there."""
    assert material.pairs is not None and material.template is not None and material.token is not None
    origin = {
        "method": material.method, "template": material.template, "token": str(material.token),
        "pairs_sha256": pairs_sha256(material.pairs), "model_sha256": engine.sha256,
    }  # fmt: skip
    if path.exists() and not force:
        found = read_vector(path)
        if all(str(found.metadata.get(key)) == value for key, value in origin.items()):
            return found
        raise RunError(
            f"{path}: holds directions of another model, method or pairs; choose another folder with --out, or replace "
            "this one with --force"
        )
    made = extract(
        engine, material.pairs, method=str(material.method), layers=range(1, engine.n_layer),
        template=material.template, token=material.token, progress=progress,
    )  # fmt: skip
    write_vector(path, made, force=True)
    return made


def _swept(
    engine: Engine, vector: ControlVector, material: Material, out: Path, force: bool, progress: Progress | None
) -> Band:
    grid = material.strengths or [material.direction * s for s in GRIDS["norm"]]
    result = sweep(
        engine, vector, behavior=material.behavior, choice=material.choice, strengths=grid, out=out, unit="norm",
        random_directions=0, orthogonal=False, prompt_baseline=False, direction=material.direction,
        max_loss=material.max_loss, seed=material.seed, force=force, progress=progress,
    )  # fmt: skip
    return Band.of(result, method=str(vector.metadata.get("method", "")), layers=vector.layers)


def _cosines(vector: ControlVector, own: dict[Side, ControlVector]) -> tuple[LayerCosines, ...]:
    """At each layer, between what was extracted on A and on B, and of the vector with both."""
    if not own:
        return ()
    found = cosines([vector, own["a"], own["b"]], names=["the vector", "A's", "B's"])
    return tuple(
        LayerCosines(il, *(float(found[i, j, il]) for i, j in ((1, 2), (0, 1), (0, 2)))) for il in own["a"].layers
    )


def _notes(vector: ControlVector, a: Engine, material: Material) -> list[str]:
    """What makes the comparison another one than it seems."""
    notes, own = [], vector.metadata
    if "model_sha256" in own and own["model_sha256"] != a.sha256:
        notes.append(
            f"the vector was extracted from another file than A, {own.get('model_file', 'which it does not name')}"
        )
    if material.pairs is not None and own.get("pairs_sha256", "") not in ("", pairs_sha256(material.pairs)):
        notes.append("the vector was extracted from other pairs")
    if material.pairs is not None and own.get("method", material.method) != material.method:
        notes.append(f"the vector was extracted by {own['method']}, A's and B's directions by {material.method}")
    return notes


def _labelled(progress: Progress, words: str) -> Progress:
    return lambda done, total, what: progress(done, total, f"{words}: {what}")
