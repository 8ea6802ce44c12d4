"""What crosses between a program and its test, which run in two processes: values as plain data, and calls.

    Peer(read, write).ask("call", number=3, arguments=[...])      a request to the other side, and what it replies

A value crosses by what it is made of, never by what it says of itself: None, bool, int, float, complex, str, bytes,
bytearray, list, tuple, set, frozenset, dict, range and dict views; a few types of the standard library that are as
plain (`MADE`); built-in types and pure functions by name (`NAMED`); exceptions by the names of their classes; objects
of a class that the problem itself defines, by their attributes. An object of a subclass crosses as its plain base. A
function, an iterator or a coroutine stays where it is: the other side gets one of its own that asks for each call, item
or result. Anything else cannot cross (`CannotCrossError`).

Lists, sets, dicts and such objects that the test hands to a call keep their identity in it: what the program changes in
them is changed for the test too, and one that comes back is the same.
"""

from __future__ import annotations

import builtins
import enum
import itertools
import json
import os
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

MOST_BYTES = 64 << 20  # of a message
NO_MESSAGE = "the program wrote on the wire that carries its values"
TOO_DEEP = "a value is nested too deeply to cross between a program and its test"
_NAMES = (
    "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "chr", "complex", "dict", "divmod", "enumerate",
    "filter", "float", "frozenset", "hex", "int", "len", "list", "map", "max", "min", "object", "oct", "ord", "pow",
    "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "type", "zip",
)  # fmt: skip
NAMED: dict[str, Any] = {
    name: value
    for name, value in vars(builtins).items()
    if name in _NAMES or (isinstance(value, type) and issubclass(value, BaseException))
}
_NAME_OF = {id(value): name for name, value in NAMED.items()}
MADE: dict[str, Callable[[Any], list[Any]]] = {
    "decimal.Decimal": lambda value: [str(value)],
    "fractions.Fraction": lambda value: [value.numerator, value.denominator],
    "collections.deque": lambda value: [list(value), value.maxlen],
    "collections.Counter": lambda value: [dict(value)],
    "collections.OrderedDict": lambda value: [list(value.items())],
    "datetime.date": lambda value: [value.year, value.month, value.day],
    "datetime.time": lambda value: [value.hour, value.minute, value.second, value.microsecond],
    "datetime.timedelta": lambda value: [value.days, value.seconds, value.microseconds],
    "datetime.datetime": lambda value: [*value.timetuple()[:6], value.microsecond],
}
"""Types of the standard library by name, each with what one is made from; datetimes and times without a zone."""
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}


class CannotCrossError(Exception):
    """A value has no plain form, or what came is no message of ours."""


class AnswerLeftError(Exception):
    """The other side is gone."""


class Peer:
    """One side of the wire: asks, and while it waits for a reply serves what the other side asks meanwhile."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write = read, write
        self.lent: list[Any] = []  # functions, iterators and coroutines that the other side may use, by their place
        self.borrowed: dict[int, tuple[int, Any]] = {}  # the other side's by the id of what stands for them here
        self.classes: Mapping[str, Any] = {}  # the problem's own, by name
        self.load: Callable[[dict[str, Any]], Any] | None = None  # what the program's side does for "load"
        self.printed: Callable[[], str] = str  # gives what was printed here since it was asked last
        self.failed: Callable[[Exception], NoReturn] | None = None  # what the test's side does where nothing helps
        self._pid = os.getpid()
        self._one_at_a_time = threading.RLock()

    def ask(self, do: str, **request: Any) -> Any:
        """Make a request and wait for its value; what it raised there is raised here.

        Raises:
            CannotCrossError: a value that cannot cross, either way, or something that is no reply to this request.
            AnswerLeftError: the other side has ended.
        """
        try:
            with self._one_at_a_time:
                return self._ask(do, request)
        except (CannotCrossError, AnswerLeftError) as error:
            if self.failed is None:
                raise
            self.failed(error)

    def _ask(self, do: str, request: dict[str, Any]) -> Any:
        number = os.urandom(8).hex()  # a reply that was written before its request cannot know it
        packer = Packer(self)
        try:
            packed = {name: packer.pack(value) for name, value in request.items()}
        except RecursionError:
            raise CannotCrossError(TOO_DEEP) from None
        self._send({"ask": number, "do": do} | packed)
        while (message := self._receive()).get("ask") is not None:
            self.reply(message)
        if message.get("reply") != number:
            raise CannotCrossError(NO_MESSAGE)
        if printed := message.get("printed"):
            sys.stdout.write(str(printed).encode("utf-8", "replace").decode())
        if "failed" in message:
            raise CannotCrossError(str(message["failed"]))
        unpacker = Unpacker(self, packer.objects)
        changed = message.get("changed", [])
        if not isinstance(changed, list):
            raise CannotCrossError(NO_MESSAGE)
        for packed in changed:
            unpacker.unpack(packed)
        if "error" not in message:
            return unpacker.unpack(message.get("value"))
        error = unpacker.unpack(message["error"])
        if not isinstance(error, BaseException):
            raise CannotCrossError(NO_MESSAGE)
        raise error from None

    def serve(self) -> None:
        """Do what the other side asks, until it is gone."""
        while True:
            try:
                message = self._receive()
            except AnswerLeftError:
                return
            self.reply(message)

    def reply(self, message: dict[str, Any]) -> None:
        """Do one request and send what came of it."""
        reply: dict[str, Any] = {"reply": message.get("ask")}
        try:
            unpacker = Unpacker(self, {})
            request = {name: unpacker.unpack(value) for name, value in message.items() if name not in ("ask", "do")}
            packer = Packer(self, unpacker.objects)
            try:
                value = self._done(str(message.get("do")), request)
            except (CannotCrossError, AnswerLeftError):
                raise
            except BaseException as error:
                reply["error"] = packer.error(error)
            if _text(packer.afresh().pack(request.get("arguments"))) != _text(message.get("arguments")):
                whole = packer.afresh()
                reply["changed"] = [whole.contents(number) for number in list(unpacker.objects)]
            if "error" not in reply:
                packer.sent = set(unpacker.objects)  # the other side has them
                reply["value"] = packer.pack(value)
        except (CannotCrossError, RecursionError, MemoryError) as error:
            words = TOO_DEEP if isinstance(error, RecursionError) else str(error) or type(error).__name__
            reply = {"reply": message.get("ask"), "failed": words}
        self._send(reply | {"printed": self.printed()})

    def _done(self, do: str, request: dict[str, Any]) -> Any:
        if do in ("call", "next", "await"):
            number = request.get("number")
            if not isinstance(number, int) or not 0 <= number < len(self.lent):
                raise CannotCrossError(NO_MESSAGE)
            lent = self.lent[number]
        if do == "call":
            match request.get("arguments"):
                case [tuple(positional), dict(named)]:
                    return lent(*positional, **named)
            raise CannotCrossError(NO_MESSAGE)
        if do == "next":
            return next(lent, _END)
        if do == "await":
            import asyncio

            return asyncio.run(lent)
        if do != "load" or self.load is None:
            raise CannotCrossError(NO_MESSAGE)
        return self.load(request)

    def _send(self, message: dict[str, Any]) -> None:
        if os.getpid() != self._pid:  # a child that the program forked has come back here: it has no say
            os._exit(0)
        try:
            data = _text(message).encode()
        except RecursionError:
            if "reply" not in message:
                raise CannotCrossError(TOO_DEEP) from None
            data = _text({"reply": message["reply"], "failed": TOO_DEEP}).encode()
        data = len(data).to_bytes(4, "little") + data
        try:
            while data:
                data = data[os.write(self.write, data) :]
        except OSError:
            raise AnswerLeftError from None

    def _receive(self) -> dict[str, Any]:
        size = int.from_bytes(self._bytes(4), "little")
        if size > MOST_BYTES:
            raise CannotCrossError(f"a message of {size} bytes; at most {MOST_BYTES} cross")
        try:
            message = json.loads(self._bytes(size))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise CannotCrossError(NO_MESSAGE)
        return message

    def _bytes(self, n: int) -> bytes:
        parts = []
        while n:
            try:
                part = os.read(self.read, min(n, 1 << 20))
            except OSError:
                part = b""
            if not part:
                raise AnswerLeftError
            parts.append(part)
            n -= len(part)
        return b"".join(parts)


class _End:
    """What the end of an iterator is told by."""


_END = _End()


Steps = Generator[Any, Any, Any]
"""What is done with one value: it yields the values in it, is sent what came of each, and returns what comes of all."""
_LEAVES = frozenset((bool, int, float, str))
_LEVELS = 20  # that stand in each other in one row: JSON is read by recursion


def _each(values: Iterable[Any]) -> Steps:
    made = []
    for value in values:
        kind = type(value)
        whole = value is None or (kind in _LEAVES and (kind is not int or -(1 << 63) < value < 1 << 63))
        made.append(value if whole else (yield value))
    return made


def _run(do: Callable[[Any], Steps], value: Any, rows: list[Any] | None = None) -> Any:
    """Do a value and all in it, however deep, without Python's own stack; what is deep goes to the rows."""
    under_way, sent = [do(value)], None
    while True:
        try:
            inner = under_way[-1].send(sent)
        except StopIteration as end:
            sent = end.value
            under_way.pop()
            if not under_way:
                return sent
            if rows is not None and len(under_way) % _LEVELS == 0 and isinstance(sent, list):
                rows.append(sent)
                sent = {"@": len(rows) - 1}
        else:
            under_way.append(do(inner))
            sent = None


class Packer:
    """Values to what JSON can hold: plain ones as they are, others as [kind, ...]; changeable ones get numbers."""

    def __init__(self, peer: Peer, objects: dict[int, Any] | None = None) -> None:
        self.peer = peer
        self.objects = {} if objects is None else dict(objects)  # by number; they live here, so that ids stay theirs
        self.numbers = {id(value): number for number, value in self.objects.items()}
        self.sent: set[int] = set()  # numbers whose contents need not be told again
        self._next = itertools.count(1 + max(self.objects, default=0))

    def afresh(self) -> Packer:
        """One that knows the same numbers, and has sent nothing."""
        other = Packer(self.peer)
        other.objects, other.numbers, other._next = self.objects, self.numbers, self._next
        return other

    def pack(self, value: Any) -> Any:
        """One value; what is nested deeply stands in rows before it, for which others leave {"@": row}."""
        rows: list[Any] = []
        packed = _run(self._packed, value, rows)
        return ["@", rows, packed] if rows else packed

    def _packed(self, value: Any) -> Steps:
        kind = type(value)
        if value is None or kind in (bool, str, float):
            return value
        if kind is int:
            return value if -(1 << 63) < value < 1 << 63 else ["i", hex(value)]
        if kind is tuple:
            return ["t", (yield from _each(value))]
        if kind in (list, set, dict, bytearray) or self._is_given(value):
            return (yield from self._changeable(value))
        if kind is frozenset:
            return ["f", (yield from _each(value))]
        if kind is bytes:
            return ["y", value.hex()]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is range:
            return ["g", *(yield from _each((value.start, value.stop, value.step)))]
        if value is _END:
            return ["end"]
        if id(value) in self.peer.borrowed:
            return ["h", self.peer.borrowed[id(value)][0]]  # it comes home
        if (name := _NAME_OF.get(id(value))) is not None:
            return ["n", name]
        if isinstance(value, enum.Enum) and self.peer.classes.get(kind.__name__) is kind:
            return ["e", kind.__name__, value.name]
        if kind in _VIEWS:
            return ["w", _VIEWS[kind], (yield from _each(value))]
        if isinstance(value, BaseException):
            return self.error(value)
        if (name := f"{kind.__module__}.{kind.__qualname__}") in MADE:
            if getattr(value, "tzinfo", None) is not None:
                raise CannotCrossError(f"a {name} with a time zone cannot leave its process")
            return ["m", name, (yield from _each(MADE[name](value)))]
        return (yield from self._other(value))

    def error(self, error: BaseException) -> Any:
        """An exception: the names of its classes, its arguments as far as they are plain, and its text."""
        try:
            arguments = [self.afresh().pack(value) for value in error.args]
        except (CannotCrossError, RecursionError):
            arguments = [str(error)]
        names = [kind.__name__ for kind in type(error).__mro__]
        return ["x", names, arguments, error_text(error)]

    def contents(self, number: int) -> Any:
        """A changeable object that has this number, with what it holds now, once."""
        return self.pack(self.objects[number])

    def _changeable(self, value: Any) -> Steps:
        number = self.numbers.get(id(value))
        if number is None:
            number = next(self._next)
            self.numbers[id(value)], self.objects[number] = number, value
        if number in self.sent:
            return ["r", number]
        self.sent.add(number)
        kind = type(value)
        if kind is list:
            return ["l", number, (yield from _each(value))]
        if kind is dict:
            items = yield from _each([part for item in value.items() for part in item])
            return ["d", number, [list(pair) for pair in zip(items[::2], items[1::2], strict=True)]]
        if kind is set:
            return ["s", number, (yield from _each(value))]
        if kind is bytearray:
            return ["b", number, value.hex()]
        state = state_of(value)
        items = yield from _each([item for _, item in state])
        return ["o", number, kind.__name__, [[name, item] for (name, _), item in zip(state, items, strict=True)]]

    def _is_given(self, value: Any) -> bool:
        kind = type(value)
        return self.peer.classes.get(kind.__name__) is kind and not isinstance(value, _NOT_GIVEN)

    def _other(self, value: Any) -> Steps:
        for base, plain in _BASES.items():
            if isinstance(value, base):
                return (yield plain(value))
        kind = type(value)
        if hasattr(kind, "__next__"):
            return ["it", self._lent(value)]
        if isinstance(value, Coroutine):
            return ["co", self._lent(value)]
        if callable(value) and getattr(value, "__module__", None) != "builtins":
            return ["fn", self._lent(value), str(getattr(value, "__name__", "function"))]
        raise CannotCrossError(f"a value of type {kind.__name__} cannot cross between a program and its test")

    def _lent(self, value: Any) -> int:
        self.peer.lent.append(value)
        return len(self.peer.lent) - 1


_BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytearray(memoryview(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
}
"""Plain bases, each with how an object of a subclass becomes one."""
_METHODS = (types.FunctionType, staticmethod, classmethod)
_NOT_GIVEN = (*_BASES, BaseException, enum.Enum)


def state_of(value: Any) -> list[tuple[str, Any]]:
    """The attributes of an object: those of its dictionary, and its slots."""
    slots: list[str] = []
    for kind in type(value).__mro__:
        own = vars(kind).get("__slots__", ())
        slots += [own] if isinstance(own, str) else own
    held = [(name, getattr(value, name)) for name in slots if hasattr(value, name) and not name.startswith("__")]
    return held + list(getattr(value, "__dict__", {}).items())


class Unpacker:
    """The way back. What came is data alone: only types that are named here are made of it."""

    def __init__(self, peer: Peer, objects: dict[int, Any]) -> None:
        self.peer = peer
        self.objects = objects  # by number: those that are there are changed in place
        self._rows: dict[int, Any] = {}

    def unpack(self, packed: Any) -> Any:
        """One value.

        Raises:
            CannotCrossError: nothing that `Packer` writes.
        """
        try:
            return _run(self._made, packed)
        except CannotCrossError:
            raise
        except RecursionError:
            raise CannotCrossError(TOO_DEEP) from None
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
            raise CannotCrossError(NO_MESSAGE) from None

    def _made(self, packed: Any) -> Steps:
        if not isinstance(packed, list | dict):
            if packed is None or type(packed) in _LEAVES:
                return packed
            raise CannotCrossError(NO_MESSAGE)
        match packed:
            case ["@", list(rows), top]:  # each row is there once, before what it is part of
                outer, self._rows = self._rows, dict(enumerate(rows))
                made = yield top
                self._rows = outer
                return made
            case {"@": int(row)} if len(packed) == 1:
                return (yield self._rows.pop(row))
            case ["l", int(number), list(items)]:
                held = self._object(number, list)
                held[:] = yield from _each(items)
                return held
            case ["t", list(items)]:
                return tuple((yield from _each(items)))
            case ["d", int(number), list(pairs)]:
                held = self._object(number, dict)
                values = yield from _each([part for key, value in pairs for part in (key, value)])
                held.clear()
                held.update(zip(values[::2], values[1::2], strict=True))
                return held
            case ["s", int(number), list(items)]:
                held = self._object(number, set)
                values = yield from _each(items)
                held.clear()
                held.update(values)
                return held
            case ["r", int(number)]:
                return self.objects[number]
            case ["i", str(digits)]:
                return int(digits, 16)
            case ["f", list(items)]:
                return frozenset((yield from _each(items)))
            case ["y", str(digits)]:
                return bytes.fromhex(digits)
            case ["b", int(number), str(digits)]:
                held = self._object(number, bytearray)
                held[:] = bytes.fromhex(digits)
                return held
            case ["c", int() | float() as real, int() | float() as imaginary]:
                return complex(real, imaginary)
            case ["g", start, stop, step]:
                return range(*(yield from _each([start, stop, step])))
            case ["n", str(name)]:
                return NAMED[name]
            case ["e", str(name), str(member)]:
                return self._class(name, enum.Enum)[member]
            case ["h", int(number)] if number >= 0:
                return self.peer.lent[number]
            case ["end"]:
                return _END
            case ["w", str(view), list(items)]:
                values = yield from _each(items)
                if view == "keys":
                    return dict.fromkeys(values).keys()
                return dict(values).items() if view == "items" else dict(enumerate(values)).values()
            case ["x", list(names), list(arguments), str(text)]:
                return self._error(names, (yield from _each(arguments)), text)
            case ["m", str(name), list(parts)] if name in MADE:
                module, _, kind = name.partition(".")
                return getattr(__import__(module), kind)(*(yield from _each(parts)))
            case ["o", int(number), str(name), list(state)]:
                held = self._object(number, self._given_class(name))
                if hasattr(held, "__dict__"):
                    held.__dict__.clear()
                values = yield from _each([value for _, value in state])
                for (attribute, _), value in zip(state, values, strict=True):
                    if not _is_attribute(type(held), attribute):
                        raise ValueError(attribute)
                    object.__setattr__(held, attribute, value)
                return held
            case ["it", int(number)]:
                return self._borrowed(number, _items(self.peer, number))
            case ["co", int(number)]:
                return self._borrowed(number, _awaited(self.peer, number))
            case ["fn", int(number), str(name)]:
                return self._borrowed(number, _function(self.peer, number, name))
        raise ValueError(packed)

    def _object(self, number: int, kind: type) -> Any:
        held = self.objects.get(number)
        if held is None:
            held = self.objects[number] = kind() if kind in (list, dict, set, bytearray) else _bare(kind)
        if type(held) is not kind:
            raise ValueError(number)
        return held

    def _given_class(self, name: str) -> type:
        kind = self.peer.classes[name]
        if not isinstance(kind, type) or issubclass(kind, _NOT_GIVEN):
            raise ValueError(name)
        return kind

    def _class(self, name: str, base: Any) -> Any:
        kind = self.peer.classes[name]
        if not isinstance(kind, type) or not issubclass(kind, base):
            raise ValueError(name)
        return kind

    def _borrowed(self, number: int, value: Any) -> Any:
        self.peer.borrowed[id(value)] = number, value
        return value

    def _error(self, names: Sequence[Any], arguments: list[Any], text: str) -> BaseException:
        for name in names:
            kind = self.peer.classes.get(name) or NAMED.get(name)
            if isinstance(kind, type) and issubclass(kind, BaseException):
                error = kind.__new__(kind, *arguments)
                error.args = tuple(arguments)
                error.steercpp_text = text  # type: ignore[attr-defined]
                return error
        raise ValueError(names)


def _is_attribute(kind: type, name: Any) -> bool:
    """Whether an object of a class may be told to have an attribute: none of Python's own, and no method's name."""
    if not isinstance(name, str) or (name.startswith("__") and name.endswith("__")):
        return False
    own = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
    return not isinstance(own, _METHODS)


def _bare(kind: type) -> Any:
    """An object without attributes, for which no code of its class has run."""
    return object.__new__(kind)


def _function(peer: Peer, number: int, name: str) -> Callable[..., Any]:
    def function(*positional: Any, **named: Any) -> Any:
        return peer.ask("call", number=number, arguments=[positional, named])

    function.__name__ = function.__qualname__ = name
    return function


def _items(peer: Peer, number: int) -> Iterator[Any]:
    while (item := peer.ask("next", number=number)) is not _END:
        yield item


async def _awaited(peer: Peer, number: int) -> Any:
    return peer.ask("await", number=number)


def error_text(error: BaseException) -> str:
    """An exception as a traceback's last lines say it; of one that crossed, as it was said there."""
    told = getattr(error, "steercpp_text", None)
    if isinstance(told, str):
        return told
    import traceback

    return "".join(traceback.format_exception_only(type(error), error)).strip()[-2000:]


def _text(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"), check_circular=False)
