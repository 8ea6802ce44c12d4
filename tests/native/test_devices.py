"""Options of devices reach llama.cpp: what K and V are kept in, and devices that are not there."""

from __future__ import annotations

from typing import get_args

import gguf
import numpy as np
import pytest
from places import ModelMaker

from steercpp.choices import CACHE_TYPES, CacheType, FlashAttention
from steercpp.doctor.self_test import run_self_test
from steercpp.engine.devices import GGML_TYPES
from steercpp.engine.engine import Engine
from steercpp.engine.packing import Query
from steercpp.errors import InputError


def test_cache_types_have_ggmls_numbers() -> None:
    assert tuple(GGML_TYPES) == get_args(CacheType)
    for name, number in GGML_TYPES.items():
        assert number == gguf.GGMLQuantizationType[name.upper()]


@pytest.mark.parametrize("name", CACHE_TYPES)
def test_k_and_v_are_kept_as_asked(model_maker: ModelMaker, name: CacheType) -> None:
    """Steering is llama.cpp's own whatever they are kept in; and each type rounds in a way of its own."""
    query = Query(tuple(range(3, 60)))
    path = model_maker("tiny-F32")
    flash_attn: FlashAttention = "off" if name in ("f32", "f16", "bf16") else "on"  # on makes f16 of f32
    with Engine(path, n_ctx=256, threads=1, flash_attn=flash_attn, type_k=name, type_v=name) as engine:
        assert [check for check in run_self_test(engine) if not check.ok] == []
        assert (engine.settings()["type_k"], engine.settings()["type_v"]) == (name, name)
        kept = engine.logits(engine.pack([query])[0])
    with Engine(path, n_ctx=256, threads=1, flash_attn=flash_attn, type_k="f32", type_v="f32") as engine:
        exact = engine.logits(engine.pack([query])[0])
    assert (kept == exact).all() == (name == "f32")
    # 4 bits of K and V move logits of up to 3.4 by 0.23
    assert np.abs(kept - exact).max() < 0.5


def test_a_quantized_k_alone_needs_no_flash_attention(model_maker: ModelMaker) -> None:
    with Engine(model_maker("tiny-Q8_0"), n_ctx=256, threads=1, type_k="q8_0") as engine:
        assert [check for check in run_self_test(engine) if not check.ok] == []
    with pytest.raises(InputError, match="type_v q8_0 needs flash attention; use `flash_attn=on` "):
        Engine(model_maker("tiny-Q8_0"), type_v="q8_0")


def test_more_shares_than_devices(model_maker: ModelMaker) -> None:
    with pytest.raises(InputError, match=r"tensor_split has 16 shares for \d+ devices; .steercpp doctor. shows"):
        Engine(model_maker("tiny-F32"), n_gpu_layers=-1, tensor_split=(1.0,) * 16)
