"""Ways to damage bytes and documents; read this for the draws that formats share."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator

DEPTH = 100_000


def flip(data: bytes, rng: Rng) -> bytes:
    """One to eight bits turned."""
    spoiled = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if spoiled else 0):
        spoiled[int(rng.integers(len(spoiled)))] ^= 1 << int(rng.integers(8))
    return bytes(spoiled)


def cut(data: bytes, rng: Rng) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(len(data) + 1))]


def remove(data: bytes, rng: Rng) -> bytes:
    """A piece is missing."""
    start = int(rng.integers(len(data) + 1))
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def duplicate(data: bytes, rng: Rng) -> bytes:
    """A piece comes twice, or a thousand times."""
    start = int(rng.integers(len(data) + 1))
    piece = data[start : start + int(rng.integers(1, 200))]
    return data[:start] + piece * int(rng.choice([1, 1, 2, 1000])) + data[start:]


def insert(data: bytes, rng: Rng) -> bytes:
    """Bytes that do not belong there."""
    start = int(rng.integers(len(data) + 1))
    return data[:start] + rng.bytes(int(rng.integers(1, 64))) + data[start:]


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Four or eight bytes are those of a number that is too large, or nothing."""
    size = int(rng.choice([4, 8]))
    number = (
        int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])) if size == 4 else 2 ** int(rng.choice([0, 32, 62, 63]))
    )
    start = int(rng.integers(max(1, len(data) - size + 1)))
    return data[:start] + number.to_bytes(size, "little") + data[start + size :]


def from_elsewhere(data: bytes, rng: Rng) -> bytes:
    """A piece is overwritten by another piece."""
    start, source = (int(rng.integers(len(data) + 1)) for _ in range(2))
    piece = data[source : source + int(rng.integers(1, 200))]
    return data[:start] + piece + data[start + len(piece) :]


BYTES: tuple[Callable[[bytes, Rng], bytes], ...] = (flip, cut, remove, duplicate, insert, overwrite, from_elsewhere)


def spoil_bytes(data: bytes, rng: Rng) -> bytes:
    """One to three of the above."""
    for _ in range(int(rng.integers(1, 4))):
        data = BYTES[int(rng.integers(len(BYTES)))](data, rng)
    return data


def odd_value(rng: Rng) -> Any:
    """A value that is seldom meant."""
    values: list[Any] = [
        None, True, False, 0, -1, 1, 2, 7, 0.5, -0.0, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64,
        10**25, "", " ", "text", "0", "1.5", "\x00", "\x1b[31mred", "\ud800", "é" * 3, "a" * 100_000, "$\\frac$",
        "{prompt}", "{", "%s", "../../etc/passwd", "(a+)+$", [], {}, [[]], [None], [1, 2, 3], ["a", 1], {"": ""},
        {"a": {"b": [1]}}, [0] * 10_000,
    ]  # fmt: skip
    return values[int(rng.integers(len(values)))]


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a document of dicts and lists has values: the keys and indices that lead there."""
    found = [at]
    if isinstance(document, dict):
        for key, value in document.items():
            found += places(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document[:50]):
            found += places(value, (*at, index))
    return found


def spoil_document(document: Any, rng: Rng) -> Any:
    """One to three values of a document replaced, removed, renamed, repeated or moved."""
    document = copy.deepcopy(document)
    for _ in range(int(rng.integers(1, 4))):
        known = places(document)
        at = known[int(rng.integers(len(known)))]
        if not at:
            if rng.random() < 0.2:
                document = odd_value(rng)
            continue
        holder = document
        for key in at[:-1]:
            holder = holder[key]
        kind = int(rng.integers(6))
        if kind <= 2:
            holder[at[-1]] = odd_value(rng)
        elif kind == 3:
            del holder[at[-1]]
        elif kind == 4:
            other = known[int(rng.integers(len(known)))]
            value = document
            for key in other:
                value = value[key]
            holder[at[-1]] = copy.deepcopy(value)
        elif isinstance(holder, dict):
            holder[str(odd_value(rng))] = holder.pop(at[-1])
        else:
            holder += [copy.deepcopy(holder[at[-1]])] * int(rng.choice([1, 1000]))
    return document


def spoil_json(text: str, rng: Rng) -> str:
    """What JSON's writers never write: long numbers, deep nesting, a key twice, a comment, NaN."""
    digits = "1" * int(rng.choice([20, 400, 5000, 100_000]))
    depth = int(rng.choice([50, 1000, 3000, DEPTH]))
    pieces = [
        digits, f"-{digits}", f"0.{digits}", f"1e{digits[:30]}", "1e400", "[" * depth, "[" * depth + "]" * depth,
        '{"a":' * depth + "1" + "}" * depth, "NaN", "Infinity", '"\\ud800"', "// comment", ",", '"', "\x00",
        "\ufeff", "\u2028", '"' + "\\n" * 100_000 + '"', "null", "{}", '{"a": 1, "a": 2}',
    ]  # fmt: skip
    piece = pieces[int(rng.integers(len(pieces)))]
    marks = [index for index, letter in enumerate(text) if letter in ":,[{"] or [0]
    start = marks[int(rng.integers(len(marks)))] + 1
    ends = [index for index, letter in enumerate(text) if letter in ",]}" and index >= start] or [len(text)]
    return text[:start] + piece + text[ends[0] if rng.random() < 0.7 else start :]


def spoiled_json_lines(rows: list[Any], rng: Rng) -> bytes:
    """A JSON Lines file of which one row, or the bytes, are damaged."""
    return _spoiled_json("\n".join(json.dumps(row) for row in rows), rows, rng, lines=True)


def spoiled_json(document: Any, rng: Rng) -> bytes:
    """A JSON file of which a value, the writing or the bytes are damaged."""
    return _spoiled_json(json.dumps(document), document, rng, lines=False)


def _spoiled_json(text: str, document: Any, rng: Rng, *, lines: bool) -> bytes:
    kind = int(rng.integers(4))
    if kind <= 1 and lines:
        rows = list(document)
        index = int(rng.integers(len(rows)))
        rows[index] = spoil_document(rows[index], rng)
        return "\n".join(json.dumps(row) for row in rows).encode()
    if kind <= 1:
        return json.dumps(spoil_document(document, rng)).encode()
    if kind == 2:
        return spoil_json(text, rng).encode("utf-8", "surrogatepass")
    return spoil_bytes(text.encode(), rng)
