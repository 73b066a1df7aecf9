"""We enter a room of other servers: its state, checked, becomes ours.

Rules of this file: nothing is stored before all of it was verified and judged; then one submission
stores everything. Two who enter one room at once take turns. Where the members were left out
(MSC3706), the room is entered all the same, and marked: `completion` is what follows.
server-server-api#joining-rooms
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from homeserver.errors import BadGateway, Unavailable
from homeserver.protocol.auth_rules import check_event
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.history_visibility import visibility_of
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion
from homeserver.store import events as event_store
from homeserver.store import rooms as room_store
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP, EventRow, Flag, HeadRow, KnownEvent
from homeserver.store.partial_rooms import PartialRow
from homeserver.store.rooms import MembershipRow, RoomRow
from homeserver.store.state import GroupSize, StateGroupRow
from homeserver.stream.changes import (
    EventChange,
    OutliersChange,
    PartialRoomChange,
    StateChange,
    bump_position,
)
from homeserver.stream.event_sources import CREATE, EventSource, auth_state_ids, create_id_of
from homeserver.stream.group_states import GroupState
from homeserver.stream.live_room import (
    Head,
    LiveRoom,
    State,
    changed_state,
    fresh_room,
    state_difference,
)
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.memberships import MembershipContext, membership_rows
from homeserver.stream.outliers import passes_auth_events
from homeserver.stream.receive import in_order
from homeserver.stream.redactions import Awaited, released
from homeserver.stream.short_offers import Offer, shortened
from homeserver.stream.state_groups import group_of_event, snapshot
from homeserver.stream.stored_event import StoredEvent, unplaced_row
from homeserver.stream.verify import Verifier
from homeserver.stream.writer import StreamWriter

A_SLICE = 50
MAX_OFFERED_BYTES = 128 * 1024 * 1024
"""So much of offers is kept in memory until it is dealt with; what is more is asked for again."""


class _Checked(Struct, frozen=True):
    """An offer's events: `rejected` by id; `state` are those that make up the state.

    `redacted`: for these (by id) a redaction has been waiting since an earlier stay.
    """

    join: Event
    events: Mapping[str, Event]
    rejected: frozenset[str]
    state: Mapping[StateKey, Event]
    servers: tuple[str, ...] | None
    redacted: Mapping[str, StoredEvent] = {}


class RoomEntry:
    """Takes in the rooms that we join. `offers` are those of rooms entered with a part of them."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        writer: StreamWriter,
        verifier: Verifier,
        server_name: str,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer
        self._verifier = verifier
        self._server_name = server_name
        self.offers: dict[str, Offer] = {}

    async def enter(self, server: str, room_id: str, rules: RoomVersion, offer: Offer) -> bool:
        """Make the room ours by what a server offers; the join is committed on return.

        False: another of our users came in meanwhile, so the join is an event like others.
        Raises BadGateway if the offer doesn't stand the checks.
        """
        short = await self._check_short(server, room_id, rules, offer)
        checked = short or await self._check(room_id, rules, offer)
        async with self._rooms.numbering(room_id):
            if short is not None and self._has_space_for(offer):
                self.offers[room_id] = offer
            try:
                return await self._take(room_id, rules, checked)
            finally:
                live = self._rooms.peek(room_id)
                if live is None or not live.is_partial:
                    self.offers.pop(room_id, None)

    def _has_space_for(self, offer: Offer) -> bool:
        return sum(kept.size for kept in (*self.offers.values(), offer)) <= MAX_OFFERED_BYTES

    async def _check_short(
        self, server: str, room_id: str, rules: RoomVersion, offer: Offer
    ) -> _Checked | None:
        """The offer of a big room without most of the members, if it can be judged so."""
        short = shortened(offer, server)
        if short is None:
            return None
        try:
            checked = await self._check(room_id, rules, short)
        except BadGateway:
            return None
        cited = {id_ for event in checked.events.values() for id_ in event.auth_events}
        cited.update(checked.join.auth_events)
        return checked if cited <= checked.events.keys() else None

    async def _check(self, room_id: str, rules: RoomVersion, offer: Offer) -> _Checked:
        told = (await self._verifier.verify(offer.state, rules, room_id)).events
        chain = (await self._verifier.verify(offer.auth_chain, rules, room_id)).events
        events = {event.event_id: event for event in (*chain, *told)}
        rejected = await _rejected(in_order(events.values()))
        accepted = [e for e in told if e.is_state and e.event_id not in rejected]
        if offer.servers is not None:
            accepted = [*_members_cited(offer.join, events, rejected), *accepted]
        state = {event.key: event for event in accepted}
        create = state.get(CREATE)
        if create is None or create.content.get("room_version", "1") != rules.identifier:
            raise BadGateway("The room's state has no fitting m.room.create event")
        try:
            wanted = auth_state_ids(
                offer.join, Map({key: event.event_id for key, event in state.items()})
            )
            check_event(rules, offer.join, {key: state[key] for key in wanted})
        except Rejected as rejection:
            reason = rejection.reason
            raise BadGateway(f"The room's state doesn't allow the join: {reason}") from None
        return _Checked(offer.join, events, rejected, state, offer.servers)

    async def _take(self, room_id: str, rules: RoomVersion, checked: _Checked) -> bool:
        async with self._database.connection() as connection:
            known_rooms = await room_store.by_ids(connection, [room_id])
            ids = [*checked.events, checked.join.event_id, *checked.join.prev_events]
            known = await event_store.known(connection, ids)
        if _is_placed(known.get(checked.join.event_id)):
            return True  # it came in a transaction already
        live = await self._rooms.get(room_id)
        if live is not None and live.joined_local:
            return False
        if live is not None:
            redacted = await self._redacted(live, checked.events.values())
            checked = replace(checked, redacted=redacted)
            async with live.lock:
                if live.dropped:
                    raise Unavailable("The room is being read again. Try again in a moment.")
                submitted = self._submit(live, None, known, checked)
        else:
            row = known_rooms[0] if known_rooms else None
            number = self._writer.allocate() if row is None else row.room_number
            new_room = RoomRow(number, room_id, rules.identifier) if row is None else None
            live = fresh_room(room_id, number, rules)
            submitted = self._submit(live, new_room, known, checked)
            self._rooms.add(live)
        await submitted
        return True

    async def _redacted(
        self, room: LiveRoom, events: Collection[Event]
    ) -> Mapping[str, StoredEvent]:
        async with self._database.connection() as connection:
            awaited = await Awaited.load(connection, room, [event.event_id for event in events])
            source = EventSource(self._rooms, room, connection)
            await source.load(awaited.redaction_ids())
        hits = {e.event_id: released(e, awaited.of(e), source.find).redaction for e in events}
        return {event_id: hit for event_id, hit in hits.items() if hit is not None}

    def _submit(
        self,
        room: LiveRoom,
        new_room: RoomRow | None,
        known: Mapping[str, KnownEvent],
        checked: _Checked,
    ) -> asyncio.Future[None]:
        """No await in here: numbers are given out, and submitted."""
        rows, numbers = self._outlier_rows(room, known, checked)
        changes: list[OutliersChange | EventChange | PartialRoomChange] = []
        if rows:
            changes.append(
                OutliersChange(rows[-1].number, room.room_id, tuple(rows), new_room=new_room)
            )
        join = self._join_change(room, known, numbers, checked)
        changes.append(join)
        entry = None
        if checked.servers is not None:
            before = join.state_groups[0].state_group
            entry = PartialRow(room.number, checked.join.event_id, before, checked.servers)
        if entry is not None or room.entry is not None:
            room.put_entry(entry)
            position = self._writer.allocate()
            changes.append(PartialRoomChange(position, room.room_id, room.number, entry))
        return self._writer.submit(*changes)

    def _outlier_rows(
        self, room: LiveRoom, known: Mapping[str, KnownEvent], checked: _Checked
    ) -> tuple[list[EventRow], dict[str, int]]:
        """Rows of the events that we don't have yet, and the numbers of all."""
        numbers = {event_id: one.number for event_id, one in known.items()}
        fresh = [event for event_id, event in checked.events.items() if event_id not in numbers]
        # First all numbers: an event may come before those that it cites.
        numbers.update((event.event_id, self._writer.allocate()) for event in fresh)
        rows = []
        for event in fresh:
            flags = Flag.OUTLIER
            if event.event_id in checked.rejected:
                flags |= Flag.REJECTED
            auth = [numbers[cited] for cited in event.auth_events if cited in numbers]
            number = numbers[event.event_id]
            row = unplaced_row(event, room.number, number, auth, int(flags))
            if event.event_id in checked.redacted:
                # The redaction goes on waiting: it is shown when the event gets a place.
                hit = checked.redacted[event.event_id]
                row = replace(row, redacted_by=hit.number)
            rows.append(row)
        return rows, numbers

    def _join_change(
        self,
        room: LiveRoom,
        known: Mapping[str, KnownEvent],
        numbers: Mapping[str, int],
        checked: _Checked,
    ) -> EventChange:
        join = checked.join
        before: State = Map({key: event.event_id for key, event in checked.state.items()})
        after = changed_state(before, state_difference(Map(), Map({join.key: join.event_id})))
        group_number, position = self._writer.allocate(), self._writer.allocate()
        number = known[join.event_id].number if join.event_id in known else position
        groups = self._groups(room, (group_number, number, position), before, after)
        row = _join_row(room, join, (number, position, group_number), checked, numbers)
        stored = StoredEvent(row, room.rules, join)
        replaced = checked.state.get(join.key)
        if replaced is not None:
            stored.replaces_id = replaced.event_id
        changes = state_difference(room.head.state, after)
        memberships = self._memberships(room, position, checked, changes)
        size = GroupSize(groups[1].snapshot_size, groups[1].delta_size)
        room.head = Head((join.event_id,), join.depth, after, number, size)
        room.pending[join.event_id] = stored
        room.pending_members.update((one.user_id, one) for one in memberships)
        room.auth_graph = None
        visibility = checked.state.get(("m.room.history_visibility", ""))
        missing = [id_ for id_ in join.prev_events if not _is_placed(known.get(id_))]
        return EventChange(
            position=position,
            room_id=room.room_id,
            row=row,
            stored=stored,
            head=HeadRow(
                room.number,
                (join.event_id,),
                join.depth,
                number,
                position,
                bump_position(join.type, position),
            ),
            in_timeline=True,
            state_changes=changes,
            state_groups=groups,
            memberships=memberships,
            shown_changes=(StateChange(join.key, before.get(join.key), join.event_id),),
            was_outlier=join.event_id in known,
            missing=tuple(missing),
            fills_gap=True,
            visibility_before=visibility_of(None if visibility is None else visibility.content),
        )

    def _groups(
        self, room: LiveRoom, numbers: tuple[int, int, int], before: State, after: State
    ) -> tuple[StateGroupRow, StateGroupRow]:
        """The groups before and after the join; `numbers` are theirs and the join's position."""
        group_number, number, position = numbers
        # What followers are told of the time before the join: the state that came with it.
        group, size = snapshot(group_number, room.number, before, current_from=group_number)
        self._rooms.group_states.put(group_number, before, size)
        base = GroupState(group_number, before, size)
        own, own_size = group_of_event(base, room.number, number, after, current_from=position)
        self._rooms.group_states.put(number, after, own_size)
        return group, own

    def _memberships(
        self,
        room: LiveRoom,
        position: int,
        checked: _Checked,
        changes: tuple[StateChange, ...],
    ) -> tuple[MembershipRow, ...]:
        members = {event.event_id: event for event in checked.state.values()}
        members.update((id_, members[id_].redacted()) for id_ in checked.redacted if id_ in members)
        members[checked.join.event_id] = checked.join
        if checked.servers is not None:
            # What we knew of our own users stands until we are told.
            changes = tuple(c for c in changes if c.new is not None or not self._is_ours(c.key[1]))
        context = MembershipContext(
            room.number, position, members, dict(room.head_members), self._server_name
        )
        return membership_rows(changes, context)

    def _is_ours(self, state_key: str) -> bool:
        return server_name_of(state_key) == self._server_name


def _members_cited(
    join: Event, events: Mapping[str, Event], rejected: Collection[str]
) -> Iterator[Event]:
    """The memberships that allow our join: they stood in the state before it, though left out."""
    for event_id in join.auth_events:
        event = events.get(event_id)
        if event is not None and event.type == MEMBER and event_id not in rejected:
            yield event


async def _rejected(events: Sequence[Event]) -> frozenset[str]:
    """Of all events of an offer, in order, those that their auth events don't allow."""
    judged: dict[str, Event] = {}
    rejected: set[str] = set()
    for index, event in enumerate(events):
        if index % A_SLICE == A_SLICE - 1:
            await asyncio.sleep(0)
        auth = [judged[id_] for id_ in event.auth_events if id_ in judged]
        create_id = create_id_of(event.rules, event.room_id)
        create = None if create_id is None else judged.get(create_id)
        complete = len(auth) == len(event.auth_events)
        if complete and passes_auth_events(event, auth, create):
            judged[event.event_id] = event
        else:
            judged[event.event_id] = event.as_rejected()
            rejected.add(event.event_id)
    return frozenset(rejected)


def _is_placed(event: KnownEvent | None) -> bool:
    return event is not None and not event.flags & Flag.OUTLIER


def _join_row(
    room: LiveRoom,
    join: Event,
    numbers_of_join: tuple[int, int, int],
    checked: _Checked,
    numbers: Mapping[str, int],
) -> EventRow:
    number, position, group_number = numbers_of_join
    replaced = checked.state.get(join.key)
    auth = [numbers[id_] for id_ in join.auth_events if id_ in numbers]
    return replace(
        unplaced_row(join, room.number, number, auth, Flag.RESOLVED),
        timeline_order=position * ORDER_STEP,
        state_group=group_number,
        replaces=None if replaced is None else numbers.get(replaced.event_id),
    )
