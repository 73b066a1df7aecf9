"""The rule on invites that answer an `m.room.third_party_invite` (4.3.1, 4.4.1 or 5.4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError, encode_lenient
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.signatures import decode_base64, decode_verify_key, is_signature

MAX_SIGNATURE_CHECKS = 64
"""Real invites need one or two; without a bound an event could cost a minute of CPU."""


def check_third_party_invite(event: Event, state: Mapping[StateKey, Event]) -> None:
    """Raises Rejected unless the invite is signed as its third-party invite asks for."""
    target = state.get(("m.room.member", event.state_key or ""))
    # "If target user is banned, reject."
    if target is not None and target.membership == "ban":
        raise Rejected("the invited user is banned")
    # "If content.third_party_invite does not have a signed property, reject."
    third_party_invite = event.content.get("third_party_invite")
    signed = third_party_invite.get("signed") if isinstance(third_party_invite, dict) else None
    if not isinstance(signed, dict):
        raise Rejected("third_party_invite has no signed property")
    # "If signed does not have mxid and token properties, reject."
    if "mxid" not in signed or "token" not in signed:
        raise Rejected("third_party_invite.signed has no mxid or no token")
    # "If mxid does not match state_key, reject."
    if signed["mxid"] != event.state_key:
        raise Rejected("third_party_invite.signed.mxid is not the invited user")
    invite = _third_party_invite(signed["token"], state)
    # "If sender does not match sender of the m.room.third_party_invite, reject."
    if invite.sender != event.sender:
        raise Rejected("the sender is not the one of the m.room.third_party_invite")
    # "If any signature in signed matches any public key in the m.room.third_party_invite event,
    # allow."
    if not _is_signed(signed, invite):
        raise Rejected("no signature matches a key of the m.room.third_party_invite")


def _third_party_invite(token: Any, state: Mapping[StateKey, Event]) -> Event:
    # "If there is no m.room.third_party_invite event in the current room state with state_key
    # matching token, reject."
    key = ("m.room.third_party_invite", token)
    invite = state.get(key) if isinstance(token, str) else None
    if invite is None:
        raise Rejected("there is no m.room.third_party_invite with that token")
    return invite


def _is_signed(signed: JsonObject, invite: Event) -> bool:
    unsigned = {key: signed[key] for key in signed if key not in ("signatures", "unsigned")}
    try:
        message = encode_lenient(unsigned)
    except CanonicalJsonError:
        return False
    checks = 0
    keys = list(dict.fromkeys(_public_keys(invite.content)))
    for signature in _signatures(signed.get("signatures")):
        for key in keys:
            checks += 1
            if checks > MAX_SIGNATURE_CHECKS:
                return False
            if is_signature(message, signature, decode_verify_key(key)):
                return True
    return False


def _public_keys(content: JsonObject) -> Iterator[str]:
    """Those of them that are ed25519 keys in base64."""
    # "A single public key in the public_key property. A list of public keys in public_keys."
    more = content.get("public_keys")
    entries = [content, *(more if isinstance(more, list) else [])]
    for entry in entries:
        key = entry.get("public_key") if isinstance(entry, dict) else None
        if not isinstance(key, str):
            continue
        try:
            decode_verify_key(key)
        except ValueError:
            continue
        yield key


def _signatures(signatures: Any) -> Iterator[bytes]:
    """All ed25519 signatures, whoever made them."""
    servers = signatures.values() if isinstance(signatures, dict) else []
    for of_server in servers:
        if not isinstance(of_server, dict):
            continue
        for key_id, text in of_server.items():
            if not key_id.startswith("ed25519:") or not isinstance(text, str):
                continue
            try:
                signature = decode_base64(text)
            except ValueError:
                continue
            if len(signature) == 64:
                yield signature
