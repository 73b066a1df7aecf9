"""The form of keys that other servers show: clients may give up on a whole answer for one of them.

client-server-api#device-keys, client-server-api#one-time-and-fallback-keys
"""

from __future__ import annotations

from typing import Any

from homeserver.json_types import JsonObject


def are_device_keys(keys: JsonObject, user_id: str, device_id: str) -> bool:
    """DeviceKeys of that device, with all that is required of them."""
    algorithms = keys.get("algorithms")
    return (
        keys.get("user_id") == user_id
        and keys.get("device_id") == device_id
        and isinstance(algorithms, list)
        and all(isinstance(algorithm, str) for algorithm in algorithms)
        and _are_texts(keys.get("keys"))
        and are_signatures(keys.get("signatures"))
    )


def is_one_time_key(key: Any) -> bool:
    """The key itself, or a signed KeyObject."""
    if not isinstance(key, dict):
        return isinstance(key, str)
    return isinstance(key.get("key"), str) and are_signatures(key.get("signatures"))


def are_signatures(value: Any) -> bool:
    """Signatures by who signed and the id of the key."""
    return isinstance(value, dict) and all(map(_are_texts, value.values()))


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
