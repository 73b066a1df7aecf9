"""Dehydrated devices: kept here, encrypted, so that a user without any logged-in device gets the
room keys that are sent meanwhile. MSC3814
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_device_id
from homeserver.services.encryption.device_keys import DeviceKeys, KeyUpload, check
from homeserver.store import cross_signing as cross_signing_store
from homeserver.store import dehydrated_devices as dehydrated_store
from homeserver.store import devices as device_store
from homeserver.store import to_device as to_device_store
from homeserver.store.database import Database
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate

PER_PAGE = 100


class Dehydrated(msgspec.Struct):
    """The body of PUT /dehydrated_device."""

    device_id: str
    device_data: dict[str, Any]
    device_keys: dict[str, Any]
    initial_device_display_name: str | None = None
    one_time_keys: dict[str, str | dict[str, Any]] | None = None
    fallback_keys: dict[str, str | dict[str, Any]] | None = None


class DehydratedDevices:
    """At most one for each local user."""

    def __init__(
        self,
        database: Database,
        device_lists: DeviceLists,
        device_keys: DeviceKeys,
        clock: Clock,
    ) -> None:
        self._database = database
        self._device_lists = device_lists
        self._device_keys = device_keys
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def put(self, user_id: str, device: Dehydrated) -> None:
        """Take in a device; it replaces the one before. Raises InvalidParam, BadJson."""
        device_id = device.device_id
        if not is_device_id(device_id):
            raise InvalidParam("`device_id` is not a device id")
        keys = KeyUpload(device.device_keys, device.one_time_keys, device.fallback_keys)
        check(user_id, device_id, keys)
        async with self._turn_of(user_id):
            await self._replace(user_id, device)
            await self._device_keys.upload(user_id, device_id, keys)

    async def _replace(self, user_id: str, device: Dehydrated) -> None:
        device_id, now = device.device_id, self._clock()
        await self._check_unused(user_id, device_id)
        await self._delete(user_id)
        data = msgspec.json.encode(device.device_data)
        async with self._database.transaction() as connection:
            name = device.initial_device_display_name
            await device_store.upsert(connection, user_id, device_id, name, now)
            await dehydrated_store.put(connection, user_id, device_id, data)

    async def _check_unused(self, user_id: str, device_id: str) -> None:
        """Raises InvalidParam if a logged-in device or a cross-signing key is named like this."""
        async with self._database.connection() as connection:
            if await cross_signing_store.is_public_key(connection, user_id, device_id):
                raise InvalidParam("This device_id is one of your cross-signing keys")
            former = await dehydrated_store.get(connection, user_id)
            is_former = former is not None and former[0] == device_id
            if not is_former and await device_store.find(connection, user_id, device_id):
                raise InvalidParam("You have a device with this device_id already")

    async def get(self, user_id: str) -> JsonObject:
        """The device's id and data. Raises NotFound."""
        async with self._database.connection() as connection:
            found = await dehydrated_store.get(connection, user_id)
        if found is None:
            raise NotFound("No dehydrated device available")
        return {"device_id": found[0], "device_data": msgspec.Raw(found[1])}

    async def delete(self, user_id: str) -> str:
        """Delete it, with its keys and messages; its id. Raises NotFound."""
        async with self._turn_of(user_id):
            device_id = await self._delete(user_id)
        if device_id is None:
            raise NotFound("No dehydrated device available")
        return device_id

    async def events(self, user_id: str, device_id: str, after: str | None) -> JsonObject:
        """A page of the messages that wait for it. They stay until it is replaced or deleted.

        `after` is the `next_batch` of the page before. Raises Forbidden, InvalidParam.
        """
        position = _position(after)
        async with self._database.connection() as connection:
            found = await dehydrated_store.get(connection, user_id)
            if found is None or found[0] != device_id:
                raise Forbidden("You can fetch the messages of your dehydrated device only")
            messages = await to_device_store.waiting(
                connection, (user_id, device_id), position, PER_PAGE
            )
        last = messages[-1][0] if messages else position
        return {"events": [msgspec.Raw(json) for _, json in messages], "next_batch": f"d{last}"}

    async def _delete(self, user_id: str) -> str | None:
        async with self._database.connection() as connection:
            found = await dehydrated_store.get(connection, user_id)
        if found is None:
            return None
        await self._device_lists.publish(DeviceListUpdate(user_id, found[0], is_deleted=True))
        return found[0]

    def _turn_of(self, user_id: str) -> asyncio.Lock:
        return self._locks.setdefault(user_id, asyncio.Lock())


def _position(token: str | None) -> int:
    if token is None or token == "":
        return 0
    digits = token[1:]
    if token[0] != "d" or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise InvalidParam("`next_batch` is not one that this endpoint gave you")
    return int(digits)
