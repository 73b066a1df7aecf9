"""Previews of links."""

from __future__ import annotations

from typing import Any

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit

endpoints = Endpoints("/_matrix/client", versions=("v1",))
old_endpoints = Endpoints("/_matrix/media", versions=("v3", "r0", "v1"))


@endpoints.get(
    "/media/preview_url",
    auth=Auth.USER,
    limit=Limit.MEDIA,
    unstable=("/unstable/org.matrix.msc3916/media/preview_url",),
)
async def preview(call: Call) -> Any:
    """client-server-api#get_matrixclientv1mediapreview_url"""
    call.query_int("ts", 0)  # the newest there is answers every time
    return await call.parts.previews.get(call.required_query("url"))


@old_endpoints.get("/preview_url", auth=Auth.USER, limit=Limit.MEDIA)
async def old_preview(call: Call) -> Any:
    """client-server-api#get_matrixmediav3preview_url"""
    call.query_int("ts", 0)
    return await call.parts.previews.get(call.required_query("url"))
