"""Events in the form in which one reader gets them: with what only they may see.

client-server-api#room-event-format
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeserver.clock import Clock
from homeserver.protocol.client_events import (
    age,
    in_room,
    membership,
    relations,
    with_unsigned,
)
from homeserver.store.events import ORDER_STEP
from homeserver.stream.bundles import Bundles, Form, Viewer
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.reading.readers import Reader, Readers
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.transactions import own_fragment

JOINED_SINCE = b'"age":%d,"membership":"join"'
"""The fragment of an event of a certain age for who was in the room."""


class ClientForms:
    """Encodes events for readers."""

    def __init__(self, rooms: LiveRooms, readers: Readers, bundles: Bundles, now: Clock) -> None:
        self._rooms = rooms
        self._readers = readers
        self._bundles = bundles
        self._now = now

    async def of(self, reader: Reader, events: Sequence[StoredEvent]) -> list[bytes]:
        """Events (which the reader may see) as they get them from everything but /sync."""
        await self._readers.learn_about(reader, events)
        form = await self.form(reader, events)
        bundles = await self._bundles.of(viewer_of(reader), {reader.room.number: events}, form)
        if not bundles:
            return [form(stored) for stored in events]
        return [_with_bundle(form(s), bundles.get(s.event_id)) for s in events]

    async def of_state(self, reader: Reader, events: Sequence[StoredEvent]) -> list[bytes]:
        """The same for state: `unsigned.membership` only where it is known anyway.

        "[...] they MAY omit it if necessary (for example, if calculating the value is expensive"
        """
        form = await self.form(reader, events)
        return [form(stored) for stored in events]

    async def form(self, reader: Reader, events: Sequence[StoredEvent]) -> Form:
        """How an event looks to a reader, without its bundle."""
        replacing = (self._replaced_order(s) for s in events if s.replaces is not None)
        if any(order is not None and not reader.is_certain(order) for order in replacing):
            await self._readers.learn_history(reader)
        start = b'{"room_id":%b,' % msgspec.json.encode(reader.room.room_id)
        now = self._now()

        own = reader.device_id

        def of_reader(stored: StoredEvent) -> bytes:
            order, device_id = stored.order, stored.device_id
            others = device_id is None or device_id != own
            if (
                others
                and stored.replaces is None
                and order is not None
                and order >= reader.certain_from
            ):
                # Most of all events: nothing to look up for a member of old, nothing to hide.
                since = now - stored.origin_server_ts
                return in_room(stored.client, start, JOINED_SINCE % (since if since > 0 else 0))
            return in_room(self._client(reader, stored), start, self._unsigned(reader, stored, now))

        return of_reader

    def _unsigned(self, reader: Reader, stored: StoredEvent, now: int) -> bytes:
        fragment = age(max(0, now - stored.origin_server_ts))
        was = None if stored.order is None else reader.membership_at(stored.order)
        if was is not None:
            fragment += b"," + membership(was)
        sent = stored.transaction_of(reader.user_id, reader.device_id)
        if sent is not None:
            fragment += b"," + own_fragment(sent)
        return fragment

    def _client(self, reader: Reader, stored: StoredEvent) -> bytes:
        """ "`prev_content` [...] is only returned if [...] the client has permission to see the
        previous content" """
        if stored.replaces is None:
            order = stored.order
            if order is None or order >= reader.certain_from:
                return stored.client
            return stored.client_for(reader.history, order)
        order = self._replaced_order(stored)
        if order is None or order >= reader.certain_from:
            return stored.client
        if reader.history is not None and reader.history.allows(order):
            return stored.client
        return stored.client_without_previous()

    def _replaced_order(self, stored: StoredEvent) -> int | None:
        if stored.replaces is None:
            return None
        replaced = self._rooms.events.peek(stored.replaces_id or "")
        if replaced is None or replaced.order is None:
            return stored.replaces * ORDER_STEP
        return replaced.order


def viewer_of(reader: Reader) -> Viewer:
    """A reader as the one who looks for relations."""
    return Viewer(reader.user_id, {reader.room.number: reader.visible()})


def _with_bundle(event: bytes, bundled: bytes | None) -> bytes:
    return event if bundled is None else with_unsigned(event, relations(bundled))
