"""What the comparisons with tools of llama.cpp have in common."""

from __future__ import annotations

import subprocess
from pathlib import Path

from steercpp.bench.result import Skipped
from steercpp.bench.setting import Setting
from steercpp.errors import EngineError

WHERE = "name the folder of llama.cpp's tools with --llama-bin"


def missing(setting: Setting, tool: str) -> Skipped:
    """The line in place of a comparison whose tool is not installed."""
    return Skipped(setting.name, f"{tool} is not installed; {WHERE}")


def version(path: Path) -> str:
    """What a tool says it is."""
    ended = subprocess.run([str(path), "--version"], capture_output=True, text=True, errors="replace")
    return (ended.stderr + ended.stdout).strip().splitlines()[0].removeprefix("version: ")


def gpu_layers(setting: Setting) -> str:
    """Blocks on a GPU as the tools count them, the output with them."""
    return str(setting.gpu_layers if setting.gpu_layers >= 0 else setting.shape.n_layer + 1)


def failed(path: Path, code: int, errors: str) -> EngineError:
    """The error of a tool that ended without doing its work."""
    last = (errors.strip().splitlines() or ["it says nothing"])[-1]
    return EngineError(f"{path} ended with code {code}: {last}; run it by hand to see more")
