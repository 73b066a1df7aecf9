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
