"""New accounts: client-server-api#legacy-account-registration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from homeserver.errors import (
    AppServiceLoginUnsupported,
    Forbidden,
    MissingParam,
    UnknownToken,
)
from homeserver.http.authentication import bearer_token
from homeserver.http.call import Call
from homeserver.http.credentials import credentials_json
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.services.mail_validation import MAIL, Proof, Purpose
from homeserver.services.registration import NewAccount
from homeserver.services.sessions import Login
from homeserver.services.user_interactive import Operation

endpoints = Endpoints()

APP_SERVICE = "m.login.application_service"
DUMMY = "m.login.dummy"
MAX_REMEMBERED = 2_000


class RegisterBody(msgspec.Struct):
    type: str | None = None
    auth: dict[str, Any] | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool | int = False
    refresh_token: bool = False
    guest_access_token: str | None = None


class Begun(msgspec.Struct, frozen=True):
    """What the first request of an authentication session said, and whom it is to make."""

    body: RegisterBody
    user_id: str

    @property
    def is_small(self) -> bool:
        return len(msgspec.json.encode(self.body)) <= MAX_REMEMBERED


@endpoints.post("/register", auth=Auth.NONE, empty_body=True)
async def register(call: Call, body: RegisterBody) -> JsonObject:
    """client-server-api#post_matrixclientv3register"""
    if call.query_choice("kind", ("user", "guest"), "user") == "guest":
        return await _register_guest(call, body)
    if body.type == APP_SERVICE:
        return await _register_app_service_user(call, body)
    session_id = None if body.auth is None else body.auth.get("session")
    begun: Begun | None = call.parts.user_interactive.begun(session_id)
    if begun is not None:
        body = _completed(body, begun.body)
    made = await call.parts.registration.made_in(session_id)
    if made is not None and body.password is not None:
        await call.parts.accounts.check_password(made, body.password)
        return await _registered(call, body, made)
    flows = await call.parts.registration.flows()
    if call.parts.mail_validation.works:
        flows += [[*(s for s in flow if s != DUMMY), MAIL] for flow in flows]
    if begun is not None and body.username == begun.body.username:
        user_id = begun.user_id
    else:
        user_id = call.parts.registration.user_id_for(body.username)
    if body.guest_access_token is None:
        await call.parts.registration.check_available(user_id)
    else:
        await _require_guest(call, body.guest_access_token, user_id)
    if body.auth is not None:
        call.parts.rate_limits.take(Limit.REGISTRATION, call.address)
    if body.password is not None:
        call.parts.accounts.check_new_password(body.password)

    async def make(results: Mapping[str, Any]) -> JsonObject:
        answer = await _register(call, body, user_id, results.get("m.login.registration_token"))
        if MAIL in results:
            await _add_address(call, user_id, results[MAIL])
        call.parts.registration.done(session_id, user_id)
        return answer

    operation = Operation("POST /register", None)
    begins = Begun(body, user_id)
    return await call.parts.user_interactive.run(
        operation, body.auth, flows, make, begins if begins.is_small else None
    )


def _completed(body: RegisterBody, begun: RegisterBody) -> RegisterBody:
    """With what the session's first request said, where this one says nothing."""
    said = {
        name: value
        for name in RegisterBody.__struct_fields__
        if (value := getattr(body, name)) not in (None, False)
    }
    return replace(begun, **said)


async def _register(call: Call, body: RegisterBody, user_id: str, token: str | None) -> JsonObject:
    if body.password is None:
        raise MissingParam("`password` is missing")
    password_hash = await call.parts.accounts.hash_password(body.password)
    was_guest = body.guest_access_token is not None
    new = NewAccount(user_id, password_hash, token=token, was_guest=was_guest)
    await call.parts.registration.create(new)
    call.parts.sessions.forget_user(user_id)
    return await _registered(call, body, user_id)


async def _add_address(call: Call, user_id: str, proof: Proof) -> None:
    """Without it, if it was confirmed for something else or somebody else was faster."""
    if proof.purpose is Purpose.REGISTER:
        await call.parts.accounts.add_mail(user_id, proof.address, proof.validated_at or 0)
        await call.parts.mail_validation.used(proof)


async def _require_guest(call: Call, token: str, user_id: str) -> None:
    """Only the guest upgrades their account. client-server-api#guest-access"""
    try:
        requester = await call.parts.sessions.find_requester(token)
    except UnknownToken:
        raise Forbidden("The `guest_access_token` is not known") from None
    if not requester.is_guest or requester.user_id != user_id:
        raise Forbidden("The `guest_access_token` is not that of the guest of this `username`")


async def _registered(call: Call, body: RegisterBody, user_id: str) -> JsonObject:
    answer: JsonObject = {"user_id": user_id, "home_server": call.parts.config.server_name}
    if body.inhibit_login:
        return answer
    login = Login(body.device_id, body.initial_device_display_name, body.refresh_token)
    return {**answer, **credentials_json(await call.parts.sessions.open(user_id, login))}


async def _register_app_service_user(call: Call, body: RegisterBody) -> JsonObject:
    """application-service-api#server-admin-style-permissions"""
    if body.username is None:
        raise MissingParam("`username` is missing")
    user_id = call.parts.registration.user_id_of(body.username)
    token = bearer_token(call.request, call.parts.config.query_string_access_tokens)
    service = call.parts.app_services.masquerade.service_for_login(token, user_id)
    if service.manages_devices and not body.inhibit_login:
        raise AppServiceLoginUnsupported("Register with `inhibit_login`: devices are yours to make")
    await call.parts.registration.create(NewAccount(user_id, app_service=service.id))
    return await _registered(call, body, user_id)


async def _register_guest(call: Call, body: RegisterBody) -> JsonObject:
    """ "all parameters [but] `initial_device_display_name` MUST BE ignored by the server" """
    call.parts.rate_limits.take(Limit.REGISTRATION, call.address)
    user_id = await call.parts.registration.create_guest()
    kept = RegisterBody(initial_device_display_name=body.initial_device_display_name)
    return await _registered(call, kept, user_id)


@endpoints.get("/register/available", auth=Auth.NONE)
async def available(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3registeravailable"""
    user_id = call.parts.registration.user_id_for(call.required_query("username"))
    await call.parts.registration.check_available(user_id)
    return {"available": True}


@endpoints.get(
    "/register/m.login.registration_token/validity",
    auth=Auth.NONE,
    limit=Limit.REGISTRATION,
    versions=("v1",),
    unstable=(
        "/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity",
    ),
)
async def token_validity(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv1registermloginregistration_tokenvalidity"""
    token = call.required_query("token")
    options = call.parts.config.registration
    if not options.enabled and not await call.parts.registration.token_is_valid(token):
        raise Forbidden("Registration is disabled on this server")
    return {"valid": await call.parts.registration.token_is_valid(token)}
