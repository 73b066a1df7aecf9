"""What tests with two servers do again and again."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client

MARKS = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="session")]
"""Of the modules that use the fixtures `ours` and `synapse`: one of each serves all tests."""


def server_of(client: Client) -> str:
    return client.user_id.partition(":")[2]


async def join_via(client: Client, room_id: str, other: Client) -> None:
    """Joins a room that the other one is in."""
    await client.request("POST", f"/join/{room_id}", {}, query=via(other))


def via(client: Client) -> dict[str, str]:
    """The query that names the client's server, old and new."""
    return {"via": server_of(client), "server_name": server_of(client)}


async def meet(host: Client, guest: Client, version: str, **options: Any) -> str:
    """A public room of the host's that the guest joins; both have synced."""
    options = {"preset": "public_chat", "name": "meeting", **options}
    room_id = await host.create_room(room_version=version, **options)
    await host.sync()
    await join_via(guest, room_id, host)
    await guest.sync_until(lambda answer: answer.get("rooms", {}).get("join", {}).get(room_id))
    return room_id


async def talk(one: Client, two: Client, room_id: str) -> None:
    """Each hears the other."""
    for sender, reader in ((one, two), (two, one), (one, two)):
        event_id = await sender.send(room_id, f"hello from {sender.user_id}")
        await reader.sync_until_event(room_id, event_id)


def invite_in(room_id: str, answer: JsonObject) -> JsonObject | None:
    """The invite to a room in an answer of /sync."""
    invite: JsonObject | None = answer.get("rooms", {}).get("invite", {}).get(room_id)
    return invite
