"""llama-cvector-generator: makes the files in tests/vectors/cvector_generator, and follows its algorithm step by step.

The files are kept, so that tests need no build of the tool. Where there is one (llama.cpp 0c1e57098, target
llama-cvector-generator), they are made again by

    STEERCPP_LLAMA_BIN=llama.cpp/build/bin python tests/helpers/cvector_generator.py

All but the default PCA come out alike each time; that one differs from run to run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from places import ROOT
from tiny_model import write_tiny_model

from steercpp.engine.engine import Engine

FOLDER = ROOT / "tests" / "vectors" / "cvector_generator"
POSITIVE, NEGATIVE = FOLDER / "positive.txt", FOLDER / "negative.txt"
EMBEDDED = ROOT / "models" / "embedded.gguf"
N_PAIRS = 8
METHODS = {
    "mean": ("--method", "mean"),
    "pca-default": ("--method", "pca"),  # 1000 iterations in graphs of 100
    "pca-one-graph": ("--method", "pca", "--pca-iter", "20", "--pca-batch", "20"),
}
_EPSILON = 1e-6  # of its filter of zero rows, which takes no absolute value


def vector_path(model: str, method: str) -> Path:
    """A kept file: "tiny" or "embedded", and a name in METHODS."""
    return FOLDER / f"{model}-{method}.gguf"


def prompts(path: Path) -> list[str]:
    """Prompts of a file, one on a line, its escaped line breaks undone."""
    return [line.replace("\\n", "\n") for line in path.read_text(encoding="utf-8").splitlines() if line]


def differences(engine: Engine) -> list[np.ndarray]:
    """What the tool computes directions from: for each layer 0..n_layer-2, (n_rows, n_embd) float32.

    A row for each position of each pair, the shorter prompt filled up with blanks; rows without an element above 1e-6
    are left out.
    """
    blank = engine.tokenize(" ", add_special=False)[-1]
    rows: list[np.ndarray] = []
    for texts in zip(prompts(POSITIVE), prompts(NEGATIVE), strict=True):
        both = [engine.tokenize(text, parse_special=True) for text in texts]
        n = max(map(len, both))
        filled = [[*tokens, *[blank] * (n - len(tokens))] for tokens in both]
        layers = range(engine.n_layer - 1)
        positive, negative = engine.activations_at(filled, [range(n)] * 2, layers=layers)
        rows.append(positive - negative)
    together = np.concatenate(rows)
    return [layer[(layer > _EPSILON).any(axis=1)] for layer in together.swapaxes(0, 1)]


def write_prompts() -> None:
    """The personas and requests of the embedded model's pairs, as plain texts of unequal lengths."""
    from steercpp.data.pairs import read_pairs

    pairs = read_pairs(EMBEDDED.parent / "refusal.pairs.jsonl")[:N_PAIRS]
    for path, side in ((POSITIVE, "positive"), (NEGATIVE, "negative")):
        lines = ["\\n".join(turn.content for turn in getattr(pair, side)) for pair in pairs]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_tool(folder: str, model: Path, out: Path, options: tuple[str, ...]) -> None:
    command = [str(Path(folder, "llama-cvector-generator")), "-m", str(model), "-o", str(out), "-t", "1", *options]
    command += ["--positive-file", str(POSITIVE), "--negative-file", str(NEGATIVE)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    folder = os.environ.get("STEERCPP_LLAMA_BIN") or sys.exit("set STEERCPP_LLAMA_BIN to llama.cpp's build/bin")
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_prompts()
    with tempfile.TemporaryDirectory() as scratch:
        models = {"tiny": write_tiny_model(Path(scratch, "tiny.gguf")), "embedded": EMBEDDED}
        for name, model in models.items():
            for method, options in METHODS.items():
                run_tool(folder, model, vector_path(name, method), options)


if __name__ == "__main__":
    main()
