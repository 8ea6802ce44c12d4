"""What is wrong with a control-vector file: the flow behind `steercpp doctor VECTOR`.

Everything that can be seen in the file is looked at first, then what a model and contrast pairs add. A measured layer
shift outweighs what the file's keys say about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steercpp.aliases import FloatArray
from steercpp.doctor.findings import (
    Finding,
    comes_shifted,
    file_findings,
    is_additive,
    own_method,
    pca_findings,
    sign_findings,
    sign_remarks,
    width,
)
from steercpp.doctor.loose_vector import LooseVector, read_loosely
from steercpp.doctor.model_check import (
    Target,
    hint_findings,
    model_findings,
    model_remarks,
    steering_findings,
    target_of,
    target_of_activations,
)
from steercpp.doctor.pair_check import Relation, are_related, measured_shift, pair_findings, relations
from steercpp.errors import ActivationsFileError, VectorFileError
from steercpp.extraction.activations import collect
from steercpp.extraction.activations_file import read_activations
from steercpp.extraction.capture import Token, token_named
from steercpp.vectors import notes as words
from steercpp.vectors.gguf import read_vector

if TYPE_CHECKING:
    from steercpp.aliases import TokenProgress
    from steercpp.data.pairs import ContrastPair
    from steercpp.data.prompts import Template
    from steercpp.engine.engine import Engine
    from steercpp.extraction.activations import Activations

MOVED = "direction.k is moved to layer k-1"
BLOCK_0 = "; direction.1 becomes block 0, kept in steercpp.direction.0"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        loose: the file.
        directions: its usable directions, by the layers that the file names.
        target: the model it was compared with, if any.
        findings: faults, none if all is well.
        remarks: what is worth knowing and no fault.
        relations: how each direction lies to the pairs; none without pairs.
        activations: those of the pairs.
    """

    loose: LooseVector
    directions: dict[int, FloatArray]
    target: Target | None
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]
    relations: tuple[Relation, ...] = ()
    activations: Activations | None = None

    @property
    def token(self) -> str:
        """Whose activations were compared with the directions; "" without pairs."""
        return _token_of(self.activations) if self.relations else ""

    @property
    def is_repairable(self) -> bool:
        """Whether a repair would change something, and give a right vector."""
        return any(fault.repair for fault in self.findings) and not any(fault.is_fatal for fault in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "file": str(self.loose.path),
            "layers": list(self.directions),
            "n_embd": next((len(row) for row in self.directions.values()), 0),
            "model_hint": self.loose.model_hint,
            "findings": [asdict(finding) for finding in self.findings],
            "remarks": list(self.remarks),
            "token": self.token,
            "relations": [asdict(relation) for relation in self.relations],
        }


def examine(
    path: Path | str,
    *,
    engine: Engine | None = None,
    pairs: Iterable[ContrastPair] | None = None,
    activations: Activations | None = None,
    template: Template = "auto",
    token: Token | None = None,
    progress: TokenProgress | None = None,
) -> Report:
    """Examine a control-vector file.

    Args:
        path: a GGUF file, sound or not.
        engine: the model that it is meant for.
        pairs: with an engine, contrast pairs of the behavior that it should cause.
        activations: of such pairs, in place of them; without an engine they stand for the model too.
        template: how prompts become text.
        token: whose activations of the pairs; by default those that the file says it was made from, or the last one's.
        progress: called with the number of prompts done and of all.

    Raises:
        VectorFileError: the file or its head cannot be read, or it is no control vector.
        PairsError, PromptError, EngineError, ...: as `activations.collect`.
    """
    subject = _subject(read_loosely(path), engine, activations)
    if engine is not None and pairs is not None and activations is None and subject.fits:
        activations = _collected(engine, pairs, subject, template, token, progress)
    seen = _compared(subject, activations)
    findings = tuple(_findings(subject, seen, engine, activations))
    return Report(
        loose=subject.loose,
        directions=subject.directions,
        target=subject.target,
        findings=findings or tuple(_refused(path)),
        remarks=tuple(_remarks(subject, seen, activations)),
        relations=seen.relations,
        activations=activations,
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    """A file with its usable directions, and the model that it is meant for."""

    loose: LooseVector
    n_embd: int
    directions: dict[int, FloatArray]
    target: Target | None

    @property
    def acting(self) -> dict[int, FloatArray]:
        """The directions that are not zero."""
        return {il: row for il, row in self.directions.items() if row.any()}

    @property
    def fits(self) -> bool:
        """Whether the directions have the model's width, so that they can be compared with its activations."""
        return self.target is not None and self.target.n_embd == self.n_embd and bool(self.acting)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What the pairs say; `measured` is the shift that they show, if they show one clearly, `shift` what counts."""

    relations: tuple[Relation, ...]
    measured: int | None
    shift: int


def _subject(loose: LooseVector, engine: Engine | None, activations: Activations | None) -> _Subject:
    target = None
    if engine is not None:
        target = target_of(engine, hashed="model_sha256" in loose.metadata)
    elif activations is not None:
        target = target_of_activations(activations)
    n_embd = width(loose)
    if target is not None and any(len(row) == target.n_embd for _, row in loose.rows()):
        n_embd = target.n_embd
    return _Subject(loose, n_embd, loose.directions(n_embd), target)


def _collected(
    engine: Engine, pairs: Iterable[ContrastPair], subject: _Subject, template: Template, token: Token | None,
    progress: TokenProgress | None,
) -> Activations:  # fmt: skip
    if isinstance(pairs, Iterator):
        pairs = tuple(pairs)
    if token is None:
        token = _fitting_token(subject.loose)
        first = next(iter(pairs), None)
        if token == "answer" and first is not None and not first.positive_answer:
            token = "last"  # better than nothing, and a remark tells
    wanted = {layer for il in subject.acting for layer in (il - 1, il) if 0 <= layer < engine.n_layer}
    return collect(engine, pairs, template=template, layers=sorted(wanted), token=token, progress=progress)


def _fitting_token(loose: LooseVector) -> Token:
    """The token that the vector was made from, as far as it is known."""
    name = loose.metadata.get("token")
    if name is None and comes_shifted(loose):
        return words.TOKEN
    token = token_named(name)
    return "last" if token is None else token


def stored_activations(dump: Path | str, vector: Path | str, *, token: Token | None = None) -> Activations:
    """Activations of a `dump` file to examine a vector with.

    Args:
        dump: the file.
        vector: by default they are of this vector's own token, if the dump has it.
        token: whose they are to be.

    Raises:
        ActivationsFileError, VectorFileError: a file cannot be read, or lacks the token that was asked for.
    """
    if token is not None:
        return read_activations(dump, token=token)
    try:
        return read_activations(dump, token=_fitting_token(read_loosely(vector)))
    except ActivationsFileError:  # of another token, if it is whole
        return read_activations(dump)


def _compared(subject: _Subject, activations: Activations | None) -> _Compared:
    by_keys = int(comes_shifted(subject.loose))
    if activations is None or not subject.fits:
        return _Compared((), None, by_keys)
    method = own_method(subject.loose)
    compared = relations(activations, subject.acting, shift=by_keys, method=method)
    measured = measured_shift(compared)
    if measured in (None, by_keys):
        return _Compared(compared, measured, by_keys)
    return _Compared(relations(activations, subject.acting, shift=measured, method=method), measured, measured)


def _token_of(activations: Activations | None) -> str:
    return "last" if activations is None else str(activations.notes.get("token", "last"))


def _findings(
    subject: _Subject, seen: _Compared, engine: Engine | None, activations: Activations | None
) -> Iterator[Finding]:
    loose, shift = subject.loose, seen.shift
    yield from file_findings(loose, subject.n_embd)
    if shift:
        sentence = words.SHIFTED
        if not comes_shifted(loose):
            sentence = (
                "direction.k was measured at the output of block k-1 but is added at block k: so it matches there"
            )
        first = BLOCK_0 if 1 in subject.acting else ""
        lost = "; direction.0, below which there is no block, is left out" if 0 in subject.directions else ""
        yield Finding("layer-shift", sentence, f"{MOVED}{first}{lost}", tuple(subject.directions))
    ruined = tuple(pca_findings(loose, subject.acting))
    yield from ruined
    is_related = are_related(seen.relations, shift=shift, n_embd=subject.n_embd)
    yield from hint_findings(loose, subject.target, is_related=is_related)
    if subject.target is not None:
        yield from model_findings(subject.directions, subject.target, shift=shift, n_layer=loose.n_layer)
    if engine is not None and subject.fits:
        there = tuple(il for il in subject.acting if 0 <= il - shift < engine.n_layer)
        yield from steering_findings(engine, there, shift=shift)
    if seen.relations:
        yield from pair_findings(seen.relations, shift=shift, n_embd=subject.n_embd, token=_token_of(activations))
    elif not ruined:
        yield from sign_findings(loose, subject.acting)


def _refused(path: Path | str) -> Iterator[Finding]:
    """What the strict reader refuses for a reason of its own."""
    try:
        read_vector(path)
    except VectorFileError as error:
        yield Finding("refused", str(error).removeprefix(f"{path}: "), is_fatal=True)


def _remarks(subject: _Subject, seen: _Compared, activations: Activations | None) -> Iterator[str]:
    loose = subject.loose
    named, token = str(loose.metadata.get("token", "")), _token_of(activations)
    if seen.relations and named and named != token:
        yield f"made from the activations of token {named!r}, but compared with those of token {token!r}"
    if seen.relations and all(relation.own is None and relation.below is None for relation in seen.relations):
        yield f"nothing could be compared: nothing can be extracted from the activations of token {token!r}"
    if not seen.relations:
        yield from sign_remarks(loose, subject.acting)
    if comes_shifted(loose) and seen.measured == 0:
        yield "has the keys of llama-cvector-generator, but its directions match the pairs at the layers it names"
    if not is_additive(loose):
        yield f"its operator is {loose.metadata.get('operator', 'add')!r}: only steercpp can apply it"
    elif any(piece.in_key and piece.layer == 0 for piece in loose.pieces):
        yield words.LAYER_0
    if subject.target is not None:
        yield from model_remarks(loose, subject.target)
