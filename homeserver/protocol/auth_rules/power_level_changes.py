"""The rule "If type is `m.room.power_levels`" (number 9 or 10, by room version)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    content = event.content
    if rules.integer_power_levels:
        _check_scalars_form(rules, content)
        _check_objects_form(rules, content, ("events", "notifications"))
    _check_users_form(rules, content, state[CREATE])
    # "If there is no previous m.room.power_levels event in the room, allow."
    current = state.get(POWER_LEVELS)
    if current is None:
        return
    # "or notifications": from version 6 on
    names = ("events", "notifications") if rules.notifications_levels else ("events",)
    if not rules.integer_power_levels:
        # What is no level can't be compared; the versions before 10 leave open what it means.
        _check_scalars_form(rules, content)
        _check_objects_form(rules, content, names)
    _check_scalars(rules, current.content, content, sender_power)
    for name in names:
        _check_levels(
            read_levels(current.content.get(name), rules),
            read_levels(content.get(name), rules),
            sender_power,
        )
    _check_users(
        read_levels(current.content.get("users"), rules),
        read_levels(content.get("users"), rules),
        event.sender,
        sender_power,
    )


def _check_scalars_form(rules: RoomVersion, content: JsonObject) -> None:
    # (v10+) "If any of the properties users_default, events_default, state_default, ban, redact,
    # kick, or invite in content are present and not an integer, reject."
    for name in _SCALARS:
        if name in content and read_level(content[name], rules) is None:
            raise Rejected(f"the power level {name} is not an integer")


def _check_objects_form(rules: RoomVersion, content: JsonObject, names: Iterable[str]) -> None:
    # (v10+) "If either of the properties events or notifications in content are present and not an
    # object with values that are integers, reject."
    for name in names:
        if name in content and not _is_object_of_levels(content[name], rules):
            raise Rejected(f"the power levels of {name} are not an object of integers")


def _check_users_form(rules: RoomVersion, content: JsonObject, create: Event) -> None:
    # "If the users property in content is not an object with keys that are valid user IDs with
    # values that are integers (or a string that is an integer), reject."
    _check_objects_form(rules, content, ("users",))
    users = content.get("users", {})
    if not all(is_user_id(user_id) for user_id in users):
        raise Rejected("the power levels of users name something that is no user id")
    # (v12) "If the users property in content contains the sender of the m.room.create event or any
    # of the additional_creators array (if present) from the content of the m.room.create event,
    # reject."
    if rules.privileged_creators and not creators_of(rules, create).isdisjoint(users):
        raise Rejected("the power levels name a creator of the room")


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
