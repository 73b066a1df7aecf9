"""A local user's content becomes a signed, authorised event: hop 2 of the hot path.

Rules of this file:
- Between the first look at a room's head and the submission of the event there is no `await`
  (but in rooms with a policy server, which is asked in between, under the room's lock).
- The head advances at once: the next event of the room does not wait for this commit.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from msgspec.structs import replace

from homeserver.errors import (
    MatrixError,
    NotFound,
    Unavailable,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.protocol.policy_servers import POLICY
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.store.events import ORDER_STEP
from homeserver.store.rooms import RoomRow
from homeserver.store.state import StateKey
from homeserver.stream.changes import Change, EventChange
from homeserver.stream.drafts import MAX_PREV_EVENTS, Draft, DraftEvents, Transaction
from homeserver.stream.heads import Heads
from homeserver.stream.live_room import LiveRoom, fresh_room
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.policy_servers import PolicyServers
from homeserver.stream.push_evaluator import PushEvaluator
from homeserver.stream.redactions import waiting
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.writer import StreamWriter

Also = Callable[[LiveRoom, int], Sequence[Change]]
LastEvent = Callable[[str], Draft]
FirstEvents = Callable[[str], Sequence[Draft]]
MergeExtremities = Callable[[str, int], Awaitable[None]]
"""Leaves a room with at most so many forward extremities, if it can."""


class Sender:
    """Makes events in the name of local users."""

    def __init__(
        self,
        rooms: LiveRooms,
        writer: StreamWriter,
        drafts: DraftEvents,
        heads: Heads,
        push: PushEvaluator,
    ) -> None:
        self._rooms = rooms
        self._writer = writer
        self._drafts = drafts
        self._heads = heads
        self._push = push
        self.signer = drafts.signer
        self.policy_servers: PolicyServers | None = None
        self.merge_extremities: MergeExtremities | None = None
        self.new_event_id = drafts.new_event_id

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
            change = await self._recommended(room, draft, transaction)
            submitted = self._writer.submit(change)
        await submitted
        return change.stored

    async def send_many(self, room_id: str, drafts: Sequence[Draft]) -> list[StoredEvent]:
        """Send events of one room in one transaction: all of them or none.

        In a room that a policy server watches they are sent one by one: it sees each.
        """
        if await self._is_watched(room_id):
            return [await self.send(room_id, draft) for draft in drafts]
        async with self._locked(room_id) as room:
            await self._load_needed(room, drafts)
            before = room.head, dict(room.pending), dict(room.pending_members)
            try:
                changes = [self._build(room, draft, None) for draft in drafts]
            except BaseException:  # a fault of ours, too: nothing of it will be committed
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
            if len(room.head.forward_extremities) > MAX_PREV_EVENTS:
                await self._merge_extremities(room_id)
            async with room.lock:
                # While we waited for it, it may have been let go, or have to be read again.
                if not room.dropped:
                    yield room
                    return

    async def _merge_extremities(self, room_id: str) -> None:
        """Of more extremities than an event may refer to the rest would be lost to others."""
        if self.merge_extremities is not None:
            with suppress(MatrixError):
                await self.merge_extremities(room_id, MAX_PREV_EVENTS)

    async def template(self, room_id: str, draft: Draft) -> JsonObject:
        """The PDU of a draft without hashes and signatures, for another server to sign.

        `origin` is "The name of the resident homeserver". Raises NotFound, Forbidden (the auth
        rules say why).
        """
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("We don't have this room")
        async with room.lock:
            if room.dropped:
                raise Unavailable("The room is being read again. Try again in a moment.")
            await self._load_needed(room, [draft])
            auth = self._drafts.auth_events(room, draft)
            event = self._drafts.event(room, draft, list(auth.values()))
        self._drafts.check(room, event, auth)
        pdu = event.pdu
        for key in ("hashes", "signatures", "event_id"):
            pdu.pop(key, None)
        return {**pdu, "origin": self.signer.server_name}

    async def create_room(
        self, version: str, drafts: Sequence[Draft], also: Also | None = None
    ) -> list[StoredEvent]:
        """Make a room of these drafts, the first being its create event, in one transaction.

        `also` says what else belongs to it, at a position. Raises Forbidden if the drafts don't
        make a valid room; nothing is stored then.
        """
        room = self._empty_room(version)
        changes = self._first_events(room, version, drafts)
        more = also(room, self._writer.allocate()) if also is not None else ()
        await self._writer.submit(*changes, *more)
        return [change.stored for change in changes]

    async def replace_room(
        self, room_id: str, last: LastEvent, version: str, drafts: FirstEvents, also: Also
    ) -> str:
        """End a room and make another, in one transaction: both or none. The id of the new room.

        `last` makes the old room's last event of the new room's id, `drafts` the new room's
        events of the id of that event. Not for versions whose room ids follow from the events.
        Raises NotFound, Forbidden.
        """
        async with self._locked(room_id) as old:
            new = self._empty_room(version)
            draft = last(new.room_id)
            await self._load_needed(old, [draft])
            event, auth = await self._approved(old, draft)
            before = old.head, dict(old.pending), dict(old.pending_members)
            try:
                end = self._take(old, draft, event, auth, None)
                changes = self._first_events(new, version, drafts(end.stored.event_id))
            except BaseException:  # nothing of it will be committed
                old.head, old.pending, old.pending_members = before
                raise
            more = also(new, self._writer.allocate())
            submitted = self._writer.submit(end, *changes, *more)
        await submitted
        return new.room_id

    def _empty_room(self, version: str) -> LiveRoom:
        """A room without events, and without an id if that follows from its create event."""
        rules = ROOM_VERSIONS[version]
        opaque = "" if rules.room_id_is_create_event_id else secrets.token_urlsafe(13)
        room_id = f"!{opaque}:{self.signer.server_name}" if opaque else ""
        return fresh_room(room_id, self._writer.allocate(), rules)

    def _first_events(
        self, room: LiveRoom, version: str, drafts: Sequence[Draft]
    ) -> list[EventChange]:
        changes = [self._build(room, drafts[0], None)]
        room.room_id = changes[0].stored.event.room_id
        row = RoomRow(room.number, room.room_id, version)
        changes[0] = replace(changes[0], room_id=room.room_id, new_room=row)
        changes.extend(self._build(room, draft, None) for draft in drafts[1:])
        self._rooms.add(room)
        return changes

    async def _load_needed(self, room: LiveRoom, drafts: Sequence[Draft]) -> None:
        """Bring into memory what building these drafts looks at; no query if it is there."""
        await self._push.prepare(room)
        await self._drafts.load_needed(room, drafts)
        find = partial(self._drafts.find, room)
        for draft in drafts:
            await self._push.prepare_thread(room.room_id, draft.content, find)
        if room.dropped:  # meanwhile: its head may rest on what was never committed
            raise Unavailable("The room is being read again. Try again in a moment.")

    def _standing(self, room: LiveRoom, draft: Draft) -> StoredEvent | None:
        """The state event that already says what the draft wants to say."""
        if draft.state_key is None:
            return None
        if draft.type != MEMBER and room.membership_of(draft.sender) != "join":
            return None  # who has left is told so
        event_id = room.head.state.get((draft.type, draft.state_key))
        standing = None if event_id is None else self._drafts.find(room, event_id)
        if standing is None or standing.sender != draft.sender:
            return None
        if standing.redacted_by is not None or standing.event.content != draft.content:
            return None
        return standing if room.pending.get(standing.event_id) is None else None

    async def _is_watched(self, room_id: str) -> bool:
        room = await self._rooms.get(room_id)
        return room is not None and POLICY in room.head.state

    async def _recommended(
        self, room: LiveRoom, draft: Draft, transaction: Transaction | None
    ) -> EventChange:
        """`_build`, with the policy server's signature if the room has one."""
        event, auth = await self._approved(room, draft)
        return self._take(room, draft, event, auth, transaction)

    async def _approved(
        self, room: LiveRoom, draft: Draft
    ) -> tuple[Event, dict[StateKey, StoredEvent]]:
        """`_judged`, and the policy server's signature. Without one, nothing is awaited.

        Asking takes a while, but nobody moves the head meanwhile: we hold the room's lock.
        """
        event, auth = self._judged(room, draft)
        if self.policy_servers is not None and POLICY in room.head.state:
            event = await self.policy_servers.recommended(room, event)
            if room.dropped:
                raise Unavailable("The room is being read again. Try again in a moment.")
        return event, auth

    def _build(self, room: LiveRoom, draft: Draft, transaction: Transaction | None) -> EventChange:
        """The event of a draft on the room's head, which advances. No await in here."""
        event, auth = self._judged(room, draft)
        return self._take(room, draft, event, auth, transaction)

    def _judged(self, room: LiveRoom, draft: Draft) -> tuple[Event, dict[StateKey, StoredEvent]]:
        auth = self._drafts.auth_events(room, draft)
        event = self._drafts.event(room, draft, list(auth.values()))
        self._drafts.check(room, event, auth)
        return event, auth

    def _take(
        self,
        room: LiveRoom,
        draft: Draft,
        event: Event,
        auth: dict[StateKey, StoredEvent],
        transaction: Transaction | None,
    ) -> EventChange:
        effect = self._drafts.redaction_effect(room, event, draft.redacts_only_own)
        number = self._writer.allocate()
        target = None if effect is None else effect.target
        change = self._heads.advance(room, event, number, auth, transaction, target)
        # Clients are told at once that one of theirs has redacted what we don't have (yet).
        waits = waiting(room, event, effect, number, number * ORDER_STEP)
        return change if waits is None else replace(change, waits=waits)
