"""Downloads and thumbnails for clients, and the old paths that need no login.

Clients from before v1.11 ask at the old paths with their token: whoever shows one gets what the new
paths would give.
"""

from __future__ import annotations

from typing import Any

from homeserver.errors import InvalidParam, NotFound
from homeserver.http.call import Call
from homeserver.http.content_answer import content_answer, thumbnail_name
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.media_query import frame_of, timeout_ms
from homeserver.protocol.mxc import Mxc, checked_mxc
from homeserver.services.media.downloads import Wanted

endpoints = Endpoints("/_matrix/client", versions=("v1",))
old_endpoints = Endpoints("/_matrix/media", versions=("v3", "r0", "v1"))


@endpoints.get(
    "/media/download/{server_name}/{media_id}",
    auth=Auth.GUEST,
    also=("/media/download/{server_name}/{media_id}/{file_name}",),
    unstable=(
        "/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}",
        "/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}/{file_name}",
    ),
)
async def download(call: Call, server_name: str, media_id: str, file_name: str = "") -> Any:
    """client-server-api#get_matrixclientv1mediadownloadservernamemediaid"""
    wanted = Wanted(timeout_ms(call))
    content = await call.parts.media.downloads.open(_mxc(server_name, media_id), wanted)
    return await content_answer(call.request, content, file_name)


@endpoints.get(
    "/media/thumbnail/{server_name}/{media_id}",
    auth=Auth.GUEST,
    unstable=("/unstable/org.matrix.msc3916/media/thumbnail/{server_name}/{media_id}",),
)
async def thumbnail(call: Call, server_name: str, media_id: str) -> Any:
    """client-server-api#get_matrixclientv1mediathumbnailservernamemediaid"""
    wanted = Wanted(timeout_ms(call))
    mxc = _mxc(server_name, media_id)
    content = await call.parts.media.thumbnails.open(mxc, frame_of(call), wanted)
    return await content_answer(call.request, content, thumbnail_name(content))


@endpoints.get(
    "/media/config",
    auth=Auth.USER,
    unstable=("/unstable/org.matrix.msc3916/media/config",),
)
async def config(call: Call) -> Any:
    """client-server-api#get_matrixclientv1mediaconfig"""
    return {"m.upload.size": call.parts.config.media.max_upload_size}


@old_endpoints.get("/config", auth=Auth.USER)
async def old_config(call: Call) -> Any:
    """client-server-api#get_matrixmediav3config"""
    return {"m.upload.size": call.parts.config.media.max_upload_size}


@old_endpoints.get(
    "/download/{server_name}/{media_id}",
    auth=Auth.OPTIONAL,
    also=("/download/{server_name}/{media_id}/{file_name}",),
)
async def old_download(call: Call, server_name: str, media_id: str, file_name: str = "") -> Any:
    """client-server-api#get_matrixmediav3downloadservernamemediaid"""
    mxc = _mxc(server_name, media_id)
    content = await call.parts.media.downloads.open(mxc, _wanted_at_old_path(call, mxc))
    return await content_answer(call.request, content, file_name)


@old_endpoints.get("/thumbnail/{server_name}/{media_id}", auth=Auth.OPTIONAL)
async def old_thumbnail(call: Call, server_name: str, media_id: str) -> Any:
    """client-server-api#get_matrixmediav3thumbnailservernamemediaid"""
    mxc = _mxc(server_name, media_id)
    wanted = _wanted_at_old_path(call, mxc)
    content = await call.parts.media.thumbnails.open(mxc, frame_of(call), wanted)
    return await content_answer(call.request, content, thumbnail_name(content))


def _wanted_at_old_path(call: Call, mxc: Mxc) -> Wanted:
    """What the caller may have there. Raises NotFound where that is nothing."""
    config = call.parts.config.media
    paths = config.unauthenticated_paths
    known = call.maybe_requester is not None
    if paths == "closed" and not known and str(mxc) not in config.public:
        raise NotFound("This server serves media only to those who are logged in")
    return Wanted(
        timeout_ms(call),
        local_only=not call.query_bool("allow_remote", True),
        public_only=not known and paths != "open",
    )


def _mxc(server_name: str, media_id: str) -> Mxc:
    mxc = checked_mxc(server_name, media_id)
    if mxc is None:
        raise InvalidParam("This is not the name of any media")
    return mxc
