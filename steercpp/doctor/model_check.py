"""Whether a control vector fits a model; read this for what the doctor asks of both together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steercpp.aliases import FloatArray
from steercpp.doctor.findings import Finding, where
from steercpp.doctor.loose_vector import LooseVector
from steercpp.doctor.self_test import sentence_tokens
from steercpp.encoding import spelled
from steercpp.errors import UnsteerableError
from steercpp.vectors import notes as words
from steercpp.vectors.gguf_header import shown

if TYPE_CHECKING:
    from steercpp.engine.engine import Engine
    from steercpp.extraction.activations import Activations

# repeng writes transformers' model_type; these differ from llama.cpp's word in more than hyphens and a last "_text".
_ALIASES = {
    "mistral": "llama", "mixtral": "llama", "cohere": "commandr", "phi": "phi2",
    "deepseekv2": "deepseek2", "deepseekv3": "deepseek2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a vector is meant for.

    Attributes:
        architecture: its general.architecture; "" if it is not known.
        file: its name.
        sha256: of the model; "" if it was not asked for.
    """

    architecture: str
    n_layer: int
    n_embd: int
    file: str
    sha256: str


def target_of(engine: Engine, *, hashed: bool) -> Target:
    """The model of an engine; `hashed` reads all of its file."""
    sha256 = engine.sha256 if hashed else ""
    return Target(engine.architecture, engine.n_layer, engine.n_embd, spelled(engine.path.name), sha256)


def target_of_activations(activations: Activations) -> Target:
    """The model that activations were taken from, as their notes tell."""
    notes: Mapping[str, object] = activations.notes
    n_layer = notes.get("n_layer")
    return Target(
        architecture=str(notes.get("architecture", "")),
        n_layer=n_layer if type(n_layer) is int else max(activations.layers) + 1,
        n_embd=activations.n_embd,
        file=Path(str(notes.get("model_file", ""))).name,
        sha256=str(notes.get("model_sha256", "")),
    )


def model_findings(
    directions: Mapping[int, FloatArray], target: Target, *, shift: int, n_layer: int | None
) -> Iterator[Finding]:
    """Width and layers that the model has not.

    Args:
        directions: the usable ones, by the layers that the file names.
        target: the model.
        shift: 1 where direction.k belongs to layer k-1, else 0.
        n_layer: blocks of the vector's own model, as far as the file tells: at least so many.
    """
    n_embd = next((len(row) for row in directions.values()), target.n_embd)
    if n_embd != target.n_embd:
        sentence = f"directions have {n_embd} elements, the model's residual stream has {target.n_embd}"
        yield Finding("width", f"{sentence}; extract the vector from this model", is_fatal=True)
    if n_layer is not None and n_layer > target.n_layer:
        sentence = f"made for a model of {n_layer} layers, and this one has {target.n_layer}"
        yield Finding("depth", f"{sentence}; extract the vector from this model", is_fatal=True)
        return
    lacking = tuple(il for il in directions if il - shift >= target.n_layer)
    sentence = f"{where(lacking)}: the model has layers 0..{target.n_layer - 1} only"
    if lacking and len(lacking) == len(directions):
        yield Finding("layer-missing", f"{sentence}; extract the vector from this model", "", lacking, is_fatal=True)
    elif lacking:
        yield Finding("layer-missing", sentence, f"left out: {where(lacking)}", lacking)


def hint_findings(loose: LooseVector, target: Target | None, *, is_related: bool) -> Iterator[Finding]:
    """A model_hint that is missing, or that means another model.

    Args:
        loose: the file.
        target: the model.
        is_related: pairs have shown that the directions are for this model, whatever the hint says.
    """
    hint, wanted = loose.model_hint, "" if target is None else target.architecture
    if not hint:
        step = f"model_hint is written as {wanted!r}" if wanted else ""
        sentence = f"model_hint is missing: {words.NO_HINT}"
        yield Finding("hint", sentence if wanted else f"{sentence}; give the model to have it filled in", step)
    elif wanted and hint != wanted:
        if _ALIASES.get(_plain(hint), _plain(hint)) == _plain(wanted):
            sentence = f"model_hint is {hint!r}, transformers' word for what llama.cpp calls {wanted!r}"
            yield Finding("hint", sentence, f"model_hint is written as {wanted!r}")
        elif is_related:
            sentence = (
                f"model_hint is {hint!r}, but on this model of architecture {wanted!r} the directions fit the pairs"
            )
            yield Finding("hint", sentence, f"model_hint is written as {wanted!r}")
        else:
            sentence = f"{words.other_model(hint, wanted)}; extract the vector from this model"
            yield Finding("architecture", sentence, is_fatal=True)


def _plain(name: str) -> str:
    return name.lower().removesuffix("_text").replace("-", "").replace("_", "")


def steering_findings(engine: Engine, layers: tuple[int, ...], *, shift: int) -> Iterator[Finding]:
    """Layers, as the file numbers them, at which the model's graph has nothing to steer; decodes a sentence."""
    if not layers or (reason := _why_not(engine, [il - shift for il in layers])) is None:
        return
    bad = tuple(il for il in layers if _why_not(engine, [il - shift]) is not None)
    if len(bad) == len(layers):
        yield Finding("unsteerable", reason, "", bad, is_fatal=True)
    else:
        yield Finding("layer-unsteerable", f"{where(bad)}: {reason}", f"left out: {where(bad)}", bad)


def _why_not(engine: Engine, layers: list[int]) -> str | None:
    try:
        engine.activations([sentence_tokens(engine)], layers=layers)
    except UnsteerableError as error:
        return str(error)
    return None


def model_remarks(loose: LooseVector, target: Target) -> Iterator[str]:
    """What is worth knowing and no fault."""
    known = loose.metadata.get("model_sha256")
    if isinstance(known, str) and target.sha256 and known != target.sha256:
        file = shown(str(loose.metadata.get("model_file", "another file")))
        yield (
            f"extracted from {file} (sha256 {known[:12]}…), not from {target.file} ({target.sha256[:12]}…): another "
            "quantization is no fault, but the same strength may push otherwise; `steercpp transfer` measures it"
        )
