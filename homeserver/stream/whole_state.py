"""The whole state before our join, asked of another server, checked and stored.

Rules of this file: no lock is held while a server is asked. What a server says of the members is
taken if it fits what we know of the room and lets us join; the rest of the state stays as it was
told when we joined.
server-server-api#retrieving-events, MSC3706
"""

from __future__ import annotations

from collections.abc import Iterable

from immutables import Map
from msgspec import Struct

from homeserver.errors import BadGateway
from homeserver.protocol.auth_rules import check_event
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.protocol.rejection import Rejected
from homeserver.remote.client import path_to
from homeserver.store.database import Database
from homeserver.store.events import Flag, KnownEvent
from homeserver.stream.event_sources import CREATE, EventSource
from homeserver.stream.gaps import CHAIN, V1, Gaps
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.short_offers import Offer

FEW = 5
"""So many missing events are fetched one by one."""


class _StateIds(Struct):
    pdu_ids: list[str]
    auth_chain_ids: list[str]


class WholeStates:
    """Asks other servers for the members that we lack."""

    def __init__(
        self, database: Database, rooms: LiveRooms, gaps: Gaps, offers: dict[str, Offer]
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._gaps = gaps
        self._offers = offers

    def forget(self, room_id: str) -> None:
        """Nobody fetches anything for the room any more."""
        self._offers.pop(room_id, None)

    async def fetch(self, server: str, room: LiveRoom, join: Event, partial: State) -> State:
        """The whole state before our join, of which we have a part; all its events are stored.

        The server isn't asked if we were told with the join and have kept it until now. Raises
        MatrixError if it doesn't answer, or answers what can't be. RoomGone.
        """
        offer = self._offers.pop(room.room_id, None)
        if offer is not None and offer.join.event_id == join.event_id:
            ids = await self._gaps.store_all(room, [*offer.state, *offer.auth_chain])
            state_ids = [ids.get(place, "") for place in range(len(offer.state))]
        else:
            state_ids = await self._ask(server, room, join)
        known = await self._gaps.known(room, state_ids)
        state = _with_members(partial, state_ids, known)
        await self._check(room, join, state)
        return state

    async def _ask(self, server: str, room: LiveRoom, join: Event) -> list[str]:
        """The ids of the state before our join, all of its events stored that can be had."""
        query = [("event_id", join.event_id)]
        path = path_to(f"{V1}/state_ids", room.room_id, query=query)
        told = await self._gaps.client.get_as(server, path, _StateIds, CHAIN)
        wanted = {*told.pdu_ids, *told.auth_chain_ids}
        missing = wanted.difference(await self._gaps.known(room, wanted))
        if len(missing) <= FEW:
            await self._gaps.fetch_events(server, room, missing)
        else:
            await self._gaps.fetch_state(server, room, join.event_id, missing)
        return told.pdu_ids

    async def _check(self, room: LiveRoom, join: Event, state: State) -> None:
        """Raises BadGateway unless our join is allowed by the state."""
        async with self._database.connection() as connection:
            source = EventSource(self._rooms, room, connection)
            auth = await source.auth_state(join, state)
        try:
            check_event(room.rules, join, auth)
        except Rejected as rejected:
            raise BadGateway(f"That state doesn't allow our join: {rejected.reason}") from None


def _with_members(partial: State, state_ids: Iterable[str], known: dict[str, KnownEvent]) -> State:
    """The state with the members that are told. Raises BadGateway if that can't be all."""
    entries = {key: event_id for key, event_id in partial.items() if key[0] != MEMBER}
    told = lost = 0
    create = None
    for event_id in state_ids:
        told += 1
        one = known.get(event_id)
        if one is None or one.state_key is None or one.flags & Flag.REJECTED:
            lost += 1
        elif one.type == MEMBER:
            entries[MEMBER, one.state_key] = event_id
        elif (one.type, one.state_key) == CREATE:
            create = event_id
    if create is None or create != partial.get(CREATE):
        raise BadGateway("What was told is not the state of this room")
    # Servers that are gone have left events behind that nobody can verify any more; but not most.
    if lost > told // 2:
        raise BadGateway(f"{lost} of {told} events of the state are not to be had, or not valid")
    return Map(entries)
