"""One room in memory: the head that the next event builds on, and what followers may see of it.

Rules of this file:
- `head` runs ahead: it has events that are not committed yet. Only `send` and `receive` look.
- everything else (`state`, `members`, `timeline`) is what is published, changed only in `apply`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import ChainMap, Counter, OrderedDict
from collections.abc import Mapping, Sequence

from immutables import Map
from msgspec import Struct, field
from msgspec.structs import replace

from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.push_evaluation import RoomReaders
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.state_resolution import AuthGraph
from homeserver.store.events import LOWEST_ORDER, ORDER_STEP
from homeserver.store.partial_rooms import PartialRow
from homeserver.store.receipts import ReceiptRow
from homeserver.store.rooms import MembershipRow
from homeserver.store.state import GroupSize, StateKey
from homeserver.store.waiting_redactions import WaitingRedaction
from homeserver.stream.changes import CompletionChange, EventChange, StateChange
from homeserver.stream.room_unread import READ_TYPES, Reads, UserUnread
from homeserver.stream.state_lineage import LINEAGE
from homeserver.stream.stored_event import StoredEvent

State = Map[StateKey, str]
BEYOND = 2**63
ReceiptKey = tuple[str, str, str]
"""User, receipt type, thread."""


class Head(Struct, frozen=True):
    """What the next event of the room builds on. `state` is resolved over the extremities."""

    forward_extremities: tuple[str, ...]
    depth: int
    state: State
    state_group: int
    size: GroupSize


class TimelineEntry(Struct, frozen=True):
    """An event of the timeline and what it changed in the room's current state."""

    order: int
    stored: StoredEvent
    state_changes: tuple[StateChange, ...]


class LiveRoom(Struct, eq=False):
    """A room held in memory. `timeline_floor`: every event of a higher order is in `timeline`.

    `history_from`: below this order is what we had before we joined anew (or fetched since), or
    before an event whose prev_events we lack: no timeline that is told at a stretch goes further
    back. It is `LOWEST_ORDER` in a room in which nothing was ever missing. `entry`: what came of it
    that we entered with a part of the room's state, if we did. As long as we have no more
    (`is_partial`), most of the members are missing, and `joined_servers` has the servers that we
    were told of. `awaits_targets`: redactions wait here for events that we lack;
    `waiting_redactions` are those of them, by id, that aren't committed yet.

    `entered_at`: the order of the join with which we entered it (the last time), the lowest in
    rooms of our own. `missing`: what we lack and know of, with the order of the (lowest) event that
    refers to it.
    """

    room_id: str
    number: int
    rules: RoomVersion
    head: Head
    state: State
    members: dict[str, MembershipRow]
    timeline: list[TimelineEntry]
    timeline_floor: int
    last_position: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pending: dict[str, StoredEvent] = field(default_factory=dict)
    pending_members: dict[str, MembershipRow] = field(default_factory=dict)
    needed: dict[str, StoredEvent] = field(default_factory=dict)
    dropped: bool = False
    joined_local: set[str] = field(default_factory=set)
    joined_servers: Counter[str] = field(default_factory=Counter)
    joined_count: int = 0
    invited_count: int = 0
    windows: dict[object, object] = field(default_factory=dict)
    typing: tuple[str, ...] = ()
    typing_position: int = 0
    receipts: OrderedDict[ReceiptKey, ReceiptRow] | None = None
    auth_graph: AuthGraph | None = None
    awaits_targets: bool = False
    waiting_redactions: dict[str, WaitingRedaction] = field(default_factory=dict)
    history_from: int = LOWEST_ORDER
    entered_at: int = LOWEST_ORDER
    missing: dict[str, int] = field(default_factory=dict)
    receipts_loaded: bool = False
    reads: dict[str, Reads] = field(default_factory=dict)
    readers: RoomReaders | None = None
    unsure_readers: set[str] = field(default_factory=set)
    unread: dict[str, UserUnread] = field(default_factory=dict)
    entry: PartialRow | None = None

    def __post_init__(self) -> None:
        for row in self.members.values():
            self._count(row, 1)
        self._count_servers(1)

    @property
    def is_partial(self) -> bool:
        """Are members missing that are yet to be fetched?"""
        return self.entry is not None and self.entry.complete_from is None

    @property
    def complete_from(self) -> int:
        """The stream position from which we have the whole state; beyond all: not yet."""
        if self.entry is None:
            return 0
        return BEYOND if self.entry.complete_from is None else self.entry.complete_from

    @property
    def corrected_from(self) -> int:
        """The stream position up to which clients were told what was not all true; 0 mostly."""
        return self.complete_from if self.entry is not None and self.entry.corrected else 0

    def put_entry(self, entry: PartialRow | None) -> None:
        """We entered with a part of the room's state, or anew with everything (None)."""
        self._count_servers(-1)
        self.entry = entry
        self._count_servers(1)

    @property
    def head_members(self) -> Mapping[str, MembershipRow]:
        """The memberships as the head has them."""
        return ChainMap(self.pending_members, self.members)

    def membership_of(self, user_id: str) -> str:
        """A user's current membership, `leave` if they never were in the room."""
        row = self.members.get(user_id)
        return "leave" if row is None else row.membership

    def entries_after(self, order: int) -> list[TimelineEntry]:
        """The timeline entries above an order that is not below `timeline_floor`."""
        timeline = self.timeline
        if not timeline or timeline[-1].order <= order:
            return []
        if len(timeline) > 1 and timeline[-2].order <= order:
            return timeline[-1:]  # who follows the room has seen all but the newest
        return timeline[bisect_right(timeline, order, key=_order) :]

    def state_before(self, entries: Sequence[TimelineEntry]) -> State:
        """The current state as it was before the first of the entries that end the timeline."""
        changes = [change for entry in entries for change in entry.state_changes]
        if not changes:
            return self.state
        with self.state.mutate() as state:
            for change in reversed(changes):
                if change.old is not None:
                    state[change.key] = change.old
                elif change.key in state:
                    del state[change.key]
            before: State = state.finish()
        return before

    def apply(self, change: EventChange, timeline_length: int) -> None:
        """Take in a committed event."""
        self.pending.pop(change.stored.event_id, None)
        self.waiting_redactions.pop(change.stored.event_id, None)
        self.windows.clear()
        if change.state_changes:
            self.state = changed_state(self.state, change.state_changes)
        for row in change.memberships:
            self.put_member(row)
            if self.pending_members.get(row.user_id) is row:
                del self.pending_members[row.user_id]
        self._note_missing(change)
        if change.row.timeline_order is not None:
            shown = change.state_changes
            if change.shown_changes is not None:
                shown = change.shown_changes
                self.entered_at = change.row.timeline_order
            if change.shown_changes is not None or (change.missing and change.in_timeline):
                # Our history begins (again) here: what is older does not lead up to it.
                self.timeline.clear()
                self.history_from = change.row.timeline_order - 1
                self.timeline_floor = max(self.timeline_floor, self.history_from)
            entry = TimelineEntry(change.row.timeline_order, change.stored, shown)
            self._append(entry, timeline_length)

    def complete(self, change: CompletionChange) -> None:
        """Take in the whole state: it is as if we had known it all along."""
        self.windows.clear()
        self.auth_graph = None
        self.put_entry(change.row)
        self.state = change.state
        self.head = replace(self.head, state=change.state, size=change.size)
        for row in change.memberships:
            self.put_member(row)
        for stored, old in change.replaced:
            stored.replaces = old.number
            stored.replace(old)
        for index, entry in enumerate(self.timeline):
            if any(c.old is None and c.key in change.before for c in entry.state_changes):
                changes = _known_before(entry.state_changes, change.before)
                self.timeline[index] = replace(entry, state_changes=changes)

    def _note_missing(self, change: EventChange) -> None:
        self.missing.pop(change.stored.event_id, None)
        order = change.row.timeline_order or change.gap_order
        if order is not None:
            for event_id in change.missing:
                self.missing[event_id] = min(order, self.missing.get(event_id, order))

    def note_in_graph(self, event: Event) -> None:
        """An event is part of the room from now on: if it is state, it may stand against others."""
        if self.auth_graph is not None and event.is_state:
            self.auth_graph.add(event.event_id, event.key, event.auth_events)

    def put_member(self, row: MembershipRow) -> None:
        """Set a user's current membership, unless a newer one is known."""
        before = self.members.get(row.user_id)
        if before is not None and before.position > row.position:
            return
        if before is not None:
            self._count(before, -1)
        if before is None or before.joined_from != row.joined_from:
            self.unread.pop(row.user_id, None)
        self.members[row.user_id] = row
        self._count(row, 1)

    def put_receipt(self, row: ReceiptRow) -> None:
        """Take in a receipt, if the receipts were loaded; the newest is last."""
        if self.receipts is not None:
            key = (row.user_id, row.receipt_type, row.thread_id)
            self.receipts[key] = row
            self.receipts.move_to_end(key)
            self.note_read(row)

    def note_read(self, row: ReceiptRow) -> None:
        """Take in what a receipt of a local member says about what they have read."""
        if row.receipt_type not in READ_TYPES or row.user_id not in self.joined_local:
            return
        self.reads.setdefault(row.user_id, Reads()).put(row)
        unread = self.unread.get(row.user_id)
        if unread is not None:
            unread.stale = True
            unread.changed_at = row.position

    @property
    def newest_receipt(self) -> int:
        """The position of the newest receipt; beyond all positions if they were not loaded."""
        if not self.receipts_loaded or self.receipts is None:
            return BEYOND
        return next(reversed(self.receipts.values())).position if self.receipts else 0

    def receipts_since(self, position: int) -> list[ReceiptRow]:
        """Receipts that changed after a position; they must have been loaded."""
        changed: list[ReceiptRow] = []
        for row in reversed((self.receipts or {}).values()):
            if row.position <= position:
                break
            changed.append(row)
        return changed[::-1]

    def redacted(self, target: StoredEvent | None, position: int) -> None:
        """An event was redacted: what shows its old content is encoded anew, nobody counts it.

        `target` is None if it isn't in memory.
        """
        self.windows.clear()
        order = LOWEST_ORDER if target is None or target.order is None else target.order
        for unread in self.unread.values():
            unread.stale = True
            unread.changed_at = position
            if order <= unread.floor:
                unread.deep = None
        if target is None:
            return
        for entry in self.timeline:
            if entry.stored.replaces == target.number:
                entry.stored.replace(target)

    def _append(self, entry: TimelineEntry, timeline_length: int) -> None:
        if self.timeline and entry.order < self.timeline[-1].order:
            # History that came later: what is below the entries we hold is no longer all here.
            self.timeline_floor = max(self.timeline_floor, self.timeline[0].order - 1)
            if entry.order > self.timeline_floor:
                self.timeline_floor = entry.order
                del self.timeline[: bisect_right(self.timeline, entry.order, key=_order)]
            return
        self.timeline.append(entry)
        self.last_position = max(self.last_position, entry.order // ORDER_STEP)
        if len(self.timeline) > 2 * timeline_length:
            self.timeline_floor = self.timeline[-timeline_length - 1].order
            del self.timeline[:-timeline_length]

    def _count_servers(self, step: int) -> None:
        """The servers that we were told of are in the room, whoever is in it there."""
        for name in self.entry.servers if self.entry is not None and self.is_partial else ():
            self.joined_servers[name] += step
            if not self.joined_servers[name]:
                del self.joined_servers[name]

    def _count(self, row: MembershipRow, step: int) -> None:
        if row.membership == "join":
            self.joined_count += step
            server_name = server_name_of(row.user_id)
            self.joined_servers[server_name] += step
            if not self.joined_servers[server_name]:
                del self.joined_servers[server_name]
            if row.is_local and step > 0:
                self.joined_local.add(row.user_id)
            else:
                self.joined_local.discard(row.user_id)
        elif row.membership == "invite":
            self.invited_count += step


def _order(entry: TimelineEntry) -> int:
    return entry.order


def has_read_unthreaded(room: LiveRoom, user_id: str, receipt_type: str, event_id: str) -> bool:
    """Whether a user's unthreaded receipt for an event stands: one for a thread would say less of
    the same event, and clients would take it for all there is (MSC4102).

    The room's receipts must have been loaded.
    """
    receipts = room.receipts
    standing = None if receipts is None else receipts.get((user_id, receipt_type, ""))
    return standing is not None and standing.event_id == event_id


def fresh_room(room_id: str, number: int, rules: RoomVersion) -> LiveRoom:
    """A room whose first events are just being taken in."""
    return LiveRoom(
        room_id=room_id,
        number=number,
        rules=rules,
        head=Head((), 0, Map(), 0, GroupSize(0, 0)),
        state=Map(),
        members={},
        timeline=[],
        timeline_floor=EVERYTHING_IN_MEMORY,
        last_position=0,
    )


def _known_before(changes: Sequence[StateChange], before: State) -> tuple[StateChange, ...]:
    """Changes of a state of which more is known now: what stood there before, and what is none."""
    known = (c if c.old is not None else replace(c, old=before.get(c.key)) for c in changes)
    return tuple(change for change in known if change.old != change.new)


def changed_state(state: State, changes: Sequence[StateChange]) -> State:
    """The state after these changes; cheap, and the old one stays as it is."""
    with state.mutate() as mutation:
        for change in changes:
            if change.new is not None:
                mutation[change.key] = change.new
            elif change.key in mutation:
                del mutation[change.key]
        after: State = mutation.finish()
    LINEAGE.note(after, state, [change.key for change in changes])
    return after


def state_difference(old: State, new: State) -> tuple[StateChange, ...]:
    """What changed between two states."""
    differing = LINEAGE.differing(old, new)
    return tuple(StateChange(key, old.get(key), new.get(key)) for key in differing)


EVERYTHING_IN_MEMORY = LOWEST_ORDER
