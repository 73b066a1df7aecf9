"""Reading back what was said: pages of a room, one event, what surrounds it, what was said when.

client-server-api#getting-events-for-a-room
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from homeserver.errors import Forbidden, MissingParam, NotFound
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.filters import EventMatcher
from homeserver.requester import Requester
from homeserver.store import backward_extremities as gap_store
from homeserver.store import timeline as timeline_store
from homeserver.store.events import HIGHEST_ORDER, LOWEST_ORDER
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.reading.pages import Asked
from homeserver.stream.reading.places import place_of, place_token
from homeserver.stream.reading.readers import Reader
from homeserver.stream.reading.rooms import NO_EVENT, Reading
from homeserver.stream.sections.room_state import Shown, without_other_members
from homeserver.stream.sections.timeline import matching, order_of
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import encode, json_object

CANDIDATES = 50
"""How many events around a time are looked at in one query, for one that the reader may see."""
FILLS = 2
FILL = 100
"""How often, and how many events at once, are fetched from other servers for one jump."""


class EventElsewhere(Protocol):
    """Asks other servers for an event nearer to a time than ours (its time), which may lie in the
    gap at an order of the timeline: do we have more of the room now?"""

    async def __call__(
        self, room: LiveRoom, ts: int, gap: int, nearest: int | None, *, backwards: bool
    ) -> bool: ...


class MessagesRequest(Struct, frozen=True):
    """The parameters of `/messages`; `start` and `to` are tokens.

    `backwards` is None if the client didn't say where to: an error, but only for those who may
    read the room.
    """

    start: str | None
    to: str | None
    backwards: bool | None
    limit: int
    matcher: EventMatcher


class History:
    """Rooms' timelines as clients read them."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.event_elsewhere: EventElsewhere | None = None

    async def messages(self, requester: Requester, room_id: str, request: MessagesRequest) -> bytes:
        """A page: `start`, `end`, `chunk`, `state`.

        Raises Forbidden, MissingParam, InvalidParam.
        """
        reader = await self._reading.readers.open(requester, room_id)
        asked = self._asked(request)
        page = await self._reading.pages.read(reader, asked)
        members = await self._speakers(reader, request.matcher, page.events)
        parts = [
            (b'"start"', encode(request.start or place_token(asked.place))),
            (b'"chunk"', _array(await self._reading.forms.of(reader, page.events))),
        ]
        end = page.end
        if end is None and page.events:
            # The start of the room. Clients and test suites expect a token with every page that
            # has events; the page after this one is empty and has none.
            end = order_of(page.events[-1])
        if end is not None:
            parts.append((b'"end"', encode(place_token(end))))
        if request.matcher.lazy_load_members:
            parts.append((b'"state"', _array(await self._reading.forms.of_state(reader, members))))
        return json_object(parts)

    def _asked(self, request: MessagesRequest) -> Asked:
        if request.backwards is None:
            raise MissingParam("The query parameter 'dir' is missing")
        newest = self._reading.pages.newest()
        if request.start is not None:
            place = place_of(request.start, newest)
        else:
            place = self._reading.pages.newest_place() if request.backwards else LOWEST_ORDER + 1
        to = None if request.to is None else place_of(request.to, newest)
        return Asked(place, request.backwards, request.limit, to, request.matcher)

    async def _speakers(
        self, reader: Reader, matcher: EventMatcher, events: Sequence[StoredEvent]
    ) -> Sequence[StoredEvent]:
        """Lazy-loading: the member events of those who speak in these events."""
        if not matcher.lazy_load_members or not events:
            return ()
        senders = {stored.sender for stored in events}
        newest = max(map(order_of, events))
        return await self._reading.states.members_for(reader, senders, newest + 1)

    async def event(self, requester: Requester, room_id: str, event_id: str) -> bytes:
        """One event. Raises NotFound, also for those who may not read the room."""
        try:
            reader = await self._reading.readers.open(requester, room_id)
        except Forbidden:
            raise NotFound(NO_EVENT) from None
        stored = await self._reading.event(reader, event_id)
        return (await self._reading.forms.of(reader, [stored]))[0]

    async def event_anywhere(self, requester: Requester, event_id: str) -> bytes:
        """One event, whichever room it is in. Raises NotFound."""
        return await self.event(requester, await self._reading.room_id_of(event_id), event_id)

    async def context(
        self,
        requester: Requester,
        room_id: str,
        event_id: str,
        limit: int,
        matcher: EventMatcher,
    ) -> bytes:
        """An event with at most `limit` around it, and the state after the last of them.

        Raises Forbidden (the room), NotFound (the event).
        """
        reader = await self._reading.readers.open(requester, room_id)
        stored = await self._reading.event(reader, event_id)
        order = order_of(stored)
        pages, forms = self._reading.pages, self._reading.forms
        before = await pages.read(reader, Asked(order, True, limit // 2, None, matcher))
        after = await pages.read(reader, Asked(order + 1, False, limit - limit // 2, None, matcher))
        around = [*before.events, stored, *after.events]
        state = await self._state_at(reader, matcher, around)
        orders = [order_of(s) for s in around]
        encoded = await forms.of(reader, around)
        split = len(before.events)
        return json_object(
            [
                (b'"start"', encode(place_token(min(orders)))),
                (b'"end"', encode(place_token(max(orders) + 1))),
                (b'"events_before"', _array(encoded[:split])),
                (b'"event"', encoded[split]),
                (b'"events_after"', _array(encoded[split + 1 :])),
                (b'"state"', _array(await forms.of_state(reader, state))),
            ]
        )

    async def _state_at(
        self, reader: Reader, matcher: EventMatcher, events: Sequence[StoredEvent]
    ) -> list[StoredEvent]:
        """ "The state of the room at the last event returned." """
        if not reader.sees_state:
            return []
        place = max(map(order_of, events)) + 1
        shown: Shown = dict(await self._reading.states.of(reader, place))
        if matcher.lazy_load_members:
            shown = without_other_members(shown, {stored.sender for stored in events})
        elif not matcher.types.allows(MEMBER):
            shown = without_other_members(shown, ())
        state = await self._reading.states.events(shown.values())
        if matcher.matches_all:
            return state
        return matching(state, matcher, reader.room.room_id)

    async def event_at(
        self, requester: Requester, room_id: str, ts: int, *, backwards: bool
    ) -> tuple[str, int]:
        """The event (id, its time) closest to a time in milliseconds, at or after it or before.

        If this server lacks what was said around that time, it is fetched, so that the client can
        read on from there. Raises Forbidden, NotFound.
        """
        reader = await self._reading.readers.open(requester, room_id)
        await self._fill_around(reader, ts)
        if await self._learnt_elsewhere(reader, ts, backwards=backwards):
            await self._reading.readers.learn_history_again(reader)
        found = await self._closest(reader, ts, backwards=backwards)
        if found is None:
            direction = "backward" if backwards else "forward"
            raise NotFound(f"Unable to find event from {ts} in {direction} direction")
        return found

    async def _learnt_elsewhere(self, reader: Reader, ts: int, *, backwards: bool) -> bool:
        """ "If the server does not have all of the room history and does not have an event suitably
        close to the requested timestamp, it can use the corresponding federation endpoint" """
        if self.event_elsewhere is None or reader.room.history_from == LOWEST_ORDER:
            return False
        async with self._reading.database.connection() as connection:
            before, after = [
                await timeline_store.closest_to(
                    connection, reader.room.number, ts, backwards=b, beyond=0, limit=1
                )
                for b in (True, False)
            ]
            first = before[0][0] if before else LOWEST_ORDER
            last = after[0][0] if after else HIGHEST_ORDER
            gaps = await gap_store.between(connection, reader.room.number, first, last)
        if not gaps:
            return False
        newest = gaps[0][1]
        if reader.history is not None and not reader.history.allows(newest - 1):
            return False
        ours = before if backwards else after
        nearest = ours[0][1] if ours else None
        return await self.event_elsewhere(reader.room, ts, newest, nearest, backwards=backwards)

    async def _closest(self, reader: Reader, ts: int, *, backwards: bool) -> tuple[str, int] | None:
        for step in range(10):
            async with self._reading.database.connection() as connection:
                found = await timeline_store.closest_to(
                    connection,
                    reader.room.number,
                    ts,
                    backwards=backwards,
                    beyond=step * CANDIDATES,
                    limit=CANDIDATES,
                )
            if not all(reader.is_certain(order) for order, _, _ in found):
                await self._reading.readers.learn_history(reader)
            for order, origin_server_ts, event_id in found:
                if reader.allows_order(order):
                    return event_id, origin_server_ts
            if len(found) < CANDIDATES:
                break
        return None

    async def _fill_around(self, reader: Reader, ts: int) -> None:
        """Fetch older history as long as the first event after the time has a gap before it."""
        for _ in range(FILLS):
            if reader.room.history_from == LOWEST_ORDER:
                return  # there is no gap in this room
            async with self._reading.database.connection() as connection:
                after = await timeline_store.closest_to(
                    connection, reader.room.number, ts, backwards=False, beyond=0, limit=1
                )
            if not after or not await self._reading.pages.fill_before(reader, after[0][0], FILL):
                return


def _array(events: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"
