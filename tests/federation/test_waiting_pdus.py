"""What is acknowledged before it is dealt with survives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from homeserver.store.embedded import EmbeddedPostgres
from homeserver.stream import incoming
from tests.federation.conftest import StartPeer
from tests.federation.test_gaps import serve, unsent
from tests.federation.test_receiving import is_shown, joined_room
from tests.support.certificates import Authority
from tests.support.client import until
from tests.support.peer import Peer
from tests.support.server import RunningServer, settings


async def waiting(server: RunningServer) -> int:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        return len(await connection.fetch("SELECT event_id FROM received_pdus"))


async def test_a_slow_gap_does_not_hold_up_the_answer(
    server: RunningServer, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "PATIENCE_SECONDS", 0.2)
    alice, room = await joined_room(server, peer)
    unsent(room, 1)
    release = asyncio.Event()

    async def slow(_: object) -> object:
        await release.wait()
        raise ConnectionError

    peer.answer("POST", "/_matrix/federation/v1/get_missing_events", slow)  # type: ignore[arg-type]
    event = room.message("waits for the past")
    room.add(event)
    assert await room.send(event) == {event.event_id: {}}
    assert await waiting(server) == 1
    assert not await is_shown(alice, room, event.event_id)
    await server.stop()
    release.set()
    serve(peer, room)
    await server.start()
    server.moved(alice)
    for _ in range(150):
        if await is_shown(alice, room, event.event_id) and not await waiting(server):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it was never dealt with")


@pytest.fixture
async def postgres(own_directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server that is stopped under the homeserver's hands."""
    server = EmbeddedPostgres(own_directory / "pg")
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def on_its_own(
    postgres: EmbeddedPostgres, own_directory: Path, authority: Authority
) -> AsyncIterator[RunningServer]:
    values = settings(postgres.url, outgoing={"ca_file": str(authority.ca_file)})
    running = RunningServer(values, own_directory)
    await running.start()
    yield running
    await running.stop()


async def test_while_postgres_is_away_a_transaction_is_to_be_sent_again(
    postgres: EmbeddedPostgres, on_its_own: RunningServer, start_peer: StartPeer
) -> None:
    alice, room = await joined_room(on_its_own, await start_peer(on_its_own))
    await room.say("all is in memory")
    event = room.message("meanwhile")
    room.add(event)
    await asyncio.to_thread(postgres.stop)
    status, answer = await room.try_send(event)
    assert status == 503, answer
    await asyncio.to_thread(postgres.start)

    async def is_taken() -> bool:
        return (await room.try_send(event))[0] == 200

    await until(is_taken)
    assert await is_shown(alice, room, event.event_id)


async def test_what_was_acknowledged_waits_for_postgres(
    postgres: EmbeddedPostgres,
    on_its_own: RunningServer,
    start_peer: StartPeer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incoming, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(incoming, "AGAIN_SECONDS", 0.1)
    peer = await start_peer(on_its_own)
    alice, room = await joined_room(on_its_own, peer)
    [unseen] = unsent(room, 1)
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.json_response({"events": [unseen.pdu]})

    peer.answer("POST", "/_matrix/federation/v1/get_missing_events", slow)
    event = room.message("waits for the past")
    room.add(event)
    assert await room.send(event) == {event.event_id: {}}
    await asyncio.to_thread(postgres.stop)
    release.set()
    await asyncio.sleep(0.3)  # it fails a few times
    await asyncio.to_thread(postgres.start)
    await until(partial(is_shown, alice, room, event.event_id))
