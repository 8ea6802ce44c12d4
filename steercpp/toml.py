"""TOML of strangers: parsed in one place, once its keys and brackets are seen not to be deep.

Python's parser walks a dotted key from its start for each of its parts, and in memory each part of a header is a table.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

MOST_PARTS = 32  # of a key with dots, and of brackets in each other
_TOKENS = re.compile(  # what holds no key is passed over whole, where it is cut off up to the text's end
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)"{0,2}'
    r"|'''.*?(?:'''|\Z)'{0,2}"
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*"
    r"|[.=,\[\]{}\n]",
    re.DOTALL,
)


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML document says.

    Raises:
        ValueError: not TOML, or nested too deeply.

    >>> parse_toml("a.b = 1")
    {'a': {'b': 1}}
    >>> parse_toml("a" + ".a" * 20_000 + " = 1")
    Traceback (most recent call last):
      ...
    ValueError: line 1: a key has more than 32 parts
    """
    n_dots = depth = 0
    for token in _TOKENS.finditer(text):
        match token.group():
            case ".":
                n_dots += 1
            case "[" | "{":
                depth, n_dots = depth + 1, 0
            case "]" | "}":
                depth, n_dots = max(0, depth - 1), 0
            case "=" | "," | "\n":
                n_dots = 0
        if n_dots >= MOST_PARTS or depth > MOST_PARTS:
            what = (
                f"a key has more than {MOST_PARTS} parts"
                if depth <= MOST_PARTS
                else f"more than {MOST_PARTS} brackets stand in each other"
            )
            raise ValueError(f"line {text.count(chr(10), 0, token.start()) + 1}: {what}")
    return tomllib.loads(text)
