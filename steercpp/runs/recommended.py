"""The recommended strength that a run's vector.gguf carries: `generate` and `cross` take it from there.

A sweep writes it at its end. Another version may recommend another strength for the same measurements, or none, so
whoever judges a finished run again has the file say what the run's own plan recommends now.
"""

from __future__ import annotations

from steercpp.errors import SteerError
from steercpp.locks import writing
from steercpp.runs.folder import read_swept_vector, refuse_replaced
from steercpp.runs.result import SweepResult
from steercpp.statistics.recommend import Recommendation
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

STRENGTH, BUDGET = "recommended_strength", "max_loss"


def with_recommendation(vector: ControlVector, recommendation: Recommendation | None) -> ControlVector:
    """The vector with what a run recommends for it in place of what it says; with nothing where that is none."""
    metadata = {key: value for key, value in vector.metadata.items() if key not in (STRENGTH, BUDGET)}
    bare = ControlVector(vector.directions, vector.model_hint, vector.n_layer, metadata)
    if recommendation is None or recommendation.strength is None:
        return bare
    return bare.with_metadata(**{STRENGTH: recommendation.strength, BUDGET: recommendation.max_loss})


def renew_recommendation(result: SweepResult) -> str:
    """Bring the recommended strength in the vector of a finished run up to date.

    It is that of the plan's own budget and sign, however else the run is judged.

    Returns:
        What became of a strength that stood there and is another one now, in a sentence; "" where none did.
    """
    if not result.finished:
        return ""
    path, vector = result.vector_path, read_swept_vector(result.folder, result.manifest)
    renewed = with_recommendation(vector, result.recommend())
    before, now = (of.metadata.get(STRENGTH) for of in (vector, renewed))
    if before == now:
        return ""
    what = "recommends none" if now is None else f"recommends {now:+g}"
    said = "" if before is None else f"{path}: carried a recommended strength of {before:+g}, the run {what}"
    try:
        with writing(result.folder, otherwise=""):
            refuse_replaced(result.folder, result.manifest)
            write_vector(path, renewed, force=True)
    except SteerError as error:
        return said and f"{said}; the file still says the former: {error}"
    return said and f"{said}; the file is brought up to date"
