"""Matrices of runs, in TOML: models x vectors x bands x operators x sets; read this to write one.

    about = "Where and how to steer for refusals"

    [matrix]
    models = { small = "small.gguf", chat = "chat" }    # files, "embedded", or those given with --base and --chat
    bands = ["5-6", "all"]                              # or a table of names: { late = "20-24", usual = "default" }
    operators = ["add", "rotate"]                       # or tables, with strengths of their own
    strengths = "-1:1:0.25"
    exclude = [{ operator = "rotate", band = "all" }]   # combinations that are not measured

    [matrix.vectors.refusal]                            # extracted once on each model
    pairs = "refusal"
    method = "mean"

    [matrix.vectors.mine]                               # or read from a file
    file = "vectors/{model}.gguf"

    [matrix.operators.ablate]
    strengths = "0:1:0.25"

    [matrix.sets.refusal]                               # what is measured
    behavior = "refusal"
    tasks = ["knowledge"]

Every combination becomes a run, whose name is MODEL/VECTOR/BAND/OPERATOR/SET and so is its folder, unless `folder` says
otherwise. What is left out is as in `steercpp sweep`. matrix_work.py measures it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, cast

from steercpp.choices import OPERATORS, Operator, Positions, Side, Sign, Unit
from steercpp.engine.steering import check_manner
from steercpp.errors import InputError
from steercpp.experiments.study.parts import ItemSpec, check_counts, check_names, refuse_shared_places, unknown
from steercpp.extraction.methods import METHODS
from steercpp.sweeps.strengths import grid

AXES = ("model", "vector", "band", "operator", "set")
FOLDER = "/".join(f"{{{axis}}}" for axis in AXES)
DEFAULT = "default"  # the band of the paper, at each model's own depth
MOST_RUNS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixVector:
    """A vector of a matrix, made on each model or read from a file.

    Attributes:
        pairs: contrast pairs by name, of which it is made; "" where it is read.
        file: a control vector; `{model}` in it stands for the model's name in the matrix.
        method: a name in `extraction.methods.METHODS`.
        template: how the pairs' prompts become text, see `data.prompts.Template`.
        limit: pairs used, the first ones; None for all.
        flip: turn it round.
    """

    pairs: str = ""
    file: str = ""
    method: str = "mean"
    template: Literal["auto", "chat", "raw"] = "auto"
    limit: int | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        if bool(self.pairs) == bool(self.file):
            raise InputError("a vector is made of pairs or read from a file; give one of them")
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r} is unknown; use one of {', '.join(METHODS)}")
        check_counts(limit=self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSpec:
    """A way to steer.

    Attributes:
        operator: what is done with the vector, see engine/steering.py; "" for what the operator's table is called.
        positions, side: which tokens are steered.
        strengths, unit, direction: in place of the matrix's; "" for those.
    """

    operator: str = ""
    positions: Positions = "all"
    side: Side = "both"
    strengths: str = ""
    unit: Unit | Literal[""] = ""
    direction: Sign | Literal[""] = ""

    def __post_init__(self) -> None:
        if self.operator:
            check_manner(self.operator, self.positions, self.side)
        if self.strengths:
            grid(self.strengths)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Combinations that are not measured: those of all the names given here; an axis without names takes any."""

    model: tuple[str, ...] = ()
    vector: tuple[str, ...] = ()
    band: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()
    set: tuple[str, ...] = ()

    def holds(self, cell: Cell) -> bool:
        """Whether a run is among them."""
        return all(getattr(cell, axis) in names for axis in AXES if (names := getattr(self, axis)))


@dataclass(frozen=True, slots=True)
class Cell:
    """A run of a matrix, by its name on each axis; `folder` is where it lies below those of all runs."""

    model: str
    vector: str
    band: str
    operator: str
    set: str
    folder: str

    @property
    def name(self) -> str:
        """What it is called: its names with / between them."""
        return "/".join(getattr(self, axis) for axis in AXES)

    @property
    def manner(self) -> tuple[str, str, str]:
        """What tells it from other runs of its model and set."""
        return self.vector, self.band, self.operator


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSpec:
    """A matrix; see the top of this file.

    Attributes:
        models: files by name; "embedded" is the package's own, "base" and "chat" are those that the caller gives.
        vectors, operators, sets: by name.
        bands: layers by name, as `parse_layers` reads them; "all" of a vector from a file are those that it has,
            "default" is the paper's band.
        strengths: the grid, as `sweeps.strengths.grid` reads it.
        unit, direction, max_loss, random_directions: as in a sweep.
        limit: items of each name, the first ones; None for all.
        folder: of a run below runs/, with the names of `AXES` in braces.
        exclude: combinations that are not measured.

    Raises:
        InputError: a name that no file can have, an unknown one, no runs, or two that want one folder.
    """

    models: dict[str, str]
    vectors: dict[str, MatrixVector]
    sets: dict[str, ItemSpec]
    bands: dict[str, str] = field(default_factory=lambda: {DEFAULT: DEFAULT})
    operators: dict[str, OperatorSpec] = field(default_factory=lambda: {"add": OperatorSpec()})
    strengths: str = ""
    unit: Unit = "norm"
    direction: Sign = "+"
    max_loss: float = 0.05
    random_directions: int = 8
    limit: int | None = None
    folder: str = FOLDER
    exclude: tuple[Exclusion, ...] = ()

    def __post_init__(self) -> None:
        check_counts(limit=self.limit)
        if self.strengths:
            grid(self.strengths)
        for axis, names in self.axes.items():
            if not names:
                raise InputError(f"matrix.{axis}s: there are none; give one at least")
            check_names(names)
        for name, operator in self.operators.items():
            if not operator.operator:
                if name not in OPERATORS:
                    raise InputError(f"matrix.operators: {unknown(name, OPERATORS)}")
                check_manner(name, operator.positions, operator.side)
            if not operator.strengths and not self.strengths:
                raise InputError(f"matrix.operators.{name}: no strengths; give them there, or to the whole matrix")
        for number, exclusion in enumerate(self.exclude, start=1):
            given = {axis: getattr(exclusion, axis) for axis in AXES if getattr(exclusion, axis)}
            if not given:
                raise InputError(
                    f"matrix.exclude: entry {number} names nothing; give {', '.join(AXES)} or some of them"
                )
            for axis, names in given.items():
                if strange := [name for name in names if name not in self.axes[axis]]:
                    raise InputError(f"matrix.exclude: {axis} {unknown(strange[0], self.axes[axis])}")
        if strange := [word for word in re.findall(r"{([^{}]*)}", self.folder) if word not in AXES]:
            raise InputError(f"matrix.folder: {unknown(strange[0], AXES)}")
        if not (cells := self.cells):
            raise InputError("matrix.exclude leaves no run; take an entry out of it")
        for cell in cells:
            check_names(cell.folder.split("/"))
        refuse_shared_places({f"run {cell.name}": cell.folder for cell in cells})

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The names on each axis, in the file's order."""
        return {axis: tuple(getattr(self, f"{axis}s")) for axis in AXES}

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The runs, those of a model together."""
        n_all = 1
        for names in self.axes.values():
            n_all *= len(names)
        if n_all > MOST_RUNS:
            raise InputError(f"matrix: {n_all:,} runs; make a matrix of at most {MOST_RUNS:,}")
        return tuple(self._cells())

    def _cells(self) -> Iterator[Cell]:
        for names in product(*self.axes.values()):
            by_axis = dict(zip(AXES, names, strict=True))
            folder = re.sub(r"{(\w+)}", lambda match, by_axis=by_axis: by_axis[match[1]], self.folder)  # type: ignore[misc]
            cell = Cell(**by_axis, folder=folder)
            if not any(exclusion.holds(cell) for exclusion in self.exclude):
                yield cell

    def operator_of(self, cell: Cell) -> Operator:
        """What a run does with its vector."""
        return cast(Operator, self.operators[cell.operator].operator or cell.operator)

    def strengths_of(self, cell: Cell) -> str:
        """The grid of a run."""
        return self.operators[cell.operator].strengths or self.strengths


def expanded(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table [matrix] with what is written shorter written out: lists of bands and operators, single names."""
    whole = dict(table)
    for axis, of_name in (("bands", lambda name: name), ("operators", lambda _: {})):
        names = whole.get(axis)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            for name in names:
                if names.count(name) > 1:
                    raise InputError(f"matrix.{axis}: {name!r} stands there twice; take one out")
            whole[axis] = {name: of_name(name) for name in names}
    excluded = whole.get("exclude")
    if isinstance(excluded, list) and all(isinstance(entry, dict) for entry in excluded):
        whole["exclude"] = [
            {axis: [names] if isinstance(names, str) else names for axis, names in entry.items()} for entry in excluded
        ]
    return whole
