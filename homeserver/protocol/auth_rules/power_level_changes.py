"""The rule "If type is `m.room.power_levels`" (number 9 or 10, by room version)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules.selection import CREATE, POWER_LEVELS
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.power_levels import creators_of, read_level, read_levels
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion

_SCALARS = (
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "redact",
    "kick",
    "invite",
)


def check_power_levels(
    rules: RoomVersion, event: Event, state: Mapping[StateKey, Event], sender_power: int
) -> None:
    """Raises Rejected unless the sender may change the power levels in this way."""
    _check_form(rules, event.content)
    # (v12) "If the users property in content contains the sender of the m.room.create event or any
    # of the additional_creators array (if present) from the content of the m.room.create event,
    # reject."
    users = event.content.get("users", {})
    if rules.privileged_creators and not creators_of(rules, state[CREATE]).isdisjoint(users):
        raise Rejected("the power levels name a creator of the room")
    # "If there is no previous m.room.power_levels event in the room, allow."
    current = state.get(POWER_LEVELS)
    if current is None:
        return
    _check_scalars(rules, current.content, event.content, sender_power)
    # "or notifications": from version 6 on
    for name in ("events", "notifications") if rules.notifications_levels else ("events",):
        _check_levels(
            read_levels(current.content.get(name), rules),
            read_levels(event.content.get(name), rules),
            sender_power,
        )
    _check_users(
        read_levels(current.content.get("users"), rules),
        read_levels(users, rules),
        event.sender,
        sender_power,
    )


def _check_form(rules: RoomVersion, content: JsonObject) -> None:
    """Every level is one. Versions before 10 say so of `users` only, and leave open what another
    value means: it is refused too, so that no such event can come into a state.
    """
    # (v10+) "If any of the properties users_default, events_default, state_default, ban, redact,
    # kick, or invite in content are present and not an integer, reject."
    for name in _SCALARS:
        if name in content and read_level(content[name], rules) is None:
            raise Rejected(f"the power level {name} is not an integer")
    # (v10+) "If either of the properties events or notifications in content are present and not an
    # object with values that are integers, reject."
    for name in ("events", "notifications", "users"):
        if name in content and not _is_object_of_levels(content[name], rules):
            raise Rejected(f"the power levels of {name} are not an object of integers")
    # "If the users property in content is not an object with keys that are valid user IDs with
    # values that are integers (or a string that is an integer), reject."
    if not all(is_user_id(user_id) for user_id in content.get("users", {})):
        raise Rejected("the power levels of users name something that is no user id")


def _is_object_of_levels(value: Any, rules: RoomVersion) -> bool:
    return isinstance(value, dict) and all(
        read_level(level, rules) is not None for level in value.values()
    )


def _check_scalars(
    rules: RoomVersion, current: JsonObject, new: JsonObject, sender_power: int
) -> None:
    # "For the properties users_default, events_default, state_default, ban, redact, kick, invite
    # check if they were added, changed or removed. For each found alteration: If the current value
    # is higher than the sender's current power level, reject. If the new value is higher than the
    # sender's current power level, reject."
    for name in _SCALARS:
        old_level = read_level(current.get(name), rules)
        new_level = read_level(new.get(name), rules)
        if old_level == new_level:
            continue
        if (old_level is not None and old_level > sender_power) or (
            new_level is not None and new_level > sender_power
        ):
            raise Rejected(f"the power level {name} is above the sender's own")


def _check_levels(current: Mapping[str, int], new: Mapping[str, int], sender_power: int) -> None:
    for name, level in current.items():
        # "For each entry being changed in, or removed from, the events or notifications properties:
        # If the current value is greater than the sender's current power level, reject."
        if level > sender_power and new.get(name) != level:
            raise Rejected("a changed power level is above the sender's own")
    _check_new_levels(current, new, sender_power)


def _check_new_levels(
    current: Mapping[str, int], new: Mapping[str, int], sender_power: int
) -> None:
    for name, level in new.items():
        # "For each entry being added to, or changed in, the property: If the new value is greater
        # than the sender's current power level, reject."
        if level > sender_power and current.get(name) != level:
            raise Rejected("a new power level is above the sender's own")


def _check_users(
    current: Mapping[str, int], new: Mapping[str, int], sender: str, sender_power: int
) -> None:
    for user_id, level in current.items():
        # "For each entry being changed in, or removed from, the users property, other than the
        # sender's own entry: If the current value is greater than or equal to the sender's current
        # power level, reject."
        if level >= sender_power and new.get(user_id) != level and user_id != sender:
            raise Rejected("the changed user's power level is not below the sender's own")
    _check_new_levels(current, new, sender_power)
