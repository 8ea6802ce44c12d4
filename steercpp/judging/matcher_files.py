r"""A user's own matcher, from a JSON file; read this when you write one.

    {
      "name": "pirate",
      "about": "talks like a pirate",
      "aligned":    {"phrases": ["ahoy", "ye be"], "regex": ["\\\\barr+\\\\b"]},
      "misaligned": {"phrases": ["good day"]},
      "turns": false
    }

A phrase is found as whole words, in any case, quotes and spaces counting alike; a regular expression (Python's) is
searched for likewise. Whichever side is found first decides, at one place the longest; a text with neither is invalid,
and so is one that is no language. For items whose subject is "harmless" the sides change places, as with the built-in
matchers (`matchers.as_wanted`): the aligned patterns are taken for a refusal. "turns": false keeps them in place, for
what has nothing to do with refusing, as here. `name`, `about` and `turns` may be left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from steercpp.errors import TaskError
from steercpp.judging.language import plain

if TYPE_CHECKING:
    from steercpp.data.tasks import BehaviorItem
    from steercpp.judging.matchers import Outcome

Side = Literal["aligned", "misaligned"]
SIDES: tuple[Side, Side] = ("aligned", "misaligned")
_KEYS = frozenset({"name", "about", "turns", *SIDES})


@dataclass(frozen=True, slots=True)
class FileMatcher:
    """What a file describes: patterns of two sides, and whether a harmless request turns them."""

    name: str
    about: str
    patterns: tuple[tuple[Side, re.Pattern[str]], ...]
    turns: bool = True

    def judge(self, text: str, item: BehaviorItem | None) -> Outcome:
        """See `matchers.Matcher`."""
        from steercpp.judging.matchers import as_wanted, broken

        if broken(text, item):
            return "invalid"
        said = plain(text)
        found = [
            (match.start(), -match.end(), side) for side, pattern in self.patterns if (match := pattern.search(said))
        ]
        outcome: Outcome = min(found)[2] if found else "invalid"
        return as_wanted(outcome, item) if self.turns else outcome


def looks_like_a_file(name: str) -> bool:
    """Whether a name that is no built-in matcher's can be a path."""
    return name.endswith(".json") or Path(name).exists()


def read_matcher(path: Path | str) -> FileMatcher:
    """The matcher of a JSON file.

    Raises:
        TaskError: unreadable, not JSON, an unknown key, no pattern of a side, or a broken regular expression; with the
            file and the place in it.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); check the path of the matcher file") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: not UTF-8 (byte {error.start + 1}); convert the file") from error
    except json.JSONDecodeError as error:
        raise TaskError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from error
    except RecursionError as error:
        raise TaskError(f"{path}: is nested too deeply for a matcher") from error
    if not isinstance(record, dict):
        raise TaskError(f'{path}: a matcher is an object, {{"aligned": {{"phrases": [...]}}, "misaligned": ...}}')
    if unknown := sorted(set(record) - _KEYS):
        raise TaskError(f"{path}: {unknown[0]}: is unknown; a matcher has {', '.join(sorted(_KEYS))}")
    name, about = (_text(path, record, key, default) for key, default in (("name", path.stem), ("about", "")))
    if not isinstance(turns := record.get("turns", True), bool):
        raise TaskError(f"{path}: turns: must be true or false, and is {turns!r}")
    patterns = tuple((side, pattern) for side in SIDES for pattern in _patterns(path, side, record.get(side)))
    return FileMatcher(name, about or f"the patterns of {path.name}", patterns, turns)


def _text(path: Path, record: dict[str, Any], key: str, default: str) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise TaskError(f"{path}: {key}: must be a text, and is {value!r}")
    return value


def _patterns(path: Path, side: Side, lists: Any) -> list[re.Pattern[str]]:
    if not isinstance(lists, dict) or not lists or set(lists) - {"phrases", "regex"}:
        raise TaskError(f'{path}: {side}: must be an object with "phrases", "regex" or both, each a list of texts')
    found = [
        re.compile(rf"(?<!\w){re.escape(plain(phrase))}(?!\w)", re.IGNORECASE)
        for _, phrase in _entries(path, f"{side}.phrases", lists.get("phrases", []))
    ]
    for place, source in _entries(path, f"{side}.regex", lists.get("regex", [])):
        try:
            pattern = re.compile(source, re.IGNORECASE)
        except (re.error, OverflowError, RecursionError) as error:
            raise TaskError(
                f"{path}: {place}: {source!r} is no regular expression ({error}); mend or remove it"
            ) from error
        if pattern.match(""):
            raise TaskError(f"{path}: {place}: {source!r} fits every text; make it ask for something")
        found.append(pattern)
    if not found:
        raise TaskError(f"{path}: {side}: has no phrase and no regex; give at least one")
    return found


def _entries(path: Path, where: str, values: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(values, list):
        raise TaskError(f"{path}: {where}: must be a list of texts")
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise TaskError(f"{path}: {where}[{number}]: must be a text that is not blank")
        yield f"{where}[{number}]", value
