"""Proofs of identity for third parties: client-server-api#openid."""

from __future__ import annotations

from homeserver.errors import Forbidden
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.openid import LIFETIME_MS

endpoints = Endpoints()


@endpoints.post("/user/{user_id}/openid/request_token", auth=Auth.USER, empty_body=True)
async def request_token(call: Call, user_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3useruseridopenidrequest_token"""
    if user_id != call.requester.user_id:
        raise Forbidden("You can't ask for a token of another user")
    return {
        "access_token": call.parts.openid_tokens.issue(user_id),
        "token_type": "Bearer",
        "matrix_server_name": call.parts.config.server_name,
        "expires_in": LIFETIME_MS // 1000,
    }
