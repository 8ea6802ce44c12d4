"""The options of every command with a model: named as llama.cpp names them, passed on as the engine names them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from steercpp.cli.main import main
from steercpp.cli.options.engine import EngineOptions, engine_options
from steercpp.engine.devices import DeviceOptions


def given(*arguments: str) -> EngineOptions:
    received: list[EngineOptions] = []

    @click.command()
    @engine_options
    def command(*, options: EngineOptions) -> None:
        received.append(options)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return received[0]


def test_what_is_not_said_is_the_librarys_own() -> None:
    assert DeviceOptions(**given().devices) == DeviceOptions()


def test_every_device_option_is_passed_on() -> None:
    options = given(
        *("--gpu-layers", "-1", "--main-gpu", "1", "--split-mode", "row", "--tensor-split", "3/1"),
        *("--rpc", "a:1,b:2", "--rpc", "c:3", "--cache-type-k", "q8_0", "--cache-type-v", "bf16", "--no-kv-offload"),
        "--mmap",
    )
    assert DeviceOptions(**options.devices) == DeviceOptions(
        n_gpu_layers=-1,
        main_gpu=1,
        split_mode="row",
        tensor_split=(3, 1),
        rpc=("a:1", "b:2", "c:3"),
        type_k="q8_0",
        type_v="bf16",
        offload_kqv=False,
        use_mmap=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tensor-split", "much"), "'much' is no list of numbers; write shares such as 3,1"),
        (("--split-mode", "tensor"), "'tensor' is not one of 'none', 'layer', 'row'"),
        (("--cache-type-k", "q3_k"), "is not one of 'f32', 'f16'"),
        (("--gpu-layers", "-2"), "-2 is not in the range x>=-1"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    @click.command()
    @engine_options
    def command(*, options: EngineOptions) -> None:
        raise AssertionError(options)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_variables_and_the_day_of_chat_templates_are_passed_on() -> None:
    options = given(
        *("--template-kwarg", "enable_thinking=false", "--template-kwarg", 'style={"n": [1, "a"]}'),
        *("--template-kwarg", "tone=low = soft", "--template-kwarg", "share=NaN", "--template-kwarg", "none="),
        *("--date", "2026-11-29"),
    )
    assert options.template_kwargs == {
        "enable_thinking": False, "style": {"n": [1, "a"]}, "tone": "low = soft", "share": "NaN", "none": "",
    }  # fmt: skip
    assert options.date == "2026-11-29"
    assert given().template_kwargs == {} and given().date is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--template-kwarg", "thinking"), "'thinking' has no value; write it as enable_thinking=false"),
        (("--template-kwarg", "messages=[]"), "--template-kwarg: messages is not for you to set"),
        (("--template-kwarg", "a b=1"), "'a b' cannot be the name of a variable"),
        (("--date", "today"), "--date is 'today'; write it as 2026-11-29"),
    ],
)
def test_wrong_words_about_chats(arguments: tuple[str, ...], message: str) -> None:
    @click.command()
    @engine_options
    def command(*, options: EngineOptions) -> None: ...

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2 and message in " ".join(result.output.replace("│", " ").split())


def test_every_command_that_opens_a_model_takes_them() -> None:
    for name in ("generate", "sweep", "extract", "dump", "calibrate", "cross", "scan", "synthesize", "study",
                 "constants", "transfer", "doctor"):  # fmt: skip
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert {"template_kwargs", "date"} <= {parameter.name for parameter in command.params}, name
