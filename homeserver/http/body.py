"""A request's body: read up to a size, decoded as JSON up to a depth.

client-server-api#standard-error-response
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from aiohttp.web import BaseRequest, RequestPayloadError

from homeserver.errors import BadJson, MissingParam, NotJson, TooLarge

_DECODE_ANY = msgspec.json.Decoder(dict[str, Any]).decode


async def read_body(request: BaseRequest, max_bytes: int) -> bytes:
    """The whole body, decompressed. Raises `TooLarge`."""
    if not request.body_exists:
        return b""
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    while chunk := await _next_chunk(request):
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _next_chunk(request: BaseRequest) -> bytes:
    try:
        return await request.content.readany()
    except RequestPayloadError:
        raise NotJson("The body's transfer or content encoding is broken") from None
    except ConnectionError:  # who sent it is gone: nobody's fault, and nobody reads the answer
        raise NotJson("The connection was lost before the body was complete") from None


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {max_bytes} bytes")


class JsonBody:
    """Decodes the bodies of one route.

    `decode` takes bytes and gives an object of `body_type`. It raises `NotJson` for what isn't
    JSON in UTF-8 (a lone surrogate isn't), `MissingParam` and `BadJson` for what has a wrong form.
    """

    __slots__ = ("_decode", "_max_depth")

    def __init__(self, body_type: Any, max_depth: int) -> None:
        self._decode = msgspec.json.Decoder(body_type).decode
        self._max_depth = max_depth

    def decode(self, body: bytes) -> Any:
        try:
            # Counting brackets is an upper bound of the depth, and enough for most bodies.
            if body.count(b"{") + body.count(b"[") > self._max_depth:
                check_depth(_DECODE_ANY(body), self._max_depth)
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise _wrong_form(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotJson(f"The body is not JSON: {error}") from None
        except RecursionError:
            raise BadJson("The JSON is nested too deeply") from None


@cache
def json_body(body_type: Any, max_depth: int) -> JsonBody:
    """The one for this type and depth: most routes have the same, and none remembers anything."""
    return JsonBody(body_type, max_depth)


def _wrong_form(problem: str) -> MissingParam | BadJson:
    """Only what the body itself lacks is missing; an object in it has a wrong form then."""
    if "missing required field" in problem and " - at `" not in problem:
        return MissingParam(problem)
    return BadJson(problem)


def check_depth(value: Any, max_depth: int) -> None:
    """Raises `BadJson` for objects and arrays nested deeper than `max_depth`."""
    level = [value]
    for _ in range(max_depth):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise BadJson(f"The JSON is nested more than {max_depth} levels deep")


def _inner(value: Any) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value
    return [v for v in values if isinstance(v, (dict, list))]
