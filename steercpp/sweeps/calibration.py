"""How hard a vector pushes on one model, in nats and in residual norms; read this to calibrate a strength.

    calibration = calibrate(engine, vector, prompts, kl=0.1)
    calibration.strength      # the smallest at which the 95th percentile of KL(steered || unsteered) is 0.1 nat
    calibration.shares        # the length of that push at each layer, as a share of the residual stream's norm
    calibration.floor         # what of such a quantile rounding alone has, in nats

In units of that strength a push means the same on another layer, model or quantization: docs/calibration.md.
`first_crossing` looks for it: the smallest x at which a measured curve that starts at 0 reaches a target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steercpp.aliases import Floats, Progress, Tokens
from steercpp.engine.engine import Engine
from steercpp.engine.steering import Steering, check
from steercpp.errors import CalibrationError, DegenerateError, InputError, NonFiniteError
from steercpp.provenance import json_sha256
from steercpp.sweeps.token_kl import TokenKl
from steercpp.vectors.control_vector import ControlVector, MetaValue

KL = 0.1  # nats
QUANTILE = 0.95
FIRST, LAST = 2.0**-7, 2.0**7  # pushes, in residual norms, between which the target is looked for
SMALLEST, GENTLE = 2.0**-14, 0.05  # the floor is taken at this push at least, and at this KL at most
REFUSED, DOUBTED = 3.0, 10.0  # floors below which a target means nothing, and below which it is partly rounding
TOLERANCE, JUMP = 0.01, 0.05  # of the target: within which a value is taken, and at a jump
FAR, NEAR = 2.0, 2.0**0.25  # steps upwards: while the value is at most 1/16 of the target, and then
_FAR_BELOW = 1 / 16
_LEAST = 2.0**-20  # of the first x, to which it is halved where it reaches the target already
_SAME = 1 + 2.0**-20  # a bracket as narrow as float32 can tell: the curve jumps over the target


@dataclass(frozen=True, slots=True)
class Calibration:
    """The push of one vector on one model that has the effect asked for.

    Attributes:
        strength: the smallest of its sign, of the vector as it stands.
        target: nats asked for, at this quantile over the tokens.
        kl: nats measured there at the quantile, the median and the maximum.
        floor: nats at the quantile that rounding alone has, see `TokenKl.rounding`.
        n_tokens: tokens that counted, see token_kl.py.
        residual_norms: median length of the residual stream at each layer of the vector, over the same texts.
        lengths: length of the push at each layer, strength times the norm of the tensor.
        tried: (strength, nats at the quantile) of all that was measured, in that order.
        prompts_sha256: hash of the texts' tokens; model_sha256: of the model.
    """

    strength: float
    target: float
    quantile: float
    kl: float
    kl_median: float
    kl_max: float
    floor: float
    n_tokens: int
    residual_norms: Mapping[int, float]
    lengths: Mapping[int, float]
    tried: tuple[tuple[float, float], ...]
    prompts_sha256: str
    model_sha256: str

    @property
    def shares(self) -> dict[int, float]:
        """Length of the push at each layer in residual norms."""
        return {il: length / self.residual_norms[il] for il, length in self.lengths.items()}

    @property
    def doubt(self) -> str:
        """What is to be known of a target near the floor, in a sentence; "" where it lies far above."""
        if self.target >= DOUBTED * self.floor:
            return ""
        return (
            f"{self.target:g} nats of KL are partly rounding, which alone has {self.floor:.2g} on this model and these "
            f"texts; with ten times as much, a `kl` of {_above(DOUBTED * self.floor)} or more, rounding hardly matters"
        )

    def described(self, vector: ControlVector) -> ControlVector:
        """The vector it was found for, with the finding in its metadata, under calibration.*."""
        return vector.with_metadata(**self._metadata(self.strength))

    def as_unit(self, vector: ControlVector) -> ControlVector:
        """The vector it was found for, scaled so that strength 1, or -1 for a negative sign, is this push."""
        metadata = self._metadata(math.copysign(1.0, self.strength))
        return vector.scaled(abs(self.strength)).with_metadata(**metadata)

    def _metadata(self, strength: float) -> dict[str, MetaValue]:
        return {
            "calibration.kl": self.target, "calibration.kl_measured": self.kl,
            "calibration.floor": self.floor, "calibration.quantile": self.quantile,
            "calibration.strength": strength,
            "calibration.strength_norm": tuple(math.copysign(share, strength) for share in self.shares.values()),
            "calibration.model_sha256": self.model_sha256, "calibration.prompts_sha256": self.prompts_sha256,
            "calibration.n_tokens": self.n_tokens,
        }  # fmt: skip


def calibrate(
    engine: Engine,
    vector: ControlVector,
    prompts: Sequence[Sequence[int]],
    *,
    kl: float = KL,
    quantile: float = QUANTILE,
    sign: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """Find the smallest strength of a sign at which steering moves the predictions as far as asked.

    How far: the quantile over the tokens of the texts of KL(steered || unsteered), in nats, the vector being added at
    every token. It need not grow with the strength, so it is measured from a small push upwards, in steps of at most
    2^(1/4) once it has come to 1/16 of the target, to the first that reaches it; then the bracket is halved until the
    quantile is within 1% of the target (5% where rounding makes it jump).

    Before that the floor is measured: the KL that rounding alone has. A target below three floors is refused, and one
    below ten has a `Calibration.doubt`.

    Args:
        engine: the model.
        vector: directions of any length.
        prompts: tokens of the texts.
        kl: the target in nats.
        quantile: over the tokens; 1 is the maximum.
        sign: +1 or -1, of the strength.
        progress: called with the batches done and of all at each strength, and what is measured.

    Raises:
        CalibrationError: the target is below three floors; no push of up to 128 residual norms reaches it, or one
            before it leaves float32's range; the error tells what was reached.
        DegenerateError: the vector is zero, or the texts have no tokens.
        InputError: a target, quantile or sign out of range; ShapeError, LayerError: the vector is not for this model.
        ContextOverflowError: a text is longer than the context.
        EngineError, UnsteerableError: as `Engine.logprobs`.

    >>> texts = [engine.tokenize(text) for text in ("The moon is far away.", "A dog sleeps in the sun.")]
    >>> found = calibrate(engine, vector, texts, kl=0.1)
    >>> found.strength > 0
    True
    """
    if not (math.isfinite(kl) and kl > 0):
        raise InputError(f"kl is {kl}; give a number of nats above 0, such as {KL}")
    if not 0 < quantile <= 1:
        raise InputError(f"quantile is {quantile}; give a share above 0, at most 1")
    if sign not in (1, -1):
        raise InputError(f"sign {sign!r}: use 1 or -1")
    check(((Steering(vector),),), n_layer=engine.n_layer, n_embd=engine.n_embd)
    if not any(row.any() for row in vector.directions.values()):
        raise DegenerateError("every direction of the vector is zero; it has no strength to calibrate")
    texts = [tuple(map(int, prompt)) for prompt in prompts]
    curve = _Curve(TokenKl.of(engine, vector, texts), quantile, sign, progress)
    norms = _residual_norms(engine, vector, texts)
    longest = max(length / norms[il] for il, length in vector.norms.items())  # at strength 1, in residual norms
    floor = curve.floor(kl, first=FIRST / longest, last=SMALLEST / longest)
    strength = curve.smallest(kl, first=FIRST / longest, last=LAST / longest)
    token_kl = curve.values[strength]
    return Calibration(
        strength=strength, target=kl, quantile=quantile, kl=float(np.quantile(token_kl, quantile)),
        kl_median=float(np.median(token_kl)), kl_max=float(token_kl.max()), floor=floor,
        n_tokens=curve.meter.n_tokens,
        residual_norms=norms, lengths={il: abs(strength) * norm for il, norm in vector.norms.items()},
        tried=tuple(curve.tried), prompts_sha256=json_sha256(texts), model_sha256=engine.sha256,
    )  # fmt: skip


def in_kl_units(
    engine: Engine,
    vector: ControlVector,
    prompts: Sequence[Sequence[int]],
    *,
    kl: float = KL,
    sign: int = 1,
    progress: Progress | None = None,
) -> tuple[ControlVector, Calibration]:
    """The vector scaled so that strength 1 (sign -1: strength -1) moves the predictions over the prompts by kl nats.

    All tensors are scaled alike; how far is measured as by `calibrate`.

    Args:
        engine: the model.
        vector: directions of any length.
        prompts: tokens of the texts.
        kl: nats at the 95th percentile over the tokens.
        sign: +1 or -1, the sign that is wanted.
        progress: as in `calibrate`.

    Raises:
        CalibrationError, ...: as `calibrate`.
    """
    calibration = calibrate(engine, vector, prompts, kl=kl, sign=sign, progress=progress)
    return calibration.as_unit(vector), calibration


@dataclass(slots=True)
class _Curve:
    """The quantile of KL as a function of the strength, and all that was measured of it."""

    meter: TokenKl
    quantile: float
    sign: int
    progress: Progress | None
    values: dict[float, Floats] = field(default_factory=dict)

    @property
    def tried(self) -> list[tuple[float, float]]:
        return [(strength, float(np.quantile(kl, self.quantile))) for strength, kl in self.values.items()]

    def floor(self, target: float, *, first: float, last: float) -> float:
        """The quantile of what rounding alone has, at the largest push up to `first` whose KL is not above the target.

        At larger ones more than rounding would be left; below `last` it is not looked for.

        Raises:
            CalibrationError: the target is below `REFUSED` floors; NonFiniteError: the model's output is not finite.
        """
        size = first
        while self._measure(size) > min(target, GENTLE) and size / 2 >= last:
            size /= 2
        strength = self._strength(size)
        floor = float(np.quantile(self.meter.rounding(strength), self.quantile))
        if target < REFUSED * floor:
            if size < first:  # at the push of a larger target there are more roundings, until all are other ones
                floor = max(floor, float(np.quantile(self.meter.rounding(self._strength(first)), self.quantile)))
            raise CalibrationError(
                f"{target:g} nats of KL cannot be distinguished from rounding, which alone has {floor:.2g} here "
                f"(the {self.quantile:.0%} quantile over {self.meter.n_tokens} tokens); ask for a `kl` of "
                f"{_above(REFUSED * floor)} or more, or take a model file of more bits",
                strength=strength, kl=floor,
            )  # fmt: skip
        return floor

    def smallest(self, target: float, *, first: float, last: float) -> float:
        """The smallest strength of the sign at which the target is reached.

        Raises:
            CalibrationError: there is none; NonFiniteError: the unsteered model's output is not finite.
        """
        try:
            return self._strength(first_crossing(self._measure, target, first=first, last=last))
        except NonFiniteError as error:
            if not self.values:
                raise
            strength, reached = max(self.tried, key=lambda strength_and_kl: strength_and_kl[1])
            raise self._unreached(
                target, f"up to {strength:g} it is {reached:.3g}, and {error}", strength, reached
            ) from error
        except CalibrationError as error:
            raise self._unreached(target, str(error), self.sign * error.strength, error.kl) from error

    def _strength(self, size: float) -> float:
        return float(np.float32(self.sign * size))  # what the engine adds

    def _measure(self, size: float) -> float:
        strength = self._strength(size)
        if strength in self.values:
            return float(np.quantile(self.values[strength], self.quantile))

        def tick(done: int, total: int) -> None:
            assert self.progress is not None
            self.progress(done, total, f"calibrating at {strength:+.4g}")

        kl = self.meter.at(strength, None if self.progress is None else tick)
        if not np.isfinite(kl).all():
            raise NonFiniteError(f"at strength {strength:g} KL is not finite")
        self.values[strength] = kl
        return float(np.quantile(kl, self.quantile))

    def _unreached(self, target: float, reason: str, strength: float, kl: float) -> CalibrationError:
        name = f"the {self.quantile:.0%} quantile of KL over {self.meter.n_tokens} tokens"
        return CalibrationError(
            f"no {'positive' if self.sign > 0 else 'negative'} strength brings {name} to {target:g} nats: {reason}; "
            "ask for another `kl`, steer other layers, or use other texts", strength=strength, kl=kl
        )  # fmt: skip


def _above(nats: float) -> str:
    """A number of two digits that is not below this one."""
    digit = 10.0 ** (math.floor(math.log10(nats)) - 1)
    return f"{math.ceil(nats / digit) * digit:.2g}"


def _residual_norms(engine: Engine, vector: ControlVector, texts: Sequence[Tokens]) -> dict[int, float]:
    """Median residual norms at the vector's layers, of as many layers at a time as the engine's memory allows.

    Raises:
        DegenerateError: the residual stream is zero at a layer.
    """
    n_rows = min(sum(map(len, texts)), int(engine.settings()["n_group"]))
    at_once = max(engine.keep_bytes // (4 * engine.n_embd * n_rows), 1)
    norms: dict[int, float] = {}
    for first in range(0, len(vector.layers), at_once):
        norms |= engine.residual_norms(texts, vector.layers[first : first + at_once])
    for il, norm in norms.items():
        if not norm:
            raise DegenerateError(f"layer {il}: the residual stream is zero; there is no length to compare with")
    return norms


def first_crossing(measure: Callable[[float], float], target: float, *, first: float, last: float) -> float:
    """The smallest x at which a curve reaches a target, as far as steps of `NEAR` can tell.

    Args:
        measure: the curve's value at an x above 0.
        target: above 0.
        first: where to begin; halved as long as the value there is the target or more.
        last: where to give up.

    Returns:
        x with a value within `TOLERANCE` of the target; where the curve jumps, just above the jump, within `JUMP`.

    Raises:
        CalibrationError: the target is not reached up to `last`, is exceeded however small x is, or is jumped over. It
            tells where the value is largest, smallest, or just above the jump.
    """
    low, value = first, measure(first)
    while value > target * (1 + TOLERANCE):
        if low < first * _LEAST:
            raise CalibrationError(f"even a strength of {low:g} has {value:.3g}", strength=low, kl=value)
        low /= 2
        value = measure(low)
    high, best = low, (value, low)
    while value < target * (1 - TOLERANCE):
        low, high = high, high * (FAR if value <= target * _FAR_BELOW else NEAR)
        if high > last:
            raise CalibrationError(
                f"up to a strength of {low:g} it reaches {best[0]:.3g}", strength=best[1], kl=best[0]
            )
        value = measure(high)
        best = max(best, (value, high))
    while abs(value / target - 1) > TOLERANCE and high / low > _SAME:
        middle = math.sqrt(low * high)
        at_middle = measure(middle)
        if at_middle < target * (1 - TOLERANCE):
            low = middle
        else:
            high, value = middle, at_middle
    if value > target * (1 + JUMP):
        raise CalibrationError(f"rounding takes it past that, to {value:.3g} at {high:g}", strength=high, kl=value)
    return high
