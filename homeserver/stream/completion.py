"""The whole state of a room has come that we entered with a part of it: the past is put right.

Rules of this file:
- What we lacked are members. The states since our join were snapshots of the part, and differences
  upon them: the snapshots are completed, so all states are as if we had known them all along.
- What was accepted meanwhile is judged again by the whole states, and what was not, too. If one
  event is judged otherwise, or a fork resolved otherwise, all events since the join lose their
  places and are received anew: such a thing is rare, and needs no way of its own.
- All of it happens under the room's lock, which is held until it is committed.
MSC3706, MSC3902
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from msgspec import Struct, field
from msgspec.structs import replace

from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.protocol.auth_rules import check_event
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.rejection import Rejected
from homeserver.store import events as event_store
from homeserver.store import state as state_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import ORDER_STEP, HeadRow
from homeserver.store.member_events import MemberEvent, member_events
from homeserver.store.partial_rooms import PartialRow
from homeserver.store.received_pdus import ReceivedPdu
from homeserver.store.state import CompletedGroup
from homeserver.stream.changes import CompletionChange, MembershipChange, TakenBack
from homeserver.stream.event_sources import EventSource
from homeserver.stream.group_states import group_after
from homeserver.stream.judge import LEFT_OUT, CannotJudge, Judge
from homeserver.stream.live_room import LiveRoom, State, changed_state, state_difference
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.memberships import learned_memberships
from homeserver.stream.resolve import StateResolver
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.take_in import RoomGone
from homeserver.stream.writer import StreamWriter

A_SLICE = 1000

log = structlog.get_logger(__name__)


class _Past(Struct):
    """What happened since the join, and the states (by group) as they are now known to have been.

    `snapshots` has for each group since the join the snapshot under it. `current` is the group of
    the state that the room is to have. `learned` are the member events that we learn; of a user
    who is in the state no more, the user id.
    """

    entry: PartialRow
    join: StoredEvent
    events: Sequence[StoredEvent]
    snapshots: Mapping[int, int]
    states: dict[int, State] = field(default_factory=dict)
    corrected: bool = False
    current: int = 0
    learned: Sequence[MemberEvent | str] = ()
    replaced: Sequence[tuple[StoredEvent, StoredEvent]] = ()

    def told_groups(self) -> set[int]:
        """The groups before events that follow nothing of ours: their state was told to us whole.

        It may be older than our join, so that nobody is missing who came with that.
        """
        ours = {self.join.event_id, *(stored.event_id for stored in self.events)}
        return {
            stored.state_group
            for stored in self.events
            if stored.state_group is not None and ours.isdisjoint(stored.event.prev_events)
        }

    @property
    def accepted(self) -> list[StoredEvent]:
        """Those in the timeline, in order."""
        placed = [stored for stored in self.events if stored.order is not None]
        return sorted(placed, key=lambda stored: stored.order or 0)

    @property
    def left_out(self) -> list[StoredEvent]:
        """The rejected and the soft-failed ones."""
        return [stored for stored in self.events if stored.flags & LEFT_OUT]


class Completion:
    """Puts rooms right."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        writer: StreamWriter,
        server_name: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer
        self._server_name = server_name
        self._clock = clock
        self._resolver = StateResolver(rooms)

    async def complete(
        self, room: LiveRoom, entry: PartialRow, before: State
    ) -> Sequence[ReceivedPdu]:
        """Complete a room by the whole state before our join, of which all events are stored.

        Gives the events to be received anew: they are kept in Postgres until that is done.
        Raises RoomGone if it is another room by now, Unavailable.
        """
        async with room.lock:
            await self._settle(room)
            if room.dropped or room.entry != entry or not room.joined_local:
                raise RoomGone
            async with self._database.connection() as connection:
                past = await self._past(connection, room, entry, before)
                holds = await self._holds(connection, room, past)
                past.current = room.head.state_group if holds else past.join.number
                past.learned = await self._learned(connection, room, past.states[past.current])
                past.replaced = await self._replaced(connection, past) if holds else ()
            if room.dropped:
                raise RoomGone
            taken_back = None if holds else self._taken_back(room, past)
            await self._submit(room, past, taken_back)
        return () if taken_back is None else taken_back.pdus

    async def _settle(self, room: LiveRoom) -> None:
        """Wait until all of the room is committed: nobody adds to it while we hold the lock."""
        if room.pending:
            await self._writer.settle()
        if room.pending and not room.dropped:
            raise Unavailable("The room's newest events can't be stored")

    async def _past(
        self, connection: Connection, room: LiveRoom, entry: PartialRow, before: State
    ) -> _Past:
        found = await self._rooms.events.get_many(
            connection, [entry.join_event_id], self._rooms.rules_of
        )
        join = found[entry.join_event_id]
        assert join.order is not None
        position = join.order // ORDER_STEP
        rows = await event_store.placed_since(connection, room.number, position)
        events = await self._rooms.events.adopt(connection, rows, self._rooms.rules_of)
        first = (entry.state_group, join.number)
        snapshots = await state_store.of_room_from(connection, room.number, first)
        past = _Past(entry, join, events, snapshots)
        await self._complete_states(connection, past, before)
        return past

    async def _complete_states(self, connection: Connection, past: _Past, before: State) -> None:
        """Find out how the states of groups are, and whether what we had was not all true."""
        loaded = await self._rooms.group_states.get_many(connection, past.snapshots)
        partial = loaded[past.entry.state_group].state
        wrong = {
            key: event_id
            for key, event_id in partial.items()
            if key[0] == MEMBER and before.get(key) != event_id
        }
        past.corrected = bool(wrong)
        whole = {number: loaded[number].state for number in set(past.snapshots.values())}
        for number in whole.keys() - past.told_groups():
            whole[number] = _completed(whole[number], partial, before, wrong)
        past.states = {
            group: changed_state(
                whole[snapshot], state_difference(loaded[snapshot].state, loaded[group].state)
            )
            for group, snapshot in past.snapshots.items()
        }

    async def _holds(self, connection: Connection, room: LiveRoom, past: _Past) -> bool:
        """Does all that was accepted stand by the whole states, and was each fork resolved so?"""
        source = EventSource(self._rooms, room, connection)
        for stored in past.accepted:
            before = past.states.get(stored.state_group or 0)
            if before is None:
                continue  # it stands on what we had of an earlier stay
            auth = await source.auth_state(stored.event, before)
            try:
                check_event(stored.rules, stored.event, auth)
            except Rejected as rejected:
                log.info("taken back", event_id=stored.event_id, reason=rejected.reason)
                return False
            prev_events = stored.event.prev_events
            if not await self._resolves(connection, room, past, prev_events, before):
                return False
        head = past.states.get(room.head.state_group)
        if head is None:
            return False  # what we had of an earlier stay got mixed in
        if not await self._are_left_out(
            Judge(room, source, connection, self._resolver, self._rooms.group_states, {}),
            past,
            head,
        ):
            return False
        return await self._resolves(connection, room, past, room.head.forward_extremities, head)

    async def _are_left_out(self, judge: Judge, past: _Past, current: State) -> bool:
        """Was everything left out rightly? By "the current state of the room" (check 6) we take
        what it is now, for what it was at each event's arrival nobody wrote down."""
        judge.believes_cited = False
        for stored in past.left_out:
            before = past.states.get(stored.state_group or 0)
            try:
                flags = None if before is None else await judge.flags(stored.event, before, current)
            except CannotJudge:
                continue
            if flags is not None and flags != stored.flags & LEFT_OUT:
                log.info("judged anew", event_id=stored.event_id)
                return False
        return True

    async def _resolves(
        self,
        connection: Connection,
        room: LiveRoom,
        past: _Past,
        event_ids: Sequence[str],
        expected: State,
    ) -> bool:
        """Is the state after these events what it was taken for?"""
        if len(event_ids) < 2:
            return True
        found = await self._rooms.events.get_many(connection, event_ids, self._rooms.rules_of)
        states = []
        for event_id in event_ids:
            group = group_after(found[event_id]) if event_id in found else None
            if group is None or group not in past.states:
                return True  # its state was told to us whole
            states.append(past.states[group])
        resolved = await self._resolver.resolve(connection, room, states)
        return resolved is expected or resolved == expected

    def _taken_back(self, room: LiveRoom, past: _Past) -> TakenBack:
        join, now = past.join, self._clock()
        kept = (past.entry.state_group, join.number)
        events = sorted(past.events, key=lambda stored: stored.event.depth)
        return TakenBack(
            events=tuple(events),
            groups=tuple(group for group in past.snapshots if group not in kept),
            head=HeadRow(
                room.number, (join.event_id,), join.event.depth, join.number, room.last_position
            ),
            pdus=tuple(
                ReceivedPdu(s.event_id, room.room_id, server_name_of(s.sender), s.json, now + index)
                for index, s in enumerate(events)
            ),
        )

    async def _learned(
        self, connection: Connection, room: LiveRoom, state: State
    ) -> Sequence[MemberEvent | str]:
        changes = [c for c in state_difference(room.state, state) if c.key[0] == MEMBER]
        ids = [change.new for change in changes if change.new is not None]
        found: list[MemberEvent | str] = []
        for start in range(0, len(ids), A_SLICE):
            found += await member_events(connection, ids[start : start + A_SLICE])
        found += [change.key[1] for change in changes if change.new is None]
        return found

    async def _replaced(
        self, connection: Connection, past: _Past
    ) -> Sequence[tuple[StoredEvent, StoredEvent]]:
        """The member events that replaced one that we didn't know."""
        whole = past.states[past.entry.state_group]
        first: dict[tuple[str, str], StoredEvent] = {}
        for stored in (past.join, *past.accepted):
            if stored.type == MEMBER and stored.state_key is not None and not stored.replaces:
                first.setdefault(stored.event.key, stored)
        wanted = {key: whole[key] for key in first if key in whole}
        found = await self._rooms.events.get_many(connection, wanted.values(), self._rooms.rules_of)
        return [(first[key], found[old]) for key, old in wanted.items() if old in found]

    def _submit(
        self, room: LiveRoom, past: _Past, taken_back: TakenBack | None
    ) -> asyncio.Future[None]:
        """No await in here: positions are given out."""
        position = self._writer.allocate()
        memberships = learned_memberships(room, past.learned, position, self._server_name)
        changes: list[MembershipChange | CompletionChange] = [
            MembershipChange(position, room.room_id, row) for row in memberships if row.is_local
        ]
        row = replace(
            past.entry,
            servers=(),
            complete_from=position,
            corrected=past.corrected or taken_back is not None,
        )
        size = len(past.states[past.snapshots[past.current]])
        completion = CompletionChange(
            position=position,
            room_id=room.room_id,
            row=row,
            before=past.states[past.entry.state_group],
            state=past.states[past.current],
            size=replace(room.head.size, snapshot_size=size),
            groups=_groups(past),
            memberships=tuple(row for row in memberships if not row.is_local),
            concerned=tuple(room.joined_local),
            replaced=tuple(past.replaced),
            taken_back=taken_back,
        )
        return self._writer.submit(*changes, completion)


def _completed(
    state: State, partial: State, before: State, wrong: Mapping[tuple[str, str], str]
) -> State:
    """A state that was built on a part of what was before it, built on the whole."""
    with state.mutate() as mutation:
        for key, event_id in before.items():
            if key[0] == MEMBER and key not in partial and key not in state:
                mutation[key] = event_id
        for key, event_id in wrong.items():
            if state.get(key) != event_id:
                continue
            told = before.get(key)
            if told is None:
                del mutation[key]
            else:
                mutation[key] = told
        completed: State = mutation.finish()
    return completed


def _groups(past: _Past) -> tuple[CompletedGroup, ...]:
    upon: dict[int, list[int]] = {}
    for group, snapshot in past.snapshots.items():
        upon.setdefault(snapshot, []).append(group)
    return tuple(
        CompletedGroup(snapshot, tuple(past.states[snapshot].values()), tuple(groups))
        for snapshot, groups in upon.items()
    )
