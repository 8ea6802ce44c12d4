"""An engine in a forked process: refused in a sentence, where it would wait for threads that did not come along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.errors import EngineError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# The parent opens an engine of so many threads and may run it; the child uses it, or one of its own.
PROGRAM = """
import os, signal, sys
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
path, threads, runs, own = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "runs", int(sys.argv[4])
def use(engine):
    query = Query(tuple(engine.encode("the man", template="raw")), ((5,),))
    return float(engine.logprobs(engine.pack([query])[0])[0][0])
engine = Engine(path, threads=threads)
first = use(engine) if runs else None
child = os.fork()
if child == 0:
    signal.alarm(60)
    try:
        print("used", use(Engine(path, threads=own) if own else engine), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
status = os.waitpid(child, 0)[1]
print("status", status, "same" if not runs or use(engine) == first else "other")
"""


def told(path: Path, threads: int, runs: bool, own: int) -> str:
    words = [str(path), str(threads), "runs" if runs else "waits", str(own)]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.stdout.endswith("status 0 same\n"), ended
    return ended.stdout


INHERITED = "EngineError {path}: the engine was opened by process "
PARALLEL = 'has decoded in several threads; start processes with multiprocessing.get_context("spawn")'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "runs", "own", "expected"),
    [
        (2, True, 0, INHERITED),
        (1, True, 0, INHERITED),
        (2, False, 0, INHERITED),
        (2, True, 2, PARALLEL),
        (2, True, 1, "used -"),
        (1, True, 2, "used -"),
        (2, False, 2, "used -"),
    ],
)
def test_a_forked_process(tiny_path: Path, threads: int, runs: bool, own: int, expected: str) -> None:
    assert expected.format(path=tiny_path) in told(tiny_path, threads, runs, own)


def test_every_way_into_a_session_is_checked(tiny_path: Path) -> None:
    """A session that looks as another process's, whatever is asked of it."""
    with Engine(tiny_path, threads=1) as engine:
        session = engine.session
        session._opened_in = os.getpid() + 1
        for use in (
            lambda: engine.logits(engine.alone(_query(engine))),
            lambda: session.copy_sequence(0, 1),
            lambda: session.cut_sequence(0, 0),
            lambda: engine.activations([(1, 2)], layers=(0,)),
        ):
            with pytest.raises(EngineError, match="of which this one is a fork; start processes with"):
                use()


def _query(engine: Engine) -> Query:
    return Query(tuple(engine.encode("the", template="raw")), ((5,),))
