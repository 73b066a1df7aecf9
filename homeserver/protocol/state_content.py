"""What clients may not put into well-known events, where the auth rules leave it open.

Rules of this file: only what no room could make sense of is refused, and only to clients; events
of other servers are judged by the auth rules alone. `Rejected` carries what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.rejection import Rejected

MAX_LEVEL = 2**53 - 1
_LEVELS = (
    "ban",
    "events_default",
    "invite",
    "kick",
    "redact",
    "state_default",
    "users_default",
)
_MAPS = ("events", "notifications", "users")
_TEXTS = {
    "m.room.name": ("name",),
    "m.room.topic": ("topic",),
    "m.room.avatar": ("url",),
    "m.room.join_rules": ("join_rule",),
    "m.room.history_visibility": ("history_visibility",),
    "m.room.guest_access": ("guest_access",),
    "m.room.encryption": ("algorithm",),
    "m.room.message": ("body", "msgtype"),
    "m.room.tombstone": ("body", "replacement_room"),
}
"""Fields that are texts if they are there."""
_NEEDED = {"m.room.message": ("body", "msgtype")}
"""Fields that must be there."""


def check_content(event_type: str, content: JsonObject) -> None:
    """Raises Rejected for content that a well-known type of event can't have."""
    for field in _TEXTS.get(event_type, ()):
        value = content.get(field)
        if value is not None and not isinstance(value, str):
            raise Rejected(f"`{field}` of {event_type} must be a string")
    for field in _NEEDED.get(event_type, ()):
        if content.get(field) is None:
            raise Rejected(f"{event_type} needs a `{field}`")
    check = _CHECKS.get(event_type)
    if check is not None:
        check(content)


def _check_power_levels(content: JsonObject) -> None:
    for field in _LEVELS:
        if field in content and not _is_level(content[field]):
            raise Rejected(f"`{field}` must be an integer")
    for field in _MAPS:
        levels = content.get(field, {})
        if not isinstance(levels, dict) or not all(map(_is_level, levels.values())):
            raise Rejected(f"`{field}` must be an object of integers")
    for user_id in content.get("users", {}):
        if not is_user_id(user_id):
            raise Rejected(f"`users` holds {user_id!r}, which is not a user id")


def _is_level(value: Any) -> bool:
    return type(value) is int and -MAX_LEVEL <= value <= MAX_LEVEL


def _check_server_acl(content: JsonObject) -> None:
    for field in ("allow", "deny"):
        servers = content.get(field, [])
        if not isinstance(servers, list) or not all(isinstance(s, str) for s in servers):
            raise Rejected(f"`{field}` must be a list of strings")
    if not isinstance(content.get("allow_ip_literals", True), bool):
        raise Rejected("`allow_ip_literals` must be true or false")


_CHECKS: dict[str, Callable[[JsonObject], None]] = {
    "m.room.power_levels": _check_power_levels,
    "m.room.server_acl": _check_server_acl,
}
