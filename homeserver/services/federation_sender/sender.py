"""Follows the stream: who is to be told what.

Rules of this file: `published` runs within the writer's step, so it only puts into queues; what
needs the database is left to a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.presence import UserPresence
from homeserver.remote.core import RemoteCore
from homeserver.services.federation_sender.destination import Destination, Means
from homeserver.services.federation_sender.stored_edus import StoredEduReader
from homeserver.store import device_lists as device_list_store
from homeserver.store import federation_positions as position_store
from homeserver.store import pdus as pdu_store
from homeserver.store import to_device as to_device_store
from homeserver.store.database import Database
from homeserver.store.events import Flag
from homeserver.stream.changes import (
    Change,
    DeviceListChange,
    EventChange,
    PresenceChange,
    ReceiptChange,
    ToDeviceChange,
    TypingChange,
)
from homeserver.stream.core import StreamCore
from homeserver.stream.serve_pdus import served

SAVE_SECONDS = 5.0
REPEAT_TYPING_SECONDS = 25.0
REPEAT_PRESENCE_SECONDS = 20 * 60.0
MAX_DESTINATIONS = 20_000
"""With more of them, those that have been told everything are forgotten."""

log = structlog.get_logger(__name__)


class FederationSender:
    """All destinations. `start` it before the server listens.

    `tells_names`: other servers are told what users call their devices.
    """

    def __init__(
        self,
        database: Database,
        stream: StreamCore,
        remote: RemoteCore,
        clock: Clock,
        *,
        tells_names: bool,
    ) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._users = stream.users
        self._writer = stream.writer
        self._online_here = stream.presence.online_here
        self._server_name = stream.sender.signer.server_name
        self._access = remote.access
        self._availability = remote.availability
        self._destinations: dict[str, Destination] = {}
        self._typing: dict[str, frozenset[str]] = {}
        self._changed_lists: dict[str, int] = {}
        self._lists_under_way: dict[str, int] = {}
        self._lists_changed = asyncio.Event()
        self._means = Means(
            client=remote.client,
            availability=remote.availability,
            stored=StoredEduReader(database, self._server_name, tells_names=tells_names),
            read_events=self._read_events,
            newest=lambda: stream.writer.position,
            clock=clock,
            server_name=self._server_name,
        )
        self._saved: tuple[int, dict[str, int]] | None = None

    async def start(self) -> None:
        """Go on where the last run ended, and follow the stream from now on."""
        self._availability.on_return(self._is_back)
        self._writer.on_publish(self.published)
        async with self._database.connection() as connection:
            position, behind = await position_store.load(connection)
            rooms = await pdu_store.rooms_sent_to(connection, self._server_name, position)
            lagging = set(await pdu_store.servers_in(connection, rooms, position))
            users = await device_list_store.users_after(connection, self._server_name, position)
            lagging.update(await device_list_store.servers_sharing_a_room(connection, users))
            lagging.update(await to_device_store.destinations(connection))
        for name in lagging - behind.keys():
            behind[name] = position
        async with self._database.connection() as connection:
            joined = await device_list_store.joined_since(connection, behind) if behind else {}
        for name, since in behind.items():
            destination = self._destination(name, since)
            if destination is not None:
                destination.catch_up_from(since)
                for user_id in joined.get(name, ()):
                    destination.introduce(user_id, since + 1)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._save_now_and_then())
            group.create_task(self._tell_of_lists())
            group.create_task(self._repeat_typing())
            group.create_task(self._repeat_presence())

    async def stop(self) -> None:
        """End all sending and write down who has what."""
        await asyncio.gather(*(one.stop() for one in self._destinations.values()))
        await self.save()

    async def save(self) -> None:
        """Write down who has what, if it has changed."""
        newest = self._told_to_senders()
        told = {name: one.told_upto(newest) for name, one in self._destinations.items()}
        behind = {name: upto for name, upto in told.items() if upto < newest}
        if self._saved == (newest, behind):
            return
        same = self._saved is not None and self._saved[1] == behind
        opened = self._database.connection() if same else self._database.transaction()
        async with opened as connection:
            await position_store.move(connection, newest)
            if not same:
                await position_store.put_behind(connection, behind)
        self._saved = (newest, behind)

    def _forget_idle(self) -> None:
        """Clients can have us tell any server something: only so many stay in memory."""
        if len(self._destinations) > MAX_DESTINATIONS:
            self._destinations = {
                n: one for n, one in self._destinations.items() if not one.is_idle
            }

    def _told_to_senders(self) -> int:
        """The position up to which each destination has heard of what is for it: who is to be
        told of changed devices is found out later than they are published."""
        waiting = (*self._changed_lists.values(), *self._lists_under_way.values())
        return min((position - 1 for position in waiting), default=self._writer.position)

    def published(self, changes: Sequence[Change]) -> None:
        """Queue what these changes have to tell (called by the writer)."""
        for change in changes:
            if isinstance(change, EventChange):
                self._event(change)
            elif isinstance(change, TypingChange):
                self._typing_changed(change)
            elif isinstance(change, ReceiptChange):
                self._receipt(change)
            elif isinstance(change, ToDeviceChange):
                for row in change.outgoing:
                    self._stored(row.destination, change.position)
            elif isinstance(change, DeviceListChange):
                self._list_changed(change)
            elif isinstance(change, PresenceChange):
                self._presence(change.presence)

    def _event(self, change: EventChange) -> None:
        for row in change.memberships:
            if row.joined_from == row.position and self._is_ours(row.user_id):
                self._introduce(row.user_id, change)
        stored = change.stored
        is_for_us_to_tell = self._is_ours(stored.sender) or stored.flags & Flag.RELAYED
        if not change.in_timeline or not is_for_us_to_tell:
            return
        if change.shown_changes is not None:
            return  # we entered the room: the server that let us in tells the others
        room = self._rooms.peek(change.room_id)
        servers = set() if room is None else set(room.joined_servers)
        # Who was removed, or whose invite was taken back, is told so.
        servers.update(
            server_name_of(row.user_id)
            for row in change.memberships
            if row.membership in ("leave", "ban")
        )
        if stored.sender == stored.state_key:
            servers.discard(server_name_of(stored.sender))  # who joins by us has the event
        for server in servers:
            destination = self._destination(server, change.position - 1)
            if destination is not None:
                destination.add_event(change.position, stored.json)

    def _introduce(self, user_id: str, change: EventChange) -> None:
        """ "m.device_list_update EDUs [...] must be sent [...] when that user joins a room which
        contains servers which are not already receiving updates for that user's device list".

        Rooms that aren't in memory aren't looked at: a server may be told again.
        """
        room_id = change.room_id
        user, room = self._users.peek(user_id), self._rooms.peek(room_id)
        if user is None or room is None:
            return
        others = [self._rooms.peek(other) for other in user.joined_rooms() if other != room_id]
        strangers = set(room.joined_servers).difference(*(o.joined_servers for o in others if o))
        for name in strangers:
            destination = self._destination(name, change.position - 1)
            if destination is not None:
                destination.introduce(user_id, change.position)

    def _typing_changed(self, change: TypingChange) -> None:
        before = self._typing.get(change.room_id, frozenset())
        now = frozenset(user_id for user_id in change.user_ids if self._is_ours(user_id))
        if now:
            self._typing[change.room_id] = now
        else:
            self._typing.pop(change.room_id, None)
        for user_id in before ^ now:
            for destination in self._in_room(change.room_id):
                destination.passing.add_typing(change.room_id, user_id, user_id in now)
                destination.wake()

    async def _repeat_typing(self) -> None:
        """Other servers take who types for gone after a minute (the specification says nothing)."""
        while True:
            await asyncio.sleep(REPEAT_TYPING_SECONDS)
            for room_id, user_ids in self._typing.items():
                for destination in self._in_room(room_id):
                    for user_id in user_ids:
                        destination.passing.add_typing(room_id, user_id, True)
                    destination.wake()

    def _receipt(self, change: ReceiptChange) -> None:
        row = change.row
        if row.receipt_type != "m.read" or not self._is_ours(row.user_id):
            return
        for destination in self._in_room(change.room_id):
            destination.passing.add_receipt(change.room_id, row)
            destination.wake()

    async def _repeat_presence(self) -> None:
        """Other servers take who is online for gone after half an hour."""
        while True:
            await asyncio.sleep(REPEAT_PRESENCE_SECONDS)
            for presence in self._online_here():
                self._presence(presence)
                await asyncio.sleep(0)

    def _presence(self, presence: UserPresence) -> None:
        user = self._users.peek(presence.user_id)
        if user is None or not self._is_ours(user.user_id):
            return
        told: set[str] = set()
        for room_id in user.joined_rooms():
            for destination in self._in_room(room_id):
                if destination.name not in told:
                    told.add(destination.name)
                    destination.passing.add_presence(presence)
                    destination.wake()

    def _list_changed(self, change: DeviceListChange) -> None:
        if change.only_for is None and self._is_ours(change.user_id):
            self._changed_lists.setdefault(change.user_id, change.position)
            self._lists_changed.set()

    async def _tell_of_lists(self) -> None:
        """Who shares a room with users whose devices changed is found out by a query."""
        while True:
            await self._lists_changed.wait()
            self._lists_changed.clear()
            changed = self._lists_under_way = self._changed_lists
            self._changed_lists = {}
            try:
                async with self._database.connection() as connection:
                    servers = await device_list_store.servers_sharing_a_room(connection, changed)
            except Unavailable:
                self._changed_lists |= changed  # they are the older ones
                self._lists_changed.set()
                await asyncio.sleep(1.0)
                continue
            for server in servers:
                self._stored(server, min(changed.values()))
            self._lists_under_way = {}

    def _stored(self, server: str, position: int) -> None:
        destination = self._destination(server, position - 1)
        if destination is not None:
            destination.add_stored(position)

    def _in_room(self, room_id: str) -> list[Destination]:
        room = self._rooms.peek(room_id)
        position = self._writer.position
        found = [
            self._destination(name, position) for name in (room.joined_servers if room else ())
        ]
        return [destination for destination in found if destination is not None]

    def _destination(self, name: str, position: int) -> Destination | None:
        """The destination, a new one having been told everything up to `position`."""
        destination = self._destinations.get(name)
        if destination is None and self._access.allows(name):
            destination = Destination(name, self._means, position)
            self._destinations[name] = destination
        return destination

    def _is_ours(self, user_id: str) -> bool:
        return server_name_of(user_id) == self._server_name

    def _is_back(self, name: str) -> None:
        destination = self._destinations.get(name)
        if destination is not None:
            destination.is_back()

    async def _read_events(
        self, destination: str, after: int, upto: int, limit: int
    ) -> list[tuple[int, bytes]]:
        span = (self._server_name, after, upto)
        async with self._database.connection() as connection:
            rows = await pdu_store.sent_to(connection, destination, span, limit)
            await self._rooms.learn_rules(connection, [row.room_number for _, row in rows])
        return [
            (position, bytes(served(row, self._rooms.rules_of(row.room_number))))
            for position, row in rows
        ]

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            self._forget_idle()
            try:
                await self.save()
            except Unavailable as error:
                log.warning("positions not saved", reason=error.message)
