"""matrix-nio with encryption, for tests; those that import this need it installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client

nio: Any = pytest.importorskip("nio")


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


def texts_of(client: Any) -> asyncio.Queue[tuple[str, bool]]:
    """What the client reads: a text, and whether it came encrypted."""
    texts: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

    def heard(_: Any, event: Any) -> None:
        texts.put_nowait((event.body, event.decrypted))

    client.add_event_callback(heard, nio.RoomMessageText)
    return texts


async def say(client: Any, room_id: str, text: str) -> str:
    """Sends a text, encrypted if the room is; the event's id."""
    content = {"msgtype": "m.text", "body": text}
    sent = await client.room_send(
        room_id, "m.room.message", content, ignore_unverified_devices=True
    )
    return str(sent.event_id)
