"""matrix-nio and matrix-js-sdk read what the other encrypts: two implementations of everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.js_client import JsClients
from tests.support.server import RunningServer

nio: Any = pytest.importorskip("nio")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("node"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@asynccontextmanager
async def nio_client(account: Client, store: Path) -> AsyncIterator[Any]:
    """A matrix-nio client, logged in as `account` and syncing."""
    store.mkdir()
    config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=False)
    client = nio.AsyncClient(account.url, account.user_id, store_path=str(store), config=config)
    client.restore_login(account.user_id, account.device_id, account.token)
    syncing = asyncio.create_task(client.sync_forever(timeout=1000, full_state=True))
    try:
        yield client
    finally:
        syncing.cancel()
        with suppress(asyncio.CancelledError):
            await syncing
        await client.close()


async def until_ready(client: Any, room_id: str, other: str) -> None:
    """Waits until the client has published its keys, and knows of the other's in the room."""
    for _ in range(150):
        room = client.rooms.get(room_id)
        is_there = room is not None and room.encrypted and other in room.users
        if is_there and client.olm_account_shared and client.device_store[other]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"nio never knew of the devices of {other}")


async def test_nio_and_js_read_each_other(
    server: RunningServer, js: JsClients, tmp_path: Path
) -> None:
    alice = await js.add("alice", await server.user("alice"))
    bob = await server.user("bob")
    room_id = await alice.create_encrypted_room(bob.user_id)
    async with nio_client(bob, tmp_path / "nio") as client:
        texts: asyncio.Queue[str] = asyncio.Queue()
        client.add_event_callback(
            lambda _, event: texts.put_nowait(event.body), nio.RoomMessageText
        )
        await client.join(room_id)
        await until_ready(client, room_id, alice.user_id)

        await alice.send(room_id, "from js", bob.user_id)
        async with asyncio.timeout(20):
            assert await texts.get() == "from js"

        content = {"msgtype": "m.text", "body": "from nio"}
        sent = await client.room_send(
            room_id, "m.room.message", content, ignore_unverified_devices=True
        )
        assert await alice.read(room_id, sent.event_id) == "from nio"
