"""How far packing moves what a sweep measures: some queries are decoded once more, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steercpp.engine.engine import Engine
from steercpp.runs.labels import Label
from steercpp.runs.manifest import PackingRecord
from steercpp.runs.store import Store
from steercpp.sweeps.work import Work

_MOST = 6  # queries of each kind of item
_SHARE = 2  # one of so many at most, but one at least: a small part of the passes over all strengths


def compared_with_alone(engine: Engine, work: Sequence[Work], store: Store) -> PackingRecord | None:
    """Unsteered log-probabilities that are stored, against those of the same queries by themselves; None without any.

    Args:
        engine: measured them.
        work: of all kinds of items; those of a model's own answers, which are compared with themselves, are left out.
        store: has them.
    """
    differences = []
    for of_kind in work:
        if of_kind.is_own:
            continue
        layout, (stored,) = store.layout(of_kind.kind), store.logprobs(Label.VECTOR, of_kind.kind, [0.0])
        n = len(of_kind.queries)
        places = np.unique(np.linspace(0, n - 1, min(_MOST, max(1, n // _SHARE))).astype(int)) if n else ()
        for place in places:
            of_item = stored[layout.of_item(place)]
            if not np.isnan(of_item).any():
                (nats,) = engine.logprobs(engine.alone(of_kind.queries[place]))
                differences.append(float(np.abs(of_kind.scores(place, nats) - of_item).max()))
    if not differences:
        return None
    return PackingRecord(
        how=engine.packing, n_compared=len(differences), n_equal=differences.count(0.0), largest=max(differences)
    )
