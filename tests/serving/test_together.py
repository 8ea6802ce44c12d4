"""Many requests at once: each text is the one that it would be alone, whatever the others do."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, error_of, serving

from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.pool import Pool
from steercpp.engine.request import GenerationRequest, Text
from steercpp.engine.steering import Steering
from steercpp.serving.scheduler import N_CHUNK

PROMPTS = ("the man is in the house", "the day and the life", "a word")
STRENGTHS = [round(-1.5 + 0.2 * i, 2) for i in range(16)]


def texts_alone(served: Served) -> dict[float, str]:
    vector = served.service.folder.vector("refusal").vector
    with Engine(model=served.service.engine.model, threads=1) as engine:
        found = {}
        for i, strength in enumerate(STRENGTHS):
            made = generate(engine, PROMPTS[i % 3], [Steering(vector, strength)], max_tokens=12)
            found[strength] = made.rows[0].text
        return found


def body(i: int, **more: Any) -> dict[str, Any]:
    steering = {"vector": "refusal", "strength": STRENGTHS[i]}
    return {"prompt": PROMPTS[i % 3], "max_tokens": 12, "temperature": 0, "steering": steering, **more}


def test_sixteen_clients_at_sixteen_strengths(served: Served) -> None:
    alone = texts_alone(served)
    assert len(set(alone.values())) > 8
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda i: served.post("/v1/completions", body(i)).json(), range(16)))
    assert [answer["choices"][0]["text"] for answer in answers] == list(alone.values())
    assert [answer["steering"][0]["strength"] for answer in answers] == STRENGTHS


def test_bad_requests_and_clients_that_go_leave_others_alone(served: Served) -> None:
    alone = texts_alone(served)
    wrong: list[dict[str, Any]] = [
        {"prompt": "the", "steering": "missing:1"}, {"prompt": "the", "steering": "refusal:1e30", "max_tokens": 5},
        {"prompt": "the " * 3000}, {"prompt": [10**6]}, {"prompt": "the", "stop": ["x"] * 1000},
        {"prompt": "the", "logit_bias": {"99999": 1}},
    ]  # fmt: skip

    def vanish(_: int) -> None:
        more = {"stream": True, "max_tokens": 400}
        with served.http.stream("POST", "/v1/completions", json=body(3, **more)) as answer:
            next(answer.iter_lines())  # and then it goes

    with ThreadPoolExecutor(20) as clients:
        gone = [clients.submit(vanish, i) for i in range(4)]
        refused = [clients.submit(served.post, "/v1/completions", each) for each in wrong]
        good = [clients.submit(served.post, "/v1/completions", body(i)) for i in range(16)]
        assert [each.result().json()["choices"][0]["text"] for each in good] == list(alone.values())
    assert all(each.exception() is None for each in gone)
    for each in refused:
        assert error_of(each.result(), 400)
    assert served.post("/v1/completions", body(0, max_tokens=1)).status_code == 200
    until_idle(served)


def until_idle(served: Served) -> None:
    """Wait until nothing is in work; rows of clients that have gone end too."""
    for _ in range(1000):
        work = served.service.scheduler.work
        if not work.in_work and not work.waiting:
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"{work} after 20 seconds")


def test_a_strength_that_leaves_float32_fails_alone(served: Served) -> None:
    error = served.error("/v1/completions", {"prompt": PROMPTS[0], "steering": "refusal:3e38", "max_tokens": 5})
    assert error["code"] == "non_finite" and error["param"] == "steering" and "smaller strength" in error["message"]
    asked = {"prompt": PROMPTS[0], "steering": "refusal:3e38", "max_tokens": 5, "stream": True}
    with served.http.stream("POST", "/v1/completions", json=asked) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert '"code": "non_finite"' in lines[-1] and "[DONE]" not in lines[-1]


def test_a_queue_that_is_full_and_time_that_is_over(tiny_path: Path, vectors: Path) -> None:
    with Engine(tiny_path, threads=1) as engine:
        with serving(engine, vectors, n_rows=1, n_kept=0, max_waiting=1, n_cells=1024) as served:
            long = {"prompt": "the man", "max_tokens": 1000, "stream": True, "logit_bias": [[2, False]]}
            with served.http.stream("POST", "/v1/completions", json=long) as first:
                pieces = first.iter_lines()
                next(pieces)
                with served.http.stream("POST", "/v1/completions", json=long) as second:
                    assert second.status_code == 200
                    full = served.post("/v1/completions", {"prompt": "the"})
                    assert error_of(full, 429)["code"] == "server_busy" and full.headers["retry-after"] == "1"
                    error = served.error("/v1/completions", {"prompt": "the", "n": 3})
                    assert "3 texts at once; give 1 to 2" in error["message"] and error["param"] == "n"
            until_idle(served)
            assert served.post("/v1/completions", {"prompt": "the", "max_tokens": 2}).status_code == 200
        with serving(engine, vectors, n_rows=1, n_kept=0, n_cells=1024, timeout_s=0.001) as served:
            late = served.post("/v1/completions", {"prompt": "the man", "max_tokens": 1000})
            assert error_of(late, 408)["code"] == "out_of_time" and late.headers["x-should-retry"] == "false"


def test_a_short_request_begins_while_a_long_prompt_is_read(tiny_engine: Engine) -> None:
    """Its first token comes at most 3 steps later, with the scheduler's own chunks."""
    pool = Pool(tiny_engine, n_cells=1024, n_rows=2, n_chunk=N_CHUNK)
    pool.add(GenerationRequest(tuple(range(3, 703)) + tuple(range(3, 303)), max_tokens=20))
    pool.step()
    short = pool.add(GenerationRequest(tiny_engine.encode("a word"), max_tokens=1))
    events = [event for _ in range(3) for event in pool.step()]
    assert any(isinstance(event, Text) and event.ticket == short for event in events)
    assert pool.is_busy  # the long one goes on


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_a_slow_reader_holds_up_nobody(served: Served, way: str) -> None:
    asked = body(1, max_tokens=300, stream=True)
    with (
        httpx.Client(base_url=served.url, timeout=60) as slow,
        slow.stream("POST", "/v1/completions", json=asked) as answer,
    ):
        assert answer.status_code == 200  # and nothing is read
        more = {"stream": True} if way == "streamed" else {}
        assert served.post("/v1/completions", body(2, **more)).status_code == 200
    until_idle(served)


def test_a_reader_that_stands_still_loses_its_place(tiny_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is open and its texts are done; what is left of them does not fit into the sockets' buffers."""
    asked = {"prompt": "a", "n": 4, "max_tokens": 1000, "stream": True, "logprobs": 20, "logit_bias": [[2, False]]}
    data = json.dumps(asked).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with Engine(tiny_path, threads=1) as engine, serving(engine, n_cells=1024, send_s=0.5) as served:
        host, _, port = served.url.removeprefix("http://").partition(":")
        with socket.socket() as still:
            still.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            still.connect((host, int(port)))
            still.sendall(head + data)
            assert still.recv(100).startswith(b"HTTP/1.1 200 ")
            scheduler = served.service.scheduler
            assert scheduler.n_open == 4
            for _ in range(3000):
                if not scheduler.n_open:
                    break
                threading.Event().wait(0.02)
            assert scheduler.n_open == 0
            assert served.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).status_code == 200
    assert "fault" not in caplog.text
