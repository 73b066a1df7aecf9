"""What is told of one room in a sliding sync answer, encoded (MSC4186)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import field

from homeserver.protocol.event_types import MEMBER
from homeserver.store.room_facts import RoomFacts
from homeserver.store.rooms import MembershipRow
from homeserver.stream.live_room import BEYOND
from homeserver.stream.room_unread import UserUnread
from homeserver.stream.sections.room_state import Shown
from homeserver.stream.sections.summary import heroes
from homeserver.stream.sections.timeline import order_of, upto_order
from homeserver.stream.sections.windows import SeenWindow
from homeserver.stream.sliding.connections import ToldRoom
from homeserver.stream.sliding.required_state import StateWish
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import SyncRequest

NAMING = frozenset(("m.room.name", "m.room.canonical_alias", "m.room.avatar", "m.room.create"))


class RoomPart(SeenWindow):
    """One joined (or just left) room of an answer. `told`: None if it is told the first time."""

    wish: StateWish | None = None
    told: ToldRoom | None = None
    next_told: ToldRoom | None = None
    expanded: bool = False
    changed: Shown = field(default_factory=dict)
    required: Shown = field(default_factory=dict)
    bump: int = 0
    is_direct: bool = False
    unread: UserUnread | None = None
    live_after: int | None = None
    """The stream position of the connection's last answer, None if there was none."""

    @property
    def initial(self) -> bool:
        return self.told is None

    @property
    def from_outside(self) -> bool:
        """An invite was declined, or a knock taken back: nothing of the room itself is told."""
        return self.told is not None and self.told.from_outside

    @property
    def counts_changed(self) -> bool:
        """Have we learned since then how many are in the room?"""
        room = self.room
        if self.from_outside:
            return False
        return self.told is not None and self.told.upto < room.complete_from < BEYOND


def encode_room(
    request: SyncRequest, part: RoomPart, facts: RoomFacts, events: dict[str, StoredEvent]
) -> bytes:
    """The room's JSON object."""
    raw = msgspec.Raw
    timeline = part.timeline
    members: dict[str, Any] = {
        "bump_stamp": part.bump,
        "timeline": raw(part.window.events(request, part.history, part.bundles)),
        "limited": timeline.limited or part.expanded,
        "prev_batch": timeline.prev_batch,
        "num_live": _live_events(part),
        "required_state": raw(_state(request, part.required.values(), events)),
    }
    if part.unread is not None:
        counts = part.unread.totals()
        members["notification_count"], members["highlight_count"] = counts
    if part.initial:
        members["initial"] = True
    if part.expanded:
        members["unstable_expanded_timeline"] = True
    touched = {key[0] for key in part.changed} if not part.from_outside else set()
    if part.initial or not NAMING.isdisjoint(touched):
        members |= _names(part, request.user_id, facts)
    elif MEMBER in touched and facts.name is None:
        members["heroes"] = _heroes(part, request.user_id)
    if part.initial:
        members["is_dm"] = part.is_direct
    if part.initial or MEMBER in touched or part.counts_changed:
        members["joined_count"] = part.room.joined_count
        members["invited_count"] = part.room.invited_count
    return msgspec.json.encode(members)


def encode_invite(row: MembershipRow, facts: dict[str, Any], *, is_direct: bool) -> bytes:
    """A room that the user is invited to, or knocks on: only what came with that."""
    name = "invite_state" if row.membership == "invite" else "knock_state"
    return msgspec.json.encode(
        {
            "initial": True,
            "bump_stamp": row.position,
            "is_dm": is_direct,
            **facts,
            name: msgspec.Raw(row.stripped_state or b"[]"),
            "stripped_state": msgspec.Raw(row.stripped_state or b"[]"),
        }
    )


def _live_events(part: RoomPart) -> int:
    """How many events of the timeline have just happened."""
    if part.live_after is None:
        return 0
    after = upto_order(part.live_after)
    return sum(1 for stored in part.timeline.events if order_of(stored) > after)


def _state(request: SyncRequest, event_ids: Iterable[str], events: dict[str, StoredEvent]) -> bytes:
    found = [events[e].client_at(request.now) for e in event_ids if e in events]
    return b"[" + b",".join(found) + b"]"


def _names(part: RoomPart, user_id: str, facts: RoomFacts) -> dict[str, Any]:
    names: dict[str, Any] = {}
    name = facts.name or facts.canonical_alias
    if name:
        names["name"] = name
    else:
        names["heroes"] = _heroes(part, user_id)
    if facts.avatar_url:
        names["avatar"] = facts.avatar_url
    elif not part.initial:
        names["avatar"] = None
    return names


def _heroes(part: RoomPart, user_id: str) -> Sequence[dict[str, Any]]:
    found = []
    for hero in heroes(part.room, user_id):
        row = part.room.members[hero]
        shown = {"displayname": row.display_name, "avatar_url": row.avatar_url}
        found.append({"user_id": hero, **{k: v for k, v in shown.items() if v is not None}})
    return found
