"""Sliding sync, joined from its parts."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from homeserver.stream.facts import ListedRooms
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUsers
from homeserver.stream.notifier import Notifier
from homeserver.stream.sections.account_data import AccountDataLog
from homeserver.stream.sections.windows import Windows
from homeserver.stream.sliding.extensions import RoomExtensions
from homeserver.stream.sliding.listings import Listings
from homeserver.stream.sliding.rooms import SlidingRooms
from homeserver.stream.sliding.sync import CONNECTIONS, FurtherExtension, SlidingSync
from homeserver.stream.unread import Unread
from homeserver.stream.writer import StreamWriter


class Ground(Struct, frozen=True):
    """What it is built on."""

    rooms: LiveRooms
    users: LiveUsers
    listed: ListedRooms
    windows: Windows
    unread: Unread
    account_data: AccountDataLog
    notifier: Notifier
    writer: StreamWriter


def build(ground: Ground, extensions: Iterable[FurtherExtension]) -> SlidingSync:
    """With the extensions of other chapters."""
    rooms, users = ground.rooms, ground.users
    listings = Listings(rooms, ground.listed, capacity=CONNECTIONS)
    ground.writer.on_failure(listings.fail)
    sliding_sync = SlidingSync(
        SlidingRooms(rooms, ground.listed, ground.windows, ground.unread),
        listings,
        RoomExtensions(ground.account_data, rooms, users),
        users,
        ground.notifier,
        ground.writer,
    )
    sliding_sync.extensions += extensions
    return sliding_sync
