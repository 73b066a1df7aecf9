"""From a change of a room's current state to the memberships that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import server_name_of
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import StateChange

MEMBER = "m.room.member"


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


def _joined_from(before: MembershipRow | None, membership: str, position: int) -> int | None:
    if membership != "join":
        return None
    if before is not None and before.membership == "join":
        return before.joined_from
    return position


def _text(event: Event | None, field: str) -> str | None:
    value = None if event is None else event.content.get(field)
    # Postgres text can't hold NUL.
    return value if isinstance(value, str) and "\0" not in value else None


def member_content(membership: str, profile: JsonObject) -> JsonObject:
    """The content of a member event that shows a user's profile."""
    content: JsonObject = {"membership": membership}
    for field in ("displayname", "avatar_url"):
        if isinstance(profile.get(field), str):
            content[field] = profile[field]
    return content
