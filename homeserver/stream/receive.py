"""Events of other servers enter a room whose state we have.

Rules of this file:
- What comes here has passed the checks 1 to 3: it is valid, signed, and redacted if its hash was
  wrong. What it refers to was fetched (`gaps`), as far as anybody has it.
- All of it happens under the room's lock; nothing here waits for another server.
`judge` decides, `take_in` writes.
server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from msgspec.structs import replace

from homeserver.protocol.events import Event
from homeserver.store.database import Connection, Database
from homeserver.store.events import Flag
from homeserver.stream.event_sources import EventSource
from homeserver.stream.judge import CannotJudge, Judge
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.push_evaluator import POWER_KEYS, PushEvaluator, parent_of
from homeserver.stream.redactions import Awaited
from homeserver.stream.resolve import StateResolver
from homeserver.stream.take_in import Intake, RoomGone
from homeserver.stream.writer import StreamWriter

log = structlog.get_logger(__name__)


class LeftAside(str):
    """Why an event was neither taken in nor rejected: what it refers to can't be had.

    Nothing is wrong with the event itself: it may be sent again, or be fetched later.
    """


class Receiver:
    """Takes events into rooms."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        writer: StreamWriter,
        push: PushEvaluator,
        server_name: str,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer
        self._push = push
        self._server_name = server_name
        self._relayed: set[str] = set()
        self.resolver = StateResolver(rooms)

    @contextmanager
    def relaying(self, event_id: str) -> Iterator[None]:
        """Taken in meanwhile, this event is told to the room's other servers by us, as ours are:
        "The resident server must also send the event to other servers participating in the room."
        """
        self._relayed.add(event_id)
        try:
            yield
        finally:
            self._relayed.discard(event_id)

    async def receive(
        self, room: LiveRoom, events: Sequence[Event], told: Mapping[str, State]
    ) -> dict[str, str | None]:
        """Take events in, in an order in which none comes before its prev_events.

        `told` are the states after such prev_events as we lack, as another server told them; all
        of their events are stored. Gives for each event id what is wrong with it, or None; all
        others are committed on return. Raises RoomGone, Unavailable.
        """
        async with room.lock:
            if room.dropped:
                raise RoomGone
            await self._push.prepare(room)
            async with self._database.connection() as connection:
                outcomes, commits = await self._receive(room, connection, events, told)
        if commits:
            await asyncio.gather(*commits)
        return outcomes

    async def _receive(
        self,
        room: LiveRoom,
        connection: Connection,
        events: Sequence[Event],
        told: Mapping[str, State],
    ) -> tuple[dict[str, str | None], list[asyncio.Future[None]]]:
        source = EventSource(self._rooms, room, connection)
        await source.load([event.event_id for event in events])
        await source.load(_cited(events))
        states = self._rooms.group_states
        judge = Judge(room, source, connection, self.resolver, states, told)
        intake = Intake(room, source, self._rooms, self._writer, self._server_name)
        outcomes: dict[str, str | None] = {}
        commits = []
        awaited = await Awaited.load(connection, room, [event.event_id for event in events])
        for event in events:
            known = source.find(event.event_id)
            outcomes[event.event_id] = None
            if known is not None and not known.flags & Flag.OUTLIER:
                continue
            try:
                judged = await judge.judge(event)
            except CannotJudge as problem:
                outcomes[event.event_id] = LeftAside(str(problem))
                log.info("left aside", event_id=event.event_id, reason=str(problem))
                continue
            if event.event_id in self._relayed:
                judged = replace(judged, flags=judged.flags | Flag.RELAYED)
            waiting = awaited.of(event)
            await source.load([*_asked_for_push(room, event), *(row.event_id for row in waiting)])
            find = source.find
            await self._push.prepare_thread(room.room_id, event.content, find, connection)
            push = self._push.judge(room, event, find)
            commits.append(await intake.take_in(judged, known, push, waiting))
        return outcomes, commits


def _asked_for_push(room: LiveRoom, event: Event) -> list[str]:
    """What has to be in memory for `PushEvaluator.judge`."""
    wanted = [room.head.state.get(key) for key in POWER_KEYS]
    return [e for e in (*wanted, parent_of(event.content)) if e is not None]


def _cited(events: Sequence[Event]) -> set[str]:
    """What the events refer to, themselves left out."""
    cited = {id_ for event in events for id_ in (*event.prev_events, *event.auth_events)}
    cited.update(event.redacts for event in events if event.redacts is not None)
    return cited.difference(event.event_id for event in events)


def in_order(events: Iterable[Event]) -> list[Event]:
    """The events, each after those of its prev_events and auth_events that are among them."""
    by_id = {event.event_id: event for event in events}
    ordered: dict[str, Event] = {}
    for start in sorted(by_id.values(), key=lambda event: event.depth):
        stack = [start]
        while stack:
            event = stack[-1]
            cited = (*event.prev_events, *event.auth_events)
            waiting = [by_id[i] for i in cited if i in by_id and i not in ordered]
            waiting = [other for other in waiting if other not in stack]
            if waiting:
                stack.extend(waiting)
            else:
                stack.pop()
                ordered.setdefault(event.event_id, event)
    return list(ordered.values())
