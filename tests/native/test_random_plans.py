"""Ten thousand random plans, packed, steered, resumed and measured by the engine, agree with the plain NumPy twin.

A plan is some queries with what steers each, and the way in which the engine is to run them: under which limits they
are packed, whether it goes on from a base pass, what else is read off. The twin, plain_llama.py, knows of none of that:
it runs each continuation alone. Weights and K/V cache are float32, flash attention is off.

A plan that fails can be drawn again from its number. STEERCPP_PLANS in the environment is how many there are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pytest
from plain_llama import PlainLlama, Run
from random_plans import SEED, SETUPS, SHAPES, Plan, Setup, draw
from tiny_model import write_tiny_model

from steercpp.choices import OPERATORS, Positions, Side
from steercpp.engine import reference
from steercpp.engine.batch import Batch, Query
from steercpp.engine.engine import Base, Engine
from steercpp.engine.operations import packing_keys
from steercpp.engine.packing import pack
from steercpp.engine.steering import Decided, Steering, normalized

PLANS = 2_000
N_PLANS = int(os.environ.get("STEERCPP_PLANS", PLANS))
MANY = 500  # plans that between them meet everything

# Nats, or of a row's length. The engine sums in float32: logits of size 5, of 36 where the output is tied, are off by
# 2e-7 of that, and a continuation adds up four of them. TOLERANCE is for the few rows that are rotated while they lie
# along the vector but for a thousandth: the plane they turn in hangs on that thousandth, and so do its roundings.
USUALLY, TOLERANCE = 4e-5, 5e-4
NEAR = 1e-4  # of a threshold; both sides' projections agree within 1e-5
MOST_LEFT_OUT = 0.005  # of all that is compared
Floats: TypeAlias = npt.NDArray[np.float64]

MET_BY_ALL = (
    *OPERATORS, *get_args(Positions), *get_args(Side), "layer 0", "layer 1", "layer 2", "several vectors",
    "a gate is open", "a gate is closed", "resumed", "no base", "measured", "captured", "two strengths",
    "several pieces", "several batches", "own limits",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """What the plans of a setup came to.

    Attributes:
        wrong: what does not agree, in words.
        differences: the largest one of each comparison.
        n_compared, n_left_out: numbers compared, and those among them that hang on a projection near a threshold.
        n_steered, n_moved: output rows that were to be steered, and those whose KL is more than 1e-4.
        met: what happened, in how many plans.
    """

    wrong: list[str] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    n_compared: int = 0
    n_left_out: int = 0
    n_steered: int = 0
    n_moved: int = 0
    met: Counter[str] = field(default_factory=Counter)

    def compare(self, what: str, found: Any, expected: Any, margins: Sequence[float]) -> None:
        """Numbers (n,) or (n, k) of the engine and of the twin, and (n,) how far from a threshold they were decided."""
        left_out = np.array(margins) < NEAR
        difference = float(np.abs(found - expected)[~left_out].max(initial=0))  # NaN stays NaN
        self.differences.append(difference)
        self.n_compared += len(left_out)
        self.n_left_out += int(left_out.sum())
        if not difference <= TOLERANCE:
            self.wrong.append(f"{what}: off by {difference:g}; the engine has {found}, the twin {expected}")


class Trial:
    """One plan, run by both."""

    def __init__(self, engine: Engine, model: PlainLlama, plan: Plan, name: str, tally: Tally) -> None:
        self.engine, self.model, self.plan, self.name, self.tally = engine, model, plan, name, tally
        self.runs: dict[tuple[tuple[int, ...], int, tuple[int, ...]], Run] = {}
        self.met: set[str] = set()

    def twin(self, query: Query, continuation: int | None, steerings: tuple[Steering, ...]) -> Run:
        """The run of a continuation but its last token, or of the prompt alone; each only once."""
        tokens = query.tokens + (() if continuation is None else query.continuations[continuation][:-1])
        key = (tokens, len(query.tokens), tuple(map(id, steerings)))
        if key not in self.runs:
            self.runs[key] = self.model.run(tokens, len(query.tokens), steerings)
        return self.runs[key]

    def run(self) -> None:
        plan = self.plan
        decided = self.decided()
        asked = [tuple(tuple(one.at(f * one.strength) for one in many) for many in decided) for f in plan.factors]
        batches = self.packed(decided)
        assert sorted(place for batch in batches for place in batch.members) == list(range(len(plan.queries)))
        for batch in batches:
            base = self.base(batch, decided)
            for factor, all_steerings in zip(plan.factors, asked, strict=True):
                own = tuple(all_steerings[place] for place in batch.members)
                name = f"{self.name}, strengths times {factor}"
                self.check_logprobs(name, batch, own, base)
                if base is not None and plan.top_k is not None:
                    self.check_measures(name, batch, own, base, plan.top_k)
        if plan.captured:
            self.check_activations(decided)
        self.note(decided, batches)
        self.tally.met.update(self.met)

    def decided(self) -> Decided:
        """What steers each query once its gates are decided: by the engine, which is checked."""
        queries = self.plan.queries
        asked = normalized(self.plan.steering, len(queries))
        if not any(one.gate for many in asked for one in many):
            return asked
        found = self.engine.decide(queries, self.plan.steering)
        for place, (query, many) in enumerate(zip(queries, asked, strict=True)):
            passing, margin = [], np.inf
            for one in many:
                if one.gate is not None:
                    x = self.twin(query, None, ()).activations[one.gate.il, -1:]
                    along = reference.projection(x, one.gate.direction) * np.linalg.norm(one.gate.direction)
                    margin = min(margin, float(np.abs(along - one.gate.threshold)[0]))
                    is_open = bool(reference.gate_open(one.gate, x)[0])
                    self.met.add(f"a gate is {'open' if is_open else 'closed'}")
                if one.gate is None or is_open:
                    passing.append((one.vector, one.strength, one.operator, one.positions, one.side, None))
            left = [(one.vector, one.strength, one.operator, one.positions, one.side, one.gate) for one in found[place]]
            self.tally.compare(f"{self.name}, gates of query {place}", np.ones(1), float(left == passing), [margin])
        return found

    def packed(self, decided: Decided) -> tuple[Batch, ...]:
        if self.plan.limits is None:
            return self.engine.pack(self.plan.queries, decided)
        return pack(self.plan.queries, self.plan.limits, keys=packing_keys(decided))

    def base(self, batch: Batch, decided: Decided) -> Base | None:
        """A base pass, whose log-probabilities are those of an unsteered run."""
        if self.plan.first_layer is None:
            return None
        acting = [one for place in batch.members for one in decided[place] if not one.idle]
        first = min([self.plan.first_layer, *(one.vector.layers[0] for one in acting)])
        base = self.engine.base(batch, first_layer=first, keep_logits=self.plan.top_k is not None)
        self.compare_logprobs(f"{self.name}, unsteered", batch, ((),) * len(batch.queries), base.logprobs)
        self.met.add("resumed")
        if not base.resumed:
            self.tally.wrong.append(f"{self.name}: the base at layer {first}: {base.reason}")
        return base

    def check_logprobs(self, name: str, batch: Batch, own: Decided, base: Base | None) -> None:
        """Also that as many token-layers are computed as need be."""
        before = self.engine.token_layers
        found = self.engine.logprobs(batch, steering=own, base=base)
        n_computed = self.engine.token_layers - before
        if n_computed != batch.n_tokens * (self.engine.n_layer - (base.first_layer + 1 if base is not None else 0)):
            self.tally.wrong.append(f"{name}: {n_computed} token-layers")
        self.compare_logprobs(name, batch, own, found)

    def compare_logprobs(self, name: str, batch: Batch, own: Decided, found: Sequence[Floats]) -> None:
        for place, query in enumerate(batch.queries):
            runs = [self.twin(query, i, own[place]) for i in range(len(query.continuations))]
            expected = np.array(
                [
                    reference.sequence_logprob(run.logits[len(query.tokens) - 1 :], continuation)
                    for run, continuation in zip(runs, query.continuations, strict=True)
                ]
            )
            margins = [run.margin for run in runs]
            self.tally.compare(f"{name}, query {batch.members[place]}", found[place], expected, margins)

    def check_measures(self, name: str, batch: Batch, own: Decided, base: Base, k: int) -> None:
        """Entropy, KL and the most likely tokens of all output rows."""
        found = self.engine.measures(batch, steering=own, base=base, top_k=k)
        rows, steered, unsteered, margins = [], [], [], []
        for row, place, continuation, n_before in output_rows(batch, found.prompt_outputs.tolist()):
            run = self.twin(batch.queries[place], continuation, own[place])
            plain = self.twin(batch.queries[place], continuation, ())
            rows.append(row)
            steered.append(run.logits[n_before - 1])
            unsteered.append(plain.logits[n_before - 1])
            margins.append(run.margin)
            self.tally.n_steered += any(not one.idle for one in own[place])
        assert set(rows) == set(range(len(found.entropy))), f"{name}: an output row belongs to no query"
        logits = np.array(steered)
        kl = reference.kl(logits, np.array(unsteered))
        self.tally.n_moved += int((kl > 1e-4).sum())
        self.tally.compare(f"{name}, entropy", found.entropy[rows], reference.entropy(logits), margins)
        self.tally.compare(f"{name}, KL", found.kl[rows], kl, margins)
        self.check_answers(name, batch, own, base)
        # Tokens that are as good as equally likely may change places, so what counts is how likely those found are.
        _, likeliest = reference.top_k(logits, k)
        those = np.take_along_axis(reference.log_softmax(logits), found.top_tokens[rows].astype(np.int64), -1)
        self.tally.compare(f"{name}, top {k}", found.top_logprobs[rows], likeliest, margins)
        self.tally.compare(f"{name}, tokens of the top {k}", found.top_logprobs[rows], those, margins)

    def check_answers(self, name: str, batch: Batch, own: Decided, base: Base) -> None:
        """KL(unsteered || steered) at each token of the continuations, and its ln P."""
        for place, found in enumerate(self.engine.answer_kl(batch, steering=own, base=base)):
            query = batch.queries[place]
            kl, logprobs, margins = [], [], []
            for i, continuation in enumerate(query.continuations):
                run, plain = self.twin(query, i, own[place]), self.twin(query, i, ())
                rows = slice(len(query.tokens) - 1, len(query.tokens) - 1 + len(continuation))
                kl += reference.kl(plain.logits[rows], run.logits[rows]).tolist()
                of_tokens = reference.log_softmax(run.logits[rows])
                logprobs += of_tokens[np.arange(len(continuation)), list(continuation)].tolist()
                margins += [run.margin] * len(continuation)
            self.tally.compare(f"{name}, KL of answer {place}", found.kl, np.array(kl), margins)
            self.tally.compare(f"{name}, ln P of answer {place}", found.logprobs, np.array(logprobs), margins)

    def check_activations(self, decided: Decided) -> None:
        """At the end of each prompt, in lengths of the row."""
        queries = self.plan.queries
        found = self.engine.activations([query.tokens for query in queries], steering=decided)
        runs = [self.twin(query, None, many) for query, many in zip(queries, decided, strict=True)]
        expected = np.array([run.activations[:, -1] for run in runs])
        distances = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
        self.tally.compare(f"{self.name}, activations", distances, 0, [run.margin for run in runs])

    def note(self, decided: Decided, batches: Sequence[Batch]) -> None:
        plan = self.plan
        acting = [one for many in decided for one in many if not one.idle]
        pieces = [piece for batch in batches for part in batch.passes for piece in part.pieces]
        happened = {
            "several vectors": any(len({id(one.vector) for one in many}) > 1 for many in decided),
            "no base": plan.first_layer is None,
            "measured": plan.top_k is not None,
            "captured": plan.captured,
            "two strengths": len(plan.factors) > 1,
            "own limits": plan.limits is not None,
            "several batches": len(batches) > 1,
            "several passes": any(len(batch.passes) > 1 for batch in batches),
            "several pieces": len(pieces) > sum(len(batch.passes) for batch in batches),
            "a trunk is copied": any(piece.copies for piece in pieces),
            "rows are shared": any(batch.shared for batch in batches),
        }
        self.met |= {name for name, is_so in happened.items() if is_so}
        self.met |= {word for one in acting for word in (one.operator, one.positions, one.side)}
        self.met |= {f"layer {il}" for one in acting for il in one.vector.layers}


def output_rows(batch: Batch, prompt_outputs: Sequence[int]) -> Iterator[tuple[int, int, int | None, int]]:
    """(output row, place of the query, continuation or None, tokens up to the row): of prompts' ends and of scores."""
    owners = [(place, i) for place, query in enumerate(batch.queries) for i in range(len(query.continuations))]
    for place, output in enumerate(prompt_outputs):
        yield output, place, None, len(batch.queries[place].tokens)
    n_before = 0
    for part in batch.passes:
        output_of = n_before + np.cumsum(part.outputs) - 1
        for row, target in zip(part.score_rows.tolist(), part.score_targets.tolist(), strict=True):
            yield int(output_of[row]), *owners[target], int(part.positions[row]) + 1
        n_before += int(part.outputs.sum())


@pytest.fixture(scope="module", params=SETUPS, ids=lambda setup: str(setup.name))
def setup(request: pytest.FixtureRequest) -> Setup:
    chosen: Setup = request.param
    return chosen


@pytest.fixture(scope="module")
def tally(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Tally:
    """Of this setup's share of the plans."""
    path = write_tiny_model(tmp_path_factory.mktemp("plans") / "model.gguf", seed=SEED, shape=SHAPES[setup.tied])
    model, counted = PlainLlama(path), Tally()
    with Engine(
        path, n_batch=setup.n_batch, n_ctx=setup.n_ctx, threads=1, flash_attn="off", type_k="f32", type_v="f32"
    ) as engine:
        if setup.always_copy:
            engine._session = engine.open_session(always_copy=True)
        for number in range(SETUPS.index(setup), N_PLANS, len(SETUPS)):
            Trial(engine, model, draw(setup, number), f"plan {number}", counted).run()
    return counted


many = pytest.mark.skipif(N_PLANS < MANY, reason="too few plans for a share of them to say anything")


def test_all_agree_with_the_twin(tally: Tally) -> None:
    assert not tally.wrong, f"{len(tally.wrong)} do not agree\n" + "\n".join(tally.wrong[:5])


@many
def test_nearly_all_agree_to_rounding(tally: Tally) -> None:
    assert np.quantile(tally.differences, 0.999) <= USUALLY


@many
def test_few_are_decided_near_a_threshold(tally: Tally) -> None:
    assert tally.n_left_out <= MOST_LEFT_OUT * tally.n_compared


@many
def test_steering_moves_what_is_compared(tally: Tally) -> None:
    """Most rows that are to be steered are; the others lie before what is steered, or on the other side."""
    assert tally.n_moved > tally.n_steered / 2


@many
def test_plans_are_of_all_kinds(setup: Setup, tally: Tally) -> None:
    missing = [kind for kind in (*MET_BY_ALL, *setup.meets) if not tally.met[kind]]
    assert not missing, f"no plan meets: {', '.join(missing)}"
