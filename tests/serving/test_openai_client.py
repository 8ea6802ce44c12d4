"""The official client, unchanged, against a server of the tiny model: it gets what it expects."""

from __future__ import annotations

import math

import openai
import pytest
from served import Served, events

from steercpp.engine.batch import Query
from steercpp.engine.engine import Engine
from steercpp.engine.generation import generate
from steercpp.engine.steering import Steering

PROMPT = "the man is in the house and the day"
CHAT = [{"role": "user", "content": "the man is in the house"}]


def own_text(served: Served, prompt: str, steering: list[tuple[str, float]], n: int = 8) -> str:
    """What `generate` gives, with an engine of its own."""
    with Engine(model=served.service.engine.model, threads=1) as engine:
        acting = [Steering(served.service.folder.vector(name).vector, strength) for name, strength in steering]
        return generate(engine, prompt, [acting], max_tokens=n).rows[0].text


def test_a_completion_is_what_generate_gives(served: Served) -> None:
    plain = served.openai.completions.create(model=served.model, prompt=PROMPT, max_tokens=8, temperature=0)
    assert plain.choices[0].text == own_text(served, PROMPT, [])
    assert plain.choices[0].finish_reason == "length" and plain.object == "text_completion"
    n_prompt = len(served.service.engine.encode(PROMPT))
    assert plain.usage is not None and plain.usage.prompt_tokens == n_prompt and plain.usage.completion_tokens == 8
    assert plain.model_extra == {"steering": []}


def test_steering_is_applied_and_told(served: Served) -> None:
    steered = served.openai.completions.create(
        model=served.model, prompt=PROMPT, max_tokens=8, temperature=0, extra_body={"steering": "refusal:1.5"}
    )
    assert steered.choices[0].text == own_text(served, PROMPT, [("refusal", 1.5)]) != own_text(served, PROMPT, [])
    assert steered.model_extra is not None
    (applied,) = steered.model_extra["steering"]
    assert applied["vector"] == "refusal" and applied["strength"] == 1.5 and applied["layers"] == [1, 2]
    assert applied["operator"] == "add" and len(applied["sha256"]) == 64


def test_a_chat_whole_and_streamed(served: Served) -> None:
    whole = served.openai.chat.completions.create(
        model=served.model, messages=CHAT, max_completion_tokens=8, temperature=0,
        extra_body={"steering": [{"vector": "cheer", "strength": -1}]},
    )  # fmt: skip
    text = whole.choices[0].message.content
    stream = served.openai.chat.completions.create(
        model=served.model, messages=CHAT, max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True}, extra_body={"steering": "cheer:-1"},
    )  # fmt: skip
    pieces = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
    assert pieces[0].choices[0].delta.role == "assistant" and pieces[0].model_extra is not None
    assert pieces[0].model_extra["steering"][0]["vector"] == "cheer"
    assert pieces[-1].choices == [] and pieces[-1].usage is not None and whole.usage is not None
    assert pieces[-1].usage.total_tokens == whole.usage.total_tokens
    assert all(piece.usage is None for piece in pieces[:-1])
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_a_completion_streamed(served: Served) -> None:
    stream = served.openai.completions.create(
        model=served.model, prompt=PROMPT, max_tokens=8, temperature=0, stream=True, echo=True
    )
    assert "".join(piece.choices[0].text for piece in stream) == PROMPT + own_text(served, PROMPT, [])
    with served.http.stream("POST", "/v1/completions", json={"prompt": PROMPT, "stream": True, "n": 2}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        rows = [piece["choices"][0]["index"] for piece in events(answer)]
    assert set(rows) == {0, 1}


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_chat(served: Served, stream: bool) -> None:
    asked = {
        "model": served.model, "messages": CHAT, "max_tokens": 4, "temperature": 0, "logprobs": True, "top_logprobs": 3
    }  # fmt: skip
    if stream:
        pieces = served.openai.chat.completions.create(**asked, stream=True)
        told = [p.choices[0].logprobs.content[0] for p in pieces if p.choices and p.choices[0].logprobs]
    else:
        told = served.openai.chat.completions.create(**asked).choices[0].logprobs.content
    assert len(told) == 4
    for token in told:
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].token == token.token  # greedy
        assert token.logprob == token.top_logprobs[0].logprob < 0
        assert bytes(token.bytes).decode("utf-8", "replace") == token.token


def test_an_echoed_prompt_has_the_log_probabilities_that_the_engine_gives(served: Served) -> None:
    """What lm-eval asks for: everything but the last token is the prompt's."""
    answer = served.openai.completions.create(
        model=served.model, prompt=PROMPT, max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234,
        extra_body={"steering": "refusal:0.5"},
    )  # fmt: skip
    told = answer.choices[0].logprobs
    assert told is not None and told.token_logprobs is not None and told.tokens is not None
    tokens = served.service.engine.encode(PROMPT)
    assert len(told.tokens) == len(told.token_logprobs) == len(tokens) + 1 and told.token_logprobs[0] is None
    with Engine(model=served.service.engine.model, threads=1) as engine:
        steering = (Steering(served.service.folder.vector("refusal").vector, 0.5),)
        (batch,) = engine.pack([Query(tokens[:1], (tokens[1:],))], [steering])
        expected = float(engine.logprobs(batch, steering=[steering])[0][0])
    assert math.isclose(sum(told.token_logprobs[1:-1]), expected, abs_tol=1e-4)
    assert answer.choices[0].text.startswith(PROMPT)
    assert told.text_offset is not None and told.text_offset[0] == 0 and told.text_offset[-1] == len(PROMPT)
    for place, top in enumerate(told.top_logprobs or []):
        assert (top is None) == (place == 0) and (top is None or len(top) == 1)
    same = served.openai.completions.create(
        model=served.model, prompt=list(tokens), max_tokens=0, logprobs=1, echo=True,
        extra_body={"steering": "refusal:0.5"},
    )  # fmt: skip
    assert same.choices[0].logprobs is not None and same.usage is not None and same.usage.completion_tokens == 0
    assert same.choices[0].logprobs.token_logprobs == told.token_logprobs[:-1]
    assert same.choices[0].text == PROMPT


def test_several_prompts_and_choices(served: Served) -> None:
    tokens = list(served.service.engine.encode(PROMPT))
    answer = served.openai.completions.create(
        model=served.model, prompt=[tokens, tokens[:4]], n=2, max_tokens=5, seed=3, temperature=0.9
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    again = served.openai.completions.create(
        model=served.model, prompt=[tokens, tokens[:4]], n=2, max_tokens=5, seed=3, temperature=0.9
    )
    assert [choice.text for choice in again.choices] == [choice.text for choice in answer.choices]
    assert answer.choices[0].text != answer.choices[1].text  # a seed of its own
    assert answer.usage is not None and answer.usage.prompt_tokens == len(tokens) + 4


def test_stops_biases_and_penalties(served: Served) -> None:
    def text(**more: object) -> openai.types.CompletionChoice:
        answer = served.openai.completions.create(
            model=served.model,
            prompt=PROMPT,
            max_tokens=8,
            temperature=0,
            **more,
        )
        choice: openai.types.CompletionChoice = answer.choices[0]
        return choice

    plain = text().text
    stopped = text(stop=[plain[3:5]])
    assert stopped.finish_reason == "stop" and stopped.text == plain[:3]
    drawn = text(logprobs=0).logprobs
    assert drawn is not None and drawn.tokens is not None
    house = served.post("/tokenize", {"content": "the house"}).json()["tokens"][-1]
    word = served.post("/detokenize", {"tokens": [house]}).json()["content"]
    chosen = text(logit_bias={str(house): 50}).text
    assert chosen == word * 8
    # the prompt's tokens count too
    assert text(logit_bias={str(house): 50}, frequency_penalty=2, presence_penalty=50).text == plain
    banned = served.post("/v1/completions", {"prompt": PROMPT, "logit_bias": [[house, 50], [house + 1, False]]})
    assert banned.status_code == 200


def test_models_and_virtual_ones(served: Served) -> None:
    names = [model.id for model in served.openai.models.list()]
    assert names == [served.model, f"{served.model}+sweep"]
    assert served.openai.models.retrieve(names[1]).id == names[1]
    asked = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    virtual = served.openai.completions.create(model=names[1], **asked)
    assert virtual.model == names[1] and virtual.steering[0]["strength"] == 0.75
    same = served.post("/v1/completions", {**asked, "steering": {"vector": "sweep", "strength": "recommended"}}).json()
    assert same["choices"][0]["text"] == virtual.choices[0].text and same["steering"] == virtual.steering
    both = served.openai.completions.create(model=f"{served.model}+refusal@1.5+cheer@-5e-1", **asked)
    assert both.choices[0].text == own_text(served, PROMPT, [("refusal", 1.5), ("cheer", -0.5)])
    with pytest.raises(openai.NotFoundError) as unknown:
        served.openai.completions.create(model="gpt-4", prompt=PROMPT)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        served.openai.completions.create(model=f"{served.model}+nothing@1", prompt=PROMPT)


def test_errors_are_the_client_s_own_exceptions(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        served.openai.completions.create(model=served.model, prompt=PROMPT, temperature=-1)
    assert wrong.value.param == "temperature" and "temperature" in wrong.value.message
    assert wrong.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.BadRequestError) as long:
        served.openai.completions.create(model=served.model, prompt=PROMPT, max_tokens=10**6)
    assert long.value.code == "context_length_exceeded"
