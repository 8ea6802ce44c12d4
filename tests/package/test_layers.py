"""The rooms: a module imports only from its own room and those below it, never in a circle, and only engine/ is native.

A new module needs no entry here; a new room does.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from places import ROOT
from planted_run import write_planted_run

from steercpp.html import SHOWN_BY, shown_by

BASE = {
    "errors",
    "aliases",
    "choices",
    "encoding",
    "files",
    "frames",
    "html",
    "provenance",
    "locks",
    "inputs",
    "parameters",
    "pipes",
    "spreadsheets",
    "toml",
}
# Each room with those that it may import, beside itself and the base.
ROOMS: dict[str, set[str]] = {
    "data": set(),
    "vectors": set(),
    "judging": {"data"},
    "engine": {"judging", "vectors", "data"},
    "statistics": {"judging", "data"},
    "extraction": {"engine", "vectors", "data"},
    "runs": {"statistics", "judging", "vectors", "data"},
    "sweeps": {"runs", "statistics", "engine", "judging", "vectors", "data"},
    "reports": {"runs", "statistics", "judging", "vectors", "extraction"},
    "experiments": {"reports", "sweeps", "runs", "extraction", "statistics", "engine", "judging", "vectors", "data"},
    "doctor": {"extraction", "engine", "judging", "vectors", "data"},
    "bench": {"sweeps", "runs", "extraction", "engine", "vectors", "data"},
    "serving": {"runs", "statistics", "engine", "judging", "vectors", "data"},
}
ROOMS["cli"] = set(ROOMS)
# Experiments stand beside each other; the few that use another one, with those that they use.
EXPERIMENTS = {"figures": {"scan", "transfer", "cross"}, "transfer": {"scan"}, "study": {"synthesis", "constants"}}
OF_ALL = {"models", "cli"}  # packages beside the rooms: models/ may be imported by anybody, cli/ by itself


def name_of(path: Path, root: Path) -> str:
    """The dotted name of a source file of steercpp/, cli/ or models/ below `root`, with a package named by its face."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "steercpp" else ("steercpp", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def sources(root: Path = ROOT) -> Mapping[str, ast.Module]:
    """Every module of the library and the command line by its dotted name."""
    paths = [*root.glob("steercpp/**/*.py"), *root.glob("cli/**/*.py")]
    links = {root / "steercpp" / name for name in OF_ALL}  # an editable install shows the other packages there
    return {
        name_of(path, root): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(paths)
        if not links & set(path.parents)
    }


def imported(tree: ast.Module) -> set[str]:
    """Full names of all that a module imports, wherever in it; of `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative imports hide the room; write steercpp.{node.module}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def room_of(name: str) -> str:
    """The room of a dotted name, "base" for the modules at the top, "top" for the package itself."""
    parts = name.split(".")
    if len(parts) == 1:
        return "top"
    return "base" if parts[1] in BASE else parts[1]


def arrows(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Which modules each one imports; a name that is imported out of a module is an arrow to that module."""
    return {
        name: {target for target in imported(tree) if target in modules and target not in {name, "steercpp"}}
        for name, tree in modules.items()
        if name != "steercpp"  # which names all that it gives, and imports nothing until it is asked
    }


def upward(modules: Mapping[str, ast.Module]) -> list[str]:
    """Imports of a room that the importing one may not know."""
    wrong = []
    for name, targets in arrows(modules).items():
        room = room_of(name)
        allowed = {"base", room} | ROOMS.get(room, set())
        wrong += [f"{name} imports {target}" for target in sorted(targets) if room_of(target) not in allowed]
    return wrong


def between_experiments(modules: Mapping[str, ast.Module]) -> list[str]:
    """Imports of an experiment by another one that has no need of it."""
    wrong = []
    for name, targets in arrows(modules).items():
        if name.startswith("steercpp.experiments."):
            experiment = name.split(".")[2]
            allowed = {experiment} | EXPERIMENTS.get(experiment, set())
            others = [target for target in sorted(targets) if target.startswith("steercpp.experiments.")]
            wrong += [f"{name} imports {other}" for other in others if other.split(".")[2] not in allowed]
    return wrong


def circles(modules: Mapping[str, ast.Module]) -> list[str]:
    """Modules that import each other, directly or through others: one path for each that closes."""
    graph = arrows(modules)
    state: dict[str, int] = {}
    found = []

    def walk(name: str, path: list[str]) -> None:
        state[name] = 1
        for target in sorted(graph[name]):
            if state.get(target) == 1:
                found.append(" -> ".join([*path[path.index(target) :], target]))
            elif target not in state:
                walk(target, [*path, target])
        state[name] = 2

    for name in graph:
        if name not in state:
            walk(name, [name])
    return found


def users_of(package: str, modules: Mapping[str, ast.Module]) -> set[str]:
    """Modules that import a package or something in it."""
    return {
        name
        for name, tree in modules.items()
        if any(target == package or target.startswith(f"{package}.") for target in imported(tree))
    }


def parsed(**texts: str) -> dict[str, ast.Module]:
    """Modules made of text, "engine__steering" for steercpp.engine.steering."""
    return {"steercpp." + name.replace("__", "."): ast.parse(text) for name, text in texts.items()}


def test_every_module_lies_in_a_room() -> None:
    strange = [name for name in sources() if room_of(name) not in {"base", "top", *ROOMS}]
    assert not strange, "enter a new room in ROOMS, or put the module into one that there is"


def test_rooms_import_only_rooms_below_them() -> None:
    assert upward(sources()) == []


def test_experiments_use_no_others_than_they_need() -> None:
    assert between_experiments(sources()) == []
    modules = parsed(experiments__cross="from steercpp.experiments.scan import GRIDS", experiments__scan="")
    assert between_experiments(modules) == ["steercpp.experiments.cross imports steercpp.experiments.scan"]


def test_what_is_named_by_text_is_there() -> None:
    """A result that a room above draws names it as text, in one place, as faces do."""
    for name in SHOWN_BY:
        assert callable(shown_by(name))


def test_no_two_modules_import_each_other() -> None:
    assert circles(sources()) == []


def test_only_the_engine_is_native() -> None:
    users = users_of("steercpp._native", sources())
    assert users, "nothing imports the native module, so this test looks for the wrong name"
    assert {room_of(name) for name in users} == {"engine"}


def test_the_library_does_not_talk() -> None:
    talking = users_of("click", sources()) | users_of("rich", sources())
    assert {room_of(name) for name in talking} == {"cli"}


def test_only_four_modules_of_the_command_line_know_rich() -> None:
    knowing = {f"steercpp.cli.{name}" for name in ("output", "terminal", "layouts", "progress")}
    assert users_of("rich", sources()) == knowing


@pytest.mark.parametrize(
    ("modules", "offence"),
    [
        (parsed(data__a="from steercpp.engine.b import c", engine__b=""), "steercpp.data.a imports steercpp.engine.b"),
        (parsed(runs__a="import steercpp.sweeps.b", sweeps__b=""), "steercpp.runs.a imports steercpp.sweeps.b"),
        (parsed(errors="from steercpp.data import a", data__a=""), "steercpp.errors imports steercpp.data.a"),
        (parsed(doctor__a="from steercpp.bench.b import c", bench__b=""), "steercpp.doctor.a imports steercpp.bench.b"),
    ],
)
def test_an_import_that_runs_up_is_found(modules: dict[str, ast.Module], offence: str) -> None:
    assert upward(modules) == [offence]


def test_a_circle_is_found() -> None:
    modules = parsed(
        data__a="from steercpp.data.b import x",
        data__b="def f():\n import steercpp.data.c",
        data__c="import steercpp.data.a",
    )
    assert circles(modules) == ["steercpp.data.a -> steercpp.data.b -> steercpp.data.c -> steercpp.data.a"]


def test_a_native_import_elsewhere_is_found() -> None:
    modules = parsed(engine__a="from steercpp import _native", runs__b="from steercpp._native import Model")
    assert {room_of(name) for name in users_of("steercpp._native", modules)} == {"engine", "runs"}


def without(packages: Iterable[str], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process where some packages cannot be imported."""
    hiding = (
        "import sys\n"
        f"hidden = {sorted(packages)!r}\n"
        "class Hider:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if any(name == each or name.startswith(each + '.') for each in hidden):\n"
        "            raise ModuleNotFoundError(f'{name} is hidden here', name=name)\n"
        "sys.meta_path.insert(0, Hider())\n"
    )
    return subprocess.run([sys.executable, "-c", hiding + program], capture_output=True, text=True)


@pytest.mark.slow
def test_a_run_is_read_judged_and_drawn_where_nothing_is_native(tmp_path: Path) -> None:
    names = sorted(name for name in sources() if room_of(name) in {"runs", "statistics", "reports"})
    program = (
        f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        "from pathlib import Path\n"
        "from steercpp.reports.report import write_report\n"
        "from steercpp.runs.judgement import judge\n"
        "from steercpp.runs.result import open_run\n"
        f"judgement = judge(open_run(Path({str(write_planted_run(tmp_path / 'run'))!r})))\n"
        "assert judgement.recommendation.strength is not None and judgement.result.fit()['alignment'][0].valid\n"
        f"print(*write_report(judgement, out=Path({str(tmp_path / 'report')!r})))\n"
    )
    done = without(["steercpp._native", "llama_cpp", "steercpp.engine"], program)
    assert done.returncode == 0, done.stderr
    assert {"tradeoff.svg", "report.html", "alignment.csv"} <= {Path(name).name for name in done.stdout.split()}


def test_the_hiding_hides() -> None:
    done = without(["steercpp._native"], "import steercpp.engine.session")
    assert "cannot import name '_native'" in done.stderr
