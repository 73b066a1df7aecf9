"""What server admins ask and do: client-server-api#server-administration, #account-moderation."""

from __future__ import annotations

import msgspec

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol import identifiers
from homeserver.store.accounts import Account, Flag
from homeserver.store.devices import Device

endpoints = Endpoints()
MSC4323 = "/unstable/uk.timedout.msc4323/admin"


class SuspendBody(msgspec.Struct):
    suspended: bool


class LockBody(msgspec.Struct):
    locked: bool


@endpoints.get("/admin/whois/{user_id}", auth=Auth.USER)
async def whois(call: Call, user_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3adminwhoisuserid"""
    if not call.requester.is_admin and user_id != call.requester.user_id:
        raise Forbidden("Only a server admin may ask about others")
    _require_ours(call, user_id)
    await call.parts.last_seen.flush()
    devices = await call.parts.devices.of_user(user_id)
    return {
        "user_id": user_id,
        "devices": {device.device_id: _sessions_json(device) for device in devices},
    }


def _sessions_json(device: Device) -> JsonObject:
    if device.last_seen_at is None:
        return {"sessions": [{"connections": []}]}
    connection = {
        "ip": device.last_seen_ip,
        "last_seen": device.last_seen_at,
        "user_agent": device.last_seen_user_agent or "",
    }
    return {"sessions": [{"connections": [connection]}]}


@endpoints.get(
    "/admin/suspend/{user_id}",
    auth=Auth.ADMIN,
    versions=("v1",),
    unstable=(MSC4323 + "/suspend/{user_id}",),
)
async def is_suspended(call: Call, user_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv1adminsuspenduserid"""
    return {"suspended": (await _moderated(call, user_id)).is_suspended}


@endpoints.put(
    "/admin/suspend/{user_id}",
    auth=Auth.ADMIN,
    versions=("v1",),
    unstable=(MSC4323 + "/suspend/{user_id}",),
)
async def suspend(call: Call, user_id: str, body: SuspendBody) -> JsonObject:
    """client-server-api#put_matrixclientv1adminsuspenduserid"""
    await _moderated(call, user_id)
    await call.parts.accounts.set_flag(user_id, Flag.SUSPENDED, body.suspended)
    return {"suspended": body.suspended}


@endpoints.get(
    "/admin/lock/{user_id}",
    auth=Auth.ADMIN,
    versions=("v1",),
    unstable=(MSC4323 + "/lock/{user_id}",),
)
async def is_locked(call: Call, user_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv1adminlockuserid"""
    return {"locked": (await _moderated(call, user_id)).is_locked}


@endpoints.put(
    "/admin/lock/{user_id}",
    auth=Auth.ADMIN,
    versions=("v1",),
    unstable=(MSC4323 + "/lock/{user_id}",),
)
async def lock(call: Call, user_id: str, body: LockBody) -> JsonObject:
    """client-server-api#put_matrixclientv1adminlockuserid"""
    await _moderated(call, user_id)
    await call.parts.accounts.set_flag(user_id, Flag.LOCKED, body.locked)
    return {"locked": body.locked}


async def _moderated(call: Call, user_id: str) -> Account:
    """The account that the admin moderates: a local one, not another admin's.

    Raises `InvalidParam`, `NotFound`, `Forbidden`.
    """
    _require_ours(call, user_id)
    account = await call.parts.accounts.find(user_id)
    if account is None or account.is_deactivated:
        raise NotFound("There is no such account")
    if account.is_admin:
        raise Forbidden("A server admin can't be moderated")
    return account


def _require_ours(call: Call, user_id: str) -> None:
    if identifiers.server_name_of(user_id) != call.parts.config.server_name:
        raise InvalidParam("This user does not belong to this server")
