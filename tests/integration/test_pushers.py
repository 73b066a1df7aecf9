"""Pushers, against a push gateway that is a server of its own; the list of notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from homeserver import background
from homeserver.backoff import Backoff
from homeserver.json_types import JsonObject
from homeserver.protocol.pushers import WantedPusher
from homeserver.requester import Requester
from homeserver.services.push import gateways, pusher, pushers
from homeserver.services.push import parts as push_parts
from homeserver.services.push.gateways import PER_USER
from homeserver.services.push.pushed_events import Pending, PushedEvents
from homeserver.services.push.pushers import Pushers
from tests.conftest import StartServer
from tests.support.client import Client, refusal
from tests.support.push_gateway import PushGateway, push_gateway
from tests.support.server import RunningServer

ON: dict[str, Any] = {"org.matrix.msc3881.enabled": True}
OFF: dict[str, Any] = {"org.matrix.msc3881.enabled": False}


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    return await start_server(push={"require_https": False})


@pytest.fixture
async def gateway() -> AsyncIterator[PushGateway]:
    async with push_gateway() as running:
        yield running


async def two_in_a_room(server: RunningServer) -> tuple[Client, Client, str]:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="Tea")
    await bob.join(room_id)
    return alice, bob, room_id


async def read(client: Client, room_id: str, event_id: str) -> None:
    await client.post(f"/rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}")


def ids(told: list[JsonObject]) -> list[str]:
    return [notification["event_id"] for notification in told]


async def test_a_message_is_told_in_full(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob, data={"brand": "x"})
    event_id = await alice.send(room_id, "hello")
    (told,) = await gateway.wait_for(1)
    assert told["devices"][0].pop("pushkey_ts") > 1_600_000_000
    assert told == {
        "event_id": event_id,
        "room_id": room_id,
        "type": "m.room.message",
        "sender": alice.user_id,
        "sender_display_name": "alice",
        "room_name": "Tea",
        "prio": "high",
        "content": {"msgtype": "m.text", "body": "hello"},
        "counts": {"unread": 1},
        "devices": [
            {
                "app_id": "org.example.app",
                "pushkey": "key",
                "data": {"brand": "x"},
                "tweaks": {"sound": "default"},
            }
        ],
    }


async def test_event_id_only_tells_no_content(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob, data={"format": "event_id_only"})
    event_id = await alice.send(room_id, "secret")
    (told,) = await gateway.wait_for(1)
    assert set(told) == {"event_id", "room_id", "prio", "counts", "devices"}
    assert told["event_id"] == event_id
    assert told["devices"][0]["data"] == {"format": "event_id_only"}


async def test_an_invite_is_told(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await gateway.set_pusher(bob)
    room_id = await alice.create_room()
    await alice.invite(room_id, bob.user_id)
    (told,) = await gateway.wait_for(1)
    assert (told["room_id"], told["type"], told["user_is_target"]) == (
        room_id,
        "m.room.member",
        True,
    )


async def test_pushers_are_listed_changed_and_deleted(
    server: RunningServer, gateway: PushGateway
) -> None:
    bob = await server.user("bob")
    await gateway.set_pusher(bob)
    (listed,) = (await bob.get("/pushers"))["pushers"]
    assert (listed["pushkey"], listed["data"]["url"]) == ("key", gateway.url)
    await gateway.set_pusher(bob, lang="de")
    (listed,) = (await bob.get("/pushers"))["pushers"]
    assert listed["lang"] == "de"
    await bob.post("/pushers/set", {"kind": None, "app_id": "org.example.app", "pushkey": "key"})
    assert (await bob.get("/pushers"))["pushers"] == []


@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        ({"app_id": None}, "M_MISSING_PARAM"),
        ({"pushkey": "x" * 513}, "M_INVALID_PARAM"),
        ({"app_id": "x" * 65}, "M_INVALID_PARAM"),
        ({"kind": "pigeon"}, "M_INVALID_PARAM"),
        ({"data": {"url": "http://127.0.0.1/elsewhere"}}, "M_INVALID_PARAM"),
        ({"data": {"url": "ftp://127.0.0.1/_matrix/push/v1/notify"}}, "M_INVALID_PARAM"),
    ],
)
async def test_what_makes_no_pusher(
    server: RunningServer, gateway: PushGateway, change: Any, errcode: str
) -> None:
    bob = await server.user("bob")
    refused = await refusal(gateway.set_pusher(bob, **change))
    assert (refused.status, refused.errcode) == (400, errcode)


async def test_gateways_are_reached_by_https_only(
    start_server: StartServer, gateway: PushGateway
) -> None:
    bob = await (await start_server()).user("bob")
    assert (await refusal(gateway.set_pusher(bob))).errcode == "M_INVALID_PARAM"


async def test_another_user_takes_the_pushkey_over(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await gateway.set_pusher(alice)
    await gateway.set_pusher(bob, append=True)
    assert len((await alice.get("/pushers"))["pushers"]) == 1
    await gateway.set_pusher(bob)
    assert (await alice.get("/pushers"))["pushers"] == []


async def test_a_pusher_goes_with_its_device(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    phone = await bob.another_device()
    await gateway.set_pusher(phone, "phone")
    await gateway.set_pusher(bob, "desk")
    await phone.post("/logout")
    await alice.send(room_id, "x")
    (told,) = await gateway.wait_for(1)
    assert told["devices"][0]["pushkey"] == "desk"
    assert [p["pushkey"] for p in (await bob.get("/pushers"))["pushers"]] == ["desk"]


async def test_a_device_that_is_logged_out_meanwhile_makes_no_pusher(
    server: RunningServer, gateway: PushGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await server.user("bob")
    put = Pushers.put

    async def logged_out_first(self: Pushers, requester: Requester, wanted: WantedPusher) -> None:
        await bob.post("/logout")
        await put(self, requester, wanted)

    monkeypatch.setattr(Pushers, "put", logged_out_first)
    assert (await refusal(gateway.set_pusher(bob))).errcode == "M_UNKNOWN_TOKEN"
    assert (await (await server.anonymous().login("bob")).get("/pushers"))["pushers"] == []


async def test_a_pusher_that_is_switched_off_tells_nothing(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob, **OFF)
    await alice.send(room_id, "1")
    (listed,) = (await bob.get("/pushers"))["pushers"]
    assert listed["org.matrix.msc3881.enabled"] is False
    assert listed["org.matrix.msc3881.device_id"] == bob.device_id
    await gateway.set_pusher(bob, **ON)
    second = await alice.send(room_id, "2")
    assert ids(await gateway.wait_for(1)) == [second]


async def test_a_rejected_pushkey_is_deleted(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    gateway.rejected = ["key"]
    await gateway.set_pusher(bob)
    await alice.send(room_id, "x")
    await gateway.wait_for(1)
    await alice.send(room_id, "y")
    await server.restart()
    assert (await server.moved(bob).get("/pushers"))["pushers"] == []


async def test_each_is_told_once_over_restarts_of_the_server(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob)
    first = await alice.send(room_id, "1")
    await gateway.wait_for(1)
    await server.restart()
    second = await server.moved(alice).send(room_id, "2")
    await gateway.wait_for(2)
    await server.restart()
    third = await server.moved(alice).send(room_id, "3")
    assert ids(await gateway.wait_for(3)) == [first, second, third]


async def test_what_the_gateway_missed_is_told_when_it_is_back(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob)
    await gateway.stop()
    sent = [await alice.send(room_id, "1"), await alice.send(room_id, "2")]
    await gateway.start()
    assert ids(await gateway.wait_for(2)) == sent


async def test_what_neither_side_was_there_for_is_told(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob)
    await gateway.stop()
    sent = [await alice.send(room_id, str(number)) for number in range(60)]
    await server.restart()
    await gateway.start()
    assert ids(await gateway.wait_for(60)) == sent


async def test_what_was_read_meanwhile_is_not_told(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob)
    gateway.status = 503
    first = await alice.send(room_id, "1")
    await gateway.wait_until_asked(1)
    await read(bob, room_id, first)
    second = await alice.send(room_id, "2")
    gateway.status = 200
    assert ids(await gateway.wait_for(1)) == [second]


async def test_reading_brings_the_badge_down(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    other_room = await alice.create_room(preset="public_chat")
    await bob.join(other_room)
    await gateway.set_pusher(bob)
    await alice.send(other_room, "1")
    event_id = await alice.send(room_id, "2")
    told = await gateway.wait_for(2)
    assert [t["counts"]["unread"] for t in told][-1] == 2
    await read(bob, room_id, event_id)
    await gateway.wait_until_asked(3)
    assert gateway.told[-1]["counts"] == {"unread": 1}
    assert "event_id" not in gateway.told[-1]


async def test_no_counts_for_who_wants_none(server: RunningServer, gateway: PushGateway) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob, data={"org.matrix.msc4076.disable_badge_count": True})
    await alice.send(room_id, "1")
    (told,) = await gateway.wait_for(1)
    assert "counts" not in told


@pytest.mark.parametrize("trouble", ["status", "huge", "redirect"])
async def test_a_gateway_in_trouble_is_asked_again_later(
    server: RunningServer, gateway: PushGateway, trouble: str
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob)
    gateway.status = 503 if trouble == "status" else 200
    gateway.huge = trouble == "huge"
    gateway.redirect_to = server.url + "/_matrix/client/versions" if trouble == "redirect" else None
    sent = [await alice.send(room_id, str(number)) for number in range(5)]
    await gateway.wait_until_asked(1)
    await asyncio.sleep(0.3)
    assert gateway.asked == 1  # one probe until the time to wait is over
    gateway.status, gateway.huge, gateway.redirect_to = 200, False, None
    gateway.told.clear()
    assert ids(await gateway.wait_for(5)) == sent


async def test_a_slow_gateway_is_given_up_and_delays_nobody_else(
    start_server: StartServer, gateway: PushGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_parts, "GATEWAY_SECONDS", 0.6)
    monkeypatch.setattr(gateways, "BACKOFF_MS", Backoff(200, 400))
    server = await start_server(push={"require_https": False})
    alice, bob, room_id = await two_in_a_room(server)
    carol = await server.user("carol")
    await carol.join(room_id)
    async with push_gateway() as slow:
        slow.hangs = True
        for number in range(12):  # more than one user may have under way
            await slow.set_pusher(bob, f"key{number}")
        await gateway.set_pusher(carol)
        first = await alice.send(room_id, "1")
        await slow.wait_until_asked(PER_USER)
        second = await alice.send(room_id, "2")
        assert ids(await gateway.wait_for(2)) == [first, second]
        # What was under way has failed by the time that the next one asks.
        await slow.wait_until_asked(PER_USER + 1)
        assert slow.asked == PER_USER + 1
        slow.hangs = False
        told = await slow.wait_for(24)
        assert sorted(set(ids(told))) == sorted([first, second])


async def test_what_a_gateway_refuses_of_one_delays_nobody_else(
    server: RunningServer, gateway: PushGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "BACKOFF_MS", Backoff(600_000, 600_000))
    monkeypatch.setattr(pusher, "REFUSED_SECONDS", Backoff(0.2, 1.0))
    alice, bob, room_id = await two_in_a_room(server)
    carol = await server.user("carol")
    await carol.join(room_id)
    gateway.refused = {"bob's"}
    await gateway.set_pusher(bob, "bob's")
    sent = [await alice.send(room_id, "1")]
    await gateway.set_pusher(carol, "carol's")
    sent += [await alice.send(room_id, str(number)) for number in range(2, 4)]
    assert ids(await gateway.wait_for(2)) == sent[1:]
    gateway.refused = set()
    told = await gateway.wait_for(5)
    assert [n["event_id"] for n in told if n["devices"][0]["pushkey"] == "bob's"] == sent


async def test_a_fault_of_ours_loses_no_notification(
    server: RunningServer, gateway: PushGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "BACKOFF", Backoff(0.05, 1.0))
    details, faults = PushedEvents.details, iter([KeyError("a"), OSError("b")])

    async def details_at_third(self: PushedEvents, user_id: str, pending: Pending) -> Any:
        if fault := next(faults, None):
            raise fault
        return await details(self, user_id, pending)

    monkeypatch.setattr(PushedEvents, "details", details_at_third)
    alice, bob, room_id = await two_in_a_room(server)
    await gateway.set_pusher(bob)
    event_id = await alice.send(room_id, "1")
    assert ids(await gateway.wait_for(1)) == [event_id]


async def test_a_user_s_other_gateway_is_told_while_one_is_slow(
    server: RunningServer, gateway: PushGateway
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    async with push_gateway() as slow:
        slow.hangs = True
        await slow.set_pusher(bob, "slow")
        await gateway.set_pusher(bob, "good")
        sent = [await alice.send(room_id, str(number)) for number in range(3)]
        assert ids(await gateway.wait_for(3)) == sent


async def test_notifications_are_listed_page_by_page(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    sent = [await alice.send(room_id, str(number)) for number in range(5)]
    await read(bob, room_id, sent[2])
    first = await bob.get("/notifications", limit="3")
    second = await bob.get("/notifications", limit="3", **{"from": first["next_token"]})
    listed = [*first["notifications"], *second["notifications"]]
    assert [n["event"]["event_id"] for n in listed] == sent[::-1]
    assert [n["read"] for n in listed] == [False, False, True, True, True]
    assert "next_token" not in second
    assert listed[0]["room_id"] == listed[0]["event"]["room_id"] == room_id
    assert listed[0]["actions"] == ["notify", {"set_tweak": "sound", "value": "default"}]


async def test_only_highlights_are_listed(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    mention = {"msgtype": "m.text", "body": "hey", "m.mentions": {"user_ids": [bob.user_id]}}
    event_id = await alice.send(room_id, mention)
    await alice.send(room_id, "no mention")
    answer = await bob.get("/notifications", only="highlight")
    assert [n["event"]["event_id"] for n in answer["notifications"]] == [event_id]


async def test_a_user_has_only_so_many_pushers(
    server: RunningServer, gateway: PushGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushers, "MAX_PER_USER", 2)
    bob = await server.user("bob")
    for pushkey in ("one", "two", "one"):
        await gateway.set_pusher(bob, pushkey)
    refused = await refusal(gateway.set_pusher(bob, "three"))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
    assert len((await bob.get("/pushers"))["pushers"]) == 2
