"""Keywords that are passed on, such as those of `Engine` to its devices: one that nobody knows is refused here.

Python's own TypeError would name whom they are passed on to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from steercpp.errors import InputError


def refuse_unknown(taker: Callable[..., Any], given: Collection[str], passed_to: type[Any]) -> None:
    """Refuse keywords that are neither the caller's own nor those of what they are passed on to.

    Args:
        taker: what a user calls.
        given: the keywords that are passed on.
        passed_to: the dataclass whose attributes they are.

    Raises:
        InputError: one is unknown; the nearest one is named, or what there is where none is near.
    """
    taken = [field.name for field in fields(passed_to) if field.init]
    if not (unknown := sorted(set(given) - set(taken))):
        return
    own = inspect.signature(taker).parameters.values()
    known = [*(parameter.name for parameter in own if parameter.kind is not parameter.VAR_KEYWORD), *taken]
    near = get_close_matches(unknown[0].lower(), known, n=1)
    step = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(known)}"
    raise InputError(f"{taker.__name__} takes no parameter `{unknown[0]}`; {step}")
