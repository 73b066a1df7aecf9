"""What is acknowledged before it is dealt with survives."""

from __future__ import annotations

import asyncio

import pytest

from homeserver.stream import incoming
from tests.federation.test_gaps import serve, unsent
from tests.federation.test_receiving import is_shown, joined_room
from tests.support.peer import Peer
from tests.support.server import RunningServer


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
