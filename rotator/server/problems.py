"""Errors as the API says them: one JSON form, no internals, and never a piece of what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rotator.domain.errors import Conflict, MalformedKey, Misconfigured, NeedsHuman, Permanent, RateLimited, Retry, RotatorError
from rotator.engine.operations import UnknownCredential, UnknownTarget
from rotator.engine.supplying import UnknownIssuer
from rotator.server.access import Forbidden

KEY_SHAPED = re.compile(r"((?:rk|sk|ak|pk)_[a-z][a-z0-9]*_[A-Za-z0-9]{8})_[A-Za-z0-9_-]+")
MAX_BODY = 64 * 1024
TOO_LARGE = f"the body may have {MAX_BODY} bytes at most"
_USAGE = 2
_FAILED = 1


class NotFound(RotatorError):
    """Nothing of that name is known."""

    exit_code = _USAGE


_STATUSES: tuple[tuple[type[RotatorError], HTTPStatus, int | None], ...] = (
    (UnknownCredential, HTTPStatus.NOT_FOUND, None),
    (UnknownTarget, HTTPStatus.NOT_FOUND, None),
    (UnknownIssuer, HTTPStatus.NOT_FOUND, None),
    (NotFound, HTTPStatus.NOT_FOUND, None),
    (Forbidden, HTTPStatus.FORBIDDEN, None),
    (MalformedKey, HTTPStatus.BAD_REQUEST, _USAGE),
    (Misconfigured, HTTPStatus.CONFLICT, None),
    (NeedsHuman, HTTPStatus.CONFLICT, None),
    (Permanent, HTTPStatus.CONFLICT, None),
    (Conflict, HTTPStatus.CONFLICT, None),
    (Retry, HTTPStatus.SERVICE_UNAVAILABLE, None),
    (RotatorError, HTTPStatus.INTERNAL_SERVER_ERROR, None),
)
"""The first that fits; None: the error's own exit code."""
_REASONS: Mapping[type[RotatorError], str] = {
    UnknownCredential: "unknown-credential",
    UnknownTarget: "unknown-target",
    UnknownIssuer: "unknown-issuer",
    NotFound: "not-found",
    Forbidden: "forbidden",
}
_WORDS = {
    HTTPStatus.NOT_FOUND: (
        "not-found",
        "there is nothing at this path: the API stands under /api/v1, its description at /api/v1/openapi.json",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", TOO_LARGE),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "method-not-allowed",
        "this path does not take that method: the answer's Allow header names those it takes",
    ),
}


def build_problem(status: int, error: str, message: str, exit_code: int = _FAILED, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is not a success. Whatever looks like a key in the message is cut to its key id."""
    body = {"error": error, "message": KEY_SHAPED.sub(r"\1_…", message), "exit_code": exit_code}
    return JSONResponse(body, status, dict(headers or {}))


def add_problem_answers(app: FastAPI) -> None:
    """Let the application answer errors in our form."""
    app.add_exception_handler(RotatorError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RotatorError)
    status, exit_code = next((status, code) for kind, status, code in _STATUSES if isinstance(error, kind))
    headers = {}
    if isinstance(error, Retry) and error.after is not None:
        headers["Retry-After"] = str(max(1, round(error.after.total_seconds())))
    if isinstance(error, RateLimited) and not headers:
        headers["Retry-After"] = "1"
    word = _REASONS.get(type(error), str(error.reason))
    return build_problem(status, word, str(error), error.exit_code if exit_code is None else exit_code, headers)


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    sentences = dict.fromkeys(_describe(one) for one in error.errors())
    return build_problem(HTTPStatus.BAD_REQUEST, "invalid-request", "; ".join(sentences), _USAGE)


async def _answer_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    word, message = _WORDS.get(status, (status.phrase.lower().replace(" ", "-"), f"{status.phrase}: correct the request"))
    return build_problem(status, word, message, _USAGE if status < HTTPStatus.INTERNAL_SERVER_ERROR else _FAILED, error.headers)


def _describe(error: Any) -> str:
    """Where and which rule; names and values that the sender chose stay out, since one of them may be a key."""
    kind, place = str(error["type"]), [str(part) for part in error["loc"]]
    where = {"body": "the body", "query": "the query", "path": "the path"}.get(place[0], place[0]) if place else "the request"
    if kind == "json_invalid":
        return "the body is not valid JSON"
    if kind == "extra_forbidden":
        return f"{where} has a field that is not known: see /api/v1/openapi.json for those that are"
    if len(place) > 1:
        where = f"{where}'s `{'.'.join(place[1:])}`"
    rule = {
        "missing": "is missing",
        "model_attributes_type": "must be a JSON object, sent as application/json",
        "model_type": "must be a JSON object, sent as application/json",
        "value_error": _own_words(error),
    }.get(kind)
    if rule is None:
        text = str(error["msg"])
        rule = text[:1].lower() + text[1:]
    return f"{where}: {rule}" if kind != "missing" else f"{where} is missing"


def _own_words(error: Any) -> str:
    # raised by our models, whose messages quote nothing
    return str(error["msg"]).removeprefix("Value error, ")
