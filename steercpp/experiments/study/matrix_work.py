"""A matrix, measured into one folder: read this to follow `steercpp study` where a file holds [matrix].

    done = study_matrix(load_preset("matrix.toml"), {}, load=Engine, out=Path("studies/matrix"))
    done.best, done.failed

Each model is loaded once for all its runs, each vector is made once on it. A run that cannot be measured does not keep
the others from it; the same call again goes on with what is missing. matrix_report.py writes what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steercpp.aliases import Progress
from steercpp.engine.engine import Engine
from steercpp.engine.model_file import model_bytes
from steercpp.errors import RunError, SandboxError, SteerError
from steercpp.experiments.study.folder import StudyFolder, open_folder
from steercpp.experiments.study.inputs import StudyModels
from steercpp.experiments.study.matrix import Cell
from steercpp.experiments.study.matrix_estimate import MatrixEstimate, estimated
from steercpp.experiments.study.matrix_inputs import MatrixInputs
from steercpp.experiments.study.matrix_report import MatrixOutcome, MatrixResult, write_matrix
from steercpp.experiments.study.matrix_vectors import MatrixVectors
from steercpp.experiments.study.preset import Preset, Role
from steercpp.experiments.study.study import Choices
from steercpp.judging.sandbox import working_way
from steercpp.locks import writing
from steercpp.reports.compared import ComparedRun
from steercpp.reports.report import ensure_report
from steercpp.runs.judgement import judge
from steercpp.runs.manifest import MANIFEST, is_finished, read_manifest
from steercpp.runs.verdict import verdict_of
from steercpp.sweeps.growing import as_added
from steercpp.sweeps.spec import SweepSpec
from steercpp.sweeps.spread import check_executor
from steercpp.sweeps.sweep import sweep
from steercpp.vectors.control_vector import ControlVector, vector_sha256


def study_matrix(
    preset: Preset,
    models: Mapping[Role, Path],
    *,
    load: Callable[[Path], Engine],
    out: Path,
    choices: Choices | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_estimate: Callable[[MatrixEstimate], None] | None = None,
    executor: Executor | int | None = None,
    model_folders: Sequence[Path | str] = (),
) -> MatrixResult:
    """Measure every run of a matrix, or go on with one that was begun.

    Args:
        preset: with the matrix.
        models: files of "base" and "chat", where the matrix names them.
        load: loads a file; one is loaded at a time.
        out: the folder.
        choices: what is other than the matrix says.
        force: take the place of a study of another plan; runs in it that this one has, too, are kept.
        progress: called with (done, of how many, what), again for every part.
        on_estimate: called with what is to be done, before it is begun; for it every model is looked at, so that all
            but the first are loaded once more.
        executor: other processes that measure, see `sweep`.
        model_folders: in which those look for models.

    Returns:
        every run, also those that could not be measured, with the reason.

    Raises:
        InputError: a model, a name, an operator's settings or `executor` cannot be; ModelError: a model's file is not
            there.
        SandboxError: the programs that a model writes may not run, or no sandbox works.
        RunError: `out` cannot be used, or another process writes there.
    """
    check_executor(executor)
    inputs = MatrixInputs.of(preset, models, choices or Choices())
    _check_code(inputs, out)
    with StudyModels(inputs.files, load) as opened, writing(out):
        folder = open_folder(out, _plan(inputs), force=force)
        if on_estimate is not None:
            on_estimate(estimated(inputs, opened, out))
        work = _Work(inputs, folder, progress, force, {"executor": executor, "models": tuple(map(str, model_folders))})
        outcomes = [outcome for model in inputs.matrix.models for outcome in work.runs_of(model, opened)]
        found = MatrixResult(out, preset, inputs.files, tuple(outcomes))
        measured = {outcome.cell.name: str(outcome.folder.relative_to(out)) for outcome in outcomes if outcome.run}
        folder.finish(measured, is_whole=not found.failed)
        write_matrix(found)
    return found


def _check_code(inputs: MatrixInputs, out: Path) -> None:
    """Make sure that what a model writes may be run, before it writes for hours.

    Raises:
        SandboxError: a set has code items, and its programs may not run, or no sandbox works here.
    """
    for cell in inputs.matrix.cells:
        if inputs.items[cell.set].code and not is_finished(inputs.folder(out, cell)):
            if not inputs.choices.allow_code:
                raise SandboxError(
                    f"{inputs.preset.name}, set {cell.set}: the answers are programs; allow that they are run, in a "
                    "sandbox, with `allow_code=True`"
                )
            working_way()
            return


def _plan(inputs: MatrixInputs) -> dict[str, Any]:
    """What decides a matrix's numbers, beside the files of its material, whose items the runs' own plans hash."""
    changed = {key: value for key, value in asdict(inputs.choices).items() if key not in ("data", "allow_code")}
    sizes = {name: {"file": path.name, "bytes": model_bytes(path)} for name, path in inputs.files.items()}
    return {"presets": {inputs.preset.name: inputs.preset.text}, "models": sizes, **changed}


class _Work:
    """A matrix in work."""

    def __init__(
        self,
        inputs: MatrixInputs,
        folder: StudyFolder,
        progress: Progress | None,
        force: bool,
        where: Mapping[str, Any],
    ) -> None:
        self._inputs = inputs
        self._folder = folder
        self._progress = progress
        self._force = force
        self._where = where

    def runs_of(self, model: str, opened: StudyModels) -> list[MatrixOutcome]:
        """The runs of a model, measured or with the reason why not."""
        inputs = self._inputs
        cells = [cell for cell in inputs.matrix.cells if cell.model == model]
        if not cells:
            return []
        try:
            vectors = MatrixVectors(model, opened.of(model), inputs.matrix, inputs.choices)
        except SteerError as error:
            return [self._failed(cell, error) for cell in cells]
        return [self._run(cell, vectors) for cell in cells]

    def _run(self, cell: Cell, vectors: MatrixVectors) -> MatrixOutcome:
        try:
            spec = self._inputs.sweep_spec(cell)
            of_vector = self._named(f"{cell.model}, vector {cell.vector}")
            vector = vectors.of(cell, self._folder, self._inputs.place("vectors"), of_vector)
            return MatrixOutcome(cell, self._place(cell), self._measured(cell, spec, vector, vectors.engine))
        except SteerError as error:
            return self._failed(cell, error)

    def _measured(self, cell: Cell, spec: SweepSpec, vector: ControlVector, engine: Engine) -> ComparedRun:
        cells = self._inputs.matrix.cells
        place = f"{cells.index(cell) + 1} of {len(cells)}, {cell.name}"
        out = self._place(cell)
        result = sweep(
            engine, vector, spec, out=out, allow_code=self._inputs.choices.allow_code,
            force=self._force and _is_other(out, spec, vector, engine), progress=self._named(place), **self._where,
        )  # fmt: skip
        judgement = judge(result)
        ensure_report(judgement)
        return ComparedRun(cell.name, judgement, verdict_of(judgement))

    def _failed(self, cell: Cell, error: SteerError) -> MatrixOutcome:
        return MatrixOutcome(cell, self._place(cell), None, str(error))

    def _place(self, cell: Cell) -> Path:
        return self._inputs.folder(self._folder.path, cell)

    def _named(self, what: str) -> Progress | None:
        """Progress of a part, with its name before each label."""
        if (progress := self._progress) is None:
            return None
        return lambda done, total, label: progress(done, total, f"{what}: {label}")


def _is_other(out: Path, spec: SweepSpec, vector: ControlVector, engine: Engine) -> bool:
    """Whether a folder holds anything but this run, or one that this run adds to; only that is taken the place of."""
    if not (out / MANIFEST).is_file():
        return out.is_dir()
    try:
        manifest = read_manifest(out)
        with engine.on_day(manifest.plan.chat.get("date")):
            plan = spec.plan(engine, model_sha256=engine.sha256, vector_id=vector_sha256(vector))
        as_added(out, manifest, spec, plan)
    except RunError:
        return True
    return False
