"""Dehydrated devices. MSC3814"""

from __future__ import annotations

import msgspec

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.encryption.dehydrated_devices import PER_PAGE, Dehydrated

endpoints = Endpoints(versions=("unstable/org.matrix.msc3814.v1",))


class PageBody(msgspec.Struct):
    next_batch: str | None = None


@endpoints.put("/dehydrated_device", auth=Auth.USER)
async def put_dehydrated_device(call: Call, body: Dehydrated) -> JsonObject:
    """MSC3814: take in a device, in place of the one before."""
    await call.parts.encryption.dehydrated_devices.put(call.requester.user_id, body)
    return {"device_id": body.device_id}


@endpoints.get("/dehydrated_device", auth=Auth.USER)
async def get_dehydrated_device(call: Call) -> JsonObject:
    """MSC3814: the device, to be decrypted by its user."""
    return await call.parts.encryption.dehydrated_devices.get(call.requester.user_id)


@endpoints.delete("/dehydrated_device", auth=Auth.USER)
async def delete_dehydrated_device(call: Call) -> JsonObject:
    """MSC3814: delete the device."""
    user_id = call.requester.user_id
    return {"device_id": await call.parts.encryption.dehydrated_devices.delete(user_id)}


@endpoints.post("/dehydrated_device/{device_id}/events", auth=Auth.USER, empty_body=True)
async def dehydrated_device_events(call: Call, device_id: str, body: PageBody) -> JsonObject:
    """MSC3814: the messages that wait for the device, page by page."""
    return await call.parts.encryption.dehydrated_devices.events(
        call.requester.user_id, device_id, body.next_batch
    )


@endpoints.get("/dehydrated_device/{device_id}/events", auth=Auth.USER)
async def get_dehydrated_device_events(call: Call, device_id: str) -> JsonObject:
    """MSC3814: the same, as its later drafts have it: no `next_batch` on the last page."""
    page = await call.parts.encryption.dehydrated_devices.events(
        call.requester.user_id, device_id, call.query("from")
    )
    if len(page["events"]) < PER_PAGE:
        del page["next_batch"]
    return page
