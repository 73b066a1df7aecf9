"""Hashes and signatures of JSON objects and PDUs.

appendices#signing-json, server-server-api#signing-events. Keys are libsodium's, by PyNaCl.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import nacl.bindings
import nacl.exceptions
from msgspec import Struct
from nacl.signing import SigningKey, VerifyKey

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError, encode, encode_pdu
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import RoomVersion

_UNSIGNED_KEYS = ("signatures", "unsigned")
UNHASHED_KEYS = ("hashes", "signatures", "unsigned")


class SignatureError(ValueError):
    """A signature is missing, malformed or wrong; the text says which."""


class Signer(Struct, frozen=True):
    """Who signs: a server name, the id of its key (`ed25519:a_abcd`) and the key."""

    server_name: str
    key_id: str
    key: SigningKey

    def sign(self, message: bytes) -> str:
        """The signature of the bytes, in unpadded base64."""
        secret = self.key._signing_key  # skips PyNaCl's wrapper objects: the hot path
        return encode_base64(nacl.bindings.crypto_sign(message, secret)[:64])


def encode_base64(data: bytes) -> str:
    """Unpadded base64 (appendices#unpadded-base64)."""
    return base64.b64encode(data).rstrip(b"=").decode()


def encode_url_safe_base64(data: bytes) -> str:
    """URL-safe unpadded base64 (appendices#url-safe-unpadded-base64)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64(text: str) -> bytes:
    """Bytes of standard or URL-safe base64, padded or not. Raises ValueError if it is neither."""
    try:
        standard = text.encode("ascii").translate(_TO_STANDARD).rstrip(b"=")
        return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError(f"not base64: {error}") from None


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def generate_signing_key(version: str, seed: bytes) -> str:
    """The line of a signing key file (Synapse's format) for a key version and 32 random bytes."""
    return f"ed25519 {version} {encode_base64(seed)}\n"


def read_signing_key(text: str) -> tuple[str, SigningKey]:
    """Key id and key from the first line of a signing key file. Raises ValueError."""
    words = text.split()[:3]
    if len(words) != 3 or words[0] != "ed25519":
        raise ValueError("a signing key file holds a line: ed25519 VERSION BASE64-SEED")
    seed = decode_base64(words[2])
    if len(seed) != 32:
        raise ValueError("the seed of an ed25519 key has 32 bytes")
    return f"ed25519:{words[1]}", SigningKey(seed)


def encoded_verify_key(key: SigningKey) -> str:
    """The public half in unpadded base64, as servers publish it."""
    return encode_base64(bytes(key.verify_key))


def decode_verify_key(text: str) -> VerifyKey:
    """A public ed25519 key of base64. Raises ValueError if it is none."""
    data = decode_base64(text)
    if len(data) != 32:
        raise ValueError("an ed25519 public key has 32 bytes")
    return VerifyKey(data)


def sign_json(obj: JsonObject, server_name: str, key_id: str, key: SigningKey) -> JsonObject:
    """A copy of the object with our signature among its `signatures`.

    Raises CanonicalJsonError if the object has no canonical form.
    """
    signature = Signer(server_name, key_id, key).sign(signed_message(obj))
    return with_signature(obj, server_name, key_id, signature)


def with_signature(obj: JsonObject, server_name: str, key_id: str, signature: str) -> JsonObject:
    """A copy of the object with one signature more."""
    signatures = dict(obj.get("signatures") or {})
    signatures[server_name] = {**signatures.get(server_name, {}), key_id: signature}
    return {**obj, "signatures": signatures}


def signed_message(obj: JsonObject) -> bytes:
    """The bytes that a signature of a JSON object covers. Raises CanonicalJsonError."""
    return encode({key: value for key, value in obj.items() if key not in _UNSIGNED_KEYS})


def signature_of(obj: JsonObject, server_name: str, key_id: str) -> bytes:
    """The bytes of one signature of an object (JSON or PDU). Raises SignatureError."""
    signatures: Any = obj.get("signatures")
    of_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    text = of_server.get(key_id) if isinstance(of_server, dict) else None
    if not isinstance(text, str):
        raise SignatureError(f"not signed by {server_name} with {key_id}")
    try:
        signature = decode_base64(text)
    except ValueError:
        raise SignatureError(f"the signature of {server_name} is not base64") from None
    if len(signature) != 64:
        raise SignatureError(f"the signature of {server_name} does not have 64 bytes")
    return signature


def key_ids_of(obj: JsonObject, server_name: str) -> list[str]:
    """The ed25519 keys with which a server has signed an object (JSON or PDU)."""
    signatures: Any = obj.get("signatures")
    of_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    if not isinstance(of_server, dict):
        return []
    return [key_id for key_id in of_server if key_id.startswith("ed25519:")]


def verify_signature(obj: JsonObject, server_name: str, key_id: str, verify_key: VerifyKey) -> None:
    """Raises SignatureError unless that server has signed the object with that key.

    appendices#checking-for-a-signature
    """
    signature = signature_of(obj, server_name, key_id)
    try:
        message = signed_message(obj)
    except CanonicalJsonError as error:
        raise SignatureError(f"no canonical JSON: {error}") from None
    if not is_signature(message, signature, verify_key):
        raise SignatureError(f"the signature of {server_name} with {key_id} is wrong")


def is_signature(message: bytes, signature: bytes, verify_key: VerifyKey) -> bool:
    """One check of 64 signature bytes, about 70 us; libsodium lets go of the GIL meanwhile."""
    try:
        nacl.bindings.crypto_sign_open(signature + message, bytes(verify_key))
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError):
        return False
    return True


def pdu_message(pdu: JsonObject, rules: RoomVersion) -> bytes:
    """The bytes that the signatures of a PDU cover, and of which the reference hash is made.

    The event is redacted, `signatures` and `unsigned` are removed, the rest is canonical JSON.
    server-server-api#calculating-the-reference-hash-for-an-event
    """
    kept = redact(pdu, rules)
    kept.pop("signatures", None)
    return encode_pdu(kept, rules)


def content_hash(pdu: JsonObject, rules: RoomVersion) -> str:
    """The hash of the complete event, in unpadded base64.

    server-server-api#calculating-the-content-hash-for-an-event
    """
    hashed = {key: value for key, value in pdu.items() if key not in UNHASHED_KEYS}
    return encode_base64(hashlib.sha256(encode_pdu(hashed, rules)).digest())


def has_valid_content_hash(pdu: JsonObject, rules: RoomVersion) -> bool:
    """Whether `hashes.sha256` is the content hash; if not, the redacted copy is to be used."""
    hashes = pdu.get("hashes")
    claimed = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(claimed, str):
        return False
    try:
        return decode_base64(claimed) == decode_base64(content_hash(pdu, rules))
    except ValueError:
        return False


def reference_hash(pdu: JsonObject, rules: RoomVersion) -> bytes:
    """The SHA-256 of the event's essential fields, of which ids are made from version 3 on."""
    return hashlib.sha256(pdu_message(pdu, rules)).digest()
