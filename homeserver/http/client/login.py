"""Logging in and out: client-server-api#legacy-login."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.errors import (
    AppServiceLoginUnsupported,
    Forbidden,
    MissingParam,
    UnknownError,
    UserDeactivated,
    UserLocked,
)
from homeserver.http.authentication import bearer_token
from homeserver.http.call import Call
from homeserver.http.credentials import credentials_json
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.http.well_known import client_configuration
from homeserver.json_types import JsonObject
from homeserver.services.login_tokens import LIFETIME_MS
from homeserver.services.sessions import Login
from homeserver.services.user_interactive import Operation
from homeserver.store.accounts import Account

endpoints = Endpoints()

APP_SERVICE = "m.login.application_service"
# For OAuth 2.0 aware clients; the last is what they looked for before (MSC3824).
SSO = {
    "type": "m.login.sso",
    "oauth_aware_preferred": True,
    "org.matrix.msc3824.delegated_oidc_compatibility": True,
}


class LoginBody(msgspec.Struct):
    type: str
    identifier: dict[str, Any] | None = None
    user: str | None = None
    medium: str | None = None
    address: str | None = None
    password: str | None = None
    token: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool = False


class RefreshBody(msgspec.Struct):
    refresh_token: str


class GetTokenBody(msgspec.Struct):
    auth: dict[str, Any] | None = None


@endpoints.get("/login", auth=Auth.NONE)
async def login_flows(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3login"""
    flows: list[JsonObject] = [
        {"type": "m.login.password"},
        {"type": "m.login.token", "get_login_token": True},
        {"type": APP_SERVICE},
    ]
    if call.parts.oauth is not None:
        flows.append(SSO)
    return {"flows": flows}


@endpoints.post("/login", auth=Auth.NONE, limit=Limit.LOGIN)
async def login(call: Call, body: LoginBody) -> JsonObject:
    """client-server-api#post_matrixclientv3login"""
    user_id = await _authenticated(call, body)
    asked = Login(body.device_id, body.initial_device_display_name, body.refresh_token)
    credentials = await call.parts.sessions.open(user_id, asked)
    answer = {
        "user_id": user_id,
        "home_server": call.parts.config.server_name,
        **credentials_json(credentials),
    }
    if well_known := client_configuration(call.parts.config):
        answer["well_known"] = well_known
    return answer


async def _authenticated(call: Call, body: LoginBody) -> str:
    """Who logs in.

    Raises `Forbidden`, `UserDeactivated`, `UserLocked`, `MissingParam`, `UnknownError`.
    """
    if body.type == "m.login.password":
        if body.password is None:
            raise MissingParam("`password` is missing")
        user_id = await call.parts.accounts.identify(_identifier(body))
        account = await call.parts.accounts.check_password(user_id, body.password)
        return _unlocked(account).user_id
    if body.type == "m.login.token":
        if body.token is None:
            raise MissingParam("`token` is missing")
        return await _active(call, call.parts.login_tokens.redeem(body.token))
    if body.type == APP_SERVICE:
        return await _active(call, await _of_app_service(call, body))
    raise UnknownError(f"Logging in with {body.type} is not supported")


async def _of_app_service(call: Call, body: LoginBody) -> str:
    """The user that an application service logs in, with its own token as proof."""
    user_id = await call.parts.accounts.identify(_identifier(body))
    token = bearer_token(call.request, call.parts.config.query_string_access_tokens)
    service = call.parts.app_services.masquerade.service_for_login(token, user_id)
    if service.manages_devices:
        raise AppServiceLoginUnsupported("Your registration says that you make devices yourself")
    return user_id


async def _active(call: Call, user_id: str) -> str:
    account = await call.parts.accounts.find(user_id)
    if account is None:
        raise Forbidden("There is no such account")
    if account.is_deactivated:
        raise UserDeactivated("This account has been deactivated")
    return _unlocked(account).user_id


def _unlocked(account: Account) -> Account:
    """ "A client [...] cannot obtain a new access token until the account has been unlocked." """
    if account.is_locked:
        raise UserLocked("This account is locked", soft_logout=True)
    return account


def _identifier(body: LoginBody) -> JsonObject:
    """The user identifier object; from the deprecated fields, if it isn't there."""
    if body.identifier is not None:
        return body.identifier
    if body.medium is not None and body.address is not None:
        return {"type": "m.id.thirdparty", "medium": body.medium, "address": body.address}
    if body.user is not None:
        return {"type": "m.id.user", "user": body.user}
    raise MissingParam("`identifier` is missing")


@endpoints.post(
    "/login/get_token",
    auth=Auth.USER,
    limit=Limit.LOGIN,
    not_by_oauth=True,
    versions=("v1",),
    empty_body=True,
    unstable=("/unstable/org.matrix.msc3882/login/get_token",),
)
async def get_login_token(call: Call, body: GetTokenBody) -> JsonObject:
    """client-server-api#post_matrixclientv1loginget_token"""
    user_id = call.requester.user_id

    async def issue(_: Mapping[str, Any]) -> JsonObject:
        token = call.parts.login_tokens.issue(user_id)
        return {"login_token": token, "expires_in_ms": LIFETIME_MS}

    operation = Operation("POST /login/get_token", user_id)
    flows = [["m.login.password"]]
    return await call.parts.user_interactive.run(operation, body.auth, flows, issue)


@endpoints.post("/refresh", auth=Auth.NONE, unstable=("/unstable/org.matrix.msc2918/refresh",))
async def refresh(call: Call, body: RefreshBody) -> JsonObject:
    """client-server-api#post_matrixclientv3refresh"""
    answer = credentials_json(await call.parts.sessions.refresh(body.refresh_token))
    del answer["device_id"]
    return answer


@endpoints.post("/logout", auth=Auth.GUEST, even_if_locked=True)
async def logout(call: Call) -> JsonObject:
    """client-server-api#post_matrixclientv3logout"""
    requester = call.requester
    if requester.device_id is not None:
        await call.parts.sessions.delete_devices(requester.user_id, [requester.device_id])
    return {}


@endpoints.post("/logout/all", auth=Auth.GUEST, even_if_locked=True)
async def logout_all(call: Call) -> JsonObject:
    """client-server-api#post_matrixclientv3logoutall"""
    await call.parts.sessions.delete_all_devices(call.requester.user_id)
    return {}
