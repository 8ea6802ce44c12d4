"""A server's addresses; read this for what answers where."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from steercpp.serving import llama, openai, vectors
from steercpp.serving.failures import ApiError
from steercpp.serving.guard import VECTOR_ROUTE, Guard, failed
from steercpp.serving.service import Service

VECTORS = "/v1/steering/vectors"
ROUTES = (
    Route("/v1/chat/completions", openai.chat_completions, methods=["POST"]),
    Route("/v1/completions", openai.completions, methods=["POST"]),
    Route("/v1/models", openai.models, methods=["GET"]),
    Route("/v1/models/{model:path}", openai.models, methods=["GET"]),
    Route(VECTORS, vectors.listed, methods=["GET"]),
    Route(VECTORS, vectors.uploaded, methods=["POST"]),
    Route(VECTOR_ROUTE, vectors.shown, methods=["GET"]),
    Route(VECTOR_ROUTE, vectors.deleted, methods=["DELETE"]),
    Route("/health", llama.health, methods=["GET"]),
    Route("/v1/health", llama.health, methods=["GET"]),
    Route("/props", llama.props, methods=["GET"]),
    Route("/tokenize", llama.tokenize, methods=["POST"]),
    Route("/detokenize", llama.detokenize, methods=["POST"]),
    Route("/metrics", llama.metrics, methods=["GET"]),
)


def make_app(service: Service) -> ASGIApp:
    """The addresses of a service, as an ASGI application. It does not close the service."""
    app = Starlette(routes=ROUTES, exception_handlers={HTTPException: _http_error, ApiError: _api_error})
    app.router.redirect_slashes = False
    app.state.service = service
    return Guard(app, service, frozenset(route.path for route in ROUTES if "{" not in route.path))


async def _http_error(_: Request, error: Exception) -> Response:
    """What Starlette itself refuses: addresses that there are not, and methods that an address has not."""
    assert isinstance(error, HTTPException)
    words = {404: "there is no such address", 405: "the address does not take this method"}
    return failed(ApiError(error.status_code, words.get(error.status_code, "the request cannot be read"), "", "route"))


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return failed(error)
