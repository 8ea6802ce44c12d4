"""What crosses between a program and its test: values, identity, calls both ways, errors; and what cannot."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from steercpp.judging.sandbox_values import AnswerLeftError, CannotCrossError, Peer

CODE = '''
import asyncio, collections, dataclasses, datetime, decimal, enum, fractions
class Color(enum.Enum):
    RED = 1
class Mine(Exception): pass
@dataclasses.dataclass
class Node:
    value: int
    next: object = None
class Own: pass
class Big(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
Point = collections.namedtuple("Point", "x y")
def same(x): return x
def changed(xs): xs.append(xs); xs[0] = 1.0; return xs
def deeper(d): d["a"]["b"].add(3); d["new"] = d["a"]
def both(a, b): return a is b
def raising(x): raise x
def mine(): raise Mine("told", 3)
def counting():
    n = 0
    while True: yield n; n += 1
def applied(f, *a, **k): return f(*a, **k)
def adder(n): return lambda x: x + n
async def later(x): return x + 1
def nested(n):
    value = []
    for _ in range(n): value = [value]
    return value
def shown(x): print("shown", x)
'''  # fmt: skip
GIVEN = ("Color", "Mine", "Node")


@pytest.fixture
def program() -> Iterator[dict[str, Any]]:
    """The functions of CODE, each of which is called in another thread, over pipes."""
    (read_request, write_request), (read_reply, write_reply) = os.pipe(), os.pipe()
    here, there = Peer(read_reply, write_request), Peer(read_request, write_reply)
    theirs: dict[str, Any] = {"__name__": "program"}
    exec(compile(CODE, "program", "exec", dont_inherit=True), theirs)

    def load(request: dict[str, Any]) -> dict[str, Any]:
        return {name: theirs[name] for name in request["names"]}

    there.load = load
    there.classes = here.classes = {name: theirs[name] for name in GIVEN}
    thread = threading.Thread(target=there.serve)
    thread.start()
    names = [name for name, value in theirs.items() if callable(value) and name not in GIVEN]
    try:
        yield here.ask("load", names=names) | {name: theirs[name] for name in GIVEN} | {"here": here, "there": there}
    finally:
        os.close(write_request)
        thread.join()
        for end in (read_request, read_reply, write_reply):
            os.close(end)


def plain_values() -> list[Any]:
    import collections
    import datetime
    import decimal
    import fractions

    return [
        None, True, 0, -7, 2**63, -(10**5000), 1.5, -0.0, math.inf, 1e-320, 1 + 2j, "", "\ud800 \x00 é",
        b"\x00\xff",
        bytearray(b"x"), [], [1, [2, (3,)]], (), (1, "a"), {1, "a"}, frozenset({(1, 2)}), {},
        {"a": {1: [None]}, (1,): 2},
        range(3, 9, 2), int, ValueError, len, decimal.Decimal("1.10"), fractions.Fraction(1, 3),
        collections.deque([1, 2], 5), collections.Counter("aab"), collections.OrderedDict([(2, 1), (1, 2)]),
        datetime.date(2026, 2, 3), datetime.datetime(2026, 2, 3, 4, 5, 6, 7), datetime.timedelta(1, 2, 3),
    ]  # fmt: skip


def test_plain_values_come_back_the_same(program: dict[str, Any]) -> None:
    for value in plain_values():
        back = program["same"](value)
        assert type(back) is type(value) and back == value, value
    assert math.copysign(1, program["same"](-0.0)) == -1 and math.isnan(program["same"](math.nan))
    assert list(program["same"]({"a": 1}.items())) == [("a", 1)] and program["same"]({"a": 1}.keys()) == {"a"}


def test_changes_and_identity_are_those_of_one_process(program: dict[str, Any]) -> None:
    xs: list[Any] = [1, 2]
    back = program["changed"](xs)
    assert back is xs and xs[2] is xs and type(xs[0]) is float, "1 and 1.0 are equal, and not the same"
    inner: dict[str, Any] = {"b": {1}}
    outer = {"a": inner}
    assert program["deeper"](outer) is None
    assert inner == {"b": {1, 3}} and outer["new"] is inner
    assert program["both"](xs, xs) is True and program["both"]([1], [1]) is False
    same = program["same"]([inner, inner])
    assert same[0] is inner and same[1] is inner


def test_objects_of_the_problems_own_classes_cross_by_their_attributes(program: dict[str, Any]) -> None:
    node = program["Node"](1, program["Node"](2))
    back = program["same"](node)
    assert back is node and back.next.value == 2
    assert program["same"](program["Color"].RED) is program["Color"].RED
    with pytest.raises(program["Mine"]) as told:
        program["mine"]()
    assert told.value.args == ("told", 3)


def test_subclasses_become_their_plain_base(program: dict[str, Any]) -> None:
    """So no object comes that is equal to everything."""
    big = program["Big"](3)
    assert type(big) is int and big == 3 and big != 4
    assert program["Point"](1, 2) == (1, 2) and type(program["Point"](1, 2)) is tuple


def test_calls_go_both_ways(program: dict[str, Any]) -> None:
    import asyncio

    numbers = program["counting"]()
    assert [next(numbers) for _ in range(3)] == [0, 1, 2]
    assert program["adder"](3)(4) == 7
    assert program["applied"](lambda x, y=0: [x, y], 1, y=2) == [1, 2]
    assert program["applied"](program["adder"](1), 5) == 6, "its own function comes home"
    assert program["applied"](sorted, [2, 1]) == [1, 2]
    assert program["applied"](sum, iter([1, 2])) == 3
    assert asyncio.run(program["later"](1)) == 2
    function = program["adder"]
    assert program["same"](function) is not None and program["same"](function)(1)(1) == 2

    def refuse() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        program["applied"](refuse)


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError(3), StopIteration(), KeyboardInterrupt("k"), OSError(2, "x")]
)
def test_errors_are_raised_where_they_are_asked_for(program: dict[str, Any], error: BaseException) -> None:
    with pytest.raises(type(error)) as told:
        program["raising"](error)
    assert told.value.args == error.args


def test_what_cannot_cross_says_so(program: dict[str, Any]) -> None:
    with pytest.raises(CannotCrossError, match="type Own cannot cross"):
        program["Own"]()
    with pytest.raises(CannotCrossError, match="type lock cannot cross"):
        program["same"](threading.Lock())
    assert program["same"](1) == 1, "and the next call is as any other"


def test_what_is_nested_deeply_crosses(program: dict[str, Any]) -> None:
    """Past some 300 levels a right answer failed; equality itself cannot be asked for, it recurses."""
    value, depth = program["nested"](50_000), 0
    while value:
        (value,), depth = value, depth + 1
    assert depth == 50_000
    chain: Any = None
    for i in range(12_000):
        chain = {"value": i, "next": (chain,)} if i % 2 else [i, chain]
    back = program["same"](chain)
    assert back is chain, "what the test handed over is the same"
    node: Any = None
    for i in range(12_000):
        node = program["Node"](i, node) if i < 2 else type(node)(i, node)
    held, n = program["same"](node), 0
    while held is not None:
        held, n = held.next, n + 1
    assert n == 12_000
    wide = [[[i, str(i)] for i in range(3000)], ValueError([[[[]]]] * 3), {(1, (2.5, None)): {"a": [1 << 70]}}]
    assert str(program["same"](wide)) == str(wide)


def test_what_a_call_prints_comes_with_its_reply(program: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    program["there"].printed = iter(["told\n", ""]).__next__
    program["same"](1)
    assert capsys.readouterr().out == "told\n"


FORGED = [
    b"", b"[]", b"1", b"\xff", b"{}", b'{"reply": 1}', b'{"reply": "NUMBER", "value": ["?"]}',
    b'{"reply": "NUMBER", "value": ["o", 1, "Peer", []]}',
    b'{"reply": "NUMBER", "value": ["m", "os.system", ["true"]]}',
    b'{"reply": "NUMBER", "error": 3}', b'{"reply": "NUMBER", "error": ["x", ["int"], [], ""]}',
    b'{"reply": "NUMBER", "changed": 3}', b'{"reply": "NUMBER", "changed": [["l", 99, 3]]}',
    b'{"reply": "NUMBER", "value": ["d", 50, [[["l", 51, []], 1]]]}', b'{"reply": "NUMBER", "value": {"a": 1}}',
    b'{"reply": "NUMBER", "value": ["h", -1]}', b'{"reply": "NUMBER", "value": ["n", "exec"]}',
    b'{"reply": "NUMBER", "value": ["e", "Peer", "x"]}', b'{"reply": "NUMBER", "value": ["l", 1, [["s", 1, []]]]}',
    b'{"reply": "NUMBER", "value": ["@", [{"@": 0}], {"@": 0}]}', b'{"reply": "NUMBER", "value": {"@": 0}}',
    b'{"reply": "NUMBER", "value": ["@", [["l", 9, []]], ["l", 8, [{"@": 0}, {"@": 0}]]]}',
    b'{"reply": "NUMBER", "failed": ""}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("told", FORGED, ids=range(len(FORGED)))
def test_what_is_no_message_is_refused(told: bytes) -> None:
    (read_request, write_request), (read_reply, write_reply) = os.pipe(), os.pipe()
    peer = Peer(read_reply, write_request)

    def answer() -> None:
        size = int.from_bytes(os.read(read_request, 4), "little")
        number = json.loads(os.read(read_request, size))["ask"].encode()
        data = told.replace(b"NUMBER", number)
        os.write(write_reply, len(data).to_bytes(4, "little"))
        for start in range(0, len(data), 1 << 12):
            os.write(write_reply, data[start : start + (1 << 12)])

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(CannotCrossError):
        peer.ask("call", number=0, arguments=[(), {}])
    thread.join()
    os.close(write_reply)
    with pytest.raises(AnswerLeftError):
        peer.ask("call", number=0, arguments=[(), {}])
    for end in (read_request, write_request, read_reply):
        os.close(end)
