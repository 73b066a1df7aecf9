"""New accounts: client-server-api#legacy-account-registration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.store import registration_tokens
from homeserver.store.registration_tokens import RegistrationToken
from tests.support.client import PASSWORD, Client, refusal
from tests.support.server import RunningServer, settings

DUMMY = {"type": "m.login.dummy"}


async def test_a_request_without_auth_is_told_the_flows(server: RunningServer) -> None:
    body = {"username": "alice", "password": PASSWORD}
    needed = await refusal(server.anonymous().post("/register", body))
    assert needed.status == 401
    assert needed.body["flows"] == [{"stages": ["m.login.dummy"]}]
    assert needed.errcode == ""
    auth = {**DUMMY, "session": needed.body["session"]}
    answer = await server.anonymous().post("/register", {**body, "auth": auth})
    assert answer["user_id"] == "@alice:hs.test"


async def test_a_first_request_may_carry_dummy_auth_without_a_session(
    server: RunningServer,
) -> None:
    alice = await server.anonymous().register("alice")
    assert await alice.get("/account/whoami") == {
        "user_id": "@alice:hs.test",
        "device_id": alice.device_id,
        "is_guest": False,
    }


async def test_a_session_remembers_what_its_first_request_said(server: RunningServer) -> None:
    client = server.anonymous()
    first = {"username": "alice", "password": PASSWORD, "device_id": "PHONE", "inhibit_login": 0}
    needed = await refusal(client.post("/register", first))
    auth = {**DUMMY, "session": needed.body["session"]}
    answer = await client.post("/register", {"auth": auth})
    assert (answer["user_id"], answer["device_id"]) == ("@alice:hs.test", "PHONE")
    await server.anonymous().login("alice")


@pytest.mark.parametrize("named", [True, False])
async def test_who_missed_the_answer_asks_again(server: RunningServer, named: bool) -> None:
    client = server.anonymous()
    body: dict[str, Any] = {"password": PASSWORD}
    if named:
        body["username"] = "alice"
    needed = await refusal(client.post("/register", body))
    body["auth"] = {**DUMMY, "session": needed.body["session"]}
    answers = [await client.post("/register", body) for _ in range(2)]
    assert answers[0]["user_id"] == answers[1]["user_id"]
    wrong = await refusal(client.post("/register", {**body, "password": "guessed"}))
    assert (wrong.status, wrong.errcode) == (403, "M_FORBIDDEN")
    client._logged_in(answers[1])
    auth = {"type": "m.login.password", "password": PASSWORD}
    await client.post("/account/deactivate", {"auth": auth})
    assert (await refusal(client.post("/register", body))).status == 400


async def test_inhibit_login_gives_no_token(server: RunningServer) -> None:
    body = {"username": "a", "password": PASSWORD, "auth": DUMMY, "inhibit_login": True}
    assert await server.anonymous().post("/register", body) == {
        "user_id": "@a:hs.test",
        "home_server": "hs.test",
    }


async def test_the_device_is_named_as_asked(server: RunningServer) -> None:
    wished = {"device_id": "PHONE", "initial_device_display_name": "My phone"}
    alice = await server.anonymous().register("alice", **wished)
    device = await alice.get("/devices/PHONE")
    assert (device["device_id"], device["display_name"]) == ("PHONE", "My phone")


async def test_without_a_username_one_is_found(server: RunningServer) -> None:
    body = {"password": PASSWORD, "auth": DUMMY}
    one = await server.anonymous().post("/register", body)
    other = await server.anonymous().post("/register", body)
    assert one["user_id"] != other["user_id"]


async def test_capitals_are_lowered(server: RunningServer) -> None:
    alice = await server.anonymous().register("ALICE")
    assert alice.user_id == "@alice:hs.test"


@pytest.mark.parametrize("name", ["", "with space", "a:b", "@a", "ü", "a!", "x" * 250, "a\0", "_a"])
async def test_a_bad_username_is_refused_before_auth(server: RunningServer, name: str) -> None:
    body = {"username": name, "password": PASSWORD}
    refused = await refusal(server.anonymous().post("/register", body))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_USERNAME")


async def test_a_taken_username_is_refused_before_auth(server: RunningServer) -> None:
    await server.user("alice")
    refused = await refusal(server.anonymous().post("/register", {"username": "Alice"}))
    assert (refused.status, refused.errcode) == (400, "M_USER_IN_USE")


async def test_a_password_is_needed(server: RunningServer) -> None:
    refused = await refusal(
        server.anonymous().post("/register", {"username": "alice", "auth": DUMMY})
    )
    assert (refused.status, refused.errcode) == (400, "M_MISSING_PARAM")


async def test_a_field_of_the_wrong_type_is_named(server: RunningServer) -> None:
    refused = await refusal(server.anonymous().post("/register", {"username": 1}))
    assert (refused.status, refused.errcode) == (400, "M_BAD_JSON")
    assert "$.username" in refused.body["error"]


async def test_availability_is_told(server: RunningServer) -> None:
    client = server.anonymous()
    assert await client.get("/register/available", username="alice") == {"available": True}
    await server.user("alice")
    taken = await refusal(client.get("/register/available", username="alice"))
    assert (taken.status, taken.errcode) == (400, "M_USER_IN_USE")
    bad = await refusal(client.get("/register/available", username="a b"))
    assert (bad.status, bad.errcode) == (400, "M_INVALID_USERNAME")
    missing = await refusal(client.get("/register/available"))
    assert (missing.status, missing.errcode) == (400, "M_MISSING_PARAM")


async def test_a_guest_gets_an_account_of_few_rights(server: RunningServer) -> None:
    answer = await server.anonymous().post("/register", {"device_id": "MINE"}, kind="guest")
    assert answer["device_id"] != "MINE"
    guest = server.anonymous()
    guest.token = answer["access_token"]
    assert (await guest.get("/account/whoami"))["is_guest"] is True
    refused = await refusal(guest.get("/account/3pid"))
    assert (refused.status, refused.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")


async def test_an_unknown_kind_is_refused(server: RunningServer) -> None:
    refused = await refusal(server.anonymous().post("/register", {}, kind="robot"))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


@pytest.fixture
async def by_token(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server where registration needs a token, without guests."""
    options = {"requires_token": True, "guests": False}
    server = RunningServer(settings(database_url, registration=options), tmp_path)
    await server.start()
    yield server
    await server.stop()


async def add_token(server: RunningServer, token: str, **more: Any) -> None:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await registration_tokens.insert(connection, RegistrationToken(token, 0, **more))


async def register_by_token(client: Client, username: str, token: str) -> Client:
    auth = {"type": "m.login.registration_token", "token": token}
    return await client.register(username, auth=auth)


async def test_a_token_makes_as_many_accounts_as_it_may(by_token: RunningServer) -> None:
    await add_token(by_token, "secret", uses_allowed=1)
    await register_by_token(by_token.anonymous(), "alice", "secret")
    refused = await refusal(register_by_token(by_token.anonymous(), "bob", "secret"))
    assert (refused.status, refused.errcode) == (401, "M_FORBIDDEN")
    assert refused.body["flows"] == [{"stages": ["m.login.registration_token"]}]


async def test_an_expired_token_is_refused(by_token: RunningServer) -> None:
    await add_token(by_token, "old", expires_at=1)
    refused = await refusal(register_by_token(by_token.anonymous(), "alice", "old"))
    assert (refused.status, refused.errcode) == (401, "M_FORBIDDEN")


async def test_dummy_auth_does_not_replace_a_token(by_token: RunningServer) -> None:
    refused = await refusal(by_token.anonymous().register("alice"))
    assert (refused.status, refused.errcode) == (401, "M_FORBIDDEN")


async def test_the_validity_of_a_token_can_be_asked(by_token: RunningServer) -> None:
    await add_token(by_token, "secret")
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    client = by_token.anonymous()
    assert await client.get(path, token="secret") == {"valid": True}
    assert await client.get(path, token="other") == {"valid": False}


async def test_guests_are_refused_unless_enabled(by_token: RunningServer) -> None:
    refused = await refusal(by_token.anonymous().post("/register", {}, kind="guest"))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


@pytest.fixture
async def closed(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A new server on which people make no accounts for themselves."""
    server = RunningServer(settings(database_url, registration={"enabled": False}), tmp_path)
    await server.start()
    yield server
    await server.stop()


async def test_a_closed_server_lets_its_owner_in_once(closed: RunningServer) -> None:
    assert closed.app is not None
    assert closed.app.first_admin_token is not None
    await add_token(closed, "plain")
    refused = await refusal(register_by_token(closed.anonymous(), "alice", "plain"))
    assert refused.status == 401
    alice = await register_by_token(closed.anonymous(), "alice", closed.app.first_admin_token)
    assert "m.account_moderation" in (await alice.get("/capabilities"))["capabilities"]
    refused = await refusal(closed.anonymous().post("/register", {"username": "bob"}))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")
