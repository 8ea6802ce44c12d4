"""Tensors outside host memory: the bit-equality of steering, over llama.cpp's RPC backend on this machine.

Every tensor of a block lies in a server process here, so all rows go through ggml_backend_tensor_get and _set, as they
do on a GPU. The other side of each comparison is stock llama.cpp on the same devices.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architecture_table import FIRST_LAYERS, queries_for, resume
from architectures import ARCHITECTURES
from click.testing import CliRunner
from places import ROOT, ModelMaker
from random_queries import STRENGTHS, one_batch, output_owners, random_queries, random_vector
from rpc_server import Server, free_port, server_devices
from stock_llama import StockRunner

from steercpp import _native
from steercpp.choices import OPERATORS, Operator, Side
from steercpp.cli.main import main
from steercpp.data.pairs import read_pairs
from steercpp.doctor.self_test import run_self_test
from steercpp.engine import reference
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.packing import Batch, Query
from steercpp.engine.steering import Steering
from steercpp.errors import EngineError, InputError
from steercpp.extraction.extract import extract
from steercpp.vectors.gguf import read_vector

TESTS = str(ROOT / "tests" / "helpers")


@pytest.fixture(scope="module", autouse=True)
def needs_rpc() -> None:
    if not _native.supports_rpc():
        pytest.fail(
            "llama-cpp-python was compiled without RPC, perhaps taken from pip's cache; `make test` compiles it again, "
            "with CMAKE_ARGS=-DGGML_RPC=ON",
            pytrace=False,
        )


@pytest.fixture(scope="module")
def server() -> str:
    return Server().address


@pytest.fixture(scope="module", params=["tiny-F32", "tiny-Q8_0", "tiny-Q4_0", "tiny-Q4_K_M", "embedded-Q8_0"])
def model(request: pytest.FixtureRequest, model_maker: ModelMaker) -> Path:
    return model_maker(request.param)


@pytest.fixture(scope="module")
def engine(model: Path, server: str) -> Iterator[Engine]:
    with Engine(model, n_ctx=512, threads=1, n_gpu_layers=-1, rpc=server) as opened:
        yield opened


@pytest.fixture(scope="module")
def stock(model: Path, server: str, engine: Engine) -> Iterator[StockRunner]:
    with StockRunner(model, n_gpu_layers=-1, devices=server_devices(server)) as runner:
        yield runner


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which may end as llama.cpp likes."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {TESTS!r})\n{code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_add_equals_the_stock_control_vector(engine: Engine, stock: StockRunner, rng: np.random.Generator) -> None:
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    for strength in (-1.0, 0.1, 3.0):
        stock.set_vector(vector.directions, strength)
        expected = stock.logits(batch)
        steered = engine.logits(batch, vector=vector, strengths=strength)
        np.testing.assert_array_equal(steered, expected)
        assert (steered != engine.logits(batch)).any(), "the vector does nothing, so equality means nothing"
    stock.set_vector(None)


def test_unsteered_equals_stock(engine: Engine, stock: StockRunner, rng: np.random.Generator) -> None:
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    expected = stock.logits(batch)
    np.testing.assert_array_equal(engine.logits(batch), expected)
    np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=0.0), expected)


def test_each_row_equals_its_own_stock_run(engine: Engine, stock: StockRunner, rng: np.random.Generator) -> None:
    batch, vector = one_batch(engine, rng, apart=True), random_vector(engine, rng)
    steered = engine.logits(batch, vector=vector, strengths=STRENGTHS)
    owners = output_owners(batch)
    for place, strength in enumerate(STRENGTHS):
        stock.set_vector(vector.directions, strength)
        np.testing.assert_array_equal(steered[owners == place], stock.logits(batch)[owners == place])
    stock.set_vector(None)


def test_a_layer_moves_by_exactly_what_is_added(engine: Engine, rng: np.random.Generator) -> None:
    """Captured rows are read from the server, block 0 and the last among them."""
    prompts = [query.tokens for query in random_queries(engine, rng)]
    base = engine.activations(prompts)
    for il in range(engine.n_layer):
        vector = random_vector(engine, rng, (il,))
        steered = engine.activations(prompts, vector=vector, strengths=-0.3)
        np.testing.assert_array_equal(steered[:, :il], base[:, :il])
        # one product and one sum in float32, rounded each: the very bits
        np.testing.assert_array_equal(steered[:, il], base[:, il] + np.float32(-0.3) * vector.directions[il])


def test_rows_side_by_side_carry_their_own_strength(engine: Engine, rng: np.random.Generator) -> None:
    prompts = [query.tokens for query in random_queries(engine, rng)]
    vector, above = random_vector(engine, rng, (1,)), random_vector(engine, rng, (2,))
    # steered above, so that it is packed as apart as what follows
    base = engine.activations(prompts, layers=[1], vector=above, strengths=STRENGTHS)[:, 0]
    steered = engine.activations(prompts, layers=[1], vector=vector, strengths=STRENGTHS)[:, 0]
    np.testing.assert_array_equal(steered, base + np.array(STRENGTHS, np.float32)[:, None] * vector.directions[1])


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_equal_their_twins(engine: Engine, rng: np.random.Generator, operator: Operator) -> None:
    prompts = [query.tokens for query in random_queries(engine, rng)]
    sides: tuple[Side, ...] = ("both",) if operator == "cap" else ("both", "positive", "negative")
    for il in (0, engine.n_layer - 1):
        vector = random_vector(engine, rng, (il,))
        base = engine.activations(prompts, layers=[il])[:, 0]
        for side in sides:
            strength = 0.0 if operator == "cap" else 0.7  # random rows lie on both sides of 0
            steered = engine.activations(
                prompts, layers=[il], steering=Steering(vector, strength, operator=operator, side=side)
            )[:, 0]
            expected = reference.apply(operator, base, vector.directions[il], strength, side)
            # both sides compute in float64; rows are float32 before and after, which is 6e-8 of each element
            errors = np.linalg.norm(steered - expected, axis=1) / np.linalg.norm(expected, axis=1)
            assert errors.max() <= 1e-5 and (steered != base).any()


def foreign(batch: Batch, rng: np.random.Generator, engine: Engine) -> Batch:
    """A batch of the same shape with other tokens: what it leaves in buffers is wrong for the first one."""
    queries = [
        Query(
            tuple(rng.integers(3, engine.n_vocab, len(query.tokens)).tolist()),
            tuple(tuple(token % (engine.n_vocab - 3) + 3 for token in tokens) for tokens in query.continuations),
        )
        for query in batch.queries
    ]
    own = [Steering(random_vector(engine, rng, (1,)), 1.0 + place) for place in range(len(queries))]
    (packed,) = engine.pack(queries, own)
    return packed


def test_resume_equals_the_full_pass(engine: Engine, rng: np.random.Generator) -> None:
    """Kept rows are read from the server and written there again, with another batch in between."""
    batch = one_batch(engine, rng, apart=True)
    other = foreign(batch, rng, engine)
    for first_layer in range(engine.n_layer):
        vector = random_vector(engine, rng, tuple({first_layer, engine.n_layer - 1}))
        full = engine.logits(batch, vector=vector, strengths=STRENGTHS)
        before = engine.token_layers
        base = engine.base(batch, first_layer=first_layer)
        cost_in_full = engine.token_layers - before
        assert base.resumed, base.reason
        for strengths in (STRENGTHS, STRENGTHS[::-1], STRENGTHS):
            engine.logits(other, vector=vector, strengths=2.0)
            before = engine.token_layers
            resumed = engine.logits(batch, vector=vector, strengths=strengths, base=base)
            assert engine.token_layers - before == cost_in_full * (engine.n_layer - first_layer - 1) // engine.n_layer
        np.testing.assert_array_equal(resumed, full)


def test_kl_and_the_most_likely_tokens(engine: Engine, rng: np.random.Generator) -> None:
    """Of logits that came from the server, against NumPy on the same logits."""
    batch, vector = one_batch(engine, rng), random_vector(engine, rng)
    steered = engine.logits(batch, vector=vector, strengths=1.0).astype(np.float64)
    unsteered = engine.logits(batch).astype(np.float64)
    base = engine.base(batch, first_layer=min(vector.layers), keep_logits=True)
    found = engine.measures(batch, steering=Steering(vector, 1.0), base=base, top_k=3)
    p, q = (reference.log_softmax(logits) for logits in (steered, unsteered))
    # the native sum of exponentials rounds each to float32, by 6e-8 of it
    np.testing.assert_allclose(found.kl, (np.exp(p) * (p - q)).sum(axis=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.top_tokens, np.argsort(-steered, axis=1, kind="stable")[:, :3])


def test_the_self_test_holds(engine: Engine) -> None:
    assert all(check.ok for check in run_self_test(engine))


@pytest.mark.parametrize(
    "options",
    [
        {"n_gpu_layers": 2},
        {"n_gpu_layers": -1, "offload_kqv": False},
        {"n_gpu_layers": -1, "flash_attn": "on"},
        {"n_gpu_layers": -1, "split_mode": "none"},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
def test_blocks_here_and_there(
    model_maker: ModelMaker, server: str, rng: np.random.Generator, options: dict[str, Any]
) -> None:
    """However the work is shared out, a row's identity holds and all rows are llama.cpp's."""
    path = model_maker("tiny-Q8_0")
    with Engine(path, n_ctx=512, threads=1, rpc=server, **options) as engine:
        batch, vector = one_batch(engine, rng), random_vector(engine, rng)
        np.testing.assert_array_equal(
            engine.logits(batch, vector=vector, strengths=1.0),
            engine.stock_logits(batch, vector),
        )
        prompts = [query.tokens for query in batch.queries]
        for il in vector.layers:
            only = vector.restricted_to([il])
            base = engine.activations(prompts, layers=[il])
            steered = engine.activations(prompts, layers=[il], vector=only, strengths=-0.3)
            np.testing.assert_array_equal(steered[:, 0], base[:, 0] + np.float32(-0.3) * vector.directions[il])


def test_several_devices_and_servers(model_maker: ModelMaker, server: str, rng: np.random.Generator) -> None:
    """Three devices share four blocks and the output; llama.cpp pipelines them."""
    path = model_maker("tiny-F32")
    second = Server(n_devices=2).address
    with Engine(path, n_ctx=512, threads=1, n_gpu_layers=-1, rpc=(server, second), tensor_split=(2, 1, 2)) as engine:
        assert engine.settings()["rpc"] == f"{server},{second}" and engine.settings()["tensor_split"] == "2,1,2"
        batch, vector = one_batch(engine, rng, apart=True), random_vector(engine, rng, (1, 2, 3))
        expected = engine.stock_logits(batch, vector)
        for _ in range(6):  # more often than llama.cpp keeps copies of the graph
            np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=1.0), expected)
        upper = vector.restricted_to([2, 3])
        full = engine.logits(batch, vector=upper, strengths=1.0)
        base = engine.base(batch, first_layer=2)
        for _ in range(6):
            engine.logits(foreign(batch, rng, engine), vector=vector, strengths=2.0)
            np.testing.assert_array_equal(engine.logits(batch, vector=upper, strengths=1.0, base=base), full)
        with pytest.raises(InputError, match="tensor_split has 4 shares for 3 devices"):
            Engine(path, n_gpu_layers=-1, rpc=(server, second), tensor_split=(1, 1, 1, 1))
        with pytest.raises(InputError, match="main_gpu is 3 of 3 devices"):
            Engine(path, n_gpu_layers=-1, rpc=(server, second), split_mode="none", main_gpu=3)
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=1.0), expected)


def test_two_engines_share_a_server(model_maker: ModelMaker, server: str, rng: np.random.Generator) -> None:
    """A server serves one client, and this process is one, through one connection."""
    path = model_maker("tiny-F32")
    with Engine(path, n_ctx=512, threads=1, n_gpu_layers=-1, rpc=server) as engine:
        batch, vector = one_batch(engine, rng, apart=True), random_vector(engine, rng)
        before = engine.logits(batch, vector=vector, strengths=STRENGTHS)
        with Engine(path, n_ctx=256, threads=1, n_gpu_layers=-1, rpc=server) as other:
            (small,) = other.pack(random_queries(other, rng, 2))
            other.logits(small, vector=vector, strengths=2.0)
            np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=STRENGTHS), before)
        del other
        np.testing.assert_array_equal(engine.logits(batch, vector=vector, strengths=STRENGTHS), before)


def test_the_blocks_are_on_the_server(model_maker: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERCPP_LOG", "1")
    code = (
        "from steercpp.engine.engine import Engine\n"
        "engine = Engine(sys.argv[1], threads=1, n_gpu_layers=-1, rpc=sys.argv[2])\n"  # left open when the process ends
    )
    own = Server().address
    run = python(code, model_maker("tiny-F32"), own)
    assert run.returncode == 0, run.stderr
    assert "offloaded 5/5 layers to GPU" in run.stderr
    assert f"RPC0[{own}] model buffer size" in run.stderr and f"RPC0[{own}] KV buffer size" in run.stderr


def test_an_engine_that_did_not_ask_uses_no_server(model_maker: ModelMaker) -> None:
    """Even where other code has entered the server's devices in ggml's list; a lost server would end the process."""
    code = (
        "from rpc_server import Ggml, Server, server_registry\n"
        "from steercpp.doctor.self_test import run_self_test\n"
        "from steercpp.engine.engine import Engine\n"
        "from steercpp.engine.model import devices\n"
        "server = Server()\n"
        "with Engine(sys.argv[1], threads=1, n_gpu_layers=-1, rpc=server.address):\n"
        "    pass\n"
        "assert not any(device['name'].startswith('RPC') for device in devices())\n"
        "Ggml().register(server_registry(server.address))\n"
        "server.stop()\n"
        "assert [device['total_bytes'] for device in devices() if device['name'].startswith('RPC')] == [0]\n"
        "with Engine(sys.argv[1], threads=1, n_gpu_layers=-1) as engine:\n"
        "    run_self_test(engine)\n"
        "print('done')\n"
    )
    run = python(code, model_maker("tiny-F32"))
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_lost_server_is_explained(model_maker: ModelMaker) -> None:
    """llama.cpp ends the process, in a thread that nobody can catch; it says why, in one line."""
    code = (
        "from rpc_server import Server\n"
        "from steercpp.doctor.self_test import run_self_test\n"
        "from steercpp.engine.engine import Engine\n"
        "server = Server()\n"
        "engine = Engine(sys.argv[1], threads=1, n_gpu_layers=-1, rpc=server.address)\n"
        "server.stop()\n"
        "run_self_test(engine)\n"
    )
    run = python(code, model_maker("tiny-F32"))
    assert run.returncode == -signal.SIGABRT
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith(
        "steercpp: an RPC server was lost, and llama.cpp ends the process then; what was stored"
    )


def test_a_server_that_cannot_be_reached_is_refused(model_maker: ModelMaker, server: str) -> None:
    path = model_maker("tiny-F32")
    with pytest.raises(EngineError, match="cannot be reached: Connection refused"):
        Engine(path, n_gpu_layers=-1, rpc=f"127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match="'127.0.0.1' is no HOST:PORT"):
        Engine(path, n_gpu_layers=-1, rpc="127.0.0.1")
    with pytest.raises(InputError, match="compute nothing while n_gpu_layers is 0"):
        Engine(path, n_gpu_layers=0, rpc=server)
    with Engine(path, threads=1, n_gpu_layers=-1, rpc=server) as engine:
        assert all(check.ok for check in run_self_test(engine))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, made in ARCHITECTURES.items() if not made.refused])
def test_architectures(server: str, tmp_path: Path, name: str) -> None:
    """Each is resumed as far as it is in host memory, with a foreign batch in between."""
    with Engine(
        ARCHITECTURES[name].write(tmp_path / "model.gguf"), n_ctx=512, threads=1, n_gpu_layers=-1, rpc=server
    ) as engine:
        queries = queries_for(engine.n_vocab)
        found = [resume(engine, queries, first) for first in FIRST_LAYERS]
        assert [difference for difference, _, _ in found] == [0] * len(found)
        assert tuple(n_left_out for _, n_left_out, _ in found) == ARCHITECTURES[name].left_out


def server_called(n_letters: int) -> str:
    """A server of two devices, named by so many letters: 127.0.0.000...1:40000."""
    host, port = Server(n_devices=2).address.split(":")
    return f"127.0.0.{'1'.zfill(n_letters - len(f'127.0.0.:{port}'))}:{port}" if n_letters else f"{host}:{port}"


@pytest.mark.slow
@pytest.mark.parametrize("n_letters", [0, 46])  # "RPC0[127.0.0.000...1:40000]#name#0" is cut after 63 bytes
@pytest.mark.parametrize("name", ["llama-gqa", "llama-moe", "gemma2", "gemma3", "gemma4-inputs", "gemma4-shared"])
def test_blocks_over_devices_whatever_they_are_called(tmp_path: Path, name: str, n_letters: int) -> None:
    """Resumed passes are full ones, and as much is left out as on one device: gemma2's nodes share names."""
    path, address = ARCHITECTURES[name].write(tmp_path / "model.gguf"), server_called(n_letters)
    for n_gpu_layers in (-1, 4, 2):  # two devices, with and without blocks on the CPU
        with Engine(path, n_ctx=512, threads=1, n_gpu_layers=n_gpu_layers, rpc=address) as engine:
            queries = queries_for(engine.n_vocab)
            found = [resume(engine, queries, first) for first in FIRST_LAYERS]
        assert [difference for difference, _, _ in found] == [0] * len(found)
        assert tuple(n_left_out for _, n_left_out, _ in found) == ARCHITECTURES[name].left_out


def test_names_of_devices_that_leave_no_room_for_others(tmp_path: Path) -> None:
    path, address = ARCHITECTURES["llama-gqa"].write(tmp_path / "model.gguf"), server_called(70)
    with Engine(path, n_ctx=512, threads=1, n_gpu_layers=4, rpc=address) as engine:
        found = [resume(engine, queries_for(engine.n_vocab), first) for first in FIRST_LAYERS]
    assert {difference for difference, _, _ in found} == {0}
    in_full = [reason for _, n_left_out, reason in found if n_left_out == 0]
    assert in_full and all("give the RPC servers shorter host names" in reason for reason in in_full)


def test_experts_in_host_memory(tmp_path: Path) -> None:
    """A GPU takes over large batches with weights in host memory: llama.cpp reads which experts before it is asked."""
    path = ARCHITECTURES["llama-moe"].write(tmp_path / "model.gguf")
    code = (
        "import numpy as np\n"
        f"sys.path.insert(0, {str(ROOT / 'tests' / 'tables')!r})\n"
        "from architecture_table import FIRST_LAYERS, queries_for, resume\n"
        "from rpc_server import Server, take_over_host_weights\n"
        "from steercpp.engine.engine import Engine\n"
        "server = Server().address\n"
        "take_over_host_weights(server)\n"
        "with Engine(sys.argv[1], n_ctx=512, threads=1, n_gpu_layers=2, rpc=server) as engine:\n"
        "    queries = queries_for(engine.n_vocab)\n"
        "    assert all(len(batch.passes[0].tokens) >= 32 for batch in engine.pack(queries))\n"
        "    print([resume(engine, queries, first)[:2] for first in FIRST_LAYERS])\n"
        "    prompts = [query.tokens for query in queries]\n"
        "    early, whole = (engine.activations(prompts, layers=layers) for layers in ([1], [1, engine.n_layer - 1]))\n"
        "    print(np.array_equal(early[:, 0], whole[:, 0]))\n"
    )
    run = python(code, path)
    assert (run.returncode, run.stdout) == (
        0,
        "[(0.0, 1), (0.0, 2), (0.0, 3), (0.0, 4), (0.0, 5), (0.0, 6)]\nTrue\n",
    ), run.stderr


def test_generation_side_by_side(engine: Engine, rng: np.random.Generator) -> None:
    """A row depends on its own steering and place alone; and steers at all."""
    (query,) = random_queries(engine, rng, 1)
    vector = random_vector(engine, rng, (1, 2))
    strengths = (0.0, 0.5, -0.5, 2.0)
    for exact in (False, True):

        def run(*asked: float, exact: bool = exact) -> list[tuple[int, ...]]:
            steering = [Steering(vector, strength) for strength in asked]
            found = generate(engine, query.tokens, steering, max_tokens=12, exact=exact)
            return [row.tokens for row in found.rows]

        rows = run(*strengths)
        assert len(set(rows)) > 1 and rows == run(*strengths)
        assert run(0.0, 0.5, 3.0, -2.0)[:2] == rows[:2]


def test_a_command_computes_on_a_server(model_maker: ModelMaker, server: str, tmp_path: Path) -> None:
    path, out, pairs = model_maker("tiny-Q8_0"), tmp_path / "v.gguf", tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"positive": f"good {i}", "negative": f"bad {i}"}) + "\n" for i in range(4)))
    asked = ["extract", path, "--pairs", pairs, "-o", out, "--layers", "1,2", "--threads", "1"]
    result = CliRunner().invoke(main, [*map(str, asked), "--gpu-layers", "-1", "--rpc", server])
    assert result.exit_code == 0, result.output
    with Engine(path, threads=1, n_gpu_layers=-1, rpc=server) as engine:
        expected = extract(engine, read_pairs(pairs), layers=[1, 2])
    found = read_vector(out)
    for il in (1, 2):
        np.testing.assert_array_equal(found.directions[il], expected.directions[il])
    lost = f"127.0.0.1:{free_port()}"
    refused = CliRunner().invoke(main, [*map(str, asked), "--force", "--gpu-layers", "-1", "--rpc", lost])
    assert refused.exit_code == 1 and "cannot be reached: Connection refused" in refused.stderr
