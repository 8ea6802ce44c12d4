"""The texts of a sweep on disk: what was said at each strength, and the verdicts on code among it.

    said(label, kind, item, token_layers, token_layers_plain)   what is finished: one item under all its strengths, the
                                                      unit of work and of going on; with tokens times blocks computed,
                                                      and what as many runs one after the other would compute
    texts(label, kind, strength, item, sample, text, n_tokens, finish, nats)   see `SaidText`
    verdicts(label, kind, strength, item, sample, passed, reason)

`label` is "vector", or "prompt" for the prompts that ask for the behaviour in words.
"""

from __future__ import annotations

from collections.abc import Iterable

from steercpp.judging.texts import SaidText, Verdict
from steercpp.runs.store_file import StoreFile, damaged

SCHEMA = """
CREATE TABLE said (label TEXT, kind TEXT, item INTEGER, token_layers INTEGER NOT NULL,
    token_layers_plain INTEGER NOT NULL, PRIMARY KEY (label, kind, item)) WITHOUT ROWID;
CREATE TABLE texts (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, text TEXT NOT NULL,
    n_tokens INTEGER NOT NULL, finish TEXT NOT NULL, nats REAL,
    PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
CREATE TABLE verdicts (label TEXT, kind TEXT, strength REAL, item INTEGER, sample INTEGER, passed INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (label, kind, strength, item, sample)) WITHOUT ROWID;
"""
_FINISHES = ("length", "stop", "end", "nonfinite")


class TextStore(StoreFile):
    """The part of a store that holds texts and verdicts."""

    def add_texts(
        self, label: str, kind: str, item: int, texts: Iterable[SaidText], *, token_layers: int, token_layers_plain: int
    ) -> None:
        """Commit what was said of one item, under all strengths.

        Args:
            label: under which name.
            kind: of the item.
            item: its number.
            texts: all of it.
            token_layers: tokens times blocks computed for it.
            token_layers_plain: the same for as many runs one after the other.

        Raises:
            RunError: it cannot be written; what was committed stays.
        """
        values = [
            (label, kind, one.strength, item, one.sample, one.text, one.n_tokens, one.finish, one.nats) for one in texts
        ]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            row = (label, kind, item, token_layers, token_layers_plain)
            self._db.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?, ?)", row)

    def said_items(self, label: str, kind: str) -> set[int]:
        """Numbers of the items of which all has been said under a label."""
        return {item for (item,) in self._rows("SELECT item FROM said WHERE label = ? AND kind = ?", label, kind)}

    def said_work(self) -> tuple[int, int]:
        """Tokens times blocks computed for all texts, and those of as many runs one after the other."""
        query = "SELECT coalesce(sum(token_layers), 0), coalesce(sum(token_layers_plain), 0) FROM said"
        ((done, plain),) = self._rows(query)
        return int(done), int(plain)

    def texts(self, label: str, kind: str) -> tuple[SaidText, ...]:
        """Everything said under a label for one kind of item, by strength, item and sample."""
        query = """SELECT strength, item, sample, text, n_tokens, finish, nats FROM texts
            WHERE label = ? AND kind = ? ORDER BY strength, item, sample"""
        found = tuple(SaidText(*row) for row in self._rows(query, label, kind))
        if any(one.finish not in _FINISHES for one in found):
            raise damaged(self.path, "a text has ended in an unknown way")
        return found

    def add_verdicts(self, label: str, kind: str, verdicts: Iterable[Verdict]) -> None:
        """Commit verdicts on texts, all or none of them.

        Raises:
            RunError: they cannot be written; what was committed stays.
        """
        values = [(label, kind, one.strength, one.item, one.sample, int(one.passed), one.reason) for one in verdicts]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def verdicts(self, label: str, kind: str) -> tuple[Verdict, ...]:
        """Every verdict on a kind of item, by strength, item and sample."""
        query = """SELECT strength, item, sample, passed, reason FROM verdicts
            WHERE label = ? AND kind = ? ORDER BY strength, item, sample"""
        rows = self._rows(query, label, kind)
        return tuple(
            Verdict(strength, item, sample, bool(passed), reason) for strength, item, sample, passed, reason in rows
        )
