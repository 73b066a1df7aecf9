"""What application services are sent besides events: over outages of either side, and crashes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homeserver import background
from homeserver.backoff import Backoff
from homeserver.protocol.app_services import AppService
from homeserver.services.app_services import feed
from homeserver.services.app_services.device_lists import DeviceListsOfServices
from homeserver.services.app_services.transaction import Batch
from tests.conftest import StartServer
from tests.support.app_service import AS_TOKEN, AppServiceServer, Ghost, ghost
from tests.support.client import DEADLINE, Client
from tests.support.encryption import Device
from tests.support.process import ServerProcess
from tests.support.server import RunningServer, settings

EVERYTHING: dict[str, Any] = {
    "receive_ephemeral": True,
    "org.matrix.msc3202": True,
    "io.element.msc4190": True,
}
ENCRYPTED = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}
Start = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
async def server(
    start_server: StartServer, service: AppServiceServer, tmp_path: Path
) -> RunningServer:
    return await start_server(application_services=[service.write(tmp_path, **EVERYTHING)])


async def encrypted_room(server: RunningServer) -> tuple[Client, Client, str]:
    """Alice and a ghost in an encrypted room."""
    alice, member = await server.user("alice"), await ghost(server)
    room_id = await alice.create_room(preset="public_chat", initial_state=[ENCRYPTED])
    await member.join(room_id)
    return alice, member, room_id


async def read(client: Client, room_id: str, event_id: str, kind: str = "m.read") -> None:
    await client.post(f"/rooms/{quote(room_id)}/receipt/{kind}/{quote(event_id)}")


async def typing(client: Client, room_id: str, is_typing: bool) -> None:
    body = {"typing": is_typing, "timeout": 60_000}
    await client.put(f"/rooms/{quote(room_id)}/typing/{client.user_id}", body)


async def new_device_keys(client: Client) -> None:
    """Changes the client's device list."""
    device = Device(client)
    await device.upload(device_keys=device.keys())


def receipts(service: AppServiceServer) -> list[str]:
    """The event ids that receipts were told for."""
    told = [e for e in service.got("ephemeral") if e["type"] == "m.receipt"]
    return [event_id for event in told for event_id in event["content"]]


def lists(service: AppServiceServer, what: str) -> list[str]:
    """All user ids of `device_lists.changed` (or `left`), in order."""
    told = [
        body["device_lists"] for body in service.transactions.values() if "device_lists" in body
    ]
    return [user_id for each in told for user_id in each[what]]


async def test_receipts_come_once_over_outages(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, member, room_id = await encrypted_room(server)
    ids = [await member.send(room_id, str(number)) for number in range(4)]
    await read(alice, room_id, ids[0])
    await service.wait_until(lambda: receipts(service) == ids[:1])
    await service.stop()
    await read(alice, room_id, ids[1])
    await server.restart()
    await read(server.moved(alice), room_id, ids[2])
    await service.start()
    await service.wait_until(lambda: ids[2] in receipts(service))
    await server.restart()
    await read(server.moved(alice), room_id, ids[3])
    await service.wait_until(lambda: ids[3] in receipts(service))
    # Of one user's receipts in a room only the newest is kept: it says the others.
    assert receipts(service) in (ids, [ids[0], *ids[2:]])


async def test_private_receipts_are_told_of_its_own_users_only(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, member, room_id = await encrypted_room(server)
    first, second = await alice.send(room_id, "1"), await member.send(room_id, "2")
    await service.stop()
    await read(alice, room_id, second, "m.read.private")
    await read(member, room_id, first, "m.read.private")
    await server.restart()
    await service.start()
    await service.wait_until(lambda: receipts(service))
    assert receipts(service) == [first]


async def test_who_types_is_told_when_it_is_back(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, _, room_id = await encrypted_room(server)
    await service.stop()
    await typing(alice, room_id, True)
    await typing(alice, room_id, False)
    await typing(alice, room_id, True)
    await service.start()
    last = await alice.send(room_id, "there")
    await service.wait_until(lambda: last in [e["event_id"] for e in service.got()])
    # What was under way when it went away is repeated as it was; that she stopped is over.
    assert _typing(service) in ([[alice.user_id]], [[alice.user_id]] * 2)


def _typing(service: AppServiceServer) -> list[list[str]]:
    told = [e for e in service.got("ephemeral") if e["type"] == "m.typing"]
    return [event["content"]["user_ids"] for event in told]


async def test_changed_devices_are_told_after_an_outage(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, _, _ = await encrypted_room(server)
    stranger = await server.user("stranger")
    await service.wait_until(lambda: lists(service, "changed") == [alice.user_id])
    await service.stop()
    await new_device_keys(alice)
    await new_device_keys(stranger)
    await server.restart()
    await service.start()
    await service.wait_until(lambda: len(lists(service, "changed")) > 1)
    assert lists(service, "changed") == [alice.user_id] * 2


async def test_who_comes_and_goes_is_told(server: RunningServer, service: AppServiceServer) -> None:
    alice, member, room_id = await encrypted_room(server)
    bob = await server.user("bob")
    await bob.join(room_id)
    await service.wait_until(lambda: lists(service, "changed") == [alice.user_id, bob.user_id])
    await bob.leave(room_id)
    await service.wait_until(lambda: lists(service, "left") == [bob.user_id])
    await member.leave(room_id)
    await service.wait_until(lambda: lists(service, "left") == [bob.user_id, alice.user_id])
    assert lists(service, "changed") == [alice.user_id, bob.user_id]


async def test_who_shares_another_room_has_not_left(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, member, room_id = await encrypted_room(server)
    other = await alice.create_room(preset="public_chat", initial_state=[ENCRYPTED])
    await member.join(other)
    await alice.leave(room_id)
    await service.wait_until(
        lambda: any(event["content"].get("membership") == "leave" for event in service.got())
    )
    await alice.leave(other)
    await service.wait_until(lambda: lists(service, "left"))
    assert lists(service, "left") == [alice.user_id]


async def test_a_second_ghost_changes_nothing_for_the_others(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, _, room_id = await encrypted_room(server)
    second = await ghost(server, "_x_second")
    await second.join(room_id)
    await second.leave(room_id)
    last = await alice.send(room_id, "last")
    await service.wait_until(lambda: last in [e["event_id"] for e in service.got()])
    assert lists(service, "changed") == [alice.user_id]
    assert lists(service, "left") == []


async def test_a_fault_of_ours_loses_nothing(
    server: RunningServer, service: AppServiceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, room_id = await encrypted_room(server)
    await service.wait_until(lambda: lists(service, "changed"))
    monkeypatch.setattr(background, "BACKOFF", Backoff(0.05, 1.0))
    complete, faults = DeviceListsOfServices.complete, iter([KeyError("a"), OSError("b")])

    async def complete_at_third(
        self: DeviceListsOfServices, service: AppService, batch: Batch
    ) -> None:
        if fault := next(faults, None):
            raise fault
        await complete(self, service, batch)

    monkeypatch.setattr(DeviceListsOfServices, "complete", complete_at_third)
    event_id = await alice.send(room_id, "1")
    await read(alice, room_id, event_id)
    await service.wait_until(lambda: service.bodies() == ["1"])
    await service.wait_until(lambda: receipts(service) == [event_id])


async def test_a_message_to_many_devices_is_not_torn_apart(
    server: RunningServer, service: AppServiceServer
) -> None:
    alice, member = await server.user("alice"), await ghost(server)
    devices = [f"D{number}" for number in range(130)]
    for device_id in devices:
        await member.put(f"/devices/{device_id}", {})
    await service.stop()
    messages = {member.user_id: {device_id: {"n": 1} for device_id in devices}}
    await alice.put("/sendToDevice/m.test/1", {"messages": messages})
    await server.restart()
    await service.start()
    await service.wait_until(lambda: len(service.got("to_device")) >= len(devices))
    assert {m["to_device_id"] for m in service.got("to_device")} == set(devices)
    assert len(service.got("to_device")) == len(devices)


@pytest.mark.parametrize("seed", range(int(os.environ.get("BRIDGE_DAYS", "1"))))
async def test_everything_comes_once_whatever_happens(
    server: RunningServer,
    service: AppServiceServer,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(feed, "BACKOFF_SECONDS", Backoff(0.05, 0.2))
    chance = random.Random(seed)
    alice, member, room_id = await encrypted_room(server)
    await member.put("/devices/PHONE", {})
    sent: dict[str, list[str]] = {"events": [], "to_device": [], "receipts": []}
    for number in range(40):
        what = chance.choice(["event"] * 4 + ["message", "message", "receipt", "away", "restart"])
        if what == "event" or not sent["events"]:
            sent["events"].append(await alice.send(room_id, str(number)))
        elif what == "message":
            messages = {member.user_id: {"PHONE": {"n": str(number)}}}
            await alice.put(f"/sendToDevice/m.test/{number}", {"messages": messages})
            sent["to_device"].append(str(number))
        elif what == "receipt" and sent["events"][-1] not in sent["receipts"]:
            await read(alice, room_id, sent["events"][-1])
            sent["receipts"].append(sent["events"][-1])
        elif what == "away":
            service.status, service.loses_answers = chance.choice([200, 500]), chance.random() < 0.5
        elif what == "restart":
            await server.restart()
            for client in (alice, member):
                server.moved(client)
    service.status = 200
    sent["events"].append(await alice.send(room_id, "the end"))

    def told() -> dict[str, list[str]]:
        texts = [e["event_id"] for e in service.got() if e["type"] == "m.room.message"]
        messages = [m["content"]["n"] for m in service.got("to_device")]
        return {"events": texts, "to_device": messages, "receipts": receipts(service)}

    last = {"events": sent["events"][-1:], "receipts": sent["receipts"][-1:]}
    await service.wait_until(lambda: all(e in told()[kind] for kind in last for e in last[kind]))
    await service.wait_until(lambda: len(told()["to_device"]) >= len(sent["to_device"]))
    assert told()["events"] == sent["events"]
    assert told()["to_device"] == sent["to_device"]
    # Of one user's receipts only the newest is kept while the service is away: the order holds.
    assert [e for e in sent["receipts"] if e in told()["receipts"]] == told()["receipts"]


class Crashing:
    """A server process that is killed, and a service that may be away meanwhile."""

    def __init__(self, process: ServerProcess, service: AppServiceServer) -> None:
        self.process = process
        self.service = service

    def ghost(self) -> Ghost:
        client = self.process.client()
        member = Ghost(client.http, client.url)
        member.token = AS_TOKEN
        return member


@pytest.fixture
async def crashing(
    database_url: str, service: AppServiceServer, tmp_path: Path
) -> AsyncIterator[Crashing]:
    path = service.write(tmp_path, **EVERYTHING)
    process = ServerProcess(settings(database_url, application_services=[path]), tmp_path)
    await process.start()
    yield Crashing(process, service)
    await process.close()


async def test_a_crash_loses_and_doubles_nothing(crashing: Crashing) -> None:
    process, service = crashing.process, crashing.service
    alice = await process.client().register("alice")
    member = crashing.ghost()
    body = {"type": "m.login.application_service", "username": "_x_ghost", "inhibit_login": True}
    await member.post("/register", body)
    member.user_id = "@_x_ghost:hs.test"
    await member.put("/devices/PHONE", {})
    room_id = await alice.create_room(preset="public_chat", initial_state=[ENCRYPTED])
    await member.join(room_id)
    await alice.send(room_id, "before")
    await service.wait_until(lambda: service.bodies() == ["before"])
    # The first devices may have been looked at before both were there, or then.
    known = lists(service, "changed")
    assert alice.user_id in known
    service.status = 500
    asked = len(service.asked)
    event_id = await alice.send(room_id, "first")
    await service.wait_until(lambda: len(service.asked) > asked)  # this one is under way
    await read(alice, room_id, event_id)
    await new_device_keys(alice)
    messages = {member.user_id: {"PHONE": {"secret": 1}}}
    await alice.put("/sendToDevice/m.test/1", {"messages": messages})
    await alice.send(room_id, "second")
    process.kill()
    service.status = 200
    await process.start()
    process.moved(alice)
    await alice.send(room_id, "third")
    await service.wait_until(lambda: service.bodies()[1:] == ["first", "second", "third"])
    assert receipts(service) == [event_id]
    assert lists(service, "changed") == [*known, alice.user_id]
    assert [m["content"] for m in service.got("to_device")] == [{"secret": 1}]


async def test_registrations_are_read_again_at_a_sighup(crashing: Crashing, tmp_path: Path) -> None:
    process, service = crashing.process, crashing.service
    bot = crashing.ghost()
    assert (await bot.get("/account/whoami"))["user_id"] == "@xbot:hs.test"
    alice = await process.client().register("alice")
    room_id = await alice.create_room()
    users = [{"exclusive": False, "regex": "@alice:hs\\.test"}]
    service.write(tmp_path, as_token="another", namespaces={"users": users})
    os.kill(process.pid, signal.SIGHUP)
    bot.token = "another"
    async with asyncio.timeout(DEADLINE):
        while process.events("application services") == []:  # noqa: ASYNC110 - of its log
            await asyncio.sleep(0.02)
    assert (await bot.get("/account/whoami"))["user_id"] == "@xbot:hs.test"
    event_id = await alice.send(room_id, "hello")
    await service.wait_until(lambda: event_id in [e["event_id"] for e in service.got()])
