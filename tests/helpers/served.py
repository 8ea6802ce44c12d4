"""A server over a real socket, in a thread of the test's process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai

from steercpp.engine.engine import Engine
from steercpp.serving.scheduler import Scheduler
from steercpp.serving.server import Server, bound, is_loopback
from steercpp.serving.service import Service, ServiceOptions
from steercpp.vectors.control_vector import ControlVector
from steercpp.vectors.formats import write_any_vector

KEY = "a key of the tests"


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs: where, what it serves, and clients of it."""

    url: str
    service: Service
    server: Server
    http: httpx.Client
    openai: Any  # openai.OpenAI, whose overloads know no fields of ours

    @property
    def model(self) -> str:
        return self.service.name

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.http.post(path, json=body, **more)

    def error(self, path: str, body: Any, status: int = 400) -> dict[str, Any]:
        """The error that a body is answered with, in the API's shape."""
        answer = self.http.post(path, json=body) if not isinstance(body, bytes) else self.http.post(path, content=body)
        return error_of(answer, status)


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    record = answer.json()
    assert set(record) == {"error"} and set(record["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = record["error"]
    assert isinstance(error["message"], str) and "\n" not in error["message"] and isinstance(error["type"], str)
    return error


def events(answer: httpx.Response) -> list[Any]:
    """The pieces of a stream, which ends with [DONE]."""
    lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    return [json.loads(line) for line in lines[:-1]]


@contextmanager
def serving(
    engine: Engine, vectors: Path | None = None, *, host: str = "127.0.0.1", n_rows: int = 4, n_cells: int = 512,
    n_kept: int = 4, max_waiting: int = 64, timeout_s: float = 600.0, exact: bool = False, **options: Any,
) -> Iterator[Served]:  # fmt: skip
    scheduler = Scheduler(
        engine, n_rows=n_rows, n_cells=n_cells, n_kept=n_kept, max_waiting=max_waiting, timeout_s=timeout_s,
        exact=exact,
    )  # fmt: skip
    service = Service(engine, scheduler, ServiceOptions(vectors=vectors, **options), is_local=is_loopback(host))
    ready = threading.Event()
    sock = bound(host, 0)
    server = Server(service, sock, ready.set)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(60)
    key = options.get("api_keys", ("none",))[0]
    try:
        with (
            httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {key}"}) as http,
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client,
        ):
            yield Served(url, service, server, http, client)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def write_vectors(folder: Path, *, n_embd: int = 256, n_layer: int = 4) -> None:
    """refusal, cheer (npz), recommended (of a run's folder, +0.75), and two for other models."""
    rng = np.random.default_rng(7)

    def vector(width: int = n_embd, hint: str = "llama", **metadata: Any) -> ControlVector:
        rows = {il: rng.standard_normal(width).astype(np.float32) for il in (1, 2)}
        return ControlVector(rows, hint, n_layer, metadata=metadata)

    write_any_vector(folder / "refusal.gguf", vector())
    write_any_vector(folder / "cheer.npz", vector())
    (folder / "sweep").mkdir()
    write_any_vector(folder / "sweep" / "vector.gguf", vector(recommended_strength=0.75, max_loss=0.05))
    write_any_vector(folder / "wide.gguf", vector(n_embd + 1))
    write_any_vector(folder / "other.gguf", vector(hint="qwen2"))
    write_any_vector(folder / "late.safetensors", vector(operator="clamp", positions="generated"))
