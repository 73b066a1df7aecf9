"""The answer with which a client is logged in, after `/login` as after `/register`."""

from __future__ import annotations

from homeserver.json_types import JsonObject
from homeserver.services.sessions import Credentials


def credentials_json(credentials: Credentials) -> JsonObject:
    """`device_id`, `access_token` and, for those who can refresh, what they need for it."""
    answer: JsonObject = {
        "device_id": credentials.device_id,
        "access_token": credentials.access_token,
    }
    if credentials.refresh_token is not None:
        answer["refresh_token"] = credentials.refresh_token
    if credentials.expires_in_ms is not None:
        answer["expires_in_ms"] = credentials.expires_in_ms
    return answer
