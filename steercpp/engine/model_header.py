"""What the keys of a model file claim, looked at before llama.cpp loads it; read this when a key is refused.

llama.cpp asserts what it expects of some keys, and of others finds out in the middle of a decode, where nothing can
keep the process from ending: an epsilon that is no number, a context of more tokens than it counts. The rules here
are the same for all architectures; what else an architecture's own code asserts is caught while it loads, and while a
new context decodes two tokens (native/aborts.h).
Source: src/llama-model.cpp, load_hparams, and src/llama-hparams.h of llama.cpp 0.5.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from steercpp.errors import ModelError

Value: TypeAlias = bytes | float | list[float]

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MOST = 2**31 - 1  # llama.cpp's int32_t
_RANGES = {
    "block_count": (1, MAX_LAYERS),
    "context_length": (1, _MOST),
    "embedding_length": (1, _MOST),
    "feed_forward_length": (0, _MOST),
    "attention.head_count": (0, _MOST),  # 0: a block without attention
    "attention.head_count_kv": (0, _MOST),
    "attention.sliding_window": (0, 2**30),  # its end would overflow, and tokens within it be masked
    "rope.dimension_count": (0, _MOST),
    "expert_count": (0, MAX_EXPERTS),
}
_SCALING_TYPES = (b"none", b"linear", b"yarn", b"longrope")


def check_header(path: Path, keys: Mapping[str, Value]) -> None:
    """Do nothing for keys that llama.cpp can work with, as far as all architectures agree.

    Args:
        path: of the file, for messages.
        keys: `general.architecture` and those under its name; numbers as float. None of them for a file that llama.cpp
            cannot read, which it then says itself.

    Raises:
        ModelError: a number out of range, or numbers that do not fit each other.
    """
    prefix = f"{_text(keys.get('general.architecture'))}."
    own = {key.removeprefix(prefix): value for key, value in keys.items() if key.startswith(prefix)}
    for fault in _faults(own):
        raise ModelError(f"{path}: {prefix}{fault}; download the model again, or convert it again")


def check_types(path: Path, odd: Sequence[tuple[str, str]]) -> None:
    """Do nothing for a file whose tensors have types of weights.

    Args:
        path: of the file, for messages.
        odd: name and type of each tensor that has another one, as the native module finds them: `i64`.

    Raises:
        ModelError: there is one.
    """
    for name, type_ in odd:
        raise ModelError(
            f"{path}: tensor {name!r} has the type {type_}, with which llama.cpp cannot multiply; download the model "
            "again, or convert it again"
        )


def n_blocks(keys: Mapping[str, Value]) -> int:
    """Blocks of the model; 0 where the keys do not tell."""
    return round(_greatest(_own(keys), "block_count"))


def kv_widths(keys: Mapping[str, Value]) -> tuple[int, int]:
    """Values of K and of V that a token takes in all blocks together, as far as the keys tell; at least 1 each.

    Blocks that keep K and V in another form, or a state, count as if they did not.

    >>> kv_widths({"general.architecture": b"llama", "llama.block_count": 2, "llama.embedding_length": 64,
    ...            "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2})
    (64, 64)
    """
    own = _own(keys)
    n_layer, n_head = _greatest(own, "block_count"), max(_greatest(own, "attention.head_count"), 1)
    heads = own.get("attention.head_count_kv", n_head)
    n_heads = sum(heads) if isinstance(heads, list) else n_layer * (0 if isinstance(heads, bytes) else heads)
    usual = _greatest(own, "embedding_length") / n_head
    widths = (_greatest(own, name) or usual for name in ("attention.key_length", "attention.value_length"))
    k, v = (max(1, round(n_heads * width)) for width in widths)
    return k, v


def _own(keys: Mapping[str, Value]) -> dict[str, Value]:
    """The architecture's own keys, without its name."""
    prefix = f"{_text(keys.get('general.architecture'))}."
    return {key.removeprefix(prefix): value for key, value in keys.items() if key.startswith(prefix)}


def _faults(keys: Mapping[str, Value]) -> Iterator[str]:
    for name, value in keys.items():
        numbers = () if isinstance(value, bytes) else value if isinstance(value, list) else (value,)
        is_size = name.endswith(("_count", "_length"))
        least, most = _RANGES.get(name, (0, _MOST) if is_size else (-math.inf, math.inf))
        if name.endswith("epsilon"):
            least, most = 0.0, float.fromhex("0x1.fffffep+127")  # float32's largest
        for number in numbers:
            if math.isnan(number):
                yield f"{name} is not a number"
            if not least <= number <= most:
                yield f"{name} is {number:.16g}, llama.cpp takes {least:.16g} to {most:.16g}"
    scaling = keys.get("rope.scaling.type", b"none")
    if isinstance(scaling, bytes) and scaling not in _SCALING_TYPES:
        known = ", ".join(map(_text, _SCALING_TYPES))
        yield f"rope.scaling.type is {_text(scaling)!r}, llama.cpp takes {known}"
    if _greatest(keys, "nextn_predict_layers") > _greatest(keys, "block_count"):
        yield "nextn_predict_layers is more than the model's blocks"
    yield from _faults_of_experts(keys)


def _faults_of_experts(keys: Mapping[str, Value]) -> Iterator[str]:
    n_expert, n_used = _greatest(keys, "expert_count"), _greatest(keys, "expert_used_count")
    n_groups, n_groups_used = _greatest(keys, "expert_group_count"), _greatest(keys, "expert_group_used_count")
    if n_used > n_expert:
        yield f"expert_used_count is {n_used:g} of {n_expert:g} experts"
    if n_groups and n_groups >= n_expert:
        yield f"expert_group_count is {n_groups:g} for {n_expert:g} experts"
    if n_groups > 1 and (n_expert % n_groups or not 0 < n_groups_used < n_groups):
        yield f"expert_group_count is {n_groups:g} for {n_expert:g} experts, {n_groups_used:g} of the groups used"


def _greatest(keys: Mapping[str, Value], name: str) -> float:
    value = keys.get(name, 0.0)
    if isinstance(value, bytes):
        return 0.0
    return max(value, default=0.0) if isinstance(value, list) else value


def _text(value: Value | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
