"""From a change of a room's current state to the memberships that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import server_name_of
from homeserver.store.member_events import MemberContent, MemberEvent
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import StateChange
from homeserver.stream.live_room import LiveRoom


class MembershipContext(Struct, frozen=True):
    """What the new memberships follow from besides the state changes themselves.

    `events` holds the new member events by id, `members` what held before; `position` is the
    stream position of the change.
    """

    room_number: int
    position: int
    events: Mapping[str, Event]
    members: Mapping[str, MembershipRow]
    server_name: str
    stripped_state: bytes | None = None


def membership_rows(
    state_changes: Iterable[StateChange], context: MembershipContext
) -> tuple[MembershipRow, ...]:
    """The rows of the users whose membership these state changes touch.

    A member event that the state lost altogether leaves its user as one who left.
    """
    rows = []
    for change in state_changes:
        if change.key[0] != MEMBER:
            continue
        user_id = change.key[1]
        before = context.members.get(user_id)
        event = None if change.new is None else context.events[change.new]
        membership = (event.membership if event is not None else None) or "leave"
        rows.append(
            MembershipRow(
                room_number=context.room_number,
                user_id=user_id,
                membership=membership,
                event_id=change.new or change.old or "",
                sender=event.sender if event is not None else user_id,
                position=context.position,
                joined_from=_joined_from(before, membership, context.position),
                is_local=server_name_of(user_id) == context.server_name,
                display_name=_text(event, "displayname"),
                avatar_url=_text(event, "avatar_url"),
                stripped_state=context.stripped_state
                if membership in ("invite", "knock")
                else None,
            )
        )
    return tuple(rows)


def learned_memberships(
    room: LiveRoom,
    learned: Iterable[MemberEvent | str],
    position: int,
    server_name: str,
) -> list[MembershipRow]:
    """The rows of users of whose membership we learn; of a user id, that they are gone.

    What we knew of our own users and is the same stays.
    """
    rows = []
    for one in learned:
        before = room.members.get(one if isinstance(one, str) else one.user_id)
        if isinstance(one, str):
            event_id = "" if before is None else before.event_id
            event = MemberEvent(event_id, one, one, MemberContent("leave"))
        else:
            event = one
        user_id, told = event.user_id, event.content.membership
        membership = told if isinstance(told, str) else "leave"
        same = before is not None and before.event_id == event.event_id
        if same and before is not None and before.membership == membership:
            continue
        rows.append(
            MembershipRow(
                room_number=room.number,
                user_id=user_id,
                membership=membership,
                event_id=event.event_id,
                sender=event.sender,
                position=position,
                joined_from=_joined_from(before, membership, position),
                is_local=server_name_of(user_id) == server_name,
                display_name=_stored_text(event.content.displayname),
                avatar_url=_stored_text(event.content.avatar_url),
            )
        )
    return rows


def _joined_from(before: MembershipRow | None, membership: str, position: int) -> int | None:
    if membership != "join":
        return None
    if before is not None and before.membership == "join":
        return before.joined_from
    return position


def _text(event: Event | None, field: str) -> str | None:
    return None if event is None else _stored_text(event.content.get(field))


def _stored_text(value: Any) -> str | None:
    """Postgres text can't hold NUL."""
    return value if isinstance(value, str) and "\0" not in value else None


def member_content(membership: str, profile: JsonObject) -> JsonObject:
    """The content of a member event that shows a user's profile."""
    content: JsonObject = {"membership": membership}
    for field in ("displayname", "avatar_url"):
        if isinstance(profile.get(field), str):
            content[field] = profile[field]
    return content
