"""The services of end-to-end encryption, built and joined."""

from __future__ import annotations

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.remote.client import FederationClient
from homeserver.services.encryption.cross_signing import CrossSigning
from homeserver.services.encryption.dehydrated_devices import DehydratedDevices
from homeserver.services.encryption.device_keys import DeviceKeys
from homeserver.services.encryption.key_backup import KeyBackups
from homeserver.services.encryption.one_time_keys import OneTimeKeys
from homeserver.services.encryption.queries import KeyQueries
from homeserver.services.encryption.to_device import ToDevice
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.remote_device_lists import RemoteDeviceLists


class EncryptionParts(Struct, frozen=True):
    """What `encryption_parts` joins."""

    device_keys: DeviceKeys
    dehydrated_devices: DehydratedDevices
    queries: KeyQueries
    one_time_keys: OneTimeKeys
    cross_signing: CrossSigning
    key_backups: KeyBackups
    to_device: ToDevice
    remote_device_lists: RemoteDeviceLists

    async def account_ended(self, user_id: str, erase: bool) -> None:
        """What is left of a deactivated account's keys goes, and who knew them is told."""
        await self.key_backups.delete_all(user_id)
        await self.cross_signing.delete_all(user_id)

    async def stop(self) -> None:
        """End what is under way."""
        await self.remote_device_lists.stop()


def encryption_parts(
    database: Database, stream: StreamCore, client: FederationClient, config: Config, clock: Clock
) -> EncryptionParts:
    """The parts over one stream; `stop` them before it ends."""
    server_name = config.server_name
    tells_names = config.federation.device_names
    lists = stream.device_lists
    remote_lists = RemoteDeviceLists(database, client, lists, lambda: stream.writer.position)
    device_keys = DeviceKeys(database, lists, stream.key_counts)
    return EncryptionParts(
        device_keys=device_keys,
        dehydrated_devices=DehydratedDevices(database, lists, device_keys, clock),
        queries=KeyQueries(database, remote_lists, server_name, tells_names=tells_names),
        one_time_keys=OneTimeKeys(database, stream.key_counts, client, server_name),
        cross_signing=CrossSigning(database, lists),
        key_backups=KeyBackups(database),
        to_device=ToDevice(database, stream.writer, server_name, clock),
        remote_device_lists=remote_lists,
    )
