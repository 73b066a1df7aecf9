"""Credentials for a TURN server, and where calls go: client-server-api#voice-over-ip."""

from __future__ import annotations

import base64
import hashlib
import hmac

from homeserver.clock import now_ms
from homeserver.config import Voip
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject

endpoints = Endpoints()


@endpoints.get("/voip/turnServer", auth=Auth.GUEST)
async def turn_server(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3voipturnserver"""
    options = call.parts.config.voip
    requester = call.requester
    if not options.turn_uris or (requester.is_guest and not options.turn_guests):
        return {}
    username, password = _credentials(options, requester.user_id, now_ms() // 1000)
    return {
        "username": username,
        "password": password,
        "uris": options.turn_uris,
        "ttl": options.turn_lifetime,
    }


@endpoints.get(
    "/rtc/transports",
    auth=Auth.USER,
    versions=("v1",),
    unstable=("/unstable/org.matrix.msc4143/rtc/transports",),
)
async def rtc_transports(call: Call) -> JsonObject:
    """MSC4143: where calls of MatrixRTC (Element Call) may go through."""
    return {"rtc_transports": call.parts.config.voip.rtc_transports}


def _credentials(options: Voip, user_id: str, now_seconds: int) -> tuple[str, str]:
    """Static ones, or such as a TURN server checks by the secret that it shares with us."""
    if options.turn_shared_secret is None:
        return options.turn_username or "", options.turn_password or ""
    username = f"{now_seconds + options.turn_lifetime}:{user_id}"
    mac = hmac.new(options.turn_shared_secret.encode(), username.encode(), hashlib.sha1)
    return username, base64.b64encode(mac.digest()).decode()
