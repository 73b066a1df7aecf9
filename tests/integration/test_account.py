"""The caller's own account: client-server-api#account-management."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.json_types import JsonObject
from homeserver.services.profiles import Profiles
from homeserver.store import accounts as account_store
from homeserver.store import threepids
from homeserver.store.threepids import Threepid
from tests.support.client import PASSWORD, Client, Refused, refusal, timeline
from tests.support.media import eventually
from tests.support.server import RunningServer

NEW = "another horse"


async def works(client: Client) -> bool:
    """Whether the client's access token is good."""
    try:
        await client.get("/account/whoami")
    except Refused as refused:
        assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")
        return False
    return True


def by_password(password: str = PASSWORD, **more: Any) -> JsonObject:
    return {"type": "m.login.password", "password": password, **more}


async def test_a_new_password_takes_the_old_one(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    body = {"new_password": NEW}
    needed = await refusal(alice.post("/account/password", body))
    assert (needed.status, needed.body["flows"]) == (401, [{"stages": ["m.login.password"]}])
    identifier = {"type": "m.id.user", "user": "alice"}
    auth = by_password(session=needed.body["session"], identifier=identifier)
    assert await alice.post("/account/password", {**body, "auth": auth}) == {}
    assert await works(alice)
    assert not await works(other)
    assert (await refusal(server.anonymous().login("alice"))).status == 403
    await server.anonymous().login("alice", NEW)


async def test_other_devices_may_stay_logged_in(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    body = {"new_password": NEW, "logout_devices": False, "auth": by_password()}
    await alice.post("/account/password", body)
    assert await works(other)


async def test_who_is_logged_out_proves_the_old_password(server: RunningServer) -> None:
    alice = await server.user("alice")
    auth = by_password(identifier={"type": "m.id.user", "user": "alice"})
    await server.anonymous().post("/account/password", {"new_password": NEW, "auth": auth})
    assert not await works(alice)
    await server.anonymous().login("alice", NEW)


async def test_a_wrong_password_may_be_tried_again_in_the_session(server: RunningServer) -> None:
    alice = await server.user("alice")
    needed = await refusal(alice.post("/account/password", {"new_password": NEW}))
    session = needed.body["session"]
    body = {"new_password": NEW, "auth": by_password("wrong", session=session)}
    refused = await refusal(alice.post("/account/password", body))
    assert (refused.status, refused.errcode) == (401, "M_FORBIDDEN")
    assert refused.body["session"] == session
    body["auth"] = by_password(session=session)
    assert await alice.post("/account/password", body) == {}


async def test_anothers_password_does_not_do(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    auth = by_password(identifier={"type": "m.id.user", "user": bob.user_id})
    refused = await refusal(alice.post("/account/password", {"new_password": NEW, "auth": auth}))
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_a_session_serves_only_what_it_was_begun_for(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    needed = await refusal(alice.post("/account/password", {"new_password": NEW}))
    auth = by_password(session=needed.body["session"])
    for client, path in ((alice, "/account/deactivate"), (bob, "/account/password")):
        refused = await refusal(client.post(path, {"new_password": NEW, "auth": auth}))
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_a_completed_session_serves_once(server: RunningServer) -> None:
    alice = await server.user("alice")
    needed = await refusal(alice.post("/account/password", {"new_password": NEW}))
    body = {"new_password": NEW, "auth": by_password(session=needed.body["session"])}
    await alice.post("/account/password", body)
    body["auth"] = {"session": needed.body["session"]}
    assert (await refusal(alice.post("/account/password", body))).status == 400


@pytest.mark.parametrize("auth", [{"type": 1}, {"type": "m.login.password"}, {"session": 5}, []])
async def test_malformed_auth_is_refused(server: RunningServer, auth: Any) -> None:
    alice = await server.user("alice")
    refused = await refusal(alice.post("/account/password", {"new_password": NEW, "auth": auth}))
    assert refused.status == 400


async def test_an_unknown_stage_is_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    body = {"new_password": NEW, "auth": {"type": "m.login.dummy"}}
    refused = await refusal(alice.post("/account/password", body))
    assert (refused.status, refused.errcode) == (401, "M_FORBIDDEN")


async def test_a_deactivated_account_is_gone_for_good(server: RunningServer) -> None:
    alice = await server.user("alice")
    body = {"auth": by_password(), "erase": True}
    assert await alice.post("/account/deactivate", body) == {"id_server_unbind_result": "success"}
    assert not await works(alice)
    refused = await refusal(server.anonymous().login("alice"))
    assert (refused.status, refused.errcode) == (403, "M_USER_DEACTIVATED")
    taken = await refusal(server.anonymous().register("alice"))
    assert (taken.status, taken.errcode) == (400, "M_USER_IN_USE")


async def test_a_deactivated_user_leaves_their_rooms(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    joined = await bob.create_room(preset="public_chat")
    await alice.join(joined)
    invited = await bob.create_room(invite=[alice.user_id])
    await alice.post("/account/deactivate", {"auth": by_password()})
    answer = await bob.sync()
    for room_id in (joined, invited):
        last = timeline(answer, room_id)[-1]
        assert (last["type"], last["state_key"]) == ("m.room.member", alice.user_id)
        assert last["content"]["membership"] == "leave"


async def test_leaving_that_a_crash_interrupted_is_finished_at_the_next_start(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await bob.create_room(preset="public_chat")
    await alice.join(room_id)
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await account_store.deactivate(connection, alice.user_id)
    await server.restart()
    bob = server.moved(bob)
    bob.next_batch = None
    await bob.sync_until(
        lambda answer: any(
            event.get("state_key") == alice.user_id and event["content"]["membership"] == "leave"
            for event in timeline(answer, room_id)
        )
    )


@pytest.mark.parametrize("erase", [True, False])
async def test_erasing_forgets_the_profile(server: RunningServer, erase: bool) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    path = f"/profile/{alice.user_id}/displayname"
    await alice.put(path, {"displayname": "Alice"})
    await alice.post("/account/deactivate", {"auth": by_password(), "erase": erase})
    if erase:
        assert (await refusal(bob.get(path))).status == 404
    else:
        assert await bob.get(path) == {"displayname": "Alice"}


async def test_who_comes_after_an_erasure_sees_the_events_redacted(server: RunningServer) -> None:
    alice, bob, carol = [await server.user(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room(preset="public_chat", name="kept")
    event_id = await alice.send(room_id, "secret")
    await bob.join(room_id)
    await alice.post("/account/deactivate", {"auth": by_password(), "erase": True})
    await carol.join(room_id)
    for _ in range(2):
        for client, content in ((bob, {"msgtype": "m.text", "body": "secret"}), (carol, {})):
            assert (await client.event(room_id, event_id))["content"] == content
            page = await client.messages(room_id, dir="f")
            [shown] = [e for e in page["chunk"] if e["event_id"] == event_id]
            assert shown["content"] == content
            answer = await client.get("/sync")
            [shown] = [e for e in timeline(answer, room_id) if e["event_id"] == event_id]
            assert shown["content"] == content
            assert (await client.state(room_id, "m.room.name")) == {"name": "kept"}
        await server.restart()
        server.moved(bob)
        server.moved(carol)


async def test_deactivating_needs_the_password(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert (await refusal(alice.post("/account/deactivate"))).status == 401
    assert (await refusal(server.anonymous().post("/account/deactivate"))).status == 401
    assert await works(alice)


async def test_third_party_ids_are_listed_and_removed(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert await alice.get("/account/3pid") == {"threepids": []}
    mail = Threepid("email", "a@b.c", validated_at=1, added_at=2)
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await threepids.add(connection, alice.user_id, mail)
    assert await alice.get("/account/3pid") == {
        "threepids": [{"medium": "email", "address": "a@b.c", "validated_at": 1, "added_at": 2}]
    }
    await alice.post("/account/3pid/delete", {"medium": "email", "address": "A@B.C"})
    assert await alice.get("/account/3pid") == {"threepids": []}
    unbound = await alice.post("/account/3pid/unbind", {"medium": "email", "address": "a@b.c"})
    assert unbound == {"id_server_unbind_result": "no-support"}


async def test_a_stage_can_be_passed_on_its_fallback_page(server: RunningServer) -> None:
    alice = await server.user("alice")
    needed = await refusal(alice.post("/account/password", {"new_password": NEW}))
    session = needed.body["session"]
    page = f"{server.url}/_matrix/client/v3/auth/m.login.password/fallback/web?session={session}"
    async with alice.http.get(page) as shown:
        assert shown.status == 200
        assert '<input type="password" name="password"' in await shown.text()
    async with alice.http.post(page, data={"user": "alice", "password": "wrong"}) as failed:
        assert failed.status == 401
        assert "onAuthDone" not in await failed.text()
    async with alice.http.post(page, data={"user": "alice", "password": PASSWORD}) as passed:
        assert "onAuthDone" in await passed.text()
    body = {"new_password": NEW, "auth": {"session": session}}
    assert await alice.post("/account/password", body) == {}


async def test_a_fallback_page_needs_a_session(server: RunningServer) -> None:
    path = "/auth/m.login.dummy/fallback/web"
    assert (await refusal(server.anonymous().get(path))).errcode == "M_MISSING_PARAM"
    assert (await refusal(server.anonymous().get(path, session="x"))).errcode == "M_UNKNOWN"


async def test_a_name_that_changes_as_the_rooms_are_done_is_shown_too(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    shown: list[str] = []

    async def show(self: Profiles, user_id: str, _rooms: object, profile: JsonObject) -> None:
        shown.append(profile["displayname"])
        if len(shown) == 1:  # runs when the task is over, before it is forgotten
            asyncio.get_running_loop().call_soon(self._update_rooms, user_id)

    monkeypatch.setattr(Profiles, "_show", show)
    await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Al"})
    await eventually(lambda: len(shown) == 2)
