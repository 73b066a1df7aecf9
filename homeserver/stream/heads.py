"""An event is put on its room's head: what is to be written, and what the next event builds on."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.store.events import ORDER_STEP, EventRow, HeadRow
from homeserver.store.state import StateKey
from homeserver.stream.changes import EventChange, StateChange, bump_position
from homeserver.stream.drafts import DraftEvents, Transaction
from homeserver.stream.live_room import Head, LiveRoom, changed_state
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.memberships import MembershipContext, membership_rows
from homeserver.stream.push_evaluator import PushEvaluator
from homeserver.stream.state_groups import next_group
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.stripped_state import STRIPPED_KEYS, stripped_state


class Heads:
    """Moves the heads of rooms by events of local users."""

    def __init__(self, rooms: LiveRooms, drafts: DraftEvents, push: PushEvaluator) -> None:
        self._rooms = rooms
        self._drafts = drafts
        self._push = push

    def advance(
        self,
        room: LiveRoom,
        event: Event,
        number: int,
        auth: dict[StateKey, StoredEvent],
        transaction: Transaction | None,
        redacts: str | None,
    ) -> EventChange:
        """Put the event on the room's head and say what is to be written."""
        before = room.head
        replaced = self._replaced(room, event)
        row = self._row(room, event, number, auth, replaced)
        if transaction is not None:
            device_id, transaction_id = transaction.device_id, transaction.transaction_id
            row = replace(row, device_id=device_id, transaction_id=transaction_id)
        stored = StoredEvent(row, room.rules, event)
        stored.has_children = False
        if replaced is not None:
            stored.replace(replaced)
        room.pending[event.event_id] = stored
        room.note_in_graph(event)
        head = replace(
            before,
            forward_extremities=_extremities(before, event),
            depth=max(before.depth, event.depth),
        )
        change = EventChange(
            position=number,
            room_id=room.room_id,
            row=row,
            stored=stored,
            head=None,
            in_timeline=True,
            redacts=redacts,
        )
        if event.state_key is not None:
            head, change = self._with_state(room, head, change, event, replaced)
        room.head = head
        return replace(
            change,
            head=HeadRow(
                room.number,
                head.forward_extremities,
                head.depth,
                head.state_group,
                number,
                bump_position(event.type, number),
            ),
        )

    def _replaced(self, room: LiveRoom, event: Event) -> StoredEvent | None:
        if event.state_key is None:
            return None
        event_id = room.head.state.get((event.type, event.state_key))
        return None if event_id is None else self._drafts.find(room, event_id)

    def _row(
        self,
        room: LiveRoom,
        event: Event,
        number: int,
        auth: dict[StateKey, StoredEvent],
        replaced: StoredEvent | None,
    ) -> EventRow:
        judged = self._push.judge(room, event, partial(self._drafts.find, room))
        return EventRow(
            number=number,
            room_number=room.number,
            timeline_order=number * ORDER_STEP,
            event_id=event.event_id,
            type=event.type,
            state_key=event.state_key,
            sender=event.sender,
            origin_server_ts=event.origin_server_ts,
            state_group=room.head.state_group or None,
            replaces=None if replaced is None else replaced.number,
            auth_events=tuple(stored.number for stored in auth.values()),
            flags=0,
            redacted_by=None,
            json=event.json,
            thread_root=judged.thread_root,
            push=judged.outcomes,
        )

    def _with_state(
        self,
        room: LiveRoom,
        head: Head,
        change: EventChange,
        event: Event,
        replaced: StoredEvent | None,
    ) -> tuple[Head, EventChange]:
        old = None if replaced is None else replaced.event_id
        state_change = StateChange(event.key, old, event.event_id)
        state = changed_state(head.state, (state_change,))
        group, size = next_group(head, room.number, change.position, state)
        memberships = membership_rows(
            (state_change,),
            MembershipContext(
                room.number,
                change.position,
                {event.event_id: event},
                room.head_members,
                self._drafts.signer.server_name,
                self._stripped(room, event) if event.type == MEMBER else None,
            ),
        )
        for member in memberships:
            room.pending_members[member.user_id] = member
        self._rooms.group_states.put(group.state_group, state, size)
        head = replace(head, state=state, state_group=group.state_group, size=size)
        return head, replace(
            change,
            state_changes=(state_change,),
            state_groups=(group,),
            memberships=memberships,
        )

    def _stripped(self, room: LiveRoom, event: Event) -> bytes | None:
        if event.membership not in ("invite", "knock"):
            return None
        wanted = (*STRIPPED_KEYS, (MEMBER, event.sender))
        ids = (room.head.state.get(key) for key in wanted)
        found = [self._drafts.find(room, event_id) for event_id in ids if event_id is not None]
        return stripped_state([*(s.event for s in found if s is not None), event])


def _extremities(before: Head, event: Event) -> tuple[str, ...]:
    """The event, and what it doesn't refer to because it may not refer to more."""
    if len(before.forward_extremities) <= len(event.prev_events):
        return (event.event_id,)
    left = (id_ for id_ in before.forward_extremities if id_ not in event.prev_events)
    return (*left, event.event_id)
