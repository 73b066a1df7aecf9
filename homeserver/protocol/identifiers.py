"""The grammar of Matrix identifiers (appendices#identifier-grammar).

Rules of this file: the two parsers are on the hot path and check nothing; the `is_...` functions
take any JSON value and never raise. Lengths are counted in UTF-8 bytes.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any, TypeGuard

from homeserver.protocol.room_versions import EventIdFormat, RoomVersion

MAX_ID_BYTES = 255

_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_SERVER_NAME = re.compile(
    r"(?:[0-9A-Za-z.-]{1,255}|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\])(?::[0-9]{1,5})?"
)
_COMPLIANT_LOCALPART = re.compile(r"[!-9;-~]+:")
_NEW_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_REFERENCE_HASH = re.compile(r"[A-Za-z0-9+/]{43}")
_URL_SAFE_REFERENCE_HASH = re.compile(r"[A-Za-z0-9_-]{43}")
_SIGNING_KEY_ID = re.compile(r"ed25519:[a-zA-Z0-9_]+")

_URL_SAFE = EventIdFormat.URL_SAFE_REFERENCE_HASH
_STANDARD = EventIdFormat.REFERENCE_HASH


def server_name_of(identifier: str) -> str:
    """What stands after the first colon; empty when the id has no domain."""
    return identifier.partition(":")[2]


def localpart_of(identifier: str) -> str:
    """What stands between the sigil and the first colon."""
    return identifier.partition(":")[0][1:]


def fits(value: str) -> bool:
    """Whether it keeps the 255-byte limit of ids, event types and state keys."""
    length = len(value)
    if length > MAX_ID_BYTES or length * 4 <= MAX_ID_BYTES or value.isascii():
        return length <= MAX_ID_BYTES
    return len(value.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES


def is_server_name(value: Any) -> TypeGuard[str]:
    """appendices#server-name"""
    if type(value) is not str:
        return False
    match = _SERVER_NAME.fullmatch(value)
    if match is None:
        return False
    if match["ipv6"] is not None:
        return ":" in match["ipv6"] and _is_ip_address(match["ipv6"])
    host = value.partition(":")[0]
    return _IPV4.fullmatch(host) is None or _is_ip_address(host)


def _is_ip_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_domain_id(value: Any, sigil: str) -> TypeGuard[str]:
    """`sigil localpart : server_name`; in the localpart no `:`, NUL or surrogate."""
    return type(value) is str and value[:1] == sigil and fits(value) and _has_domain(value)


def _has_domain(value: str) -> bool:
    localpart, _, domain = value.partition(":")
    return _is_text(localpart) and _is_domain(domain)


@lru_cache(maxsize=8192)
def _is_domain(value: str) -> bool:
    """Cached, since the same few servers come again and again."""
    return is_server_name(value)


def _is_text(value: str) -> bool:
    if value.isascii():
        return "\0" not in value
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def is_user_id(value: Any) -> TypeGuard[str]:
    """A user id as it may occur in an event: historical localparts and the empty one included.

    appendices#historical-user-ids
    """
    return _is_domain_id(value, "@")


def is_compliant_user_id(value: Any) -> TypeGuard[str]:
    """A user id that clients may be told of outside of events: "localparts containing characters
    outside the range U+0021 to U+007E, or with an empty localpart, are considered non-compliant".
    """
    return is_user_id(value) and _COMPLIANT_LOCALPART.match(value, 1) is not None


def is_valid_new_localpart(value: Any) -> TypeGuard[str]:
    """The localpart of a user that is created now (appendices#user-identifiers)."""
    return type(value) is str and _NEW_LOCALPART.fullmatch(value) is not None


def is_room_id(value: Any, rules: RoomVersion | None = None) -> TypeGuard[str]:
    """A room id of that room version, or of any (appendices#room-ids)."""
    if type(value) is not str or value[:1] != "!":
        return False
    without_domain = rules is None or rules.room_id_is_create_event_id
    if without_domain and _URL_SAFE_REFERENCE_HASH.fullmatch(value, 1):
        return True
    with_domain = rules is None or not rules.room_id_is_create_event_id
    return with_domain and _is_domain_id(value, "!")


def is_room_alias(value: Any) -> TypeGuard[str]:
    """appendices#room-aliases"""
    return _is_domain_id(value, "#")


def is_event_id(value: Any, rules: RoomVersion | None = None) -> TypeGuard[str]:
    """An event id of that room version, or of any (appendices#event-ids)."""
    if type(value) is not str or value[:1] != "$":
        return False
    if rules is None:
        return len(value) > 1 and _is_text(value) and fits(value)
    if rules.event_id_format is _URL_SAFE:
        return _URL_SAFE_REFERENCE_HASH.fullmatch(value, 1) is not None
    if rules.event_id_format is _STANDARD:
        return _REFERENCE_HASH.fullmatch(value, 1) is not None
    return _is_domain_id(value, "$")


def is_device_id(value: Any) -> TypeGuard[str]:
    """A device id: chosen by clients, so any text."""
    return type(value) is str and value != "" and _is_text(value) and fits(value)


def is_signing_key_id(value: Any) -> TypeGuard[str]:
    """`ed25519:` and a key version of `a-zA-Z0-9_`."""
    return type(value) is str and _SIGNING_KEY_ID.fullmatch(value) is not None


def folded_address(address: str) -> str:
    """A mail address in the one form in which it is stored, compared and counted."""
    return address.strip().casefold()
