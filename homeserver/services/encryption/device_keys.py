"""Devices publish their keys. client-server-api#post_matrixclientv3keysupload"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.errors import BadJson, InvalidParam, UnknownError
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.canonical_json import encode as encode_canonical
from homeserver.protocol.cross_signing import merged, signatures_of, signed_part
from homeserver.protocol.identifiers import is_device_id
from homeserver.store import device_keys as device_key_store
from homeserver.store import one_time_keys as one_time_key_store
from homeserver.store.database import Database
from homeserver.store.device_keys import DeviceKeysRow
from homeserver.store.one_time_keys import KeyRow
from homeserver.store.to_device import DeviceKey
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate
from homeserver.stream.key_counts import KeyCounts


class KeyUpload(msgspec.Struct):
    """The body of /keys/upload."""

    device_keys: dict[str, Any] | None = None
    one_time_keys: dict[str, str | dict[str, Any]] | None = None
    fallback_keys: dict[str, str | dict[str, Any]] | None = None


MAX_ONE_TIME_KEYS = 500
"""Of one device, of all algorithms. Clients keep 50 to 100 here."""
MAX_FALLBACK_KEYS = 20
"""One of each algorithm; clients have one."""


class DeviceKeys:
    """The keys of local devices."""

    def __init__(
        self, database: Database, device_lists: DeviceLists, key_counts: KeyCounts
    ) -> None:
        self._database = database
        self._device_lists = device_lists
        self._key_counts = key_counts

    async def upload(self, user_id: str, device_id: str, keys: KeyUpload) -> dict[str, int]:
        """Publish keys of a device; how many one-time keys it has now, by algorithm.

        Raises InvalidParam, BadJson; UnknownError where a key id stands for another key already.
        """
        check(user_id, device_id, keys)
        one_time_keys = _key_rows(keys.one_time_keys or {})
        fallback_keys = _key_rows(keys.fallback_keys or {})
        if one_time_keys or fallback_keys:
            await self._add((user_id, device_id), one_time_keys, fallback_keys)
        if keys.device_keys:
            # Last: whoever is told of the device finds keys to claim.
            await self._publish(user_id, device_id, keys.device_keys)
        return (await self._key_counts.of((user_id, device_id))).counts

    async def _add(
        self, device: DeviceKey, one_time_keys: list[KeyRow], fallback_keys: list[KeyRow]
    ) -> None:
        async with self._database.transaction() as connection:
            if one_time_keys:
                clashes, count = await one_time_key_store.add(connection, *device, one_time_keys)
                if clashes:
                    raise UnknownError(f"One time key {clashes[0]} already exists")
                if count > MAX_ONE_TIME_KEYS:
                    raise InvalidParam(f"A device has at most {MAX_ONE_TIME_KEYS} one-time keys")
            if fallback_keys:
                count = await one_time_key_store.put_fallback(connection, *device, fallback_keys)
                if count > MAX_FALLBACK_KEYS:
                    raise InvalidParam(f"A device has at most {MAX_FALLBACK_KEYS} fallback keys")
        self._key_counts.changed([device])

    async def _publish(self, user_id: str, device_id: str, device_keys: JsonObject) -> None:
        """Store and announce a device's identity keys, if they are others than before."""
        async with self._device_lists.turn_of(user_id):
            async with self._database.connection() as connection:
                standing = await device_key_store.get(connection, user_id, device_id)
            json = _canonical(_with_standing_signatures(device_keys, standing))
            if json != standing:
                row = DeviceKeysRow(user_id, device_id, json)
                await self._device_lists.publish(
                    DeviceListUpdate(user_id, device_id, device_keys=row)
                )


def check(user_id: str, device_id: str, keys: KeyUpload) -> None:
    """Raises InvalidParam or BadJson unless these can be keys of that device."""
    _key_rows({**(keys.one_time_keys or {}), **(keys.fallback_keys or {})})
    if not keys.device_keys:
        return
    device_keys = keys.device_keys
    if device_keys.get("user_id") != user_id or device_keys.get("device_id") != device_id:
        raise InvalidParam("`device_keys` must be of your own user_id and device_id")
    for field, kind in (("algorithms", list), ("keys", dict), ("signatures", dict)):
        if not isinstance(device_keys.get(field), kind):
            raise BadJson(f"`device_keys.{field}` is missing or has a wrong type")
    if not all(isinstance(key, str) for key in device_keys["keys"].values()):
        raise BadJson("Each of `device_keys.keys` must be a string")
    _canonical(device_keys)


def _key_rows(keys: Mapping[str, str | JsonObject]) -> list[KeyRow]:
    rows = []
    for name, key in keys.items():
        algorithm, colon, key_id = name.partition(":")
        if not colon or not is_device_id(algorithm) or not is_device_id(key_id):
            raise InvalidParam(f"{name!r} is not of the form <algorithm>:<key id>")
        if not isinstance(key, str) and not _is_key_object(key):
            raise BadJson(f"{name!r} needs a `key` (a string) and `signatures` (an object)")
        rows.append(KeyRow(algorithm, key_id, _canonical(key)))
    return rows


def _is_key_object(key: JsonObject) -> bool:
    return isinstance(key.get("key"), str) and isinstance(key.get("signatures"), dict)


def _canonical(value: Any) -> bytes:
    try:
        return encode_canonical(value)
    except CanonicalJsonError as error:
        raise BadJson(f"A key has no canonical form: {error}") from None


def _with_standing_signatures(device_keys: JsonObject, standing: bytes | None) -> JsonObject:
    """The keys without `unsigned`; if they are those that stand, with their signatures too."""
    old = {} if standing is None else msgspec.json.decode(standing)
    if signed_part(old) != signed_part(device_keys):
        return merged(device_keys, {})
    return merged(old, signatures_of(device_keys))
