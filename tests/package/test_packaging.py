"""How the package is built and loaded: one llama.cpp, quietly, and nothing heavy before it is needed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import steercpp.engine.engine


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)


def test_the_pinned_versions_are_one() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = re.findall(r'"llama-cpp-python([^"]*)"', text)
    assert pins == [f"=={steercpp.engine.model.LLAMA_CPP_PYTHON}"] * 2  # to build with, to run with


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/maps")
def test_llama_cpp_is_loaded_once_from_where_llama_cpp_python_loads_it() -> None:
    code = (
        "import steercpp.engine.engine, llama_cpp, pathlib\n"
        "print(pathlib.Path(llama_cpp.__file__).parent / 'lib')\n"
        "print({line.split()[-1] for line in open('/proc/self/maps') if 'libllama' in line or 'libggml' in line})"
    )
    folder, loaded = run(code).stdout.splitlines()
    files = sorted(Path(name) for name in re.findall(r"'([^']+)'", loaded))
    assert {file.parent for file in files} == {Path(folder)}
    stems = [file.name.split(".")[0] for file in files]
    assert len(stems) == len(set(stems)) and {"libllama", "libggml", "libggml-base"} <= set(stems)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads an ELF file")
def test_the_run_path_is_relative() -> None:
    native = importlib.import_module("steercpp._native").__file__
    assert native is not None
    content = Path(native).read_bytes()
    assert b"\0$ORIGIN/../llama_cpp/lib\0" in content
    assert b"site-packages" not in content


def test_the_command_and_the_models_are_inside_the_package() -> None:
    assert importlib.import_module("steercpp.cli.main").__name__ == "steercpp.cli.main"
    assert importlib.import_module("steercpp.models").__name__ == "steercpp.models"


def test_importing_the_engine_loads_no_fitting_plotting_or_terminal_library() -> None:
    code = "import sys, steercpp.engine.engine; print(*sys.modules)"
    loaded = set(run(code).stdout.split())
    assert loaded.isdisjoint({"click", "rich", "matplotlib", "lmfit", "scipy", "sklearn", "gguf", "joblib", "torch"})
    assert "steercpp.doctor.self_test" not in loaded


def test_llama_cpp_is_silent_unless_asked(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from steercpp.engine.engine import Engine; Engine(sys.argv[1], threads=1).close()"
    quiet = run(code, str(tiny_path))
    assert (quiet.stdout, quiet.stderr) == ("", "")
    monkeypatch.setenv("STEERCPP_LOG", "1")
    assert "llama_model_loader" in run(code, str(tiny_path)).stderr


def test_the_public_names_are_there_and_are_no_modules() -> None:
    script = (
        "import types, steercpp, steercpp.sweeps.sweep, steercpp.extraction.extract\n"
        "for name in steercpp.__all__:\n"
        "    assert not isinstance(getattr(steercpp, name), types.ModuleType), name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
