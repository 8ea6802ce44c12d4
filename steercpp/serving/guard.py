"""What stands before all addresses: who may ask, how much may be sent, what is counted and logged, and how errors look.

Without a key, a server that only this machine reaches still refuses what web pages send: a page of any site could have
the visitor's browser ask it, and by a name of its own (DNS rebinding) read the answer.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steercpp.serving.bodies import parse_json
from steercpp.serving.failures import ApiError, api_error
from steercpp.serving.service import LOOPBACK, Service

LOG = logging.getLogger("steercpp.serving")
PUBLIC = ("/health", "/v1/health")
_DROP_S = 10.0  # in which the rest of a body that is too large is read and dropped
VECTOR_ROUTE = "/v1/steering/vectors/{name}"


class Guard:
    """Wraps the addresses of a server.

    Args:
        app: the addresses.
        service: whose.
        routes: paths that there are; all others are counted together.
    """

    def __init__(self, app: ASGIApp, service: Service, routes: frozenset[str]) -> None:
        self._app, self._service, self._routes = app, service, routes
        self._keys = [key.encode() for key in service.options.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._refuse_strangers(scope)
            await self._app(scope, receive, noted)
        except ApiError as error:
            await failed(error)(scope, receive, noted)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            _log_fault(error)
            if not status:
                await failed(api_error(error))(scope, receive, noted)
        finally:
            route, seconds = self._route(scope["path"]), time.monotonic() - began
            self._service.metrics.count(route, status or 499, seconds)
            LOG.info("%s %s %d %.3fs", _method(scope), route, status or 499, seconds)

    def _route(self, path: str) -> str:
        if path in self._routes:
            return path
        return VECTOR_ROUTE if path.startswith("/v1/steering/vectors/") else "other"

    def _refuse_strangers(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"] in PUBLIC:
            return
        if not self._keys:
            if self._service.is_local:
                _refuse_pages(headers)
            return
        given = _key(headers).encode("latin-1")  # the bytes as they came
        if not any([hmac.compare_digest(given, key) for key in self._keys]):  # all, in the same time
            raise ApiError(
                401, "the API key is missing or wrong; send it as Authorization: Bearer KEY", "", "invalid_api_key"
            )


def failed(error: ApiError) -> Response:
    """The answer to a request that fails."""
    kind = _TooLarge if error.status == 413 else JSONResponse
    return kind(error.record(), error.status, error.headers)


class _TooLarge(JSONResponse):
    """An answer to a body that is still coming: it is sent at once, and what comes is dropped for a while.

    A connection that is closed with bytes unread is reset, and the client may never see the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_DROP_S):
                while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """A request's body, which is given up as soon as it is too large or takes too long.

    Raises:
        ApiError: it does.
        ClientDisconnect: the client has gone.
    """
    too_large = ApiError(413, f"the body is larger than {most} bytes", code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > 18 or int(length) > most):
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                data += piece
                if len(data) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body was not there in {seconds:g} seconds", code="body_too_slow") from None
    return bytes(data)


async def read_object(request: Request) -> Mapping[str, Any]:
    """The object in a request's body, within the limits of its service.

    Raises:
        ApiError, ClientDisconnect: as `read_body`; ApiError: it is no object.
    """
    options = request.app.state.service.options
    return parse_json(await read_body(request, options.max_body_bytes, options.read_s))


def _key(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _refuse_pages(headers: Mapping[str, str]) -> None:
    for name, url in (("Host", f"//{headers.get('host', '')}"), ("Origin", headers.get("origin", ""))):
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = "?"
        if url not in ("//", "") and host not in LOOPBACK:
            raise ApiError(
                403, f"{name} is not of this machine; a server that web pages and others may ask needs an API key",
                code="foreign_page",
            )  # fmt: skip


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
    return scope["method"] if scope["method"] in known else "other"


def _log_fault(error: Exception) -> None:
    """Where a fault of ours is; not its message, which may hold texts."""
    import traceback

    places = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("a fault of steercpp: %s\n%s", type(error).__name__, places)
