"""Events: a PDU parsed once, immutable, small enough to be held by the hundred thousand.

Rules of this file: an `Event` holds the canonical bytes of its PDU (with hashes and signatures,
without `unsigned`) and the fields that rules look at; nothing here judges whether it is allowed.
`parse_event` trusts nothing, `stored_event` trusts our own database, `build_event` makes our own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any

import msgspec
from msgspec import Struct, field

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import (
    CanonicalJsonError,
    encode_pdu,
    encode_valid,
    validate,
)
from homeserver.protocol.event_format import (
    MAX_PDU_BYTES,
    check_format,
    check_size,
    check_strings,
)
from homeserver.protocol.identifiers import is_event_id, server_name_of
from homeserver.protocol.redaction import redact
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion
from homeserver.protocol.signatures import (
    UNHASHED_KEYS,
    Signer,
    encode_base64,
    encode_url_safe_base64,
    pdu_message,
)

StateKey = tuple[str, str]


class Event(msgspec.Struct, frozen=True, eq=False, gc=False):
    """An event of a room; compared by identity."""

    rules: RoomVersion
    event_id: str
    room_id: str
    type: str
    sender: str
    state_key: str | None
    content: JsonObject
    depth: int
    origin_server_ts: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    redacts: str | None
    """Of an `m.room.redaction`, wherever the room version keeps it."""
    json: bytes
    """The canonical JSON of the PDU."""
    rejected: bool = False

    @property
    def pdu(self) -> JsonObject:
        """The PDU as it goes over federation, decoded anew at each call."""
        decoded: JsonObject = msgspec.json.decode(self.json)
        return decoded

    @property
    def is_state(self) -> bool:
        return self.state_key is not None

    @property
    def key(self) -> StateKey:
        """`(type, state_key)`, for state events only."""
        assert self.state_key is not None
        return (self.type, self.state_key)

    @property
    def membership(self) -> str | None:
        """`content.membership`, whatever the type, if it is a string."""
        membership = self.content.get("membership")
        return membership if isinstance(membership, str) else None

    @property
    def server_name(self) -> str:
        """The server of the sender."""
        return server_name_of(self.sender)

    def as_rejected(self) -> Event:
        """The same event with the mark `rejected`."""
        return msgspec.structs.replace(self, rejected=True)

    def redacted(self) -> Event:
        """The same event with what redaction leaves of it."""
        pdu = redact(self.pdu, self.rules)
        return _event(self.rules, pdu, self.event_id, encode_pdu(pdu, self.rules), self.rejected)

    def __repr__(self) -> str:
        return f"<{self.type} {self.state_key!r} {self.event_id} by {self.sender}>"


class Template(Struct, frozen=True, kw_only=True):
    """What an event says before it is hashed and signed. `room_id` is empty for a v12 create event.

    Room versions 1 and 2 also need the chosen `event_id` and, where known, the reference hashes of
    the events that it refers to (unpadded base64).
    """

    room_id: str
    type: str
    sender: str
    content: JsonObject
    origin_server_ts: int
    depth: int
    prev_events: Sequence[str]
    auth_events: Sequence[str]
    state_key: str | None = None
    redacts: str | None = None
    event_id: str | None = None
    reference_hashes: Mapping[str, str] = field(default_factory=dict)


def parse_event(
    pdu: JsonObject, rules: RoomVersion, *, event_id: str | None = None, is_history: bool = False
) -> Event:
    """The event of a PDU from anywhere; raises Rejected unless it is valid for the room version.

    `event_id`, if given, is the id under which it was asked for: another one is Rejected.
    `is_history`: it was backfilled, and may be from before some of today's limits.
    server-server-api#checks-performed-on-receipt-of-a-pdu, check 1.
    """
    if not isinstance(pdu, dict):
        raise Rejected("a PDU must be an object")
    pdu = {key: value for key, value in pdu.items() if key != "unsigned"}
    try:
        if rules.strict_canonical_json:
            validate(pdu)
        encoded = encode_pdu(pdu, rules)
        check_format(pdu, rules, is_history=is_history)
        check_size(encoded)
        actual_id = event_id_of(pdu, rules)
    except CanonicalJsonError as error:
        raise Rejected(f"not canonical JSON: {error}") from None
    if event_id is not None and event_id != actual_id:
        raise Rejected("the event has another id than the one asked for")
    return _event(rules, pdu, actual_id, encoded)


def event_id_of(pdu: JsonObject, rules: RoomVersion, message: bytes | None = None) -> str:
    """The id of a PDU; `message` spares its `pdu_message` being made again."""
    if rules.event_id_format is EventIdFormat.CHOSEN:
        event_id: str = pdu["event_id"]
        return event_id
    if message is None:
        message = pdu_message(pdu, rules)
    digest = hashlib.sha256(message).digest()
    if rules.event_id_format is EventIdFormat.REFERENCE_HASH:
        return "$" + encode_base64(digest)
    return "$" + encode_url_safe_base64(digest)


def _event(
    rules: RoomVersion, pdu: JsonObject, event_id: str, encoded: bytes, rejected: bool = False
) -> Event:
    """The event of a PDU whose format was checked."""
    event_type = intern(pdu["type"])
    state_key = pdu.get("state_key")
    room_id = pdu.get("room_id", "")
    if rules.room_id_is_create_event_id and is_create(event_type, state_key):
        room_id = "!" + event_id[1:]
    return Event(
        rules,
        event_id,
        intern(room_id),
        event_type,
        intern(pdu["sender"]),
        None if state_key is None else intern(state_key),
        pdu["content"],
        pdu["depth"],
        pdu["origin_server_ts"],
        _ids(pdu["prev_events"], rules),
        _ids(pdu["auth_events"], rules),
        _redacts(pdu, rules),
        encoded,
        rejected,
    )


def is_create(event_type: str, state_key: str | None) -> bool:
    """Whether it starts a room."""
    return event_type == "m.room.create" and state_key == ""


def _ids(references: Sequence[Any], rules: RoomVersion) -> tuple[str, ...]:
    if rules.event_id_in_pdu:
        return tuple(pair[0] for pair in references)
    return tuple(references)


def _redacts(pdu: JsonObject, rules: RoomVersion) -> str | None:
    if pdu["type"] != "m.room.redaction":
        return None
    redacts = (pdu["content"] if rules.redacts_in_content else pdu).get("redacts")
    return redacts if is_event_id(redacts) else None


def stored_event(
    json_bytes: bytes, event_id: str, rules: RoomVersion, rejected: bool = False
) -> Event:
    """The event of a row of our own database, by its `Event.json`; nothing is checked."""
    row = _decode_row(json_bytes)
    if rules.room_id_is_create_event_id and is_create(row.type, row.state_key):
        room_id = "!" + event_id[1:]
    else:
        room_id = row.room_id
    redacts = None
    if row.type == "m.room.redaction":
        redacts = row.content.get("redacts") if rules.redacts_in_content else row.redacts
    return Event(
        rules,
        event_id,
        intern(room_id),
        intern(row.type),
        intern(row.sender),
        None if row.state_key is None else intern(row.state_key),
        row.content,
        row.depth,
        row.origin_server_ts,
        _ids(row.prev_events, rules),
        _ids(row.auth_events, rules),
        redacts if is_event_id(redacts) else None,
        json_bytes,
        rejected,
    )


class _Row(msgspec.Struct, gc=False):
    type: str
    sender: str
    content: JsonObject
    depth: int
    origin_server_ts: int
    prev_events: list[Any]
    auth_events: list[Any]
    room_id: str = ""
    state_key: str | None = None
    redacts: Any = None


_decode_row = msgspec.json.Decoder(_Row).decode


def unsigned_pdu(rules: RoomVersion, template: Template) -> JsonObject:
    """The PDU of a template without hashes and signatures, as `make_join` answers it."""
    pdu: JsonObject = {
        "auth_events": _references(template.auth_events, rules, template),
        "content": template.content,
        "depth": min(template.depth, rules.max_depth),
        "origin_server_ts": template.origin_server_ts,
        "prev_events": _references(template.prev_events, rules, template),
        "sender": template.sender,
        "type": template.type,
    }
    if not (rules.room_id_is_create_event_id and is_create(template.type, template.state_key)):
        pdu["room_id"] = template.room_id
    if template.state_key is not None:
        pdu["state_key"] = template.state_key
    if template.event_id is not None and rules.event_id_in_pdu:
        pdu["event_id"] = template.event_id
    if template.redacts is not None:
        if rules.redacts_in_content:
            pdu["content"] = {**template.content, "redacts": template.redacts}
        else:
            pdu["redacts"] = template.redacts
    return pdu


def _references(event_ids: Sequence[str], rules: RoomVersion, template: Template) -> list[Any]:
    if not rules.event_id_in_pdu:
        return list(event_ids)
    hashes = template.reference_hashes
    return [[id_, {"sha256": hashes[id_]} if id_ in hashes else {}] for id_ in event_ids]


def build_event(rules: RoomVersion, template: Template, signer: Signer) -> Event:
    """Our own event, hashed and signed. Raises Rejected (TooLarge) or CanonicalJsonError.

    Of the template, what a client can choose is checked: content, type, state key, sizes.
    """
    validate(template.content)
    pdu = unsigned_pdu(rules, template)
    check_strings(pdu)
    return _signed(pdu, rules, signer)


def sign_pdu(pdu: JsonObject, rules: RoomVersion, signer: Signer) -> Event:
    """The event of a PDU without hashes and signatures (a template of another server, say).

    Raises Rejected if its format is wrong, CanonicalJsonError if it has no canonical form.
    server-server-api#adding-hashes-and-signatures-to-outgoing-events
    """
    validate(pdu)
    pdu = {key: value for key, value in pdu.items() if key not in UNHASHED_KEYS}
    check_format(pdu | {"hashes": {}, "signatures": {}}, rules)
    return _signed(pdu, rules, signer)


def _signed(pdu: JsonObject, rules: RoomVersion, signer: Signer) -> Event:
    """Fills in the hashes and the signature of a PDU of canonical JSON that has neither."""
    pdu["hashes"] = {"sha256": encode_base64(hashlib.sha256(encode_valid(pdu)).digest())}
    message = pdu_message(pdu, rules)
    pdu["signatures"] = {signer.server_name: {signer.key_id: signer.sign(message)}}
    encoded = encode_valid(pdu)
    check_size(encoded)
    return _event(rules, pdu, event_id_of(pdu, rules, message), encoded)


def add_signature(event: Event, signer: Signer) -> Event:
    """The event with our signature beside the others (invites, restricted joins)."""
    pdu = event.pdu
    signatures = pdu["signatures"].setdefault(signer.server_name, {})
    signatures[signer.key_id] = signer.sign(pdu_message(pdu, event.rules))
    encoded = encode_pdu(pdu, event.rules)
    check_size(encoded)
    return _event(event.rules, pdu, event.event_id, encoded, event.rejected)


def with_signatures(event: Event, more: JsonObject) -> Event:
    """The event with signatures of other servers (server name -> key id -> signature) added.

    What is no signature is left out; those that are there stay.
    """
    pdu = event.pdu
    for server_name, of_server in more.items():
        if isinstance(of_server, dict):
            texts = {k: v for k, v in of_server.items() if isinstance(v, str)}
            # A policy server's may be there already, beside which its server signs too.
            pdu["signatures"][server_name] = {**texts, **pdu["signatures"].get(server_name, {})}
    encoded = encode_pdu(pdu, event.rules)
    check_size(encoded)
    return _event(event.rules, pdu, event.event_id, encoded, event.rejected)


def with_signature_by(event: Event, server_name: str, key_id: str, signature: str) -> Event:
    """The event with one signature set, whatever stood in its place; all others stay."""
    pdu = event.pdu
    pdu["signatures"].setdefault(server_name, {})[key_id] = signature
    encoded = encode_pdu(pdu, event.rules)
    check_size(encoded)
    return _event(event.rules, pdu, event.event_id, encoded, event.rejected)


def required_signers(event: Event) -> set[str]:
    """The servers that must have signed an event (each room version's "Authorisation rules").

    An invite that answers a third-party invite needs none: the server that sends it "may be a
    different server" than the sender's. Rooms of version 1 and 2 also need the event id's server.
    """
    signers: set[str] = set()
    if not _is_third_party_invite(event):
        signers.add(event.server_name)
    if event.rules.event_id_in_pdu:
        signers.add(server_name_of(event.event_id))
    if event.rules.restricted_joins and event.type == "m.room.member":
        authoriser = event.content.get("join_authorised_via_users_server")
        if isinstance(authoriser, str):
            signers.add(server_name_of(authoriser))
    return signers


def _is_third_party_invite(event: Event) -> bool:
    return (
        event.type == "m.room.member"
        and event.membership == "invite"
        and "third_party_invite" in event.content
    )


__all__ = [
    "MAX_PDU_BYTES",
    "Event",
    "StateKey",
    "Template",
    "add_signature",
    "build_event",
    "event_id_of",
    "is_create",
    "parse_event",
    "required_signers",
    "sign_pdu",
    "stored_event",
    "unsigned_pdu",
    "with_signatures",
]
