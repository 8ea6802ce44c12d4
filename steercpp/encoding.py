"""What JSON and UTF-8 can hold; read this to write a value as JSON or to check a text that came from JSON."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from os import PathLike, fsencode, fspath
from typing import Any
from unicodedata import category

from steercpp.errors import InputError


def json_ready(value: Any) -> Any:
    """The value in JSON's own types: arrays become lists, paths texts, and numbers that are not finite null."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, PathLike):
        return fspath(value)
    if hasattr(value, "tolist"):  # a numpy array or scalar, without importing numpy
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def spelled(name: str | PathLike[str]) -> str:
    r"""A file's name or path as a text that can be written: its bytes that are not UTF-8 as \xNN."""
    return fsencode(name).decode("utf-8", "backslashreplace")


def printable(content: str) -> str:
    r"""A text that a terminal takes: control characters spelled out, bytes of a path that are not UTF-8 as \xNN.

    So neither a file nor a model steers the user's terminal, and a path looks alike wherever it is told.
    """
    if content.isprintable():
        return content
    return "".join(letter if is_shown(letter) or letter == "\n" else _escaped(letter) for letter in content)


def is_shown(letter: str) -> bool:
    r"""Whether a terminal and a page show a letter as what it is: also spaces of scripts, and the joiners of emoji.

    Controls, marks of direction, other letters without width and separators of lines are not.

    >>> [is_shown(letter) for letter in "a\u200d\u3000\u202e"]
    [True, True, True, False]
    """
    return letter in "\u200c\u200d" or category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def one_line(content: str) -> str:
    """A sentence for a terminal: as `printable`, and line breaks, which a name may bring along, are spaces."""
    return printable(re.sub(r"[ \n]+", " ", content.replace("\r\n", "\n")).strip(" "))


def shell_word(word: str) -> str:
    r"""A word as a shell takes it, to be copied; what a terminal would obey, or cannot show, in $'...' of bash and zsh.

    >>> shell_word("my run"), shell_word("a\x1b[31m")
    ("'my run'", "$'a\\x1b[31m'")
    """
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_in_dollar_quotes, word))}'"


def shell_line(words: Iterable[str]) -> str:
    """A command as a shell takes it, to be copied."""
    return " ".join(map(shell_word, words))


def _in_dollar_quotes(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def visible(content: str) -> str:
    """A text for a page, on which nothing hides: as `printable`, and tabs stay."""
    return "\t".join(map(printable, content.split("\t")))


def _escaped(letter: str) -> str:
    is_byte = "\udc80" <= letter <= "\udcff"  # as Python holds a byte that it could not decode
    return spelled(letter) if is_byte else ascii(letter)[1:-1]


def refuse_half_characters(text: str, error: type[InputError], *, where: str = "") -> str:
    """The text itself; JSON can spell half of a surrogate pair, which no file and no tokenizer takes.

    Args:
        text: what is checked.
        error: what is raised.
        where: how the message begins, such as "positive: ".

    Raises:
        InputError: of the kind `error`: there is such a half, which the message shows.
    """
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        half = f"\\u{ord(text[problem.start]):04x}"
        raise error(f"{where}{half} is half of a character; write it whole") from problem
    return text
