"""Why the numbers can be trusted: the same ones by other programs, measured here, told by docs/evidence.md.

    make table NAME=evidence DATA="transformers MODEL.gguf"        needs the extra `peers`
    make table NAME=evidence DATA="choices MODEL.gguf [FOLDER]"    FOLDER holds llama-perplexity, else it is on the PATH
    make table NAME=evidence DATA="perplexity MODEL.gguf [FOLDER]"
    make table NAME=evidence DATA="curves FOLDER"                  FOLDER holds the authors' two curves as CSV

Each writes its tables into the document. MODEL.gguf is a chat model of llama's architecture.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from places import ROOT
from scipy.optimize import curve_fit
from tiny_model import quantize

from steercpp.aliases import Floats
from steercpp.bench.tasks import perplexity_tasks
from steercpp.data.items import ChoiceItem, TextItem, choice_continuations, choice_prompt
from steercpp.data.sets.builtin import behavior_set, capability_set
from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.extraction.extract import extract
from steercpp.statistics.curve_files import read_curve
from steercpp.statistics.recipes import follow, named_recipe
from steercpp.sweeps.work import Work, behavior_work, choice_work
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.gguf import write_vector

DOCUMENT = ROOT / "docs" / "evidence.md"
STRENGTHS = (-0.1, -0.05, 0.0, 0.05, 0.1)  # of the residual stream's norm
N_BEHAVIOR, N_CHOICE = 22, 16
N_CHUNK = 256  # tokens, of which llama-perplexity scores the second half
F32: Mapping[str, Any] = {"type_k": "f32", "type_v": "f32"}
_TRIES = 20  # llama.cpp does not wait for its log to be written: where a tool ends at once, figures may be lost

Tables = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One program's values as a line in another's, and how far apart the two are.

    Attributes:
        n: how many values.
        slope: by least squares.
        correlation: Pearson's.
        largest, rms: of the differences.
    """

    n: int
    slope: float
    correlation: float
    largest: float
    rms: float

    @staticmethod
    def of(ours: Floats, theirs: Floats) -> Agreement:
        """Of the values of both, in the same order."""
        x, y = theirs.ravel(), ours.ravel()
        return Agreement(
            n=x.size,
            slope=float(np.polyfit(x, y, 1)[0]),
            correlation=float(np.corrcoef(x, y)[0, 1]),
            largest=float(np.abs(y - x).max()),
            rms=float(np.sqrt(np.mean((y - x) ** 2))),
        )

    @property
    def cells(self) -> list[str]:
        """As a row of a table has them."""
        lacking = 1 - self.correlation
        r = f"1 − {lacking:.0e}" if lacking < 1e-4 else f"{self.correlation:.4f}"
        return [f"{self.slope:.4f}", r, f"{self.largest:.1g}", f"{self.rms:.1g}"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Items as both programs get them, and the vector, whose strengths are shares of the residual stream's norm."""

    behavior: Work
    choice: Work
    vector: ControlVector

    @property
    def queries(self) -> list[Query]:
        """Behavior items first."""
        return [*self.behavior.queries, *self.choice.queries]

    @property
    def shifted(self) -> dict[int, Any]:
        """The directions one block later, as who mistakes hidden_states[il] for the output of block il adds them."""
        return {il + 1: row for il, row in self.vector.directions.items()}

    def curves(self, logprobs: Sequence[Floats]) -> tuple[float, float]:
        """Mean B and mean P(correct), from ln P of all queries' continuations."""
        b, right = [], []
        for sides, nats in zip(self.behavior.sides(), logprobs[: len(self.behavior.queries)], strict=True):
            p, aligned = np.exp(nats), np.array(sides) == "aligned"
            b.append((p[aligned].sum() - p[~aligned].sum()) / p.sum())
        of_choice = logprobs[len(self.behavior.queries) :]
        for item, sides, nats in zip(self.choice.items, self.choice.sides(), of_choice, strict=True):
            answer = str(cast("ChoiceItem", item).answer)
            right.append(np.exp(nats)[np.array(sides) == answer].max())
        return float(np.mean(b)), float(np.mean(right))


def asked_of(engine: Engine, *, n_behavior: int = N_BEHAVIOR, n_choice: int = N_CHOICE) -> Asked:
    """Evenly spread items of the built-in sets, and the vector of its sentiment pairs at the default layers."""
    own = behavior_set("sentiment")
    knowledge = cast("tuple[ChoiceItem, ...]", capability_set("knowledge"))
    work = behavior_work(engine, own.items[:: len(own.items) // n_behavior][:n_behavior])
    choice = choice_work(engine, knowledge[:: len(knowledge) // n_choice][:n_choice])
    return Asked(work, choice, unit_vector(engine, [query.tokens for query in work.queries]))


def unit_vector(engine: Engine, prompts: Sequence[Sequence[int]]) -> ControlVector:
    """The sentiment vector, as long at each layer as the residual stream of these prompts."""
    vector = extract(engine, behavior_set("sentiment").pairs)
    return vector.scaled(engine.residual_norms(prompts, vector.layers))


def ours(engine: Engine, asked: Asked, strengths: Sequence[float]) -> list[list[Floats]]:
    """ln P by the engine: for each strength, for each query."""
    found: list[list[Floats]] = []
    for strength in strengths:
        rows: list[Floats] = []
        for work in (asked.behavior, asked.choice):
            of_work: dict[int, Floats] = {}
            for batch in work.batches:
                scores = engine.logprobs(batch, vector=asked.vector, strengths=strength)
                of_work |= dict(zip(batch.members, scores, strict=True))
            rows += [of_work[member] for member in range(len(work.queries))]
        found.append(rows)
    return found


# --- transformers ----------------------------------------------------------------------------------------------------


def second_engine(model: Path) -> Tables:
    """The same file in transformers: ln P of every continuation at every strength."""
    from second_engine import SecondEngine  # imports torch

    with tempfile.TemporaryDirectory() as folder, Engine(model, threads=1, n_ctx=1024) as engine:
        asked = asked_of(engine)
        runs = {f"{file_type(engine)}, K/V in F16, as it comes": ours(engine, asked, STRENGTHS)}
        whole = quantize(model, Path(folder, "f32.gguf"), "F32")
        for words, options in (("F32, K/V in F16", {}), ("F32, K/V in F32", F32)):
            with Engine(whole, threads=1, n_ctx=1024, **options) as unquantized:
                runs[words] = ours(unquantized, asked, STRENGTHS)
    peer = SecondEngine(model)
    theirs = [peer.logprobs(asked.queries, asked.vector.directions, strength) for strength in STRENGTHS]
    wrong = [peer.logprobs(asked.queries, asked.shifted, s) if s else theirs[i] for i, s in enumerate(STRENGTHS)]
    compared = {words: (found, theirs) for words, found in reversed(runs.items())}
    compared["F32, K/V in F32; transformers adds one block later"] = (runs["F32, K/V in F32"], wrong)
    return {
        "items": agreement_table(compared),
        "curves": curve_table(asked, {**{name.split(",")[0]: runs[name] for name in runs}, "transformers": theirs}),
    }


def file_type(engine: Engine) -> str:
    """The type of the weights, as llama.cpp describes the model: its last word that is one, such as Q4_1."""
    return engine.description.split()[-1]


def agreement_table(compared: Mapping[str, tuple[list[list[Floats]], list[list[Floats]]]]) -> str:
    """For each pair of runs: of ln P at all strengths, and of its change from strength 0 at the others."""
    heads = "slope | correlation | largest | RMS"
    lines = [f"| steercpp's weights | ln P: {heads} | change: {heads} |", "| --- |" + " ---: |" * 8]
    steered = [i for i, strength in enumerate(STRENGTHS) if strength]
    zero = STRENGTHS.index(0.0)
    for words, runs in compared.items():
        mine, other = (np.array([np.concatenate(rows) for rows in run]) for run in runs)
        level = Agreement.of(mine, other)
        change = Agreement.of(mine[steered] - mine[zero], other[steered] - other[zero])
        lines.append(f"| {words} | {' | '.join(level.cells + change.cells)} |")
    return "\n".join(lines)


def curve_table(asked: Asked, runs: Mapping[str, list[list[Floats]]]) -> str:
    """Mean B and mean P(correct) at each strength, by each program."""
    names = [f"{what}, {name}" for what in ("B", "P(correct)") for name in runs]
    lines = [f"| strength | {' | '.join(names)} |", "| ---: |" + " ---: |" * len(names)]
    for i, strength in enumerate(STRENGTHS):
        points = [asked.curves(run[i]) for run in runs.values()]
        cells = [signed(b, 4) for b, _ in points] + [f"{p:.4f}" for _, p in points]
        lines.append(f"| {signed(strength, 2)} | {' | '.join(cells)} |")
    return "\n".join(lines)


# --- llama-perplexity ------------------------------------------------------------------------------------------------


def choices(model: Path, where: str | None) -> Tables:
    """Of the file as it comes, and of its weights in F32."""
    with tempfile.TemporaryDirectory() as folder:
        whole = quantize(model, Path(folder, "f32.gguf"), "F32")
        return {"choices": choice_table(model, where), "choices-f32": choice_table(whole, where)}


def choice_table(model: Path, where: str | None) -> str:
    """The knowledge questions by llama-perplexity --multiple-choice: which ones it counts as answered right."""
    items = [replace(cast("ChoiceItem", item), by="text") for item in capability_set("knowledge")]
    answers = np.array([item.answer for item in items])
    lines = ["| strength | right, llama-perplexity | right, steercpp | judged alike | largest gap where not |"]
    lines.append("| ---: |" + " ---: |" * 4)
    with Engine(model, threads=1, n_ctx=1024) as engine:
        asked = [ByText.of(engine, item) for item in items]
        queries = [each.query for each in asked]
        vector = unit_vector(engine, [query.tokens for query in queries])
        with tool(where, model, vector) as run:
            for strength in STRENGTHS:
                files = {"--binary-file": perplexity_tasks(items)}
                theirs = right_answers(run(strength, files, "--multiple-choice", "--ctx-size", "512"))
                nats = scored(engine, queries, vector, strength)
                means = np.array([each.means(row) for each, row in zip(asked, nats, strict=True)])
                mine = means.argmax(axis=1) == answers
                best = np.sort(means, axis=1)
                gaps = (best[:, -1] - best[:, -2])[mine != theirs]
                gap = f"{gaps.max():.1g} nats" if gaps.size else "none"
                cells = [str(theirs.sum()), str(mine.sum()), f"{(mine == theirs).sum()} of {len(items)}", gap]
                lines.append(f"| {signed(strength, 2)} | {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ByText:
    """A question as llama-perplexity scores it: by the mean ln P of a choice's tokens after those that all begin with.

    Attributes:
        query: its choices; last, where there is one, what they begin with.
        n_common: tokens of that.
    """

    query: Query
    n_common: int

    @staticmethod
    def of(engine: Engine, item: ChoiceItem) -> ByText:
        """In this model's tokens, without a template."""
        prompt = choice_prompt(item)
        words = [engine.continue_tokens(prompt, text, template="raw") for text in choice_continuations(item)]
        n_common = len(os.path.commonprefix(words))
        common = (words[0][:n_common],) if n_common else ()
        return ByText(Query(engine.encode(prompt, template="raw"), (*words, *common)), n_common)

    def means(self, nats: Floats) -> Floats:
        """Of each choice, from ln P of the query's continuations."""
        before = float(nats[-1]) if self.n_common else 0.0
        whole = nats[:-1] if self.n_common else nats
        lengths = [len(tokens) - self.n_common for tokens in self.query.continuations[: len(whole)]]
        made: Floats = (whole - before) / np.array(lengths)
        return made


def perplexity(model: Path, where: str | None) -> Tables:
    """The built-in prose by llama-perplexity: its perplexity, printed to four places."""
    text = "\n\n".join(cast("TextItem", item).text for item in capability_set("prose"))
    lines = ["| strength | llama-perplexity | steercpp | difference in ln P of a token |", "| ---: |" + " ---: |" * 3]
    with Engine(model, threads=1, n_ctx=N_CHUNK) as engine:
        tokens = engine.tokenize(text)
        chunks = [tokens[start : start + N_CHUNK] for start in range(0, len(tokens) - N_CHUNK + 1, N_CHUNK)]
        if tokens[0] == engine.bos:  # llama-perplexity begins every chunk as the text
            chunks = [[tokens[0], *chunk[1:]] for chunk in chunks]
        half = N_CHUNK // 2 + 1
        queries = [Query(tuple(chunk[:half]), (tuple(chunk[half:]),)) for chunk in chunks]
        vector = unit_vector(engine, [query.tokens for query in queries])
        with tool(where, model, vector) as run:
            for strength in STRENGTHS:
                said = run(strength, {"--file": text.encode()}, "--ctx-size", str(N_CHUNK))
                theirs = final_estimate(said)
                nats = np.concatenate(scored(engine, queries, vector, strength)).sum()
                mine = float(np.exp(-nats / (len(queries) * (N_CHUNK - half))))
                apart = np.log(theirs / mine)
                lines.append(f"| {signed(strength, 2)} | {theirs:.4f} | {mine:.4f} | {signed(apart, 5)} |")
    return {"perplexity": "\n".join(lines)}


def scored(engine: Engine, queries: Sequence[Query], vector: ControlVector, strength: float) -> list[Floats]:
    """ln P of each query's continuations, in the order of the queries."""
    found: dict[int, Floats] = {}
    for batch in engine.pack(queries):
        found |= dict(zip(batch.members, engine.logprobs(batch, vector=vector, strengths=strength), strict=True))
    return [found[member] for member in range(len(queries))]


@contextmanager
def tool(where: str | None, model: Path, vector: ControlVector) -> Iterator[Any]:
    """llama-perplexity on a model, run with a vector at a strength: a function that returns what it prints."""
    path = shutil.which("llama-perplexity", path=where)
    if path is None:
        raise SystemExit("llama-perplexity is not found; name the folder that holds it")
    program = Path(path).resolve()
    with tempfile.TemporaryDirectory() as folder:
        write_vector(Path(folder, "vector.gguf"), vector)

        def run(strength: float, files: Mapping[str, bytes], *options: str) -> str:
            command = [program, "--model", model.resolve(), "--threads", "1", "--flash-attn", "off", *options]
            for option, content in files.items():
                Path(folder, "input").write_bytes(content)
                command += [option, "input"]
            if strength:
                command += ["--control-vector-scaled", f"vector.gguf:{strength:g}"]
            for _ in range(_TRIES):
                ended = subprocess.run(
                    [str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True, errors="replace",
                )  # fmt: skip
                if ended.returncode:
                    raise SystemExit(f"{program.name} ended with code {ended.returncode}: {ended.stdout[-500:]}")
                if "Final" in ended.stdout:
                    return ended.stdout
            raise SystemExit(f"no figure in what {program.name} prints: {ended.stdout[-500:]}")

        yield run


def right_answers(said: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which questions were answered right, from the running share of right answers in percent."""
    shares = re.findall(r"^([0-9]+)\t([0-9.]+)$", said, re.MULTILINE)
    return np.diff([0, *(round(int(n) * float(share) / 100) for n, share in shares)]) > 0


def final_estimate(said: str) -> float:
    """The perplexity of all chunks."""
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", said)
    assert found is not None, said[-500:]
    return float(found[1])


# --- the authors' curves ---------------------------------------------------------------------------------------------

ALIGNMENT, HELPFULNESS = "behavior_harmful_llama2-13b_harmfulness", "international_law_llama2-13b_harmfulness"


def authors(folder: Path) -> Tables:
    """The authors' own points, fitted as they did, by `fit --recipe wolf2024` and by scipy alone."""

    def tanh(s: Floats, slope: float, offset: float) -> Floats:
        made: Floats = np.tanh(slope * s + offset)
        return made

    def quadratic(s: Floats, a: float, b: float) -> Floats:
        made: Floats = 1 / (1 + a * (1 + (b * s) ** 2 / 2))
        return made

    def restricted(s: Floats, a: float, b: float) -> Floats:
        return 0.25 + 0.5 * quadratic(s, a, b)

    forms = {
        "alignment": (tanh, (2, -2)),
        "p_correct": (quadratic, (1, 1)),
        "p_correct_restricted": (restricted, (1, 1)),
    }
    recipe = named_recipe("wolf2024")
    lines = [
        "| points | strengths | steercpp: parameters | R² | scipy: parameters | R² |",
        "| --- | ---: |" + " ---: |" * 4,
    ]
    for name in (ALIGNMENT, HELPFULNESS):
        curve = read_curve(folder / f"{name}.csv")
        for each in follow(recipe, curve.strengths, curve.measures):
            form, start = forms[each.measure]
            inside = (curve.strengths >= each.window[0]) & (curve.strengths <= each.window[1])
            s, points = curve.strengths[inside], curve.measures[each.measure][inside].round(recipe.digits)
            fitted, _ = curve_fit(form, s, points, start)
            r2 = 1 - ((points - form(s, *fitted)) ** 2).sum() / ((points - points.mean()) ** 2).sum()
            own = [f"{parameter.value:.3f}" for parameter in each.fit.params.values()]
            cells = [", ".join(own), f"{each.fit.r2:.3f}", ", ".join(f"{x:.3f}" for x in fitted), f"{r2:.3f}"]
            lines.append(f"| `{name}.csv`, {each.measure} | {len(s)} | {' | '.join(cells)} |")
    return {"authors": "\n".join(lines)}


# --- the document ----------------------------------------------------------------------------------------------------


def signed(value: float, digits: int) -> str:
    """With its sign, but for what rounds to nothing."""
    written = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(written) == 0 else written.replace("-", "−")


def document(text: str, tables: Tables) -> str:
    """The document with these tables made anew."""
    for name, new in tables.items():
        marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(\n<!-- {name} ends -->)", re.DOTALL)
        assert len(marks.findall(text)) == 1, name
        text = marks.sub(lambda match, new=new: match[1] + new + match[2], text)  # type: ignore[misc]
    return text


def measure(section: str, *places: str) -> Tables:
    """The tables of a section."""
    where = places[1] if len(places) > 1 else None
    path = Path(places[0])
    made = {
        "transformers": lambda: second_engine(path),
        "choices": lambda: choices(path, where),
        "perplexity": lambda: perplexity(path, where),
        "curves": lambda: authors(path),
    }
    return made[section]()


if __name__ == "__main__":
    found = measure(*sys.argv[1:])
    print(*found.values(), sep="\n\n")
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), found), encoding="utf-8")
