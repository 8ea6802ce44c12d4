"""What is wrong with a request is one sentence in the API's shape, and the server goes on."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from served import KEY, Served, error_of, serving

from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.serving.server import bound, is_loopback

CHAT = [{"role": "user", "content": "the man"}]


@pytest.mark.parametrize(
    ("more", "param", "sentence"),
    [
        ({"messages": None}, "messages", "`messages` is missing"),
        ({"messages": []}, "messages", "`messages` is missing"),
        ({"messages": "the man"}, "messages", "give a list"),
        ({"messages": ["the man"]}, "messages[0]", "is a text; give an object"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "give one of system, developer, user, assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'tool'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing; give a text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages[0].content", "type 'image_url'; only text"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, "messages[0].tool_calls", "not supp"),
        ({"messages": [{"role": "assistant", "content": "Sure"}]}, "messages", "begin it with the user's"),
        ({"messages": [{"role": "user", "content": "a\ud800b"}]}, "messages", ""),
        ({"tools": [{"type": "function"}]}, "tools", "`tools` is not supported by this server; leave it out"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "not supported"),
        ({"modalities": ["text", "audio"]}, "modalities", "not supported"),
        ({"grammar": "root ::= x"}, "grammar", "not supported"),
        ({"temperature": "hot"}, "temperature", "`temperature` is \"hot\"; give a number"),
        ({"temperature": 1000}, "temperature", "temperature is 1000.0"),
        ({"temperature": 10**400}, "temperature", "give a smaller number"),
        ({"top_p": 0}, "top_p", "top_p is 0.0"),
        ({"top_k": 1.5}, "top_k", "`top_k` is 1.5; give a whole number"),
        ({"n": 0}, "n", "`n` is 0; give a whole number from 1"),
        ({"n": 100}, "n", "100 texts at once; give 1 to 68"),
        ({"max_tokens": -1}, "max_tokens", "whole number"),
        ({"max_tokens": 10**6}, "messages", "1000000"),
        ({"seed": "x"}, "seed", "`seed` is no whole number"),
        ({"stop": ["x"] * 1000}, "stop", "`stop` has 1000 texts; give at most 16"),
        ({"stop": ["x" * 2000]}, "stop", "longer than 256"),
        ({"stop": 7}, "stop", "neither a text nor a list"),
        ({"stream": "yes"}, "stream", "give true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "is for `stream`"),
        ({"logprobs": 3}, "logprobs", "give true or false"),
        ({"top_logprobs": 3}, "top_logprobs", "needs `logprobs`"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "takes tokens with numbers"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "the model has tokens 0 to"),
        ({"logit_bias": [[1, 2], [1, 3]]}, "logit_bias", "twice"),
        ({"chat_template_kwargs": {"messages": 1}}, "messages", "`chat_template_kwargs`: messages is not for you"),
        ({"chat_template_kwargs": 3}, "chat_template_kwargs", "give an object"),
        ({"steering": "/tmp/v.gguf:1"}, "steering", "is a path or an address"),
        ({"steering": "refusal:1e300"}, "steering", "is not a finite number in float32"),
        ({"steering": "wide:1"}, "steering", "has 257 values"),
        ({"steering": "none:1"}, "steering", "there is no vector 'none'"),
    ],
    ids=str,
)  # fmt: skip
def test_fields_of_a_chat(served: Served, more: dict[str, Any], param: str, sentence: str) -> None:
    error = served.error("/v1/chat/completions", json.dumps({"messages": CHAT, "max_tokens": 2, **more}).encode())
    assert error["param"] == param and sentence in error["message"], error
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": None}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": [[]]}, "prompt"), ({"prompt": [-1]}, "prompt"), ({"prompt": [10**30]}, "prompt"),
        ({"prompt": ["x"] * 3000}, "prompt"), ({"prompt": "the " * 5000}, "prompt"),
        ({"prompt": "x" * 10**6}, "prompt"), ({"best_of": 3}, "best_of"),
        ({"logprobs": True}, "logprobs"), ({"logprobs": 99}, "logprobs"),
        ({"echo": True, "logprobs": 1, "stream": True}, "stream"), ({"suffix": "x"}, "suffix"),
        ({"max_tokens": 100_000}, "prompt"), ({"lora": [{"id": 0}]}, "lora"), ({"echo": "yes"}, "echo"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_fields_of_a_completion(served: Served, more: dict[str, Any], param: str) -> None:
    assert served.error("/v1/completions", {"prompt": "the", "max_tokens": 2, **more})["param"] == param


def test_what_only_labels_a_request_is_tolerated(served: Served) -> None:
    """Fields of clients that there are: LibreChat, Open WebUI, LangChain and others send them unasked."""
    more = {
        "user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "tools": [], "tool_choice": "none",
        "response_format": {"type": "text"}, "presence_penalty": 0, "frequency_penalty": 0, "parallel_tool_calls": True,
        "logit_bias": None, "stop": None, "cache_prompt": True, "top_k": -1, "seed": -1, "functions": None,
        "reasoning_effort": "low", "stream_options": None, "chat_id": "x", "max_tokens": 3.0,
    }  # fmt: skip
    answer = served.post("/v1/chat/completions", {"messages": CHAT, **more})
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] <= 3


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"prompt": NaN}', b'{"prompt": "x", "temperature": Infinity}',
        b"[" * 100_000, b'{"a":' * 100_000, b'{"prompt": ' + b"9" * 10_000 + b"}", b"\0" * 100,
    ],
    ids=lambda value: repr(value[:20]),
)  # fmt: skip
def test_bodies_that_are_no_object(served: Served, body: bytes) -> None:
    assert served.error("/v1/completions", body)["code"] == "invalid_json"


def test_a_body_of_a_gigabyte_is_not_read(served: Served) -> None:
    """Refused by its length, and without one as soon as it is too large."""
    with socket.create_connection(served.url.removeprefix("http://").split(":"), timeout=30) as raw:  # type: ignore[arg-type]
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")
    n_sent = 0

    def endless() -> Any:
        nonlocal n_sent
        while n_sent < 1 << 27:
            n_sent += 1 << 16
            yield b" " * (1 << 16)

    answer = served.http.post("/v1/completions", content=endless())
    assert error_of(answer, 413)["code"] == "body_too_large" and n_sent


def test_addresses_and_methods_that_there_are_not(served: Served) -> None:
    assert error_of(served.http.get("/v1/nothing"), 404)["type"] == "not_found_error"
    assert error_of(served.http.get("/v1/completions"), 405)
    assert error_of(served.http.get("/v1/models/none"), 404)["code"] == "model_not_found"
    assert error_of(served.http.get("/health/"), 404)


def test_pages_of_others_are_refused_where_no_key_is_asked_for(served: Served) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        answer = served.post("/v1/completions", {"prompt": "the", "max_tokens": 1}, headers=headers)
        assert error_of(answer, 403)["code"] == "foreign_page"
    own = served.post(
        "/v1/completions", {"prompt": "the", "max_tokens": 1}, headers={"Origin": "http://localhost:3000"}
    )
    assert own.status_code == 200


def test_uploads(tiny_path: Path, vectors: Path, tmp_path: Path, served: Served) -> None:
    data = (vectors / "refusal.gguf").read_bytes()
    refused = served.http.post("/v1/steering/vectors", params={"name": "mine"}, content=data)
    assert error_of(refused, 403)["code"] == "uploads_not_allowed"
    assert error_of(served.http.delete("/v1/steering/vectors/refusal"), 403)
    folder = tmp_path / "vectors"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "vector.gguf").write_bytes(data)
    options: dict[str, Any] = {"allow_uploads": True, "api_keys": (KEY,), "max_upload_bytes": 100_000}
    with Engine(tiny_path, threads=1) as engine, serving(engine, folder, **options) as mine:

        def upload(name: str, content: bytes = data) -> Any:
            return mine.http.post("/v1/steering/vectors", params={"name": name}, content=content)

        made = upload("mine")
        assert made.status_code == 201 and made.json()["id"] == "mine" and (folder / "mine.gguf").is_file()
        sha256 = served.http.get("/v1/steering/vectors/refusal").json()["sha256"]
        assert made.json()["sha256"] == sha256
        steered = mine.post("/v1/completions", {"prompt": "the", "max_tokens": 1, "steering": "mine:1"})
        assert steered.json()["steering"][0]["sha256"] == sha256
        assert error_of(upload("mine"), 409)["code"] == "vector_exists"
        assert error_of(upload("run"), 409)
        for name in ("", "../x", "a/b", "x.gguf", "-x", "x" * 200, "~", ".x", "a b"):
            assert error_of(upload(name), 400)["param"] == "name"
        for content in (
            b"",
            b"GGUF" + bytes(50),
            (vectors / "wide.gguf").read_bytes(),
            tiny_path.read_bytes()[:90_000],
        ):
            error = error_of(upload("bad", content), 400)
            assert "/" not in error["message"].replace("n_embd of", "").split(";")[0], error
        assert error_of(upload("large", bytes(200_000)), 413)
        assert sorted(path.name for path in folder.iterdir()) == ["mine.gguf", "run"]
        assert "which keeps it" in error_of(mine.http.delete("/v1/steering/vectors/run"), 400)["message"]
        assert mine.http.delete("/v1/steering/vectors/mine").json()["deleted"] is True
        assert error_of(mine.http.delete("/v1/steering/vectors/mine"), 404)["code"] == "vector_not_found"
        error = mine.error("/v1/completions", {"prompt": "the", "steering": "mine:1"})
        assert error["code"] == "vector_not_found"


def test_two_servers_on_one_port(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    with pytest.raises(InputError, match="another program listens there; end that, or choose another port"):
        bound("127.0.0.1", port)
    with pytest.raises(InputError, match="is no address of this machine"):
        bound("nowhere.invalid", 0)
    assert [is_loopback(host) for host in ("::1", "127.8.8.8", "0.0.0.0", "::", "10.0.0.1", "example.org")] == [
        True, True, False, False, False, False
    ]  # fmt: skip
