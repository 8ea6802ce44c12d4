"""What docs/serve.md shows is taken by the server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from served import serving, write_vectors

from steercpp.engine.engine import Engine
from steercpp.serving.app import ROUTES
from steercpp.serving.spellings import parse_steering

PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def test_the_requests_and_the_python_that_it_shows(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_vectors(tmp_path)
    with Engine(tiny_path, threads=1) as engine, serving(engine, tmp_path, name="model") as served:
        bodies: list[dict[str, Any]] = [json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", PAGE, re.DOTALL)]
        assert bodies
        for body in bodies:
            assert served.post("/v1/chat/completions", body).status_code == 200
        (example,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
        exec(example.replace("http://localhost:8080", served.url), {})
        assert "'vector': 'refusal', 'sha256'" in capsys.readouterr().out


def test_the_spellings_and_the_addresses() -> None:
    spelled = re.findall(r"^\| `(.*?)` \|", PAGE, re.MULTILINE)
    for words in spelled[:3]:
        assert len(parse_steering(json.loads(words))) >= 1
    for route in ROUTES:
        name = re.sub(r"\{.*\}", "NAME", route.path)
        assert name in PAGE or name == "/v1/health"
