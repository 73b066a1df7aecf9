"""Application services: what they are sent, over restarts of either side; what they may do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.backoff import Backoff
from homeserver.services.app_services import client as client_of_services
from homeserver.services.app_services import feed
from tests.conftest import StartServer
from tests.support.app_service import AppServiceServer, as_user, ghost
from tests.support.client import Client, refusal
from tests.support.encryption import CrossSigner, keys_of
from tests.support.server import RunningServer

PUSH_EPHEMERAL: dict[str, Any] = {"de.sorunome.msc2409.push_ephemeral": True}
ENCRYPTION: dict[str, Any] = {"org.matrix.msc3202": True}
OWN_DEVICES: dict[str, Any] = {"io.element.msc4190": True}
Start = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
def start(start_server: StartServer, service: AppServiceServer, tmp_path: Path) -> Start:
    """Starts a server with the application service; `await start(**registration)`."""

    async def starting(**registration: Any) -> RunningServer:
        path = service.write(tmp_path, **registration)
        return await start_server(application_services=[path])

    return starting


async def bridged_room(server: RunningServer) -> tuple[Client, Client, str]:
    """Alice and a ghost in a room."""
    alice, member = await server.user("alice"), await ghost(server)
    room_id = await alice.create_room(preset="public_chat")
    await member.join(room_id)
    return alice, member, room_id


async def test_messages_of_a_room_with_a_ghost_are_sent(
    start: Start, service: AppServiceServer
) -> None:
    server = await start()
    alice, _, room_id = await bridged_room(server)
    event_id = await alice.send(room_id, "hello")
    await service.wait_until(lambda: service.bodies() == ["hello"])
    event = service.got()[-1]
    assert (event["event_id"], event["room_id"]) == (event_id, room_id)
    assert event["unsigned"]["age"] >= 0


async def test_rooms_that_do_not_concern_it_are_not_sent(
    start: Start, service: AppServiceServer
) -> None:
    server = await start()
    alice, _, room_id = await bridged_room(server)
    other = await alice.create_room()
    await alice.send(other, "private")
    await alice.send(room_id, "bridged")
    await service.wait_until(lambda: "bridged" in service.bodies())
    assert service.bodies() == ["bridged"]
    assert {e["room_id"] for e in service.got()} == {room_id}


async def test_an_invited_ghost_is_told(start: Start, service: AppServiceServer) -> None:
    server = await start()
    alice, member = await server.user("alice"), await ghost(server)
    room_id = await alice.create_room()
    await alice.invite(room_id, member.user_id)
    await service.wait_until(
        lambda: any(e.get("state_key") == member.user_id for e in service.got())
    )


async def test_rooms_by_alias_and_by_id(start: Start, service: AppServiceServer) -> None:
    namespaces = {
        "users": [],
        "aliases": [{"exclusive": False, "regex": "#bridge_.*"}],
        "rooms": [],
    }
    server = await start(namespaces=namespaces)
    alice = await server.user("alice")
    room_id = await alice.create_room(room_alias_name="bridge_one")
    other = await alice.create_room()
    await alice.put(f"/directory/room/{quote('#bridge_two:hs.test')}", {"room_id": other})
    await alice.send(room_id, "1")
    await alice.send(other, "2")
    await service.wait_until(lambda: service.bodies() == ["1", "2"])
    await server.restart()
    await server.moved(alice).send(other, "3")
    await service.wait_until(lambda: service.bodies() == ["1", "2", "3"])


async def test_each_event_comes_once_over_restarts_of_the_server(
    start: Start, service: AppServiceServer
) -> None:
    server = await start()
    alice, _, room_id = await bridged_room(server)
    for number in range(3):
        await server.moved(alice).send(room_id, str(number))
        await service.wait_until(lambda: str(number) in service.bodies())  # noqa: B023
        await server.restart()
    assert service.bodies() == ["0", "1", "2"]
    ids = [int(txn) for txn, _ in service.asked]
    assert ids == sorted(set(ids))


async def test_what_it_missed_is_sent_when_it_is_back(
    start: Start, service: AppServiceServer
) -> None:
    server = await start()
    alice, _, room_id = await bridged_room(server)
    await service.wait_until(service.got)
    await service.stop()
    for number in range(5):
        await alice.send(room_id, str(number))
    await server.restart()
    await server.moved(alice).send(room_id, "5")
    await service.start()
    await service.wait_until(lambda: len(service.bodies()) == 6)
    assert service.bodies() == [str(number) for number in range(6)]


async def test_a_transaction_is_repeated_as_it_was(start: Start, service: AppServiceServer) -> None:
    server = await start()
    alice, _, room_id = await bridged_room(server)
    await service.wait_until(service.got)
    service.status = 500
    asked = len(service.asked)
    await alice.send(room_id, "1")
    await service.wait_until(lambda: len(service.asked) > asked)
    failed = service.asked[-1]
    await alice.send(room_id, "2")
    await server.restart()
    service.status = 200
    await service.wait_until(lambda: service.bodies() == ["1", "2"])
    assert service.transactions[failed[0]] == failed[1]


async def test_a_failing_one_is_asked_once_per_interval(
    start: Start, service: AppServiceServer
) -> None:
    server = await start()
    alice, _, room_id = await bridged_room(server)
    await service.wait_until(service.got)
    service.status = 500
    asked = len(service.asked)
    for number in range(10):
        await alice.send(room_id, str(number))
    await asyncio.sleep(0.3)
    assert len(service.asked) == asked + 1


@pytest.mark.parametrize("trouble", ["hangs", "huge", "redirect"])
async def test_a_hostile_one_delays_nobody_else(
    start_server: StartServer,
    service: AppServiceServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setattr(client_of_services, "TRANSACTION_SECONDS", 0.3)
    monkeypatch.setattr(feed, "BACKOFF_SECONDS", Backoff(0.2, 600.0))
    other = AppServiceServer()
    await other.start()
    rooms = {"rooms": [{"exclusive": False, "regex": "!.*"}]}
    more = {"id": "y", "as_token": "y", "sender_localpart": "ybot", "namespaces": rooms}
    (tmp_path / "other").mkdir()
    paths = [service.write(tmp_path), other.write(tmp_path / "other", **more)]
    server = await start_server(application_services=paths)
    try:
        alice, _, room_id = await bridged_room(server)
        await service.wait_until(service.got)
        service.trouble = trouble
        asked = len(service.asked)
        sent = [str(number) for number in range(5)]
        for body in sent:
            await alice.send(room_id, body)
        await other.wait_until(lambda: other.bodies() == sent)
        await service.wait_until(lambda: len(service.asked) >= asked + 2)
        assert service.asked[-1] == service.asked[-2]
        service.trouble = ""
        await service.wait_until(lambda: service.bodies() == sent)
    finally:
        await other.stop()


async def test_older_services_are_reached_at_their_paths(
    start: Start, service: AppServiceServer
) -> None:
    service.is_old = True
    await service.stop()
    await service.start()
    server = await start()
    alice, _, room_id = await bridged_room(server)
    for number in range(3):
        await alice.send(room_id, str(number))
        await service.wait_until(lambda: str(number) in service.bodies())  # noqa: B023
    service.known = {"@_x_late:hs.test"}
    service.on_query = lambda _: ghost(server, "_x_late")
    await alice.get("/profile/@_x_late:hs.test")
    # Once found, the old path is asked first.
    assert service.missed == 1


async def test_ephemeral_data_comes_to_who_asks_for_it(
    start: Start, service: AppServiceServer
) -> None:
    server = await start(**PUSH_EPHEMERAL)
    alice, member, room_id = await bridged_room(server)
    event_id = await member.send(room_id, "read me")
    await alice.post(f"/rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}")
    await alice.put(f"/rooms/{quote(room_id)}/typing/{alice.user_id}", {"typing": True})
    await service.wait_until(lambda: {e["type"] for e in service.got("ephemeral")} >= EPHEMERAL)
    receipt = next(e for e in service.got("ephemeral") if e["type"] == "m.receipt")
    assert alice.user_id in receipt["content"][event_id]["m.read"]
    assert receipt["room_id"] == room_id


EPHEMERAL = {"m.typing", "m.receipt"}


async def test_to_device_messages_come_with_their_devices(
    start: Start, service: AppServiceServer
) -> None:
    server = await start(**{"de.sorunome.msc2409.push_ephemeral": True, "org.matrix.msc3202": True})
    alice, member = await server.user("alice"), await ghost(server)
    await member.put("/devices/PHONE", {"display_name": "Bridge"})
    assert [d["device_id"] for d in (await member.get("/devices"))["devices"]] == ["PHONE"]
    messages = {member.user_id: {"PHONE": {"secret": 1}}}
    await alice.put("/sendToDevice/m.test/1", {"messages": messages})
    await service.wait_until(lambda: service.got("to_device"))
    (message,) = service.got("to_device")
    assert message == {
        "to_user_id": member.user_id,
        "to_device_id": "PHONE",
        "type": "m.test",
        "sender": alice.user_id,
        "content": {"secret": 1},
    }
    counts = next(
        body["device_one_time_keys_count"]
        for body in service.transactions.values()
        if "device_one_time_keys_count" in body
    )
    assert counts == {member.user_id: {"PHONE": {"signed_curve25519": 0}}}


async def test_who_is_told_of_a_room_learns_how_many_keys_its_devices_there_have(
    start: Start, service: AppServiceServer
) -> None:
    server = await start(**ENCRYPTION)
    alice, member, room_id = await bridged_room(server)
    elsewhere = await ghost(server, "_x_elsewhere")
    for each in (member, elsewhere):
        await each.put("/devices/PHONE", {"display_name": "Bridge"})
    await alice.send(room_id, "hello")
    await service.wait_until(lambda: service.bodies() == ["hello"])
    body = list(service.transactions.values())[-1]
    left = {"signed_curve25519": 0}  # so it uploads some
    assert body["device_one_time_keys_count"] == {member.user_id: {"PHONE": left}}
    assert body["device_unused_fallback_key_types"] == {member.user_id: {"PHONE": []}}


async def test_a_device_is_asserted(start: Start) -> None:
    server = await start()
    member = await ghost(server)
    await member.put("/devices/PHONE", {"display_name": "Bridge"})
    assert (await member.get("/account/whoami", device_id="PHONE"))["device_id"] == "PHONE"
    refused = await refusal(member.get("/account/whoami", device_id="OTHER"))
    assert (refused.status, refused.errcode) == (400, "M_UNKNOWN_DEVICE")
    await member.delete("/devices/PHONE")
    assert (await member.get("/devices"))["devices"] == []


async def test_a_ghost_replaces_its_cross_signing_keys_without_a_password(start: Start) -> None:
    server = await start()
    member = await ghost(server)
    for _ in range(2):
        signer = CrossSigner(member.user_id)
        await member.post("/keys/device_signing/upload", signer.body("master"))
    keys = await keys_of(await server.user("alice"), member.user_id)
    assert keys["master"]["keys"] == signer.key("master")["keys"]


@pytest.mark.parametrize("rate_limited", [True, False])
async def test_rate_limits_hold_unless_the_registration_says_otherwise(
    start_server: StartServer, service: AppServiceServer, tmp_path: Path, rate_limited: bool
) -> None:
    paths = [service.write(tmp_path, rate_limited=rate_limited)]
    limits = {"enabled": True, "message": {"per_second": 0.01, "burst": 2}}
    server = await start_server(application_services=paths, rate_limits=limits)
    member = await ghost(server)
    room_id = await member.create_room()
    for number in range(2):
        await member.send(room_id, str(number))
    if rate_limited:
        refused = await refusal(member.send(room_id, "one too many"))
        assert (refused.status, refused.errcode) == (429, "M_LIMIT_EXCEEDED")
    else:
        await member.send(room_id, "any number")
    # "The sender is excluded."
    bot = as_user(server)
    room_id = await bot.create_room()
    for number in range(5):
        await bot.send(room_id, str(number))


async def test_who_may_be_asserted(start: Start) -> None:
    server = await start()
    alice = await server.user("alice")
    assert (await as_user(server).get("/account/whoami"))["user_id"] == "@xbot:hs.test"
    for user_id in (alice.user_id, "@_x_unregistered:hs.test"):
        refused = await refusal(as_user(server, user_id).get("/account/whoami"))
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_its_names_are_its_own(start: Start) -> None:
    server = await start()
    refused = await refusal(server.user("_x_somebody"))
    assert (refused.status, refused.errcode) == (400, "M_EXCLUSIVE")
    alice = await server.user("alice")
    refused = await refusal(alice.create_room(room_alias_name="_x_room"))
    assert refused.errcode == "M_EXCLUSIVE"
    body = {"type": "m.login.application_service", "username": "carol"}
    assert (await refusal(as_user(server).post("/register", body))).errcode == "M_EXCLUSIVE"
    assert (await refusal(alice.post("/register", {**body, "username": "_x_b"}))).status == 401


async def test_a_ghost_logs_in(start: Start) -> None:
    server = await start()
    member = await ghost(server)
    login = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": member.user_id},
    }
    answer = await as_user(server).post("/login", login)
    client = server.anonymous()
    client.token = answer["access_token"]
    assert (await client.get("/account/whoami"))["user_id"] == member.user_id
    refused = await refusal(server.anonymous().post("/login", login))
    assert (refused.status, refused.errcode) == (401, "M_MISSING_TOKEN")
    refused = await refusal(client.post("/login", login))
    assert (refused.status, refused.errcode) == (401, "M_UNKNOWN_TOKEN")


async def test_who_makes_devices_itself_does_not_log_in(start: Start) -> None:
    server = await start(**OWN_DEVICES)
    member = await ghost(server)
    login = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": member.user_id},
    }
    refused = await refusal(as_user(server).post("/login", login))
    assert refused.errcode == "M_APPSERVICE_LOGIN_UNSUPPORTED"


async def test_events_may_have_an_old_time(start: Start) -> None:
    server = await start()
    alice, member, room_id = await bridged_room(server)
    path = f"/rooms/{quote(room_id)}/send/m.room.message/t1"
    await member.put(path, {"msgtype": "m.text", "body": "old"}, ts="1000")
    event = await alice.sync_until(
        lambda a: next(
            (
                e
                for e in a["rooms"]["join"][room_id]["timeline"]["events"]
                if e["sender"] == member.user_id and e["type"] == "m.room.message"
            ),
            None,
        )
    )
    assert event["origin_server_ts"] == 1000


async def test_unknown_users_and_aliases_are_asked_for(
    start: Start, service: AppServiceServer
) -> None:
    server = await start()
    alice, member, room_id = await bridged_room(server)
    service.known = {"@_x_late:hs.test", "#_x_late:hs.test"}

    async def make(asked: str) -> None:
        if asked.startswith("@"):
            await ghost(server, "_x_late")
        else:
            await member.put(f"/directory/room/{quote(asked)}", {"room_id": room_id})

    service.on_query = make
    await alice.get("/profile/@_x_late:hs.test")
    assert (await alice.get(f"/directory/room/{quote('#_x_late:hs.test')}"))["room_id"] == room_id
    assert (await refusal(alice.get("/profile/@_x_never:hs.test"))).status == 404
    assert service.queries == ["@_x_late:hs.test", "#_x_late:hs.test", "@_x_never:hs.test"]
    await service.stop()
    assert (await refusal(alice.get("/profile/@_x_never:hs.test"))).status == 408


async def test_third_party_networks(start: Start, service: AppServiceServer) -> None:
    server = await start(protocols=["irc"])
    alice = await server.user("alice")
    instance = {"network_id": "libera", "desc": "Libera", "fields": {}}
    location = {"alias": "#_x_a:hs.test", "protocol": "irc", "fields": {}}
    protocol = {
        "user_fields": ["nick"],
        "location_fields": ["channel"],
        "icon": "mxc://hs.test/irc",
        "field_types": {},
        "instances": [instance],
    }
    service.third_party = {
        "protocol/irc": protocol,
        "user/irc?nick=bob": [{"userid": "@_x_bob:hs.test", "protocol": "irc", "fields": {}}],
        "location?alias=#_x_a:hs.test": [location],
    }
    protocols = await alice.get("/thirdparty/protocols")
    assert protocols["irc"]["instances"] == [{**instance, "instance_id": "x|libera"}]
    assert (await alice.get("/thirdparty/user/irc", nick="bob"))[0]["userid"] == "@_x_bob:hs.test"
    assert await alice.get("/thirdparty/location", alias="#_x_a:hs.test")
    assert (await refusal(alice.get("/thirdparty/protocol/xmpp"))).status == 404


async def test_a_ping_comes_through(start: Start, service: AppServiceServer) -> None:
    server = await start()
    path = "/_matrix/client/v1/appservice/x/ping"
    answer = await as_user(server).post(path, {"transaction_id": "t"})
    assert answer["duration_ms"] >= 0
    assert service.pings == [{"transaction_id": "t"}]
    service.status = 500
    refused = await refusal(as_user(server).post(path))
    assert (refused.status, refused.errcode) == (502, "M_BAD_STATUS")
    await service.stop()
    assert (await refusal(as_user(server).post(path))).errcode == "M_CONNECTION_FAILED"
    assert (await refusal((await server.user("alice")).post(path))).status == 403


async def test_registrations_are_read_again(
    start: Start, service: AppServiceServer, tmp_path: Path
) -> None:
    server = await start()
    assert server.app is not None
    (tmp_path / "registration.yaml").write_text("id: [")
    assert not server.app.reload()
    assert (await as_user(server).get("/account/whoami"))["user_id"] == "@xbot:hs.test"
    service.write(tmp_path, as_token="another")
    assert server.app.reload()
    assert (await refusal(as_user(server).get("/account/whoami"))).status == 401


async def test_rooms_of_a_network_have_a_list_of_their_own(start: Start) -> None:
    server = await start(protocols=["irc"])
    alice, member, room_id = await bridged_room(server)
    path = f"/directory/list/appservice/libera/{quote(room_id)}"
    await member.put(path, {"visibility": "public"})

    async def listed(**asked: Any) -> list[str]:
        return [room["room_id"] for room in (await alice.post("/publicRooms", asked))["chunk"]]

    assert await listed() == []
    assert await listed(third_party_instance_id="x|libera") == [room_id]
    assert await listed(third_party_instance_id="x|other") == []
    assert await listed(include_all_networks=True) == [room_id]
    await member.put(path, {"visibility": "private"})
    assert await listed(include_all_networks=True) == []
    await member.put(path, {"visibility": "public"})
    assert await listed(include_all_networks="true") == [room_id]
    assert await listed(include_all_networks="false") == []
    await member.delete(path)
    assert await listed(include_all_networks=True) == []
    assert (await refusal(alice.put(path, {"visibility": "public"}))).status == 403
    assert (await refusal(alice.delete(path))).status == 403
