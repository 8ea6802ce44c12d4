"""How many blocks fit: by hand, never more than there is room for, and what an engine makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rpc_server import Server

from steercpp import _native
from steercpp.engine.devices import DeviceOptions
from steercpp.engine.engine import Engine
from steercpp.engine.fitting import RESERVED_BYTES, blocks_that_fit
from steercpp.engine.model import Model
from steercpp.errors import InputError

GIB = 2**30
N_LAYER, MODEL, KV_WIDTH = 32, int(4.5 * GIB), 32 * 2 * 1024  # Llama 3 8B in 4 bits
OF_BLOCK = 4.5 * GIB / 33 + 4096 * 2 * 1024 * 2  # weights; 4,096 cells of K and V, 1,024 f16 values each


def fitting(
    *free_bytes: float, tensor_split: tuple[float, ...] = (), model: int = MODEL, n_layer: int = N_LAYER
) -> int:
    free = [int(free) for free in free_bytes]
    return blocks_that_fit(
        n_layer, model_bytes=model, kv_width=KV_WIDTH, free_bytes=free, tensor_split=tensor_split
    )  # fmt: skip


def test_all_some_or_none() -> None:
    assert fitting(24 * GIB) == -1
    assert fitting(4 * GIB) == int(3 * GIB / OF_BLOCK) == 19
    assert fitting(GIB + 1000) == fitting() == fitting(24 * GIB, n_layer=0) == 0
    assert fitting(RESERVED_BYTES + 32.5 * OF_BLOCK) == 32  # all blocks, but not the output
    assert fitting(RESERVED_BYTES + 33.01 * OF_BLOCK) == -1


def test_several_gpus_and_their_shares() -> None:
    """Room counts together, unless shares are given: then the tightest GPU decides."""
    assert fitting(3 * GIB, 2 * GIB) == int(3 * GIB / OF_BLOCK)
    assert fitting(3 * GIB, 2 * GIB, tensor_split=(1, 1)) == int(2 * GIB / OF_BLOCK)
    assert fitting(24 * GIB, 0, tensor_split=(1, 0)) == -1


def test_more_room_is_never_fewer_blocks() -> None:
    found = [fitting(gib * GIB, model=16 * GIB) for gib in np.arange(0, 30, 0.25)]
    counted = [33 if n < 0 else n for n in found]
    assert counted == sorted(counted) and counted[0] == 0 and counted[-1] == 33


@pytest.mark.parametrize(
    ("free", "options", "expected"),
    [
        ([], {}, 0),
        ([24 * GIB], {}, -1),
        ([24 * GIB], {"n_gpu_layers": 2}, 2),
        ([0, 24 * GIB], {"split_mode": "none", "main_gpu": 0}, 0),
        ([RESERVED_BYTES], {}, 0),
    ],
)
def test_the_default_of_a_model(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, free: list[int], options: dict[str, Any], expected: int
) -> None:
    monkeypatch.setattr(_native, "free_gpu_memory", lambda: free)
    with Engine(tiny_path, n_ctx=512, threads=1, **options) as engine:
        assert engine.devices.n_gpu_layers == engine.model.devices.n_gpu_layers == expected
        assert engine.settings()["n_gpu_layers"] == expected


def test_servers_compute_all_blocks_by_default(tiny_path: Path) -> None:
    address = Server().address
    with pytest.raises(InputError, match="compute nothing while n_gpu_layers is 0"):
        DeviceOptions(rpc=address, n_gpu_layers=0)
    with Engine(tiny_path, n_ctx=1024, threads=1, rpc=address) as engine:
        assert (engine.settings()["n_gpu_layers"], engine.settings()["n_batch"]) == (-1, 512)
        assert engine.model.uses_devices
        with Engine(model=engine.model, n_ctx=512, threads=1, n_batch=64) as other:
            assert (other.devices.n_gpu_layers, other.settings()["n_batch"]) == (-1, 64)


def test_without_devices_all_is_as_it_was(tiny_path: Path) -> None:
    if _native.free_gpu_memory():
        pytest.skip("this machine has a GPU that llama.cpp was built for")
    with Engine(Model(tiny_path).path, threads=1) as engine:
        assert (engine.settings()["n_gpu_layers"], engine.settings()["n_batch"]) == (0, 256)
        assert not engine.model.uses_devices
