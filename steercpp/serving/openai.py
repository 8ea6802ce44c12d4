"""OpenAI's addresses: /v1/chat/completions, /v1/completions and /v1/models; streams are in streams.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from steercpp.engine.request import Failed, Finished, Generated, Text
from steercpp.errors import SteerError
from steercpp.judging.answers import BEGUN, parted
from steercpp.serving import answers
from steercpp.serving.bodies import Asked, parse_chat, parse_completion
from steercpp.serving.failures import api_error
from steercpp.serving.guard import read_object
from steercpp.serving.order import Order, make_order, unknown_model
from steercpp.serving.scheduler import Job
from steercpp.serving.service import Service
from steercpp.serving.streams import Stream, pieces

LOG = logging.getLogger("steercpp.serving.prompts")
Made = TypeVar("Made")


async def chat_completions(request: Request) -> Response:
    """Continue a chat."""
    return await _answer(request, _service(request), parse_chat(await read_object(request)), of_chat=True)


async def completions(request: Request) -> Response:
    """Continue prompts."""
    return await _answer(request, _service(request), parse_completion(await read_object(request)), of_chat=False)


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
    raise unknown_model(name, service)


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


async def _answer(request: Request, service: Service, asked: Asked, *, of_chat: bool) -> Response:
    order = await service.in_thread(lambda: make_order(service, asked, of_chat=of_chat))
    if service.options.log_prompts:
        for prompt in order.prompts:
            LOG.info("%s: %s", order.envelope.id, service.engine.vocabulary.detokenize(prompt.tokens))
    try:
        job = service.scheduler.submit(order.requests)
    except SteerError as error:
        raise api_error(error, param="n") from error
    try:
        await _unless_gone(request, job.accepted())
        if asked.stream:
            return Stream(pieces(service, order, job), job, service)  # which closes the job
        answer = JSONResponse(await _unless_gone(request, _whole(service, order, job)))
    except BaseException as error:
        job.close()
        if isinstance(error, SteerError):
            raise api_error(error, param="messages" if of_chat else "prompt") from error
        raise
    job.close()
    return answer


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _unless_gone(request: Request, work: Awaitable[Made]) -> Made:
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


async def _whole(service: Service, order: Order, job: Job) -> dict[str, Any]:
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
    return order.envelope.whole(choices, order.usage(done))


def _choice(service: Service, order: Order, place: int, row: Generated, drawn: Sequence[Text]) -> dict[str, Any]:
    asked, spell = order.asked, service.engine.vocabulary.token_bytes
    if order.envelope.of_chat:
        reply = parted(BEGUN + row.text if order.prompt(place).in_thought else row.text)
        message = {"role": "assistant", "content": reply.answer, "refusal": None}
        message |= {"reasoning_content": reply.thoughts} if reply.thoughts else {}
        tokens = list(answers.drawn_tokens(drawn, row.end_token, with_end=False))
        logprobs = answers.chat_logprobs(tokens, spell) if asked.logprobs else None
        return {"index": place, "message": message, "logprobs": logprobs, **order.ending(row)}
    prompt = order.prompt(place)
    draws = order.draws
    text = (prompt.text if asked.echo else "") + (row.text if draws else "")
    logprobs = None
    if asked.logprobs:
        tokens = list(answers.prompt_tokens(prompt.tokens, row)) if asked.echo else []
        # a space that the tokenizer puts before a text, and its begin-of-sequence token, are no part of the text
        surplus = sum(answers.n_chars(spell, each.token) for each in tokens) - len(prompt.text) if asked.echo else 0
        tokens += list(answers.drawn_tokens(drawn, row.end_token, with_end=True)) if draws else []
        logprobs = answers.text_logprobs(tokens, spell, -surplus)
    return {"index": place, "text": text, "logprobs": logprobs, **order.ending(row)}
