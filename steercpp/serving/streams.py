"""Answers in pieces, as server-sent events; read this for what a client of a stream gets, and when."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from steercpp.engine.request import Failed, Finished, Generated, Text
from steercpp.serving import answers
from steercpp.serving.answers import TokenLogprob
from steercpp.serving.failures import api_error
from steercpp.serving.order import Order
from steercpp.serving.scheduler import Job
from steercpp.serving.service import Service
from steercpp.serving.thoughts import ThoughtStream


class Stream(EventSourceResponse):
    """Pieces of an answer as server-sent events; whatever ends it frees the rows.

    Args:
        pieces: see `pieces`.
        job: whose rows they are of.
        service: whose limits hold.
    """

    def __init__(self, pieces: AsyncIterator[dict[str, Any] | str], job: Job, service: Service) -> None:
        options = service.options
        super().__init__(_as_data(pieces), sep="\n", send_timeout=options.send_s, shutdown_grace_period=options.grace_s)
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces.

        Raises:
            ClientDisconnect: the client does not read them.
        """
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            raise ClientDisconnect from None  # it does not read, which is as if it had gone
        finally:
            self._job.close()


async def _as_data(pieces: AsyncIterator[dict[str, Any] | str]) -> AsyncIterator[dict[str, str]]:
    async for piece in pieces:
        yield {"data": piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False, allow_nan=False)}


async def pieces(service: Service, order: Order, job: Job) -> AsyncIterator[dict[str, Any] | str]:
    """The pieces of an answer, then what it took where that is asked for, then [DONE]; an error ends it earlier."""
    envelope, n_rows = order.envelope, len(order.requests)
    usual: dict[str, Any] = {"usage": None} if order.asked.include_usage else {}
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
    if order.asked.include_usage:
        took = order.usage([row for row in rows if row is not None])
        yield envelope.piece([], usage=took, steering=list(envelope.steering))
    yield "[DONE]"


def _begun(order: Order, place: int) -> dict[str, Any]:
    """The first piece of a row, before anything is drawn."""
    if order.envelope.of_chat:
        return {"index": place, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    text = order.prompt(place).text if order.asked.echo else ""
    return {"index": place, "text": text, "logprobs": None, "finish_reason": None}


class _RowWriter:
    """Makes the pieces of one row."""

    def __init__(self, service: Service, order: Order, place: int) -> None:
        self._order, self._place = order, place
        self._spell = service.engine.vocabulary.token_bytes
        self._thoughts = ThoughtStream(order.prompt(place).in_thought)
        self._n_chars = len(order.prompt(place).text) if order.asked.echo else 0
        self._last: Text | None = None  # an end token's, which is not told before it is known

    def add(self, event: Text) -> list[dict[str, Any]]:
        """The piece of a token that was drawn; none where it is no text yet."""
        asked = self._order.asked
        if not self._order.draws:
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
        asked, ending = self._order.asked, self._order.ending(row)
        if self._order.envelope.of_chat:
            thought, answer = self._thoughts.finish() if self._order.draws else ("", "")
            delta = {name: text for name, text in (("reasoning_content", thought), ("content", answer)) if text}
            return [*([self._delta(delta)] if delta else []), {**self._delta({}), **ending}]
        told = None
        if asked.logprobs and self._last is not None and row.end_token is not None:
            told = self._told([TokenLogprob(row.end_token, self._last.logprob, self._last.top)])
        return [{**self._text("", told), **ending}]

    def _told(self, tokens: list[TokenLogprob]) -> dict[str, Any]:
        told = answers.text_logprobs(tokens, self._spell, self._n_chars)
        self._n_chars += sum(answers.n_chars(self._spell, each.token) for each in tokens)
        return told

    def _delta(self, delta: dict[str, Any], told: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"index": self._place, "delta": delta, "logprobs": told, "finish_reason": None}

    def _text(self, text: str, told: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"index": self._place, "text": text, "logprobs": told, "finish_reason": None}
