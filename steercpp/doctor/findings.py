"""What the doctor can find in a control vector, and the questions it can ask of the file alone.

A finding is a fault: the file is not loaded somewhere, or steers otherwise than meant. A remark is worth knowing and no
fault. Layers are those that the file names, also where its directions belong to other ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steercpp.aliases import FloatArray
from steercpp.doctor.loose_vector import LooseVector, Piece
from steercpp.extraction.methods import METHODS
from steercpp.vectors import notes as words
from steercpp.vectors.control_vector import PLAIN, can_be_stored
from steercpp.vectors.gguf import MAX_LAYERS
from steercpp.vectors.layers import format_layers

_SHOWN = 4  # names in one sentence
_OPPOSITE = -0.5  # cosine of neighboring layers; a direction turns slowly from block to block


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        code: its name, for scripts; docs/doctor.md lists them.
        sentence: what was found.
        repair: what a repair does about it; "" if it can do nothing.
        layers: where, as the file numbers them.
        is_fatal: no repair of this file gives a right vector.
    """

    code: str
    sentence: str
    repair: str = ""
    layers: tuple[int, ...] = ()
    is_fatal: bool = False


def file_findings(loose: LooseVector, n_embd: int) -> Iterator[Finding]:
    """Faults that the file shows by itself, the model and the layers' origin aside.

    Args:
        loose: the file.
        n_embd: the width that directions should have.
    """
    yield from _cut(loose)
    yield from _tensors(loose)
    yield from _unreadable(loose)
    yield from _numbers(loose, n_embd)
    yield from _keys(loose)


def pca_findings(loose: LooseVector, directions: dict[int, FloatArray]) -> Iterator[Finding]:
    """The fault of llama-cvector-generator's PCA, as the norms show it."""
    norms = [float(np.linalg.norm(row.astype(np.float64))) for row in directions.values()]
    fault = words.pca_fault(norms) if words.from_cvector_generator(loose.header) else ""
    if fault:
        sentence = f"{fault}; the right ones are not in the file, and another run gives others"
        yield Finding("pca-fault", sentence, is_fatal=True)


def sign_findings(loose: LooseVector, directions: dict[int, FloatArray]) -> Iterator[Finding]:
    """Neighboring layers that point opposite ways: an axis with the sign left to chance, if no rule has set it."""
    turned = _turned(directions)
    if turned and not own_method(loose):
        sentence = (
            f"at {where(turned)} the direction points against that of the layer below: signs were left to chance, and "
            "the layers work against each other; give `model` and `pairs` to find out which ones are wrong"
        )
        yield Finding("signs-differ", sentence, layers=turned)


def sign_remarks(loose: LooseVector, directions: dict[int, FloatArray]) -> Iterator[str]:
    """The same where a method of ours has set the signs by the pairs."""
    turned = _turned(directions)
    if turned and (method := own_method(loose)):
        yield (
            f"at {where(turned)} the direction points against that of the layer below: {method} sets signs by the "
            "pairs, so the axes of these layers differ or turn; check with the model and pairs"
        )


def own_method(loose: LooseVector) -> str:
    """The method of ours by which the file says it was made; "" if it names none."""
    method = loose.metadata.get("method")
    return method if isinstance(method, str) and method in METHODS else ""


def _turned(directions: dict[int, FloatArray]) -> tuple[int, ...]:
    """Layers whose direction points against that of the layer below."""
    turned = []
    for il, row in directions.items():
        above = directions.get(il + 1)
        if above is not None and row.any() and above.any():
            a, b = row.astype(np.float64), above.astype(np.float64)
            if a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) < _OPPOSITE:
                turned.append(il + 1)
    return tuple(turned)


def comes_shifted(loose: LooseVector) -> bool:
    """Whether the file says, by its keys, that direction.k was measured at block k-1."""
    convention = loose.metadata.get("layer_convention")
    return words.from_cvector_generator(loose.header) or convention == words.CVECTOR_GENERATOR


def is_additive(loose: LooseVector) -> bool:
    """Whether the vector is simply added everywhere, as readers other than steercpp will do."""
    return all(loose.metadata.get(key, value) == value for key, value in PLAIN.items())


def width(loose: LooseVector) -> int:
    """The number of elements that most directions have; 0 where there is none."""
    counted = Counter(len(row) for _, row in loose.rows())
    return counted.most_common(1)[0][0] if counted else 0


def where(layers: Collection[int]) -> str:
    """Layers in a sentence: "layer 3" or "layers 3,5-7"."""
    return f"layer{'s' if len(layers) > 1 else ''} {format_layers(layers)}"


def _named(pieces: Sequence[Piece]) -> str:
    names = [piece.name for piece in pieces[:_SHOWN]]
    more = [f"{len(pieces) - _SHOWN} more"] if len(pieces) > _SHOWN else []
    return ", ".join([*names, *more])


def _layers_of(pieces: Sequence[Piece]) -> tuple[int, ...]:
    return tuple(sorted({piece.layer for piece in pieces if piece.layer is not None}))


def _cut(loose: LooseVector) -> Iterator[Finding]:
    cut = [piece for piece in loose.pieces if piece.is_cut]
    if cut:
        sentence = f"{_named(cut)}: truncated: {cut[-1].problem}; copy the file again"
        yield Finding("truncated", sentence, layers=_layers_of(cut), is_fatal=True)
    elif not loose.is_laid_out and all(piece.row is not None for piece in loose.pieces):
        sentence = "the tensors' data do not lie one behind the other, so llama.cpp does not load the file"
        yield Finding("layout", sentence, "they are written in order")


def _tensors(loose: LooseVector) -> Iterator[Finding]:
    """What llama.cpp does not load the file for, although the direction can be read."""
    tensors = [piece for piece in loose.pieces if not piece.in_key]
    readable = [piece for piece in tensors if piece.layer is not None and piece.row is not None]
    if strange := [piece for piece in tensors if piece.layer is None]:
        sentence = f"{_named(strange)}: not a name direction.<layer>, so llama.cpp does not load the file"
        yield Finding("name", sentence, f"left out: {_named(strange)}")
    if zero := [piece for piece in readable if piece.layer == 0]:
        sentence = f"{_named(zero)}: layer 0 cannot be steered by llama.cpp, which does not load the file"
        yield Finding("direction-0", sentence, "it is moved to the key steercpp.direction.0", (0,))
    if other := [piece for piece in readable if piece.type_name != "F32"]:
        sentence = f"{_named(other)}: type {other[0].type_name}, but llama.cpp takes F32 only"
        yield Finding("type", sentence, "written as F32", _layers_of(other))
    if crosswise := [piece for piece in readable if any(n != 1 for n in piece.shape[1:])]:
        sentence = f"{_named(crosswise)}: shape {list(crosswise[0].shape)}, but llama.cpp takes one axis only"
        yield Finding("shape", sentence, "written with one axis", _layers_of(crosswise))
    if deep := [piece for piece in tensors if (piece.layer or 0) >= MAX_LAYERS]:
        sentence = f"{_named(deep)}: no model has this layer; llama.cpp knows at most {MAX_LAYERS}"
        yield Finding("layer-missing", sentence, f"left out: {_named(deep)}", _layers_of(deep))


def _unreadable(loose: LooseVector) -> Iterator[Finding]:
    broken = [p for p in loose.pieces if p.layer is not None and p.row is None and not p.is_cut]
    for problem in dict.fromkeys(piece.problem for piece in broken):
        alike = [piece for piece in broken if piece.problem == problem]
        yield Finding("unreadable", f"{_named(alike)}: {problem}", f"left out: {_named(alike)}", _layers_of(alike))


def _numbers(loose: LooseVector, n_embd: int) -> Iterator[Finding]:
    if other := [p for p in loose.pieces if p.layer is not None and p.row is not None and len(p.row) != n_embd]:
        sentence = f"{_named(other)}: {max(other[0].shape)} elements where the other directions have {n_embd}"
        yield Finding("mixed-width", sentence, f"left out: {_named(other)}", _layers_of(other))
    good = loose.directions(n_embd)
    counted = Counter(il for il, row in loose.rows() if len(row) == n_embd and il < MAX_LAYERS)
    if bad := tuple(sorted(il for il in counted if il not in good)):
        sentence = f"NaN or infinite elements at {where(bad)}; every token would become NaN"
        yield Finding("not-finite", sentence, f"left out: {where(bad)}", bad)
    for il, n_pieces in sorted((il, n) for il, n in counted.items() if n > 1 and il in good):
        yield Finding("summed", words.summed(il, n_pieces), f"layer {il} is written as one tensor, their sum", (il,))
    zero = tuple(il for il, row in good.items() if not row.any())
    if zero:
        yield Finding("zero", words.zero_layers(zero), f"left out: {where(zero)}", zero)
    if len(good) == len(zero):
        sentence = "every direction is zero or unreadable" if loose.pieces else "no tensors direction.<layer>"
        yield Finding("no-direction", f"{sentence}, so nothing is steered; extract the vector again", is_fatal=True)


def _keys(loose: LooseVector) -> Iterator[Finding]:
    if loose.kind in words.ARCHITECTURES[1:]:
        yield Finding("kind", words.other_kind(loose.kind), "general.architecture is written as controlvector")
    elif loose.kind not in words.ARCHITECTURES:
        sentence = (
            f"general.architecture is {loose.kind!r} instead of 'controlvector': other tools do not take the file"
        )
        yield Finding("kind", sentence, "general.architecture is written as controlvector")
    if not is_additive(loose) and any(piece.layer for piece in loose.pieces if not piece.in_key):
        operator = loose.metadata.get("operator", "add")
        sentence = (
            f"meant for the operator {operator!r} under its conditions, yet other tools add its tensors everywhere"
        )
        yield Finding("not-additive", sentence, "directions go to keys steercpp.direction.<layer>, which others ignore")
    if odd := [key for key, value in loose.metadata.items() if not can_be_stored(key, value)]:
        sentence = f"steercpp.{odd[0]!r}: no key that a control vector has"
        yield Finding("metadata", sentence, f"left out: {', '.join(map(repr, odd))}")
    if "steercpp.n_layer" in loose.header.values:
        least = max((p.layer + 1 for p in loose.pieces if p.layer is not None and p.layer < MAX_LAYERS), default=1)
        if loose.n_layer is None or not least <= loose.n_layer <= MAX_LAYERS:
            sentence = f"steercpp.n_layer is {loose.n_layer}, with tensors for {least} layers"
            yield Finding("depth", sentence, "the number of layers is written again")
