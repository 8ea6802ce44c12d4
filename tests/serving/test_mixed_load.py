"""Mixed load on a server of its own process: right clients beside those that vanish, err and send garbage.

`STEERCPP_LOAD_S` says for how many seconds: 15 by default, 600 before a release.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from places import ROOT
from served import KEY, error_of, write_vectors

from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering
from steercpp.vectors.formats import read_any_vector

SECONDS = float(os.environ.get("STEERCPP_LOAD_S", "15"))
PROMPTS = ("zebra the man is in the house", "yacht the day and the life", "xylem a word")
STRENGTHS = (-1.2, -0.4, 0.0, 0.6, 1.4)
N_TOKENS = 10
# a few that go wrong in each way, with the status that each is answered with
WRONG: list[tuple[Any, int]] = [
    ({"prompt": "quartz", "steering": "none:1"}, 400), ({"prompt": "quartz", "steering": "refusal:nan"}, 400),
    ({"prompt": "quartz", "steering": "../../etc/passwd:1"}, 400), ({"prompt": "quartz " * 2000}, 400),
    ({"prompt": "quartz", "stop": ["x"] * 1000}, 400), ({"prompt": "quartz", "temperature": -3}, 400),
    ({"prompt": "quartz", "steering": "refusal:1e38", "max_tokens": 3}, 400), ({"prompt": [-5]}, 400),
    ({"prompt": "quartz", "model": "gpt-4"}, 404), (b"\xff\xfe{quartz", 400), (b'{"prompt": NaN}', 400),
    (b"[" * 50_000, 400), (b" " * 1_200_000, 413), ({"prompt": "quartz", "n": 128, "max_tokens": 2}, 400),
]  # fmt: skip


class Load:
    """Clients of one server, and what became of their requests."""

    def __init__(self, url: str, expected: dict[tuple[int, int], str]) -> None:
        self.url, self.expected = url, expected
        self.counts: Counter[str] = Counter()
        self.until = time.monotonic() + SECONDS
        self._lock = threading.Lock()

    def run(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        acts = (self.right, self.right, self.streamed, self.vanished, self.wrong, self.garbage, self.stranger)
        with httpx.Client(base_url=self.url, headers={"X-Api-Key": KEY}, timeout=120) as http:
            while time.monotonic() < self.until:
                act = acts[rng.integers(len(acts))]
                act(http, rng)
                with self._lock:
                    self.counts[act.__name__] += 1

    def body(self, rng: np.random.Generator, **more: Any) -> tuple[tuple[int, int], dict[str, Any]]:
        prompt, strength = int(rng.integers(len(PROMPTS))), int(rng.integers(len(STRENGTHS)))
        steering = {"vector": "refusal", "strength": STRENGTHS[strength]}
        asked = {"prompt": PROMPTS[prompt], "max_tokens": N_TOKENS, "temperature": 0, "steering": steering, **more}
        return (prompt, strength), asked

    def right(self, http: httpx.Client, rng: np.random.Generator) -> None:
        key, asked = self.body(rng, echo=True)
        answer = http.post("/v1/completions", json=asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["text"] == asked["prompt"] + self.expected[key]

    def streamed(self, http: httpx.Client, rng: np.random.Generator) -> None:
        key, asked = self.body(rng, stream=True)
        with http.stream("POST", "/v1/completions", json=asked) as answer:
            pieces = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: {")]
        assert "".join(json.loads(piece)["choices"][0]["text"] for piece in pieces) == self.expected[key]

    def vanished(self, http: httpx.Client, rng: np.random.Generator) -> None:
        _, asked = self.body(rng, stream=bool(rng.integers(2)), max_tokens=300)
        with httpx.Client(base_url=self.url, headers={"X-Api-Key": KEY}) as own:
            patience = float(rng.uniform(0.01, 0.2))
            with (
                suppress(httpx.TimeoutException, StopIteration),
                own.stream("POST", "/v1/completions", json=asked, timeout=patience) as answer,
            ):
                next(answer.iter_lines())

    def wrong(self, http: httpx.Client, rng: np.random.Generator) -> None:
        body, status = WRONG[rng.integers(len(WRONG))]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        error = error_of(http.post("/v1/completions", content=content), status)
        assert not any(word in error["message"] for word in ("zebra", "yacht", "xylem", "/tmp"))

    def garbage(self, http: httpx.Client, rng: np.random.Generator) -> None:
        host, _, port = self.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(rng.bytes(int(rng.integers(1, 2000))) + b"\r\n\r\n")
            if rng.integers(2):
                raw.settimeout(5)
                with suppress(TimeoutError, ConnectionError):
                    raw.recv(4096)

    def stranger(self, http: httpx.Client, rng: np.random.Generator) -> None:
        key = ["", "wrong", KEY[:-1], KEY + "x"][rng.integers(4)]
        error_of(http.post("/v1/completions", json={"prompt": "quartz"}, headers={"X-Api-Key": key}), 401)


def numbers(url: str) -> dict[str, float]:
    told = httpx.get(f"{url}/metrics", headers={"X-Api-Key": KEY}, timeout=60).text
    assert not any(word in told for word in ("zebra", "quartz", "refusal"))
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+) ([0-9.e+]+)$", told, re.MULTILINE)}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the server's memory as Prometheus is told it")
def test_right_clients_get_right_answers_whatever_others_do(tiny_path: Path, tmp_path: Path) -> None:
    write_vectors(tmp_path)
    vector = read_any_vector(tmp_path / "refusal.gguf")[0]
    with Engine(tiny_path, threads=1) as engine:
        expected = {
            (i, k): generate(engine, prompt, [Steering(vector, strength)], max_tokens=N_TOKENS).rows[0].text
            for i, prompt in enumerate(PROMPTS)
            for k, strength in enumerate(STRENGTHS)
        }
    assert len(set(expected.values())) > 8
    log = tmp_path / "log"
    options = ["--port", "0", "--threads", "1", "--n-ctx", "512", "--max-body", "1", "--max-queue", "64", "--json"]
    command = [sys.executable, "-m", "steercpp.cli.main", "serve", str(tiny_path), "--vectors", str(tmp_path), *options]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "STEERCPP_API_KEY": KEY},
        ) as served,
    ):  # fmt: skip
        try:
            assert served.stdout is not None
            document = ""
            while not document.endswith("\n}\n"):
                document += (line := served.stdout.readline())
                assert line, log.read_text()
            url = json.loads(document)["url"].removesuffix("/v1")
            load = Load(url, expected)
            with ThreadPoolExecutor(8) as clients:
                running = [clients.submit(load.run, seed) for seed in range(8)]
                time.sleep(SECONDS / 4)
                early = numbers(url)
                for each in running:
                    each.result()
            for _ in range(200):
                late = numbers(url)
                if not late["steercpp_rows_in_work"] and not late["steercpp_rows_waiting"]:
                    break
                time.sleep(0.1)
            assert late["steercpp_rows_in_work"] == late["steercpp_rows_waiting"] == 0
            memory = [each["process_resident_memory_bytes"] for each in (early, late)]
            print(f"{dict(load.counts)}; RSS {memory[0] / 2**20:.1f} MiB, then {memory[1] / 2**20:.1f} MiB")
            assert memory[1] < 1.05 * memory[0], memory
            assert min(load.counts.values()) > 0 and len(load.counts) == 6
            served.send_signal(signal.SIGTERM)
            assert served.wait(60) == 143
        finally:
            served.kill()
    told = log.read_text()
    assert "Traceback" not in told and "fault" not in told and re.search(r"POST /v1/completions 200", told)
    assert not any(word in told for word in ("zebra", "yacht", "xylem", "quartz", "refusal", KEY))
