"""A judged event becomes part of the room: its row, its state groups, the room's new head.

Rules of this file: between giving the event its number and submitting it there is no `await`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.store.events import ORDER_STEP, EventRow, Flag, HeadRow
from homeserver.store.rooms import MembershipRow
from homeserver.store.state import StateGroupRow
from homeserver.store.waiting_redactions import WaitingRedaction
from homeserver.stream.changes import EventChange, StateChange, bump_position
from homeserver.stream.event_sources import EventSource
from homeserver.stream.group_states import GroupState
from homeserver.stream.judge import Judged
from homeserver.stream.live_room import Head, LiveRoom, state_difference
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.memberships import MembershipContext, membership_rows
from homeserver.stream.push_evaluator import PushJudgement
from homeserver.stream.redactions import NOTHING, live_placings, released, waiting
from homeserver.stream.state_groups import alias, group_of_event, resolved_group
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.stripped_state import STRIPPED_KEYS, stripped_state
from homeserver.stream.writer import StreamWriter


class RoomGone(Exception):
    """The room was dropped from memory meanwhile: get it again."""


class Intake:
    """Takes events into one room, whose lock the caller holds."""

    def __init__(
        self,
        room: LiveRoom,
        source: EventSource,
        rooms: LiveRooms,
        writer: StreamWriter,
        server_name: str,
    ) -> None:
        self._room = room
        self._source = source
        self._rooms = rooms
        self._writer = writer
        self._server_name = server_name

    async def take_in(
        self,
        judged: Judged,
        outlier: StoredEvent | None,
        push: PushJudgement,
        awaiting: Sequence[WaitingRedaction],
    ) -> asyncio.Future[None]:
        """Submit the event; `outlier` is what we have of it already. The future: committed.

        `push` is kept with the event if it gets a place in the timeline. `awaiting` are the
        redactions that wait for it; they are in memory. Raises RoomGone.
        """
        changes = self._state_changes(judged)
        members = await self._load_members(judged, changes)
        if self._room.dropped:  # meanwhile: its head rests on what was never committed
            raise RoomGone
        building = _Building(self, judged, outlier, changes)
        if not judged.flags & Flag.REJECTED:
            building.released = released(judged.event, awaiting, self._source.find)
        if judged.is_shown and building.released.redaction is None:
            building.push = push
        return building.submit(members)

    def _state_changes(self, judged: Judged) -> tuple[StateChange, ...]:
        head = self._room.head
        if not judged.is_accepted or judged.current is head.state:
            return ()
        event = judged.event
        if judged.current is judged.after and judged.before.state is head.state:
            return (StateChange(event.key, head.state.get(event.key), event.event_id),)
        return state_difference(head.state, judged.current)

    async def _load_members(
        self, judged: Judged, changes: tuple[StateChange, ...]
    ) -> dict[str, Event]:
        """The member events that the changes bring, and what stripped state is made of."""
        ids = {c.new for c in changes if c.key[0] == MEMBER and c.new is not None}
        ids.discard(judged.event.event_id)
        wanted = [*ids, *(change.old for change in changes if change.old is not None)]
        if ids or judged.event.type == MEMBER:
            keys = (*STRIPPED_KEYS, (MEMBER, judged.event.sender))
            wanted += [e for e in map(judged.current.get, keys) if e is not None]
        await self._source.load(e for e in wanted if e != judged.event.event_id)
        found = {judged.event.event_id: judged.event}
        for event_id in ids:
            stored = self._source.find(event_id)
            if stored is not None:
                found[event_id] = stored.event
        return found


class _Building:
    """One event on its way in. No await in here."""

    def __init__(
        self,
        intake: Intake,
        judged: Judged,
        outlier: StoredEvent | None,
        changes: tuple[StateChange, ...],
    ) -> None:
        self._room = intake._room
        self._source = intake._source
        self._rooms = intake._rooms
        self._writer = intake._writer
        self._server_name = intake._server_name
        self._judged = judged
        self._outlier = outlier
        self._changes = changes
        self._groups: list[StateGroupRow] = []
        self.push = PushJudgement()
        self.released = NOTHING

    def submit(self, members: dict[str, Event]) -> asyncio.Future[None]:
        judged, room = self._judged, self._room
        event = judged.event
        before = self._before_group()
        current_number = self._writer.allocate() if self._needs_resolved_group() else None
        position = self._writer.allocate()
        number = position if self._outlier is None else self._outlier.number
        after = self._after_group(before, number, position)
        head = self._next_head(before, after, current_number, position)
        stored = self._stored(number, position, before.state_group)
        memberships = self._memberships(members, position)
        change = EventChange(
            position=position,
            room_id=room.room_id,
            row=self._row(number, position, before.state_group),
            stored=stored,
            head=self._head_row(head, position),
            in_timeline=judged.is_shown,
            state_changes=self._changes,
            state_groups=tuple(self._groups),
            memberships=memberships,
            redacts=None if judged.effect is None else judged.effect.target,
            was_outlier=self._outlier is not None,
            missing=judged.missing,
            fills_gap=set(event.prev_events) != set(room.head.forward_extremities),
            gap_order=position * ORDER_STEP if judged.is_accepted else None,
            waits=waiting(room, event, judged.effect, number, position * ORDER_STEP),
            awaited_by=self.released.done if judged.is_shown else (),
        )
        room.pending[event.event_id] = stored
        self._source.hold(stored)
        for row in memberships:
            room.pending_members[row.user_id] = row
        room.note_in_graph(event)
        room.head = head
        more = live_placings(room, self.released, self._writer) if judged.is_shown else []
        return self._writer.submit(change, *more)

    def _before_group(self) -> GroupState:
        """The group of the state before the event; a new one if no group holds it yet."""
        before = self._judged.before
        if before.group is not None:
            return before.base
        number = self._writer.allocate()
        row, size = resolved_group(
            before.base, self._room.number, number, before.state, current_from=None
        )
        self._groups.append(row)
        self._rooms.group_states.put(number, before.state, size)
        return GroupState(number, before.state, size)

    def _needs_resolved_group(self) -> bool:
        """Whether the room's current state becomes one that no group holds otherwise."""
        judged = self._judged
        return bool(self._changes) and not (
            judged.event.is_state and judged.current is judged.after
        )

    def _after_group(self, before: GroupState, number: int, position: int) -> GroupState:
        """The group after the event: a state event's own, unless it was rejected."""
        judged = self._judged
        if not judged.event.is_state or judged.flags & Flag.REJECTED:
            return before
        is_current = bool(self._changes) and judged.current is judged.after
        row, size = group_of_event(
            before,
            self._room.number,
            number,
            judged.after,
            current_from=position if is_current else None,
        )
        self._groups.append(row)
        self._rooms.group_states.put(number, judged.after, size)
        return GroupState(number, judged.after, size)

    def _next_head(
        self, before: GroupState, after: GroupState, current_number: int | None, position: int
    ) -> Head:
        judged, head = self._judged, self._room.head
        if not judged.is_accepted:
            return head
        depth = max(head.depth, judged.event.depth)
        new = replace(head, forward_extremities=judged.extremities, depth=depth)
        if not self._changes:
            return new
        if current_number is None:
            return replace(new, state=after.state, state_group=after.state_group, size=after.size)
        if judged.current is before.state:
            row = alias(
                current_number, self._room.number, before.state_group, before.size, position
            )
            size = before.size
        else:
            row, size = resolved_group(
                after, self._room.number, current_number, judged.current, current_from=position
            )
        self._groups.append(row)
        self._rooms.group_states.put(current_number, judged.current, size)
        return replace(new, state=judged.current, state_group=current_number, size=size)

    def _head_row(self, head: Head, position: int) -> HeadRow | None:
        if not self._judged.is_accepted:
            return None
        return HeadRow(
            self._room.number,
            head.forward_extremities,
            head.depth,
            head.state_group,
            position,
            bump_position(self._judged.event.type, position),
        )

    def _row(self, number: int, position: int, before_group: int) -> EventRow:
        judged = self._judged
        event = judged.event
        replaced = self._replaced()
        return EventRow(
            number=number,
            room_number=self._room.number,
            timeline_order=position * ORDER_STEP if judged.is_shown else None,
            event_id=event.event_id,
            type=event.type,
            state_key=event.state_key,
            sender=event.sender,
            origin_server_ts=event.origin_server_ts,
            state_group=before_group,
            replaces=None if replaced is None else replaced.number,
            auth_events=judged.auth,
            flags=int(judged.flags | self._resolved_flag()),
            redacted_by=None if self._redaction is None else self._redaction.number,
            json=event.json,
            thread_root=self.push.thread_root,
            push=self.push.outcomes,
        )

    def _stored(self, number: int, position: int, before_group: int) -> StoredEvent:
        event = self._judged.event
        if self._judged.flags & Flag.REJECTED:
            event = event.as_rejected()
        stored = StoredEvent(self._row(number, position, before_group), self._room.rules, event)
        replaced = self._replaced()
        if replaced is not None:
            stored.replace(replaced)
        stored.redaction = self._redaction
        return stored

    @property
    def _redaction(self) -> StoredEvent | None:
        """By which the event is redacted from the start."""
        known = None if self._outlier is None else self._outlier.redaction
        return known or self.released.redaction

    def _replaced(self) -> StoredEvent | None:
        """The state event whose place in the room's current state the event takes."""
        event = self._judged.event
        for change in self._changes:
            if change.new == event.event_id and change.old is not None:
                return self._source.find(change.old)
        return None

    def _resolved_flag(self) -> int:
        """Whether the current state changes otherwise than by this event's own key."""
        event = self._judged.event
        if not self._judged.is_accepted:
            return 0
        own = [event.event_id] if event.is_state else []
        return 0 if [change.new for change in self._changes] == own else Flag.RESOLVED

    def _memberships(self, members: dict[str, Event], position: int) -> tuple[MembershipRow, ...]:
        context = MembershipContext(
            self._room.number,
            position,
            members,
            self._room.head_members,
            self._server_name,
            self._stripped(members),
        )
        return membership_rows(self._changes, context)

    def _stripped(self, members: dict[str, Event]) -> bytes | None:
        event = self._judged.event
        if event.type != MEMBER or event.membership not in ("invite", "knock"):
            return None
        keys = (*STRIPPED_KEYS, (MEMBER, event.sender))
        ids = [id_ for id_ in map(self._judged.current.get, keys) if id_ is not None]
        found = [self._source.find(id_) for id_ in ids]
        return stripped_state([*(s.event for s in found if s is not None), event])
