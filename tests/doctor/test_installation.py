"""The doctor: finds a sound installation sound, and says what is wrong with one that is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from architectures import ARCHITECTURES
from click.testing import CliRunner, Result

from steercpp.cli.main import main
from steercpp.doctor.installation import diagnose, loaded_libraries
from steercpp.engine.devices import Gpu, install_line


def doctor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)], env={"COLUMNS": "80"})


def test_a_sound_installation(tiny_path: Path) -> None:
    found = diagnose(tiny_path)
    assert found.healthy and found.model == str(tiny_path)
    assert len(found.checks) == 5  # the module, its libraries, and three of the engine's own
    assert found.versions["llama-cpp-python"] == "0.3.36" and found.devices[0]["name"]


@pytest.mark.skipif(sys.platform != "linux", reason="what is loaded is read from /proc")
def test_llama_cpp_is_the_one_in_llama_cpp_python(tiny_path: Path) -> None:
    diagnose(tiny_path)
    names = [Path(file).name for file in loaded_libraries()]
    assert sum(name.startswith("libllama") for name in names) == 1
    assert any(name.startswith("_native") for name in names) and any(name.startswith("libggml") for name in names)
    assert all("llama_cpp/lib" in file for file in loaded_libraries() if Path(file).name.startswith("lib"))


def test_json_and_text(tiny_path: Path) -> None:
    result = doctor("--model", tiny_path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert data["healthy"] and all(check["ok"] for check in data["checks"]) and data["libraries"]
    result = doctor("--model", tiny_path)
    assert result.exit_code == 0 and "Everything is well." in result.stdout and result.stdout.count("✓") == 5


def test_a_gpu_that_this_build_does_not_use(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fault of the installation: the exit code stays 0. The command is one line, to be copied."""
    monkeypatch.setattr("steercpp.doctor.installation.gpus", lambda: (Gpu("vulkan", "a GPU", "card0"),))
    result = doctor("--model", tiny_path)
    assert result.exit_code == 0 and "This machine has a GPU (card0)" in result.stdout
    assert install_line("vulkan") in result.stdout.splitlines()
    (found,) = json.loads(doctor("--model", tiny_path, "--json").stdout)["advice"]
    assert found["command"] == install_line("vulkan")


def test_a_model_that_cannot_be_steered_is_a_finding(tmp_path: Path) -> None:
    path = ARCHITECTURES["plamo2"].write(tmp_path / "plamo.gguf")
    result = doctor("--model", path)
    assert result.exit_code == 1 and result.stderr == ""
    assert "cannot be steered" in " ".join(result.stdout.split()) and "✗" in result.stdout
    data = json.loads(doctor("--model", path, "--json").stdout)
    assert not data["healthy"] and [check["ok"] for check in data["checks"]] == [True, True, False]


def test_a_missing_model_is_a_finding(tmp_path: Path) -> None:
    result = doctor("--model", tmp_path / "none.gguf")
    words = "".join(result.stdout.split())  # a long path falls over two lines
    assert result.exit_code == 1 and "none.gguf" in words and "Traceback" not in words
