"""What is written when the whole state of a room has come (see `completion`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeserver.store import events as event_store
from homeserver.store import partial_rooms as partial_store
from homeserver.store import received_pdus as received_store
from homeserver.store import room_facts as fact_store
from homeserver.store import rooms as room_store
from homeserver.store import state as state_store
from homeserver.store.database import Connection
from homeserver.store.room_facts import FACT_OF, RoomFacts, with_event
from homeserver.stream.changes import CompletionChange, TakenBack


async def write_completions(connection: Connection, changes: Sequence[CompletionChange]) -> None:
    """Statements for each room: there is seldom more than one."""
    await partial_store.put(connection, [change.row for change in changes])
    for change in changes:
        if change.replaced:
            numbers = [(stored.number, old.number) for stored, old in change.replaced]
            await event_store.set_replaced(connection, numbers)
        await state_store.complete(connection, change.groups)
        if change.taken_back is not None:
            await _take_back(connection, change.taken_back)
        if change.memberships:
            await room_store.put_memberships(connection, change.memberships)
        # Whoever looks for what changed since a position finds the room.
        await event_store.touch_head(connection, change.row.room_number, change.position)


async def _take_back(connection: Connection, taken_back: TakenBack) -> None:
    await received_store.put(connection, taken_back.pdus)
    await event_store.take_back(connection, [stored.number for stored in taken_back.events])
    head = taken_back.head
    await state_store.take_back(connection, head.room_number, taken_back.groups)
    await event_store.append(connection, [], [head])
    states = await state_store.load(connection, [head.state_group])
    wanted = {
        entry.event_id
        for key, entry in states[head.state_group].items()
        if key[1] == "" and key[0] in FACT_OF
    }
    facts = RoomFacts(head.room_number)
    for event in await event_store.by_ids(connection, wanted):
        facts = with_event(facts, event.type, msgspec.json.decode(event.json)["content"])
    await fact_store.put(connection, [facts])
