"""The caller's own account: client-server-api#account-management."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.errors import Forbidden
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.user_interactive import Operation

endpoints = Endpoints()
PASSWORD_FLOWS = [["m.login.password"]]


class PasswordBody(msgspec.Struct):
    new_password: str
    logout_devices: bool = True
    auth: dict[str, Any] | None = None


class DeactivateBody(msgspec.Struct):
    auth: dict[str, Any] | None = None
    erase: bool = False


class ThreepidBody(msgspec.Struct):
    medium: str
    address: str


@endpoints.get("/account/whoami", auth=Auth.GUEST)
async def whoami(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3accountwhoami"""
    requester = call.requester
    answer: JsonObject = {"user_id": requester.user_id, "is_guest": requester.is_guest}
    if requester.device_id is not None:
        answer["device_id"] = requester.device_id
    return answer


@endpoints.post("/account/password", auth=Auth.OPTIONAL, limit=Limit.LOGIN)
async def change_password(call: Call, body: PasswordBody) -> JsonObject:
    """client-server-api#post_matrixclientv3accountpassword"""
    requester = call.maybe_requester
    if requester is not None and requester.is_guest:
        raise Forbidden("Guests have no password")
    call.parts.accounts.check_new_password(body.new_password)

    async def change(results: Mapping[str, Any]) -> JsonObject:
        user_id = results["m.login.password"]
        await call.parts.accounts.set_password(user_id, body.new_password)
        if body.logout_devices:
            kept = requester.device_id if requester is not None else None
            await call.parts.sessions.delete_all_devices(user_id, keep_device_id=kept)
        return {}

    operation = Operation("POST /account/password", requester.user_id if requester else None)
    return await call.parts.user_interactive.run(operation, body.auth, PASSWORD_FLOWS, change)


@endpoints.post("/account/deactivate", auth=Auth.OPTIONAL, limit=Limit.LOGIN, empty_body=True)
async def deactivate(call: Call, body: DeactivateBody) -> JsonObject:
    """client-server-api#post_matrixclientv3accountdeactivate"""
    requester = call.maybe_requester
    if requester is not None and requester.is_guest:
        raise Forbidden("Guests have no account")

    async def end(results: Mapping[str, Any]) -> JsonObject:
        await call.parts.accounts.deactivate(results["m.login.password"], body.erase)
        return {"id_server_unbind_result": "success"}

    operation = Operation("POST /account/deactivate", requester.user_id if requester else None)
    return await call.parts.user_interactive.run(operation, body.auth, PASSWORD_FLOWS, end)


@endpoints.get("/account/3pid", auth=Auth.USER)
async def get_threepids(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3account3pid"""
    threepids = await call.parts.accounts.threepids(call.requester.user_id)
    return {
        "threepids": [
            {
                "medium": threepid.medium,
                "address": threepid.address,
                "validated_at": threepid.validated_at,
                "added_at": threepid.added_at,
            }
            for threepid in threepids
        ]
    }


@endpoints.post("/account/3pid/delete", auth=Auth.USER, unstable=("/unstable/account/3pid/delete",))
async def delete_threepid(call: Call, body: ThreepidBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3piddelete"""
    await call.parts.accounts.remove_threepid(call.requester.user_id, body.medium, body.address)
    return {"id_server_unbind_result": "no-support"}


@endpoints.post("/account/3pid/unbind", auth=Auth.USER, unstable=("/unstable/account/3pid/unbind",))
async def unbind_threepid(call: Call, body: ThreepidBody) -> JsonObject:
    """client-server-api#post_matrixclientv3account3pidunbind

    We bind nothing to identity servers, so we know none from which to unbind.
    """
    return {"id_server_unbind_result": "no-support"}
