"""The Rust SDK, driven as Element X does: sync service, room list, timelines, encryption."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import DEADLINE, PASSWORD
from tests.support.server import RunningServer

pytest.importorskip("matrix_sdk_python")  # its wheels need glibc 2.38
import matrix_sdk_python as sdk


class States(sdk.SyncServiceStateObserver):  # type: ignore[misc]  # untyped
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_update(self, state: Any) -> None:
        self.seen.append(state.name)


class Entries(sdk.RoomListEntriesListener):  # type: ignore[misc]  # untyped
    def on_update(self, room_entries_update: Any) -> None:
        """The rooms are asked of the client."""


class Items(sdk.TimelineListener):  # type: ignore[misc]  # untyped
    """What came into a timeline, in whatever place."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def on_update(self, diff: Any) -> None:
        for each in diff:
            self.items += getattr(each, "values", None) or [getattr(each, "value", None)]

    def bodies(self) -> list[str]:
        events = [item.as_event() for item in self.items if item is not None]
        found = []
        for event in events:
            kind = getattr(getattr(event and event.content, "content", None), "kind", None)
            body = getattr(getattr(kind, "content", None), "body", None)
            if body is not None and event.is_remote:
                found.append(body)
        return found


class Person:
    """Somebody with Element X."""

    def __init__(self, client: Any, service: Any) -> None:
        self.client = client
        self.service = service
        self.states = States()
        self.kept: list[Any] = [service.state(self.states)]  # what is let go is no longer called

    async def open(self, room_id: str) -> tuple[Any, Items]:
        """Look into a room: this breaks off the long poll of the room list."""
        await self.service.room_list_service().subscribe_to_rooms([room_id])
        timeline = await self.client.get_room(room_id).timeline()
        items = Items()
        self.kept.append(await timeline.add_listener(items))
        return timeline, items


async def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(server: RunningServer, name: str, directory: Path) -> AsyncIterator[Person]:
    await server.user(name)
    builder = sdk.ClientBuilder().homeserver_url(server.url).auto_enable_cross_signing(True)
    stores = sdk.SqliteStoreBuilder(str(directory / name), str(directory / name))
    (directory / name).mkdir()
    discovered = sdk.SlidingSyncVersionBuilder.DISCOVER_NATIVE
    client = await builder.sqlite_store(stores).sliding_sync_version_builder(discovered).build()
    await client.login(name, PASSWORD, "Element X", None)
    service = await client.sync_service().finish()
    person = Person(client, service)
    rooms = await service.room_list_service().all_rooms()
    shown = rooms.entries_with_dynamic_adapters(100, Entries())
    shown.controller().set_filter(sdk.RoomListEntriesDynamicFilterKind.NON_LEFT())
    person.kept += [rooms, shown, shown.entries_stream()]
    await service.start()
    await client.encryption().wait_for_e2ee_initialization_tasks()
    try:
        yield person
    finally:
        await service.stop()


def text(body: str) -> Any:
    return sdk.message_event_content_from_markdown(body)


async def test_two_with_element_x_talk_while_they_open_rooms(
    server: RunningServer, tmp_path: Path
) -> None:
    sdk.uniffi_set_event_loop(asyncio.get_running_loop())  # where its threads call back
    async with running(server, "ann", tmp_path) as ann, running(server, "ben", tmp_path) as ben:
        room_id = await ann.client.create_room(
            sdk.CreateRoomParameters(
                name="Lounge",
                is_encrypted=True,
                visibility=sdk.RoomVisibility.PRIVATE(),
                preset=sdk.RoomPreset.PRIVATE_CHAT,
                invite=["@ben:hs.test"],
            )
        )
        await ann.client.await_room_remote_echo(room_id)
        await until(lambda: ben.client.get_room(room_id))
        await ben.client.get_room(room_id).join()
        await until(lambda: ann.client.get_room(room_id).joined_members_count() == 2)
        for number in range(3):
            # Each look into the room breaks a long poll off, and news come right after.
            (from_ann, at_ann), (from_ben, at_ben) = (
                await ann.open(room_id),
                await ben.open(room_id),
            )
            await from_ann.send(text(f"question {number}"))
            await until(lambda n=number, at=at_ben: f"question {n}" in at.bodies())  # type: ignore[misc]
            await from_ben.send(text(f"answer {number}"))
            await until(lambda n=number, at=at_ann: f"answer {n}" in at.bodies())  # type: ignore[misc]
        assert ann.states.seen == ben.states.seen == ["RUNNING"]  # nobody had to begin again
