"""The caller's own account: client-server-api#account-management."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.errors import GuestAccessForbidden, OtherUser, ThreepidAuthFailed
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.letters import use_up_for_password
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.mail_validation import MAIL, Proof, Purpose
from homeserver.services.user_interactive import Operation

endpoints = Endpoints()
PASSWORD_FLOWS = [["m.login.password"]]
MAIL_FLOW = [MAIL]


class PasswordBody(msgspec.Struct):
    new_password: str
    logout_devices: bool = True
    auth: dict[str, Any] | None = None


class DeactivateBody(msgspec.Struct):
    auth: dict[str, Any] | None = None
    erase: bool = False


@endpoints.get("/account/whoami", auth=Auth.GUEST)
async def whoami(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3accountwhoami"""
    requester = call.requester
    answer: JsonObject = {"user_id": requester.user_id, "is_guest": requester.is_guest}
    if requester.device_id is not None:
        answer["device_id"] = requester.device_id
    return answer


@endpoints.post("/account/password", auth=Auth.OPTIONAL, limit=Limit.LOGIN, not_by_oauth=True)
async def change_password(call: Call, body: PasswordBody) -> JsonObject:
    """client-server-api#post_matrixclientv3accountpassword"""
    requester = call.maybe_requester
    if requester is not None and requester.is_guest:
        raise GuestAccessForbidden("Guests have no password")
    call.parts.accounts.check_new_password(body.new_password)

    async def change(results: Mapping[str, Any]) -> JsonObject:
        user_id = await _proven_user(call, results)
        await call.parts.accounts.set_password(user_id, body.new_password)
        if body.logout_devices:
            kept = requester.device_id if requester is not None else None
            await call.parts.sessions.delete_all_devices(user_id, keep_device_id=kept)
        return {}

    operation = Operation("POST /account/password", requester.user_id if requester else None)
    flows = [*PASSWORD_FLOWS, MAIL_FLOW] if call.parts.mail_validation.works else PASSWORD_FLOWS
    return await call.parts.user_interactive.run(operation, body.auth, flows, change)


async def _proven_user(call: Call, results: Mapping[str, Any]) -> str:
    """Whose password may be set: that of who knows it, or has the account's mail address."""
    if "m.login.password" in results:
        return str(results["m.login.password"])
    proof: Proof = results[MAIL]
    user_id = await call.parts.accounts.owner_of_mail(proof.address)
    if proof.purpose is not Purpose.PASSWORD or user_id is None:
        raise ThreepidAuthFailed("This address was not confirmed for a new password")
    if call.maybe_requester is not None and call.maybe_requester.user_id != user_id:
        raise OtherUser("This is another user's address")
    await use_up_for_password(call, proof)
    return user_id


@endpoints.post(
    "/account/deactivate",
    auth=Auth.OPTIONAL,
    limit=Limit.LOGIN,
    not_by_oauth=True,
    empty_body=True,
)
async def deactivate(call: Call, body: DeactivateBody) -> JsonObject:
    """client-server-api#post_matrixclientv3accountdeactivate"""
    requester = call.maybe_requester
    if requester is not None and requester.is_guest:
        raise GuestAccessForbidden("Guests have no account")

    async def end(results: Mapping[str, Any]) -> JsonObject:
        await call.parts.accounts.deactivate(results["m.login.password"], body.erase)
        return {"id_server_unbind_result": "success"}

    operation = Operation("POST /account/deactivate", requester.user_id if requester else None)
    return await call.parts.user_interactive.run(operation, body.auth, PASSWORD_FLOWS, end)
