"""What goes back: JSON, errors, and the headers that every answer has.

client-server-api#web-browser-clients
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp.web import BaseRequest, Response, StreamResponse
from multidict import CIMultiDict

from homeserver.errors import MatrixError

COMMON_HEADERS = CIMultiDict(
    {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
        "Access-Control-Expose-Headers": "Retry-After",
        "Cache-Control": "no-store",
        "Server": "homeserver",
    }
)
JSON_HEADERS = CIMultiDict({"Content-Type": "application/json", **COMMON_HEADERS})

_encode = msgspec.json.Encoder().encode


class Request(BaseRequest):
    """A request whose answers all get the common headers, streamed ones and aiohttp's own too."""

    async def _prepare_hook(self, response: StreamResponse) -> None:
        headers = response.headers
        if "Access-Control-Allow-Origin" not in headers:
            for name, value in COMMON_HEADERS.items():
                headers.setdefault(name, value)


def json_answer(result: Any) -> StreamResponse:
    """The answer for a handler's result: an object, ready JSON bytes, or a response as it is."""
    if isinstance(result, StreamResponse):
        return result
    body = result if isinstance(result, bytes) else _encode(result)
    return Response(body=body, headers=JSON_HEADERS)


def error_answer(error: MatrixError) -> Response:
    """The specification's standard error response."""
    headers = CIMultiDict(JSON_HEADERS)
    headers.update(error.headers)
    return Response(body=_encode(error.body()), status=error.status, headers=headers)


def preflight_answer() -> Response:
    """What a browser gets that asks (OPTIONS) whether it may call."""
    return Response(status=204, headers=COMMON_HEADERS)
