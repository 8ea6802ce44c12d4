"""A study: the vectors, runs and constants of a preset, in one folder; read this to follow `steercpp study`.

    done = study(load_preset("wolf2024/fairness-base"), {"base": Path("llama-2-13b.Q4_K_M.gguf")}, load=Engine,
                 choices=Choices(data=Path("data")), out=Path("studies/fairness"))
    for outcome in done.outcomes: print(outcome.title, outcome.rows())

folder.py says what lies where. Whatever is finished is kept: the same study again goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steercpp.aliases import Progress
from steercpp.data.pairs import ContrastPair, pairs_sha256, read_pairs
from steercpp.data.sets.names import behavior_items, contrast_pairs
from steercpp.engine.engine import Engine
from steercpp.engine.model_file import model_bytes
from steercpp.errors import InputError, SandboxError, SteerError
from steercpp.experiments.constants.figures import write_figures
from steercpp.experiments.constants.measure import measure_constants
from steercpp.experiments.constants.store import read_constants, write_constants
from steercpp.experiments.study.folder import StudyFolder, open_folder
from steercpp.experiments.study.inputs import RunItems, StudyModels, fewest, run_items
from steercpp.experiments.study.outcome import Study, StudyOutcome
from steercpp.experiments.study.page import write_study_page
from steercpp.experiments.study.parts import ItemSpec
from steercpp.experiments.study.preset import Preset, Role, RunSpec, SynthesisSpec, VectorSpec, with_included
from steercpp.experiments.synthesis import harmful_requests, synthesize, write_synthetic
from steercpp.extraction.extract import extract
from steercpp.judging.sandbox import working_way
from steercpp.locks import writing
from steercpp.provenance import file_sha256
from steercpp.reports.report import ensure_report
from steercpp.runs.judgement import judge
from steercpp.runs.manifest import is_finished
from steercpp.sweeps.spread import check_executor
from steercpp.sweeps.strengths import grid
from steercpp.sweeps.sweep import sweep
from steercpp.sweeps.texts import TextPlan
from steercpp.vectors.gguf import read_vector, write_vector
from steercpp.vectors.layers import parse_layers


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user changes about a preset.

    Attributes:
        data: folder of the official files; None for the cache.
        limit: at most so many items or pairs of each name.
        strengths, layers: in place of the preset's, as `grid` and `parse_layers` read them; "" for the preset's own.
        seed: of random directions and resampling.
        allow_code: generated code may run.
    """

    data: Path | None = None
    limit: int | None = None
    strengths: str = ""
    layers: str = ""
    seed: int = 0
    allow_code: bool = False

    def of_run(self, spec: RunSpec) -> RunSpec:
        """The run as it will be measured."""
        return replace(spec, strengths=self.strengths) if self.strengths else spec

    def of_vector(self, spec: VectorSpec) -> VectorSpec:
        """The vector as it will be made."""
        limited = replace(spec, limit=fewest(spec.limit, self.limit))
        return replace(limited, layers=self.layers) if self.layers else limited


def study(
    preset: Preset,
    models: Mapping[Role, Path],
    *,
    load: Callable[[Path], Engine],
    out: Path,
    choices: Choices | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_outcome: Callable[[StudyOutcome], None] | None = None,
    executor: Executor | int | None = None,
    model_folders: Sequence[Path | str] = (),
) -> Study:
    """Measure everything a preset asks for, or go on with a study that was begun.

    Args:
        preset: what to measure.
        models: the file of each role that it takes.
        load: loads a file; one is loaded at a time.
        out: the folder.
        choices: what is other than the preset says.
        force: take the place of a study of another plan.
        progress: called with (done, of how many, what), again for every part.
        on_outcome: called with each run's outcome, as soon as it is finished.
        executor: other processes that measure the runs, see `sweep`.
        model_folders: in which those look for models.

    Raises:
        InputError: a model is missing, a name, template, recipe or matcher is unknown, or the preset is a matrix.
        RunError: `out` cannot be used, or another process writes there.
        SteerError: as the parts raise; what is finished is kept in all cases.
    """
    choices = choices or Choices()
    if preset.matrix is not None:
        raise InputError(f"{preset.name}: is a matrix; measure it with `study_matrix`")
    check_executor(executor)
    presets = with_included(preset)
    with StudyModels(models, load) as opened:
        # Whatever may be missing is missed before hours of work
        for role in sorted({role for included in presets for role in included.roles}):
            opened.path(role)
        items = {
            included.name: {
                name: run_items(spec, data=choices.data, limit=choices.limit) for name, spec in included.runs.items()
            }
            for included in presets
        }
        _check_code(presets, items, choices, out)
        with writing(out):
            folder = open_folder(out, _plan(presets, models, choices), force=force)
            outcomes = []
            where = {"executor": executor, "models": tuple(map(str, model_folders))}
            for included in presets:
                work = _PresetWork(included, items[included.name], folder, opened, choices, progress, where)
                for name in included.runs:
                    with _described(f"{included.name}, run {name}"):
                        outcomes.append(work.run(name))
                    if on_outcome is not None:
                        on_outcome(outcomes[-1])
            folder.finish({outcome.title: str(outcome.result.folder.relative_to(out)) for outcome in outcomes})
            done = Study(out, preset, tuple(outcomes))
            write_study_page(done)
    return done


def text_plan_of(spec: ItemSpec, *, seed: int) -> TextPlan | None:
    """How a run's prompts are continued in words; None where they are not."""
    if not spec.max_tokens:
        return None
    code_template = "raw" if spec.template == "auto" else spec.template
    return TextPlan(spec.max_tokens, spec.samples, spec.temperature, spec.top_p, seed, code_template=code_template)


def synthesis_requests(spec: SynthesisSpec, choices: Choices) -> tuple[str, ...]:
    """What a steered model is asked for synthetic pairs."""
    return harmful_requests(behavior_items(spec.requests, data=choices.data))[: fewest(spec.limit, choices.limit)]


def _check_code(
    presets: tuple[Preset, ...], items: Mapping[str, Mapping[str, RunItems]], choices: Choices, out: Path
) -> None:
    """Make sure that what a model writes may be run, before it writes for hours.

    Raises:
        SandboxError: a run has code items, and its programs may not run, or no sandbox works here.
    """
    for preset in presets:
        for name in preset.runs:
            run = out / _place(preset, "runs", name)
            if is_finished(run) or not items[preset.name][name].code:
                continue
            if not choices.allow_code:
                raise SandboxError(
                    f"{preset.name}, run {name}: the answers are programs; allow that they are run, in a sandbox, with "
                    "`allow_code=True`"
                )
            working_way()


def _place(preset: Preset, kind: str, name: str) -> str:
    """Where a part lies in the folder of a study."""
    return f"{preset.name.replace('/', '-')}/{kind}/{name}"


@contextmanager
def _described(place: str) -> Iterator[None]:
    """Put the part of a study before what an error says."""
    try:
        yield
    except SteerError as error:
        error.args = (f"{place}: {error}",)
        raise


def _plan(presets: tuple[Preset, ...], models: Mapping[Role, Path], choices: Choices) -> dict[str, Any]:
    """What decides a study's numbers, beside the files of its material, whose items the runs' own plans hash."""
    changed = {key: value for key, value in asdict(choices).items() if key not in ("data", "allow_code")}
    used = sorted({role for preset in presets for role in preset.roles})
    sizes = {role: {"file": models[role].name, "bytes": model_bytes(models[role])} for role in used}
    return {"presets": {preset.name: preset.text for preset in presets}, "models": sizes, **changed}


@dataclass(frozen=True, slots=True)
class _PresetWork:
    """One preset of a study in work."""

    preset: Preset
    items: Mapping[str, RunItems]
    folder: StudyFolder
    models: StudyModels
    choices: Choices
    progress: Progress | None
    where: Mapping[str, Any]

    def run(self, name: str) -> StudyOutcome:
        """Measure one run, with its vector made before if need be."""
        spec = self.choices.of_run(self.preset.runs[name])
        items = self.items[name]
        with _described(f"vector {spec.vector}"):
            vector_path = self.vector(spec.vector)
        text_plan = text_plan_of(spec, seed=self.choices.seed)
        result = sweep(
            self.models.of(spec.model), read_vector(vector_path), behavior=items.behavior,
            choice=items.choice, answer=items.answer, text=items.text, code=items.code,
            instruction=items.instruction, strengths=grid(spec.strengths), unit=spec.unit,
            direction=1 if spec.direction == "+" else -1, max_loss=spec.max_loss, text_plan=text_plan,
            random_directions=spec.random_directions, seed=self.choices.seed, allow_code=self.choices.allow_code,
            out=self.folder.path / self._place("runs", name), progress=self._named(f"{self.preset.name}, {name}"),
            **self.where,
        )  # fmt: skip
        if spec.constants and read_constants(result.folder) is None:
            constants = measure_constants(
                self.models.of(spec.model), result, recipe="wolf2024" if spec.recipe == "wolf2024" else "steercpp",
                progress=self._named(f"{self.preset.name}, {name}, constants"),
            )  # fmt: skip
            write_constants(result.folder, constants)
            write_figures(result.folder, constants)
        ensure_report(judge(result))
        return StudyOutcome(self.preset.name, name, spec, result)

    def vector(self, name: str) -> Path:
        """The file of a vector, made if need be."""
        spec = self.choices.of_vector(self.preset.vectors[name])
        pairs = self.pairs(spec)
        engine = self.models.of(spec.model)
        identity = {
            **asdict(spec), "pairs": pairs_sha256(pairs), "model_sha256": engine.sha256,
            **engine.vocabulary.chat_identity,
        }  # fmt: skip

        def make(path: Path) -> None:
            layers = parse_layers(spec.layers, engine.n_layer) if spec.layers else None
            vector = extract(
                engine, pairs, method=spec.method, layers=layers, template=spec.template,
                progress=self._named(f"{self.preset.name}, vector {name}"),
            )  # fmt: skip
            write_vector(path, vector.scaled(-1.0) if spec.flip else vector, force=True)

        return self.folder.made(f"{self._place('vectors', name)}.gguf", identity, make)

    def pairs(self, spec: VectorSpec) -> tuple[ContrastPair, ...]:
        """The pairs of a vector, made by a steered model if they are a synthesis."""
        if (made := self.preset.synthesis.get(spec.pairs)) is None:
            return tuple(contrast_pairs(spec.pairs, data=self.choices.data, limit=spec.limit))
        return tuple(read_pairs(self.synthesized(spec.pairs, made))[: spec.limit])

    def synthesized(self, name: str, spec: SynthesisSpec) -> Path:
        """The file of synthetic pairs, made if need be."""
        requests = synthesis_requests(spec, self.choices)
        vector_path = self.vector(spec.vector)
        engine = self.models.of(spec.model)
        identity = {
            **asdict(spec), "requests": list(requests), "vector": file_sha256(vector_path),
            "model_sha256": engine.sha256, **engine.vocabulary.chat_identity,
        }  # fmt: skip

        def make(path: Path) -> None:
            synthetic = synthesize(
                engine, read_vector(vector_path), requests, strengths=(spec.refuse, spec.comply), variant=spec.variant,
                max_tokens=spec.max_tokens, progress=self._named(f"{self.preset.name}, pairs {name}"),
            )  # fmt: skip
            write_synthetic(path, synthetic, force=True)

        return self.folder.made(f"{self._place('pairs', name)}.jsonl", identity, make)

    def _place(self, kind: str, name: str) -> str:
        return _place(self.preset, kind, name)

    def _named(self, what: str) -> Progress | None:
        """Progress of a part, with its name before each label."""
        if (progress := self.progress) is None:
            return None
        return lambda done, total, label: progress(done, total, f"{what}: {label}")
