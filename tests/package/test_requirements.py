"""What is installed: every dependency is pinned within its bound, with hashes, and nothing comes without them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from places import ROOT

FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# The first versions without the holes that are known, by the advisories that pyproject.toml names.
WITHOUT_HOLES = {
    "asteval": "1.0.6", "certifi": "2024.7.4", "filelock": "3.20.3", "fonttools": "4.60.2", "idna": "3.7",
    "jinja2": "3.1.6", "pillow": "12.1.1", "pip": "26.0", "pytest": "9.0.3", "requests": "2.32.4",
    "scikit-learn": "1.5.0", "urllib3": "2.6.3", "weasyprint": "68.0",
}  # fmt: skip


class Pinned:
    """A file of requirements/: versions with the environments that they are for, and their hashes."""

    def __init__(self, name: str) -> None:
        text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
        self.pins: list[tuple[Requirement, str, tuple[str, ...]]] = []
        for block in re.split(r"\n(?=\S)", text.strip()):
            if block.startswith("#"):
                continue
            line, *hashes = (part.strip() for part in block.split("\\\n"))
            requirement = Requirement(line)
            ((operator, pinned),) = [(each.operator, each.version) for each in requirement.specifier]
            assert operator == "==", line
            self.pins.append((requirement, pinned, tuple(hashes)))

    def of(self, name: str) -> list[str]:
        """All versions of a package, for whatever environment."""
        wanted = canonicalize_name(name)
        return [pinned for requirement, pinned, _ in self.pins if canonicalize_name(requirement.name) == wanted]


def needed(*extras: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for, with the extras that an extra of the project takes along."""
    for line in PROJECT["project"]["dependencies"]:
        yield Requirement(line)
    for extra in extras:
        for line in PROJECT["project"]["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name == "steercpp":
                yield from needed(*requirement.extras)
            else:
                yield requirement


def asked_in(name: str) -> Iterator[Requirement]:
    for line in (FOLDER / f"{name}.in").read_text(encoding="utf-8").splitlines():
        if line := line.partition("#")[0].strip():
            yield Requirement(line)


NAMES = ("build", "run", "dev", "model")


@pytest.mark.parametrize("name", NAMES)
def test_every_pin_has_hashes(name: str) -> None:
    for requirement, _, hashes in Pinned(name).pins:
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("run", list(needed())),
        ("dev", [*needed("test", "docs"), *asked_in("build")]),
        ("build", [*map(Requirement, PROJECT["build-system"]["requires"][:-1]), *asked_in("build")]),
        ("model", list(asked_in("model"))),
    ],
)
def test_every_dependency_is_pinned_within_its_bound(name: str, requirements: list[Requirement]) -> None:
    pinned = Pinned(name)
    for requirement in requirements:
        versions = pinned.of(requirement.name)
        assert versions, f"requirements/{name}.txt lacks {requirement}; run make lock"
        outside = [each for each in versions if not requirement.specifier.contains(each)]
        assert not outside, f"requirements/{name}.txt has {outside} for {requirement}; run make lock"


def test_the_files_agree() -> None:
    """What builds and runs the package is what it is tested with; and llama.cpp has one version everywhere."""
    dev = {(str(requirement), hashes) for requirement, _, hashes in Pinned("dev").pins}
    for name in ("run", "build"):
        others = {(str(requirement), hashes) for requirement, _, hashes in Pinned(name).pins}
        assert others <= dev, sorted(line for line, _ in others - dev)
    exact = [Requirement(line) for line in PROJECT["build-system"]["requires"]][-1]
    assert exact.name == "llama-cpp-python" and Pinned("run").of(exact.name) == [str(exact.specifier)[2:]]


@pytest.mark.parametrize("python", ["3.11.9", "3.12.5", "3.13.2"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_there_is_one_version_for_each_environment(python: str, machine: str) -> None:
    short = python.rpartition(".")[0]
    environment: dict[str, Any] = {
        **default_environment(), "python_full_version": python, "python_version": short, "platform_machine": machine,
        "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
    }  # fmt: skip
    for name in NAMES:
        names = [
            canonicalize_name(requirement.name)
            for requirement, _, _ in Pinned(name).pins
            if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""})
        ]
        assert len(names) == len(set(names))


def test_no_bound_admits_a_known_hole() -> None:
    bounds: dict[str, Version] = {}
    for requirement in [*needed("test", "docs"), *asked_in("build")]:
        lowest = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==")]
        assert lowest, f"{requirement} has no lower bound"
        bounds[canonicalize_name(requirement.name)] = max(lowest)
    for name, first in WITHOUT_HOLES.items():
        assert bounds[name] >= Version(first), f"{name}>={bounds[name]} admits versions before {first}"


def test_make_and_ci_install_with_hashes_alone() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    installs = [line.strip() for line in text.splitlines() if "pip install" in line]
    assert len(installs) > 3
    of_their_own = ("build/lock", "build/lowest", "[recipe]", "--no-deps")  # tools, oldest versions, the project itself
    for line in installs:
        assert "--require-hashes" in line or any(word in line for word in of_their_own), line
    assert text.count("$(LOCKED) ") >= 4
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("\\\n", " ")
    fetched = [line for line in script.splitlines() if " pip " in line or "/pip " in line]
    assert [line for line in fetched if "make" not in line and "--require-hashes" not in line] == []


def test_the_one_hash_of_llama_cpp_is_cut_out_by_sed() -> None:
    """As the Makefile and .ci/run do, for the package whose source they need."""
    command = ["sed", "-n", "/^llama-cpp-python==/,/[0-9a-f]$/p", str(FOLDER / "run.txt")]
    if sys.platform != "linux":
        pytest.skip("needs sed")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"llama-cpp-python==\S+( \\\n +--hash=sha256:[0-9a-f]{64})+\n", told)


def test_what_is_installed_here_is_within_the_bounds() -> None:
    for requirement in needed():
        assert requirement.specifier.contains(version(requirement.name)), requirement
