"""What goes to an application service, and how it becomes the body of a transaction.

application-service-api#put_matrixappv1transactionstxnid, with the names of MSC2409, MSC4203 and
MSC3202 for services that know only these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct, field

from homeserver.stream.sync_request import json_object

KeyCountsByUser = dict[str, dict[str, dict[str, int]]]
FallbackTypesByUser = dict[str, dict[str, list[str]]]


class Move(Struct, frozen=True):
    """A user came into the event's room (at a stream position), or left it."""

    user_id: str
    is_in: bool
    position: int


class Waiting(Struct, frozen=True):
    """One thing to send, as JSON.

    `device`: the one that a to-device message is for; `room_id`: the room of an event; `move`: what
    a membership event means; `user_id`: whose devices have changed (there is no JSON then).
    """

    position: int
    json: bytes = b""
    device: tuple[str, str] | None = None
    room_id: str = ""
    move: Move | None = None
    user_id: str = ""


class Batch(Struct):
    """What goes into one transaction; `upto`: the position that is reached with it.

    `devices`: whose devices have changed, whoever they are to the service; `changed` and `left`
    are those whom it has to know of.
    """

    upto: int
    events: list[Waiting] = field(default_factory=list)
    ephemeral: list[Waiting] = field(default_factory=list)
    to_device: list[Waiting] = field(default_factory=list)
    devices: list[Waiting] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    key_counts: KeyCountsByUser = field(default_factory=dict)
    fallback_types: FallbackTypesByUser = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to send."""
        lists = self.changed or self.left
        return bool(self.events or self.ephemeral or self.to_device or lists)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that is stored is in it, be it for the service or not."""
        return not (self.events or self.ephemeral or self.to_device or self.devices)

    def delivered(self) -> set[tuple[str, str]]:
        """The devices that messages in here are for."""
        return {w.device for w in self.to_device if w.device is not None}

    def body(self) -> bytes:
        members = [(b'"events"', _array(self.events))]
        if self.ephemeral:
            members += _both("ephemeral", "de.sorunome.msc2409", _array(self.ephemeral))
        if self.to_device:
            members += _both("to_device", "de.sorunome.msc2409", _array(self.to_device))
        if self.changed or self.left:
            lists = {"changed": sorted(self.changed), "left": sorted(self.left)}
            members += _both("device_lists", "org.matrix.msc3202", msgspec.json.encode(lists))
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
