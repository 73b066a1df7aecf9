"""What a server says of a room to one of its members, and what it has stored of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import dataclass
from urllib.parse import quote

import asyncpg

from homeserver.json_types import JsonObject
from homeserver.store.embedded import running_url
from homeserver.store.events import ORDER_STEP, Flag
from soak.people import Person
from soak.servers import Server
from tests.support.client import Client

PAGE = "200"
DUMMY = "org.matrix.dummy_event"
"""Synapse joins forward extremities with these, and shows them to nobody."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as a server holds it; `marks`: rejected, soft-failed, outlier.

    `is_news`: it got its place in the timeline when it came, not as history that was fetched.
    """

    pdu: JsonObject
    marks: frozenset[str]
    is_news: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """`history` has the event ids, oldest first; `forms` what a client gets of each."""

    server: Server
    state: dict[tuple[str, str], str]
    members: set[str]
    history: list[str]
    forms: dict[str, JsonObject]
    stored: dict[str, Stored]


async def view_of(observer: Person, room_id: str) -> View:
    """All that the observer can read, and all that its server has."""
    client = observer.client
    state = await client.get(f"/rooms/{quote(room_id)}/state")
    events = await _history(client, room_id)
    return View(
        server=observer.server,
        state={(event["type"], event["state_key"]): event["event_id"] for event in state},
        members=await client.joined_members(room_id),
        history=[event["event_id"] for event in events],
        forms={event["event_id"]: event for event in events},
        stored=await stored_in(observer.server, room_id),
    )


async def _history(client: Client, room_id: str) -> list[JsonObject]:
    """Oldest first."""
    events: list[JsonObject] = []
    query = {"limit": PAGE}
    while True:
        page = await client.messages(room_id, **query)
        events += [event for event in page["chunk"] if event["type"] != DUMMY]
        if page.get("end") in (None, query.get("from")):
            return events[::-1]
        query["from"] = page["end"]


async def stored_in(server: Server, room_id: str) -> dict[str, Stored]:
    """By event id; read from the server's database."""
    if server.name == "synapse":
        return await asyncio.to_thread(_stored_by_synapse, server, room_id)
    url = running_url(server.directory / "data" / "postgres")
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT event_id, flags, json,"
            " timeline_order > 0 AND timeline_order % $2 = 0 AS is_news"
            " FROM events JOIN rooms USING (room_number) WHERE room_id = $1",
            room_id,
            ORDER_STEP,
        )
    finally:
        await connection.close()
    return {
        row["event_id"]: Stored(json.loads(row["json"]), _marks(row["flags"]), bool(row["is_news"]))
        for row in rows
    }


def _marks(flags: int) -> frozenset[str]:
    names = {
        "rejected": Flag.REJECTED,
        "soft-failed": Flag.SOFT_FAILED,
        "outlier": Flag.OUTLIER,
    }
    return frozenset(name for name, flag in names.items() if flags & flag)


def _stored_by_synapse(server: Server, room_id: str) -> dict[str, Stored]:
    connection = sqlite3.connect(f"file:{server.directory / 'db'}?mode=ro", uri=True, timeout=30)
    try:
        rows = connection.execute(
            "SELECT event_id, events.outlier, reason, internal_metadata, json FROM events"
            " JOIN event_json USING (event_id) LEFT JOIN rejections USING (event_id)"
            " WHERE events.room_id = ?",
            (room_id,),
        ).fetchall()
    finally:
        connection.close()
    found = {}
    for event_id, outlier, reason, metadata, pdu in rows:
        marks = {
            "outlier": outlier,
            "rejected": reason is not None,
            "soft-failed": json.loads(metadata).get("soft_failed"),
        }
        found[event_id] = Stored(
            json.loads(pdu), frozenset(m for m, is_so in marks.items() if is_so)
        )
    return found
