"""Strategies that draw control vectors, and names that few readers expect."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from steercpp.vectors.control_vector import RESERVED_KEYS, ControlVector

scalars = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
)
tuples = st.sampled_from([str, bool, int, float]).flatmap(
    lambda kind: st.lists(scalars.filter(lambda item: type(item) is kind), min_size=1, max_size=3).map(tuple)
)
names = st.from_regex(r"\A[a-z0-9_]{1,9}(\.[a-z0-9_]{1,9})?\Z").filter(lambda name: not RESERVED_KEYS.fullmatch(name))
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def vectors(draw: st.DrawFn) -> ControlVector:
    n_layer, n_embd = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    layers = draw(st.sets(st.integers(0, n_layer - 1), min_size=1))
    rows = {il: np.array(draw(st.lists(floats, min_size=n_embd, max_size=n_embd)), dtype=np.float32) for il in layers}
    rows[min(layers)][0] = 1.0  # not all zero
    metadata = draw(st.dictionaries(names, st.one_of(scalars, tuples), max_size=4))
    return ControlVector(rows, draw(st.text(st.characters(codec="utf-8"), max_size=8)), n_layer, metadata)
