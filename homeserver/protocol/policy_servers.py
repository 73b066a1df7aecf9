"""Policy servers: which one a room uses, and whether it recommends an event.

server-server-api#policy-servers
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from nacl.signing import VerifyKey

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.signatures import (
    SignatureError,
    decode_verify_key,
    is_signature,
    pdu_message,
    signature_of,
)

POLICY: Final = ("m.room.policy", "")
KEY_ID: Final = "ed25519:policy_server"
""" "The Key ID for the `ed25519` key in `m.room.policy` is *always* `ed25519:policy_server`." """


@dataclass(frozen=True, slots=True)
class PolicyServer:
    """A server and the key with which it signs what it recommends."""

    server_name: str
    key: VerifyKey


def policy_server_of(content: JsonObject, servers: Container[str]) -> PolicyServer | None:
    """The policy server that a room uses by its `m.room.policy` content, if it uses one.

    `servers` are those in the room: "The server name [...] has at least one joined user in the
    room in *current state*."
    """
    via, keys = content.get("via"), content.get("public_keys")
    key = keys.get("ed25519") if isinstance(keys, dict) else None
    if not isinstance(via, str) or not isinstance(key, str):
        return None
    try:
        verify_key = decode_verify_key(key)
    except ValueError:
        return None
    if via not in servers:
        return None
    return PolicyServer(via, verify_key)


def is_checked(event: Event) -> bool:
    """ "*all* events except for the `m.room.policy` state event itself are checked" """
    return event.key != POLICY if event.is_state else True


def is_recommended(event: Event, server: PolicyServer) -> bool:
    """Whether the event bears the policy server's signature, or needs none."""
    if not is_checked(event):
        return True
    pdu = event.pdu
    try:
        signature = signature_of(pdu, server.server_name, KEY_ID)
    except SignatureError:
        return False
    return is_signature(pdu_message(pdu, event.rules), signature, server.key)
