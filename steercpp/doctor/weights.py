"""What the types of a model's weights cost on this CPU, and which type of the same size is faster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.engine.devices import Advice
from steercpp.engine.weights import Speed, block_matrices, time_types

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine

# Types that a model may have instead, with llama-quantize's word for the file; blocks of the K ones hold 256 weights.
_FILES = {
    "q4_0": "Q4_0", "q8_0": "Q8_0", "bf16": "BF16", "iq4_nl": "IQ4_NL",
    "q2_K": "Q2_K", "q3_K": "Q3_K_M", "q4_K": "Q4_K_M", "q5_K": "Q5_K_M", "q6_K": "Q6_K",
}  # fmt: skip
_K_BLOCK = 256
_SIZES = (0.8, 1.25)  # of a weight, against the file's: about as large, about as exact
_WORTHWHILE = 2.5  # times faster: of a prompt, which is more than products, about 1.7 times
_ALIKE = 1.15  # times as long as the fastest: kept in the order of the table above


def weight_advice(engine: Engine) -> Advice | None:
    """A faster type for most of a model's weights, timed here; None where there is none, or devices compute the blocks.

    Takes about a second.

    Args:
        engine: with the model.
    """
    return weight_advice_of(engine.path, engine.settings())


def weight_advice_of(path: Path, settings: Mapping[str, Any]) -> Advice | None:
    """The same of a model that an engine with these settings has loaded, in this process or another one."""
    matrices = block_matrices(path)
    if not matrices or settings["n_gpu_layers"] != 0:
        return None
    main = matrices[0]
    others = [type_ for type_ in _FILES if not type_.endswith("_K") or main.n_in % _K_BLOCK == 0]
    try:
        speeds = time_types(
            dict.fromkeys([main.type, *others]), n_in=main.n_in, n_out=main.n_out, threads=int(settings["threads"])
        )
    except ValueError:  # a type that only other devices multiply with
        return None
    better = faster_types(speeds, main.type)
    if not better:
        return None
    own = speeds[main.type]
    names = [f"{_FILES[speed.type]} ({own.seconds / speed.seconds:.1f} times)" for speed in better]
    share = "" if main.share > 0.99 else f"{main.share:.0%} of "
    finding = (
        f"{share}{'the' if share else 'The'} model's weights are {main.type.upper()}, with which this CPU takes "
        f"long for a prompt. Of about the same size, products with these are faster: {', '.join(names)}. Make such a "
        "file from the unquantized model:"
    )
    return Advice(finding, f"llama-quantize model-f16.gguf model.gguf {_FILES[better[0].type]}")


def faster_types(speeds: dict[str, Speed], type_: str) -> tuple[Speed, ...]:
    """Types of about the same size that are worth another file, the fastest first.

    Args:
        speeds: of this type and of others.
        type_: that a file has.
    """
    own = speeds[type_]
    fitting = [
        speed
        for speed in speeds.values()
        if _SIZES[0] <= speed.bits / own.bits <= _SIZES[1] and own.seconds / speed.seconds >= _WORTHWHILE
    ]
    fastest = min((speed.seconds for speed in fitting), default=0.0)
    return tuple(sorted(fitting, key=lambda speed: max(speed.seconds, _ALIKE * fastest)))
