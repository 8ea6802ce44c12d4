"""What a matrix is measured with: its model files and the items of its sets, found before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steercpp.data.sets.embedded import load as embedded
from steercpp.engine.model_file import model_bytes
from steercpp.errors import InputError, ModelError
from steercpp.experiments.study.inputs import RunItems, fewest, run_items
from steercpp.experiments.study.matrix import Cell, MatrixSpec
from steercpp.experiments.study.preset import Preset, Role
from steercpp.experiments.study.study import Choices, text_plan_of
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.strengths import grid

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class MatrixInputs:
    """A matrix with its files and items.

    Attributes:
        preset, matrix: what to measure.
        files: of each model, by its name in the matrix.
        items: of each set.
        choices: what is other than the matrix says.
    """

    preset: Preset
    matrix: MatrixSpec
    files: Mapping[str, Path]
    items: Mapping[str, RunItems]
    choices: Choices

    @classmethod
    def of(cls, preset: Preset, models: Mapping[Role, Path], choices: Choices) -> MatrixInputs:
        """What there is.

        Args:
            preset: with the matrix.
            models: files of "base" and "chat", where the matrix names them.
            choices: what is other than the matrix says.

        Raises:
            InputError: the preset has no matrix, layers are chosen beside its bands, or a model is not given.
            ModelError: a model's file is not there.
            TaskError, DataSetError: a set's items cannot be found.
        """
        matrix = preset.matrix
        if matrix is None:
            raise InputError(f"{preset.name}: has no [matrix]; measure it with `study`")
        if choices.layers:
            raise InputError(f"{preset.name}: its bands say where it steers; leave `layers` out, or change them there")
        files = {name: _file(preset.name, name, given, models) for name, given in matrix.models.items()}
        limit = fewest(matrix.limit, choices.limit)
        items = {name: run_items(spec, data=choices.data, limit=limit) for name, spec in matrix.sets.items()}
        return cls(preset, matrix, files, items, choices)

    def place(self, kind: str, name: str = "") -> str:
        """Where runs or vectors lie in the folder of the study."""
        return f"{self.preset.name.replace('/', '-')}/{kind}{name and '/'}{name}"

    def folder(self, out: Path, cell: Cell) -> Path:
        """The folder of a run."""
        return out / self.place("runs", cell.folder)

    def sweep_spec(self, cell: Cell) -> SweepSpec:
        """What a run measures, and how it is steered.

        Raises:
            InputError: the set and the operator cannot go together.
        """
        matrix, items = self.matrix, self.items[cell.set]
        operator, asked = matrix.operators[cell.operator], matrix.sets[cell.set]
        return SweepSpec(
            behavior=items.behavior, choice=items.choice, answer=items.answer, text=items.text, code=items.code,
            instruction=items.instruction, strengths=grid(self.choices.strengths or matrix.strengths_of(cell)),
            unit=operator.unit or matrix.unit,
            direction=1 if (operator.direction or matrix.direction) == "+" else -1, max_loss=matrix.max_loss,
            text_plan=text_plan_of(asked, seed=self.choices.seed), random_directions=matrix.random_directions,
            seed=self.choices.seed, operator=matrix.operator_of(cell), positions=operator.positions,
            side=operator.side,
        )  # fmt: skip


def _file(preset: str, name: str, given: str, models: Mapping[Role, Path]) -> Path:
    """The file of a model.

    Raises:
        InputError: the caller does not give it. ModelError: it is not there.
    """
    if given == EMBEDDED:
        return embedded().path
    if given in ("base", "chat"):
        found = next((path for role, path in models.items() if role == given), None)
        if found is None:
            raise InputError(f"{preset}: model {name} is the {given} model; give its file as `{given}`")
        return found
    try:
        model_bytes(Path(given))
    except OSError as error:
        raise ModelError(
            f"{preset}: model {name}: {given} cannot be read ({error.strerror}); check its path in the matrix"
        ) from error
    return Path(given)
