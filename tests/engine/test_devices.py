"""Options of devices: llama.cpp's words and numbers, and what is refused before llama.cpp sees it."""

from __future__ import annotations

from typing import Any

import llama_cpp
import pytest

from steercpp.choices import CACHE_TYPES, SPLIT_MODES
from steercpp.engine.devices import DeviceOptions, parse_tensor_split, split_address
from steercpp.errors import InputError


def test_what_is_not_said_is_llama_cpps_own() -> None:
    stock_model, stock_context = llama_cpp.llama_model_default_params(), llama_cpp.llama_context_default_params()
    options = DeviceOptions()
    arguments = options.load_arguments()
    assert arguments["main_gpu"] == stock_model.main_gpu and arguments["split_mode"] == stock_model.split_mode
    assert arguments["tensor_split"] == [] and arguments["rpc"] == []
    assert options.n_gpu_layers is None and arguments["n_gpu_layers"] == 0  # until a model settles it
    assert options.context_arguments() == {
        "type_k": "f16",
        "type_v": "f16",
        "offload_kqv": bool(stock_context.offload_kqv),
    }
    assert stock_context.type_k == stock_context.type_v == llama_cpp.GGML_TYPE_F16


def test_split_modes_have_llama_cpps_numbers() -> None:
    numbers = [getattr(llama_cpp, f"LLAMA_SPLIT_MODE_{name.upper()}") for name in SPLIT_MODES]
    assert numbers == [DeviceOptions(split_mode=name).load_arguments()["split_mode"] for name in SPLIT_MODES]


def test_everything_is_passed_on_and_recorded() -> None:
    options = DeviceOptions(
        n_gpu_layers=-1,
        main_gpu=1,
        split_mode="row",
        tensor_split=(3, 1),
        rpc=("10.0.0.1:50052", "box:50053"),
        type_k="q8_0",
        type_v="bf16",
        offload_kqv=False,
    )
    assert options.load_arguments() == {
        "n_gpu_layers": -1,
        "main_gpu": 1,
        "split_mode": 2,
        "use_mmap": False,
        "tensor_split": [3.0, 1.0],
        "rpc": ["10.0.0.1:50052", "box:50053"],
    }
    assert options.context_arguments() == {"type_k": "q8_0", "type_v": "bf16", "offload_kqv": False}
    assert options.settings() == {
        "n_gpu_layers": -1,
        "main_gpu": 1,
        "split_mode": "row",
        "tensor_split": "3,1",
        "rpc": "10.0.0.1:50052,box:50053",
        "type_k": "q8_0",
        "type_v": "bf16",
        "offload_kqv": 0,
    }


@pytest.mark.parametrize("rpc", ["a:1,b:2", ("a:1", "b:2"), ["a:1, b:2"], ("a:1,", "b:2")])
def test_servers_are_a_list_or_text_as_llama_cpp_takes_it(rpc: Any) -> None:
    assert DeviceOptions(n_gpu_layers=-1, rpc=rpc).rpc == ("a:1", "b:2")


@pytest.mark.parametrize(("text", "shares"), [("3,1", (3.0, 1.0)), ("1/0/2.5", (1.0, 0.0, 2.5)), ("", ())])
def test_shares_as_llama_cpp_writes_them(text: str, shares: tuple[float, ...]) -> None:
    assert parse_tensor_split(text) == shares


def test_shares_that_are_no_numbers() -> None:
    with pytest.raises(InputError, match=r"tensor_split '3;1' is no list of numbers; write shares such as 3,1"):
        parse_tensor_split("3;1")


@pytest.mark.parametrize(
    "server",
    ["", "box", "box:", ":50052", "box:0", "box:65536", "box:5e3", "box:-1", "::1:50052", "[::1]:50052", "b:²"],
)
def test_an_address_that_is_none(server: str) -> None:
    with pytest.raises(InputError, match="is no HOST:PORT; write a name or IPv4 address"):
        split_address(server)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_gpu_layers": -2}, "n_gpu_layers is -2; give a number of blocks, or -1 for all"),
        ({"main_gpu": -1}, "main_gpu is -1; give the number of a device, 0 to 15"),
        ({"main_gpu": 16}, "main_gpu is 16"),
        ({"split_mode": "tensor"}, "split_mode is 'tensor'; use none, layer or row"),
        ({"tensor_split": (1.0,) * 17}, "tensor_split has 17 shares; llama.cpp takes at most 16"),
        ({"tensor_split": (1.0, -1.0)}, "give shares of at least 0, and one above it"),
        ({"tensor_split": (0.0, 0.0)}, "give shares of at least 0, and one above it"),
        ({"tensor_split": (float("nan"), 1.0)}, "tensor_split is .nan, 1.0.;"),
        ({"type_k": "q3"}, "type_k is 'q3'; use f32, f16, .* or q5_1"),
        ({"type_v": "F16"}, "type_v is 'F16'"),
        ({"n_gpu_layers": -1, "rpc": "box"}, "'box' is no HOST:PORT"),
        ({"n_gpu_layers": -1, "rpc": "a:1,a:1"}, "one is given twice; a server serves one client at a time"),
        (
            {"n_gpu_layers": -1, "rpc": [f"a:{port}" for port in range(1, 18)]},
            "17 rpc servers are given; .* at most 16",
        ),
        ({"n_gpu_layers": 0, "rpc": "a:1"}, "rpc servers compute nothing while n_gpu_layers is 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeviceOptions(**options)


def test_a_quantized_v_needs_flash_attention() -> None:
    for name in CACHE_TYPES:
        options = DeviceOptions(type_k=name, type_v=name)
        options.check_flash_attention("on")
        options.check_flash_attention("auto")  # which llama.cpp then takes for on
        if name in ("f32", "f16", "bf16"):
            options.check_flash_attention("off")
            continue
        with pytest.raises(InputError, match=f"type_v {name} needs flash attention; use `flash_attn=on` "):
            options.check_flash_attention("off")
