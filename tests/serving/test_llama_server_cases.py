"""The cases of llama.cpp's own tests of its server (tools/server/tests/unit) that this server has too, as ours.

basic: health, props, models. security: keys. completion and chat: streams, usage, stops, seeds, many at once.
tokenize: with and without special tokens and pieces. lora: an adapter for each request, here steering. Where we mean to
differ: a key is asked for by /v1/models too, an unknown model is refused, and pages of other sites are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from served import KEY, Served, error_of, serving

from steercpp.data.prompts import Message
from steercpp.engine.engine import Engine


@pytest.fixture(scope="module")
def keyed(tiny_path: Path, vectors: Path) -> Iterator[Served]:
    with (
        Engine(tiny_path, threads=1) as engine,
        serving(engine, vectors, api_keys=(KEY, "another", "schlüssel")) as served,
    ):
        yield served


# unit/test_basic.py


def test_health_props_and_models(served: Served) -> None:
    assert served.http.get("/health").json() == served.http.get("/v1/health").json() == {"status": "ok"}
    props = served.http.get("/props").json()
    assert props["total_slots"] == 4 and props["default_generation_settings"]["n_ctx"] == 512
    assert props["model_path"] == "tiny-F32.gguf" and props["chat_template"] and props["bos_token"] == "<s>"
    (model, _) = served.http.get("/v1/models").json()["data"]
    assert model["id"] == "tiny-F32" and model["object"] == "model" and model["meta"]["n_embd"] == 256


# unit/test_security.py


def test_health_asks_for_no_key(keyed: Served) -> None:
    assert httpx.get(f"{keyed.url}/health").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/metrics", "/v1/steering/vectors", "/v1/nothing"])
def test_all_else_does(keyed: Served, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"},
                    {"X-Api-Key": "wrong"}, {"Authorization": "Bearer x y"}):  # fmt: skip
        answer = httpx.get(f"{keyed.url}{path}", headers=headers)
        error = error_of(answer, 401)
        assert error["type"] == "authentication_error" and KEY not in error["message"]
        assert answer.headers["www-authenticate"] == "Bearer"
    right: list[dict[bytes, bytes]] = [
        {b"Authorization": f"Bearer {KEY}".encode()}, {b"X-Api-Key": b"another"}, {b"X-Api-Key": "schlüssel".encode()}
    ]  # fmt: skip
    for each in right:
        assert httpx.get(f"{keyed.url}{path}", headers=each).status_code in (200, 404)


def test_the_official_client_with_and_without_the_key(keyed: Served) -> None:
    made = keyed.openai.chat.completions.create(
        model=keyed.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
    )
    assert made.choices[0].message.content is not None
    with pytest.raises(openai.AuthenticationError):
        keyed.openai.with_options(api_key="wrong").models.list()


def test_a_key_lets_pages_in(keyed: Served) -> None:
    headers = {"Origin": "https://example.org", "Host": "example.org"}
    assert keyed.http.get("/v1/models", headers=headers).status_code == 200


# unit/test_completion.py and test_chat_completion.py


def test_the_same_seed_draws_the_same(served: Served) -> None:
    def text(**more: object) -> str:
        asked = {"prompt": "the man", "max_tokens": 8, "temperature": 1.0, **more}
        return str(served.post("/v1/completions", asked).json()["choices"][0]["text"])

    assert text(seed=42) == text(seed=42)
    assert len({text(seed=seed) for seed in range(4)}) > 1 and len({text() for _ in range(4)}) > 1
    assert text(temperature=0) == text(temperature=0, seed=7) == text(top_k=1, seed=8)


def test_parallel_completions(served: Served) -> None:
    def usage(n: int) -> int:
        asked = {"prompt": "the man", "max_tokens": n, "logit_bias": [[2, False]]}
        return int(served.post("/v1/completions", asked).json()["usage"]["completion_tokens"])

    with ThreadPoolExecutor(6) as clients:
        assert list(clients.map(usage, range(1, 13))) == list(range(1, 13))


def test_a_template_s_variables_and_the_roles_of_a_chat(served: Served) -> None:
    chat = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    same = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    for kwargs in ({}, {"enable_thinking": True}):
        asked = {"max_tokens": 4, "temperature": 0, "chat_template_kwargs": kwargs}
        texts = [
            served.post("/v1/chat/completions", {"messages": each, **asked}).json()["choices"][0]["message"]["content"]
            for each in (chat, same)
        ]
        assert texts[0] == texts[1]


def test_a_last_message_of_the_assistant_is_gone_on_with(served: Served) -> None:
    chat = [{"role": "user", "content": "the man"}, {"role": "assistant", "content": "Sure, the"}]
    tokens, _ = served.service.engine.encode_answered((Message("user", "the man"),), "Sure, the")
    asked = {"max_tokens": 5, "temperature": 0}
    got = served.post("/v1/chat/completions", {"messages": chat, **asked}).json()["choices"][0]["message"]["content"]
    assert got == served.post("/v1/completions", {"prompt": list(tokens), **asked}).json()["choices"][0]["text"]


# unit/test_tokenize.py


def test_tokens_and_back(served: Served) -> None:
    vocabulary, text = served.service.engine.vocabulary, "the man is in the house"
    plain = served.post("/tokenize", {"content": text}).json()["tokens"]
    assert plain == vocabulary.tokenize(text, add_special=False)
    assert served.post("/tokenize", {"content": text, "add_special": True}).json()["tokens"] == [vocabulary.bos, *plain]
    assert served.post("/detokenize", {"tokens": plain}).json()["content"].strip() == text
    pieces = served.post("/tokenize", {"content": text, "with_pieces": True}).json()["tokens"]
    assert [each["id"] for each in pieces] == plain and "".join(each["piece"] for each in pieces).strip() == text
    special = served.post("/tokenize", {"content": "</s>", "parse_special": True}).json()["tokens"]
    assert special == [2] != served.post("/tokenize", {"content": "</s>", "parse_special": False}).json()["tokens"]
    assert served.post("/tokenize", {}).json()["tokens"] == []
    cut = served.post("/tokenize", {"content": "é", "with_pieces": True}).json()["tokens"]
    assert any(isinstance(each["piece"], list) for each in cut) or len(cut) == 1
    assert error_of(served.post("/detokenize", {"tokens": [10**9]}), 400)["param"] == "tokens"
    assert error_of(served.post("/tokenize", {"content": 7}), 400)["param"] == "content"


# metrics, in unit/test_basic.py and test_slot_save.py of llama.cpp


def test_metrics_count_and_hold_no_text(tiny_path: Path, vectors: Path) -> None:
    with Engine(tiny_path, threads=1) as engine, serving(engine, vectors) as served:
        secret = "the man with a secret"
        for _ in range(2):
            served.post("/v1/completions", {"prompt": secret, "max_tokens": 3, "logit_bias": [[2, False]]})
        served.post("/v1/completions", {"prompt": secret, "steering": "a-secret-name:1"})
        served.http.get("/secret/path")
        served.http.get("/v1/steering/vectors/secret-name")
        told = served.http.get("/metrics").text
        assert "secret" not in told and "refusal" not in told
        numbers = dict(re.findall(r"^(steercpp_[^ ]+) ([0-9.e+]+)$", told, re.MULTILINE))
        n_prompt = len(engine.encode(secret))
        assert float(numbers["steercpp_prompt_tokens_total"]) == 2 * n_prompt
        assert float(numbers["steercpp_cached_prompt_tokens_total"]) == n_prompt - 1
        assert float(numbers["steercpp_generated_tokens_total"]) == 6
        assert numbers['steercpp_requests_total{route="/v1/completions",status="400"}'] == "1.0"
        assert numbers['steercpp_requests_total{route="/v1/completions",status="200"}'] == "2.0"
        assert numbers['steercpp_requests_total{route="other",status="404"}'] == "1.0"
        assert float(numbers["steercpp_token_layers_total"]) > 0
        assert numbers["steercpp_rows_in_work"] == numbers["steercpp_rows_waiting"] == "0.0"


# unit/test_lora.py, with vectors for adapters


def test_steering_of_each_request(served: Served) -> None:
    def text(strength: float) -> str:
        steering = [{"vector": "refusal", "strength": strength}]
        asked = {"prompt": "the man is", "max_tokens": 8, "temperature": 0, "steering": steering}
        return str(served.post("/v1/completions", asked).json()["choices"][0]["text"])

    strengths = (0.0, 0.7, 0.0, 1.4, 0.7)
    alone = [text(strength) for strength in strengths]
    assert alone[0] == alone[2] and alone[1] == alone[4] and len(set(alone)) == 3
    with ThreadPoolExecutor(5) as clients:
        assert list(clients.map(text, strengths)) == alone
