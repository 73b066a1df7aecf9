"""Stored PDUs as clients see them: bytes in, bytes out, encoded once per event.

Rules of this file: `content` is never parsed, it is copied. The client form always ends with its
`unsigned` object, so what only one recipient may see (`transaction_id`, `membership`, `age`) is
appended by `with_unsigned` and costs one copy. An unsigned *fragment* is the JSON of one or more
members without the braces: `"age":12,"membership":"join"`.
client-server-api#room-event-format
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import encode_pdu
from homeserver.protocol.redaction import redact_content
from homeserver.protocol.room_versions import RoomVersion

_ABSENT = Raw(b"")
_REDACTION = Raw(b'"m.room.redaction"')
_EMPTY = ord("{")

_encode = msgspec.json.Encoder().encode


class _Pdu(msgspec.Struct, gc=False):
    content: Raw
    origin_server_ts: Raw
    sender: Raw
    type: Raw
    state_key: Raw = _ABSENT
    redacts: Raw = _ABSENT


_decode = msgspec.json.Decoder(_Pdu).decode


def client_json(pdu: bytes, event_id: str, rules: RoomVersion, unsigned: bytes = b"") -> bytes:
    """The client form (ClientEventWithoutRoomID) of a stored PDU, with a fragment for `unsigned`.

    Redacted events are the business of `redacted_client_json`.
    """
    parts = _decode(pdu)
    if parts.type == _REDACTION:
        _place_redacts(parts, rules)
    return _join(parts, event_id, unsigned)


def redacted_client_json(
    pdu: bytes, event_id: str, rules: RoomVersion, redacted_because: bytes, unsigned: bytes = b""
) -> bytes:
    """The client form of a redacted event: pruned, with the redaction's own client form inside.

    "Servers should include a copy of the `m.room.redaction` event under `unsigned` as
    `redacted_because` when serving the redacted event to clients."
    client-server-api#redactions
    """
    because = b'"redacted_because":' + redacted_because
    fragment = because + b"," + unsigned if unsigned else because
    return _join(_pruned(pdu, rules), event_id, fragment)


def pruned_client_json(pdu: bytes, event_id: str, rules: RoomVersion) -> bytes:
    """The same of an event that nobody redacted, whose content this reader may not see."""
    return _join(_pruned(pdu, rules), event_id, b"")


def _pruned(pdu: bytes, rules: RoomVersion) -> _Pdu:
    parts = _decode(pdu)
    content = redact_content(msgspec.json.decode(parts.type), _content(parts), rules)
    parts.content = Raw(encode_pdu(content, rules))
    if rules.redacts_in_content and "redacts" in content and parts.type == _REDACTION:
        parts.redacts = Raw(_encode(content["redacts"]))
    else:
        parts.redacts = _ABSENT
    return parts


def _place_redacts(parts: _Pdu, rules: RoomVersion) -> None:
    """Puts `redacts` at both places, whichever the room version has it in."""
    content = _content(parts)
    if rules.redacts_in_content:
        # "For backwards-compatibility with older clients, servers should add a `redacts` property
        # to the top level of `m.room.redaction` events" (rooms/v11)
        parts.redacts = Raw(_encode(content["redacts"])) if "redacts" in content else _ABSENT
    elif parts.redacts is not _ABSENT:
        # "For improved compatibility with newer clients, servers should add a `redacts` property
        # to the `content` of `m.room.redaction` events in *older* room versions" (rooms/v11)
        content["redacts"] = msgspec.json.decode(parts.redacts)
        parts.content = Raw(encode_pdu(content, rules))


def _content(parts: _Pdu) -> JsonObject:
    content: JsonObject = msgspec.json.decode(parts.content)
    return content


def _join(parts: _Pdu, event_id: str, unsigned: bytes) -> bytes:
    return b"".join(
        (
            b'{"content":',
            parts.content,
            b',"event_id":',
            _encode(event_id),
            b',"origin_server_ts":',
            parts.origin_server_ts,
            *((b',"redacts":', parts.redacts) if parts.redacts is not _ABSENT else ()),
            b',"sender":',
            parts.sender,
            *((b',"state_key":', parts.state_key) if parts.state_key is not _ABSENT else ()),
            b',"type":',
            parts.type,
            b',"unsigned":{',
            unsigned,
            b"}}",
        )
    )


def with_unsigned(client_event: bytes, fragment: bytes) -> bytes:
    """Appends what this recipient may see to the `unsigned` of a client form."""
    if not fragment:
        return client_event
    if client_event[-3] == _EMPTY:
        return client_event[:-2] + fragment + b"}}"
    return b"%b,%b}}" % (client_event[:-2], fragment)


def in_room(client_event: bytes, start: bytes, fragment: bytes) -> bytes:
    """A ClientEvent of a client form: `with_room_id` and `with_unsigned` in one, as pages of
    hundreds of events and states of thousands want it.

    `start` is `{"room_id":"...",`, the fragment must not be empty.
    """
    if client_event[-3] == _EMPTY:
        return b"%b%b%b}}" % (start, client_event[1:-2], fragment)
    return b"%b%b,%b}}" % (start, client_event[1:-2], fragment)


def with_room_id(client_event: bytes, room_id: str) -> bytes:
    """A ClientEvent, as everything but `/sync` returns it."""
    return b'{"room_id":%b,%b' % (_encode(room_id), client_event[1:])


def age(milliseconds: int) -> bytes:
    """Fragment: the time since the event was sent."""
    return b'"age":%d' % milliseconds


def transaction_id(txn_id: str) -> bytes:
    """Fragment: only for the device that sent the event with this transaction id."""
    return b'"transaction_id":' + _encode(txn_id)


def delay_id(delay_id: str) -> bytes:
    """Fragment: the same of an event that was sent later (MSC4140)."""
    return b'"org.matrix.msc4140.delay_id":' + _encode(delay_id)


def membership(value: str) -> bytes:
    """Fragment: the reader's own membership at the event, `leave` if they had none."""
    return _MEMBERSHIPS.get(value) or b'"membership":' + _encode(value)


_MEMBERSHIPS = {
    value: b'"membership":"%b"' % value.encode()
    for value in ("join", "invite", "leave", "ban", "knock")
}


def replaced_state(replaces_state: str, prev_content: bytes | None) -> bytes:
    """Fragment: the state event that this one replaced; None if the reader may not see it.

    "Unlike `prev_content`, [`replaces_state`] is included regardless of history visibility."
    """
    fragment = b'"replaces_state":' + _encode(replaces_state)
    if prev_content is None:
        return fragment
    return b'"prev_content":%b,%b' % (prev_content, fragment)


def relations(bundle: bytes) -> bytes:
    """Fragment: the bundled aggregations, a JSON object keyed by `rel_type`."""
    return b'"m.relations":' + bundle


def stripped_state(pdu: bytes) -> bytes:
    """The StrippedStateEvent of a state event. client-server-api#stripped-state

    "Stripped state events can only have the `sender`, `type`, `state_key` and `content`
    properties present."
    """
    parts = _decode(pdu)
    return b'{"content":%b,"sender":%b,"state_key":%b,"type":%b}' % (
        parts.content,
        parts.sender,
        parts.state_key or b'""',
        parts.type,
    )


def federation_json(pdu: bytes, event_id: str, rules: RoomVersion) -> bytes:
    """The stored PDU itself, for a filter that asks for `event_format: federation`.

    The event id is added where the room version's PDUs have none: a client could not name the
    event without it. As in the client form, `unsigned` stands at the end.
    """
    if rules.event_id_in_pdu:
        return pdu[:-1] + b',"unsigned":{}}'
    return b'{"event_id":%b,%b,"unsigned":{}}' % (_encode(event_id), pdu[1:-1])
