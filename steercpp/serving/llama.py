"""Addresses as llama-server has them: /health, /props, /tokenize and /detokenize, and /metrics."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from steercpp.engine.sampling import Sampling
from steercpp.errors import SteerError
from steercpp.provenance import versions
from steercpp.serving.bodies import Fields
from steercpp.serving.failures import ApiError, api_error
from steercpp.serving.guard import read_object
from steercpp.serving.metrics import CONTENT_TYPE
from steercpp.serving.service import Service


async def health(request: Request) -> Response:
    """Whether requests are taken."""
    service: Service = request.app.state.service
    if service.scheduler.is_sound:
        return JSONResponse({"status": "ok"})
    raise ApiError(503, "the server takes no requests now", code="unavailable_error")


async def props(request: Request) -> Response:
    """What the model and the server are; of its file the name alone."""
    service: Service = request.app.state.service
    engine, scheduler = service.engine, service.scheduler
    usual = Sampling(temperature=1.0)
    return JSONResponse(
        {
            "default_generation_settings": {
                "n_ctx": scheduler.n_cells,
                "params": {
                    "temperature": usual.temperature, "top_k": usual.top_k, "top_p": usual.top_p,
                    "min_p": usual.min_p, "repeat_penalty": usual.repeat_penalty,
                    "repeat_last_n": usual.repeat_last_n, "presence_penalty": usual.presence_penalty,
                    "frequency_penalty": usual.frequency_penalty,
                },
            },
            "total_slots": scheduler.n_rows, "model_alias": service.name, "model_path": engine.path.name,
            "modalities": {"vision": False, "audio": False}, "chat_template": engine.chat_template or "",
            "bos_token": engine.bos_piece, "eos_token": engine.eos_piece,
            "build_info": f"steercpp {versions()['steercpp']}",
            "steering": {"vectors": list(await service.in_thread(service.folder.names))},
        }
    )  # fmt: skip


async def tokenize(request: Request) -> Response:
    """The tokens of a text."""
    service, fields = await _fields(request)
    content, vocabulary = fields.text("content", ""), service.engine.vocabulary
    special, parse = fields.flag("add_special"), fields.get("parse_special") is not False
    try:
        tokens = await service.in_thread(lambda: vocabulary.tokenize(content, add_special=special, parse_special=parse))
    except SteerError as error:
        raise api_error(error, param="content") from error
    if not fields.flag("with_pieces"):
        return JSONResponse({"tokens": tokens})
    return JSONResponse({"tokens": [{"id": token, "piece": _piece(vocabulary.token_bytes(token))} for token in tokens]})


async def detokenize(request: Request) -> Response:
    """The text of tokens."""
    service, fields = await _fields(request)
    tokens = fields.get("tokens")
    n_vocab = service.engine.n_vocab
    if not isinstance(tokens, list) or not all(type(token) is int and 0 <= token < n_vocab for token in tokens):
        raise ApiError(400, f"`tokens` is no list of tokens of the model, 0 to {n_vocab - 1}", "tokens")
    content = await service.in_thread(lambda: service.engine.vocabulary.detokenize(tokens))
    return JSONResponse({"content": content})


async def metrics(request: Request) -> Response:
    """Numbers for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _fields(request: Request) -> tuple[Service, Fields]:
    return request.app.state.service, Fields(await read_object(request))


def _piece(data: bytes) -> Any:
    """A token's text; where it cuts a character its bytes, as llama-server tells them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
