"""The body of a sliding sync request (MSC4186), checked."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import msgspec

Limit = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Bound = Annotated[int, msgspec.Meta(ge=0)]
MAX_LISTS = 100
MAX_RANGES = 10
Ranges = Annotated[tuple[tuple[Bound, Bound], ...], msgspec.Meta(max_length=MAX_RANGES)]

StateKeys = tuple[tuple[str, str], ...]


class RoomConfig(msgspec.Struct, frozen=True, dict=True):
    """What is to be told of a room."""

    required_state: StateKeys = ()
    timeline_limit: Limit = 0

    @cached_property
    def required(self) -> frozenset[tuple[str, str]]:
        """`required_state` as a set: one for all rooms of a list, which remember it."""
        return frozenset(self.required_state)


class Filters(msgspec.Struct, frozen=True):
    """Which rooms a list holds; what is unset doesn't matter."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invite: bool | None = None
    is_tombstoned: bool | None = None
    room_types: tuple[str | None, ...] | None = None
    not_room_types: tuple[str | None, ...] | None = None
    room_name_like: str | None = None
    tags: tuple[str, ...] | None = None
    not_tags: tuple[str, ...] | None = None
    spaces: tuple[str, ...] | None = None


class ListRequest(RoomConfig, frozen=True):
    """A list and the windows on it that are shown; ranges include both ends."""

    ranges: Ranges = ()
    range: tuple[Bound, Bound] | None = None
    filters: Filters = Filters()

    def windows(self) -> tuple[tuple[int, int], ...]:
        return self.ranges if self.range is None else (*self.ranges, self.range)


class Extension(msgspec.Struct, frozen=True):
    """What the extensions of rooms share: `lists` and `rooms` may narrow them down."""

    enabled: bool = False
    lists: tuple[str, ...] | None = None
    rooms: tuple[str, ...] | None = None


class ToDevice(msgspec.Struct, frozen=True):
    enabled: bool = False
    since: str | None = None
    limit: Limit = 100


class Enabled(msgspec.Struct, frozen=True):
    enabled: bool = False


class ThreadSubscriptions(msgspec.Struct, frozen=True):
    enabled: bool = False
    limit: Limit = 100


class Extensions(msgspec.Struct, frozen=True):
    to_device: ToDevice = ToDevice()
    e2ee: Enabled = Enabled()
    account_data: Extension = Extension()
    receipts: Extension = Extension()
    typing: Extension = Extension()
    thread_subscriptions: ThreadSubscriptions = msgspec.field(
        default=ThreadSubscriptions(), name="io.element.msc4308.thread_subscriptions"
    )


class SlidingSyncBody(msgspec.Struct, frozen=True):
    """`POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`."""

    conn_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    txn_id: str | None = None
    set_presence: Literal["online", "offline", "unavailable"] | None = None
    lists: Annotated[dict[str, ListRequest], msgspec.Meta(max_length=MAX_LISTS)] = {}
    room_subscriptions: dict[str, RoomConfig] = {}
    extensions: Extensions = Extensions()
