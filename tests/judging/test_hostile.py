"""Hostile programs and forged passes: none gets out of the sandbox, none passes, in each wall, as root and as a user.

The lists are in helpers/hostile_programs.py and helpers/forgeries.py. A share of them runs in each of the four
settings, all of them somewhere; STEERCPP_HOSTILE=all runs all in each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forgeries import FORGERIES, forged
from hostile_programs import PROGRAMS
from places import ROOT

from steercpp.judging.sandbox import Program, run_program
from steercpp.judging.sandbox_walls import WAYS, python

ALL = os.environ.get("STEERCPP_HOSTILE") == "all"
USER = 54321
SETTINGS = [(way, user) for way in WAYS for user in ("self", "ordinary")]
CUT = [  # once passed, or reached the test's end
    "answered on the wire itself: a type", "no failure ends the test", "another abs", "another range",
    "another of the given functions", "another of all that there is", "an object with a method of its own",
    "loaded on the wire itself: another abs", "loaded on the wire itself: pairs",
]  # fmt: skip


def run(kind: str, way: str, user: str, first: int, step: int) -> dict[str, list[object]]:
    """The outcomes of a list's programs from the `first` on, each `step`th."""
    here = [path for path in sys.path if path.endswith("site-packages")]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers"), *here])
    interpreter, prefix = sys.executable, list[str]()
    if user == "ordinary":
        if os.geteuid() != 0:
            pytest.skip("the tests run as an ordinary user")
        prefix = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        # In the folder of root no other user finds a Python: one of the system may be as good.
        others = (python(), f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
        usable = (path for path in others if _reads(prefix, path, paths))
        if not (found := next(usable, None)):
            pytest.skip(f"user {USER} can start none of {', '.join(others)} with steercpp")
        interpreter = found
    words = [
        *prefix,
        "env",
        interpreter,
        str(ROOT / "tests" / "helpers" / "hostile_run.py"),
        kind,
        way,
        str(first),
        str(step),
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}
    done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    if "why_not" in outcomes:
        pytest.skip(f"{way}: {outcomes['why_not']}")
    assert outcomes.pop("") is False, "a key stayed in the keyring outside"
    return dict[str, list[object]](outcomes)


def _reads(prefix: list[str], interpreter: str, paths: str) -> bool:
    words = [*prefix, "env", interpreter, "-c", "import steercpp.judging.sandbox"]  # setpriv itself may still read all
    environment = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(words, env=environment, cwd="/", capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def share(setting: tuple[str, str]) -> tuple[int, int]:
    return (0, 1) if ALL else (SETTINGS.index(setting), len(SETTINGS))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=" ".join)
def test_no_hostile_program_gets_out(setting: tuple[str, str]) -> None:
    expected = {hostile.tries: hostile.reason for hostile in PROGRAMS}
    assert len(expected) == len(PROGRAMS) > 60
    outcomes = run("hostile", *setting, *share(setting))
    assert len(outcomes) >= len(PROGRAMS) // len(SETTINGS)
    assert {name: end for name, end in outcomes.items() if end[0]} == {}, "these got what they tried"
    wrong = {name: end for name, end in outcomes.items() if not re.match(expected[name], str(end[1]))}
    assert wrong == {}, "these were held, by something else than what holds them"


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=" ".join)
def test_no_forgery_passes(setting: tuple[str, str]) -> None:
    assert len(FORGERIES) >= 10
    outcomes = run("forgeries", *setting, *share(setting))
    assert len(outcomes) >= len(FORGERIES) // len(SETTINGS)
    assert {name: end for name, end in outcomes.items() if end[0]} == {}


@pytest.mark.parametrize("name", CUT)
def test_what_once_passed_fails(way: str, name: str) -> None:
    """An empty reason for a failure was taken for none; what the wire carries is tried against the test itself."""
    assert not run_program(forged(FORGERIES[name]), allow=True, way=way).passed


def test_the_test_of_the_forgeries_can_be_passed(way: str) -> None:
    right = "def add(a, b): return a + b\ndef total(a, b): return Sum(a + b)\n"
    assert run_program(forged(right), allow=True, way=way).passed
    # The wire's own reply is taken where it is right, so that the forgeries that use it fail for what they reply.
    source = FORGERIES["answered on the wire itself: true"]
    value = "message['arguments'][2][0][1][1] and sum(message['arguments'][2][0][1])"
    source = source.replace("reply(receive(), send_value)", f"message = receive(); reply(message, {value})")
    test = "assert add(1, 2) == 3\nassert add(20, 22) == 42\n"
    assert run_program(Program.of(source, test), allow=True, way=way).passed


@pytest.mark.slow
def test_python_in_a_home_shows_nothing_else_of_it(way: str, tmp_path: Path) -> None:
    """A Python under ~/.local once brought the whole of ~/.local along, keyrings among it; under /tmp none started."""
    for home in (tmp_path / "home", Path("/tmp") / f"steercpp-home-{os.getpid()}"):
        prefix = home / ".local"
        _copy_python(prefix)
        try:
            for secret in (prefix / "share" / "keyrings" / "login.keyring", home / ".ssh" / "id_rsa"):
                secret.parent.mkdir(parents=True)
                secret.write_text("secret")
            package = next(prefix.glob("lib/python3*/")) / "site-packages" / "mine.py"
            package.parent.mkdir(exist_ok=True)
            package.write_text("")
            told = subprocess.run(
                [str(prefix / "bin" / "python3"), "-c", _LOOK, way, str(home)], check=False,
                env={"PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]),
                     "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
            )  # fmt: skip
            assert told.returncode == 0, told.stderr
            outcome = json.loads(told.stdout)
            assert outcome[:2] == [True, ""], outcome
            seen = {Path(path).relative_to(prefix) for path in outcome[2].split("\n") if path}
            assert {path.parts[0] for path in seen} <= {"bin", "lib"}, seen
            assert not [path for path in seen if not path.name.startswith(("python3", "libpython3"))], seen
        finally:
            if not home.is_relative_to(tmp_path):
                subprocess.run(["rm", "-rf", str(home)], check=True)


_LOOK = """
import json, sys
from steercpp.judging.sandbox import run_program
look = f'''
import json, os, ssl, ctypes, decimal, sys
for folder, folders, files in os.walk({sys.argv[2]!r}):
    for name in files:
        if not folder.endswith(("/lib-dynload",)) and ("/lib/python3" not in folder or "site-packages" in folder):
            print(os.path.join(folder, name))
assert sys.prefix.startswith({sys.argv[2]!r}), sys.prefix
try: os.rename({sys.argv[2]!r}, "/tmp/elsewhere")
except OSError: pass
else: raise AssertionError("the library can be moved")
'''
end = run_program(look, allow=True, way=sys.argv[1])
print(json.dumps([end.passed, end.reason, end.output]))
"""


def _copy_python(prefix: Path) -> None:
    """This Python, its standard library and its shared library below another prefix."""
    import shutil
    import sysconfig

    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (prefix / "bin").mkdir(parents=True)
    shutil.copy2(python(), prefix / "bin" / version)
    (prefix / "bin" / "python3").symlink_to(version)
    ignored = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "idlelib", "config-*")
    shutil.copytree(sysconfig.get_path("stdlib"), prefix / "lib" / version, ignore=ignored, symlinks=False)
    for library in Path(sysconfig.get_config_var("LIBDIR") or "/nowhere").glob("libpython3*.so*"):
        if "R" in str(sysconfig.get_config_var("LDFLAGS")) or not (prefix / "lib" / library.name).exists():
            shutil.copy2(library, prefix / "lib" / library.name)
