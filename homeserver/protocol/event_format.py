"""The form of a PDU: which fields, of which types, within which limits (check 1 on receipt).

The sections "Event format" of the room versions, client-server-api#size-limits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import fits, is_event_id, is_room_id, is_user_id
from homeserver.protocol.rejection import Rejected, TooLarge
from homeserver.protocol.room_versions import RoomVersion

MAX_PDU_BYTES = 65_536
"""Of a whole event in canonical JSON with its signatures."""
MAX_CHARACTERS = 255
MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10
MAX_HISTORY = 1500
"""No event of 65,536 bytes has more."""
_MAX_INT64 = 2**63 - 1


def check_size(encoded: bytes) -> None:
    """ "The complete event MUST NOT be larger than 65536 bytes" """
    if len(encoded) > MAX_PDU_BYTES:
        raise TooLarge(f"the event has {len(encoded)} bytes, at most {MAX_PDU_BYTES} are allowed")


def check_format(pdu: JsonObject, rules: RoomVersion, *, is_history: bool = False) -> None:
    """Raises Rejected (TooLarge) unless every field has its type and keeps its limits.

    `is_history`: "Though the PDU definitions require that `prev_events` and `auth_events` be
    limited in number, the response of backfill MUST NOT be validated on these".

    A type or state key that is too long only in bytes passes: rooms hold such events, from when
    servers counted characters. `check_auth_events` rejects them, but what follows them is fine.
    """
    _check_strings(pdu, fits_in_characters=("type", "state_key"))
    _check_ids(pdu, rules)
    for name in ("content", "hashes", "signatures"):
        if type(pdu.get(name)) is not dict:
            raise Rejected(f"`{name}` must be an object")
    if any(type(of_server) is not dict for of_server in pdu["signatures"].values()):
        raise Rejected("`signatures` must be an object of objects")
    depth = pdu.get("depth")
    if type(depth) is not int or not 0 <= depth <= rules.max_depth:
        raise Rejected(f"`depth` must be an integer from 0 to {rules.max_depth}")
    timestamp = pdu.get("origin_server_ts")
    if type(timestamp) is not int or not -_MAX_INT64 <= timestamp <= _MAX_INT64:
        raise Rejected("`origin_server_ts` must be an integer of 64 bits")
    _check_references(pdu, "prev_events", MAX_HISTORY if is_history else MAX_PREV_EVENTS, rules)
    _check_references(pdu, "auth_events", MAX_HISTORY if is_history else MAX_AUTH_EVENTS, rules)


def check_strings(pdu: JsonObject) -> None:
    """Raises Rejected (TooLarge) unless the strings are such, of at most 255 bytes, without NUL."""
    _check_strings(pdu, fits_in_characters=())


def _check_strings(pdu: JsonObject, fits_in_characters: Collection[str]) -> None:
    for name in ("type", "sender", "state_key", "room_id", "event_id"):
        value = pdu.get(name)
        if type(value) is str:
            if not fits(value) and (name not in fits_in_characters or len(value) > MAX_CHARACTERS):
                raise TooLarge(f"`{name}` is longer than 255 bytes")
            if "\0" in value:  # PostgreSQL's text can't hold it
                raise Rejected(f"`{name}` holds NUL (U+0000)")
        elif name in pdu or name in ("type", "sender"):
            raise Rejected(f"`{name}` must be a string")


def _check_ids(pdu: JsonObject, rules: RoomVersion) -> None:
    if not is_user_id(pdu["sender"]):
        raise Rejected("`sender` is not a user id")
    if rules.event_id_in_pdu and not is_event_id(pdu.get("event_id"), rules):
        raise Rejected("`event_id` is not an event id of this room version")
    if rules.room_id_is_create_event_id and pdu["type"] == "m.room.create":
        if pdu.get("state_key") != "":
            raise Rejected('`m.room.create` must have the `state_key` ""')
    elif not is_room_id(pdu.get("room_id"), rules):
        raise Rejected("`room_id` is not a room id of this room version")


def _check_references(pdu: JsonObject, name: str, most: int, rules: RoomVersion) -> None:
    references = pdu.get(name)
    if type(references) is not list:
        raise Rejected(f"`{name}` must be a list")
    if len(references) > most:
        raise Rejected(f"`{name}` holds more than {most} events")
    is_reference = _is_pair if rules.event_id_in_pdu else is_event_id
    if not all(is_reference(reference, rules) for reference in references):
        raise Rejected(f"`{name}` holds something that refers to no event")


def _is_pair(reference: Any, rules: RoomVersion) -> bool:
    return (
        type(reference) is list
        and len(reference) == 2
        and is_event_id(reference[0], rules)
        and type(reference[1]) is dict
    )
