"""A room is replaced by one of another version.

client-server-api#room-upgrades
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import (
    Forbidden,
    InvalidParam,
    MatrixError,
    NotFound,
    UnsupportedRoomVersion,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import CANONICAL_ALIAS, MEMBER, TOMBSTONE
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.power_levels import PowerLevels, creators_of, read_level
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.protocol.spaces import CHILD, SPACE
from homeserver.requester import Requester
from homeserver.store import aliases as alias_store
from homeserver.store import listings as listing_store
from homeserver.store import profiles as profile_store
from homeserver.store.database import Database
from homeserver.store.state import StateKey
from homeserver.stream.changes import Change, DirectoryChange
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.memberships import member_content
from homeserver.stream.room_power import room_power
from homeserver.stream.stored_event import StoredEvent

POWER_LEVELS = "m.room.power_levels"
CARRIED_OVER = frozenset(
    (
        "m.room.server_acl",
        "m.room.encryption",
        "m.room.name",
        "m.room.avatar",
        "m.room.topic",
        "m.room.guest_access",
        "m.room.history_visibility",
        "m.room.join_rules",
    )
)
"""State with the empty state key; power levels, bans and the children of a space come too."""
BANS_AT_ONCE = 50
CREATOR_LEVEL = 100

log = structlog.get_logger(__name__)


class _Old(Struct, frozen=True):
    """The room that is to be replaced, as it is now."""

    room: LiveRoom
    state: Mapping[StateKey, StoredEvent]
    power: PowerLevels
    is_published: bool

    def content(self, event_type: str) -> JsonObject | None:
        stored = self.state.get((event_type, ""))
        return None if stored is None else stored.content


class Upgrades:
    """Upgrades rooms in the name of members who may send a tombstone."""

    def __init__(self, database: Database, stream: StreamCore, now: Clock) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._sender = stream.sender
        self._whole_rooms = stream.whole_rooms
        self._now = now

    async def upgrade(
        self, requester: Requester, room_id: str, version: str, additional: Sequence[str]
    ) -> str:
        """Replace a room; the id of the new one. `additional` are further creators (version 12).

        Raises UnsupportedRoomVersion, InvalidParam, NotFound, Forbidden.
        """
        rules = ROOM_VERSIONS.get(version)
        if rules is None:
            raise UnsupportedRoomVersion(f"This server doesn't know room version {version!r}")
        if not all(is_user_id(user_id) for user_id in additional):
            raise InvalidParam("`additional_creators` must be a list of user ids")
        user_id = requester.user_id
        old = await self._old(room_id, user_id)
        new_room_id = await self._replace(user_id, old, rules, additional)
        await self._move_aliases(user_id, old, new_room_id)
        await self._carry_bans(user_id, old, new_room_id)
        await self._close(user_id, old)
        return new_room_id

    async def _old(self, room_id: str, user_id: str) -> _Old:
        room = await self._rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        # "Checks that the user has permission to send m.room.tombstone events in the room."
        power = await room_power(self._rooms, room)
        level = power.event(TOMBSTONE, is_state=True)
        if room.membership_of(user_id) != "join" or power.user(user_id) < level:
            raise Forbidden("You may not upgrade this room")
        await self._whole_rooms.require(room_id)
        room = await self._rooms.get(room_id) or room
        banned = {row.user_id for row in room.members.values() if row.membership == "ban"}
        wanted = {
            event_id: key
            for key, event_id in room.state.items()
            if key[0] != MEMBER or key[1] in banned
        }
        async with self._database.connection() as connection:
            events = await self._rooms.events.get_many(connection, wanted, self._rooms.rules_of)
            is_published = await listing_store.is_published(connection, room.number)
        state = {wanted[event_id]: stored for event_id, stored in events.items()}
        return _Old(room, state, power, is_published)

    async def _replace(
        self, user_id: str, old: _Old, rules: RoomVersion, additional: Sequence[str]
    ) -> str:
        """Make the new room and close the old one. Each names the other, where that can be."""
        async with self._database.connection() as connection:
            profile = await profile_store.get(connection, user_id)

        def tombstone(new_room_id: str) -> Draft:
            content = {"body": "This room has been replaced", "replacement_room": new_room_id}
            return Draft(user_id, TOMBSTONE, content, "")

        def drafts(last_event_id: str) -> list[Draft]:
            return _first_events(user_id, old, rules, additional, profile, last_event_id)

        def listed(room: LiveRoom, position: int) -> list[Change]:
            return [DirectoryChange(position, room.number, None, old.is_published)]

        old_room_id, version = old.room.room_id, rules.identifier
        if not rules.room_id_is_create_event_id:
            return await self._sender.replace_room(old_room_id, tombstone, version, drafts, listed)
        # The tombstone names the new room, whose id is a hash of what would name the tombstone.
        first = drafts(old.room.head.forward_extremities[-1])
        events = await self._sender.create_room(version, first, listed)
        new_room_id = events[0].event.room_id
        await self._sender.send(old_room_id, tombstone(new_room_id))
        return new_room_id

    async def _move_aliases(self, user_id: str, old: _Old, new_room_id: str) -> None:
        """ "Moves any local aliases to the new room." The old one is listed no more."""
        async with self._database.transaction() as connection:
            await alias_store.move(connection, old.room.room_id, new_room_id)
            await listing_store.unpublish(connection, old.room.number)
        content = old.content(CANONICAL_ALIAS)
        if content:
            await self._try(new_room_id, Draft(user_id, CANONICAL_ALIAS, content, ""))
            await self._try(old.room.room_id, Draft(user_id, CANONICAL_ALIAS, {}, ""))

    async def _carry_bans(self, user_id: str, old: _Old, new_room_id: str) -> None:
        bans = [
            Draft(user_id, MEMBER, _ban(stored.content), key[1])
            for key, stored in old.state.items()
            if key[0] == MEMBER
        ]
        for start in range(0, len(bans), BANS_AT_ONCE):
            try:
                await self._sender.send_many(new_room_id, bans[start : start + BANS_AT_ONCE])
            except MatrixError as error:
                log.info("bans not carried over", room_id=new_room_id, reason=error.message)
                return

    async def _close(self, user_id: str, old: _Old) -> None:
        """ "If possible, the power levels in the old room should also be modified to prevent
        sending of events and inviting new users. For example, setting `events_default` and
        `invite` to the greater of `50` and `users_default + 1`." """
        content = old.content(POWER_LEVELS)
        if content is None:
            return
        level = max(50, old.power.users_default + 1)
        closed = {
            **content,
            "events_default": max(level, old.power.events_default),
            "invite": max(level, old.power.invite),
        }
        await self._try(old.room.room_id, Draft(user_id, POWER_LEVELS, closed, ""))

    async def _try(self, room_id: str, draft: Draft) -> None:
        """Send what is good to have. Without the power for it, it is left out."""
        try:
            await self._sender.send(room_id, draft)
        except MatrixError as error:
            log.info("left out of an upgrade", room_id=room_id, reason=error.message)


def _first_events(
    user_id: str,
    old: _Old,
    rules: RoomVersion,
    additional: Sequence[str],
    profile: JsonObject,
    last_event_id: str,
) -> list[Draft]:
    creators = [user_id, *additional] if rules.privileged_creators else [user_id]
    create = _create_content(old, rules, additional, last_event_id)
    if not rules.implicit_creator:
        create["creator"] = user_id
    drafts = [
        Draft(user_id, "m.room.create", create, ""),
        Draft(user_id, MEMBER, member_content("join", profile), user_id),
        *_carried_over(old, user_id),
    ]
    levels = _power_levels(old, rules, creators)
    if levels is not None:
        # Last: until then the creator may send all of the above.
        drafts.append(Draft(user_id, POWER_LEVELS, levels, ""))
    return drafts


def _create_content(
    old: _Old, rules: RoomVersion, additional: Sequence[str], last_event_id: str
) -> JsonObject:
    standing = old.content("m.room.create") or {}
    content: JsonObject = {key: standing[key] for key in ("type", "m.federate") if key in standing}
    content["room_version"] = rules.identifier
    # "The event ID of the last known event in the old room"
    content["predecessor"] = {"room_id": old.room.room_id, "event_id": last_event_id}
    if rules.privileged_creators and additional:
        content["additional_creators"] = list(dict.fromkeys(additional))
    return content


def _carried_over(old: _Old, user_id: str) -> list[Draft]:
    is_space = (old.content("m.room.create") or {}).get("type") == SPACE
    return [
        Draft(user_id, event_type, stored.content, state_key)
        for (event_type, state_key), stored in old.state.items()
        if (state_key == "" and event_type in CARRIED_OVER and stored.redacted_by is None)
        or (is_space and event_type == CHILD and stored.content)
    ]


def _power_levels(old: _Old, rules: RoomVersion, creators: Sequence[str]) -> JsonObject | None:
    """The old room's levels as the new version wants them: integers, and none of creators.

    Creators of an old room of version 12 keep a high level where creators have no other.
    """
    content = old.content(POWER_LEVELS)
    if content is None:
        return None
    old_rules = old.room.rules
    levels = {key: _as_integers(value, old_rules) for key, value in content.items()}
    users = levels.get("users")
    users = dict(users) if isinstance(users, dict) else {}
    if rules.privileged_creators:
        users = {user_id: level for user_id, level in users.items() if user_id not in creators}
    elif old_rules.privileged_creators:
        create = old.state["m.room.create", ""].event
        users |= dict.fromkeys(creators_of(old_rules, create), CREATOR_LEVEL)
    return {**levels, "users": users}


def _as_integers(value: Any, rules: RoomVersion) -> Any:
    if isinstance(value, dict):
        return {key: _as_integers(inner, rules) for key, inner in value.items()}
    level = read_level(value, rules)
    return value if level is None else level


def _ban(content: JsonObject) -> JsonObject:
    return {k: v for k, v in content.items() if k in ("membership", "reason")}
