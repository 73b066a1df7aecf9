"""mautrix-python, on which the bridges that people run are built, with one of its ghosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import StartServer
from tests.support.client import DEADLINE, bodies, timeline
from tests.support.ports import free_port
from tests.support.server import RunningServer

pytest.importorskip("mautrix")
from mautrix.appservice import AppService
from mautrix.types import (
    EventType,
    MessageEvent,
    PaginationDirection,
    RoomID,
    UserID,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mautrix's own
GHOST = UserID("@_bridge_ghost:hs.test")


def registration(port: int) -> dict[str, Any]:
    return {
        "id": "bridge",
        "url": f"http://127.0.0.1:{port}",
        "as_token": "as",
        "hs_token": "hs",
        "sender_localpart": "bridgebot",
        "rate_limited": False,
        "de.sorunome.msc2409.push_ephemeral": True,
        "namespaces": {"users": [{"exclusive": True, "regex": "@_bridge_.*:hs\\.test"}]},
    }


@pytest.fixture
async def server(start_server: StartServer, tmp_path: Path) -> RunningServer:
    path = tmp_path / "bridge.yaml"
    path.write_text(yaml.safe_dump(registration(free_port())))
    return await start_server(application_services=[str(path)])


@pytest.fixture
async def bridge(server: RunningServer) -> AsyncIterator[AppService]:
    written = yaml.safe_load(server.config.application_services[0].read_text())
    running = AppService(
        server=server.url,
        domain="hs.test",
        as_token="as",
        hs_token="hs",
        bot_localpart="bridgebot",
        id="bridge",
        ephemeral_events=True,
    )
    await running.start("127.0.0.1", int(written["url"].rpartition(":")[2]))
    yield running
    await running.stop()


async def test_a_ghost_joins_sends_and_receives(server: RunningServer, bridge: AppService) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    @bridge.matrix_event_handler
    async def hear(event: Any) -> None:
        if isinstance(event, MessageEvent) and event.sender != GHOST:
            await heard.put(event.content.body)

    alice = await server.user("alice")
    room_id = await alice.create_room(invite=[str(GHOST)])
    await bridge.ping_self()
    ghost = bridge.intent.user(GHOST)
    await ghost.ensure_joined(RoomID(room_id))
    await ghost.set_displayname("Ghost")
    event_id = await ghost.send_text(RoomID(room_id), "boo")
    await alice.sync_until(lambda answer: "boo" in bodies(timeline(answer, room_id)) or None)
    assert (await alice.get(f"/profile/{GHOST}"))["displayname"] == "Ghost"

    await alice.send(room_id, "who is there?")
    async with asyncio.timeout(DEADLINE):
        assert await heard.get() == "who is there?"
    assert event_id in [e.event_id for e in await _messages(ghost, room_id)]


async def _messages(ghost: Any, room_id: str) -> list[Any]:
    found = await ghost.get_messages(
        RoomID(room_id), direction=PaginationDirection.BACKWARD, limit=10
    )
    return [event for event in found.events if event.type == EventType.ROOM_MESSAGE]
