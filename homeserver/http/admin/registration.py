"""Registration by shared secret, as Synapse's admin API has it, since scripts everywhere use it."""

from __future__ import annotations

import msgspec

from homeserver.errors import Forbidden
from homeserver.http.call import Call
from homeserver.http.credentials import credentials_json
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.registration import NewAccount
from homeserver.services.sessions import Login
from homeserver.services.shared_secret import Wish

endpoints = Endpoints(prefix="/_synapse/admin", versions=("v1",))


class SharedSecretBody(msgspec.Struct):
    nonce: str
    username: str
    password: str
    mac: str
    admin: bool = False
    user_type: str | None = None
    displayname: str | None = None
    inhibit_login: bool = False


@endpoints.get("/register", auth=Auth.NONE)
async def get_nonce(call: Call) -> JsonObject:
    """Synapse's admin API: register_api"""
    return {"nonce": call.parts.shared_secret.new_nonce()}


@endpoints.post("/register", auth=Auth.NONE, limit=Limit.NONE)
async def register(call: Call, body: SharedSecretBody) -> JsonObject:
    """Synapse's admin API: register_api"""
    wish = Wish(body.nonce, body.username, body.password, body.admin, body.user_type)
    try:
        call.parts.shared_secret.check(wish, body.mac)
    except Forbidden:
        call.parts.rate_limits.take(Limit.LOGIN, call.address)
        raise
    user_id = call.parts.registration.user_id_for(body.username)
    await call.parts.registration.check_available(user_id)
    password_hash = await call.parts.accounts.hash_password(body.password)
    await call.parts.registration.create(NewAccount(user_id, password_hash, is_admin=body.admin))
    answer: JsonObject = {"user_id": user_id, "home_server": call.parts.config.server_name}
    if body.inhibit_login:
        return answer
    return {**answer, **credentials_json(await call.parts.sessions.open(user_id, Login()))}
