"""The caller's devices: client-server-api#device-management."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from homeserver.clock import now_ms
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.user_interactive import Operation
from homeserver.store.devices import Device

endpoints = Endpoints()


class RenameBody(msgspec.Struct):
    display_name: str | None = None


class DeleteBody(msgspec.Struct):
    auth: dict[str, Any] | None = None


class DeleteDevicesBody(msgspec.Struct):
    devices: list[str]
    auth: dict[str, Any] | None = None


@endpoints.get("/devices", auth=Auth.GUEST)
async def get_devices(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3devices"""
    user_id = call.requester.user_id
    devices = await call.parts.devices.of_user(user_id)
    return {"devices": [_device_json(user_id, device) for device in devices]}


@endpoints.get("/devices/{device_id}", auth=Auth.GUEST)
async def get_device(call: Call, device_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3devicesdeviceid"""
    user_id = call.requester.user_id
    return _device_json(user_id, await call.parts.devices.find(user_id, device_id))


@endpoints.put("/devices/{device_id}", auth=Auth.GUEST)
async def rename_device(
    call: Call, device_id: str, body: RenameBody
) -> JsonObject | web.StreamResponse:
    """client-server-api#put_matrixclientv3devicesdeviceid"""
    user_id = call.requester.user_id
    is_app_service = call.requester.app_service is not None
    # Application services make devices without logging in (MSC4190).
    if is_app_service and await call.parts.devices.make(
        user_id, device_id, body.display_name, now_ms()
    ):
        return web.json_response({}, status=201)
    if body.display_name is None:
        await call.parts.devices.find(user_id, device_id)
    else:
        await call.parts.devices.rename(user_id, device_id, body.display_name)
    return {}


@endpoints.delete("/devices/{device_id}", auth=Auth.USER, not_by_oauth=True, empty_body=True)
async def delete_device(call: Call, device_id: str, body: DeleteBody) -> JsonObject:
    """client-server-api#delete_matrixclientv3devicesdeviceid"""
    return await _delete(call, body.auth, [device_id])


@endpoints.post("/delete_devices", auth=Auth.USER, not_by_oauth=True)
async def delete_devices(call: Call, body: DeleteDevicesBody) -> JsonObject:
    """client-server-api#post_matrixclientv3delete_devices"""
    return await _delete(call, body.auth, body.devices)


async def _delete(call: Call, auth: JsonObject | None, device_ids: Sequence[str]) -> JsonObject:
    user_id = call.requester.user_id

    async def delete(_: Mapping[str, Any]) -> JsonObject:
        await call.parts.sessions.delete_devices(user_id, device_ids)
        return {}

    if call.requester.app_service is not None:
        return await delete({})  # no user-interactive authentication (MSC4190)
    # Who agreed to the end of some devices did not agree to that of others.
    operation = Operation(f"delete devices {sorted(device_ids)}", user_id)
    flows = [["m.login.password"]]
    return await call.parts.user_interactive.run(operation, auth, flows, delete)


def _device_json(user_id: str, device: Device) -> JsonObject:
    # Clients of old expect `user_id`, which the specification doesn't name.
    answer: JsonObject = {"device_id": device.device_id, "user_id": user_id}
    if device.display_name is not None:
        answer["display_name"] = device.display_name
    if device.last_seen_at is not None:
        answer["last_seen_ts"] = device.last_seen_at
        answer["last_seen_ip"] = device.last_seen_ip
    return answer
