"""Simplified sliding sync (MSC4186), under the name by which clients know it."""

from __future__ import annotations

import time

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.stream.sliding.request import SlidingSyncBody
from homeserver.stream.sliding.sync import Caller

endpoints = Endpoints()

MAX_TIMEOUT_MS = 180_000


@endpoints.post(
    "/unstable/org.matrix.simplified_msc3575/sync",
    auth=Auth.USER,
    limit=Limit.NONE,
    versions=(),
    empty_body=True,
)
async def sliding_sync(call: Call, body: SlidingSyncBody) -> bytes:
    """MSC4186"""
    requester = call.requester
    caller = Caller(
        user_id=requester.user_id,
        device_id=requester.device_id,
        pos=call.query("pos"),
        now=int(time.time() * 1000),
    )
    timeout = call.query_int("timeout", 0, maximum=MAX_TIMEOUT_MS)
    stream = call.parts.stream
    with stream.presence.syncing(caller.user_id, caller.device_id, body.set_presence):
        return await stream.sliding_sync.answer(caller, body, timeout / 1000)
