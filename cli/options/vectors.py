"""The model and the vector that a command is given, or the embedded model with its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steercpp.choices import Unit
from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine
    from steercpp.sweeps.units import Measured
    from steercpp.vectors.control_vector import ControlVector


def model_or_embedded(model: Path | None) -> Path:
    """The model's file, that of the embedded model where none is named."""
    if model is not None:
        return model
    from steercpp.data.sets.embedded import load

    return load().path


def file_vector(engine: Engine, path: Path, layers: str | None = None, *, only_added: bool = False) -> ControlVector:
    """The vector of a file, which fits the engine's model; what is to be known of it is noted on stderr.

    Args:
        engine: with the model that is to be steered.
        path: of any format.
        layers: those to keep, as --layers takes them; None for all.
        only_added: whether a vector is refused that is not meant to be added to every token.

    Raises:
        VectorFileError, LayerError, InputError: the file cannot be read, has none of the layers, or is for another
            model or another purpose.
    """
    from steercpp.errors import InputError
    from steercpp.vectors.formats import read_vector_for

    vector = read_vector_for(engine, path, layers=layers, note=output.note)
    if only_added and not vector.is_added_everywhere:
        raise InputError(
            f"{path}: is not meant to be added to every token, which is what is calibrated; sweep it instead"
        )
    return vector


def vector_in_unit(
    engine: Engine,
    vector: ControlVector,
    prompts: Sequence[Sequence[int]],
    unit: Unit,
    *,
    kl: float | None,
    report: output.Report | None = None,
) -> tuple[ControlVector, Measured]:
    """The vector with tensors that strength 1 adds, and what was measured for that; a doubt about it is noted.

    Raises:
        CalibrationError, DegenerateError, ...: as `in_unit`.
    """
    from steercpp.sweeps.calibration import KL
    from steercpp.sweeps.units import in_unit

    scaled, measured = in_unit(engine, vector, prompts, unit, kl=kl or KL, progress=report)
    if measured.doubt:
        output.note(measured.doubt)
    return scaled, measured


def embedded_vector(engine: Engine, layers: str | None = None, report: output.Report | None = None) -> ControlVector:
    """The embedded model's own vector, at these layers or at its own."""
    from steercpp.data.sets.embedded import load
    from steercpp.extraction.extract import extract
    from steercpp.vectors.layers import parse_layers

    embedded = load()
    wanted = embedded.layers if layers is None else parse_layers(layers, engine.n_layer)
    return extract(engine, embedded.pairs(), layers=wanted, progress=report)


def named_vector(engine: Engine, path: Path | None, layers: str | None, report: output.Report | None) -> ControlVector:
    """The vector of a file, which must be one that is added to every token, or the embedded model's own."""
    return (
        embedded_vector(engine, layers, report) if path is None else file_vector(engine, path, layers, only_added=True)
    )
