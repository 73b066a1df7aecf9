"""What server admins ask and do: client-server-api#account-moderation."""

from __future__ import annotations

import pytest

from homeserver.store import accounts
from homeserver.store.accounts import Flag
from tests.support.client import PASSWORD, Client, refusal
from tests.support.server import RunningServer

V1 = "/_matrix/client/v1/admin"


async def admin_of(server: RunningServer, name: str = "admin") -> Client:
    """A new user who is a server admin."""
    client = await server.user(name)
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await accounts.set_flag(connection, client.user_id, Flag.ADMIN, True)
    return await client.another_device()


async def test_an_admin_sees_where_a_user_was(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    await alice.get("/account/whoami")
    answer = await admin.get(f"/admin/whois/{alice.user_id}")
    assert answer["user_id"] == alice.user_id
    [session] = answer["devices"][alice.device_id]["sessions"]
    [connection] = session["connections"]
    assert connection["ip"] == "127.0.0.1"
    assert connection["last_seen"] > 0
    assert "aiohttp" in connection["user_agent"]


async def test_users_see_only_themselves(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    assert (await alice.get(f"/admin/whois/{alice.user_id}"))["user_id"] == alice.user_id
    refused = await refusal(alice.get(f"/admin/whois/{bob.user_id}"))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_a_locked_account_can_only_log_out(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    other = await alice.another_device()
    path = f"{V1}/lock/{alice.user_id}"
    assert await admin.get(path) == {"locked": False}
    assert await admin.put(path, {"locked": True}) == {"locked": True}
    refused = await refusal(alice.get("/account/whoami"))
    assert (refused.status, refused.errcode) == (401, "M_USER_LOCKED")
    assert refused.body["soft_logout"] is True
    assert await other.post("/logout") == {}
    assert await admin.put(path, {"locked": False}) == {"locked": False}
    await alice.get("/account/whoami")


async def test_a_locked_account_gets_no_new_token(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    who = {"identifier": {"type": "m.id.user", "user": alice.user_id}, "password": PASSWORD}
    asked = {"type": "m.login.password", **who, "refresh_token": True}
    refresh = {"refresh_token": (await alice.post("/login", asked))["refresh_token"]}
    path = f"{V1}/lock/{alice.user_id}"
    await admin.put(path, {"locked": True})
    for request in (alice.post("/login", asked), alice.post("/refresh", refresh)):
        refused = await refusal(request)
        assert (refused.status, refused.errcode) == (401, "M_USER_LOCKED")
        assert refused.body["soft_logout"] is True
    await admin.put(path, {"locked": False})
    await alice.post("/refresh", refresh)
    await alice.post("/login", asked)


async def test_a_suspended_account_reads_on(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    path = f"{V1}/suspend/{alice.user_id}"
    assert await admin.put(path, {"suspended": True}) == {"suspended": True}
    assert await admin.get(path) == {"suspended": True}
    await alice.get("/account/whoami")
    assert await admin.put(path, {"suspended": False}) == {"suspended": False}


async def test_a_suspended_account_says_nothing_and_goes_nowhere(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    room_id = await alice.create_room()
    open_room = await admin.create_room(preset="public_chat")
    await admin.put(f"{V1}/suspend/{alice.user_id}", {"suspended": True})
    for request in (
        alice.send(room_id, "hello"),
        alice.set_state(room_id, "m.room.name", {"name": "x"}),
        alice.create_room(),
        alice.join(open_room),
        alice.invite(room_id, admin.user_id),
        alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "x"}),
    ):
        refused = await refusal(request)
        assert (refused.status, refused.errcode) == (403, "M_USER_SUSPENDED")
    await alice.sync()
    await alice.leave(room_id)


async def test_a_suspended_account_redacts_only_its_own_events(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    room_id = await alice.create_room(preset="public_chat")
    await admin.join(room_id)
    own, others = await alice.send(room_id, "mine"), await admin.send(room_id, "yours")
    await admin.put(f"{V1}/suspend/{alice.user_id}", {"suspended": True})
    await alice.redact(room_id, own)
    for event_id in (others, "$unknown"):
        refused = await refusal(alice.redact(room_id, event_id))
        assert (refused.status, refused.errcode) == (403, "M_USER_SUSPENDED")


@pytest.mark.parametrize("action", ["lock", "suspend"])
async def test_only_admins_moderate(server: RunningServer, action: str) -> None:
    alice = await server.user("alice")
    for user_id in ("@alice:hs.test", "@nobody:hs.test", "@x:elsewhere"):
        refused = await refusal(alice.get(f"{V1}/{action}/{user_id}"))
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("user_id", "status", "errcode"),
    [
        ("@x:elsewhere", 400, "M_INVALID_PARAM"),
        ("@nobody:hs.test", 404, "M_NOT_FOUND"),
        ("@other-admin:hs.test", 403, "M_FORBIDDEN"),
    ],
)
async def test_not_everybody_can_be_moderated(
    server: RunningServer, user_id: str, status: int, errcode: str
) -> None:
    admin = await admin_of(server)
    await admin_of(server, "other-admin")
    for request in (
        admin.get(f"{V1}/lock/{user_id}"),
        admin.put(f"{V1}/lock/{user_id}", {"locked": True}),
        admin.put(f"{V1}/suspend/{user_id}", {"suspended": True}),
    ):
        refused = await refusal(request)
        assert (refused.status, refused.errcode) == (status, errcode)


async def test_admins_are_told_that_they_may_moderate(server: RunningServer) -> None:
    admin, alice = await admin_of(server), await server.user("alice")
    capability = {"suspend": True, "lock": True}
    answer = (await admin.get("/capabilities"))["capabilities"]
    assert answer["m.account_moderation"] == capability
    assert "m.account_moderation" not in (await alice.get("/capabilities"))["capabilities"]


@pytest.mark.parametrize("user_id", ["nonsense", "@alice:elsewhere.test"])
async def test_an_admin_sees_only_users_of_this_server(server: RunningServer, user_id: str) -> None:
    admin = await admin_of(server)
    refused = await refusal(admin.get(f"/admin/whois/{user_id}"))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
