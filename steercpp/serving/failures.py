"""Errors as clients of OpenAI's API expect them, and which of ours is which; read this for status codes.

A client's fault is never a 5xx: the official client asks again after one, and after 408, 409 and 429, unless it is told
not to. It is told so of all but 429 and 503.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steercpp.errors import (
    BusyError,
    ClosingError,
    ContextOverflowError,
    EngineError,
    InputError,
    ModelError,
    NonFiniteError,
    OutOfTimeError,
    SteerError,
)
from steercpp.serving.folder import TakenNameError, UnknownVectorError

RETRY_AFTER_S = 1
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error", 413: "invalid_request_error",
    429: "rate_limit_error", 500: "server_error", 503: "unavailable_error",
}  # fmt: skip


@dataclass(eq=False)
class ApiError(Exception):
    """What a request is answered with in place of what it asks for.

    Attributes:
        status: of HTTP.
        message: one sentence.
        param: the field of the request that it is about; "" for none.
        code: a word for programs; "" for none.
    """

    status: int
    message: str
    param: str = ""
    code: str = ""

    def record(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {
            "error": {"message": self.message, "type": kind, "param": self.param or None, "code": self.code or None}
        }

    @property
    def headers(self) -> dict[str, str]:
        """Whether, and when, the request may be made again; and how a key is given."""
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_AFTER_S)}
        no_more = {"x-should-retry": "false"}
        return {**no_more, "WWW-Authenticate": "Bearer"} if self.status == 401 else no_more


def api_error(error: Exception, *, param: str = "") -> ApiError:
    """The answer to a request that ends with an error.

    Args:
        error: any; of one that is not ours nothing is told, as it might hold texts.
        param: the field that is being read.
    """
    if isinstance(error, ApiError):
        return error
    if not isinstance(error, SteerError):
        return ApiError(500, f"this is a fault of the server ({type(error).__name__})", code="internal_error")
    for kind, status, code in (
        (BusyError, 429, "server_busy"), (ClosingError, 503, "server_closing"), (OutOfTimeError, 408, "out_of_time"),
        (ContextOverflowError, 400, "context_length_exceeded"), (UnknownVectorError, 400, "vector_not_found"),
        (TakenNameError, 409, "vector_exists"), (InputError, 400, ""),
    ):  # fmt: skip
        if isinstance(error, kind):
            return ApiError(status, in_fields(str(error)), param, code)
    if isinstance(error, NonFiniteError) and "at strength" in str(error):
        return ApiError(400, str(error), "steering", "non_finite")
    if isinstance(error, EngineError | ModelError):
        return ApiError(500, "the model cannot be computed now", code="engine_error")
    return ApiError(400, in_fields(str(error)), param)


def in_fields(sentence: str) -> str:
    """A sentence of the library, whose parameters are fields of a request: they keep their backticks."""
    return sentence.replace("`template_kwargs`", "`chat_template_kwargs`")
