"""Our media for other servers: `multipart/mixed`, JSON about the media first, then its bytes."""

from __future__ import annotations

import secrets
from typing import Any

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.content_answer import parts_answer
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.media_query import frame_of, timeout_ms
from homeserver.http.rate_limits import Limit
from homeserver.protocol.mxc import Mxc, checked_mxc
from homeserver.services.media.downloads import Wanted

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)


@endpoints.get("/media/download/{media_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def download(call: Call, media_id: str) -> Any:
    """server-server-api#get_matrixfederationv1mediadownloadmediaid"""
    wanted = Wanted(timeout_ms(call), local_only=True)
    content = await call.parts.media.downloads.open(_ours(call, media_id), wanted)
    return await parts_answer(call.request, content, secrets.token_hex(16))


@endpoints.get("/media/thumbnail/{media_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def thumbnail(call: Call, media_id: str) -> Any:
    """server-server-api#get_matrixfederationv1mediathumbnailmediaid"""
    wanted = Wanted(timeout_ms(call), local_only=True)
    mxc = _ours(call, media_id)
    content = await call.parts.media.thumbnails.open(mxc, frame_of(call), wanted)
    return await parts_answer(call.request, content, secrets.token_hex(16))


def _ours(call: Call, media_id: str) -> Mxc:
    mxc = checked_mxc(call.parts.config.server_name, media_id)
    if mxc is None:
        raise InvalidParam("This is not the name of any media")
    return mxc
