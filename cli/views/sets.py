"""The sets that come with the package, as `steercpp data` lists and shows them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from steercpp.cli import output


def built_in() -> tuple[str, ...]:
    """Their names: behaviors, then capabilities."""
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, CAPABILITY_SETS

    return (*BEHAVIOR_SETS, *CAPABILITY_SETS)


def listed() -> list[dict[str, Any]]:
    """A few words about behavior."""
    from steercpp.data.items import kind_of
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, CAPABILITY_SETS, behavior_set, capability_set

    cards: list[dict[str, Any]] = []
    for behavior in map(behavior_set, BEHAVIOR_SETS):
        about = f"{behavior.about.rstrip('.')}: {len(behavior.items)} items, {len(behavior.pairs)} pairs"
        cards.append({"name": behavior.name, "about": about, "for": ["behavior", "pairs"], "licence": behavior.licence})
    for name in CAPABILITY_SETS:
        items = capability_set(name)
        cards.append({"name": name, "about": f"{len(items)} {kind_of(items[0])} items", "for": ["task"]})
    return cards


def shown(name: str, n_rows: int) -> dict[str, Any]:
    """One of them as plain data: its card, counts, and the first rows in the form of a file of one's own.

    Args:
        name: of `built_in`.
        n_rows: how many of the items, and of the pairs where there are any.
    """
    from steercpp.data.items import Item, item_json, kind_of
    from steercpp.data.prompts import prompt_json
    from steercpp.data.sets.builtin import BEHAVIOR_SETS, behavior_set, capability_set

    items: tuple[Item, ...]
    if name in BEHAVIOR_SETS:
        behavior = behavior_set(name)
        items, pairs = behavior.items, behavior.pairs
        card = {key: getattr(behavior, key) for key in ("about", "instruction", "opposite", "licence")}
    else:
        items, pairs, card = capability_set(name), (), {}
    subjects = Counter(item.subject for item in items if item.subject)
    sides = [
        {"id": pair.id, "positive": prompt_json(pair.positive), "negative": prompt_json(pair.negative)}
        for pair in pairs[:n_rows]
    ]
    return {
        "name": name, "built_in": True, "for": ["behavior", "pairs"] if pairs else ["task"], **card,
        "kind": kind_of(items[0]), "n_rows": len(items), "n_pairs": len(pairs), "counts": dict(subjects.most_common()),
        "rows": [item_json(item) for item in items[:n_rows]], "pairs": sides,
    }  # fmt: skip


def pieces(card: Mapping[str, Any]) -> list[output.Renderable]:
    """What a person sees of it."""
    uses = ", ".join(f"--{use} {card['name']}" for use in card["for"])
    known = [
        ("data set", f"{card['name']}, built in: nothing needs to be fetched"),
        ("for", uses),
        *((key, card[key]) for key in ("about", "instruction", "opposite", "licence") if key in card),
        ("rows", f"{card['n_rows']:,} {card['kind']} items"),
        *([("pairs", f"{card['n_pairs']:,}")] if card["n_pairs"] else []),
    ]
    shown: list[output.Renderable] = [output.facts(known)]
    if len(card["counts"]) > 1:
        rows = [[subject, f"{count:,}"] for subject, count in card["counts"].items()]
        shown.append(output.table([("subject", "left"), ("rows", "right")], rows))
    for row in (*card["rows"], *card["pairs"]):
        shown += [output.blank(), output.facts([(key, _words(value)) for key, value in row.items()])]
    return shown


def _words(value: Any) -> str:
    """A text as it is, a chat as its turns, texts on a line each, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in value):
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in value)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False)
