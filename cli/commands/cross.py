"""`steercpp cross`: what several vectors do to several behaviors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steercpp.choices import UNITS, Unit
from steercpp.cli import output
from steercpp.cli.commands.combine import parse_term
from steercpp.cli.grouped_help import Command
from steercpp.cli.options.common import FILE, force_option, json_option, kl_option, refuse_idle_kl, seed_option
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.cli.options.vectors import model_or_embedded, named_vector, vector_in_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from steercpp.data.items import BehaviorItem, ChoiceItem
    from steercpp.engine.engine import Engine
    from steercpp.experiments.cross import CrossEffects, Push

OWN = ("refusal", "fairness")  # what the embedded model has pairs and items of
OWN_STRENGTH = 0.25


@click.command(cls=Command)
@click.argument("model", required=False, type=FILE)
@click.option("--vector", "vectors", multiple=True, metavar="V.gguf[:S]",
              help="Control vector, and its strength; may be repeated.")  # fmt: skip
@click.option("--behavior", "behaviors", multiple=True, metavar="B",
              help="Behavior items, a file B.jsonl or a set such as refusal; may be repeated.")  # fmt: skip
@click.option("--task", "tasks", multiple=True, metavar="T", help="Choice items, for P(correct); may be repeated.")
@click.option("--strength", type=float, metavar="S",
              help="Of vectors that say none.  [default: what their sweep recommends]")  # fmt: skip
@click.option("--unit", type=click.Choice(UNITS),
              help="What strength 1 adds, see sweep.  [default: length; the embedded model: norm]")  # fmt: skip
@kl_option("What --unit kl means.")
@click.option("--data", type=FILE, metavar="DIR", help="Folder of data sets.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many items of each file or set.")
@click.option("--random", "n_random", default=8, show_default=True, type=click.IntRange(0),
              help="Random directions for each vector: the floor.")  # fmt: skip
@seed_option("them and of the intervals")
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Keep the numbers, a CSV, JSON and pictures there.")
@engine_options
@force_option("Replace the matrix in the directory.")
@json_option
def cross(
    model: Path | None,
    vectors: tuple[str, ...],
    behaviors: tuple[str, ...],
    tasks: tuple[str, ...],
    strength: float | None,
    unit: Unit | None,
    kl: float | None,
    data: Path | None,
    limit: int | None,
    n_random: int,
    seed: int,
    out: Path | None,
    options: EngineOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Compare what several vectors do to several behaviors.

    Shows whether steering one behavior moves another. For each vector at its strength it prints the change of mean B
    of each behavior with a 95% interval over items, the same for random directions of equal length, and the cosines
    between the vectors. With --out an interrupted command can go on. Without MODEL it crosses the embedded model's
    refusal and fairness vectors.

    \b
    Example: steercpp cross
             steercpp cross model.gguf --vector refusal.gguf:1.5 \\
                 --vector fair.gguf:2 --behavior refusal \\
                 --behavior stereoset:race --out runs/cross
    """  # noqa: D301
    missing = [words for words, given in (("--vector V.gguf", vectors), ("--behavior B", behaviors)) if not given]
    if model and missing:
        raise click.UsageError(f"MODEL needs {' and '.join(missing)}{', each' if missing[1:] else ''} at least once.")
    refuse_idle_kl(kl, unit)
    from steercpp.cli.views.cross import cross_pieces
    from steercpp.experiments.cross import cross as measure
    from steercpp.locks import refuse_second_writer

    crossing = _Crossing(model, vectors, behaviors, tasks, strength, unit, kl, data, limit)
    items, questions = crossing.behavior_items(), crossing.choice_items()
    if out is not None:
        refuse_second_writer(out)  # before the model is loaded
    with output.kept_in(out), options.open(crossing.path) as engine, output.progress(beside_data=as_json) as report:
        pushes = crossing.pushes(engine, items, report)
        effects = measure(
            engine, pushes, items, choice=questions, n_random=n_random, seed=seed, out=out, force=force,
            progress=report,
        )  # fmt: skip
    record = {"model": str(crossing.path), "unit": crossing.shown_unit, "seed": seed, **effects.record()}
    files = _files(out, record, effects) if out else ()
    output.emit(
        {**record, "files": files}, as_json=as_json, render=lambda: cross_pieces(effects, crossing.shown_unit, files)
    )


@dataclass(frozen=True, slots=True)
class _Crossing:
    """What crosses what, with the embedded model's own where nothing is named."""

    model: Path | None
    vectors: tuple[str, ...]
    behaviors: tuple[str, ...]
    tasks: tuple[str, ...]
    strength: float | None
    unit: Unit | None
    kl: float | None
    data: Path | None
    limit: int | None

    @property
    def path(self) -> Path:
        """The model's file."""
        return model_or_embedded(self.model)

    @property
    def shown_unit(self) -> Unit:
        """The unit of the strengths."""
        return self.unit or ("length" if self.vectors else "norm")

    def behavior_items(self) -> dict[str, Sequence[BehaviorItem]]:
        """Items of each behavior by a short name."""
        from steercpp.data.sets.names import behavior_items, short_name

        names = self.behaviors or tuple(str(self.path.parent / f"{name}.behavior.jsonl") for name in OWN)
        called = _apart([short_name(name).removesuffix(".behavior") for name in names], names)
        return {
            short: behavior_items(name, data=self.data, limit=self.limit)
            for short, name in zip(called, names, strict=True)
        }

    def choice_items(self) -> list[ChoiceItem]:
        """The questions of all tasks.

        Raises:
            InputError: a task of another kind.
        """
        from steercpp.data.items import ChoiceItem
        from steercpp.data.sets.names import task_items
        from steercpp.errors import InputError

        questions: list[ChoiceItem] = []
        for name in self.tasks:
            for item in task_items(name, data=self.data, limit=self.limit):
                if not isinstance(item, ChoiceItem):
                    raise InputError(f"{name}: no multiple choice; cross measures P(correct) of choice items")
                questions.append(item)
        return questions

    def pushes(
        self, engine: Engine, items: dict[str, Sequence[BehaviorItem]], report: output.Report | None
    ) -> list[Push]:
        """The vectors in their unit, taken over the behavior items' prompts."""
        from steercpp.data.pairs import read_pairs
        from steercpp.data.sets.embedded import load
        from steercpp.experiments.cross import Push
        from steercpp.extraction.extract import extract
        from steercpp.sweeps.calibration import KL
        from steercpp.sweeps.calibration_texts import item_texts
        from steercpp.sweeps.units import check_unit
        from steercpp.vectors.names import vector_names

        check_unit(self.shown_unit, self.kl or KL)
        texts = item_texts(engine, [item for of_behavior in items.values() for item in of_behavior])
        made: list[Push] = []
        if not self.vectors:
            for name in OWN:
                pairs = read_pairs(self.path.parent / f"{name}.pairs.jsonl")
                vector = extract(engine, pairs, layers=load().layers, progress=report)
                made.append(Push(name, vector, OWN_STRENGTH if self.strength is None else self.strength))
        terms = [_term(text) for text in self.vectors]
        called = vector_names([path for path, _ in terms])
        for name, (path, strength) in zip(called, terms, strict=True):
            vector = named_vector(engine, path, None, report)
            made.append(Push(name, vector, self._strength(path, strength, vector.metadata)))
        return [
            replace(
                push, vector=vector_in_unit(engine, push.vector, texts, self.shown_unit, kl=self.kl, report=report)[0]
            )
            for push in made
        ]

    def _strength(self, path: Path, strength: float | None, metadata: Any) -> float:
        """The strength that was given with a vector, else for all, else what the vector's sweep recommends."""
        if strength is None:
            strength = self.strength
        if strength is None and isinstance(recommended := metadata.get("recommended_strength"), float):
            strength = recommended
        if strength is None:
            raise click.UsageError(f"{path}: no strength; write {path}:1.5, or give --strength for all.")
        return strength


def _term(text: str) -> tuple[Path, float | None]:
    """A file and its strength, None where none is given."""
    path, strength = parse_term(text)
    return path, None if path == Path(text) else strength


def _apart(short: Sequence[str], full: Sequence[str]) -> list[str]:
    """The short names, or the full ones where two would be called alike."""
    return list(short) if len(set(short)) == len(short) else [str(name) for name in full]


def _files(out: Path, record: dict[str, Any], effects: CrossEffects) -> tuple[Path, ...]:
    """Write the matrix as JSON and CSV, and its picture."""
    from steercpp.reports.pictures import ensure_files, write_together
    from steercpp.spreadsheets import csv_bytes

    def draw() -> Figure:
        from steercpp.experiments.figures import cross_figure

        return cross_figure(effects)

    lines = list(effects.lines())
    table = csv_bytes({name: [line[name] for line in lines] for name in lines[0]})
    csv_file = write_together(out, {"cross.csv": table})
    return (*ensure_files(out, "cross", record, draw), *csv_file)
