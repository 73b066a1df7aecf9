"""PDUs of transactions wait here: one queue per room, so that no room delays another.

Rules of this file:
- A transaction is answered when all of its PDUs are dealt with, or after `PATIENCE_SECONDS`: what
  isn't done by then is kept in Postgres and dealt with later, after a restart too.
- A room's queue is worked off in batches by one task, in the order in which the PDUs came.
- While Postgres is away a transaction is refused, so that its server sends it again; what was
  acknowledged waits.
server-server-api#put_matrixfederationv1sendtxnid
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from msgspec import Struct, field

from homeserver.clock import Clock
from homeserver.errors import Forbidden, LimitExceeded, MatrixError, Unavailable
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.events import Event, event_id_of
from homeserver.protocol.server_acl import ServerAcl
from homeserver.store import received_pdus as received_store
from homeserver.store.database import Database
from homeserver.store.events import Flag
from homeserver.store.received_pdus import ReceivedPdu
from homeserver.stream.catch_up import CatchUp
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.verify import Verifier, parse

PATIENCE_SECONDS = 20.0
BATCH = 200
AGAIN_SECONDS = 5.0
MAX_WAITING = 5000
"""PDUs that may wait in one room; more are refused, so that their server sends them later."""
SERVER_ACL = ("m.room.server_acl", "")
NOT_WELCOME = "This server is not in the room, or yours may not be"

log = structlog.get_logger(__name__)


class Waiting(Struct, eq=False):
    """A PDU in its room's queue.

    `done` gives what is wrong with it, or None; or raises Unavailable. `is_kept`: it is in
    Postgres, and acknowledged.
    """

    event: Event
    origin: str
    done: asyncio.Future[str | None]
    is_kept: bool = False


class _Queue(Struct, eq=False):
    waiting: deque[Waiting] = field(default_factory=deque)
    by_id: dict[str, Waiting] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Incoming:
    """Takes the PDUs of transactions."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        verifier: Verifier,
        catch_up: CatchUp,
        clock: Clock,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._verifier = verifier
        self._catch_up = catch_up
        self._clock = clock
        self._queues: dict[str, _Queue] = {}
        self._stored: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with what was acknowledged before a restart."""
        async with self._database.connection() as connection:
            rows = await received_store.all_pdus(connection)
        await self.again(rows)

    async def stop(self) -> None:
        """Drop what waits; what was acknowledged is in Postgres."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in (*tasks, *self._stored):
            task.cancel()
        await asyncio.gather(*tasks, *self._stored, return_exceptions=True)

    async def take(self, origin: str, pdus: Sequence[Any]) -> dict[str, str | None]:
        """Deal with the PDUs of a transaction: event id -> what is wrong with it, or None.

        PDUs without an event id are left out. Raises LimitExceeded if too many are waiting,
        Unavailable.
        """
        waiting, outcomes = await self._queue(origin, pdus)
        if waiting:
            await asyncio.wait([w.done for w in waiting], timeout=PATIENCE_SECONDS)
        late = [w for w in waiting if not w.done.done()]
        if late:
            await self._keep(late)
            self._later(late)
        problems = [w.done.exception() for w in waiting if w.done.done()]
        for problem in problems:
            if problem is not None:
                raise problem
        for one in waiting:
            outcomes[one.event.event_id] = _outcome(one)
        return outcomes

    async def again(self, rows: Sequence[ReceivedPdu]) -> None:
        """Deal (anew) with what is kept in Postgres. It goes on after the return."""
        by_origin: dict[str, list[ReceivedPdu]] = {}
        for row in rows:
            by_origin.setdefault(row.origin, []).append(row)
        verified: list[tuple[str, Event]] = []
        for origin, of_origin in by_origin.items():
            pdus = [msgspec.json.decode(row.json) for row in of_origin]
            events, _ = await self._checked(origin, pdus)
            verified += [(origin, event) for event in events]
        # At once, lest those of one server be looked at before those of another on which they rest.
        verified.sort(key=lambda pair: pair[1].depth)
        waiting = [self._enqueue(origin, event) for origin, event in verified]
        for one in waiting:
            one.is_kept = True
        self._later(waiting)
        left = {row.event_id for row in rows}.difference(w.event.event_id for w in waiting)
        if left:
            async with self._database.connection() as connection:
                await received_store.delete(connection, left)

    async def take_event(self, origin: str, event: Event) -> str | None:
        """Deal with one verified event at once: what is wrong with it, or None.

        Raises Unavailable.
        """
        return await self._enqueue(origin, event).done

    async def accept(self, origin: str, event: Event) -> StoredEvent:
        """The same with an event that has to count. Raises Forbidden, Unavailable.

        The origin is asked for what it refers to and we lack.
        """
        outcome = await self.take_event(origin, event)
        if outcome is not None:
            raise Forbidden(f"The event can't be accepted: {outcome}")
        stored = await self._rooms.event(event.event_id)
        if stored is None or stored.flags & (Flag.REJECTED | Flag.SOFT_FAILED):
            raise Forbidden("The rules of the room don't allow this")
        return stored

    async def _queue(
        self, origin: str, pdus: Sequence[Any]
    ) -> tuple[list[Waiting], dict[str, str | None]]:
        events, outcomes = await self._checked(origin, pdus)
        if any(self._is_full(event.room_id) for event in events):
            raise LimitExceeded(10_000, "Too many events are waiting in this room")
        return [self._enqueue(origin, event) for event in events], outcomes

    async def _checked(
        self, origin: str, pdus: Sequence[Any]
    ) -> tuple[list[Event], dict[str, str | None]]:
        """What passes the checks 1 to 3 and may come from that server; and what is wrong else."""
        outcomes: dict[str, str | None] = {}
        room_ids = {p["room_id"] for p in pdus if _has_room_id(p)}
        rooms = await self._rooms.get_many(room_ids) if room_ids else {}
        allowed = {
            room_id: room
            for room_id, room in rooms.items()
            if room.joined_local and await self.is_allowed(room, origin)
        }
        events = []
        for pdu in pdus:
            if not _has_room_id(pdu):
                continue
            room = rooms.get(pdu["room_id"])
            if room is None:
                continue
            event = parse(pdu, room.rules)
            if event is None:
                _note_invalid(pdu, room, outcomes)
            elif event.room_id not in allowed:
                outcomes[event.event_id] = NOT_WELCOME
            else:
                events.append(event)
        verified = await self._verifier.check_signatures(events)
        return verified.events, outcomes | verified.problems

    def _is_full(self, room_id: str) -> bool:
        queue = self._queues.get(room_id)
        return queue is not None and len(queue.waiting) >= MAX_WAITING

    async def is_allowed(self, room: LiveRoom, server_name: str) -> bool:
        """Does the room's server ACL let that server take part?"""
        event_id = room.head.state.get(SERVER_ACL)
        if event_id is None:
            return True
        stored = room.pending.get(event_id) or self._rooms.events.peek(event_id)
        if stored is None:
            async with self._database.connection() as connection:
                found = await self._rooms.events.get_many(
                    connection, [event_id], self._rooms.rules_of
                )
            stored = found[event_id]
        return ServerAcl(stored.content).allows(server_name)

    def _enqueue(self, origin: str, event: Event) -> Waiting:
        queue = self._queues.setdefault(event.room_id, _Queue())
        known = queue.by_id.get(event.event_id)
        if known is not None:
            return known
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        waiting = queue.by_id[event.event_id] = Waiting(event, origin, done)
        queue.waiting.append(waiting)
        if queue.task is None:
            queue.task = asyncio.create_task(self._work_off(event.room_id, queue))
        return waiting

    async def _work_off(self, room_id: str, queue: _Queue) -> None:
        while queue.waiting:
            batch = [queue.waiting.popleft() for _ in range(min(BATCH, len(queue.waiting)))]
            try:
                outcomes = await self._catch_up.receive(
                    room_id, [(w.origin, w.event) for w in batch]
                )
            except Unavailable as error:
                await self._not_now(queue, batch, error)
                continue
            except MatrixError as error:
                outcomes = dict.fromkeys((w.event.event_id for w in batch), error.message)
            except Exception:  # one bad event must not end the room's queue
                log.exception("events not received", room_id=room_id)
                outcomes = {}
            for waiting in batch:
                queue.by_id.pop(waiting.event.event_id, None)
                if not waiting.done.done():
                    waiting.done.set_result(outcomes.get(waiting.event.event_id, "Not processed"))
        self._queues.pop(room_id, None)

    async def _not_now(self, queue: _Queue, batch: Sequence[Waiting], error: Unavailable) -> None:
        """What is acknowledged waits on, the rest is for its server to send again."""
        kept = [waiting for waiting in batch if waiting.is_kept]
        for waiting in batch:
            if not waiting.is_kept:
                queue.by_id.pop(waiting.event.event_id, None)
                if not waiting.done.done():
                    waiting.done.set_exception(error)
        if kept:
            queue.waiting.extendleft(reversed(kept))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _keep(self, late: Iterable[Waiting]) -> None:
        late = list(late)
        for waiting in late:
            waiting.is_kept = True
        now = self._clock()
        rows = [
            ReceivedPdu(w.event.event_id, w.event.room_id, w.origin, w.event.json, now)
            for w in late
        ]
        async with self._database.connection() as connection:
            await received_store.put(connection, rows)

    def _later(self, waiting: Sequence[Waiting]) -> None:
        """Delete what is kept of these as soon as they are dealt with."""
        if waiting:
            task = asyncio.create_task(self._delete_when_done(waiting))
            self._stored.add(task)
            task.add_done_callback(self._stored.discard)

    async def _delete_when_done(self, waiting: Sequence[Waiting]) -> None:
        await asyncio.wait([w.done for w in waiting])
        with suppress(Unavailable):  # then they are looked at once more after the next start
            async with self._database.connection() as connection:
                await received_store.delete(connection, [w.event.event_id for w in waiting])


def _outcome(waiting: Waiting) -> str | None:
    return waiting.done.result() if waiting.done.done() else None


def _has_room_id(pdu: Any) -> bool:
    room_id = pdu.get("room_id") if isinstance(pdu, dict) else None
    return isinstance(room_id, str) and "\0" not in room_id


def _note_invalid(pdu: JsonObject, room: LiveRoom, outcomes: dict[str, str | None]) -> None:
    try:
        event_id = event_id_of(pdu, room.rules)
    except (CanonicalJsonError, KeyError, TypeError, AttributeError, ValueError):
        return
    if isinstance(event_id, str):
        outcomes[event_id] = "The event is not valid in this room version"
