"""How many one-time keys devices have left, as every /sync says: in memory until it changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from homeserver.lru_cache import LruCache
from homeserver.store import one_time_keys as key_store
from homeserver.store.database import Database
from homeserver.store.one_time_keys import KeyCount
from homeserver.store.to_device import DeviceKey
from homeserver.stream.changes import Change, DeviceListChange

ALWAYS_COUNTED = "signed_curve25519"


class KeysLeft(Struct, frozen=True):
    """`counts` by algorithm; the algorithms of fallback keys that nobody has got yet."""

    counts: dict[str, int]
    unused_fallback_types: list[str]
    counts_json: bytes
    unused_fallback_types_json: bytes


class KeyCounts:
    """What is left of the keys of the `capacity` devices that asked last."""

    def __init__(self, database: Database, *, capacity: int) -> None:
        self._database = database
        self._known: LruCache[DeviceKey, KeysLeft] = LruCache(capacity)

    async def of(self, device: DeviceKey) -> KeysLeft:
        """One query if it isn't known."""
        known = self._known.get(device)
        return known if known is not None else (await self.of_many([device]))[device]

    async def of_many(self, devices: Iterable[DeviceKey]) -> dict[DeviceKey, KeysLeft]:
        """The same for many; one query for those that aren't known."""
        known = {device: self._known.get(device) for device in devices}
        found = {device: left for device, left in known.items() if left is not None}
        missing = [device for device in known if device not in found]
        if missing:
            discards = self._known.discards
            async with self._database.connection() as connection:
                counts = await key_store.counts(connection, missing)
            for device, rows in counts.items():
                found[device] = _keys_left(rows)
                self._known.put_read(device, found[device], discards)
        return found

    def changed(self, devices: Iterable[DeviceKey]) -> None:
        """Keys of these devices were added or given out, which is committed by now."""
        for device in devices:
            self._known.discard(device)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        self.changed(
            (change.user_id, change.device_id)
            for change in changes
            if isinstance(change, DeviceListChange) and change.is_deleted
        )

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read these again."""
        self.apply(changes)


def _keys_left(rows: Iterable[KeyCount]) -> KeysLeft:
    # Some clients take a missing count for "nothing has changed" instead of for zero.
    counts = {ALWAYS_COUNTED: 0}
    unused: list[str] = []
    for row in rows:
        if row.one_time_keys:
            counts[row.algorithm] = row.one_time_keys
        if row.has_unused_fallback:
            unused.append(row.algorithm)
    encode = msgspec.json.encode
    return KeysLeft(counts, unused, encode(counts), encode(unused))
