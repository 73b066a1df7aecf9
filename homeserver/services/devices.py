"""What users see and say of their devices.

client-server-api#device-management
"""

from __future__ import annotations

from homeserver.errors import InvalidParam, NotFound, TooLarge
from homeserver.store import devices
from homeserver.store.database import Database
from homeserver.store.devices import Device
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate

MAX_DISPLAY_NAME_LENGTH = 100
MAX_DEVICE_ID_LENGTH = 255


class Devices:
    """The devices of local users. They are made and deleted by `Sessions`."""

    def __init__(self, database: Database, device_lists: DeviceLists) -> None:
        self._database = database
        self._device_lists = device_lists

    async def of_user(self, user_id: str) -> list[Device]:
        """All devices of a user, oldest first."""
        async with self._database.connection() as connection:
            return await devices.of_user(connection, user_id)

    async def find(self, user_id: str, device_id: str) -> Device:
        """Raises `NotFound`."""
        async with self._database.connection() as connection:
            device = await devices.find(connection, user_id, device_id)
        if device is None:
            raise NotFound("You have no such device")
        return device

    async def make(self, user_id: str, device_id: str, display_name: str | None, now: int) -> bool:
        """Make a device without a login; False if it is there. Raises `InvalidParam`."""
        if not 0 < len(device_id.encode()) <= MAX_DEVICE_ID_LENGTH:
            raise InvalidParam(f"A device_id has 1 to {MAX_DEVICE_ID_LENGTH} bytes")
        async with self._database.connection() as connection:
            made = await devices.upsert(connection, user_id, device_id, display_name, now)
        if made:
            await self._device_lists.publish(DeviceListUpdate(user_id, device_id))
        return made

    async def rename(self, user_id: str, device_id: str, display_name: str) -> None:
        """Raises `NotFound`, `TooLarge`."""
        if len(display_name) > MAX_DISPLAY_NAME_LENGTH:
            raise TooLarge(
                f"A device's name has at most {MAX_DISPLAY_NAME_LENGTH} characters", status=400
            )
        async with self._database.connection() as connection:
            if not await devices.rename(connection, user_id, device_id, display_name):
                raise NotFound("You have no such device")
        await self._device_lists.publish(DeviceListUpdate(user_id, device_id))
