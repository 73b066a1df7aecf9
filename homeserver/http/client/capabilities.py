"""What the caller may do on this server: client-server-api#capabilities-negotiation."""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.services.delayed_events import MAX_DELAY_MS, MAX_PER_USER

endpoints = Endpoints()

# A chapter whose capability depends on nothing adds a line.
_ALWAYS: JsonObject = {
    "m.change_password": {"enabled": True},
    "m.set_displayname": {"enabled": True},
    "m.set_avatar_url": {"enabled": True},
    "m.profile_fields": {"enabled": True},
    "m.get_login_token": {"enabled": True},
    "org.matrix.msc4140.delayed_events": {
        "max_delay_ms": MAX_DELAY_MS,
        "max_scheduled": MAX_PER_USER,
    },
}


@endpoints.get("/capabilities", auth=Auth.GUEST)
async def capabilities(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3capabilities"""
    room_versions = {
        "default": call.parts.config.default_room_version,
        "available": dict.fromkeys(ROOM_VERSIONS, "stable"),
    }
    forgets = {"enabled": call.parts.config.rooms.forget_on_leave}
    answer = {
        **_ALWAYS,
        "m.3pid_changes": {"enabled": call.parts.mail_validation.works},
        "m.room_versions": room_versions,
        "m.forget_forced_upon_leave": forgets,
    }
    if call.requester.by_oauth:
        # What needs User-Interactive Authentication "can't be used when an access token is
        # obtained with this API".
        for name in ("m.change_password", "m.3pid_changes", "m.get_login_token"):
            answer[name] = {"enabled": False}
    if call.requester.is_admin:
        answer["m.account_moderation"] = {"suspend": True, "lock": True}
    return {"capabilities": answer}
