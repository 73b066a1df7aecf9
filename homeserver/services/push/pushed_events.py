"""What a pusher is to tell: which events, and what of them."""

from __future__ import annotations

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.push_outcomes import HIGHLIGHT, NOTIFY
from homeserver.protocol.pushers import PushedEvent
from homeserver.store import notable_events as notable_store
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP
from homeserver.store.notable_events import NotableEvent
from homeserver.store.rooms import MembershipRow
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_users import LiveUser
from homeserver.stream.push_rules import UserPush

PAGE = 50


class Pending(Struct, frozen=True):
    """Something to tell a user: an event (with its outcome for them), or an invite."""

    position: int
    room_id: str
    event_id: str
    thread: str = ""
    order: int = 0
    bits: int = 0
    invite: MembershipRow | None = None


class PushedEvents:
    """Finds what is pending for a user, and what there is to say of it."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._stream = stream

    async def pending_after(self, user_id: str, position: int) -> list[Pending]:
        """The oldest that a user hasn't been told above a position, whatever they have read."""
        user = await self._stream.users.get(user_id)
        push = await self._stream.push_rules.get(user_id)
        found = invites_after(user, position)
        joined = {r.room_number: i for i, r in user.rooms.items() if r.membership == "join"}
        while True:
            notable = await self._notable_after(user, position)
            for event in notable:
                room_id = joined.get(event.room_number)
                if room_id is not None and notifies(user_id, push, room_id, event):
                    found.append(pending_event(user_id, push, room_id, event))
            if not notable or len(notable) < PAGE or found:
                break
            position = notable[-1].position
        if len(notable) == PAGE:
            # What comes after the page is for another time, an invite too.
            found = [p for p in found if p.position <= notable[-1].position]
        return sorted(found, key=lambda pending: pending.position)

    async def _notable_after(self, user: LiveUser, position: int) -> list[NotableEvent]:
        after = position * ORDER_STEP + ORDER_STEP - 1
        rooms = [
            (row.room_number, max(after, (row.joined_from or 0) * ORDER_STEP))
            for row in user.rooms.values()
            if row.membership == "join"
        ]
        async with self._database.connection() as connection:
            return await notable_store.after(connection, user.user_id, rooms, PAGE)

    async def details(self, user_id: str, pending: Pending) -> PushedEvent | None:
        """What to tell; None if by now there is nothing to: read, redacted, left, ignored."""
        if pending.invite is not None:
            return await self._invite(user_id, pending, pending.invite)
        stream = self._stream
        push = await stream.push_rules.get(user_id)
        room = await stream.rooms.get(pending.room_id)
        if room is None or room.membership_of(user_id) != "join":
            return None
        stored = await stream.rooms.event(pending.event_id)
        if stored is None or stored.redacted_by is not None or stored.sender in push.ignored:
            return None
        if await self._is_read(user_id, room, pending):
            return None
        outcome = await stream.push_evaluator.evaluate_again(room, stored, user_id)
        tweaks = outcome.tweaks
        if not outcome.notify and pending.bits & HIGHLIGHT:
            tweaks = {"highlight": True}
        facts = (await stream.listed.get_many([room.number])).get(room.number)
        sender = room.members.get(stored.sender)
        return PushedEvent(
            event_id=stored.event_id,
            room_id=room.room_id,
            type=stored.type,
            sender=stored.sender,
            content=stored.content,
            tweaks=tweaks,
            sender_display_name=None if sender is None else sender.display_name,
            room_name=None if facts is None else facts.facts.name,
            room_alias=None if facts is None else facts.facts.canonical_alias,
            user_is_target=stored.type == MEMBER and stored.state_key == user_id,
        )

    async def _is_read(self, user_id: str, room: LiveRoom, pending: Pending) -> bool:
        unread = None
        while unread is None:
            await self._stream.unread.prepare(user_id, [room])
            unread = self._stream.unread.of(user_id, room)
        return unread.has_read(pending.thread, pending.order)

    async def _invite(
        self, user_id: str, pending: Pending, row: MembershipRow
    ) -> PushedEvent | None:
        user = await self._stream.users.get(user_id)
        standing = user.rooms.get(pending.room_id)
        if standing is None or (standing.membership, standing.event_id) != ("invite", row.event_id):
            return None
        content: JsonObject = {"membership": "invite"}
        outcome = await self._stream.push_evaluator.evaluate_invite(user_id, pending.room_id, row)
        if not outcome.notify:
            return None
        return PushedEvent(
            event_id=row.event_id,
            room_id=pending.room_id,
            type=MEMBER,
            sender=row.sender,
            content=content,
            tweaks=outcome.tweaks,
            user_is_target=True,
        )


def invites_after(user: LiveUser, position: int) -> list[Pending]:
    return [
        pending_invite(room_id, row)
        for room_id, row in user.rooms.items()
        if row.membership == "invite" and row.position > position
    ]


def pending_invite(room_id: str, row: MembershipRow) -> Pending:
    return Pending(row.position, room_id, row.event_id, invite=row)


def notifies(user_id: str, push: UserPush, room_id: str, event: NotableEvent) -> bool:
    return bool(_bits(user_id, push, room_id, event) & NOTIFY)


def pending_event(user_id: str, push: UserPush, room_id: str, event: NotableEvent) -> Pending:
    bits = _bits(user_id, push, room_id, event)
    return Pending(event.position, room_id, event.event_id, event.thread, event.order, bits)


def _bits(user_id: str, push: UserPush, room_id: str, event: NotableEvent) -> int:
    number = push.set_at(room_id, event.position) if event.outcomes.sets else 0
    return event.outcomes.of(user_id, number)
