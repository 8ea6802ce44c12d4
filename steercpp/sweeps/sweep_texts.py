"""The part of a sweep that is said in words: which prompts, and reading what was said; read this to use a run's texts.

Behaviour items are continued at every strength under the label "vector", and with the instruction before each prompt,
unsteered, under "prompt"; code items at every strength. Both are planned with the sweep and done after its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from steercpp.data.code_prompts import code_prompt
from steercpp.data.prompts import Prompt, Template
from steercpp.data.tasks import BehaviorItem, CodeItem, Item
from steercpp.errors import InputError
from steercpp.judging.texts import SaidText
from steercpp.runs.store import Store

if TYPE_CHECKING:  # a run is read without the engine
    from steercpp.engine.engine import Engine
    from steercpp.sweeps.texts import Saying, Speech

BEHAVIOR, CODE, VECTOR, PROMPT = "behavior", "code", "vector", "prompt"
SAID = (BEHAVIOR, CODE)  # the kinds that can be


def check_said(saying: Saying | None, items: Mapping[str, Sequence[Item]]) -> None:
    """Make sure that what is to be said can be.

    Raises:
        InputError: code items without a way of saying, or nothing to say.
    """
    if saying is None and CODE in items:
        raise InputError("code items are answered in words; say how long with --max-new-tokens")
    if saying is not None and not set(items) & set(SAID):
        raise InputError("nothing to say: --max-new-tokens is for behavior and code items, and there are none")


def speeches(
    engine: Engine, saying: Saying | None, items: Mapping[str, Sequence[Item]], *, instruction: str
) -> tuple[Speech, ...]:
    """All prompts of a sweep that are to be continued.

    Args:
        engine: the model.
        saying: how; None for none.
        items: by kind.
        instruction: what the prompt baseline asks for; "" for no baseline.

    Raises:
        PromptError, ContextOverflowError: as `speech_of`.
    """
    if saying is None:
        return ()
    from steercpp.sweeps.texts import speech_of

    found = []
    if behavior := cast("Sequence[BehaviorItem]", items.get(BEHAVIOR, ())):
        asked: list[tuple[Prompt, Template]] = [(item.prompt, item.template) for item in behavior]
        found.append(speech_of(engine, behavior, asked, saying, kind=BEHAVIOR))
        if instruction:
            found.append(
                speech_of(engine, behavior, asked, saying, kind=BEHAVIOR, label=PROMPT, instruction=instruction)
            )
    if code := cast("Sequence[CodeItem]", items.get(CODE, ())):
        asked = [code_prompt(item, saying.code_template) for item in code]
        found.append(speech_of(engine, code, asked, saying, kind=CODE))
    return tuple(found)


def missing_texts(store: Store, manifest: Mapping[str, Any]) -> str | None:
    """Which planned texts a run lacks, in a user's words; None where all are there."""
    items = manifest["items"]
    if not manifest["plan"].get("said"):
        return None
    wanted = [(VECTOR, kind) for kind in SAID if kind in items]
    if BEHAVIOR in items and PROMPT not in manifest["controls_off"]:
        wanted.append((PROMPT, BEHAVIOR))
    for label, kind in wanted:
        if len(store.said_items(label, kind)) < items[kind]:
            return f"texts of {kind} items" + (" under the prompt baseline" if label == PROMPT else "")
    return None


def whole_texts(store: Store, label: str, kind: str, n_items: int) -> tuple[SaidText, ...]:
    """The texts of all items under a label; none where some item is still to be said."""
    return store.texts(label, kind) if len(store.said_items(label, kind)) == n_items else ()
