"""Reading what a server publishes at `/_matrix/key/v2/server`: pure, trusts nothing.

server-server-api#retrieving-server-keys
"""

from __future__ import annotations

from typing import Any

import msgspec
from nacl.signing import VerifyKey

from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_signing_key_id
from homeserver.protocol.signatures import SignatureError, decode_verify_key, verify_signature
from homeserver.store.server_keys import ServerKey

# "Servers MUST use the lesser of this field and 7 days into the future when determining if a key
# is valid."
MAX_VALIDITY_MS = 7 * 24 * 3600 * 1000
MAX_KEYS = 100


class BadKeys(Exception):
    """The published keys can't be trusted; the text says why."""


def read_published_keys(published: JsonObject, server_name: str, now: int) -> list[ServerKey]:
    """The keys, current and old, of a published object. Raises BadKeys."""
    if published.get("server_name") != server_name:
        raise BadKeys(f"these are the keys of another server than {server_name}")
    valid_until = published.get("valid_until_ts")
    if type(valid_until) is not int or abs(valid_until) >= 2**63:
        raise BadKeys("`valid_until_ts` is not an integer of 64 bits")
    current = _keys(published, "verify_keys")
    _check_signed(published, server_name, current)
    until = min(valid_until, now + MAX_VALIDITY_MS)
    response = msgspec.json.encode(published)
    found = [ServerKey(server_name, id_, key, until, now, response) for id_, key in current.items()]
    for key_id, key in _keys(published, "old_verify_keys").items():
        expired = published["old_verify_keys"][key_id].get("expired_ts")
        if type(expired) is int and abs(expired) < 2**63 and key_id not in current:
            # "`old_verify_keys` which are only valid for signing events": not for requests now.
            expired = min(expired, now - 1)
            found.append(ServerKey(server_name, key_id, key, expired, now, response))
    return found


def _keys(published: JsonObject, name: str) -> dict[str, bytes]:
    """The well-formed ed25519 keys of `verify_keys` or `old_verify_keys`."""
    listed: Any = published.get(name) or {}
    if not isinstance(listed, dict) or len(listed) > MAX_KEYS:
        raise BadKeys(f"`{name}` is not an object of at most {MAX_KEYS} keys")
    found = {}
    for key_id, value in listed.items():
        text = value.get("key") if isinstance(value, dict) else None
        if not is_signing_key_id(key_id) or not isinstance(text, str):
            continue
        try:
            found[key_id] = bytes(decode_verify_key(text))
        except ValueError:
            continue
    return found


def _check_signed(published: JsonObject, server_name: str, keys: dict[str, bytes]) -> None:
    """Raises BadKeys unless one of the keys has signed the object."""
    for key_id, key in keys.items():
        try:
            return verify_signature(published, server_name, key_id, VerifyKey(key))
        except SignatureError:
            continue
    raise BadKeys(f"{server_name} has not signed its keys with one of them")
