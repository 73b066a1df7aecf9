"""From a request to its answer: find the route, check the caller, read the body, call, answer.

Rules of this file: it runs for every request, so it formats no text and looks up no metric by
label. It is the only place that turns an exception into an answer.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import asyncpg
import structlog
from aiohttp.web import BaseRequest, StreamResponse
from msgspec import Struct

from homeserver.errors import InvalidParam, MatrixError, UnknownError
from homeserver.http.answer import error_answer, json_answer, preflight_answer
from homeserver.http.authentication import AdmitOrigin, Authentication
from homeserver.http.body import read_body
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Body
from homeserver.http.metrics import Metrics
from homeserver.http.parts import Parts
from homeserver.http.rate_limits import Limit, RateLimits
from homeserver.http.router import Route, Router
from homeserver.requester import Requester

log = structlog.get_logger()
request_number: ContextVar[int] = ContextVar("request_number")
_numbers = itertools.count(1)


def add_request_id(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The structlog processor that puts the id of the request in work into each line."""
    number = request_number.get(None)
    if number is not None:
        event["request_id"] = number
    return event


class Doors(Struct, frozen=True):
    """What all listeners share: how callers are checked, counted and measured."""

    parts: Parts
    authentication: Authentication
    admit_origin: AdmitOrigin
    rate_limits: RateLimits
    metrics: Metrics


class Middleware:
    """Serves the requests of one listener."""

    def __init__(self, doors: Doors, router: Router, x_forwarded: bool) -> None:
        self._doors = doors
        self._router = router
        self._x_forwarded = x_forwarded

    async def __call__(self, request: BaseRequest) -> StreamResponse:
        """The answer to a request: never raises but for a vanished client or cancellation."""
        if request.method == "OPTIONS":
            return preflight_answer()
        request_number.set(next(_numbers))
        metrics = self._doors.metrics
        metrics.open_requests += 1
        started = time.perf_counter()
        route: Route | None = None
        try:
            route, values = self._router.find(request.method, _raw_path(request))
            return await self._serve(route, request, values)
        except MatrixError as error:
            return self._refused(error)
        except Exception as exception:
            return self._failed(exception, request, route)
        finally:
            metrics.open_requests -= 1
            if route is not None:
                route.seconds.observe(time.perf_counter() - started)

    async def _serve(
        self, route: Route, request: BaseRequest, values: dict[str, Any]
    ) -> StreamResponse:
        call = Call(request, self._doors.parts, self._address(request))
        declaration = route.declaration
        if declaration.auth is Auth.FEDERATION:
            await self._admit_server(route, call, values)
        else:
            await self._admit_client(route, call)
            if declaration.body is not Body.UNREAD:
                values["body"] = await self._body(route, request)
        return json_answer(await declaration.handler(call, **values))

    async def _admit_client(self, route: Route, call: Call) -> None:
        """Check who calls and how often. Raises what the route's auth and limit ask for."""
        declaration = route.declaration
        requester: Requester | None = None
        if declaration.auth is not Auth.NONE:
            requester = await self._doors.authentication.requester(call, declaration)
            call.authenticated(requester)
        if declaration.limit is Limit.NONE:
            return
        if requester is None:
            self._doors.rate_limits.take(declaration.limit, call.address)
        elif requester.is_rate_limited:
            self._doors.rate_limits.take(declaration.limit, requester.user_id)

    async def _admit_server(self, route: Route, call: Call, values: dict[str, Any]) -> None:
        """Check the signature over the request, body included, and read the body."""
        check_origin = await self._doors.admit_origin(call.request, call.address)
        raw = await read_body(call.request, route.max_body)
        content = route.any_body.decode(raw) if raw else None
        origin = await check_origin(content)
        call.signed_by(origin)
        if route.declaration.limit is not Limit.NONE:
            self._doors.rate_limits.take(route.declaration.limit, origin)
        if route.declaration.body is not Body.UNREAD:
            empty = route.declaration.body is Body.EMPTY_OR_JSON and not raw
            values["body"] = route.body.decode(b"{}" if empty else raw)

    async def _body(self, route: Route, request: BaseRequest) -> Any:
        raw = await read_body(request, route.max_body)
        if not raw and route.declaration.body is Body.EMPTY_OR_JSON:
            raw = b"{}"
        return route.body.decode(raw)

    def _address(self, request: BaseRequest) -> str:
        """The caller's address: behind our reverse proxy, the one that the proxy saw."""
        if self._x_forwarded:
            forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
            if forwarded:
                return forwarded
        return request.remote or ""

    def _refused(self, error: MatrixError) -> StreamResponse:
        self._doors.metrics.count_error(error.errcode)
        return error_answer(error)

    def _failed(
        self, exception: Exception, request: BaseRequest, route: Route | None
    ) -> StreamResponse:
        """Log what went wrong; the client learns nothing of it but the request's id."""
        if request.transport is None:
            raise exception
        where = route.declaration.paths[-1] if route else "unknown"
        if isinstance(exception, asyncpg.CharacterNotInRepertoireError):
            return self._refused(InvalidParam("Text may not contain NUL (U+0000)"))
        log.error("request failed", route=where, method=request.method, exc_info=exception)
        sentence = f"Something went wrong on this server (request {request_number.get()})"
        return self._refused(UnknownError(sentence, status=500))


def _raw_path(request: BaseRequest) -> str:
    """The path as it was sent, still percent-encoded."""
    target = request.raw_path
    if not target.startswith("/"):
        return request.rel_url.raw_path
    return target.partition("?")[0]
