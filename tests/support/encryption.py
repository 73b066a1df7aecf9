"""Keys as devices have them, for tests: real ed25519 keys with real signatures."""

from __future__ import annotations

from typing import Any

from nacl.signing import SigningKey

from homeserver.json_types import JsonObject
from homeserver.protocol.signatures import encode_base64, encoded_verify_key, sign_json
from tests.support.client import Client


class Device:
    """The signing key of a client's device."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.key = SigningKey.generate()

    @property
    def key_id(self) -> str:
        return f"ed25519:{self.client.device_id}"

    def sign(self, obj: JsonObject) -> JsonObject:
        return sign_json(obj, self.client.user_id, self.key_id, self.key)

    def keys(self) -> JsonObject:
        """The `device_keys` to upload."""
        client = self.client
        return self.sign(
            {
                "user_id": client.user_id,
                "device_id": client.device_id,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
                "keys": {
                    f"curve25519:{client.device_id}": some_key(),
                    self.key_id: encoded_verify_key(self.key),
                },
            }
        )

    async def upload(self, **body: Any) -> Any:
        """Publishes the device's keys (and what else is given)."""
        return await self.client.post("/keys/upload", {"device_keys": self.keys(), **body})


def some_key() -> str:
    """A public key that nobody has the secret of."""
    return encode_base64(bytes(SigningKey.generate().verify_key))


def one_time_keys(*names: str) -> JsonObject:
    """Keys `signed_curve25519:<name>`; equal names give equal keys."""
    return {
        f"signed_curve25519:{name}": {
            "key": encode_base64(name.encode().ljust(32, b"=")),
            "signatures": {},
        }
        for name in names
    }


async def claim(client: Client, device: Client) -> str | None:
    """The id of the key that a claim for the other device gives."""
    asked = {device.user_id: {device.device_id: "signed_curve25519"}}
    answer = await client.post("/keys/claim", {"one_time_keys": asked})
    found = answer["one_time_keys"].get(device.user_id, {}).get(device.device_id, {})
    return next(iter(found), "").removeprefix("signed_curve25519:") or None


class CrossSigner:
    """The three cross-signing keys of a user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.secrets = {
            usage: SigningKey.generate() for usage in ("master", "self_signing", "user_signing")
        }

    def public(self, usage: str) -> str:
        return encoded_verify_key(self.secrets[usage])

    def sign(self, obj: JsonObject, usage: str) -> JsonObject:
        key_id = f"ed25519:{self.public(usage)}"
        return sign_json(obj, self.user_id, key_id, self.secrets[usage])

    def key(self, usage: str) -> JsonObject:
        public = self.public(usage)
        key = {
            "user_id": self.user_id,
            "usage": [usage],
            "keys": {f"ed25519:{public}": public},
        }
        return key if usage == "master" else self.sign(key, "master")

    def body(self, *usages: str) -> JsonObject:
        """The body of /keys/device_signing/upload."""
        return {f"{usage}_key": self.key(usage) for usage in usages or self.secrets}


async def keys_of(asker: Client, user_id: str) -> Any:
    """All that a query tells of one user: `devices`, `master`, `self_signing`, `user_signing`.

    Devices without their `unsigned` where it is empty.
    """
    answer = await asker.post("/keys/query", {"device_keys": {user_id: []}})
    devices = answer["device_keys"].get(user_id)
    for keys in (devices or {}).values():
        if keys.get("unsigned") == {}:  # Synapse leaves it out
            del keys["unsigned"]
    found = {"devices": devices}
    for usage in ("master", "self_signing", "user_signing"):
        found[usage] = answer[f"{usage}_keys"].get(user_id)
    return found
