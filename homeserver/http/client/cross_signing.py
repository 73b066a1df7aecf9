"""Cross-signing. client-server-api#cross-signing"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.encryption.cross_signing import KeysUpload
from homeserver.services.oauth.resets import STAGES
from homeserver.services.user_interactive import Operation

endpoints = Endpoints()


@endpoints.post(
    "/keys/device_signing/upload",
    auth=Auth.USER,
    unstable=("/unstable/keys/device_signing/upload",),
)
async def upload_cross_signing_keys(call: Call, body: KeysUpload) -> JsonObject:
    """client-server-api#post_matrixclientv3keysdevice_signingupload"""
    user_id = call.requester.user_id
    cross_signing = call.parts.encryption.cross_signing

    async def upload(_: Mapping[str, Any]) -> JsonObject:
        await cross_signing.upload(user_id, body)
        return {}

    is_replacing = await cross_signing.needs_authentication(user_id, body)
    # "This endpoint no longer requires User-Interactive Authentication when used by an
    # application service."
    if call.requester.app_service is not None or not is_replacing:
        return await upload({})
    operation = Operation("replace cross-signing keys", user_id)
    flows, auth = [["m.login.password"]], body.auth
    oauth = call.parts.oauth
    if call.requester.by_oauth and oauth is not None:
        # "it uses the m.oauth authentication type if the access token was obtained via the OAuth
        # 2.0 API". The client says no type, only the session.
        flows = [[stage] for stage in STAGES]
        if oauth.resets.is_allowed(user_id):
            auth = {"type": STAGES[0], **(auth or {})}
    return await call.parts.user_interactive.run(operation, auth, flows, upload)


@endpoints.post(
    "/keys/signatures/upload", auth=Auth.USER, unstable=("/unstable/keys/signatures/upload",)
)
async def upload_cross_signing_signatures(call: Call, body: JsonObject) -> JsonObject:
    """client-server-api#post_matrixclientv3keyssignaturesupload"""
    await call.parts.encryption.queries.know(body)
    return {
        "failures": await call.parts.encryption.cross_signing.sign(call.requester.user_id, body)
    }
