"""`steercpp serve` as a process: how it begins, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from places import ROOT
from served import write_vectors

from steercpp.cli.main import main

SECRET = "the man with a secret"


@contextmanager
def process(model: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command with a free port, once it serves, and the document that it prints."""
    known = {key: value for key, value in os.environ.items() if key != "STEERCPP_API_KEY"}
    command = [
        sys.executable,
        "-m",
        "steercpp.cli.main",
        "serve",
        str(model),
        "--port",
        "0",
        "--threads",
        "1",
        "--json",
    ]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**known, "PYTHONPATH": str(ROOT), **environment},
    ) as served:  # fmt: skip
        assert served.stdout is not None
        document = ""
        while not document.endswith("\n}\n"):
            line = served.stdout.readline()
            assert line, served.stderr and served.stderr.read()
            document += line
        try:
            yield served, json.loads(document)
        finally:
            if served.poll() is None:
                served.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_in_work_is_done_before_the_end(tiny_path: Path, tmp_path: Path, number: int, code: int) -> None:
    write_vectors(tmp_path)
    asked = {"prompt": SECRET, "max_tokens": 200, "stream": True, "logit_bias": [[2, False]], "steering": "refusal:0.5"}
    with process(tiny_path, "--vectors", str(tmp_path)) as (served, record):
        assert record["model"] == "tiny-F32" and "refusal" in record["vectors"] and not record["needs_key"]
        with httpx.stream("POST", f"{record['url']}/completions", json=asked, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            served.send_signal(number)
            rest = [line for line in lines if line.startswith("data: ")]
        assert rest[-1] == "data: [DONE]" and '"finish_reason": "length"' in rest[-2]
        told = served.communicate(timeout=60)[1]
        assert served.returncode == code
    assert "POST /v1/completions 200" in told and "secret" not in told and "Traceback" not in told
    assert ("interrupted" in told) == (code in (130, 143))


@pytest.mark.slow
def test_a_second_signal_does_not_wait(tiny_path: Path) -> None:
    asked = {"prompt": SECRET, "max_tokens": 900, "stream": True, "logit_bias": [[2, False]]}
    with process(tiny_path) as (served, record):
        ended = threading.Event()

        def read() -> None:
            try:
                with httpx.stream("POST", f"{record['url']}/completions", json=asked, timeout=60) as answer:
                    for _ in answer.iter_lines():
                        begun.set()
            except httpx.HTTPError:
                pass
            ended.set()

        begun = threading.Event()
        threading.Thread(target=read).start()
        assert begun.wait(30)
        served.send_signal(signal.SIGINT)
        served.send_signal(signal.SIGINT)
        assert served.wait(30) == 130 and ended.wait(30)


@pytest.mark.slow
def test_prompts_are_logged_where_that_is_asked_for(tiny_path: Path) -> None:
    with process(tiny_path, "--log-prompts") as (served, record):
        httpx.post(f"{record['url']}/completions", json={"prompt": SECRET + "\x1b[2J", "max_tokens": 1}, timeout=60)
        served.send_signal(signal.SIGINT)
        told = served.communicate(timeout=60)[1]
    assert SECRET in told and "\x1b" not in told and r"\x1b[2J" in told


@pytest.mark.slow
def test_keys(tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one\n\n two \n")
    (tmp_path / "keys").chmod(0o600)
    with process(tiny_path, "--api-key-file", str(tmp_path / "keys"), STEERCPP_API_KEY="three") as (served, record):
        assert record["needs_key"]
        url = f"{record['url']}/models"
        for key, status in (("one", 200), ("two", 200), ("three", 200), ("four", 401), ("", 401)):
            assert httpx.get(url, headers={"X-Api-Key": key}).status_code == status
        served.send_signal(signal.SIGINT)
        told = served.communicate(timeout=60)[1]
    assert "note: " not in told and "one" not in told.replace("done", "")
    with process(tiny_path, "--api-key", "typed") as (served, record):
        served.send_signal(signal.SIGINT)
        told = served.communicate(timeout=60)[1]
    assert "note: others see a key of the command line" in told and "typed" not in told


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (
            ["--host", "0.0.0.0"],
            2,
            "--host 0.0.0.0 is reached by others: it needs --api-key-file, or STEERCPP_API_KEY.",
        ),
        (["--host", "no such host"], 2, "is reached by others"),
        (["--vectors", "none"], 1, "none: there is no such folder; name the one with the vectors in --vectors"),
        (["--allow-uploads"], 1, "--allow-uploads needs a folder for the vectors; name one with --vectors"),
        (["--api-key-file", "none"], 1, "none: cannot be read"),
        (["--api-key-file", "empty"], 1, "empty: holds no key; write one on each line"),
        (["--api-key", " "], 1, "is empty; give one that others cannot guess"),
        (["--rows", "0"], 2, "--rows"),
        (["--timeout", "nan"], 2, "--timeout"),
        (["--rows", "300"], 1, "give at most 256 together"),
    ],
)
def test_what_is_refused(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEERCPP_API_KEY", raising=False)
    (tmp_path / "empty").write_text("\n")
    told = CliRunner().invoke(main, ["serve", str(tiny_path), "--port", "0", *options])
    assert told.exit_code == code and told.stdout == "" and words in " ".join(told.stderr.split()), told.stderr


def test_without_the_packages_it_says_what_to_install(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("steercpp.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    told = CliRunner().invoke(main, ["serve", str(tiny_path)])
    assert told.exit_code == 1 and told.stderr == "error: uvicorn is not installed; pip install 'steercpp[serve]'\n"
