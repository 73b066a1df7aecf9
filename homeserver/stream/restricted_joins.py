"""Restricted rooms: who of our users vouches for somebody who joins.

client-server-api#restricted-rooms, server-server-api#restricted-rooms
"""

from __future__ import annotations

from homeserver.errors import MatrixError, UnableToAuthoriseJoin, UnableToGrantJoin
from homeserver.json_types import JsonObject
from homeserver.protocol.power_levels import power_levels_of
from homeserver.store.database import Database
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent


class RestrictedJoins:
    """Answers for rooms that we are in."""

    def __init__(self, database: Database, rooms: LiveRooms) -> None:
        self._database = database
        self._rooms = rooms

    async def authoriser(
        self, room: LiveRoom, user_id: str, refusal: type[MatrixError]
    ) -> str | None:
        """The local user to be named in the join of `user_id`, or None if none is needed.

        Raises `refusal` if the user is in none of the rooms, UnableToAuthoriseJoin if we are in
        none of them, UnableToGrantJoin if none of our users may invite.
        """
        if room.membership_of(user_id) in ("invite", "join"):
            return None
        events = await self._state_events(
            room, "m.room.join_rules", "m.room.create", "m.room.power_levels"
        )
        rules = events.get("m.room.join_rules")
        allow = None if rules is None else restrictions(room, rules.content)
        if allow is None:
            return None
        known = await self._rooms.get_many(allow)
        ours = [other for other in known.values() if other.joined_local]
        if not any(other.membership_of(user_id) == "join" for other in ours):
            if any(other.is_partial and user_id not in other.members for other in ours):
                raise UnableToAuthoriseJoin("This server doesn't know yet who may be let in")
            if not ours:
                raise UnableToAuthoriseJoin("This server is in none of the rooms that may let in")
            raise refusal("You are in none of the rooms whose members may join this room")
        levels = events.get("m.room.power_levels")
        power = power_levels_of(
            room.rules, events["m.room.create"].event, None if levels is None else levels.event
        )
        for member in sorted(room.joined_local, key=power.user, reverse=True):
            if power.user(member) >= power.invite:
                return member
        raise UnableToGrantJoin("Nobody on this server may let you into this room")

    async def _state_events(self, room: LiveRoom, *types: str) -> dict[str, StoredEvent]:
        ids = {room.state[t, ""]: t for t in types if (t, "") in room.state}
        async with self._database.connection() as connection:
            found = await self._rooms.events.get_many(connection, ids, self._rooms.rules_of)
        return {ids[event_id]: stored for event_id, stored in found.items()}


def restrictions(room: LiveRoom, join_rules: JsonObject) -> list[str] | None:
    """The rooms whose members may join, or None if joining isn't restricted in this way."""
    join_rule = join_rules.get("join_rule")
    restricted = (join_rule == "restricted" and room.rules.restricted_joins) or (
        join_rule == "knock_restricted" and room.rules.knock_restricted
    )
    if not restricted:
        return None
    allow = join_rules.get("allow")
    return [
        rule["room_id"]
        for rule in (allow if isinstance(allow, list) else [])
        if isinstance(rule, dict)
        and rule.get("type") == "m.room_membership"
        and isinstance(rule.get("room_id"), str)
    ]
