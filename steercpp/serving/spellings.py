"""How a request says what steers it, in three spellings of one meaning; read this to write one.

    "refusal:1.5, cheer:-0.5"                                 names with strengths
    {"vector": "refusal", "strength": 1.5, "layers": "8-15"}  one object, or a list of them
    {"vectors": [{"source": "refusal", "scale": 1.5}]}        EasySteer's, with names for sources
    model "llama+refusal@1.5"                                 for clients that choose a model and nothing else

A strength that is left out, or "recommended", is the one that the vector's sweep recommends. What else is left out is
as the vector's file means it. Names lead to vectors in folder.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from steercpp.choices import Operator, Positions, Side
from steercpp.encoding import one_line
from steercpp.engine.steering import Gate, Steering, check_gate
from steercpp.errors import InputError, LayerError, StrengthError
from steercpp.serving.folder import NamedVector, VectorFolder
from steercpp.vectors.control_vector import PLAIN
from steercpp.vectors.formats import ModelShape
from steercpp.vectors.layers import parse_layers

MOST_VECTORS = 16  # of one request
RECOMMENDED = "recommended"
_KEYS = ("vector", "strength", "operator", "positions", "side", "layers", "gate")
_GATE_KEYS = ("layer", "threshold", "below", "vector")
_GATE = re.compile(r"([0-9]{1,4}):(below:)?([^:]+)")
# EasySteer's names for what these are here (its VectorSpec and ApplySpec).
_EASYSTEER_KEYS = ("source", "name", "scale", "layers", "algorithm", "apply")
_PHASES: Mapping[frozenset[str], Positions] = {
    frozenset(("prompt", "generation")): "all", frozenset(("prompt",)): "prompt",
    frozenset(("generation",)): "generated",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GateWish:
    """A gate as it is asked for; the vector's own direction where `vector` is ""."""

    layer: int
    threshold: float
    below: bool = False
    vector: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """One vector as it is asked for; what is None is as its file means it, its strength what is recommended."""

    vector: str
    strength: float | None = None
    operator: str | None = None
    positions: str | None = None
    side: str | None = None
    layers: str | None = None
    gate: GateWish | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A vector that steers a request."""

    named: NamedVector
    steering: Steering

    def record(self) -> dict[str, Any]:
        """What an answer tells of it."""
        acts = self.steering
        gate = acts.gate
        shown = None if gate is None else {"layer": gate.il, "threshold": gate.threshold, "below": not gate.above}
        return {
            "vector": self.named.name, "sha256": self.named.sha256, "strength": acts.strength,
            "operator": acts.operator, "positions": acts.positions, "side": acts.side,
            "layers": list(acts.vector.layers), "gate": shown,
        }  # fmt: skip


def parse_steering(value: object) -> tuple[Wish, ...]:
    """What a request's field `steering` asks for; () for None.

    Raises:
        InputError: it is none of the spellings, or too much.

    >>> parse_steering("refusal:1.5")[0].strength
    1.5
    >>> parse_steering([{"vector": "refusal", "strength": 1.5}]) == parse_steering("refusal:1.5")
    True
    """
    if value is None:
        return ()
    if isinstance(value, str):
        wishes = [_of_words(words) for words in value.split(",") if words.strip()]
    elif isinstance(value, Mapping) and "vectors" in value:
        wishes = _of_easysteer(value)
    elif isinstance(value, Mapping):
        wishes = [_of_object(value)]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        wishes = [_of_object(entry) if isinstance(entry, Mapping) else _of_words(entry) for entry in value]
    else:
        raise InputError(f'`steering` is {_shown(value)}; write it as "name:1.5" or {{"vector": "name", ...}}')
    if len(wishes) > MOST_VECTORS:
        raise InputError(f"`steering` names {len(wishes)} vectors; name at most {MOST_VECTORS}")
    return tuple(wishes)


def parse_model(model: str, own: str) -> tuple[Wish, ...] | None:
    """What a model's name asks for behind the served model's own; None where it is another model's.

    >>> parse_model("llama+refusal@1.5", "llama")[0].strength, parse_model("gpt", "llama")
    (1.5, None)
    """
    if model == own:
        return ()
    if not model.startswith(f"{own}+"):
        return None
    wishes = []
    # a + in an exponent, as in 1e+1, divides nothing
    for words in re.split(r"(?<!@[0-9][eE])\+", model[len(own) + 1 :]):
        name, at, strength = words.rpartition("@")
        wishes.append(Wish(name, _strength(strength)) if at else Wish(words))
        if not wishes[-1].vector:
            raise InputError(f"`model` is {one_line(model)!r}; write it as {own}+name or {own}+name@1.5")
    if len(wishes) > MOST_VECTORS:
        raise InputError(f"`model` names {len(wishes)} vectors; name at most {MOST_VECTORS}")
    return tuple(wishes)


def applied(wishes: Sequence[Wish], folder: VectorFolder, model: ModelShape) -> tuple[Applied, ...]:
    """The vectors that are asked for, each as it acts.

    Raises:
        InputError: there is no such vector, it is not for the model, or it cannot act so.
        StrengthError: a strength is no finite float32, or none is given and none recommended.
        LayerError: layers that the vector or the model lacks.
    """
    return tuple(_applied(wish, folder, model) for wish in wishes)


def _applied(wish: Wish, folder: VectorFolder, model: ModelShape) -> Applied:
    named = folder.vector(wish.vector)
    name, vector = one_line(named.name), named.vector
    if wish.layers is not None:
        try:
            vector = vector.restricted_to(parse_layers(wish.layers, model.n_layer))
        except LayerError as error:
            raise LayerError(f"vector {name!r}: {error}") from error
    # of some layers alone nothing is recommended
    strength = replace(named, vector=vector).recommended if wish.strength is None else wish.strength
    if strength is None:
        layers = "" if wish.layers is None else " for these layers"
        raise StrengthError(f"vector {name!r} has no recommended strength{layers}; give one, such as {name}:1")
    manner = {
        key: str(given or vector.metadata.get(key, PLAIN[key]))
        for key, given in (("operator", wish.operator), ("positions", wish.positions), ("side", wish.side))
    }
    gate = _gate(wish, named, folder, model)
    try:
        steering = Steering(
            vector, strength, operator=cast(Operator, manner["operator"]),
            positions=cast(Positions, manner["positions"]), side=cast(Side, manner["side"]), gate=gate,
        )  # fmt: skip
    except InputError as error:
        raise type(error)(f"vector {name!r}: {error}") from error
    return Applied(named, steering)


def _gate(wish: Wish, named: NamedVector, folder: VectorFolder, model: ModelShape) -> Gate | None:
    name, meant = one_line(named.name), str(named.vector.metadata.get("gate", ""))
    if wish.gate is None:
        if not meant:
            return None
        if (own := _meant_gate(meant, named)) is not None:
            return own
        raise InputError(f"vector {name!r} is meant to act behind a gate of another vector's direction; give `gate`")
    asked = wish.gate
    directions = (folder.vector(asked.vector) if asked.vector else named).vector.directions
    if asked.layer not in directions:
        layers = ", ".join(map(str, directions))
        raise LayerError(f"vector {name!r}: `gate` is at layer {asked.layer}; its direction is known at {layers}")
    gate = Gate(directions[asked.layer], asked.layer, asked.threshold, not asked.below)
    check_gate(gate, n_layer=model.n_layer, n_embd=model.n_embd)
    return gate


def _meant_gate(meant: str, named: NamedVector) -> Gate | None:
    """The gate that a file's metadata name, where its direction is the vector's own; see `Gate.identity`."""
    match = _GATE.fullmatch(meant.rpartition(":")[0])
    if match is None or int(match[1]) not in named.vector.directions:
        return None
    il = int(match[1])
    try:
        gate = Gate(named.vector.directions[il], il, float(match[3]), match[2] is None)
    except (ValueError, InputError):
        return None
    return gate if gate.identity == meant else None


# The three spellings.


def _of_words(words: object) -> Wish:
    if not isinstance(words, str):
        raise InputError(f'`steering` holds {_shown(words)}; write it as "name:1.5" or {{"vector": "name", ...}}')
    name, colon, strength = words.strip().rpartition(":")
    if "/" in words or "\\" in words:  # http://..., C:\..., which folder.py refuses by its whole text
        name, colon = words.strip(), ""
    wish = Wish(name.strip(), _strength(strength.strip())) if colon else Wish(words.strip())
    if not wish.vector:
        raise InputError(f'`steering` has {_shown(words)}; write it as "name:1.5"')
    return wish


def _of_object(entry: Mapping[str, Any]) -> Wish:
    _refuse_unknown(entry, _KEYS, "an object of `steering`")
    name = entry.get("vector")
    if not isinstance(name, str) or not name:
        raise InputError(f"an object of `steering` has {_shown(name)} for its `vector`; give the name of one")
    words = {}
    for key in ("operator", "positions", "side"):
        word = entry.get(key)
        if not isinstance(word, str | None):
            raise InputError(f"`steering`: `{key}` is {_shown(word)}; give a word")
        words[key] = word
    layers, gate = _layers(entry.get("layers")), _gate_wish(entry.get("gate"))
    return Wish(name, _strength(entry.get("strength")), **words, layers=layers, gate=gate)


def _of_easysteer(value: Mapping[str, Any]) -> list[Wish]:
    _refuse_unknown(value, ("vectors", "conflict"), "`steering`")
    if value.get("conflict") not in (None, "sequential"):  # all that act are added to one stream here, in their order
        raise InputError(f"`steering`: `conflict` is {_shown(value['conflict'])}; only sequential is known here")
    vectors = value["vectors"]
    if not isinstance(vectors, list) or not all(isinstance(entry, Mapping) for entry in vectors):
        raise InputError("`steering`: `vectors` is no list of objects")
    wishes = []
    for entry in vectors:
        if "vector" in entry:
            wishes.append(_of_object(entry))
            continue
        _refuse_unknown(entry, _EASYSTEER_KEYS, "a vector of `steering`")
        name = entry.get("source", entry.get("name"))
        if not isinstance(name, str) or not name:
            raise InputError(f"a vector of `steering` has {_shown(name)} for its `source`; give the name of one")
        if entry.get("algorithm") not in (None, "direct"):
            raise InputError(f"`steering`: `algorithm` is {_shown(entry['algorithm'])}; only direct is known here")
        strength = _strength(entry.get("scale", 1.0))  # 1 is EasySteer's own default
        operator = "add" if "algorithm" in entry else None
        positions = None if entry.get("apply") is None else _positions(entry["apply"])
        wishes.append(Wish(name, strength, operator, positions, layers=_layers(entry.get("layers"))))
    return wishes


def _positions(apply: object) -> Positions:
    """The positions of EasySteer's `apply`."""
    if not isinstance(apply, Mapping):
        raise InputError(f"`steering`: `apply` is {_shown(apply)}; give an object with `phases`")
    given = {key: value for key, value in apply.items() if value is not None}
    _refuse_unknown(given, ("phases", "positions"), "`apply` of `steering`")
    phases = given.get("phases", ["prompt", "generation"])
    known = isinstance(phases, list) and all(isinstance(phase, str) for phase in phases)
    positions = _PHASES.get(frozenset(phases)) if known else None
    if positions is None:
        raise InputError(f"`steering`: `phases` is {_shown(phases)}; give prompt, generation or both")
    if "positions" not in given:
        return positions
    if given["positions"] == [-1] and positions == "prompt":
        return "last"
    raise InputError(
        "`steering`: of `positions`, only [-1] with the phase prompt is known here: the prompt's last token"
    )


def _strength(value: object) -> float | None:
    """A number; None for what is recommended."""
    if value in (None, RECOMMENDED):
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        strength = float(value)
    except (ValueError, OverflowError):
        strength = math.nan if not isinstance(value, int) or isinstance(value, bool) else math.inf
    if not math.isfinite(strength):
        raise StrengthError(f'strength {_shown(value)} is no finite number; give one, or "{RECOMMENDED}"')
    return strength


def _layers(value: object) -> str | None:
    """Layers as `parse_layers` reads them."""
    if value is None or isinstance(value, str):
        return value
    numbers = [value] if isinstance(value, int) else value
    if not isinstance(numbers, list) or not numbers or not all(type(il) is int and il >= 0 for il in numbers):
        raise InputError(f'`steering`: `layers` is {_shown(value)}; give them as "8-15,20" or a list of numbers')
    if len(numbers) > 1000:
        raise InputError("`steering`: `layers` names more than any model has")
    return ",".join(map(str, numbers))


def _gate_wish(value: object) -> GateWish | None:
    if value is None:
        return None
    if isinstance(value, str) and (match := _GATE.fullmatch(value)):
        given: Mapping[str, Any] = {"layer": int(match[1]), "threshold": match[3], "below": match[2] is not None}
    elif isinstance(value, Mapping):
        _refuse_unknown(value, _GATE_KEYS, "`gate` of `steering`")
        given = value
    else:
        given = {}
    layer, vector, below = given.get("layer"), given.get("vector", ""), given.get("below", False)
    try:
        threshold = float(given.get("threshold", math.nan))
    except (TypeError, ValueError, OverflowError):
        threshold = math.nan
    if type(layer) is not int or layer < 0 or not math.isfinite(threshold):
        raise InputError(
            f'`steering`: `gate` is {_shown(value)}; write it as "12:0.5", "12:below:0.5" or '
            '{"layer": 12, "threshold": 0.5}'
        )
    if not isinstance(vector, str) or not isinstance(below, bool):
        raise InputError("`steering`: of `gate`, `vector` is a name and `below` true or false")
    return GateWish(layer, threshold, below, vector)


def _refuse_unknown(entry: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in entry:
        if key not in known:
            raise InputError(f"{what} has a key {_shown(key)}; it takes {', '.join(known)}")


def _shown(value: object) -> str:
    """A value of a request in an error, shortened."""
    text = one_line(repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number")
    return text if len(text) <= 60 else f"{text[:57]}..."
