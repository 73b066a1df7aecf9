"""A batch of events of one room: what they refer to is fetched, then they are received.

Rules of this file: the usual batch, whose references are all in memory, costs nothing here. What
is older than our time in the room is history, not news: it gets its place below our join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from homeserver.errors import Unavailable
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.protocol.policy_servers import POLICY
from homeserver.store.events import Flag, KnownEvent
from homeserver.stream.backfill import Backfill
from homeserver.stream.gaps import Gaps
from homeserver.stream.group_states import group_after
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.policy_servers import PolicyServers
from homeserver.stream.receive import Receiver, in_order
from homeserver.stream.take_in import RoomGone
from homeserver.stream.whole_rooms import WholeRooms

ATTEMPTS = 3
MEMBERS_SECONDS = 10.0
MAX_STATES = 20
"""States that are asked for one batch; what needs more is left aside."""


class CatchUp:
    """Receives events and what is missing before them."""

    def __init__(
        self,
        rooms: LiveRooms,
        gaps: Gaps,
        receiver: Receiver,
        policy_servers: PolicyServers,
        whole_rooms: WholeRooms,
        backfill: Backfill,
    ) -> None:
        self._rooms = rooms
        self._gaps = gaps
        self._receiver = receiver
        self._policy_servers = policy_servers
        self._whole_rooms = whole_rooms
        self._backfill = backfill

    async def receive(
        self, room_id: str, received: Sequence[tuple[str, Event]]
    ) -> dict[str, str | None]:
        """Events with the servers that sent them; gives by event id what is wrong, or None.

        Raises Unavailable.
        """
        attempt = 0
        while True:
            room = await self._rooms.get(room_id)
            if room is None or not room.joined_local:
                reason = "This server is not in the room"
                return {event.event_id: reason for _, event in received}
            try:
                return await self._receive(room, received)
            except RoomGone:
                attempt += 1
                if attempt == ATTEMPTS:
                    raise Unavailable("The room is being read again") from None

    async def _receive(
        self, room: LiveRoom, received: Sequence[tuple[str, Event]]
    ) -> dict[str, str | None]:
        origins = {event.event_id: origin for origin, event in received}
        events = in_order(event for _, event in received)
        events = await self._without_history(room, events, origins)
        told: Mapping[str, State] = {}
        if not self._all_in_memory(room, events):
            events, told = await self._with_what_is_missing(room, events, origins)
        history = (event.event_id for _, event in received if event.event_id not in origins)
        outcomes: dict[str, str | None] = dict.fromkeys(history)
        while events:
            server = await self._policy_servers.of(room)
            last = _next_policy(events, server is None and POLICY in room.head.state)
            span, events = events[:last], events[last:]
            if server is not None:
                span = await self._policy_servers.ask_for(server, span)
            outcomes |= await self._receiver.receive(room, span, told)
        return outcomes

    async def _without_history(
        self, room: LiveRoom, events: list[Event], origins: dict[str, str]
    ) -> list[Event]:
        """History is taken in, and no longer on its way; the other events in order."""
        missing = [event.event_id for event in events if event.event_id in room.missing]
        if not missing:
            return events
        history = await self._backfill.take(room, origins[missing[0]], events)
        for event_id in history:
            del origins[event_id]
        return [event for event in events if event.event_id not in history]

    async def _with_what_is_missing(
        self, room: LiveRoom, events: list[Event], origins: dict[str, str]
    ) -> tuple[list[Event], Mapping[str, State]]:
        """The events with those that lead to them, and the states after what nobody told."""
        events = await self._only_new(room, events, origins)
        known = await self._gaps.known(room, _prev_events(events))
        late = [e for e in events if _lacks(e.prev_events, known, origins)]
        if not late:
            await self._gaps.fetch_missing_auth(room, events, origins)
            return events, {}
        origin = origins[late[0].event_id]
        missing = await self._gaps.missing_events(origin, room, late)
        unexplained = {event.event_id for event in late} if missing.is_answered else set()
        for event in missing.events:
            origins.setdefault(event.event_id, origin)
            events.append(event)
        events = await self._only_new(room, in_order(events), origins)
        events = await self._without_history(room, events, origins)
        await self._gaps.fetch_missing_auth(room, events, origins)
        return events, await self._states(room, events, origins, unexplained)

    async def _only_new(
        self, room: LiveRoom, events: list[Event], origins: dict[str, str]
    ) -> list[Event]:
        """What we have is not on its way: as history it may have no state to build on, and then
        that has to be asked for. `get_missing_events` tells much of what we have.
        """
        known = await self._gaps.known(room, [event.event_id for event in events])
        new = [event for event in events if _is_unknown(known.get(event.event_id))]
        for event_id in origins.keys() - {event.event_id for event in new}:
            del origins[event_id]
        return new

    def _all_in_memory(self, room: LiveRoom, events: Sequence[Event]) -> bool:
        """Is everything that the events refer to here, and fit to be built on?"""
        ours = {event.event_id for event in events}
        for event in events:
            for event_id in (*event.prev_events, *event.auth_events):
                if event_id in ours:
                    continue
                stored = room.pending.get(event_id) or self._rooms.events.peek(event_id)
                if stored is None:
                    return False
                if event_id in event.prev_events and group_after(stored) is None:
                    return False
        return True

    async def _states(
        self,
        room: LiveRoom,
        events: Sequence[Event],
        origins: dict[str, str],
        unexplained: Set[str],
    ) -> dict[str, State]:
        """The states after prev_events that we lack, or whose state we don't know.

        Not for `unexplained` events: a server that sends an event has the events before it. If it
        was asked for them and keeps them back, the state there may be anything it likes.
        """
        known = await self._gaps.known(room, _prev_events(events))
        told: dict[str, State] = {}
        for event in events:
            for event_id in event.prev_events:
                if event_id in origins or event_id in told or _is_built_on(known.get(event_id)):
                    continue
                if event.event_id in unexplained and _is_unknown(known.get(event_id)):
                    continue
                if len(told) == MAX_STATES:
                    return told
                if not told:
                    await self._wait_for_members(room)
                origin = origins[event.event_id]
                state = await self._gaps.state_after(origin, room, event_id)
                if state is not None:
                    told[event_id] = state
        return told

    async def _wait_for_members(self, room: LiveRoom) -> None:
        """A whole state is told quickly where most of its events are here: those of the room that
        we are just entering are on their way."""
        if room.is_partial:
            await self._whole_rooms.wait(room.room_id, MEMBERS_SECONDS)


def _next_policy(events: Sequence[Event], waits_for_server: bool) -> int:
    """How many of the events come before another policy server may count, the one by which it does
    included: the current state is what says whom to ask about those after it.

    `waits_for_server`: the room names one of which nobody has joined.
    """
    for index, event in enumerate(events, start=1):
        if event.is_state and event.key == POLICY:
            return index
        if waits_for_server and event.type == MEMBER and event.membership == "join":
            return index
    return len(events)


def _prev_events(events: Sequence[Event]) -> set[str]:
    return {event_id for event in events for event_id in event.prev_events}


def _lacks(event_ids: Sequence[str], known: dict[str, KnownEvent], coming: dict[str, str]) -> bool:
    return any(
        event_id not in coming and not _is_built_on(known.get(event_id)) for event_id in event_ids
    )


def _is_unknown(event: KnownEvent | None) -> bool:
    return event is None or bool(event.flags & Flag.OUTLIER)


def _is_built_on(event: KnownEvent | None) -> bool:
    """Do we know the state after it?"""
    if event is None or _is_unknown(event):
        return False
    return event.state_group is not None or event.type == "m.room.create"
