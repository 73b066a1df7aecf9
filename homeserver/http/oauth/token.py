"""The token and the revocation endpoint. client-server-api#grant-types

Rules of this file: what is given out are the tokens of `Sessions`, bound to a device; a code that
comes a second time ends what the first gave (RFC 6749, section 4.1.2).
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp.web import Response

from homeserver.errors import InvalidParam, LimitExceeded, OAuthError, Unavailable, UnknownToken
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.oauth.browser import read_parameters
from homeserver.http.oauth.paths import PREFIX, offered
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.oauth.clients import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN
from homeserver.services.oauth.clients import Client
from homeserver.services.oauth.codes import Allowed, family_of
from homeserver.services.sessions import Credentials, Login, OAuthGrant

endpoints = Endpoints(prefix=PREFIX, versions=())


@endpoints.post("/token", auth=Auth.NONE, limit=Limit.NONE)
async def token(call: Call) -> JsonObject | Response:
    """client-server-api#authorisation-code-flow"""
    try:
        call.parts.rate_limits.take(Limit.DEFAULT, call.address)
        return await _granted(call)
    except (LimitExceeded, Unavailable) as error:
        # "If the refresh fails due to a `4xx` HTTP status code from the server, the client should
        # consider the session logged out." And it isn't JSON: matrix-js-sdk takes all errors of
        # Matrix's form for such an end, older ones all that have an `error`.
        return Response(status=503, text=error.message, headers=error.headers)


async def _granted(call: Call) -> JsonObject:
    clients = offered(call).clients
    sent = await read_parameters(call)
    grant_type = sent.get("grant_type")
    if grant_type is None:
        raise OAuthError("invalid_request", "grant_type is missing")
    client = await clients.find(sent.get("client_id"))
    if grant_type == AUTHORIZATION_CODE:
        return await _for_code(call, client, sent)
    if grant_type == REFRESH_TOKEN:
        return await _for_refresh_token(call, client, sent)
    if grant_type == DEVICE_CODE:
        return await _for_device_code(call, client, sent)
    raise OAuthError("unsupported_grant_type", "This server does not know this grant_type")


async def _for_code(call: Call, client: Client, sent: Mapping[str, str]) -> JsonObject:
    code = _required(sent, "code")
    return await _logged_in(call, client, code, offered(call).codes.redeem(code, sent))


async def _for_device_code(call: Call, client: Client, sent: Mapping[str, str]) -> JsonObject:
    code = _required(sent, "device_code")
    allowed = offered(call).device_codes.poll(code, client.client_id)
    return await _logged_in(call, client, code, allowed)


async def _logged_in(call: Call, client: Client, code: str, allowed: Allowed | None) -> JsonObject:
    """The tokens of the device that the code allowed. Raises OAuthError `invalid_grant`."""
    family = family_of(code)
    if allowed is None:
        await call.parts.sessions.end_family(family)
        raise OAuthError("invalid_grant", "The code is not known, or was used already")
    account = await call.parts.accounts.find(allowed.user_id)
    if account is None or account.is_deactivated or account.is_locked:
        raise OAuthError("invalid_grant", "The account can not be used any more")
    login = Login(
        device_id=allowed.scope.device_id,
        display_name=client.metadata.name,
        oauth=OAuthGrant(client.client_id, family),
    )
    try:
        credentials = await call.parts.sessions.open(allowed.user_id, login)
    except (InvalidParam, UnknownToken) as refused:
        raise OAuthError("invalid_grant", refused.message) from None
    return {**_tokens(credentials), "scope": allowed.scope.text}


async def _for_refresh_token(call: Call, client: Client, sent: Mapping[str, str]) -> JsonObject:
    refresh_token = _required(sent, "refresh_token")
    try:
        return _tokens(await call.parts.sessions.refresh(refresh_token, client.client_id))
    except UnknownToken:
        raise OAuthError("invalid_grant", "The refresh token is not valid (any more)") from None


def _tokens(credentials: Credentials) -> JsonObject:
    assert credentials.expires_in_ms is not None
    return {
        "access_token": credentials.access_token,
        "token_type": "Bearer",
        "expires_in": credentials.expires_in_ms // 1000,
        "refresh_token": credentials.refresh_token,
    }


@endpoints.post("/revoke", auth=Auth.NONE)
async def revoke(call: Call) -> JsonObject:
    """client-server-api#token-revocation

    "If the `client_id` is not provided, or does not match the client associated with the token,
    the server SHOULD still revoke the token."
    """
    offered(call)
    await call.parts.sessions.end_token(_required(await read_parameters(call), "token"))
    return {}


def _required(sent: Mapping[str, str], name: str) -> str:
    if name not in sent:
        raise OAuthError("invalid_request", f"{name} is missing")
    return sent[name]
