"""Rooms as other servers read them: events, states, auth chains, history.

Rules of this file: only servers that are in the room, and that its ACL allows, are answered; what
a server may not see of the history is redacted.
server-server-api#backfilling-and-retrieving-missing-events, #retrieving-events
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Sequence

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from homeserver.errors import Forbidden, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.history_visibility import visibility_of
from homeserver.store import pdus as pdu_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import Flag
from homeserver.store.pdus import PduRow
from homeserver.stream.core import StreamCore
from homeserver.stream.inbound import Inbound
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.serve_pdus import auth_chain_ids, served, served_by_ids
from homeserver.stream.server_visibility import ServerHistory, server_history

MAX_BACKFILL = 100
MAX_MISSING = 50
HISTORY_VISIBILITY = ("m.room.history_visibility", "")


class _Links(msgspec.Struct):
    prev_events: list[object]
    depth: int
    origin_server_ts: int


class _Linked(Struct, frozen=True):
    """An event and what it refers to."""

    row: PduRow
    prev_events: list[str]
    depth: int


_decode_links = msgspec.json.Decoder(_Links).decode


class MissingEvents(Struct, frozen=True):
    """What `get_missing_events` asks for."""

    earliest: Sequence[str]
    latest: Sequence[str]
    limit: int
    min_depth: int


class ServedHistory:
    """Answers other servers' questions about rooms that we are in."""

    def __init__(self, database: Database, stream: StreamCore, inbound: Inbound) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._incoming = inbound.incoming

    async def event(self, origin: str, event_id: str) -> Raw:
        """One event. Raises NotFound, Forbidden."""
        async with self._database.connection() as connection:
            found = await pdu_store.by_ids(connection, [event_id])
            row = found.get(event_id)
            if row is None or row.flags & Flag.REJECTED:
                raise NotFound("This server doesn't have the event")
            room = await self._room_of(connection, row)
        await self._check(origin, room)
        async with self._database.connection() as connection:
            [pdu] = await self._visible(connection, origin, room, [row])
        return pdu

    async def state(self, origin: str, room_id: str, event_id: str) -> JsonObject:
        """The state before an event and its auth chain. Raises NotFound, Forbidden."""
        room = await self._room(origin, room_id)
        async with self._database.connection() as connection:
            ids, chain = await self._state_ids(connection, room, event_id)
            return {
                "pdus": await served_by_ids(connection, ids, room.rules),
                "auth_chain": await served_by_ids(connection, chain, room.rules),
            }

    async def state_ids(self, origin: str, room_id: str, event_id: str) -> JsonObject:
        """The same, by ids."""
        room = await self._room(origin, room_id)
        async with self._database.connection() as connection:
            ids, chain = await self._state_ids(connection, room, event_id)
        return {"pdu_ids": ids, "auth_chain_ids": chain}

    async def event_auth(self, origin: str, room_id: str, event_id: str) -> JsonObject:
        """The auth chain of an event. Raises NotFound, Forbidden."""
        room = await self._room(origin, room_id)
        async with self._database.connection() as connection:
            await self._require_event(connection, room, event_id)
            chain = await pdu_auth_chain(connection, event_id)
            return {"auth_chain": await served_by_ids(connection, chain, room.rules)}

    async def backfill(
        self, origin: str, room_id: str, starts: Sequence[str], limit: int
    ) -> list[Raw]:
        """The events and what came before them, at most `limit`. Raises NotFound, Forbidden."""
        room = await self._room(origin, room_id)
        limit = max(1, min(limit, MAX_BACKFILL))
        async with self._database.connection() as connection:
            near = await pdu_store.history(connection, room.number, starts, limit)
            known = _linked(near)
            # What isn't in the timeline (soft-failed, hidden) is known by those who refer to it.
            cited = {id_ for one in known.values() for id_ in one.prev_events}
            await _read(connection, known, cited.union(starts))
            rows = await self._preceding(connection, room, known, starts, limit)
            return await self._visible(connection, origin, room, rows)

    async def _preceding(
        self,
        connection: Connection,
        room: LiveRoom,
        known: dict[str, _Linked],
        starts: Sequence[str],
        limit: int,
    ) -> list[PduRow]:
        """The starts and what leads to them by prev_events, the deepest first.

        "soft failed events are returned in /backfill [...] only if the requests include events
        referencing the soft failed events"
        """
        seen = set(starts)
        waiting = [(-known[i].depth, i) for i in seen if i in known]
        heapq.heapify(waiting)
        found: list[PduRow] = []
        while waiting and len(found) < limit:
            one = known[heapq.heappop(waiting)[1]]
            if one.row.room_number != room.number or one.row.flags & Flag.OUTLIER:
                continue
            if not one.row.flags & Flag.REJECTED:
                found.append(one.row)
            fresh = [id_ for id_ in one.prev_events if id_ not in seen]
            seen.update(fresh)
            for event in await _read(connection, known, fresh):
                heapq.heappush(waiting, (-event.depth, event.row.event_id))
        return found

    async def missing_events(self, origin: str, room_id: str, asked: MissingEvents) -> list[Raw]:
        """Events between `earliest` and `latest`, both left out, the oldest first."""
        room = await self._room(origin, room_id)
        limit = max(1, min(asked.limit, MAX_MISSING))
        async with self._database.connection() as connection:
            near = await pdu_store.history(connection, room.number, asked.latest, 2 * limit)
            known = _linked(near)
            rows = await self._walk_back(connection, room, known, replace(asked, limit=limit))
            return await self._visible(connection, origin, room, rows[::-1])

    async def _walk_back(
        self,
        connection: Connection,
        room: LiveRoom,
        known: dict[str, _Linked],
        asked: MissingEvents,
    ) -> list[PduRow]:
        """Breadth first from the latest events, the newest first.

        Where our own history begins (we joined, or came back), the event isn't told: the other
        side would ask for the state at the event before it, which we never had, and leave what
        follows aside. So it asks for the state at the event itself, which we have.
        """
        told = {*asked.earliest, *asked.latest}
        latest = await _read(connection, known, asked.latest)
        level = [one for one in latest if one.row.room_number == room.number]
        found: list[PduRow] = []
        while level and len(found) < asked.limit:
            ids = {id_: None for one in level for id_ in one.prev_events if id_ not in told}
            level = [
                one
                for one in await _read(connection, known, ids)
                if not one.row.flags & (Flag.REJECTED | Flag.OUTLIER)
                and one.depth >= asked.min_depth
            ]
            cited = await _read(connection, known, {i for one in level for i in one.prev_events})
            reachable = {o.row.event_id for o in cited if not o.row.flags & Flag.OUTLIER}
            reachable.update(asked.earliest)
            level = [one for one in level if reachable.issuperset(one.prev_events)]
            told.update(ids)
            found.extend(one.row for one in level)
        return found[: asked.limit]

    async def at_timestamp(self, origin: str, room_id: str, ts: int, backwards: bool) -> JsonObject:
        """The event nearest to a time, in one direction. Raises NotFound, Forbidden."""
        room = await self._room(origin, room_id)
        async with self._database.connection() as connection:
            event_id = await pdu_store.nearest(connection, room.number, ts, backwards)
            rows = {} if event_id is None else await pdu_store.by_ids(connection, [event_id])
        if event_id is None:
            raise NotFound("There is no event in that direction")
        found_ts = _decode_links(rows[event_id].json).origin_server_ts
        return {"event_id": event_id, "origin_server_ts": found_ts}

    async def _room(self, origin: str, room_id: str) -> LiveRoom:
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        await self._check(origin, room)
        return room

    async def _room_of(self, connection: Connection, row: PduRow) -> LiveRoom:
        room_id = await pdu_store.room_id_of(connection, row.room_number)
        room = await self._rooms.get(room_id) if room_id is not None else None
        if room is None:
            raise NotFound("This server doesn't have the event")
        return room

    async def _check(self, origin: str, room: LiveRoom) -> None:
        if not room.joined_servers[origin]:
            raise Forbidden("Your server is not in the room")
        if not await self._incoming.is_allowed(room, origin):
            raise Forbidden("Your server is banned from this room")

    async def _require_event(self, connection: Connection, room: LiveRoom, event_id: str) -> PduRow:
        row = (await pdu_store.by_ids(connection, [event_id])).get(event_id)
        if row is None or row.room_number != room.number:
            raise NotFound("This server doesn't have the event")
        return row

    async def _state_ids(
        self, connection: Connection, room: LiveRoom, event_id: str
    ) -> tuple[list[str], list[str]]:
        row = await self._require_event(connection, room, event_id)
        if room.is_partial:
            raise NotFound("This server has just joined the room and doesn't know its members yet")
        if row.flags & Flag.OUTLIER or row.state_group is None:
            if row.type != "m.room.create":
                raise NotFound("This server doesn't know the state at that event")
            return [], []
        states = await self._rooms.group_states.get_many(connection, [row.state_group])
        ids = list(states[row.state_group].state.values())
        return ids, await auth_chain_ids(connection, ids)

    async def _visible(
        self, connection: Connection, origin: str, room: LiveRoom, rows: Iterable[PduRow]
    ) -> list[Raw]:
        history = await self._history(connection, origin, room)
        erased = self._rooms.erased
        return [served(_pruned(row, history, erased), room.rules) for row in rows]

    async def _history(
        self, connection: Connection, origin: str, room: LiveRoom
    ) -> ServerHistory | None:
        event_id = room.state.get(HISTORY_VISIBILITY)
        content = None
        if event_id is not None:
            found = await self._rooms.events.get_many(connection, [event_id], self._rooms.rules_of)
            content = found[event_id].content
        return await server_history(connection, room.number, origin, visibility_of(content))


async def pdu_auth_chain(connection: Connection, event_id: str) -> list[str]:
    """The ids of an event's auth chain, itself left out."""
    chain = await auth_chain_ids(connection, [event_id])
    return [id_ for id_ in chain if id_ != event_id]


async def _read(
    connection: Connection, known: dict[str, _Linked], event_ids: Iterable[str]
) -> list[_Linked]:
    """Those of the events that we have; what wasn't `known` is read, and is then."""
    ids = list(event_ids)
    unknown = [id_ for id_ in ids if id_ not in known]
    if unknown:
        known |= _linked((await pdu_store.by_ids(connection, unknown)).values())
    return [known[id_] for id_ in ids if id_ in known]


def _linked(rows: Iterable[PduRow]) -> dict[str, _Linked]:
    found = {}
    for row in rows:
        links = _decode_links(row.json)
        prev_events = [
            str(link[0]) if isinstance(link, list) and link else str(link)
            for link in links.prev_events
        ]
        found[row.event_id] = _Linked(row, prev_events, links.depth)
    return found


def _pruned(row: PduRow, history: ServerHistory | None, erased: Container[str]) -> PduRow:
    """State is always told: a server needs it to take part.

    Events of `erased` users aren't told any more: "Erasure means that any users (or servers) which
    join the room after the erasure request are served redacted copies". Those that were there
    before have been sent the events; who asks for them has lost them.
    """
    if row.state_key is not None:
        return row
    if row.sender not in erased and (history is None or history.allows(row.place)):
        return row
    return replace(row, is_redacted=True)
