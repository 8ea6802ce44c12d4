"""Presets of studies, in TOML: which vectors are made of what, and which runs measure them; read this to write one.

    about = "What the study shows, in a sentence"
    source = "where it is from"
    include = ["wolf2024/mmlu"]           # other presets that belong to it

    [vectors.refusal]                     # a control vector
    model = "base"                        # the file given with --base, or with --chat
    pairs = "instructions"                # as --pairs takes it, or a table of [synthesis]
    method = "pca-centered"

    [synthesis.answers]                   # contrast pairs out of what a steered model answers
    model = "chat"
    vector = "harmless"                   # one of [vectors]
    requests = "instructions:train"       # behavior items whose prompts are answered
    refuse = -1.0                         # strengths at which it refuses, and complies
    comply = 2.0

    [runs.harmfulness]                    # a sweep; runs are measured in their order
    model = "base"
    vector = "refusal"
    strengths = "-5:5:0.2"
    behavior = "instructions:test"        # as --behavior takes it
    tasks = ["mmlu:international_law"]    # as --task takes it

A study of many runs that differ in what steers, where and how may be written as a matrix instead, see matrix.py.

All else has a default, which the classes below give. Unknown keys are refused. Presets come with the package, under
presets/, and are found by name; a file of one's own is given by its path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias

import dacite

from steercpp.choices import Sign, SynthesisVariant, Unit
from steercpp.errors import InputError, PresetError
from steercpp.experiments.study.matrix import MatrixSpec, expanded
from steercpp.experiments.study.parts import ItemSpec, check_counts, check_names, refuse_shared_places, unknown
from steercpp.extraction.methods import METHODS
from steercpp.inputs import read_input, reading, stem
from steercpp.sweeps.strengths import grid
from steercpp.toml import parse_toml

Role: TypeAlias = Literal["base", "chat"]
ENDING = ".toml"
LONGEST = 1 << 16  # bytes of a preset: reading takes the square of the depth of its tables

# The figures of each run, and what tables call them.
FIGURES = {"b_at_0": "B(0)", "crossing": "B = 0", "delta_lambda": "Δλ", "b0": "b₀", "p_at_0": "P(0)", "b": "λσβ"}


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """A control vector.

    Attributes:
        model: which of the two model files it is made on.
        pairs: contrast pairs by name, or a table of `synthesis`.
        method: a name in `extraction.methods.METHODS`.
        layers: "" for the paper's band at the model's depth, or as `parse_layers` reads it.
        flip: turn it round, so that it points to the pairs' negative side.
        limit: pairs used, the first ones; None for all.
        template: how the pairs' prompts become text, see `data.prompts.Template`.
    """

    model: Role
    pairs: str
    method: str = "pca-centered"
    layers: str = ""
    flip: bool = False
    limit: int | None = None
    template: Literal["auto", "chat", "raw"] = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r} is unknown; use one of {', '.join(METHODS)}")
        check_counts(limit=self.limit)


@dataclass(frozen=True, slots=True)
class SynthesisSpec:
    """Contrast pairs whose answers a steered model gives; see experiments/synthesis.py.

    Attributes:
        model: which of the two answers, steered by `vector`, one of the preset's.
        requests: behavior items by name; their prompts are answered.
        refuse, comply: strengths of the two sides, the positive one first.
        variant: how they are asked and what becomes of the answers, a name in `synthesis.VARIANTS`.
        max_tokens: of an answer; None for the variant's.
        limit: requests used, the first ones; None for all.
    """

    model: Role
    vector: str
    requests: str
    refuse: float
    comply: float
    variant: SynthesisVariant = "paper"
    max_tokens: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.refuse == self.comply:
            raise InputError(f"refuse and comply are both {self.refuse:g}; the two sides need two strengths")
        check_counts(max_tokens=self.max_tokens, limit=self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec(ItemSpec):
    """A sweep and what is computed from it; the other attributes are those of `ItemSpec`.

    Attributes:
        model, vector: what is steered with what, one of the preset's vectors.
        strengths: the grid, as `sweeps.strengths.grid` reads it.
        unit, direction, max_loss, random_directions: as in a sweep; the direction is where the budget is spent.
        matchers: by which texts are judged, the first in the table.
        constants: measure lambda, sigma and Delta afterwards.
        recipe: fit as a recipe of statistics/recipes.py says, besides.
        paper: figures of the authors' own data, shown beside; by the names of `FIGURES`.
    """

    model: Role
    vector: str
    strengths: str
    unit: Unit = "length"
    direction: Sign = "+"
    max_loss: float = 0.05
    random_directions: int = 8
    matchers: tuple[str, ...] = ()
    constants: bool = False
    recipe: str = ""
    paper: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grid(self.strengths)
        ItemSpec.__post_init__(self)
        if strange := sorted(set(self.paper) - set(FIGURES)):
            raise InputError(f"paper: {unknown(strange[0], FIGURES)}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A study; see the top of this file.

    Attributes:
        name: what commands call it.
        about, source: for people.
        vectors, synthesis, runs: by name, in the file's order.
        include: presets that are measured besides.
        matrix: a whole matrix of runs, in place of vectors, pairs and runs; see matrix.py.
        text: the file itself.
    """

    about: str
    source: str = ""
    vectors: dict[str, VectorSpec] = field(default_factory=dict)
    synthesis: dict[str, SynthesisSpec] = field(default_factory=dict)
    runs: dict[str, RunSpec] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    matrix: MatrixSpec | None = None
    name: str = ""
    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.matrix is not None and (self.vectors or self.synthesis or self.runs or self.include):
            raise InputError("a study with [matrix] is that matrix alone; put the rest into a file of its own")
        if not self.runs and not self.include and self.matrix is None:
            raise InputError("no [runs], no [matrix], and nothing is included; a study needs one of them")
        for kind in ("vectors", "synthesis", "runs"):
            check_names(names := getattr(self, kind))
            refuse_shared_places({f"{kind}.{name}": name for name in names})
        for what, users in (("runs", self.runs), ("synthesis", self.synthesis)):
            for name, user in users.items():
                if user.vector not in self.vectors:
                    raise InputError(f"{what}.{name}: vector {unknown(user.vector, self.vectors)}")
        for name, run in self.runs.items():
            if self.vectors[run.vector].model != run.model:  # of the same width perhaps, and yet another space
                raise InputError(f"runs.{name}: vector {run.vector!r} is made on the other model; make one on this one")
        for name in self.vectors:
            self._check_chain(name, ())

    @property
    def roles(self) -> tuple[Role, ...]:
        """The model files that it takes."""
        specs: tuple[VectorSpec | SynthesisSpec | RunSpec, ...] = (
            *self.vectors.values(), *self.synthesis.values(), *self.runs.values()
        )  # fmt: skip
        used = {spec.model for spec in specs}
        return tuple(role for role in ("base", "chat") if role in used)

    def _check_chain(self, name: str, above: tuple[str, ...]) -> None:
        """A vector may need another one for its pairs, but not itself."""
        if name in above:
            raise InputError(f"vectors.{name}: its pairs need the vector itself")
        if (synthesis := self.synthesis.get(self.vectors[name].pairs)) is not None:
            self._check_chain(synthesis.vector, (*above, name))


def parse_preset(text: str, *, name: str, place: str) -> Preset:
    """A preset out of its file's text.

    Raises:
        PresetError: not TOML, an unknown or missing key, or a value that cannot be; the message starts with the place.
    """
    with reading(place, PresetError, again="see docs/study.md"):
        try:
            data = parse_toml(text)
        except ValueError as error:
            raise PresetError(f"{place}: not TOML: {error}") from error
        try:
            if isinstance(data.get("matrix"), dict):
                data["matrix"] = expanded(data["matrix"])
            config = dacite.Config(strict=True, cast=[tuple])
            return dacite.from_dict(Preset, {**data, "name": name, "text": text}, config=config)
        except dacite.UnexpectedDataError as error:
            raise PresetError(f"{place}: key {', '.join(sorted(error.keys))} is unknown; see docs/study.md") from error
        except dacite.MissingValueError as error:
            raise PresetError(f"{place}: {error.field_path} is missing") from error
        except (dacite.DaciteError, InputError) as error:
            raise PresetError(f"{place}: {error}") from error


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package, such as "wolf2024/mmlu"."""
    root = _root()
    return tuple(sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob(f"*{ENDING}")))


def load_preset(name: str) -> Preset:
    """A preset by its name in the package, or from a file of one's own, which ends in .toml.

    Raises:
        PresetError: no such preset (near names are offered), the file cannot be read, or it is malformed.
    """
    is_file = name.endswith(ENDING) or Path(name).is_fifo()
    if not is_file and name not in preset_names():
        by_end = {preset.partition("/")[2]: preset for preset in preset_names()}
        near = get_close_matches(name, [*preset_names(), *by_end], n=1)
        full = by_end.get(near[0], near[0]) if near else ""
        advice = f"did you mean {full}?" if full else f"use one of {', '.join(preset_names())}, or a {ENDING} file"
        raise PresetError(f"preset {name!r} is unknown; {advice}")
    path = Path(name) if is_file else _root() / f"{name}{ENDING}"
    try:
        text = read_input(path, limit=LONGEST).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PresetError(f"{path}: cannot be read ({reason}); check the path of the preset") from error
    return parse_preset(text, name=stem(path) if is_file else name, place=str(path) if is_file else name)


def with_included(preset: Preset) -> tuple[Preset, ...]:
    """The presets that a study consists of: those it includes, in their order, then itself if it has runs.

    Raises:
        PresetError: one is unknown or malformed, or includes itself or a matrix, or two want one folder.
    """
    presets: dict[str, Preset] = {}

    def visit(preset: Preset, above: tuple[str, ...]) -> None:
        if preset.name in above:
            raise PresetError(f"{preset.name}: includes itself; take it out of include")
        if preset.matrix is not None and above:
            raise PresetError(f"{above[-1]}: includes the matrix {preset.name}; measure that one by itself")
        for name in preset.include:
            visit(load_preset(name), (*above, preset.name))
        if preset.runs:
            presets.setdefault(preset.name, preset)

    visit(preset, ())
    try:
        refuse_shared_places({name: name.replace("/", "-") for name in presets})
    except InputError as error:
        raise PresetError(f"{preset.name}: {error}") from error
    return tuple(presets.values())


def _root() -> Path:
    return Path(__file__).parent / "presets"
