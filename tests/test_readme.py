"""The README: its Python runs as printed, but for the names of files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_sweep import write_items

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(tmp_path: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    behavior, choice, pairs = write_items(tmp_path)
    for name, path in {
        "llama-2-7b-chat.Q4_K_M.gguf": tiny_path,
        "refusal.jsonl": pairs,
        "refusal.behavior.jsonl": behavior,
        "international_law_test.csv": choice,
        "runs/refusal": tmp_path / "run",
    }.items():
        assert f'"{name}"' in example
        example = example.replace(f'"{name}"', repr(str(path)))
    exec(example, {})
    assert (tmp_path / "run" / "vector.gguf").exists()
    assert "Recommendation(strength=" in capsys.readouterr().out
