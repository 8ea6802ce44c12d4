"""The vectors of a matrix on one of its models: each made or read once, and cut to the layers of each band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from steercpp.aliases import Progress
from steercpp.data.pairs import ContrastPair, pairs_sha256
from steercpp.data.sets.names import contrast_pairs
from steercpp.engine.engine import Engine
from steercpp.errors import LayerError, SteerError
from steercpp.experiments.study.folder import StudyFolder
from steercpp.experiments.study.inputs import fewest
from steercpp.experiments.study.matrix import DEFAULT, Cell, MatrixSpec, MatrixVector
from steercpp.experiments.study.study import Choices
from steercpp.extraction.extract import extract
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import read_vector_for
from steercpp.vectors.gguf import read_vector, write_vector
from steercpp.vectors.layers import default_layers, parse_layers


def pairs_of(spec: MatrixVector, choices: Choices) -> tuple[ContrastPair, ...]:
    """The pairs that a vector is made of.

    Raises:
        PairsError, DataSetError: as `contrast_pairs`.
    """
    return tuple(contrast_pairs(spec.pairs, data=choices.data, limit=fewest(spec.limit, choices.limit)))


def band_layers(text: str, n_layer: int) -> tuple[int, ...]:
    """Layers of a band on a model of so many blocks.

    Raises:
        LayerError: it has no such layers.
    """
    return default_layers(n_layer) if text == DEFAULT else parse_layers(text, n_layer)


@dataclass(frozen=True, slots=True)
class MatrixVectors:
    """The vectors on one model.

    A vector is extracted at the layers of all bands together, which takes one pass over the pairs. What goes wrong with
    one is kept, so that it is said of every run of it and tried once.

    Attributes:
        model: its name in the matrix.
        engine: the model itself.
        matrix: whose vectors they are.
        choices: what is other than the matrix says.
    """

    model: str
    engine: Engine
    matrix: MatrixSpec
    choices: Choices
    _known: dict[str, ControlVector | SteerError] = field(default_factory=dict)

    def layers(self, cell: Cell) -> tuple[int, ...]:
        """Where a run steers.

        Raises:
            LayerError, ShapeError, VectorFileError: the model has no such layers, or a vector's file does not fit it.
        """
        band = self.matrix.bands[cell.band]
        if not self.matrix.vectors[cell.vector].file:
            return band_layers(band, self.engine.n_layer)
        vector = self._once(cell.vector, lambda: self._from_file(cell.vector))
        wanted = vector.layers if band == "all" else band_layers(band, self.engine.n_layer)
        return vector.restricted_to(wanted).layers

    def of(self, cell: Cell, folder: StudyFolder, place: str, progress: Progress | None) -> ControlVector:
        """What a run steers with.

        Args:
            cell: the run.
            folder: the study's.
            place: of vectors in it.
            progress: of the extraction, should there be one.

        Raises:
            SteerError: as extraction does, and `layers`.
        """
        wanted = self.layers(cell)
        vector = self._once(cell.vector, lambda: self._made(cell.vector, folder, place, progress))
        return vector.restricted_to(wanted)

    def made_layers(self, name: str) -> tuple[int, ...]:
        """Layers at which a vector is made: those of all its bands that this model has."""
        found: set[int] = set()
        for cell in self.matrix.cells:
            if (cell.model, cell.vector) == (self.model, name):
                try:
                    found.update(band_layers(self.matrix.bands[cell.band], self.engine.n_layer))
                except LayerError:  # said of the runs of that band
                    continue
        return tuple(sorted(found))

    def _once(self, name: str, make: Callable[[], ControlVector]) -> ControlVector:
        if name not in self._known:
            try:
                self._known[name] = make()
            except SteerError as error:
                self._known[name] = error
        known = self._known[name]
        if isinstance(known, SteerError):
            raise known
        return known

    def _from_file(self, name: str) -> ControlVector:
        spec = self.matrix.vectors[name]
        vector = read_vector_for(self.engine, Path(spec.file.replace("{model}", self.model)))
        return vector.scaled(-1.0) if spec.flip else vector

    def _made(self, name: str, folder: StudyFolder, place: str, progress: Progress | None) -> ControlVector:
        spec = self.matrix.vectors[name]
        pairs, layers = pairs_of(spec, self.choices), self.made_layers(name)
        identity = {
            **asdict(spec), "pairs": pairs_sha256(pairs), "layers": list(layers), "model_sha256": self.engine.sha256,
            **self.engine.vocabulary.chat_identity,
        }  # fmt: skip

        def make(path: Path) -> None:
            vector = extract(
                self.engine, pairs, method=spec.method, layers=layers, template=spec.template, progress=progress
            )
            write_vector(path, vector.scaled(-1.0) if spec.flip else vector, force=True)

        return read_vector(folder.made(f"{place}/{self.model}/{name}.gguf", identity, make))
