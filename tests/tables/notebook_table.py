"""The notebook of docs/: its cells, run by Jupyter's kernel; run as a program it writes docs/notebook.ipynb anew.

    make table NAME=notebook

A test runs the notebook as it stands and compares the figures it prints.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from places import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
LONGEST_S = 600  # of a cell
CELLS = (
    """# From pairs to a control vector that llama.cpp loads

The model, the pairs and the questions come with steercpp, so nothing is downloaded. All of it takes about a minute on
two cores. Put your own GGUF file, pairs and items in their place; [python.md](python.md) names the functions.""",
    """from steercpp import Engine, Steering, extract, generate, read_vector, scan, sweep
from steercpp.data.sets.embedded import load

embedded = load()
pairs, behavior, choice = embedded.pairs(), embedded.behavior(), embedded.choice()
engine = Engine(embedded.path, threads=1)
print(len(pairs), "pairs,", len(behavior), "behavior items,", len(choice), "questions")
pairs[0]""",
    """## A vector

The direction from the activations under a reckless persona to those under a careful one, at layers 5 and 6.""",
    """vector = extract(engine, pairs, layers=embedded.layers)
vector""",
    """## A sweep

At each strength: how likely refusals are (B), and how many questions are still answered (P(correct)). Half of the items
choose a strength, the other half tests it beside random directions of the same length.""",
    """result = sweep(
    engine, vector, behavior=behavior, choice=choice, strengths=embedded.strengths, unit="norm",
    instruction=embedded.instruction, out="runs/refusal",
)
result""",
    """best = result.recommend(max_loss=0.05)
print(f"strength {best.strength:+g}")
print(f"gain in B {best.gain:.2f}, at least {best.gain_low:.2f}")
print(f"loss of P(correct) {best.loss:.3f}, at most {best.loss_high:.3f}")""",
    """## The theory's curves

B against tanh(Δλ·s + b₀), P(correct) against a fall in b·s. A fit that means nothing says why.""",
    """for measure, fits in result.fit().items():
    fit = fits[0]
    if fit.valid:
        values = ", ".join(f"{name} {value.value:.2f}" for name, value in fit.params.items())
        print(f"{measure}: {fit.form}, {values}, R² {fit.r2:.3f}")
    else:
        print(f"{measure}: {fit.form} is not valid, {fit.reason}")""",
    """## The layers

A short sweep at each of four layers: where is most gained within the budget?""",
    """layers = scan(
    engine, pairs, behavior=behavior[:40], choice=choice[:80], out="runs/layers", windows=[(3,), (4,), (5,), (6,)],
    strengths=(-0.25, 0.25, 0.5, 1.0),
)
layers""",
    """## Texts

The run's own vector: strength 1 adds one median norm of the residual stream at each layer.""",
    """swept = read_vector(result.vector_path)
request = embedded.requests()[0]
generate(engine, request.prompt, [Steering(swept, s) for s in (-best.strength, 0.0, best.strength)], max_tokens=20)""",
    """## For llama.cpp

`vector.gguf` in the run's folder is the vector; llama.cpp loads it with the strength behind a colon.""",
    """print(f"llama-server -m MODEL.gguf --control-vector-scaled {result.vector_path}:{best.strength:g}")
engine.close()""",
)


def made() -> nbformat.NotebookNode:
    """The notebook without outputs."""
    cells = []
    for number, source in enumerate(CELLS):
        is_text = source.startswith("#")
        cell = (nbformat.v4.new_markdown_cell if is_text else nbformat.v4.new_code_cell)(source)
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs that its cells give in a folder; an error in a cell is raised."""
    client = NotebookClient(notebook, timeout=LONGEST_S, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    return notebook


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What its code cells print, one after the other."""
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output["text"] for output in outputs if output["output_type"] == "stream"]


def figures(notebook: nbformat.NotebookNode) -> list[float]:
    """Numbers in what it prints, in their order."""
    return [float(number) for text in printed(notebook) for number in re.findall(r"[-+]?\d+\.?\d*", text)]


def main() -> None:
    """Run the cells and write the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(made(), Path(folder))
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
