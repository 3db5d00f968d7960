"""What the service answers when it cannot do what was asked: one form for all errors."""

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import exc
from starlette.exceptions import HTTPException

logger = logging.getLogger(__name__)

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    422: "invalid",
    429: "too_many",
    503: "unavailable",
    507: "full",
}
INVALID = 422
MAX_MESSAGE = 1000
"""Characters of an error: what is refused may be long."""
MAX_PLACE = 200


class Fault(BaseModel):
    """What is wrong, for programs and for people."""

    code: str
    message: str
    hint: str | None = None
    field: str | None = None
    """Of a request that is not in order: what of it."""


class ErrorBody(BaseModel):
    """Body of every answer that is an error."""

    error: Fault


class ApiError(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: Of HTTP.
        message: What has which value, and what was expected.
        hint: What to do.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.headers = status, message, hint, headers


def answer(
    status: int, message: str, hint: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error as a response."""
    clean = message.encode(errors="replace").decode()  # half a surrogate is no text
    code = CODES.get(status, "error")
    place = place_of(message) if status == INVALID else None
    fault = Fault(code=code, message=clean[:MAX_MESSAGE], hint=hint, field=place)
    return JSONResponse(
        ErrorBody(error=fault).model_dump(exclude_none=True), status_code=status, headers=headers
    )


def place_of(message: str) -> str | None:
    """What of a request is not in order: messages of this status begin with it."""
    found = re.match(r"(?:body\.)?([a-z_]+(?:\.[a-z0-9_.-]+)?)(?::| |=|$)", message)
    return found[1] if found else None


def install(app: FastAPI) -> None:
    """Answer every error of the service in the one form."""

    @app.exception_handler(ApiError)
    async def _ours(_request: Request, error: ApiError) -> JSONResponse:
        return answer(error.status, error.message, error.hint, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, described(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(exc.OperationalError)
    @app.exception_handler(exc.TimeoutError)
    async def _database(_request: Request, error: exc.SQLAlchemyError) -> JSONResponse:
        logger.error("the records cannot be reached: %s", error)
        return answer(503, "the records cannot be reached", "try again", {"Retry-After": "2"})

    @app.exception_handler(Exception)
    async def _unforeseen(_request: Request, _error: Exception) -> JSONResponse:
        return answer(500, "the service has failed; its log says why")


def described(fault: Any) -> str:
    """What pydantic says of a request, with the place and no more of the value than is needed."""
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where[:MAX_PLACE]}: {str(fault['msg']).removeprefix('Value error, ')}"
