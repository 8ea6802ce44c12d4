"""The engine: what it measures, what it refuses, and that it goes on as before after any error."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ARCHITECTURES
from places import ModelMaker

from steercpp.choices import OPERATORS, Operator
from steercpp.data.pairs import ContrastPair
from steercpp.data.prompts import Message
from steercpp.doctor.self_test import run_self_test
from steercpp.engine import model as loaded_model
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.packing import Batch, BatchLimits, Query, lay_out_together
from steercpp.engine.steering import Gate, Steering
from steercpp.errors import (
    ContextOverflowError,
    DegenerateError,
    EngineError,
    InputError,
    LayerError,
    NonFiniteError,
    PairsError,
    PromptError,
    ShapeError,
    SteerError,
    StrengthError,
    UnsteerableError,
)
from steercpp.extraction.activations import collect
from steercpp.vectors.control_vector import ControlVector


@pytest.fixture
def batch(tiny_engine: Engine, rng: np.random.Generator) -> Batch:
    prompts = [tuple(rng.integers(3, tiny_engine.n_vocab, n).tolist()) for n in (9, 4, 17)]
    (packed,) = tiny_engine.pack([Query(prompt, ((5, 6), (7,))) for prompt in prompts])
    return packed


def unit_vector(engine: Engine, *layers: int, n_embd: int | None = None) -> ControlVector:
    row = np.random.default_rng(7).standard_normal(n_embd or engine.n_embd)
    direction = (row / np.linalg.norm(row)).astype(np.float32)
    return ControlVector(dict.fromkeys(layers, direction), engine.architecture, max(engine.n_layer, *layers) + 1)


def test_a_model_is_described(tiny_engine: Engine, tiny_path: Path) -> None:
    assert tiny_engine.path == tiny_path
    assert (tiny_engine.n_layer, tiny_engine.n_embd, tiny_engine.n_ctx) == (4, 256, 1024)
    assert (tiny_engine.architecture, tiny_engine.bos_piece, tiny_engine.eos_piece) == ("llama", "<s>", "</s>")
    settings = tiny_engine.settings()
    assert settings["flash_attn"] == "off" and settings["threads"] == 1 and settings["n_batch"] == 256
    assert settings["llama_cpp_python"] == "0.3.36" and str(settings["llama_cpp"]).startswith("0.5.0")


def test_the_file_is_hashed_once(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(tiny_path, n_ctx=64, threads=1) as engine:
        assert engine.sha256 == hashlib.sha256(tiny_path.read_bytes()).hexdigest()
        monkeypatch.setattr("hashlib.sha256", lambda *data: pytest.fail("hashed again"))
        assert len(engine.sha256) == 64


def test_the_self_test_holds(any_model: Path) -> None:
    with Engine(any_model, n_ctx=256, threads=1) as engine:
        checks = run_self_test(engine)
    assert len(checks) == 3
    assert [check for check in checks if not check.ok] == []


def test_the_self_test_notices_steering_that_is_not_llama_cpps(tiny_path: Path) -> None:
    class Twice(Engine):
        def stock_logits(self, batch: Batch, vector: ControlVector) -> Any:
            return super().stock_logits(batch, vector.scaled(2.0))

    with Twice(tiny_path, n_ctx=256, threads=1) as engine:
        assert [check.ok for check in run_self_test(engine)] == [True, True, False]


def test_the_same_batch_gives_the_same_bits_whatever_came_before(tiny_engine: Engine, batch: Batch) -> None:
    vector = unit_vector(tiny_engine, 1, 2)
    before = tiny_engine.logits(batch, vector=vector, strengths=3.0)
    tiny_engine.logprobs(tiny_engine.pack([Query(tuple(range(3, 400)), ((9, 9),))])[0], vector=vector, strengths=50)
    np.testing.assert_array_equal(tiny_engine.logits(batch, vector=vector, strengths=3.0), before)


class TestErrors:
    """Each error is typed, says what was found, and leaves the engine as it was."""

    @pytest.fixture(autouse=True)
    def goes_on_as_before(self, tiny_engine: Engine, batch: Batch) -> Iterator[None]:
        vector = unit_vector(tiny_engine, 1, 3)
        before = tiny_engine.logits(batch, vector=vector, strengths=(1.0, 0.0, -2.0))
        yield
        np.testing.assert_array_equal(tiny_engine.logits(batch, vector=vector, strengths=(1.0, 0.0, -2.0)), before)

    @pytest.mark.parametrize("strength", [float("nan"), float("inf"), -1e39])
    def test_a_strength_that_is_no_float32_number(self, tiny_engine: Engine, batch: Batch, strength: float) -> None:
        with pytest.raises(StrengthError, match=r"strength (nan|inf|-1e\+39) is not a finite number"):
            tiny_engine.logprobs(batch, vector=unit_vector(tiny_engine, 1), strengths=(0.0, strength, 1.0))

    def test_strengths_of_another_number_than_queries(self, tiny_engine: Engine, batch: Batch) -> None:
        with pytest.raises(ShapeError, match=r"one number or 3, one per query, got shape \(2,\)"):
            tiny_engine.logprobs(batch, vector=unit_vector(tiny_engine, 1), strengths=(0.0, 1.0))

    def test_a_layer_that_the_model_lacks(self, tiny_engine: Engine, batch: Batch) -> None:
        with pytest.raises(LayerError, match=r"layer 4 does not exist; the model has layers 0\.\.3"):
            tiny_engine.logprobs(batch, vector=unit_vector(tiny_engine, 4), strengths=1.0)
        with pytest.raises(LayerError, match="layer -1 does not exist"):
            tiny_engine.activations([(1, 2)], layers=[-1])
        with pytest.raises(LayerError, match="given twice"):
            tiny_engine.activations([(1, 2)], layers=[1, 1])

    def test_a_vector_of_another_width(self, tiny_engine: Engine, batch: Batch) -> None:
        with pytest.raises(ShapeError, match=r"64 values per layer, the model's n_embd is 256"):
            tiny_engine.logprobs(batch, vector=unit_vector(tiny_engine, 1, n_embd=64), strengths=1.0)

    @pytest.mark.parametrize("token", [-1, 742])
    def test_a_token_of_another_model(self, tiny_engine: Engine, token: int) -> None:
        with pytest.raises(InputError, match="a token is outside the vocabulary"):
            tiny_engine.logprobs(tiny_engine.pack([Query((1, token))])[0])
        with pytest.raises(InputError, match="a query's token is outside the vocabulary"):
            tiny_engine.logprobs(tiny_engine.pack([Query((1,), ((token,),))])[0])

    def test_a_prompt_longer_than_the_context(self, tiny_engine: Engine) -> None:
        with pytest.raises(ContextOverflowError, match="query 1: 1025 prompt tokens .* the context holds 1024"):
            tiny_engine.activations([(1, 5), (1,) * 1025])

    def test_a_strength_beyond_what_float32_can_add(self, tiny_engine: Engine, batch: Batch) -> None:
        """Quantized products would turn NaN into zeros: the rows themselves are looked at."""
        with pytest.raises(NonFiniteError, match=r"query 1: at strength 3e\+38 the activations leave"):
            tiny_engine.logprobs(batch, vector=unit_vector(tiny_engine, 2), strengths=(0.0, 3e38, 1.0))
        with pytest.raises(NonFiniteError, match="query 0"):  # finite once, not when added at two layers
            tiny_engine.activations([(1, 2)], vector=unit_vector(tiny_engine, 1, 2), strengths=1e20)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("strength", [float("nan"), float("-inf"), 1e39])
    def test_a_strength_of_another_operator(
        self, tiny_engine: Engine, batch: Batch, operator: Operator, strength: float
    ) -> None:
        vector = unit_vector(tiny_engine, 1)
        with pytest.raises(StrengthError, match=r"strength (nan|-inf|1e\+39) is not a finite number in float32; give"):
            tiny_engine.logprobs(batch, steering=Steering(vector, strength, operator=operator))

    def test_a_strength_that_only_one_operator_cannot_bear(self, tiny_engine: Engine, batch: Batch) -> None:
        """Turned by a huge angle a row keeps its length; clamped to a huge projection it does not stay finite."""
        vector = unit_vector(tiny_engine, 1)
        tiny_engine.logprobs(batch, steering=Steering(vector, 3e38, operator="rotate"))
        with pytest.raises(NonFiniteError, match=r"at strength 3e\+38 the activations leave float32's range; use a"):
            tiny_engine.logprobs(batch, steering=Steering(vector, 3e38, operator="clamp"))

    def test_a_base_or_gate_at_a_layer_that_the_model_lacks(self, tiny_engine: Engine, batch: Batch) -> None:
        with pytest.raises(LayerError, match=r"layer 4 does not exist; the model has layers 0\.\.3"):
            tiny_engine.base(batch, first_layer=4)
        gate = Gate(np.ones(tiny_engine.n_embd, np.float32), 7, 0.0)
        with pytest.raises(LayerError, match=r"layer 7 does not exist; the model has layers 0\.\.3"):
            tiny_engine.decide(batch.queries, Steering(unit_vector(tiny_engine, 1), gate=gate))

    def test_a_gate_that_is_not_for_this_model(self, tiny_engine: Engine, batch: Batch) -> None:
        gate = Gate(np.ones(64, np.float32), 1, 0.0)
        with pytest.raises(ShapeError, match="the gate has 64 values per layer, the model's n_embd is 256; use a"):
            tiny_engine.decide(batch.queries, Steering(unit_vector(tiny_engine, 1), gate=gate))

    def test_a_gate_without_a_vector(self, tiny_engine: Engine) -> None:
        for nothing in (np.zeros(tiny_engine.n_embd, np.float32), np.full(tiny_engine.n_embd, np.nan, np.float32)):
            with pytest.raises(ShapeError, match="gate: expected a direction"):
                Gate(nothing, 1, 0.0)
        with pytest.raises(InputError, match="gate: the threshold is nan; give a finite number"):
            Gate(np.ones(tiny_engine.n_embd, np.float32), 1, float("nan"))

    def test_a_gate_that_is_not_decided(self, tiny_engine: Engine, batch: Batch) -> None:
        gate = Gate(np.ones(tiny_engine.n_embd, np.float32), 1, 0.0)
        steering = Steering(unit_vector(tiny_engine, 1), gate=gate)
        for measure in (tiny_engine.logprobs, tiny_engine.logits):
            with pytest.raises(InputError, match=r"a gate is not decided yet; give Engine\.decide's answer"):
                measure(batch, steering=steering)

    def test_more_sequences_than_the_context_has(self, tiny_engine: Engine, tiny_path: Path) -> None:
        """Of a batch that another engine packed, of rows to be held at once, and of a context."""
        (wide,) = tiny_engine.pack([Query((token, 5)) for token in range(3, 33)])
        with Engine(tiny_path, threads=1, n_batch=16) as narrow:
            (own,) = narrow.pack([Query((3, 5), ((7,),))])
            before = narrow.logits(own)
            with pytest.raises(InputError, match=r"outside 0\.\.n_seq_max-1; pack the queries with this engine"):
                narrow.logprobs(wide)
            np.testing.assert_array_equal(narrow.logits(own), before)
        with pytest.raises(InputError, match="300 rows do not fit into 256 sequences"):
            lay_out_together([Query((1, 5))] * 300, BatchLimits(n_batch=256, n_ctx=4096, n_seq_max=256))
        with pytest.raises(InputError, match=r"n_batch 256, n_seq_max 257: n_seq_max must lie in 1\.\.n_batch"):
            tiny_engine.open_session(n_seq_max=257)

    def test_a_batch_of_more_rows_than_are_decoded_together(self, tiny_engine: Engine, tiny_path: Path) -> None:
        (long,) = tiny_engine.pack([Query(tuple(range(3, 203)))])
        with Engine(tiny_path, threads=1, n_batch=64) as smaller:
            (own,) = smaller.pack([Query((3, 5), ((7,),))])
            before = smaller.logits(own)
            with pytest.raises(
                InputError, match=r"a piece needs 1\.\.n_batch tokens; pack the queries with this engine"
            ):
                smaller.logprobs(long)
            np.testing.assert_array_equal(smaller.logits(own), before)

    def test_a_base_of_another_engine(self, tiny_engine: Engine, batch: Batch, tiny_path: Path) -> None:
        """Its rows might be those of another model."""
        with Engine(tiny_path, threads=1) as other:
            base = other.base(batch, first_layer=1)
        with pytest.raises(InputError, match="the base is that of another engine; make one with this engine"):
            tiny_engine.logprobs(batch, base=base)

    def test_queries_that_share_tokens_but_not_their_steering(self, tiny_engine: Engine) -> None:
        vector = unit_vector(tiny_engine, 1)
        (batch,) = tiny_engine.pack([Query((1, 5, 6)), Query((1, 5, 7))])
        with pytest.raises(InputError, match="share tokens but are to be steered differently; pack them with"):
            tiny_engine.logprobs(batch, steering=[Steering(vector, 1.0), Steering(vector, 2.0)])

    def test_more_likely_tokens_than_there_are(self, tiny_engine: Engine, batch: Batch) -> None:
        base = tiny_engine.base(batch, first_layer=1, keep_logits=True)
        for top_k in (-1, tiny_engine.n_vocab + 1):
            with pytest.raises(InputError, match=f"top_k is {top_k}; give 0 for none, or at most"):
                tiny_engine.measures(batch, steering=None, base=base, top_k=top_k)

    def test_a_prompt_and_what_is_generated_beyond_the_context(self, tiny_engine: Engine) -> None:
        rows = [None, Steering(unit_vector(tiny_engine, 1))]
        for exact in (False, True):
            with pytest.raises(
                ContextOverflowError, match=r"5 prompt tokens and 1020 more need 1025 positions, .* 1024"
            ):
                generate(tiny_engine, (1, 5, 6, 7, 8), rows, max_tokens=1020, exact=exact)

    def test_a_generation_that_leaves_the_range(self, tiny_engine: Engine) -> None:
        rows = [Steering(unit_vector(tiny_engine, 2), strength) for strength in (-3e38, 3e38)]
        for exact in (False, True):
            with pytest.raises(NonFiniteError, match=r"row 0: at strength -3e\+38 the activations leave"):
                generate(tiny_engine, (1, 5, 6), rows, max_tokens=4, exact=exact)

    def test_a_second_thread(self, tiny_engine: Engine) -> None:
        (large,) = tiny_engine.pack([Query(tuple(range(3, 703)))])
        (small,) = tiny_engine.pack([Query((1, 2))])
        expected = tiny_engine.logits(large)
        found: list[np.ndarray] = []
        refusals: list[str] = []

        def work() -> None:
            while not found:
                try:
                    found.append(tiny_engine.logits(large))
                except EngineError as error:  # the other thread came first
                    refusals.append(str(error))

        worker = threading.Thread(target=work)
        worker.start()
        while worker.is_alive() and not refusals:
            try:
                tiny_engine.logits(small)
            except EngineError as error:
                refusals.append(str(error))
        worker.join()
        assert "another thread is using this session; give each thread an engine of its own" in refusals[0]
        np.testing.assert_array_equal(found[0], expected)


def test_gates_are_decided_in_one_pass(tiny_engine: Engine, rng: np.random.Generator) -> None:
    """However many there are and at whatever layers: up to the highest one."""
    queries = [Query(tuple(rng.integers(3, tiny_engine.n_vocab, n).tolist())) for n in (5, 9, 7)]
    vector = unit_vector(tiny_engine, 1)
    gates = [Gate(rng.standard_normal(tiny_engine.n_embd).astype(np.float32), il, 0.0) for il in (0, 0, 2, 1, 2)]
    steering = [[Steering(vector, float(place), gate=gate) for place, gate in enumerate(gates)]] * len(queries)
    before = tiny_engine.token_layers
    decided = tiny_engine.decide(queries, steering)
    assert tiny_engine.token_layers - before == sum(len(query.tokens) for query in queries) * 3
    for place, gate in enumerate(gates):
        is_open = gate.is_open(tiny_engine.activations([query.tokens for query in queries], layers=[gate.il])[:, 0])
        assert [any(acts.strength == place for acts in several) for several in decided] == is_open.tolist()
    before = tiny_engine.token_layers
    assert tiny_engine.decide(queries, Steering(vector)) and tiny_engine.token_layers == before


def test_memory_that_held_nan_does_not_leak_into_later_decodes(
    model_maker: ModelMaker, rng: np.random.Generator
) -> None:
    """Masked cells of the K/V cache are multiplied by zero, which does not make zero of NaN."""
    for name in ("tiny-F32", "tiny-Q8_0"):
        with Engine(model_maker(name), n_ctx=512, threads=1) as engine:
            (small,) = engine.pack([Query((1, 50, 60), ((70,),))])
            (large,) = engine.pack([Query(tuple(rng.integers(3, engine.n_vocab, 400).tolist()), ((70,),))])
            before = engine.logits(small)
            single = np.zeros(engine.n_embd, np.float32)
            single[0] = 1.0
            twice = ControlVector(
                {0: single, 1: single}, "llama", 4
            )  # infinite at layer 1, so NaN in K and V of block 2
            with pytest.raises(NonFiniteError):
                engine.logprobs(large, vector=twice, strengths=3.4e38)
            np.testing.assert_array_equal(engine.logits(small), before)


def test_two_engines_in_two_threads_give_what_one_gives(tiny_path: Path, rng: np.random.Generator) -> None:
    prompts = [tuple(rng.integers(3, 700, 60).tolist()) for _ in range(30)]
    found: dict[int, np.ndarray] = {}

    def work(place: int) -> None:
        with Engine(tiny_path, n_ctx=512, threads=1) as engine:
            found[place] = engine.activations(prompts, vector=unit_vector(engine, 1), strengths=float(place))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(found)
    for place in range(2):
        work(place)
        np.testing.assert_array_equal(found[place], together[place])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n_threads", "did you mean `threads`?"), ("n_gpu_layer", "did you mean `n_gpu_layers`?"),
        ("contxt_size", "it takes model_path, model, n_ctx, n_batch, threads, "),
    ],
)  # fmt: skip
def test_a_parameter_that_an_engine_lacks_is_refused_by_name(tiny_path: Path, name: str, words: str) -> None:
    """Once a TypeError of DeviceOptions, which nobody has called."""
    unknown: dict[str, Any] = {name: 1}
    for path, model in ((tiny_path, None), (None, loaded_model.Model(tiny_path))):
        with pytest.raises(InputError, match=rf"^Engine takes no parameter `{name}`; {words.replace('?', '[?]')}"):
            Engine(path, model=model, **unknown)


def test_a_context_option_that_does_not_exist_is_refused_by_name(tiny_engine: Engine) -> None:
    with pytest.raises(InputError, match=r"^open_session takes no parameter `n_seqs`; did you mean `n_seq_max`[?]"):
        tiny_engine.open_session(n_seqs=2)


def test_a_closed_engine_says_so(tiny_path: Path) -> None:
    with Engine(tiny_path, n_ctx=256, threads=1) as engine:
        (batch,) = engine.pack([Query((1,))])
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.logits(batch)


def test_a_graph_without_the_nodes_is_refused_not_steered_in_vain(tmp_path: Path) -> None:
    with Engine(ARCHITECTURES["plamo2"].write(tmp_path / "plamo2.gguf"), threads=1) as engine:
        (batch,) = engine.pack([Query((1, 5, 6, 7))])
        before = engine.logits(batch)
        with pytest.raises(UnsteerableError, match=r"plamo2\.gguf: .* its graph has no node l_out-1"):
            engine.logits(batch, vector=unit_vector(engine, 1), strengths=1.0)
        for operator in OPERATORS:
            steering = Steering(unit_vector(engine, 1), 0.5, operator=operator)
            with pytest.raises(UnsteerableError, match=r"no node l_out-1; use another model"):
                engine.logprobs(batch, steering=steering)
            with pytest.raises(UnsteerableError, match="no node l_out-1"):
                generate(engine, (1, 5), [steering], max_tokens=2)
        with pytest.raises(UnsteerableError, match="l_out-0"):
            engine.activations([(1, 5)])
        np.testing.assert_array_equal(engine.logits(batch), before)


def test_activations_keep_the_order_of_prompts_and_layers(tiny_engine: Engine, rng: np.random.Generator) -> None:
    prompts = [tuple(rng.integers(3, 700, int(rng.integers(1, 90))).tolist()) for _ in range(40)]
    steps: list[tuple[int, int]] = []
    values = tiny_engine.activations(prompts, progress=lambda done, total: steps.append((done, total)))
    assert values.shape == (40, 4, 256) and values.dtype == np.float32
    assert len(steps) > 1 and steps == sorted(steps) and steps[-1] == (40, 40)
    np.testing.assert_array_equal(tiny_engine.activations(prompts, layers=[3, 1]), values[:, [3, 1]])
    for place in (0, 17, 39):
        alone = tiny_engine.activations([prompts[place]])[0]
        # K/V in float16: roundings move by 5e-4 of a value, sums of hundreds of them by 1e-2 of 30 at the most
        np.testing.assert_allclose(values[place], alone, rtol=0, atol=1e-2)


def test_activations_of_chosen_tokens(tiny_engine: Engine, rng: np.random.Generator) -> None:
    prompts = [tuple(rng.integers(3, 700, n).tolist()) for n in (9, 1, 300, 9)]
    positions = [[0, 4, -1], [0], [299, 150, 2], []]
    steering = Steering(unit_vector(tiny_engine, 1), 2.0)
    for layers in (None, [2, 0]):
        found = tiny_engine.activations_at(prompts, positions, layers=layers, steering=steering)
        wanted = [0, 1, 2, 3] if layers is None else layers
        for prompt, chosen, values in zip(prompts, positions, found, strict=True):
            assert values.shape == (len(chosen), len(wanted), 256)
            for position, value in zip(chosen, values, strict=True):
                until = prompt[: position % len(prompt) + 1]  # what follows a token does not reach it
                alone = tiny_engine.activations([until], layers=wanted, steering=steering)[0]
                np.testing.assert_allclose(value, alone, rtol=0, atol=1e-2)  # K/V in float16, as below
    with pytest.raises(InputError, match="position 9 does not exist; the prompt has 9 tokens"):
        tiny_engine.activations_at(prompts[:1], [[9]])
    with pytest.raises(InputError, match="given twice"):
        tiny_engine.activations_at(prompts[:1], [[-1, 8]])
    with pytest.raises(ShapeError, match="one list per prompt, 4, got 1"):
        tiny_engine.activations_at(prompts, [[0]])


def test_chosen_tokens_of_prompts_that_begin_alike_are_computed_once(
    tiny_engine: Engine, rng: np.random.Generator
) -> None:
    head = (1, *rng.integers(3, 700, 200).tolist())
    tails = [tuple(rng.integers(3, 700, n).tolist()) for n in (5, 1, 8, 40, 300)]
    prompts = [head + tail for tail in tails] + [head, head[:50], head + tails[3]]
    positions = [[0, 100, -1, 3]] * 5 + [[200, 0], [49], [239, 240]]
    before = tiny_engine.token_layers
    found = tiny_engine.activations_at(prompts, positions, layers=[0, 3])
    n_tokens = (tiny_engine.token_layers - before) / 4
    assert n_tokens <= 1.2 * (len(head) + sum(map(len, tails)))  # apart they would be 2045
    for prompt, chosen, values in zip(prompts, positions, found, strict=True):
        (alone,) = tiny_engine.activations_at([prompt], [chosen], layers=[0, 3])
        np.testing.assert_allclose(values, alone, rtol=0, atol=1e-2)  # K/V in float16, as above
    seen: list[tuple[int, int]] = []
    tiny_engine.activations_at(prompts, positions, progress=lambda *report: seen.append(report))
    assert seen[-1] == (8, 8)


def test_rows_of_prompts_under_any_packing(tiny_path: Path, rng: np.random.Generator) -> None:
    with Engine(tiny_path, threads=1, n_ctx=128, n_batch=16, keep_mib=1) as engine:
        stem = rng.integers(3, 700, 60).tolist()
        queries = [
            Query((*stem[: rng.integers(1, 60)], *rng.integers(3, 700, rng.integers(0, 30)).tolist()))
            for _ in range(300)
        ]
        queries[0] = Query(tuple(stem))
        batches = engine.pack(queries)
        assert len(batches) > 1 or len(batches[0].passes[0].pieces) > 3
        for batch in batches:
            (part,) = batch.passes
            for owner, rows in zip(part.prompt_owners, part.prompt_rows(), strict=True):
                tokens = batch.queries[owner].tokens
                assert tuple(part.tokens[rows]) == tokens
                assert part.positions[rows].tolist() == list(range(len(tokens)))


def test_rows_beyond_the_memory_for_them_are_not_kept(tiny_path: Path, rng: np.random.Generator) -> None:
    with Engine(tiny_path, threads=1, n_ctx=2048, keep_mib=1) as engine:
        (large,) = engine.pack([Query(tuple(rng.integers(3, 700, 1100).tolist()), ((5,),))])
        base = engine.base(large, first_layer=2)
        assert base.reason == "its rows need 1.1 MiB where keep_mib allows 1" and base.n_bytes == 0
        vector = unit_vector(engine, 2)
        np.testing.assert_array_equal(
            engine.logits(large, vector=vector, base=base), engine.logits(large, vector=vector)
        )


def test_a_vector_acts_once_where_no_strength_is_given(tiny_engine: Engine, batch: Batch) -> None:
    vector = unit_vector(tiny_engine, 1)
    np.testing.assert_array_equal(
        tiny_engine.logits(batch, vector=vector), tiny_engine.logits(batch, vector=vector, strengths=1.0)
    )


def test_residual_norms_are_medians_over_all_tokens_but_the_first(tiny_engine: Engine) -> None:
    prompt = (1, 300, 301, 302, 303, 304)
    single = tiny_engine.residual_norms([prompt], [0, 3])
    prefixes = [prompt[:n] for n in range(2, 7)]
    lengths = np.linalg.norm(tiny_engine.activations(prefixes, layers=[0, 3]), axis=-1)
    for place, il in enumerate((0, 3)):
        # the same tokens in batches of another shape, as above
        assert single[il] == pytest.approx(np.median(lengths[:, place]), rel=1e-3)
    with pytest.raises(DegenerateError, match="no tokens but the begin-of-sequence"):
        tiny_engine.residual_norms([(1,)], [1])


def test_residual_norms_count_the_begin_token_where_it_marks_a_turn(tiny_engine: Engine) -> None:
    """SmolLM2's is also its turn mark: every one of them was left out."""
    prompt = (1, 300, 1, 1, 1, 301)
    (values,) = tiny_engine.activations_at([prompt], [range(6)], layers=[3])
    lengths = np.linalg.norm(values[:, 0], axis=-1)
    found = tiny_engine.residual_norms([prompt, prompt[1:]], [3])[3]
    # the second prompt begins otherwise, and all its tokens count; batches of another shape, as above
    (others,) = tiny_engine.activations_at([prompt[1:]], [range(5)], layers=[3])
    lengths = np.concatenate([lengths[1:], np.linalg.norm(others[:, 0], axis=-1)])
    assert found == pytest.approx(np.median(lengths), rel=1e-3)


@pytest.mark.parametrize("template", ["auto", "chat", "raw"])
def test_collect_puts_the_positive_prompt_first(tiny_engine: Engine, template: Any) -> None:
    pairs = [ContrastPair("a", "good day", "bad day"), ContrastPair("b", "a", "the other thing")]
    found = collect(tiny_engine, pairs, layers=[1, 2], template=template)
    values = found.values
    assert isinstance(values, np.ndarray) and values.shape == (2, 2, 2, 256) and found.layers == (1, 2)
    tokens = [
        tiny_engine.encode(prompt, template=template) for pair in pairs for prompt in (pair.positive, pair.negative)
    ]
    np.testing.assert_array_equal(values.reshape(4, 2, 256), tiny_engine.activations(tokens, layers=[1, 2]))
    np.testing.assert_array_equal(found.at(2)[1], values[:, 1, 1])


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([], PairsError, "no pairs"),
        ([ContrastPair("x", "a", "b " * 1100)], ContextOverflowError, "pair x: negative prompt: 1\\d+ tokens"),
        (
            [ContrastPair("y", (Message("assistant", "a"),), (Message("user", "b"),))],
            PromptError,
            "pair y: positive prompt: .*take turns",
        ),
    ],
)
def test_collect_names_the_pair(
    tiny_engine: Engine, pairs: list[ContrastPair], error: type[SteerError], message: str
) -> None:
    with pytest.raises(error, match=message):
        collect(tiny_engine, pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": 0}, "n_ctx is 0"),
        ({"n_ctx": 2_000_000_000}, "give at most 16777216"),
        ({"n_batch": -1}, "n_batch is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"flash_attn": "maybe"}, "use off, on or auto"),
        ({"type_k": "q3"}, "type_k is 'q3'; use "),
    ],
)
def test_options_out_of_range_are_refused(tiny_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Engine(tiny_path, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource.setrlimit")
def test_a_context_too_large_for_memory_is_refused(tiny_path: Path) -> None:
    """In a process that may use 2 GB: K and V of 4 million tokens take 8. An engine that is there goes on as before."""
    code = (
        "import resource, sys\n"
        "from steercpp.engine.engine import Engine\n"
        "from steercpp.errors import EngineError\n"
        "from steercpp.engine.packing import Query\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))\n"
        "with Engine(sys.argv[1], threads=1) as engine:\n"
        "    (batch,) = engine.pack([Query((1, 5, 6), ((7, 8),))])\n"
        "    before = engine.logits(batch).tobytes()\n"
        "    for make in (engine.open_session, lambda n_ctx: Engine(sys.argv[1], threads=1, n_ctx=n_ctx)):\n"
        "        try:\n"
        "            make(n_ctx=4_000_000)\n"
        "        except EngineError as error:\n"
        "            print(error)\n"
        "    assert engine.logits(batch).tobytes() == before\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tiny_path)], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "tiny-F32.gguf: a context of 4000000 tokens cannot be made: " in line
        assert line.endswith("lower `n_ctx` or `n_batch`")


def test_by_default_all_physical_cores_are_used(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[bool] = []

    def count(*, only_physical_cores: bool) -> int:
        counted.append(only_physical_cores)
        return 1

    monkeypatch.setattr("joblib.cpu_count", count)
    with Engine(tiny_path, n_ctx=256) as engine:
        assert engine.settings()["threads"] == 1
    assert counted == [True]
