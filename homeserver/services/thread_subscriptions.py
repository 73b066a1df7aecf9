"""Subscribing to threads (MSC4306) and paging through one's subscriptions (MSC4308)."""

from __future__ import annotations

from homeserver.errors import BadJson, MatrixError, NotFound
from homeserver.protocol.relations import relation_of
from homeserver.store import thread_subscriptions as subscription_store
from homeserver.store.database import Database
from homeserver.store.events import LOWEST_ORDER
from homeserver.store.thread_subscriptions import ThreadSubscriptionRow
from homeserver.stream.changes import ThreadSubscriptionChange
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.stored_event import StoredEvent


class NotInThread(MatrixError):
    errcode = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"


class ConflictingUnsubscription(MatrixError):
    """The user unsubscribed after the event that would subscribe them automatically."""

    status = 409
    errcode = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"


class ThreadSubscriptions:
    """What users decide about threads of rooms they are in."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._stream = stream

    async def get(self, user_id: str, room_id: str, root_id: str) -> ThreadSubscriptionRow:
        """A user's subscription to a thread. Raises NotFound if there is none."""
        await self._require_root(user_id, room_id, root_id)
        row = await self._decided(user_id, room_id, root_id)
        if row is None or not row.subscribed:
            raise NotFound("You are not subscribed to this thread")
        return row

    async def subscribe(
        self, user_id: str, room_id: str, root_id: str, automatic_event_id: str | None
    ) -> None:
        """Subscribe; automatically, if an event of the thread is given as the cause.

        Raises NotFound, NotInThread, ConflictingUnsubscription.
        """
        room = await self._require_root(user_id, room_id, root_id)
        row = await self._decided(user_id, room_id, root_id)
        if automatic_event_id is not None:
            cause = await self._find(room, automatic_event_id)
            if cause is None or _thread_of(cause) != root_id:
                raise NotInThread("The event that causes the subscription is not in the thread")
            order = LOWEST_ORDER if cause.order is None else cause.order
            if row is not None and not row.subscribed and order <= row.decided_order:
                raise ConflictingUnsubscription("You unsubscribed after that event")
            if row is not None and row.subscribed:
                return
        automatic = automatic_event_id is not None
        await self._decide(user_id, room, root_id, subscribed=True, automatic=automatic)

    async def unsubscribe(self, user_id: str, room_id: str, root_id: str) -> None:
        """Unsubscribe; being unsubscribed already is no error. Raises NotFound."""
        room = await self._require_root(user_id, room_id, root_id)
        row = await self._decided(user_id, room_id, root_id)
        if row is not None and row.subscribed:
            await self._decide(user_id, room, root_id, subscribed=False, automatic=False)

    async def page(
        self, user_id: str, after: int, upto: int | None, limit: int
    ) -> list[ThreadSubscriptionRow]:
        """The decisions between two stream positions (None: now), the newest first."""
        end = self._stream.writer.position if upto is None else upto
        async with self._database.connection() as connection:
            return await subscription_store.between(connection, user_id, after, end, limit)

    async def _decide(
        self, user_id: str, room: LiveRoom, root_id: str, *, subscribed: bool, automatic: bool
    ) -> None:
        order = room.timeline[-1].order if room.timeline else LOWEST_ORDER
        position = self._stream.writer.allocate()
        row = ThreadSubscriptionRow(
            user_id, room.room_id, root_id, subscribed, automatic, order, position
        )
        await self._stream.writer.append(ThreadSubscriptionChange(position, row))

    async def _decided(
        self, user_id: str, room_id: str, root_id: str
    ) -> ThreadSubscriptionRow | None:
        async with self._database.connection() as connection:
            return await subscription_store.get(connection, user_id, room_id, root_id)

    async def _require_root(self, user_id: str, room_id: str, root_id: str) -> LiveRoom:
        room = await self._stream.rooms.get(room_id)
        if room is None or room.membership_of(user_id) != "join":
            raise NotFound("You are not in such a room")
        if await self._find(room, root_id) is None:
            raise NotFound("There is no such thread")
        return room

    async def _find(self, room: LiveRoom, event_id: str) -> StoredEvent | None:
        stored = await self._stream.rooms.event(event_id)
        return stored if stored is not None and stored.event.room_id == room.room_id else None


def _thread_of(stored: StoredEvent) -> str | None:
    relation = relation_of(stored.content)
    return None if relation is None or relation.rel_type != "m.thread" else relation.event_id


def parse_position(token: str | None) -> int | None:
    """The stream position of a paging token. Raises BadJson."""
    if token is None:
        return None
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise BadJson("This is not a token of this endpoint")
    return int(token)
