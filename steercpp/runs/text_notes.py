"""What a run's notes say of its generated texts: how many hold thoughts, and by which rule programs were judged."""

from __future__ import annotations

from steercpp.runs.code import judged_by_earlier_rule
from steercpp.runs.labels import CONTINUED, NUMBERED, Label
from steercpp.runs.store import Store

EARLIER_RULE = (
    "the programs were taken out of their answers and tested by the rule of an earlier version; score the run with "
    "`allow_code=True` to judge them by today's"
)


def text_notes(store: Store) -> tuple[str, ...]:
    """Sentences about the texts in a store; none where nothing is unusual."""
    replies = [
        text.reply
        for kind in (*CONTINUED, NUMBERED)
        for label in (Label.VECTOR, Label.PROMPT)
        for text in store.texts(label, kind)
    ]
    thinking = sum(bool(reply.thoughts) or reply.unfinished for reply in replies)
    unfinished = sum(reply.unfinished for reply in replies)
    notes = []
    if thinking:
        note = f"{thinking} of {len(replies)} generated texts hold thoughts; what is judged is the answer behind them"
        if unfinished:
            note += f", and {unfinished} ended inside their thoughts without one: allow more with `max_tokens`"
        notes.append(note)
    if judged_by_earlier_rule(store):
        notes.append(EARLIER_RULE)
    return tuple(notes)
