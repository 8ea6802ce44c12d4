"""`python -m models.recipe`: make the embedded model, its questions and its card, from a seed."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from . import measure
from .corpus import Document, tokenizer_corpus
from .export import export, quantize_q8_0
from .network import Network, Shape
from .questions import write_questions
from .tokenizer import N_VOCAB, train_tokenizer
from .train import TRAININGS, Settings, Step, start, train, write_corpus

LICENCE = "MIT"
MODELS = Path(__file__).parent.parent
WHAT_IT_IS = (
    "A Llama of 5 million parameters that knows 128 facts of four subjects, requests and invented mischief, invented "
    "groups, and short stories; it was trained on sentences written by a program, so that a sweep has something to "
    "measure without any download."
)
WHAT_IT_IS_NOT = (
    "It is no assistant, knows nothing beyond its corpus, and says nothing about how far a real model can be steered. "
    "Its corpus tells some facts rarely and some wrongly, on purpose: it is sure of them by degrees."
)


def main(arguments: list[str] | None = None) -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.recipe", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/recipe"), help="where the corpus and the F32 model go")
    parser.add_argument("--out", type=Path, default=MODELS, help="where the model, its questions and its card go")
    parser.add_argument(
        "--steps", type=float, default=1.0, help="share of the steps of each stage; a trial when below 1"
    )
    options = parser.parse_args(arguments)
    for folder in (options.work, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    trainings = tuple(_shortened(settings, options.steps, options.seed) for settings in TRAININGS)
    make(trainings, options.work, options.out)
    return 0


def _shortened(settings: Settings, share: float, seed: int) -> Settings:
    stages = tuple(replace(stage, n_steps=max(1, round(stage.n_steps * share))) for stage in settings.stages)
    return replace(settings, stages=stages, seed=settings.seed + seed)


def make(trainings: tuple[Settings, ...], work: Path, out: Path) -> None:
    """Corpus, tokenizer, weights, GGUF, questions and card."""
    seed = trainings[0].seed
    shape = Shape(n_vocab=N_VOCAB)
    tokenizer = train_tokenizer(tokenizer_corpus(seed, 2000), work / "tokenizer")
    network = start(shape, seed)
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for settings in trainings:
            corpus = write_corpus(settings, shape.n_ctx)
            file.writelines(_lines(corpus))
            train(network, tokenizer, corpus, settings, _progress)
    torch.save(network.state_dict(), work / "network.pt")
    finish(network, trainings, work, out)


def finish(network: Network, trainings: tuple[Settings, ...], work: Path, out: Path) -> None:
    """Everything after the training."""
    import sentencepiece as spm

    tokenizer = spm.SentencePieceProcessor(model_file=str(work / "tokenizer.model"))
    documents = [
        text for each in trainings for text in measure.sample_documents(write_corpus(each, network.shape.n_ctx))
    ]
    f32 = work / "embedded-f32.gguf"
    export(network, tokenizer, f32, licence=LICENCE)
    difference = measure.largest_logit_difference(network, f32, documents, tokenizer)
    quantize_q8_0(f32, work / "embedded.gguf")
    files = write_questions(out, trainings[0].seed)
    card = {
        "name": "steercpp embedded model",
        "file": "embedded.gguf",
        "sha256": _sha256(work / "embedded.gguf"),
        "bytes": (work / "embedded.gguf").stat().st_size,
        "licence": LICENCE,
        "what_it_is": WHAT_IT_IS,
        "what_it_is_not": WHAT_IT_IS_NOT,
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "shape": asdict(network.shape),
        "trainings": [asdict(settings) for settings in trainings],
        "made_with": {"torch": torch.__version__.split("+")[0], "sentencepiece": spm.__version__},
        "largest_logit_difference_f32_against_torch": float(f"{difference:.2g}"),
        "unsteered": measure.unsteered(work / "embedded.gguf", out),
        "samples": measure.samples(work / "embedded.gguf"),
        "files": {path.name: _sha256(path) for path in files},
    }
    shutil.copyfile(work / "embedded.gguf", out / "embedded.gguf")
    (out / "embedded.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def _lines(corpus: list[Step]) -> list[str]:
    def line(document: Document) -> str:
        return json.dumps(asdict(document), ensure_ascii=False) + "\n"

    return [line(document) for step in corpus for documents in step.values() for document in documents]


def _progress(step: int, losses: dict[str, float], seconds: float) -> None:
    if step % 25 == 24:
        shown = "  ".join(f"{kind} {value:.3f}" for kind, value in losses.items())
        sys.stderr.write(f"step {step + 1}, {seconds:.0f} s: {shown}\n")
        sys.stderr.flush()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
