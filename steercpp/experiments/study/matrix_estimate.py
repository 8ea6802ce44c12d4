"""What a matrix would take, before anything is measured: runs, tokens, token-layers, and the time at a measured speed.

    found = estimate_matrix(preset, {}, load=Engine, out=Path("studies/matrix"))
    found.token_layers, found.seconds

Token-layers of scored items are those that the runs' manifests tell afterwards, as long as the rows of the unsteered
pass fit into memory (`keep_mib`); of texts the longest allowed is counted, as in preview.py. Runs that are finished in
the folder take nothing; of those that were begun all is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.engine.engine import Engine
from steercpp.errors import SteerError
from steercpp.experiments.study.inputs import StudyModels
from steercpp.experiments.study.matrix import Cell
from steercpp.experiments.study.matrix_inputs import MatrixInputs
from steercpp.experiments.study.matrix_vectors import MatrixVectors, pairs_of
from steercpp.experiments.study.preset import Preset, Role
from steercpp.experiments.study.preview import AskedWork, Rates, Step, measured_rates
from steercpp.experiments.study.study import Choices
from steercpp.runs.manifest import is_finished
from steercpp.vectors.control_vector import ControlVector


@dataclass(frozen=True, slots=True)
class MatrixEstimate:
    """The work of a matrix that is still to be done.

    Attributes:
        steps: vectors and runs in their order; `preset` is the model's name, `title` a run's.
        n_runs: of the matrix, finished or not.
        n_finished: of them, in the folder.
        problems: why a run cannot be measured, by its name.
    """

    steps: tuple[Step, ...]
    n_runs: int
    n_finished: int
    problems: Mapping[str, str]

    @property
    def n_tokens(self) -> int:
        """Of prompts and scored continuations, in one pass each."""
        return sum(step.n_tokens for step in self.steps)

    @property
    def token_layers(self) -> int:
        """Tokens times blocks, of all passes."""
        return sum(step.token_layers for step in self.steps)

    @property
    def n_drawn(self) -> int:
        """Tokens of texts, at most."""
        return sum(step.n_drawn for step in self.steps)

    @property
    def seconds(self) -> float:
        """About how long it takes here."""
        return sum(step.seconds for step in self.steps)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "n_runs": self.n_runs, "n_finished": self.n_finished, "tokens": self.n_tokens,
            "token_layers": self.token_layers, "tokens_drawn": self.n_drawn, "seconds": self.seconds,
            "problems": dict(self.problems),
            "steps": [
                {
                    "model": step.preset, "title": step.title, "counts": step.counts, "tokens": step.n_tokens,
                    "token_layers": step.token_layers, "tokens_drawn": step.n_drawn, "seconds": step.seconds,
                } for step in self.steps
            ],
        }  # fmt: skip


def estimate_matrix(
    preset: Preset, models: Mapping[Role, Path], *, load: Callable[[Path], Engine], out: Path,
    choices: Choices | None = None,
) -> MatrixEstimate:  # fmt: skip
    """What is still to be done of a matrix; each model is loaded once.

    Args:
        preset: with the matrix.
        models: files of "base" and "chat", where it names them.
        load: loads a file.
        out: the study's folder, which need not be there.
        choices: what is other than the matrix says.

    Raises:
        InputError, SteerError: whatever would keep the study from starting.
    """
    inputs = MatrixInputs.of(preset, models, choices or Choices())
    with StudyModels(inputs.files, load) as opened:
        return estimated(inputs, opened, out)


def estimated(inputs: MatrixInputs, opened: StudyModels, out: Path) -> MatrixEstimate:
    """The same with what is there; models are loaded in reverse, so that the first one stays open."""
    finished = {cell for cell in inputs.matrix.cells if is_finished(inputs.folder(out, cell))}
    problems: dict[str, str] = {}
    steps: list[Step] = []
    for model in reversed(inputs.matrix.models):
        cells = [cell for cell in inputs.matrix.cells if cell.model == model and cell not in finished]
        if not cells:
            continue
        try:
            view = _View(inputs, MatrixVectors(model, opened.of(model), inputs.matrix, inputs.choices), {})
        except SteerError as error:  # the model itself
            problems |= {cell.name: str(error) for cell in cells}
            continue
        steps = [*view.steps(cells, problems), *steps]
    return MatrixEstimate(tuple(steps), len(inputs.matrix.cells), len(finished), problems)


@dataclass(frozen=True, slots=True)
class _View:
    """A matrix, looked at with one model at hand; `asked` is the work of each set, or why there is none."""

    inputs: MatrixInputs
    vectors: MatrixVectors
    asked: dict[str, AskedWork | SteerError]

    def steps(self, cells: Sequence[Cell], problems: dict[str, str]) -> list[Step]:
        """The vectors that these runs need, then the runs; those that cannot be measured go to the problems."""
        engine = self.vectors.engine
        rates = measured_rates(engine)
        runs: list[Step] = []
        names: dict[str, None] = {}
        for cell in cells:
            try:
                runs.append(self._run(cell, rates))
            except SteerError as error:
                problems[cell.name] = str(error)
            else:
                names.setdefault(cell.vector)
        made = [name for name in names if self.inputs.matrix.vectors[name].pairs]
        return [*(self._vector(name, rates) for name in made), *runs]

    def _vector(self, name: str, rates: Rates) -> Step:
        engine, spec = self.vectors.engine, self.inputs.matrix.vectors[name]
        pairs = pairs_of(spec, self.inputs.choices)
        n_tokens = sum(len(engine.encode(text, template=spec.template)) for pair in pairs for _, text, _ in pair.sides)
        work = n_tokens * engine.n_layer
        prompts = {side: (prompt, spec.template) for side, prompt, _ in pairs[0].sides}
        counts, seconds = {"pairs": len(pairs)}, rates.seconds(work, 0)
        return Step(self.vectors.model, f"vector {name}", counts, n_tokens, work, 0, seconds, prompts)

    def _run(self, cell: Cell, rates: Rates) -> Step:
        inputs, engine, matrix = self.inputs, self.vectors.engine, self.inputs.matrix
        spec = inputs.sweep_spec(cell)
        layers = self.vectors.layers(cell)
        asked = self._asked(cell.set)
        direction = np.ones(engine.n_embd, np.float32)
        like = ControlVector({il: direction for il in layers}, engine.architecture, engine.n_layer)
        work = asked.at(
            first_layer=min(layers), strengths=spec.strengths, direction="+" if spec.direction > 0 else "-",
            n_directions=matrix.random_directions + 1, steering=spec.steering(like),
        )  # fmt: skip
        counts = {kind: len(some) for kind, some in asked.items.by_kind.items()} | {"strengths": len(spec.strengths)}
        seconds = rates.seconds(work.token_layers - work.n_drawn * engine.n_layer, work.n_drawn)
        return Step(
            cell.model, cell.name, counts, work.n_tokens, work.token_layers, work.n_drawn, seconds,
            asked.first_prompts(),
        )  # fmt: skip

    def _asked(self, name: str) -> AskedWork:
        if name not in self.asked:
            inputs = self.inputs
            try:
                self.asked[name] = AskedWork.of(
                    self.vectors.engine, inputs.items[name], inputs.matrix.sets[name], seed=inputs.choices.seed
                )
            except SteerError as error:
                self.asked[name] = error
        asked = self.asked[name]
        if isinstance(asked, SteerError):
            raise asked
        return asked
