"""Cross-signing keys and the signatures that they and devices make.

client-server-api#cross-signing
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from nacl.signing import VerifyKey

from homeserver.json_types import JsonObject
from homeserver.protocol.signatures import decode_verify_key

MASTER = "master"
SELF_SIGNING = "self_signing"
USER_SIGNING = "user_signing"
USAGES = (MASTER, SELF_SIGNING, USER_SIGNING)

Signatures = dict[str, dict[str, Any]]
"""By the user who signs and the id of the key."""


class KeyFormatError(ValueError):
    """An object is no cross-signing key or device key; the text says why."""


class PublicKey(Struct, frozen=True):
    """An ed25519 key: `name` is a device id, or for cross-signing keys the key itself."""

    name: str
    verify_key: VerifyKey

    @property
    def key_id(self) -> str:
        return f"ed25519:{self.name}"


def cross_signing_key(obj: JsonObject, user_id: str, usage: str) -> PublicKey:
    """The public key of a user's cross-signing key for a usage. Raises KeyFormatError.

    "The object must have exactly one property, whose name is in the form `<algorithm>:
    <unpadded_base64_public_key>`, and whose value is the unpadded base64 public key."
    """
    if obj.get("user_id") != user_id:
        raise KeyFormatError(f"the {usage} key has another user_id")
    usages = obj.get("usage")
    if not isinstance(usages, list) or usage not in usages:
        raise KeyFormatError(f"the {usage} key lacks its usage")
    keys = obj.get("keys")
    if not isinstance(keys, dict) or len(keys) != 1:
        raise KeyFormatError(f"the {usage} key must hold exactly one key")
    ((key_id, text),) = keys.items()
    if not isinstance(text, str) or key_id != f"ed25519:{text}":
        raise KeyFormatError(f"the {usage} key must be named ed25519:<key>")
    return PublicKey(text, _verify_key(text))


def device_signing_key(obj: JsonObject, device_id: str) -> PublicKey:
    """The key with which a device signs. Raises KeyFormatError."""
    keys = obj.get("keys")
    text = keys.get(f"ed25519:{device_id}") if isinstance(keys, dict) else None
    if not isinstance(text, str):
        raise KeyFormatError("the device has no ed25519 key")
    return PublicKey(device_id, _verify_key(text))


def _verify_key(text: str) -> VerifyKey:
    try:
        return decode_verify_key(text)
    except ValueError as error:
        raise KeyFormatError(str(error)) from None


def signatures_of(obj: JsonObject) -> Signatures:
    """The signatures of an object, as far as they have the right form."""
    signatures = obj.get("signatures")
    if not isinstance(signatures, dict):
        return {}
    return {user_id: of_user for user_id, of_user in signatures.items() if _is_map(of_user)}


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def signed_part(obj: JsonObject) -> JsonObject:
    """What signatures cover: equal parts are the same key."""
    return {key: value for key, value in obj.items() if key not in ("signatures", "unsigned")}


def merged(obj: JsonObject, more: Signatures) -> JsonObject:
    """A copy of the object with more signatures, without `unsigned`."""
    signatures = signatures_of(obj)
    users = {**signatures, **more}
    all_signatures = {u: {**signatures.get(u, {}), **more.get(u, {})} for u in users}
    return {**signed_part(obj), "signatures": all_signatures}
