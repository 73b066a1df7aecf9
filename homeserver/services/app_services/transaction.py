"""What waits for an application service, and how it becomes the body of a transaction.

application-service-api#put_matrixappv1transactionstxnid, with the names of MSC2409, MSC4203 and
MSC3202 for services that know only these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct, field

from homeserver.stream.sync_request import json_object

MAX_EVENTS = 100
MAX_EPHEMERAL = 100
MAX_TO_DEVICE = 100

KeyCountsByUser = dict[str, dict[str, dict[str, int]]]
FallbackTypesByUser = dict[str, dict[str, list[str]]]


class Waiting(Struct, frozen=True):
    """One thing to send, as JSON; `device`: the one that a to-device message is for."""

    position: int
    json: bytes
    device: tuple[str, str] | None = None


class Batch(Struct):
    """What goes into one transaction; `upto`: the position that is reached with it."""

    upto: int
    events: list[Waiting] = field(default_factory=list)
    ephemeral: list[Waiting] = field(default_factory=list)
    to_device: list[Waiting] = field(default_factory=list)
    changed_devices: set[str] = field(default_factory=set)
    key_counts: KeyCountsByUser = field(default_factory=dict)
    fallback_types: FallbackTypesByUser = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.events or self.ephemeral or self.to_device or self.changed_devices)

    def delivered(self) -> dict[tuple[str, str], int]:
        """Per device the position of its newest message in here."""
        return {w.device: w.position for w in self.to_device if w.device is not None}

    def body(self) -> bytes:
        members = [(b'"events"', _array(self.events))]
        if self.ephemeral:
            members += _both("ephemeral", "de.sorunome.msc2409", _array(self.ephemeral))
        if self.to_device:
            members += _both("to_device", "de.sorunome.msc2409", _array(self.to_device))
        if self.changed_devices:
            lists = msgspec.json.encode({"changed": sorted(self.changed_devices), "left": []})
            members += _both("device_lists", "org.matrix.msc3202", lists)
        if self.key_counts:
            counts = msgspec.json.encode(self.key_counts)
            members += _both("device_one_time_keys_count", "org.matrix.msc3202", counts)
        if self.fallback_types:
            types = msgspec.json.encode(self.fallback_types)
            members += _both("device_unused_fallback_key_types", "org.matrix.msc3202", types)
        return json_object(members)


def _array(waiting: Iterable[Waiting]) -> bytes:
    return b"[" + b",".join([each.json for each in waiting]) + b"]"


def _both(name: str, prefix: str, json: bytes) -> Sequence[tuple[bytes, bytes]]:
    return ((f'"{name}"'.encode(), json), (f'"{prefix}.{name}"'.encode(), json))
