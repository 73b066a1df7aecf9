"""Logging in and out, access and refresh tokens: client-server-api#legacy-login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.json_types import JsonObject
from homeserver.store import threepids
from homeserver.store.threepids import Threepid
from tests.support.client import PASSWORD, Client, Refused, refusal
from tests.support.server import RunningServer, settings


def password_login(**more: Any) -> JsonObject:
    return {"type": "m.login.password", "password": PASSWORD, **more}


async def works(client: Client) -> bool:
    """Whether the client's access token is good."""
    try:
        await client.get("/account/whoami")
    except Refused as refused:
        assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
        return False
    return True


async def test_the_ways_to_log_in_are_told(server: RunningServer) -> None:
    flows = (await server.anonymous().get("/login"))["flows"]
    assert {"type": "m.login.password"} in flows
    assert {"type": "m.login.token", "get_login_token": True} in flows


@pytest.mark.parametrize(
    "who",
    [
        {"identifier": {"type": "m.id.user", "user": "alice"}},
        {"identifier": {"type": "m.id.user", "user": "@alice:hs.test"}},
        {"identifier": {"type": "m.id.user", "user": "Alice"}},
        {"user": "alice"},
        {"user": "@alice:hs.test"},
    ],
)
async def test_a_user_is_named_in_many_ways(server: RunningServer, who: JsonObject) -> None:
    await server.user("alice")
    answer = await server.anonymous().post("/login", password_login(**who))
    assert answer["user_id"] == "@alice:hs.test"
    assert answer["access_token"] and answer["device_id"]
    assert "refresh_token" not in answer


@pytest.mark.parametrize(
    "who",
    [
        {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "A@b.C"}},
        {"medium": "email", "address": "a@b.c"},
    ],
)
async def test_a_mail_address_names_its_owner(server: RunningServer, who: JsonObject) -> None:
    await server.user("alice")
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await threepids.add(connection, "@alice:hs.test", Threepid("email", "a@b.c", 1, 2))
    answer = await server.anonymous().post("/login", password_login(**who))
    assert answer["user_id"] == "@alice:hs.test"


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        (password_login(user="alice", password="wrong"), 403, "M_FORBIDDEN"),
        (password_login(user="nobody"), 403, "M_FORBIDDEN"),
        (password_login(user="@alice:elsewhere"), 403, "M_FORBIDDEN"),
        (password_login(medium="email", address="x@y.z"), 403, "M_FORBIDDEN"),
        (password_login(), 400, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "user": "alice"}, 400, "M_MISSING_PARAM"),
        (password_login(identifier={"type": "m.id.user"}), 400, "M_BAD_JSON"),
        (password_login(identifier={"type": "org.example"}), 400, "M_UNKNOWN"),
        (password_login(identifier=[]), 400, "M_BAD_JSON"),
        ({"type": "org.example"}, 400, "M_UNKNOWN"),
        ({}, 400, "M_MISSING_PARAM"),
        ({"type": "m.login.token", "token": "no"}, 403, "M_FORBIDDEN"),
        ({"type": "m.login.token"}, 400, "M_MISSING_PARAM"),
        (password_login(user="alice", device_id=""), 400, "M_INVALID_PARAM"),
        (password_login(user="alice", device_id="x" * 256), 400, "M_INVALID_PARAM"),
        (password_login(user="alice", device_id="a\0"), 400, "M_INVALID_PARAM"),
    ],
)
async def test_a_bad_login_is_refused(
    server: RunningServer, body: JsonObject, status: int, errcode: str
) -> None:
    await server.user("alice")
    refused = await refusal(server.anonymous().post("/login", body))
    assert (refused.status, refused.errcode) == (status, errcode)


async def test_logging_in_at_a_known_device_ends_its_old_token(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await server.anonymous().login("alice", device_id=alice.device_id)
    assert other.device_id == alice.device_id
    assert await works(other)
    assert not await works(alice)


async def test_logout_ends_the_token_and_deletes_the_device(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    await alice.post("/logout")
    assert not await works(alice)
    devices = (await other.get("/devices"))["devices"]
    assert [device["device_id"] for device in devices] == [other.device_id]


async def test_logout_all_ends_every_token(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    bob = await server.user("bob")
    await alice.post("/logout/all")
    assert not await works(alice)
    assert not await works(other)
    assert await works(bob)


async def test_a_request_without_a_token_is_refused(server: RunningServer) -> None:
    refused = await refusal(server.anonymous().get("/account/whoami"))
    assert (refused.status, refused.errcode) == (401, "M_MISSING_TOKEN")


async def test_a_token_may_stand_in_the_query_string(server: RunningServer) -> None:
    alice = await server.user("alice")
    answer = await server.anonymous().get("/account/whoami", access_token=alice.token)
    assert answer["user_id"] == alice.user_id


async def test_an_option_refuses_tokens_in_the_query_string(
    database_url: str, tmp_path: Path
) -> None:
    server = RunningServer(settings(database_url, query_string_access_tokens=False), tmp_path)
    await server.start()
    alice = await server.user("alice")
    refused = await refusal(server.anonymous().get("/account/whoami", access_token=alice.token))
    assert (refused.status, refused.errcode) == (401, "M_MISSING_TOKEN")
    await server.stop()


async def test_tokens_stay_good_over_a_restart(server: RunningServer) -> None:
    alice = await server.user("alice")
    await server.restart()
    assert await works(server.moved(alice))


async def test_a_login_token_logs_in_once(server: RunningServer) -> None:
    alice = await server.user("alice")
    path = "/_matrix/client/v1/login/get_token"
    needed = await refusal(alice.post(path))
    assert needed.status == 401
    auth = {"type": "m.login.password", "password": PASSWORD, "session": needed.body["session"]}
    issued = await alice.post(path, {"auth": auth})
    assert issued["expires_in_ms"] > 0
    body = {"type": "m.login.token", "token": issued["login_token"]}
    answer = await server.anonymous().post("/login", body)
    assert answer["user_id"] == alice.user_id
    again = await refusal(server.anonymous().post("/login", body))
    assert (again.status, again.errcode) == (403, "M_FORBIDDEN")


def with_token(server: RunningServer, token: str) -> Client:
    client = server.anonymous()
    client.token = token
    return client


async def refreshable(server: RunningServer) -> JsonObject:
    """The answer of a login that can be refreshed."""
    await server.user("alice")
    body = password_login(user="alice", refresh_token=True)
    answer: JsonObject = await server.anonymous().post("/login", body)
    return answer


async def refresh(server: RunningServer, refresh_token: str) -> JsonObject:
    answer: JsonObject = await server.anonymous().post("/refresh", {"refresh_token": refresh_token})
    return answer


async def test_a_refresh_gives_new_tokens(server: RunningServer) -> None:
    first = await refreshable(server)
    assert first["expires_in_ms"] == 3_600_000
    second = await refresh(server, first["refresh_token"])
    assert set(second) == {"access_token", "refresh_token", "expires_in_ms"}
    whoami = await with_token(server, second["access_token"]).get("/account/whoami")
    assert whoami["device_id"] == first["device_id"]


async def test_old_tokens_are_good_until_the_new_access_token_is_used(
    server: RunningServer,
) -> None:
    first = await refreshable(server)
    second = await refresh(server, first["refresh_token"])
    assert await works(with_token(server, first["access_token"]))
    assert await works(with_token(server, second["access_token"]))
    assert not await works(with_token(server, first["access_token"]))
    refused = await refusal(refresh(server, first["refresh_token"]))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")


async def test_the_old_refresh_token_is_good_until_the_new_one_is_used(
    server: RunningServer,
) -> None:
    first = await refreshable(server)
    second = await refresh(server, first["refresh_token"])
    third = await refresh(server, second["refresh_token"])
    refused = await refusal(refresh(server, first["refresh_token"]))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert await works(with_token(server, third["access_token"]))


async def test_a_lost_answer_to_a_refresh_can_be_asked_for_again(server: RunningServer) -> None:
    first = await refreshable(server)
    lost = await refresh(server, first["refresh_token"])
    second = await refresh(server, first["refresh_token"])
    assert await works(with_token(server, second["access_token"]))
    assert not await works(with_token(server, lost["access_token"]))


async def test_logout_ends_the_refresh_token_too(server: RunningServer) -> None:
    first = await refreshable(server)
    await with_token(server, first["access_token"]).post("/logout")
    refused = await refusal(refresh(server, first["refresh_token"]))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")


@pytest.fixture
async def impatient(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server whose refreshable access tokens live for a second."""
    options = settings(database_url, sessions={"access_token_lifetime": 1})
    server = RunningServer(options, tmp_path)
    await server.start()
    yield server
    await server.stop()


async def test_an_expired_token_is_a_soft_logout(impatient: RunningServer) -> None:
    first = await refreshable(impatient)
    client = with_token(impatient, first["access_token"])
    assert await works(client)
    await asyncio.sleep(1.05)
    refused = await refusal(client.get("/account/whoami"))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert refused.body["soft_logout"] is True
    second = await refresh(impatient, first["refresh_token"])
    assert await works(with_token(impatient, second["access_token"]))


async def test_logins_are_limited_by_account(database_url: str, tmp_path: Path) -> None:
    slow = {"per_second": 0.001, "burst": 3}
    server = RunningServer(
        settings(database_url, rate_limits={"enabled": True, "login": slow}), tmp_path
    )
    await server.start()
    await server.user("alice")
    body = password_login(user="alice", password="guess")
    for _ in range(3):
        assert (await refusal(server.anonymous().post("/login", body))).status == 403
    limited = await refusal(server.anonymous().post("/login", body))
    assert (limited.status, limited.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert int(limited.headers["Retry-After"]) >= 1
    assert limited.body["retry_after_ms"] > 0
    await server.stop()


async def test_there_is_a_page_to_log_in_on(server: RunningServer) -> None:
    client = server.anonymous()
    async with client.http.get(server.url + "/_matrix/static/client/login/") as response:
        assert response.content_type == "text/html"
        assert "window.matrixLogin.onLogin(answer)" in await response.text()
