"""Keys of devices. client-server-api#key-management-api"""

from __future__ import annotations

import msgspec

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.sync_tokens import sync_token
from homeserver.json_types import JsonObject
from homeserver.services.encryption.device_keys import KeyUpload

endpoints = Endpoints()

DEFAULT_TIMEOUT_MS = 10_000


class QueryBody(msgspec.Struct):
    device_keys: dict[str, list[str]]
    timeout: int = DEFAULT_TIMEOUT_MS


class ClaimBody(msgspec.Struct):
    one_time_keys: dict[str, dict[str, str]]
    timeout: int = DEFAULT_TIMEOUT_MS


@endpoints.post("/keys/upload", auth=Auth.GUEST, also=("/keys/upload/{device_id}",))
async def upload_keys(call: Call, body: KeyUpload, device_id: str = "") -> JsonObject:
    """client-server-api#post_matrixclientv3keysupload"""
    own = call.requester.device_id
    if own is None:
        raise InvalidParam("Only a device can upload keys, and your token is of none")
    if device_id not in ("", own):
        raise InvalidParam("You can upload keys of your own device only")
    counts = await call.parts.encryption.device_keys.upload(call.requester.user_id, own, body)
    return {"one_time_key_counts": counts}


@endpoints.post("/keys/query", auth=Auth.GUEST)
async def query_keys(call: Call, body: QueryBody) -> JsonObject:
    """client-server-api#post_matrixclientv3keysquery"""
    return await call.parts.encryption.queries.query(
        call.requester.user_id, body.device_keys, body.timeout
    )


@endpoints.post("/keys/claim", auth=Auth.GUEST)
async def claim_keys(call: Call, body: ClaimBody) -> JsonObject:
    """client-server-api#post_matrixclientv3keysclaim"""
    return await call.parts.encryption.one_time_keys.claim(body.one_time_keys, body.timeout)


@endpoints.get("/keys/changes", auth=Auth.USER, unstable=("/unstable/keys/changes",))
async def key_changes(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3keyschanges"""
    since = sync_token(call.required_query("from")).position
    upto = sync_token(call.required_query("to")).position
    stream = call.parts.stream
    user = await stream.users.get(call.requester.user_id)
    upto = min(upto, stream.writer.position)
    found = await stream.device_lists.differences(user, since, upto)
    return {"changed": sorted(found.changed), "left": sorted(found.left)}
