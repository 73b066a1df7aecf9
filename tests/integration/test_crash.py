"""`kill -9` in a load of sends: nothing acknowledged is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.support.client import Client, Refused, bodies, timeline
from tests.support.process import ServerProcess
from tests.support.server import settings

ROOMS = 6
SENDERS_PER_ROOM = 2
ACKNOWLEDGED_BEFORE_THE_CRASH = 240  # few enough for one sync to show a whole room
ALL = json.dumps({"room": {"timeline": {"limit": 100}}})


@pytest.fixture
async def process(own_directory: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(settings("embedded"), own_directory)
    await server.start()
    yield server
    await server.close()


@dataclass
class Load:
    """Senders that each send one message after another, until the server dies."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """body -> event id, in the order of the answers"""
    unanswered: list[tuple[str, str]] = field(default_factory=list)
    """(room id, body) of what was sent last by each sender; the body is the transaction id too"""
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, client: Client, room_id: str, name: str) -> None:
        for number in range(100_000):
            body = f"{name}.{number}"
            try:
                self.acknowledged[body] = await client.send(room_id, body, txn_id=body)
            except (aiohttp.ClientError, OSError):
                self.unanswered.append((room_id, body))
                return
            if len(self.acknowledged) >= ACKNOWLEDGED_BEFORE_THE_CRASH:
                self.enough.set()


async def watch(client: Client, seen: dict[str, list[str]]) -> None:
    """Syncs until the server dies; the event ids of each room, in the order of arrival."""
    while True:
        try:
            note(await client.sync(timeout_ms=5000, filter=ALL), seen)
        except (aiohttp.ClientError, OSError):
            return


def note(answer: dict[str, object], seen: dict[str, list[str]]) -> None:
    for room_id, events in seen.items():
        new = timeline(answer, room_id)
        if new:
            room = answer["rooms"]["join"][room_id]  # type: ignore[index]
            assert not room["timeline"]["limited"]
        events.extend(event["event_id"] for event in new)


async def crash_during_load(
    process: ServerProcess, *, postgres_too: bool, own_directory: Path
) -> tuple[Load, Client, Client, dict[str, list[str]], dict[str, list[str]]]:
    """Alice sends, bob watches; the server is killed.

    Gives the load, alice, bob, what bob's syncs showed, and what is in the rooms afterwards, as a
    sync from before the load shows it after the restart.
    """
    alice = await process.client().register("alice")
    bob = await process.client().register("bob")
    room_ids = [await alice.create_room(preset="public_chat") for _ in range(ROOMS)]
    for room_id in room_ids:
        await bob.join(room_id)
    await bob.sync()
    before_the_load = bob.next_batch
    load, seen = Load(), {room_id: list[str]() for room_id in room_ids}
    tasks = [asyncio.create_task(watch(bob, seen))]
    for room_id in room_ids:
        for sender in range(SENDERS_PER_ROOM):
            name = f"{room_ids.index(room_id)}-{sender}"
            tasks.append(asyncio.create_task(load.send(alice, room_id, name)))
    async with asyncio.timeout(60):
        await load.enough.wait()
        process.kill()
        if postgres_too:
            kill_postgres(own_directory / "data" / "postgres")
        await asyncio.gather(*tasks)
        await process.start()
    stored = {room_id: list[str]() for room_id in room_ids}
    process.moved(alice), process.moved(bob)
    note(await bob.sync(since=str(before_the_load), filter=ALL), stored)
    return load, alice, bob, seen, stored


def kill_postgres(directory: Path) -> None:
    pid = int((directory / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("postgres_too", [False, True])
async def test_every_acknowledged_event_is_there_once_and_in_order(
    process: ServerProcess, postgres_too: bool, own_directory: Path
) -> None:
    load, _, _, _, stored = await crash_during_load(
        process, postgres_too=postgres_too, own_directory=own_directory
    )
    everything = [event_id for events in stored.values() for event_id in events]
    assert len(everything) == len(set(everything))
    assert set(load.acknowledged.values()) <= set(everything)
    # No more than what was in the air when the server died came in beside.
    assert len(everything) <= len(load.acknowledged) + len(load.unanswered)
    place = {event_id: index for index, event_id in enumerate(everything)}
    for room in range(ROOMS):
        for sender in range(SENDERS_PER_ROOM):
            sent = [e for b, e in load.acknowledged.items() if b.startswith(f"{room}-{sender}.")]
            assert sent == sorted(sent, key=place.__getitem__)


async def test_sync_tokens_from_before_the_crash_go_on_without_gap_or_repeat(
    process: ServerProcess, own_directory: Path
) -> None:
    _, alice, bob, seen, stored = await crash_during_load(
        process, postgres_too=False, own_directory=own_directory
    )
    assert any(seen.values())
    for room_id, events in seen.items():
        assert events == stored[room_id][: len(events)]
    # `stored` was read with a token from before the load; go on from bob's last one before the end.
    after = {room_id: await alice.send(room_id, "after the crash") for room_id in seen}
    rest = {room_id: list[str]() for room_id in seen}
    note(await bob.sync(filter=ALL), rest)
    assert rest == {room_id: [event_id] for room_id, event_id in after.items()}


async def test_what_was_in_the_air_can_be_sent_again_and_is_there_once(
    process: ServerProcess, own_directory: Path
) -> None:
    load, alice, bob, _, _ = await crash_during_load(
        process, postgres_too=False, own_directory=own_directory
    )
    again = [await alice.send(room, body, txn_id=body) for room, body in load.unanswered]
    assert len(set(again)) == len(again)
    bob.next_batch = None
    answer = await bob.sync(filter=ALL)
    for room_id, body in load.unanswered:
        assert bodies(timeline(answer, room_id)).count(body) == 1


async def test_an_acknowledged_send_is_not_sent_twice_by_a_retry_after_the_crash(
    process: ServerProcess, own_directory: Path
) -> None:
    load, alice, _, _, stored = await crash_during_load(
        process, postgres_too=False, own_directory=own_directory
    )
    room_of = {event_id: room_id for room_id, events in stored.items() for event_id in events}
    body, event_id = next(reversed(load.acknowledged.items()))
    assert await alice.send(room_of[event_id], body, txn_id=body) == event_id


async def test_a_token_from_before_the_crash_is_still_a_login(process: ServerProcess) -> None:
    alice = await process.client().register("alice")
    process.kill()
    await process.start()
    assert (await process.moved(alice).get("/account/whoami"))["user_id"] == alice.user_id
    with pytest.raises(Refused):
        await process.client().get("/account/whoami")
