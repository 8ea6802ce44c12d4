"""OpenAI's addresses for texts: /v1/chat/completions, /v1/completions and /v1/models, whole or streamed."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from steercpp.engine.request import Failed, Finished, Generated, GenerationRequest, Text
from steercpp.errors import SteerError
from steercpp.judging.answers import BEGUN, parted
from steercpp.serving import answers
from steercpp.serving.answers import FINISHES, Envelope, TokenLogprob
from steercpp.serving.bodies import Asked, parse_chat, parse_completion, parse_json
from steercpp.serving.conversation import Prepared
from steercpp.serving.failures import ApiError, api_error
from steercpp.serving.folder import UnknownVectorError
from steercpp.serving.guard import read_body
from steercpp.serving.scheduler import Job
from steercpp.serving.service import Service
from steercpp.serving.spellings import Applied, applied, parse_model
from steercpp.serving.thoughts import ThoughtStream

LOG = logging.getLogger("steercpp.serving.prompts")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class _Order:
    """A request that is understood: what its rows are and how they are answered."""

    asked: Asked
    envelope: Envelope
    prompts: tuple[Prepared, ...]
    requests: tuple[GenerationRequest, ...]

    def prompt(self, row: int) -> Prepared:
        """The prompt of a row; rows of one prompt stand together."""
        return self.prompts[row // self.asked.n]


async def chat_completions(request: Request) -> Response:
    """Continue a chat."""
    service = _service(request)
    return await _answer(request, service, parse_chat(await _body(request, service)), of_chat=True)


async def completions(request: Request) -> Response:
    """Continue prompts."""
    service = _service(request)
    return await _answer(request, service, parse_completion(await _body(request, service)), of_chat=False)


async def models(request: Request) -> Response:
    """The model, and it with each vector whose sweep recommends a strength."""
    service = _service(request)
    found = await service.in_thread(lambda: _models(service))
    name = request.path_params.get("model")
    if name is None:
        return JSONResponse({"object": "list", "data": found})
    for record in found:
        if record["id"] == name:
            return JSONResponse(record)
    raise _unknown_model(name, service)


def _models(service: Service) -> list[dict[str, Any]]:
    engine = service.engine
    meta = {
        "architecture": engine.architecture, "description": engine.description, "n_vocab": engine.n_vocab,
        "n_ctx": service.scheduler.n_cells, "n_ctx_train": engine.n_ctx_train, "n_embd": engine.n_embd,
        "n_layer": engine.n_layer,
    }  # fmt: skip
    common = {"object": "model", "created": service.started, "owned_by": "steercpp"}
    found: list[dict[str, Any]] = [{"id": service.name, **common, "meta": meta}]
    for named in service.folder.all()[0]:
        if named.recommended is not None:
            steering = {"vector": named.name, "strength": named.recommended}
            found.append({"id": f"{service.name}+{named.name}", **common, "meta": meta, "steering": steering})
    return found


async def _body(request: Request, service: Service) -> Mapping[str, Any]:
    options = service.options
    return parse_json(await read_body(request, options.max_body_bytes, options.read_s))


async def _answer(request: Request, service: Service, asked: Asked, *, of_chat: bool) -> Response:
    order = await service.in_thread(lambda: _order(service, asked, of_chat=of_chat))
    if service.options.log_prompts:
        for prompt in order.prompts:
            LOG.info("%s: %s", order.envelope.id, service.engine.vocabulary.detokenize(prompt.tokens))
    try:
        job = service.scheduler.submit(order.requests)
    except SteerError as error:
        raise api_error(error, param="n") from error
    try:
        await unless_gone(request, job.accepted())
        if asked.stream:
            return _Stream(_pieces(service, order, job), job, service)  # which closes the job
        answer = JSONResponse(await unless_gone(request, _whole(service, order, job)))
    except BaseException as error:
        job.close()
        if isinstance(error, SteerError):
            raise api_error(error, param="messages" if of_chat else "prompt") from error
        raise
    job.close()
    return answer


def _order(service: Service, asked: Asked, *, of_chat: bool) -> _Order:
    """What is asked for, as tokens and steering."""
    acting = _steering(service, asked)
    conversation = service.conversation
    try:
        if of_chat:
            prompts: tuple[Prepared, ...] = (conversation.chat(asked.messages, asked.template_kwargs),)
        else:
            prompts = tuple(
                conversation.text(prompt) if isinstance(prompt, str) else conversation.tokens(prompt)
                for prompt in asked.prompts
            )
    except SteerError as error:
        raise api_error(error, param="messages" if of_chat else "prompt") from error
    try:
        asked.sampling.check_tokens(service.engine.n_vocab)
    except SteerError as error:
        raise api_error(error, param="logit_bias") from error
    n_vocab, n_cells = service.engine.n_vocab, service.scheduler.n_cells
    requests = tuple(
        GenerationRequest(
            prompt.tokens, tuple(one.steering for one in acting),
            replace(asked.sampling, seed=(asked.sampling.seed + i) % (2**32 - 1)),
            # without any token to draw, the first one is drawn and dropped
            max_tokens=n_cells - len(prompt.tokens) if asked.max_tokens is None else max(asked.max_tokens, 1),
            stop=asked.stop, logprobs=asked.logprobs, n_top=min(asked.n_top, n_vocab),
            prompt_logprobs=asked.echo and asked.logprobs,
        )
        for prompt in prompts
        for i in range(asked.n)
    )  # fmt: skip
    prefix = "chatcmpl" if of_chat else "cmpl"
    envelope = Envelope(
        f"{prefix}-{secrets.token_hex(12)}", int(time.time()), asked.model or service.name, of_chat,
        tuple(one.record() for one in acting),
    )  # fmt: skip
    return _Order(asked, envelope, prompts, requests)


def _steering(service: Service, asked: Asked) -> tuple[Applied, ...]:
    """The vectors that a request names in its model or in its field `steering`."""
    try:
        by_model = parse_model(asked.model or service.name, service.name)
    except SteerError as error:
        raise api_error(error, param="model") from error
    if by_model is None:
        raise _unknown_model(asked.model, service)
    if by_model and asked.wishes:
        raise ApiError(400, "`model` names vectors and so does `steering`; give one of them", "steering")
    try:
        return applied(by_model or asked.wishes or (), service.folder, service.engine)
    except UnknownVectorError as error:
        if by_model:
            raise ApiError(404, str(error), "model", "model_not_found") from error
        raise api_error(error, param="steering") from error
    except SteerError as error:
        raise api_error(error, param="model" if by_model else "steering") from error


def _unknown_model(name: str, service: Service) -> ApiError:
    shown = repr(name[:80])
    return ApiError(404, f"there is no model {shown}; this server has {service.name!r}", "model", "model_not_found")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def unless_gone(request: Request, work: Awaitable[Made]) -> Made:
    """What comes of some work, which is given up when the client goes.

    Raises:
        ClientDisconnect: it has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# The answer in one piece.


async def _whole(service: Service, order: _Order, job: Job) -> dict[str, Any]:
    drawn: list[list[Text]] = [[] for _ in order.requests]
    rows: list[Generated | None] = [None] * len(order.requests)
    async for row, event in job.events():
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            rows[row] = event.row
        elif order.asked.logprobs:
            drawn[row].append(event)
    done = [row for row in rows if row is not None]
    choices = [_choice(service, order, place, row, drawn[place]) for place, row in enumerate(done)]
    return order.envelope.whole(choices, _usage(order, done))


def _choice(service: Service, order: _Order, place: int, row: Generated, drawn: Sequence[Text]) -> dict[str, Any]:
    asked, spell = order.asked, service.engine.vocabulary.token_bytes
    gate = {} if row.gate_open is None else {"gate_open": row.gate_open}
    if order.envelope.of_chat:
        reply = parted(BEGUN + row.text if order.prompt(place).in_thought else row.text)
        message = {"role": "assistant", "content": reply.answer, "refusal": None}
        message |= {"reasoning_content": reply.thoughts} if reply.thoughts else {}
        tokens = list(answers.drawn_tokens(drawn, row.end_token, with_end=False))
        logprobs = answers.chat_logprobs(tokens, spell) if asked.logprobs else None
        return {
            "index": place, "message": message, "logprobs": logprobs, "finish_reason": FINISHES[row.finish], **gate
        }  # fmt: skip
    prompt = order.prompt(place)
    draws = asked.max_tokens != 0
    text = (prompt.text if asked.echo else "") + (row.text if draws else "")
    logprobs = None
    if asked.logprobs:
        tokens = list(answers.prompt_tokens(prompt.tokens, row)) if asked.echo else []
        # a space that the tokenizer puts before a text, and its begin-of-sequence token, are no part of the text
        surplus = sum(answers.n_chars(spell, each.token) for each in tokens) - len(prompt.text) if asked.echo else 0
        tokens += list(answers.drawn_tokens(drawn, row.end_token, with_end=True)) if draws else []
        logprobs = answers.text_logprobs(tokens, spell, -surplus)
    finish = FINISHES[row.finish] if draws else "length"
    return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": finish, **gate}


def _usage(order: _Order, rows: Sequence[Generated]) -> dict[str, Any]:
    """What all rows took; a prompt counts once, whatever is drawn after it."""
    draws = order.asked.max_tokens != 0
    return answers.usage(
        n_prompt=sum(len(prompt.tokens) for prompt in order.prompts),
        n_cached=sum(row.n_cached for row in rows[:: order.asked.n]),
        n_drawn=sum(len(row.tokens) + (row.end_token is not None) for row in rows) if draws else 0,
    )


# The answer in pieces.


class _Stream(EventSourceResponse):
    """Pieces of an answer as server-sent events; whatever ends it frees the rows."""

    def __init__(self, pieces: AsyncIterator[dict[str, Any] | str], job: Job, service: Service) -> None:
        options = service.options
        super().__init__(_as_data(pieces), sep="\n", send_timeout=options.send_s, shutdown_grace_period=options.grace_s)
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            raise ClientDisconnect from None  # it does not read, which is as if it had gone
        finally:
            self._job.close()


async def _as_data(pieces: AsyncIterator[dict[str, Any] | str]) -> AsyncIterator[dict[str, str]]:
    async for piece in pieces:
        yield {"data": piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False, allow_nan=False)}


async def _pieces(service: Service, order: _Order, job: Job) -> AsyncIterator[dict[str, Any] | str]:
    """The pieces of an answer, then what it took where that is asked for, then [DONE]; an error ends it earlier."""
    envelope, asked, n_rows = order.envelope, order.asked, len(order.requests)
    usual: dict[str, Any] = {"usage": None} if asked.include_usage else {}
    for place in range(n_rows):
        yield envelope.piece([_begun(order, place)], steering=list(envelope.steering), **usual)
    writers = [_RowWriter(service, order, place) for place in range(n_rows)]
    rows: list[Generated | None] = [None] * n_rows
    async for row, event in job.events():
        if isinstance(event, Failed):
            yield api_error(event.error).record()
            return
        if isinstance(event, Finished):
            rows[row] = event.row
            choices = writers[row].finish(event.row)
        else:
            choices = writers[row].add(event)
        for choice in choices:
            yield envelope.piece([choice], **usual)
    if asked.include_usage:
        took = _usage(order, [row for row in rows if row is not None])
        yield envelope.piece([], usage=took, steering=list(envelope.steering))
    yield "[DONE]"


def _begun(order: _Order, place: int) -> dict[str, Any]:
    """The first piece of a row, before anything is drawn."""
    if order.envelope.of_chat:
        return {"index": place, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    text = order.prompt(place).text if order.asked.echo else ""
    return {"index": place, "text": text, "logprobs": None, "finish_reason": None}


class _RowWriter:
    """Makes the pieces of one row."""

    def __init__(self, service: Service, order: _Order, place: int) -> None:
        self._order, self._place = order, place
        self._spell = service.engine.vocabulary.token_bytes
        self._thoughts = ThoughtStream(order.prompt(place).in_thought)
        self._n_chars = len(order.prompt(place).text) if order.asked.echo else 0
        self._last: Text | None = None  # an end token's, which is not told before it is known

    def add(self, event: Text) -> list[dict[str, Any]]:
        """The piece of a token that was drawn; none where it is no text yet."""
        asked = self._order.asked
        if asked.max_tokens == 0:
            return []
        if event.token is None:
            self._last = event
        tokens = [] if event.token is None else [TokenLogprob(event.token, event.logprob, event.top)]
        if self._order.envelope.of_chat:
            thought, answer = self._thoughts.add(event.text) if event.text else ("", "")
            delta = {name: text for name, text in (("reasoning_content", thought), ("content", answer)) if text}
            told = answers.chat_logprobs(tokens, self._spell) if asked.logprobs and tokens else None
            return [self._delta(delta, told)] if delta or told else []
        told = self._told(tokens) if asked.logprobs and tokens else None
        return [self._text(event.text, told)] if event.text or told else []

    def finish(self, row: Generated) -> list[dict[str, Any]]:
        """The last pieces."""
        asked, gate = self._order.asked, {} if row.gate_open is None else {"gate_open": row.gate_open}
        finish = FINISHES[row.finish] if asked.max_tokens != 0 else "length"
        if self._order.envelope.of_chat:
            thought, answer = self._thoughts.finish() if asked.max_tokens != 0 else ("", "")
            delta = {name: text for name, text in (("reasoning_content", thought), ("content", answer)) if text}
            return [*([self._delta(delta)] if delta else []), {**self._delta({}), "finish_reason": finish, **gate}]
        told = None
        if asked.logprobs and self._last is not None and row.end_token is not None:
            told = self._told([TokenLogprob(row.end_token, self._last.logprob, self._last.top)])
        return [{**self._text("", told), "finish_reason": finish, **gate}]

    def _told(self, tokens: list[TokenLogprob]) -> dict[str, Any]:
        told = answers.text_logprobs(tokens, self._spell, self._n_chars)
        self._n_chars += sum(answers.n_chars(self._spell, each.token) for each in tokens)
        return told

    def _delta(self, delta: dict[str, Any], told: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"index": self._place, "delta": delta, "logprobs": told, "finish_reason": None}

    def _text(self, text: str, told: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"index": self._place, "text": text, "logprobs": told, "finish_reason": None}
