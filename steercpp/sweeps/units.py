"""What strength 1 adds: the units of strengths; read this to bring a vector into one.

length  the vector's tensors as they are
norm    at each layer one median residual norm, along the vector's tensor
kl      the smallest push along the vector that has so many nats of KL, see calibration.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steercpp.aliases import Progress
from steercpp.choices import UNITS, Unit
from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.runs.manifest import CalibrationRecord
from steercpp.sweeps.calibration import KL, in_kl_units
from steercpp.vectors.control_vector import ControlVector

_WITHOUT_LENGTH = ("ablate", "rotate")  # the tensor's length means nothing to them


def check_unit(unit: str, kl: float, operator: str = "add") -> None:
    """Make sure that strengths can be in a unit.

    Raises:
        InputError: an unknown unit, nats that are no number above 0, or "kl" for an operator that takes only the
            vector's direction.
    """
    if unit not in UNITS:
        raise InputError(f"unit {unit!r} is unknown; use {', '.join(UNITS[:-1])} or {UNITS[-1]}")
    if unit == "kl" and not 0 < kl < float("inf"):
        raise InputError(f"kl is {kl}; give a number of nats above 0, such as {KL}")
    if unit == "kl" and operator in _WITHOUT_LENGTH:
        raise InputError(f"the unit kl scales the vector, whose length means nothing to {operator}; use another unit")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured to bring a vector into a unit; None where nothing was.

    Attributes:
        residual_norms: median norm of the residual stream at each layer of the vector.
        calibration: of the unit "kl".
        doubt: what is to be known of that one, in a sentence; "" where all is well.
    """

    residual_norms: tuple[float, ...] | None = None
    calibration: CalibrationRecord | None = None
    doubt: str = ""


def in_unit(
    engine: Engine,
    vector: ControlVector,
    prompts: Sequence[Sequence[int]],
    unit: Unit,
    *,
    kl: float = KL,
    sign: int = 1,
    progress: Progress | None = None,
) -> tuple[ControlVector, Measured]:
    """The vector with tensors that strength 1 adds, and what was measured for that.

    Args:
        engine: the model.
        vector: directions of any length.
        prompts: tokens of the texts over which norms and KL are taken.
        unit: see above; "length" leaves the vector as it is.
        kl: for the unit "kl", the nats.
        sign: for the unit "kl", that of the strengths that are wanted.
        progress: for the unit "kl", as in `calibrate`.

    Returns:
        the vector, and what was measured for it.

    Raises:
        CalibrationError, DegenerateError, ...: as `calibrate` and `Engine.residual_norms`.
    """
    if unit == "length":
        return vector, Measured()
    if unit == "norm":
        scaled, norms = in_norm_units(engine, vector, prompts)
        return scaled, Measured(tuple(norms[il] for il in vector.layers))
    scaled, result = in_kl_units(engine, vector, prompts, kl=kl, sign=sign, progress=progress)
    calibration = CalibrationRecord(
        strength=result.strength, target=result.target, quantile=result.quantile, kl=result.kl,
        n_tokens=result.n_tokens, prompts_sha256=result.prompts_sha256, floor=result.floor,
    )  # fmt: skip
    return scaled, Measured(tuple(result.residual_norms[il] for il in vector.layers), calibration, result.doubt)


def in_norm_units(
    engine: Engine, vector: ControlVector, prompts: Sequence[Sequence[int]]
) -> tuple[ControlVector, dict[int, float]]:
    """The vector with each tensor brought to the residual stream's median norm at its layer.

    Args:
        engine: the model.
        vector: directions of any length.
        prompts: tokens over which the norms are taken.

    Returns:
        the vector, whose strength 1 is one residual norm at each layer, and those norms.

    Raises:
        DegenerateError, ...: as `Engine.residual_norms`.
    """
    lengths = engine.residual_norms(prompts, vector.layers)
    factors = {il: lengths[il] / norm if norm else 0.0 for il, norm in vector.norms.items()}
    return vector.scaled(factors), lengths
