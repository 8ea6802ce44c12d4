"""/v1/steering/vectors: which vectors requests may name, and where that is allowed, new ones and their end."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from steercpp.errors import SteerError
from steercpp.serving.failures import ApiError, api_error
from steercpp.serving.folder import UnknownVectorError
from steercpp.serving.guard import read_body
from steercpp.serving.service import Service


async def listed(request: Request) -> Response:
    """All vectors, each with what is known of it, and those that cannot be used with the reason."""
    service: Service = request.app.state.service
    found, refused = await service.in_thread(service.folder.all)
    records: list[dict[str, Any]] = [named.record() for named in found]
    unusable = [{"id": name, "reason": reason} for name, reason in refused.items()]
    return JSONResponse({"object": "list", "data": records, "unusable": unusable})


async def shown(request: Request) -> Response:
    """One vector."""
    service, name = request.app.state.service, request.path_params["name"]
    try:
        named = await service.in_thread(lambda: service.folder.vector(name))
    except SteerError as error:
        raise _of_path(error) from error
    return JSONResponse(named.record())


async def uploaded(request: Request) -> Response:
    """Keep the body as a vector, called as the query's `name` says."""
    service: Service = request.app.state.service
    _refuse_unless_allowed(service)
    name, options = request.query_params.get("name", ""), service.options
    data = await read_body(request, options.max_upload_bytes, options.read_s)
    try:
        named = await service.in_thread(lambda: service.folder.add(name, data))
    except SteerError as error:
        raise api_error(error, param="name") from error
    return JSONResponse(named.record(), 201)


async def deleted(request: Request) -> Response:
    """Delete a vector's file."""
    service, name = request.app.state.service, request.path_params["name"]
    _refuse_unless_allowed(service)
    try:
        await service.in_thread(lambda: service.folder.remove(name))
    except SteerError as error:
        raise _of_path(error) from error
    return JSONResponse({"id": name, "object": "steering.vector", "deleted": True})


def _refuse_unless_allowed(service: Service) -> None:
    if not service.options.allow_uploads:
        raise ApiError(403, "this server's vectors are not to be changed by requests", code="uploads_not_allowed")


def _of_path(error: SteerError) -> ApiError:
    """The answer where a vector is named by the address."""
    if isinstance(error, UnknownVectorError):
        return ApiError(404, str(error), "name", "vector_not_found")
    return api_error(error, param="name")
