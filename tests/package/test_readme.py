"""The README and the pages under docs/: their Python runs as printed, but for the names of files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from places import ROOT, ModelMaker
from planted_run import write_planted_run
from small_sweep import write_items

import steercpp
from steercpp.data.templates import TEMPLATES
from steercpp.judging.matchers import MATCHERS
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
EXAMPLES = [
    (page, example)
    for page in PAGES
    for example in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
]


def test_there_are_examples() -> None:
    assert [page for page, _ in EXAMPLES].count("docs/python.md") == 2 and "docs/generation.md" in dict(EXAMPLES)


def test_the_readme_is_short_and_leads_to_the_docs() -> None:
    """That every page is reached from there is in test_docs.py."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert "](docs/index.md)" in text and "](docs/tutorial.md)" in text


@pytest.mark.parametrize(("page", "example"), EXAMPLES, ids=[page for page, _ in EXAMPLES])
def test_the_python_examples_run(
    tmp_path: Path,
    tiny_path: Path,
    model_maker: ModelMaker,
    capsys: pytest.CaptureFixture[str],
    page: str,
    example: str,
) -> None:
    behavior, choice, pairs = write_items(tmp_path)
    for name in ("refusal", "cheer"):
        rows = {il: np.random.default_rng(il).standard_normal(256).astype(np.float32) for il in (1, 2)}
        write_vector(tmp_path / f"{name}.gguf", ControlVector(rows, "llama", 4))
    files = {
        "model.gguf": tiny_path,
        "vector.gguf": tmp_path / "refusal.gguf",
        "refusal.jsonl": pairs,
        "refusal.behavior.jsonl": behavior,
        "other.gguf": model_maker("tiny-Q4_0"),
        "international_law_test.csv": choice,
        "runs/refusal": tmp_path / "run",
        "runs/sentiment": tmp_path / "run",
        "runs/python": tmp_path / "run",
        "runs/scan": tmp_path / "scan",
        "runs/refusal-7b": tmp_path / "7b",
        "runs/refusal-13b": tmp_path / "13b",
        "runs/comparison": tmp_path / "comparison",
        "runs/transfer": tmp_path / "transfer",
        "refusal.gguf": tmp_path / "refusal.gguf",
        "refusal.safetensors": tmp_path / "refusal.safetensors",
        "happy.gguf": tmp_path / "refusal.gguf",
        "happy-right.gguf": tmp_path / "happy-right.gguf",
        "cheer.gguf": tmp_path / "cheer.gguf",
    }
    named = set(re.findall(r'"([^" ]*[./][^" ]*)"', example)) - set(TEMPLATES) - set(MATCHERS)
    assert named <= set(files), "a file that this test does not know"
    if "write_comparison(" in example:
        for name in ("7b", "13b"):
            write_planted_run(tmp_path / name, strengths="-0.4:0.4:0.2")
    for name, path in files.items():
        example = example.replace(f'"{name}"', repr(str(path)))
    exec(example, {})
    shown = capsys.readouterr().out
    if "scan(" in example:
        names = [line.split()[0] for line in shown.splitlines() if " None None" in line]  # eight items make no halves
        assert names == ["1", "1-2", "2", "2-3", "3"] and "not clear whether the vector carries over" in shown
    elif "text_plan=" in example:  # a model of random weights says nothing, which the study takes for a refusal
        assert shown.startswith("[0. 0. 0.] [1. 1. 1.]") and "\n[1. 1. 1.]\n" in shown
    elif "write_comparison(" in example:
        assert (tmp_path / "comparison" / "comparison.html").is_file() and shown == ""
    elif "SweepSpec(" in example:
        assert re.fullmatch(r"norm [0-9]+\n", shown)
    elif "sweep(" in example:
        assert (tmp_path / "run" / "vector.gguf").exists() and "Recommendation(strength=" in shown
    elif "apply(" in example:
        assert re.fullmatch(r"((length|stop) .*\n+){2}", shown) and len(set(shown.splitlines())) == 2
    elif "generate(" in example:
        assert len(re.findall(r"^(length|end|stop) ", shown, flags=re.MULTILINE)) == 3
    elif "dump(" in example:
        assert shown == "(1, 2) mean\n" and (tmp_path / "refusal.safetensors").exists()
    elif "examine(" in example:
        assert shown == ""  # a sound vector


def test_what_the_package_offers_is_there_and_sorted() -> None:
    former = {"Saying": "TextPlan"}  # an earlier name, and what it gives
    names = [getattr(steercpp, name).__name__ for name in steercpp.__all__]
    assert names == [former.get(name, name) for name in steercpp.__all__]
    assert steercpp.__all__ == sorted(steercpp.__all__) and set(steercpp.__all__) <= set(dir(steercpp))
