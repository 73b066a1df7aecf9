"""A local user's content becomes a signed, authorised event: hop 2 of the hot path.

Rules of this file:
- Between the first look at a room's head and the submission of the event there is no `await`.
- The head advances at once: the next event of the room does not wait for this commit.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from immutables import Map

from homeserver.errors import (
    BadJson,
    Forbidden,
    MatrixError,
    NotFound,
    TooLarge,
    Unavailable,
    UserSuspended,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules import auth_event_keys, check_event, may_redact
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.events import Event, Template, build_event
from homeserver.protocol.power_levels import power_levels_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.rejection import TooLarge as EventTooLarge
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signatures import Signer, encode_base64, reference_hash
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP, EventRow, HeadRow, TransactionRow
from homeserver.store.rooms import RoomRow
from homeserver.store.state import StateKey
from homeserver.stream.changes import Change, EventChange, StateChange, bump_position
from homeserver.stream.live_room import EVERYTHING_IN_MEMORY, Head, LiveRoom, changed_state
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.memberships import MEMBER, MembershipContext, membership_rows
from homeserver.stream.push_evaluator import PushEvaluator, parent_of
from homeserver.stream.state_groups import EMPTY, next_group
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.stripped_state import STRIPPED_KEYS, stripped_state
from homeserver.stream.writer import StreamWriter

REDACTION = "m.room.redaction"
MAX_PREV_EVENTS = 20
NEW_ROOM = Head((), 0, Map(), 0, EMPTY)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a local user wants to say. Few may set `origin_server_ts` (milliseconds)."""

    sender: str
    type: str
    content: JsonObject
    state_key: str | None = None
    redacts: str | None = None
    origin_server_ts: int | None = None
    redacts_only_own: bool = False
    """Of a suspended user, who may redact nothing else."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """The device and the transaction id that a send came with."""

    user_id: str
    device_id: str
    transaction_id: str


Also = Callable[[LiveRoom, int], Sequence[Change]]


class Sender:
    """Makes events in the name of local users."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        writer: StreamWriter,
        signer: Signer,
        push: PushEvaluator,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._writer = writer
        self.signer = signer
        self._push = push

    async def send(
        self, room_id: str, draft: Draft, transaction: Transaction | None = None
    ) -> StoredEvent:
        """Send one event into a room we are in; it is committed and visible on return.

        A state event equal to the one that stands is not sent again: the standing one is returned.
        Raises NotFound (no such room), Forbidden (the auth rules say why), BadJson, TooLarge.
        """
        async with self._locked(room_id) as room:
            await self._load_needed(room, [draft])
            standing = self._standing(room, draft)
            if standing is not None:
                return standing
            change = self._build(room, draft, transaction)
            submitted = self._writer.submit(change)
        await submitted
        return change.stored

    async def send_many(self, room_id: str, drafts: Sequence[Draft]) -> list[StoredEvent]:
        """Send events of one room in one transaction: all of them or none."""
        async with self._locked(room_id) as room:
            await self._load_needed(room, drafts)
            before = room.head, dict(room.pending), dict(room.pending_members)
            try:
                changes = [self._build(room, draft, None) for draft in drafts]
            except MatrixError:
                room.head, room.pending, room.pending_members = before
                raise
            submitted = self._writer.submit(*changes)
        await submitted
        return [change.stored for change in changes]

    @asynccontextmanager
    async def _locked(self, room_id: str) -> AsyncIterator[LiveRoom]:
        """The room, whose head nobody else moves meanwhile. Raises NotFound, Unavailable."""
        while True:
            room = await self._rooms.get(room_id)
            if room is None:
                raise NotFound("We don't have this room")
            async with room.lock:
                # While we waited for it, it may have been let go, or have to be read again.
                if not room.dropped:
                    yield room
                    return

    async def template(self, room_id: str, draft: Draft) -> JsonObject:
        """The PDU of a draft without hashes and signatures, for another server to sign.

        Raises NotFound, Forbidden (the auth rules say why).
        """
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("We don't have this room")
        async with room.lock:
            if room.dropped:
                raise Unavailable("The room is being read again. Try again in a moment.")
            await self._load_needed(room, [draft])
            auth = self._auth_events(room, draft)
            event = self._event(room, draft, list(auth.values()))
        self._check(room, event, auth)
        pdu = event.pdu
        for key in ("hashes", "signatures", "event_id"):
            pdu.pop(key, None)
        return pdu

    async def create_room(
        self, version: str, drafts: Sequence[Draft], also: Also | None = None
    ) -> list[StoredEvent]:
        """Make a room of these drafts, the first being its create event, in one transaction.

        `also` says what else belongs to it, at a position. Raises Forbidden if the drafts don't
        make a valid room; nothing is stored then.
        """
        rules = ROOM_VERSIONS[version]
        number = self._writer.allocate()
        opaque = "" if rules.room_id_is_create_event_id else secrets.token_urlsafe(13)
        room = LiveRoom(
            room_id=f"!{opaque}:{self.signer.server_name}" if opaque else "",
            number=number,
            rules=rules,
            head=NEW_ROOM,
            state=Map(),
            members={},
            timeline=[],
            timeline_floor=EVERYTHING_IN_MEMORY,
            last_position=0,
        )
        changes = [self._build(room, drafts[0], None)]
        room.room_id = changes[0].stored.event.room_id
        changes[0] = replace(
            changes[0], room_id=room.room_id, new_room=RoomRow(number, room.room_id, version)
        )
        changes.extend(self._build(room, draft, None) for draft in drafts[1:])
        self._rooms.add(room)
        more = also(room, self._writer.allocate()) if also is not None else ()
        await self._writer.submit(*changes, *more)
        return [change.stored for change in changes]

    async def _load_needed(self, room: LiveRoom, drafts: Iterable[Draft]) -> None:
        """Bring into memory what building these drafts looks at; no query if it is there."""
        await self._push.prepare(room)
        wanted: set[str] = set()
        state = room.head.state
        for draft in drafts:
            keys = auth_event_keys(
                room.rules, draft.type, draft.sender, draft.state_key, draft.content
            )
            keys.append(("m.room.create", ""))
            wanted.update(e for e in map(state.get, keys) if e is not None)
            if draft.state_key is not None:
                standing = state.get((draft.type, draft.state_key))
                wanted.update(() if standing is None else (standing,))
            if draft.type == MEMBER:
                wanted.update(e for e in map(state.get, STRIPPED_KEYS) if e is not None)
            wanted.update(e for e in (draft.redacts, parent_of(draft.content)) if e is not None)
        if room.rules.event_id_in_pdu:
            wanted.update(room.head.forward_extremities)
        missing = [e for e in wanted if self._find(room, e) is None]
        if not missing:
            return
        async with self._database.connection() as connection:
            found = await self._rooms.events.get_many(connection, missing, self._rooms.rules_of)
        # Held here for as long as the room's head may need them, whatever the cache lets go.
        room.needed = {e: s for e in wanted if (s := found.get(e) or self._find(room, e))}
        if room.dropped:  # meanwhile: its head may rest on what was never committed
            raise Unavailable("The room is being read again. Try again in a moment.")

    def _find(self, room: LiveRoom, event_id: str) -> StoredEvent | None:
        return (
            room.pending.get(event_id)
            or self._rooms.events.peek(event_id)
            or room.needed.get(event_id)
        )

    def _standing(self, room: LiveRoom, draft: Draft) -> StoredEvent | None:
        """The state event that already says what the draft wants to say."""
        if draft.state_key is None:
            return None
        event_id = room.head.state.get((draft.type, draft.state_key))
        standing = None if event_id is None else self._find(room, event_id)
        if standing is None or standing.sender != draft.sender:
            return None
        if standing.redacted_by is not None or standing.event.content != draft.content:
            return None
        return standing if room.pending.get(standing.event_id) is None else None

    def _build(self, room: LiveRoom, draft: Draft, transaction: Transaction | None) -> EventChange:
        """The event of a draft on the room's head, which advances. No await in here."""
        auth = self._auth_events(room, draft)
        event = self._event(room, draft, list(auth.values()))
        self._check(room, event, auth)
        redacts = self._redaction_target(room, event, draft.redacts_only_own)
        number = self._writer.allocate()
        return self._advance(room, event, number, auth, transaction, redacts)

    def _check(self, room: LiveRoom, event: Event, auth: Mapping[StateKey, StoredEvent]) -> None:
        """Raises Forbidden unless the auth rules allow the event."""
        try:
            check_event(room.rules, event, {key: s.event for key, s in auth.items()})
        except Rejected as rejected:
            raise Forbidden(rejected.reason) from None

    def _auth_events(self, room: LiveRoom, draft: Draft) -> dict[StateKey, StoredEvent]:
        state = room.head.state
        found: dict[StateKey, StoredEvent] = {}
        keys = auth_event_keys(room.rules, draft.type, draft.sender, draft.state_key, draft.content)
        for key in (*keys, ("m.room.create", "")):
            event_id = state.get(key)
            if event_id is None:
                continue
            stored = self._find(room, event_id)
            assert stored is not None, "_load_needed brought it"
            found[key] = stored
        return found

    def _event(self, room: LiveRoom, draft: Draft, auth: Sequence[StoredEvent]) -> Event:
        rules = room.rules
        prev_events = room.head.forward_extremities[-MAX_PREV_EVENTS:]
        auth_ids = [
            stored.event_id
            for stored in auth
            if not (rules.room_id_is_create_event_id and stored.type == "m.room.create")
        ]
        template = Template(
            room_id=room.room_id,
            type=draft.type,
            sender=draft.sender,
            content=draft.content,
            origin_server_ts=draft.origin_server_ts or int(time.time() * 1000),
            depth=room.head.depth + 1,
            prev_events=prev_events,
            auth_events=auth_ids,
            state_key=draft.state_key,
            redacts=draft.redacts,
        )
        if rules.event_id_in_pdu:
            template = self._with_chosen_id(room, template)
        try:
            return build_event(rules, template, self.signer)
        except CanonicalJsonError as error:
            raise BadJson(f"The event has no canonical JSON form: {error}") from None
        except EventTooLarge as rejected:
            raise TooLarge(rejected.reason) from None
        except Rejected as rejected:
            raise BadJson(rejected.reason) from None

    def _with_chosen_id(self, room: LiveRoom, template: Template) -> Template:
        hashes = {}
        for event_id in (*template.prev_events, *template.auth_events):
            stored = self._find(room, event_id)
            if stored is not None:
                hashes[event_id] = encode_base64(reference_hash(stored.event.pdu, room.rules))
        return replace(template, event_id=self.new_event_id(), reference_hashes=hashes)

    def new_event_id(self) -> str:
        """An event id of ours, for room versions in which it is chosen."""
        return f"${secrets.token_urlsafe(16)}:{self.signer.server_name}"

    def _redaction_target(self, room: LiveRoom, event: Event, only_own: bool) -> str | None:
        """The event id that a redaction takes effect on; raises Forbidden if it may not."""
        if event.type != REDACTION or event.redacts is None:
            return None
        target = self._find(room, event.redacts)
        if only_own and (target is None or target.event.sender != event.sender):
            raise UserSuspended("While your account is suspended you may redact only your events")
        if target is None or target.event.room_id != room.room_id:
            return None
        if target.type == "m.room.create":
            raise Forbidden("The create event of a room can't be redacted")
        state = {key: s.event for key, s in self._power_state(room).items()}
        create = state["m.room.create", ""]
        power = power_levels_of(room.rules, create, state.get(("m.room.power_levels", "")))
        if not may_redact(event, target.event, power):
            raise Forbidden("You may redact only your own events here: your power level is too low")
        return event.redacts

    def _power_state(self, room: LiveRoom) -> dict[StateKey, StoredEvent]:
        found = {}
        for key in (("m.room.create", ""), ("m.room.power_levels", "")):
            event_id = room.head.state.get(key)
            stored = None if event_id is None else self._find(room, event_id)
            if stored is not None:
                found[key] = stored
        return found

    def _advance(
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
        stored = StoredEvent(row, room.rules, event)
        stored.has_children = False
        if replaced is not None:
            stored.replace(replaced)
        room.pending[event.event_id] = stored
        head = replace(
            before, forward_extremities=(event.event_id,), depth=max(before.depth, event.depth)
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
        if transaction is not None:
            stored.transaction = TransactionRow(
                number,
                transaction.user_id,
                transaction.device_id,
                transaction.transaction_id,
                event.event_id,
            )
        room.head = head
        return replace(
            change,
            transaction=stored.transaction,
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
        return None if event_id is None else self._find(room, event_id)

    def _row(
        self,
        room: LiveRoom,
        event: Event,
        number: int,
        auth: dict[StateKey, StoredEvent],
        replaced: StoredEvent | None,
    ) -> EventRow:
        judged = self._push.judge(room, event, partial(self._find, room))
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
                self.signer.server_name,
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
        found = [self._find(room, event_id) for event_id in ids if event_id is not None]
        return stripped_state([*(s.event for s in found if s is not None), event])
