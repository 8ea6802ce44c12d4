"""A model from anywhere is examined in a process of its own, and however that ends is a finding."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from gguf.constants import GGUFValueType
from gguf_keys import write_with_keys
from tiny_model import Shape, write_tiny_model

from steercpp.cli.main import main
from steercpp.doctor import stranger
from steercpp.doctor.stranger import STEERS, examine_apart, examine_here
from steercpp.vectors.gguf_header import Value


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(n_layer=2, n_embd=64, n_ff=64, n_head=4, n_head_kv=2)
    return write_tiny_model(tmp_path_factory.mktemp("stranger") / "model.gguf", shape=shape)


@pytest.mark.slow
def test_the_process_finds_what_this_one_does(model: Path) -> None:
    """With engine's keywords, tuples among them, which JSON has not."""
    apart = examine_apart(model, {"threads": 1, "tensor_split": (), "rpc": (), "n_ctx": 64})
    here = examine_here(model)
    assert [check.name for check in apart.checks] == [check.name for check in here.checks]
    assert all(check.ok for check in apart.checks) and apart.template == here.template
    assert apart.has_template == here.has_template


@pytest.mark.slow
def test_a_template_that_no_other_is_like(model: Path, tmp_path: Path) -> None:
    """The bytes of the file's texts, which are no UTF-8, come through."""
    template = Value(GGUFValueType.STRING, "{% for m in messages %}{{ m.content }}<|odd|>{% endfor %}")
    path = write_with_keys(model, tmp_path / "changed.gguf", {"tokenizer.chat_template": template})
    whole = path.read_bytes().replace(b"<|odd|>", b"<|\xff\xfe\xed|>")
    path.write_bytes(whole)
    result = CliRunner().invoke(main, ["doctor", "--model", str(path), "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["template"] == [
        "it spells <|\ufffd\ufffd\ufffd|>: no tokens of this model, so they are read letter by letter"
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_memory_has_a_limit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranger, "_START_BYTES", 300 << 20)
    (check,) = examine_apart(model, {"n_ctx": 1 << 18, "threads": 1}).checks
    assert not check.ok and "failed to allocate" in check.detail
    monkeypatch.setattr(stranger, "_START_BYTES", 20 << 20)
    (check,) = examine_apart(model, {"threads": 1}).checks
    assert not check.ok


def test_time_has_a_limit(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = tmp_path / "python"
    shell.write_text("#!/bin/sh\nexec sleep 60\n")
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    monkeypatch.setattr(stranger, "_START_S", 0.2)
    (check,) = examine_apart(model, {}).checks
    assert not check.ok
    assert check.detail.startswith(f"{model}: the process that examined the model took more than 0 s and was ended; do")


def test_limits_grow_with_the_model_and_all_its_shards(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        (tmp_path / f"m[x]-0000{i}-of-00003.gguf").write_bytes(bytes(100 * i))
    assert stranger._n_bytes(tmp_path / "m[x]-00001-of-00003.gguf") == 600
    assert stranger._n_bytes(tmp_path / "none.gguf") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a shell stands for Python")
@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("kill -SEGV $$", "was ended by SIGSEGV; do not use this file: download the model again"),
        ("echo 'GGML_ASSERT(x) failed' >&2; kill -ABRT $$", "was ended by SIGABRT (GGML_ASSERT(x) failed); do not use"),
        ("printf 'a\\033[31mb\\n' >&2; exit 3", "was ended with exit code 3 (a\\x1b[31mb); do not use"),
        ("echo nonsense", "was ended with exit code 0; do not use"),
    ],
)
def test_an_end_is_a_finding(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, end: str
) -> None:
    shell = tmp_path / "python"
    shell.write_text(f"#!/bin/sh\nulimit -c 0\n{script}\n")
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    (check,) = examine_apart(model, {}).checks
    assert (check.name, check.ok) == (STEERS, False)
    assert check.detail.startswith(f"{model}: the process that examined the model {end}")
