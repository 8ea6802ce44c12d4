"""The steering of a run, defined exactly: which numbers are added to what, where, and how far; read this to repeat it.

definition = define(judgement.result.manifest, 0.02)
definition.formula      "x ← x + s·t"
definition.pushes[0]    Push(layer=13, norm=153.0, push=3.06)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steercpp.runs.manifest import Manifest

FORMULAS: Mapping[str, str] = {  # with x the hidden state of a token, t the vector's tensor at a layer, s the strength
    "add": "x ← x + s·t",
    "add-keep-norm": "x ← (x + s·t)·|x| / |x + s·t|",
    "ablate": "x ← x − s·c·t, with c = x·t / |t|²",
    "clamp": "x ← x + (s − c)·t, with c = x·t / |t|²",
    "cap": "x ← x + (s − c)·t where c > s, with c = x·t / |t|²",
    "rotate": "x ← |x|·(cos s·x/|x| + sin s·u), with u the unit vector of what of t is orthogonal to x",
}
TOKENS: Mapping[str, str] = {
    "all": "every token of the prompt and of the text behind it",
    "prompt": "every token of the prompt, none of the text behind it",
    "generated": "every token behind the prompt, none of the prompt",
    "last": "the last token of the prompt alone",
}
SIDES: Mapping[str, str] = {
    "both": "", "positive": ", where c > 0", "negative": ", where c < 0",
}  # fmt: skip
ADDS = ("add", "add-keep-norm")  # operators that push by a length


@dataclass(frozen=True, slots=True)
class Push:
    """What is added at a layer.

    Attributes:
        layer: its number, from 0.
        tensor: |t|, the length of what strength 1 adds; None where the run does not hold it.
        norm: median length of the hidden state there, over the items' prompts; None where it was not measured.
        push: |s·t| at the strength; None for operators that do not add a length.
    """

    layer: int
    tensor: float | None
    norm: float | None
    push: float | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What the steering of a run is.

    Attributes:
        formula: what a hidden state becomes.
        where: what x, t and s are, and at which tokens, in sentences.
        strength: the s that `pushes` are of.
        pushes: by layer, ascending.
    """

    formula: str
    where: tuple[str, ...]
    strength: float
    pushes: tuple[Push, ...]


def define(manifest: Manifest, strength: float) -> Definition:
    """The steering of a run.

    Args:
        manifest: of the run.
        strength: the one to give pushes for, such as the recommended one.
    """
    plan, vector = manifest.plan, manifest.vector
    side = SIDES[plan.side]
    if side and "c = " not in FORMULAS[plan.operator]:
        side += ", with c = x·t / |t|²"
    where = [
        "x is the hidden state of a token as a block puts it out, which the next block reads (the residual stream; "
        "l_out in llama.cpp), at the layers below, counted from 0.",
        f"t is the control vector's tensor at that layer, {_length(manifest)}.",
        f"It acts on {TOKENS[plan.positions]}{side}.",
    ]
    if plan.gate:
        il, *below, threshold, _ = plan.gate.split(":")
        side = "below" if below else "above"
        where.append(
            f"It acts only on prompts whose last token, unsteered, has a projection {side} {float(threshold):g} on the "
            f"gate's direction at layer {il}."
        )
    unknown = (None,) * len(vector.layers)
    tensors, norms = vector.norms or unknown, vector.residual_norms or unknown
    pushes = tuple(
        Push(layer, tensor, norm, None if tensor is None or plan.operator not in ADDS else abs(strength) * tensor)
        for layer, tensor, norm in zip(vector.layers, tensors, norms, strict=True)
    )
    return Definition(FORMULAS[plan.operator], tuple(where), strength, pushes)


def _length(manifest: Manifest) -> str:
    """What length the tensors have."""
    plan, calibration = manifest.plan, manifest.vector.calibration
    if plan.operator == "rotate":
        return "of which only the direction counts"
    if plan.unit == "norm":
        return "scaled to the median length of the hidden states there, over the prompts of the items"
    if plan.unit == "kl" and calibration is not None:
        return (
            f"scaled so that strength 1 changes the next token's distribution by {calibration.target:g} nats of KL, at "
            f"the {calibration.quantile:.0%} quantile of {calibration.n_tokens} tokens of the items' prompts"
        )
    return "as the vector's file holds it"
