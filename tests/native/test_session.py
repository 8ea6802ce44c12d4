"""What a session is given cannot make it read or write beyond its arrays, end the process, or be silently wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ARCHITECTURES
from gguf.constants import GGUFValueType
from gguf_keys import write_with_keys
from random_queries import one_batch, random_vector

from steercpp.engine.batch import Pass, Piece, Query
from steercpp.engine.engine import Engine
from steercpp.engine.operations import native_operations
from steercpp.engine.sampling import Sampling
from steercpp.engine.session import Result, Wanted
from steercpp.engine.steering import Steering
from steercpp.errors import InputError
from steercpp.vectors.gguf_header import Value


@pytest.fixture(scope="module")
def engine(tiny_path: Path) -> Iterator[Engine]:
    with Engine(tiny_path, n_ctx=512, threads=1) as opened:
        yield opened


@pytest.fixture
def pass_(engine: Engine, rng: np.random.Generator) -> Pass:
    return one_batch(engine, rng).passes[0]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq_offsets": lambda old: np.concatenate([ints(-3), old[1:]])}, "must begin at offset 0"),
        ({"seq_offsets": lambda old: np.concatenate([ints(1), old[1:]])}, "must begin at offset 0"),
        ({"seq_offsets": lambda old: np.concatenate([old[:1], old[2:3], old[1:2], old[3:]])}, "belongs to no sequence"),
        ({"seq_ids": lambda old: old + 256}, "outside 0..n_seq_max-1"),
        ({"seq_ids": lambda old: -1 - old}, "outside 0..n_seq_max-1"),
        ({"tokens": lambda old: -1 - old}, "a token is outside the vocabulary"),
        ({"positions": lambda old: old + 512}, "a position is outside the context"),
        ({"score_rows": lambda old: old + 10_000}, "a query's row is outside the plan"),
        ({"score_tokens": lambda old: old - 10_000}, "a query's token is outside the vocabulary"),
        ({"pieces": lambda old: (Piece(old[0].n_rows + 1), *old[1:])}, "do not add up"),
        ({"pieces": lambda old: (Piece(old[0].n_rows, ((0, 256, 1),)), *old[1:])}, "copies a sequence outside"),
        ({"pieces": lambda old: (Piece(old[0].n_rows, ((0, 1, 0),)), *old[1:])}, "copies no positions"),
        ({"pieces": lambda old: (Piece(old[0].n_rows, (), 256), *old[1:])}, "keeps a sequence outside"),
    ],
)
def test_a_pass_that_cannot_be(engine: Engine, pass_: Pass, changes: dict[str, Any], message: str) -> None:
    changed = replace(pass_, **{name: change(getattr(pass_, name)) for name, change in changes.items()})
    with pytest.raises(InputError, match=message):
        engine.session.decode(changed)
    assert np.isfinite(engine.session.decode(pass_).logprobs).all()


def test_a_missing_sampler(engine: Engine, pass_: Pass) -> None:
    row = int(np.flatnonzero(pass_.outputs)[0])
    with pytest.raises(InputError, match="a sampler is missing"):
        engine.session.decode(pass_, samplers=[(row, None)])  # type: ignore[list-item]


def test_a_sampler_of_another_vocabulary(engine: Engine, pass_: Pass) -> None:
    """It would read logits beyond the row's."""
    row = int(np.flatnonzero(pass_.outputs)[0])
    for n_vocab in (engine.n_vocab - 1, engine.n_vocab + 1):
        with pytest.raises(InputError, match="a sampler is for another vocabulary"):
            engine.session.decode(pass_, samplers=[(row, Sampling().sampler(n_vocab, ()))])


def streams(engine: Engine, n_seq_max: int) -> Any:
    return engine.open_session(n_ctx=256, n_batch=64, n_seq_max=n_seq_max, kv_unified=False)


def test_copies_between_streams(engine: Engine, pass_: Pass) -> None:
    """llama.cpp copies a stream's whole buffer, and ends the process where only a part is asked for."""
    session = streams(engine, 2)
    rows = one_sequence(ints(5, 6, 7, 8), ints(0, 1, 2, 3), ints(0, 0, 0, 0), np.ones(4, np.int8))
    with pytest.raises(InputError, match="copies of sequences need a unified K/V buffer"):
        session.decode(replace(rows, pieces=(Piece(2), Piece(2, ((0, 1, 1),)))))
    assert session.decode(rows, wanted=Wanted(logits=True)).logits.shape == (4, engine.n_vocab)


@pytest.mark.parametrize(("n_ctx", "n_seq_max"), [(2**24, 256), (2**31, 1), (2**31 - 1, 2)])
def test_more_cells_than_llama_cpp_counts(engine: Engine, n_ctx: int, n_seq_max: int) -> None:
    """In 32 bits 2^24 times 256 is 0, which llama.cpp takes for as many as the model was trained for."""
    with pytest.raises(InputError, match="n_ctx times n_seq_max is beyond 2147483647 cells; give other sizes"):
        engine.open_session(n_ctx=n_ctx, n_batch=256, n_seq_max=n_seq_max, kv_unified=False)


def test_no_cells(engine: Engine) -> None:
    with pytest.raises(InputError, match="n_ctx must be at least 1"):
        engine.open_session(n_ctx=0)


def one_sequence(tokens: np.ndarray, positions: np.ndarray, sequences: np.ndarray, outputs: np.ndarray) -> Pass:
    """A pass of one piece whose row i belongs to sequences[i] alone."""
    n, none = len(tokens), np.empty(0, np.int32)
    return Pass(
        tokens=tokens, positions=positions, owners=np.zeros(n, np.int32), regions=np.zeros(n, np.int8),
        seq_offsets=np.arange(n + 1, dtype=np.int32), seq_ids=sequences, outputs=outputs, prompt_ends=none,
        prompt_owners=none, score_rows=none, score_tokens=none, score_targets=none, pieces=(Piece(n),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sequences", "order"),
    [
        ((0, 1, 3, 4), (0, 1, 3, 4)),
        ((0, 0, 0, 1, 2), (0, 1, 2)),
        ((4, 4, 1, 3, 3, 3), (4, 1, 3)),
        ((0, 2, 1, 0, 1, 2, 0, 1), (2, 0, 1)),  # sequence 2 follows on, from its second row
    ],
)
def test_a_batch_that_llama_cpp_cuts_into_ubatches(
    engine: Engine, rng: np.random.Generator, sequences: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """Streams with a gap between their ids, or with unequally many tokens: each row has its own strength all the same.

    The first has two batches of 2 rows, as many as there are outputs; the second a row of each sequence, then what
    sequence 0 has left.
    """
    ids = ints(*sequences)
    positions = ints(*(sequences[:i].count(sequence) for i, sequence in enumerate(sequences)))
    outputs = np.array([sequence not in sequences[i + 1 :] for i, sequence in enumerate(sequences)], np.int8)
    rows = replace(
        one_sequence(ints(*range(5, 5 + len(ids))), positions, ids, outputs), owners=np.arange(len(ids), dtype=np.int32)
    )
    vector, strengths = random_vector(engine, rng, (1, 3)), rng.uniform(-2, 2, 8).astype(np.float32)
    steerings = tuple((Steering(vector, float(strengths[sequence])),) for sequence in sequences)
    wanted = Wanted(capture_layers=(1, engine.n_layer - 1), capture_rows=tuple(np.flatnonzero(outputs)), logits=True)
    found = streams(engine, 6).decode(rows, native_operations(steerings, rows.owners, rows.regions), wanted)
    for place, row in enumerate(np.flatnonzero(outputs)):
        own = [i for i, sequence in enumerate(sequences) if sequence == sequences[row]]
        lone = replace(
            one_sequence(rows.tokens[own], positions[own], ints(*[0] * len(own)), outputs[own]),
            owners=np.arange(len(own), dtype=np.int32),
        )
        acts = native_operations(tuple(steerings[i] for i in own), lone.owners, lone.regions)
        alone = streams(engine, 1).decode(lone, acts, replace(wanted, capture_rows=(len(own) - 1,)))
        # float32 sums of several rows are taken in another order than those of one
        np.testing.assert_allclose(found.logits[place], alone.logits[0], atol=1e-3)
        np.testing.assert_allclose(found.captures[:, place], alone.captures[:, 0], atol=1e-3)
    assert [int(sequences[row]) for row in np.flatnonzero(outputs)] == list(order)
    if len(set(sequences)) < len(sequences):
        with pytest.raises(InputError, match="llama.cpp cuts a piece into several batches"):
            streams(engine, 6).decode(rows, (), Wanted(keep_layer=1))


def test_whole_streams_are_copied_and_cut(engine: Engine, rng: np.random.Generator) -> None:
    """A copy goes on with the bits of the first, from where it is cut; nothing goes on from blocks computed in part."""
    session, logits = streams(engine, 3), Wanted(logits=True)
    tokens = ints(*rng.integers(3, engine.n_vocab, 6))
    ends = np.array([0, 0, 0, 0, 1, 0], np.int8)
    first = one_sequence(tokens, ints(*range(6)), ints(*[0] * 6), ends)
    session.decode(first, wanted=logits)
    session.copy_sequence(0, 2)
    session.cut_sequence(2, 4)
    step = [one_sequence(tokens[4:5], ints(4), ints(sequence), ends[4:5]) for sequence in range(3)]
    again = session.decode(step[2], wanted=logits, fresh=False).logits
    session.cut_sequence(0, 4)
    np.testing.assert_array_equal(session.decode(step[0], wanted=logits, fresh=False).logits, again)

    base = session.decode(first, wanted=Wanted(keep_layer=1)).base
    session.copy_sequence(0, 1)
    session.cut_sequence(1, 0)
    resumed = replace(first, seq_ids=ints(*[1] * 6))
    session.decode(resumed, base=base, fresh=False)
    session.cut_sequence(1, 4)
    with pytest.raises(InputError, match="cannot go on from one that computed some blocks only"):
        session.decode(step[1], wanted=logits, fresh=False)
    session.cut_sequence(1, 0)
    session.decode(resumed, base=base, keeps_below=True, fresh=False)
    session.cut_sequence(1, 4)
    np.testing.assert_array_equal(session.decode(step[1], wanted=logits, fresh=False).logits, again)
    for source, target in ((0, 3), (-1, 0), (1, 1)):
        with pytest.raises(InputError, match="sequence"):
            session.copy_sequence(source, target)


def test_a_row_out_of_range_fails_alone(engine: Engine, rng: np.random.Generator) -> None:
    """Each stream's rows are those of a run without the one that fails."""
    rows = replace(one_sequence(ints(5, 6, 7), ints(0, 0, 0), ints(0, 1, 2), np.ones(3, np.int8)), owners=ints(0, 1, 2))
    vector = random_vector(engine, rng, (1, 3))

    def run(*strengths: float) -> Result:
        steerings = tuple((Steering(vector, s),) for s in strengths)
        operations = native_operations(steerings, rows.owners, rows.regions)
        result: Result = streams(engine, 3).decode(rows, operations, Wanted(logits=True))
        return result

    found, expected = run(0.5, 1e30, -0.5), run(0.5, 0.0, -0.5)
    assert (found.failed_rows, found.nonfinite_row, expected.failed_rows) == ([1], 1, [])
    np.testing.assert_array_equal(found.logits[[0, 2]], expected.logits[[0, 2]])


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on a process's memory that holds")
def test_a_mask_too_large_for_memory_is_an_engine_error(tmp_path: Path) -> None:
    """C++ exceptions pass its C interface; here of a mask for which there is no memory. What was left out is back."""
    whole = ARCHITECTURES["gemma2"].write(tmp_path / "whole.gguf")
    window = Value(GGUFValueType.UINT32, 2**30)
    path = write_with_keys(whole, tmp_path / "changed.gguf", {"gemma2.attention.sliding_window": window})
    code = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from steercpp.engine.batch import Query\n"
        "from steercpp.engine.engine import Engine\n"
        "from steercpp.errors import EngineError\n"
        "with Engine(sys.argv[1], threads=1, n_ctx=256) as engine:\n"
        "    (batch,) = engine.pack([Query((1, 5, 6, 7), ((8,), (9,)))])\n"
        "    base = engine.base(batch, first_layer=3)\n"
        "    before = engine.logits(batch), engine.logits(batch, base=base)\n"
        "    _, most = resource.getrlimit(resource.RLIMIT_AS)\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (2**30, most))\n"
        "    for given in (None, base):\n"
        "        try:\n"
        "            engine.logits(batch, base=given)\n"
        "        except EngineError as error:\n"
        "            print(str(error).removeprefix(sys.argv[1]))\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "    after = engine.logits(batch), engine.logits(batch, base=base)\n"
        "    print(*map(np.array_equal, before, after))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    said = ": llama_decode failed: std::bad_alloc; lower `n_batch` or `n_ctx`, or check the model file\n"
    assert run.stdout == 2 * said + "True True\n", run.stderr


def test_a_pass_of_all_queries_goes_on(engine: Engine) -> None:
    """An error leaves nothing behind: the next pass has the bits of the first."""
    (batch,) = engine.pack([Query((1, 5, 6), ((7,),))])
    before = engine.logits(batch)
    with pytest.raises(InputError):
        engine.session.decode(replace(batch.passes[0], seq_offsets=batch.passes[0].seq_offsets - 1))
    np.testing.assert_array_equal(engine.logits(batch), before)
