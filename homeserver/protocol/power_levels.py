"""Power levels, read once from an `m.room.power_levels` event.

client-server-api#mroompower_levels. Rules of this file: reading never fails, since the auth rules
have judged the event before: what is no level counts as absent. `None` as the event means that the
room has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import RoomVersion

INFINITE_POWER: Final = 2**53
"""The level of a v12 creator: above every number that canonical JSON can hold."""

_STRING_LEVEL = re.compile(r"\s*[+-]?[0-9]{1,400}\s*")


class PowerLevels:
    """Who may do what; see `power_levels_of`."""

    __slots__ = (
        "_creator",
        "_creators",
        "_events",
        "_notifications",
        "_users",
        "ban",
        "events_default",
        "invite",
        "kick",
        "redact",
        "state_default",
        "users_default",
    )

    def __init__(self, rules: RoomVersion, create: Event, content: JsonObject | None) -> None:
        self._creators = creators_of(rules, create) if rules.privileged_creators else frozenset()
        # "If the room contains no m.room.power_levels event, the room's creator has a power level
        # of 100"
        self._creator = creator_of(rules, create) if content is None else None
        content = content or {}
        self._users = read_levels(content.get("users"), rules)
        self._events = read_levels(content.get("events"), rules)
        self._notifications = read_levels(content.get("notifications"), rules)

        def level(name: str, default: int) -> int:
            value = read_level(content.get(name), rules)
            return default if value is None else value

        self.users_default = level("users_default", 0)
        self.events_default = level("events_default", 0)
        self.state_default = level("state_default", 50)
        self.ban = level("ban", 50)
        self.kick = level("kick", 50)
        self.redact = level("redact", 50)
        self.invite = level("invite", 0)

    def user(self, user_id: str) -> int:
        """A user's power level, `INFINITE_POWER` for a creator from room version 12 on."""
        if user_id in self._creators:
            return INFINITE_POWER
        level = self._users.get(user_id)
        if level is not None:
            return level
        return 100 if user_id == self._creator else self.users_default

    def event(self, event_type: str, is_state: bool) -> int:
        """The required power level of an event type (server-server-api#definitions)."""
        level = self._events.get(event_type)
        if level is not None:
            return level
        return self.state_default if is_state else self.events_default

    @property
    def notifications(self) -> Mapping[str, int]:
        """The levels that may trigger a kind of notification, where they aren't the default."""
        return self._notifications

    def notification(self, key: str) -> int:
        """The level that may trigger that kind of notification (`room` for `@room`)."""
        return self._notifications.get(key, 50)


@lru_cache(maxsize=2048)
def power_levels_of(rules: RoomVersion, create: Event, power_levels: Event | None) -> PowerLevels:
    """The power levels of a room by its create event and its `m.room.power_levels`, if any.

    Cached per event object: authorising a message costs no parsing.
    """
    content = None if power_levels is None else power_levels.content
    return PowerLevels(rules, create, content)


def creator_of(rules: RoomVersion, create: Event) -> str | None:
    """The user who made the room: `content.creator` up to version 10, then the sender."""
    if rules.implicit_creator:
        return create.sender
    creator = create.content.get("creator")
    return creator if isinstance(creator, str) else None


def creators_of(rules: RoomVersion, create: Event) -> frozenset[str]:
    """The room's creators: one before room version 12, there `additional_creators` too."""
    creator = creator_of(rules, create)
    creators = {creator} if creator is not None else set()
    additional = create.content.get("additional_creators")
    if rules.privileged_creators and isinstance(additional, list):
        creators.update(user_id for user_id in additional if isinstance(user_id, str))
    return frozenset(creators)


def read_level(value: Any, rules: RoomVersion) -> int | None:
    """One power level as an integer; None if it is no level in that room version.

    Strings stand for integers up to version 9, floats are truncated up to version 5
    (rooms/v1#deprecated-event-content-schemas).
    """
    if type(value) is int:
        return value
    if rules.integer_power_levels:
        return None
    if type(value) is str:
        return int(value) if _STRING_LEVEL.fullmatch(value) else None
    if type(value) is float and not rules.strict_canonical_json and math.isfinite(value):
        return int(value)
    return None


def read_levels(value: Any, rules: RoomVersion) -> dict[str, int]:
    """The levels of an object (`users`, `events`, `notifications`); others are left out."""
    if type(value) is not dict:
        return {}
    levels = ((key, read_level(level, rules)) for key, level in value.items())
    return {key: level for key, level in levels if level is not None}
