"""The pushers of all users: set by clients, woken by the log, gone with their devices.

Rules of this file: `published` is called by the writer for every batch, so it only looks at users
who have pushers; positions are written many at once, shortly after the gateways took something.
What changes pushers holds the lock `_changing`: what is in memory and what is in Postgres agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec
import structlog
from msgspec.structs import replace

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, Unavailable, UnknownToken
from homeserver.json_types import JsonObject
from homeserver.protocol.push_outcomes import MAIN, NO_PUSH, NOTIFY
from homeserver.protocol.pushers import DEVICE_ID, ENABLED, WantedPusher
from homeserver.requester import Requester
from homeserver.services.push.badges import Badges
from homeserver.services.push.gateways import Gateways
from homeserver.services.push.pushed_events import Pending, PushedEvents, pending_invite
from homeserver.services.push.pusher import Means, Pusher
from homeserver.store import devices as device_store
from homeserver.store import notable_events as notable_store
from homeserver.store import pushers as pusher_store
from homeserver.store.database import Connection, Database
from homeserver.store.events import ORDER_STEP
from homeserver.store.pushers import PusherKey, PusherRow
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import Change, EventChange, MembershipChange, ReceiptChange
from homeserver.stream.core import StreamCore
from homeserver.stream.room_unread import READ_TYPES

CATCHING_UP = 4
"""So many pushers at once ask Postgres what they missed."""
WRITE_EVERY_SECONDS = 0.2
SETTLE_EVERY_SECONDS = 600.0
MAX_PER_USER = 100

log = structlog.get_logger()


class Pushers:
    """All pushers of this server."""

    def __init__(
        self, database: Database, stream: StreamCore, gateways: Gateways, clock: Clock
    ) -> None:
        self._database = database
        self._stream = stream
        self._clock = clock
        self._by_user: dict[str, dict[PusherKey, Pusher]] = {}
        self._moved: set[Pusher] = set()
        self._write_wanted = asyncio.Event()
        self._changing = asyncio.Lock()
        self._deleting: set[asyncio.Task[None]] = set()
        self._means = Means(
            gateways=gateways,
            events=PushedEvents(database, stream),
            badges=Badges(stream),
            position=lambda: stream.writer.position,
            moved=self._note_moved,
            rejected=self._reject,
            catching_up=asyncio.Semaphore(CATCHING_UP),
        )

    async def start(self) -> None:
        """Take up all pushers: those that have missed something catch up."""
        async with self._database.connection() as connection:
            rows = await pusher_store.all_pushers(connection)
            newest = await notable_store.newest_position(connection)
        for row in rows:
            self._add(row, behind=row.enabled and row.position < newest)
        self._stream.writer.on_publish(self.published)

    async def run(self) -> None:
        """Write down positions, until cancelled."""
        last_settled = self._clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_EVERY_SECONDS):
                    await self._write_wanted.wait()
            self._write_wanted.clear()
            if self._clock() - last_settled > SETTLE_EVERY_SECONDS * 1000:
                self._settle()
                last_settled = self._clock()
            try:
                await self._write()
            except Unavailable as error:
                log.warning("positions of pushers not written", reason=error.message)
            await asyncio.sleep(WRITE_EVERY_SECONDS)

    async def stop(self) -> None:
        """End all pushers and write down how far they came."""
        self._settle()
        finishing = [pusher.finish() for pusher in self._all()]
        await asyncio.gather(*finishing, *self._deleting, return_exceptions=True)
        with suppress(Unavailable):
            await self._write()

    def _settle(self) -> None:
        """Who has nothing to tell is served up to now, and needn't look back later."""
        for pusher in self._all():
            if pusher.is_idle and pusher.position < self._stream.writer.position:
                pusher.position = self._stream.writer.position
                self._moved.add(pusher)

    async def _write(self) -> None:
        moved, self._moved = self._moved, set()
        if moved:
            positions = [(pusher.row.key, pusher.position) for pusher in moved]
            try:
                async with self._database.connection() as connection:
                    await pusher_store.move(connection, positions)
            except BaseException:  # also if it is cancelled: the last to write is `stop`
                self._moved |= moved
                raise

    def _note_moved(self, pusher: Pusher) -> None:
        self._moved.add(pusher)
        self._write_wanted.set()

    def _all(self) -> Iterable[Pusher]:
        return [pusher for pushers in self._by_user.values() for pusher in pushers.values()]

    def _add(self, row: PusherRow, *, behind: bool = False) -> None:
        known = self._by_user.setdefault(row.user_id, {})
        known[row.key] = Pusher(row, self._means, behind=behind)

    # What clients do

    def of_user(self, user_id: str) -> list[JsonObject]:
        """The user's pushers as `GET /pushers` shows them."""
        return [_shown(pusher.row) for pusher in self._by_user.get(user_id, {}).values()]

    async def put(self, requester: Requester, wanted: WantedPusher) -> None:
        """Make, change or delete a pusher.

        "the homeserver must remove any other pushers with the same App ID and pushkey for
        different users", unless `append` says otherwise. Raises InvalidParam for one too many,
        UnknownToken.
        """
        async with self._changing:
            await self._put(requester, wanted)

    async def _put(self, requester: Requester, wanted: WantedPusher) -> None:
        key = (wanted.app_id, wanted.pushkey, requester.user_id)
        if wanted.kind is None:
            await self._delete([key])
            return
        of_user = self._by_user.get(requester.user_id, {})
        if key not in of_user and len(of_user) >= MAX_PER_USER:
            raise InvalidParam(f"You have {MAX_PER_USER} pushers already: delete some first")
        if not wanted.append:
            await self._delete([k for k in self._keys() if k[:2] == key[:2] and k != key])
        known = of_user.get(key)
        row = self._row(requester, wanted)
        async with self._database.transaction() as connection:
            await _require_device(connection, requester)
            await pusher_store.put(connection, row)
            if known is not None and row.enabled and not known.row.enabled:
                # It was off: what came meanwhile is not told.
                await pusher_store.move(connection, [(key, row.position)])
        if known is not None and known.row.enabled and row.enabled:
            known.change(row)
            return
        if known is not None:
            known.stop()
        self._add(row)

    def _row(self, requester: Requester, wanted: WantedPusher) -> PusherRow:
        return PusherRow(
            app_id=wanted.app_id,
            pushkey=wanted.pushkey,
            user_id=requester.user_id,
            device_id=requester.device_id,
            kind=wanted.kind or "",
            app_display_name=wanted.app_display_name,
            device_display_name=wanted.device_display_name,
            profile_tag=wanted.profile_tag,
            lang=wanted.lang,
            data=msgspec.json.encode(wanted.data),
            enabled=wanted.enabled,
            pushkey_ts=self._clock(),
            position=self._stream.writer.position,
        )

    async def devices_deleted(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Pushers go with the device that made them."""
        async with self._changing:
            of_user = self._by_user.get(user_id, {})
            await self._delete([k for k, p in of_user.items() if p.row.device_id in device_ids])

    def _keys(self) -> list[PusherKey]:
        return [key for pushers in self._by_user.values() for key in pushers]

    async def _delete(self, keys: Sequence[PusherKey]) -> None:
        if not keys:
            return
        for key in keys:
            pusher = self._by_user.get(key[2], {}).pop(key, None)
            if pusher is not None:
                pusher.stop()
                self._moved.discard(pusher)
            if not self._by_user.get(key[2], True):
                del self._by_user[key[2]]
        async with self._database.connection() as connection:
            await pusher_store.delete(connection, keys)

    def _reject(self, pusher: Pusher) -> None:
        """ "the homeserver should [...] remove the pushers" whose key the gateway rejects."""
        log.info("a push gateway rejected a pushkey", app_id=pusher.row.app_id)
        task = asyncio.create_task(self._drop(pusher))
        self._deleting.add(task)
        task.add_done_callback(self._deleting.discard)

    async def _drop(self, pusher: Pusher) -> None:
        async with self._changing:
            if self._by_user.get(pusher.row.user_id, {}).get(pusher.row.key) is pusher:
                with suppress(Unavailable):  # it is rejected again after the next start
                    await self._delete([pusher.row.key])

    # What the log brings

    def published(self, changes: Sequence[Change]) -> None:
        """Hand out what a batch brings (called by the writer)."""
        if not self._by_user:
            return
        for change in changes:
            if type(change) is EventChange:
                self._event(change)
            elif type(change) is MembershipChange:
                self._invited(change.room_id, [change.row])
            elif type(change) is ReceiptChange and change.row.receipt_type in READ_TYPES:
                self._refresh_badge(change.row.user_id)

    def _event(self, change: EventChange) -> None:
        if change.memberships:
            self._invited(change.room_id, change.memberships)
        self._refresh_badge(change.row.sender)  # who answers has read
        room = self._stream.rooms.peek(change.room_id)
        outcomes = change.row.push
        if room is None or outcomes is NO_PUSH or not change.in_timeline:
            return
        order = change.row.timeline_order or 0
        pending = Pending(
            order // ORDER_STEP,
            change.room_id,
            change.row.event_id,
            change.row.thread_root or MAIN,
            order,
        )
        for user_id in self._told_in(room.joined_local):
            number = 0
            if outcomes.sets and room.readers is not None:
                number = room.readers.rules_of(user_id).number
            bits = outcomes.of(user_id, number)
            if bits & NOTIFY and user_id != change.row.sender:
                self._publish(user_id, replace(pending, bits=bits))

    def _refresh_badge(self, user_id: str) -> None:
        for pusher in self._by_user.get(user_id, {}).values():
            pusher.refresh_badge()

    def _told_in(self, members: set[str]) -> list[str]:
        """The members who have pushers."""
        few, many = sorted((members, self._by_user.keys()), key=len)
        return [user_id for user_id in few if user_id in many]

    def _invited(self, room_id: str, rows: Iterable[MembershipRow]) -> None:
        for row in rows:
            if row.membership == "invite" and row.user_id in self._by_user:
                self._publish(row.user_id, pending_invite(room_id, row))

    def _publish(self, user_id: str, pending: Pending) -> None:
        for pusher in self._by_user[user_id].values():
            if pusher.row.enabled:
                pusher.publish(pending)


async def _require_device(connection: Connection, requester: Requester) -> None:
    """A device that was logged out a moment ago makes no pusher: nothing would delete it."""
    user_id, device_id = requester.user_id, requester.device_id
    if device_id is not None and not await device_store.find(connection, user_id, device_id):
        raise UnknownToken("This device was logged out")


def _shown(row: PusherRow) -> JsonObject:
    return {
        "app_id": row.app_id,
        "pushkey": row.pushkey,
        "kind": row.kind,
        "app_display_name": row.app_display_name,
        "device_display_name": row.device_display_name,
        "profile_tag": row.profile_tag,
        "lang": row.lang,
        "data": msgspec.json.decode(row.data),
        ENABLED: row.enabled,
        DEVICE_ID: row.device_id,
    }
