"""Uploads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp.web import BaseRequest, RequestPayloadError

from homeserver.errors import NotFound, UnknownError
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.mxc import checked_mxc
from homeserver.services.media.uploads import Upload

GRACE_SECONDS = 60.0
SLOWEST = 1024
"""Bytes a second, in the long run: whoever is slower only holds a connection."""

endpoints = Endpoints("/_matrix/media", versions=("v3", "r0", "v1"))


@endpoints.post("/upload", auth=Auth.USER, limit=Limit.MEDIA, not_if_suspended=True)
async def upload(call: Call) -> JsonObject:
    """client-server-api#post_matrixmediav3upload"""
    mxc = await call.parts.media.uploads.upload(_upload(call))
    return {"content_uri": str(mxc)}


@endpoints.post(
    "/create",
    auth=Auth.USER,
    limit=Limit.MEDIA,
    not_if_suspended=True,
    unstable=("/unstable/fi.mau.msc2246/create",),
)
async def create(call: Call) -> JsonObject:
    """client-server-api#post_matrixmediav1create"""
    mxc, expires_at = await call.parts.media.uploads.create(call.requester.user_id)
    return {"content_uri": str(mxc), "unused_expires_at": expires_at}


@endpoints.put(
    "/upload/{server_name}/{media_id}",
    auth=Auth.USER,
    limit=Limit.MEDIA,
    not_if_suspended=True,
    unstable=("/unstable/fi.mau.msc2246/upload/{server_name}/{media_id}",),
)
async def upload_to(call: Call, server_name: str, media_id: str) -> Any:
    """client-server-api#put_matrixmediav3uploadservernamemediaid"""
    mxc = checked_mxc(server_name, media_id)
    if mxc is None:
        raise NotFound("There is no such media id")
    await call.parts.media.uploads.upload_to(mxc, _upload(call))
    return {}


def _upload(call: Call) -> Upload:
    request = call.request
    return Upload(
        user_id=call.requester.user_id,
        content_type=request.headers.get("Content-Type"),
        file_name=call.query("filename"),
        length=request.content_length,
        body=_chunks(request),
    )


async def _chunks(request: BaseRequest) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises UnknownError if it is broken or too slow.

    A client that asks first (`Expect`) is told to go on when somebody wants the first byte: what
    can be refused without the body is refused by then.
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    started = time.monotonic()
    received = 0
    try:
        while True:
            left = started + GRACE_SECONDS + received / SLOWEST - time.monotonic()
            async with asyncio.timeout(left):
                chunk = await request.content.readany()
            if not chunk:
                return
            received += len(chunk)
            yield chunk
    except TimeoutError:
        raise UnknownError("The upload is too slow", status=408) from None
    except (RequestPayloadError, ConnectionError):
        raise UnknownError("The upload was interrupted") from None
