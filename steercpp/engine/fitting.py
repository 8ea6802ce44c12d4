"""How many blocks of a model fit on this machine's GPUs, reckoned before it is loaded: the default of `n_gpu_layers`.

A GPU holds its blocks' weights, their K and V, and what a decode needs besides; some is left free, as other programs
draw on the screen. All is estimated, on the safe side: who knows better gives the number.
"""

from __future__ import annotations

from collections.abc import Sequence

RESERVED_BYTES = 2**30  # of each GPU: logits and activations of a batch, and room for others
N_CELLS = 4096  # of a context, as an engine has by default
_BYTES_OF_F16 = 2


def blocks_that_fit(
    n_layer: int, *, model_bytes: int, kv_width: int, free_bytes: Sequence[int], tensor_split: Sequence[float] = ()
) -> int:
    """The number for `n_gpu_layers`: -1 where all blocks fit, and the output with them; 0 where none does.

    Args:
        n_layer: blocks of the model.
        model_bytes: its size, all its files together.
        kv_width: values of K and V that a token takes in all blocks together.
        free_bytes: of each GPU.
        tensor_split: each GPU's share; by default by what is free.

    >>> [blocks_that_fit(32, model_bytes=4 * 2**30, kv_width=32 * 2048, free_bytes=[gib * 2**30]) for gib in (24, 4, 1)]
    [-1, 21, 0]
    """
    room = _room(free_bytes, tensor_split)
    if n_layer < 1 or room <= 0:
        return 0
    of_block = model_bytes / (n_layer + 1) + N_CELLS * kv_width / n_layer * _BYTES_OF_F16  # + 1: the output
    if (n_layer + 1) * of_block <= room:
        return -1
    return min(int(room / of_block), n_layer)


def _room(free_bytes: Sequence[int], tensor_split: Sequence[float]) -> float:
    """Bytes that the model may take of all GPUs together."""
    usable = [max(free - RESERVED_BYTES, 0) for free in free_bytes]
    shares = [share / sum(tensor_split) for share in tensor_split]
    if not shares:
        return sum(usable)
    return min((of_gpu / share for of_gpu, share in zip(usable, shares, strict=False) if share > 0), default=0.0)
