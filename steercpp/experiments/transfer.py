"""Does a vector of one model file act on another: of a quantization, a fine-tune? The flow behind `steercpp transfer`.

    found = transfer(Path("f16.gguf"), Path("q4.gguf"), read_vector("v.gguf"), open_engine=Engine, pairs=...,
                     behavior=..., choice=..., out=Path("runs/q4"))
    print(found.conclusion)

Three short sweeps, each in a folder of its own inside `out`: the vector on A, the vector on B, and B's own vector on B,
extracted there from the same pairs by the same method. In residual norms, so that all push equally hard at a layer. The
directions that were extracted on either model lie beside them, `own-on-a.gguf` and `own-on-b.gguf`, at all layers. What
is there already is not computed again. One model is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from steercpp.aliases import Progress
from steercpp.data.items import BehaviorItem, ChoiceItem
from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.prompts import Template
from steercpp.engine.engine import Engine
from steercpp.engine.model_file import check_model_file
from steercpp.errors import InputError, LayerError, RunError, ShapeError, VectorFileError
from steercpp.experiments.scan import GRIDS, Band, check_methods
from steercpp.extraction.capture import Token, token_named
from steercpp.extraction.extract import extract
from steercpp.extraction.methods import METHODS
from steercpp.locks import writing
from steercpp.runs.folder import prepare
from steercpp.runs.manifest import MANIFEST
from steercpp.statistics.recommend import Evidence
from steercpp.statistics.rounded import chosen_percent, fixed, plus
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.algebra import cosines
from steercpp.vectors.control_vector import ControlVector, manner
from steercpp.vectors.formats import check_vector
from steercpp.vectors.gguf import read_vector, write_vector
from steercpp.vectors.gguf_header import read_header
from steercpp.vectors.layers import Window

CARRIES, PARTLY = 0.9, 0.5  # shares of the gain of B's own vector

WhichModel: TypeAlias = Literal["a", "b"]
RUNS: dict[str, tuple[WhichModel, str]] = {
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
        method: a name in `extraction.methods.METHODS`; None: the vector's.
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
        metadata = vector.metadata
        method, template = self.method or str(metadata.get("method", "")), str(metadata.get("template", "auto"))
        if self.pairs is not None and method not in METHODS:
            how = f"by {method!r}" if method else "without telling how"
            raise InputError(
                f"the vector was made {how}, so its like cannot be extracted; name a `method`: {', '.join(METHODS)}"
            )
        token = self.token if self.token is not None else token_named(metadata.get("token"))
        known: Template = "chat" if template == "chat" else "raw" if template == "raw" else "auto"
        return replace(self, method=method, template=self.template or known, token="last" if token is None else token)


@dataclass(frozen=True, slots=True)
class LayerCosines:
    """Cosines at one layer; NaN where the vector has no direction.

    Attributes:
        layer: which.
        between: of the directions that were extracted on A and on B.
        with_a, with_b: of the vector with each of them.
    """

    layer: int
    between: float
    with_a: float
    with_b: float


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """A vector on two model files.

    Attributes:
        folder: where the runs are.
        a, b: the files.
        layers: where the vector steers.
        method: by which A's and B's own directions were extracted.
        direction, max_loss: the wanted sign, and the budget.
        cosines: for each layer from 1 on; none without pairs.
        bands: by name, "vector-on-a", "vector-on-b", "own-on-b"; none without items, no "own-on-b" without pairs.
        notes: what makes the comparison another one than it seems, a sentence each.
    """

    folder: Path
    a: Path
    b: Path
    layers: Window
    method: str
    direction: int
    max_loss: float
    cosines: tuple[LayerCosines, ...]
    bands: Mapping[str, Band]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """The vector's gain on B, as a share of that of B's own; NaN where either is missing or the latter not sure."""
        on_b, native = self.bands.get("vector-on-b"), self.bands.get("own-on-b")
        if on_b is None or native is None or not native.found.sure:
            return math.nan
        assert native.found.reported_on is not None
        gain = on_b.found.reported_on.gain if on_b.found.sure and on_b.found.reported_on else 0.0
        return gain / native.found.reported_on.gain if native.found.reported_on.gain > 0 else math.nan

    @property
    def conclusion(self) -> str:
        """Whether the effect carries over, else whether the directions do; and what of that is not confirmed."""
        doubted = [
            f"{RUNS[name][1]}: {'; '.join(band.found.doubts)}" for name, band in self.bands.items()
            if band.found.sure and band.found.doubts
        ]  # fmt: skip
        doubt = f" Not confirmed by items that had no part in the choice: {'. '.join(doubted)}." if doubted else ""
        return self._verdict() + doubt

    def _verdict(self) -> str:
        alike = self._alike()
        if not self.bands:
            return f"{alike[:1].upper()}{alike[1:]}; whether its effect carries over takes behavior and choice items."
        effect, native = _effect(self.bands["vector-on-b"]), self.bands.get("own-on-b")
        end = f"; {alike}" if alike else ""
        if native is None:
            effect_on_a = _effect(self.bands["vector-on-a"])
            budget = chosen_percent(self.max_loss)
            return f"On B the vector {effect} within a loss of {budget}, on A it {effect_on_a}{end}."
        if math.isnan(self.share):
            return f"It is not clear whether the vector carries over, for B's own {_effect(native)} on B{end}."
        verdict = (
            "The vector carries over" if self.share >= CARRIES
            else "The vector carries over in part" if self.share >= PARTLY
            else "The vector does not carry over"
        )  # fmt: skip
        return (
            f"{verdict}: on B it {effect} within a loss of {chosen_percent(self.max_loss)}, {self.share:.0%} of what "
            f"B's own vector does, which {_effect(native)}{end}."
        )

    def _alike(self) -> str:
        """How alike the directions of A and B are where the vector steers, in words; "" where they are not known."""
        at = [row.between for row in self.cosines if row.layer in self.layers]
        if not at:
            return ""
        return f"the directions of A and B have a cosine of {fixed(float(np.mean(at)), 3)} at the steered layers"

    def record(self) -> dict[str, Any]:
        """Plain data for JSON; NaN stands where a number would mean nothing."""
        return {
            "transfer": str(self.folder), "a": str(self.a), "b": str(self.b), "layers": list(self.layers),
            "method": self.method, "direction": self.direction, "max_loss": self.max_loss,
            "cosines": [asdict(row) for row in self.cosines],
            "runs": {name: band.record() for name, band in self.bands.items()}, "share": self.share,
            "conclusion": self.conclusion, "notes": list(self.notes),
        }  # fmt: skip


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
        RunError: `out` cannot be used, or another process writes there.
        ModelError, EngineError, ...: as `sweep` and `extract`. What is finished is kept in all cases.

    >>> one_thread = functools.partial(Engine, threads=1)
    >>> same = transfer(engine.path, engine.path, vector, Material(pairs[:4]), out="transfer", open_engine=one_thread)
    >>> [round(row.between, 3) for row in same.cosines][:2]  # of the same model twice
    [1.0, 1.0]
    """
    out = Path(out)
    paths: dict[WhichModel, Path] = {"a": Path(a), "b": Path(b)}
    _check(vector, paths["a"], paths["b"])
    material = material.completed(vector)
    if (out / MANIFEST).exists():
        raise RunError(f"{out}: is the folder of a single sweep; choose another folder with `out`")
    bands: dict[str, Band] = {}
    extracted: dict[WhichModel, ControlVector] = {}
    notes: tuple[str, ...] = ()
    with writing(out):
        for side, path in paths.items():
            with open_engine(path) as engine:
                check_vector(engine, vector)
                prepare(out)
                if side == "a":
                    notes = tuple(_notes(vector, engine, material))
                if material.pairs is not None:
                    path_of_own = out / f"own-on-{side}.gguf"
                    extracted[side] = _extracted(engine, material, path_of_own, force, progress)
                for name, (where, words) in RUNS.items():
                    swept = extracted.get(side) if name.startswith("own") else vector
                    if where == side and material.behavior and swept is not None:
                        report = progress and _labeled(progress, words)
                        at_layers = swept.restricted_to(vector.layers)
                        bands[name] = _swept(engine, at_layers, material, out / name, force, report)
    return Transfer(
        out, paths["a"], paths["b"], vector.layers, str(material.method), material.direction, material.max_loss,
        _cosines(vector, extracted), bands, notes,
    )  # fmt: skip


def _check(vector: ControlVector, a: Path, b: Path) -> None:
    """Everything that can be known before a model is loaded."""
    if not vector.is_added_everywhere:
        raise InputError(
            f"the vector is meant for {manner(vector)}; transfer compares vectors that are added to every token"
        )
    if vector.layers[0] == 0:
        raise LayerError("the vector steers layer 0, which llama.cpp cannot; cut that layer off with steercpp convert")
    shapes = {path: _shape(path) for path in (a, b)}
    if None not in shapes.values() and shapes[a] != shapes[b]:
        depths = " and ".join(
            f"{path} has {shape[0]} layers of width {shape[1]}" for path, shape in shapes.items() if shape
        )
        raise ShapeError(f"{depths}; a vector can carry over only between files of equal depth and width")


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


def _extracted(engine: Engine, material: Material, path: Path, force: bool, progress: Progress | None) -> ControlVector:
    """The model's own directions at all layers but the first, which llama.cpp cannot steer; read if they are there."""
    assert material.pairs is not None and material.template is not None and material.token is not None
    origin = {
        "method": material.method, "template": material.template, "token": str(material.token),
        "pairs_sha256": pairs_sha256(material.pairs), "model_sha256": engine.sha256,
        **engine.vocabulary.chat_identity,
    }  # fmt: skip
    if path.exists() and not force:
        stored = read_vector(path)
        if all(str(stored.metadata.get(key)) == value for key, value in origin.items()):
            return stored
        raise RunError(
            f"{path}: holds directions of another model, method or pairs; choose another folder with `out`, "
            "or replace this one with `force=True`"
        )
    extracted = extract(
        engine, material.pairs, method=str(material.method), layers=range(1, engine.n_layer),
        template=material.template, token=material.token, progress=progress,
    )  # fmt: skip
    write_vector(path, extracted, force=True)
    return extracted


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


def _cosines(vector: ControlVector, extracted: dict[WhichModel, ControlVector]) -> tuple[LayerCosines, ...]:
    """At each layer, between what was extracted on A and on B, and of the vector with both."""
    if not extracted:
        return ()
    by_layer = cosines([vector, extracted["a"], extracted["b"]], names=["the vector", "A's", "B's"])
    return tuple(
        LayerCosines(il, *(float(by_layer[i, j, il]) for i, j in ((1, 2), (0, 1), (0, 2))))
        for il in extracted["a"].layers
    )


def _notes(vector: ControlVector, a: Engine, material: Material) -> list[str]:
    """What makes the comparison another one than it seems."""
    notes, metadata = [], vector.metadata
    if "model_sha256" in metadata and metadata["model_sha256"] != a.sha256:
        name = metadata.get("model_file", "which it does not name")
        notes.append(f"the vector was extracted from another file than A, {name}")
    if material.pairs is not None and metadata.get("pairs_sha256", "") not in ("", pairs_sha256(material.pairs)):
        notes.append("the vector was extracted from other pairs")
    if material.pairs is not None and metadata.get("method", material.method) != material.method:
        notes.append(f"the vector was extracted by {metadata['method']}, A's and B's directions by {material.method}")
    return notes


def _effect(band: Band) -> str:
    """What a vector does at the strength of its largest certain gain, as the end of a sentence about it."""
    evidence: Evidence | None = band.found.reported_on
    if evidence is None or not band.found.sure:
        return "is not sure to gain anything"
    return f"gains {plus(evidence.gain, 2)} in alignment (at least {plus(evidence.gain_low, 2)})"


def _labeled(progress: Progress, words: str) -> Progress:
    return lambda done, total, what: progress(done, total, f"{words}: {what}")
