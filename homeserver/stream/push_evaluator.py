"""What an event does for the local members of its room, decided once, before it is committed.

Rules of this file: `prepare` may read, `judge` doesn't wait; the readers of a live room are kept
current by what the writer publishes, and read again where that takes a query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import PowerLevels, power_levels_of
from homeserver.protocol.push_conditions import PushFacts, RoomFacts
from homeserver.protocol.push_evaluation import NOTHING, Outcome, RoomReaders, evaluate_user
from homeserver.protocol.push_outcomes import NO_PUSH, PushOutcomes, outcomes_of_room
from homeserver.protocol.push_rules import UNCHANGED
from homeserver.protocol.relations import THREAD, relation_of
from homeserver.protocol.room_versions import DEFAULT_ROOM_VERSION, ROOM_VERSIONS
from homeserver.store.database import Connection
from homeserver.store.rooms import MembershipRow
from homeserver.store.state import StateKey
from homeserver.stream.changes import AccountDataChange, Change, EventChange, MembershipChange
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.push_rules import LivePushRules, decides_push
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.thread_subscribers import ThreadSubscribers

POWER_KEYS: Final[tuple[StateKey, ...]] = (("m.room.create", ""), ("m.room.power_levels", ""))


Find = Callable[[str], StoredEvent | None]
"""Finds an event in memory by its id."""


class PushJudgement(Struct, frozen=True):
    """What is kept with an event: the thread that it is in, and whom it notifies."""

    thread_root: str | None = None
    outcomes: PushOutcomes = NO_PUSH


class PushEvaluator:
    """Evaluates events against the push rules of their room's local members.

    `subscribers` are looked at where the server's rules ask who is subscribed to a thread.
    """

    def __init__(
        self, rooms: LiveRooms, rules: LivePushRules, subscribers: ThreadSubscribers
    ) -> None:
        self._rooms = rooms
        self._rules = rules
        self._subscribers = subscribers
        self._asks_for_subscribers = any(r.kind == "postcontent" for r in rules.defaults)

    async def prepare(self, room: LiveRoom) -> None:
        """Make `judge` answer for the room; no query if its members' rules are in memory."""
        while room.readers is None:
            members = set(room.joined_local)
            known = await self._rules.get_many(members)
            if members != room.joined_local:
                continue
            default = self._rules.in_room(UNCHANGED, room.room_id)
            readers = RoomReaders(default, lambda user_id: _display_name(room, user_id))
            for user_id in members:
                push = self._rules.peek(user_id) or known[user_id]
                readers.put(user_id, self._rules.in_room(push.stored, room.room_id))
            room.readers = readers
            room.unsure_readers = set()
        while room.unsure_readers:
            await self._make_sure(room, room.readers)

    async def _make_sure(self, room: LiveRoom, readers: RoomReaders) -> None:
        """Read the rules of those who joined, or changed them, while they weren't in memory."""
        unsure, room.unsure_readers = room.unsure_readers, set()
        try:
            known = await self._rules.get_many(unsure)
        except BaseException:
            room.unsure_readers |= unsure
            raise
        for user_id in unsure - room.unsure_readers:
            if user_id in readers:
                push = self._rules.peek(user_id) or known[user_id]
                readers.put(user_id, self._rules.in_room(push.stored, room.room_id))

    async def prepare_thread(
        self, room_id: str, content: JsonObject, find: Find, connection: Connection | None = None
    ) -> None:
        """Make `judge` answer for an event with this content; a query only for one in a thread
        whose subscribers aren't in memory. `find` finds `parent_of` in memory."""
        if self._asks_for_subscribers:
            root = thread_of(room_id, content, find)
            if root is not None:
                await self._subscribers.load((room_id, root), connection)

    def judge(self, room: LiveRoom, event: Event, find: Find) -> PushJudgement:
        """What the event does, by the head of the room; `prepare`, `prepare_thread` came first.

        `find` finds events in memory: the create event, the power levels, `parent_of`.
        """
        root = thread_of(room.room_id, event.content, find)
        return PushJudgement(root, self._outcomes(room, event, root, find))

    def _outcomes(
        self, room: LiveRoom, event: Event, thread_root: str | None, find: Find
    ) -> PushOutcomes:
        readers = room.readers
        if readers is None or not len(readers) or (len(readers) == 1 and event.sender in readers):
            return NO_PUSH
        create, levels = (_state_event(room, find, key) for key in POWER_KEYS)
        if create is None:
            return NO_PUSH
        power = power_levels_of(room.rules, create, levels)
        facts = PushFacts(event, room_facts(room, event, power))
        if self._asks_for_subscribers and thread_root is not None:
            facts.thread_root = thread_root
            facts.subscribers = self._subscribers.peek((room.room_id, thread_root))
        outcome = readers.evaluate_room(facts)
        return outcomes_of_room(outcome, event.sender)

    async def evaluate_again(self, room: LiveRoom, stored: StoredEvent, user_id: str) -> Outcome:
        """What an event of the room does for one user by their rules and the room as they are now:
        for the tweaks, which aren't kept."""
        push = await self._rules.get(user_id)
        found: dict[str, StoredEvent] = {}
        for key in POWER_KEYS:
            event_id = room.head.state.get(key)
            event = None if event_id is None else await self._rooms.event(event_id)
            if event is not None:
                found[event.event_id] = event
        create, levels = (_state_event(room, found.get, key) for key in POWER_KEYS)
        if create is None:
            return NOTHING
        about_room = room_facts(room, stored.event, power_levels_of(room.rules, create, levels))
        facts = PushFacts(stored.event, about_room)
        if self._asks_for_subscribers and stored.thread_root is not None:
            facts.thread_root = stored.thread_root
            facts.subscribers = await self._subscribers.load((room.room_id, stored.thread_root))
        rules = self._rules.in_room(push.stored, room.room_id)
        return evaluate_user(facts, user_id, rules, _display_name(room, user_id))

    async def evaluate_invite(self, user_id: str, room_id: str, row: MembershipRow) -> Outcome:
        """What an invite does for the invited, whether or not we have the room."""
        push = await self._rules.get(user_id)
        invite = Event(
            rules=ROOM_VERSIONS[DEFAULT_ROOM_VERSION],
            event_id=row.event_id,
            room_id=room_id,
            type="m.room.member",
            sender=row.sender,
            state_key=user_id,
            content={"membership": "invite"},
            depth=1,
            origin_server_ts=0,
            prev_events=(),
            auth_events=(),
            redacts=None,
            json=b"{}",
        )
        facts = PushFacts(invite, RoomFacts(0), ignored_by=[user_id] * (row.sender in push.ignored))
        return evaluate_user(facts, user_id, self._rules.in_room(push.stored, room_id), None)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer, after the rooms and the rules)."""
        self._subscribers.apply(changes)
        for change in changes:
            if type(change) is EventChange:
                for row in change.memberships:
                    self._put_member(change.room_id, row)
            elif type(change) is MembershipChange:
                self._put_member(change.room_id, change.row)
            elif type(change) is AccountDataChange and decides_push(change.row):
                self._put_rules(change.row.user_id)

    def fail(self, changes: Sequence[Change]) -> None:
        """These were not committed, or nobody knows (called by the writer, after the rules)."""
        self._subscribers.fail(changes)
        for change in changes:
            if type(change) is AccountDataChange and decides_push(change.row):
                self._put_rules(change.row.user_id)

    def _put_member(self, room_id: str, row: MembershipRow) -> None:
        room = self._rooms.peek(room_id) if row.is_local else None
        if room is None or room.readers is None:
            return
        if row.membership != "join":
            room.readers.remove(row.user_id)
        elif row.user_id not in room.readers:
            push = self._rules.peek(row.user_id)
            if push is None:
                room.unsure_readers.add(row.user_id)
            stored = UNCHANGED if push is None else push.stored
            room.readers.put(row.user_id, self._rules.in_room(stored, room_id))

    def _put_rules(self, user_id: str) -> None:
        """A user's rules changed: in all rooms in memory where they are read, and their counts."""
        push = self._rules.peek(user_id)
        for room in self._rooms.in_memory():
            room.unread.pop(user_id, None)
            if room.readers is None or user_id not in room.readers:
                continue
            if push is None:
                room.unsure_readers.add(user_id)
            else:
                room.readers.put(user_id, self._rules.in_room(push.stored, room.room_id))


def _state_event(room: LiveRoom, find: Find, key: StateKey) -> Event | None:
    event_id = room.head.state.get(key)
    stored = None if event_id is None else find(event_id)
    return None if stored is None else stored.event


def room_facts(room: LiveRoom, event: Event, power: PowerLevels) -> RoomFacts:
    """What the rules may ask about the room of an event that is to join its head."""
    joined = room.joined_count
    if room.is_partial:  # at least one of each server: a big room is not taken for a talk of two
        joined = max(joined, len(room.joined_servers))
    for user_id, row in room.pending_members.items():
        joined += (row.membership == "join") - (room.membership_of(user_id) == "join")
    return RoomFacts(joined, power.user(event.sender), power.notifications)


def thread_of(room_id: str, content: JsonObject, find: Find) -> str | None:
    """The root of the thread that an event with this content is in, None for the main timeline.

    "Following the event relationships, it has a parent event which references the thread root"
    client-server-api#threaded-read-receipts: of a parent of ours we know its thread already.
    """
    relation = relation_of(content)
    if relation is None:
        return None
    if relation.rel_type == THREAD:
        return relation.event_id
    parent = find(relation.event_id)
    if parent is None or parent.event.room_id != room_id:
        return None
    return parent.thread_root


def parent_of(content: JsonObject) -> str | None:
    """The event that `thread_of` has to find for an event with this content."""
    relation = relation_of(content)
    return None if relation is None or relation.rel_type == THREAD else relation.event_id


def _display_name(room: LiveRoom, user_id: str) -> str | None:
    row = room.members.get(user_id)
    return None if row is None else row.display_name
