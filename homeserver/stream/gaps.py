"""What events refer to and we lack: fetched from the servers that sent them.

Rules of this file: it waits for other servers, so no lock is held here; whatever a server answers
passes the same checks as what it sends; what can't be had is left out, the caller goes on.
server-server-api#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from immutables import Map
from msgspec import Raw, Struct

from homeserver.errors import MatrixError
from homeserver.json_types import BAD_JSON, JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import is_event_id
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.store import events as event_store
from homeserver.store.database import Database
from homeserver.store.events import Flag, KnownEvent
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.outliers import Outliers
from homeserver.stream.verify import Verifier

V1 = "/_matrix/federation/v1"
MISSING_EVENTS = 20
"""Synapse gives no more at once, so an answer with fewer events is all that there is to have."""
ROUNDS = 12
FETCHED_ONE_BY_ONE = 20
AT_ONCE = 10
A_SLICE = 500
CHAIN = Terms(seconds=60.0, max_bytes=64 * 1024 * 1024)
BIG = Terms(seconds=300.0, max_bytes=256 * 1024 * 1024)
BIG_AT_ONCE = 2
"""So many whole states are in memory at a time, whoever asks."""

log = structlog.get_logger(__name__)


class Missing(Struct, frozen=True):
    """What `get_missing_events` gave. `is_answered`: the server does answer such questions."""

    events: list[Event]
    is_answered: bool


class _State(Struct):
    pdus: list[Raw]
    auth_chain: list[Raw]


class _Depth(Struct):
    depth: int = 0


_depth_of = msgspec.json.Decoder(_Depth).decode


class Gaps:
    """Fetches what is missing in live rooms."""

    def __init__(
        self,
        database: Database,
        client: FederationClient,
        verifier: Verifier,
        outliers: Outliers,
        server_name: str,
    ) -> None:
        self.server_name = server_name
        self._database = database
        self.client = client
        self.verifier = verifier
        self._outliers = outliers
        self._big = asyncio.Semaphore(BIG_AT_ONCE)

    async def known(self, room: LiveRoom, event_ids: Iterable[str]) -> dict[str, KnownEvent]:
        """Those of these events that we have, without their content; one query at most."""
        found: dict[str, KnownEvent] = {}
        asked: list[str] = []
        for event_id in event_ids:
            one = room.pending.get(event_id)
            if one is None:
                asked.append(event_id)
            else:
                found[event_id] = KnownEvent(
                    event_id, one.number, one.type, one.state_key, one.flags, one.state_group
                )
        if asked:
            async with self._database.connection() as connection:
                found |= await event_store.known(connection, asked)
        return found

    async def missing_events(self, origin: str, room: LiveRoom, latest: Sequence[Event]) -> Missing:
        """Events between what we have and `latest`, as far as the origin tells.

        server-server-api#post_matrixfederationv1get_missing_eventsroomid
        """
        found: dict[str, Event] = {}
        ends = list(latest)
        is_answered = False
        for _ in range(ROUNDS):
            ask: JsonObject = {
                "earliest_events": list(room.head.forward_extremities[-20:]),
                "latest_events": [event.event_id for event in ends[-20:]],
                "limit": MISSING_EVENTS,
                "min_depth": 0,
            }
            path = path_to(f"{V1}/get_missing_events", room.room_id)
            answer = await self._ask(self.client.post(origin, path, ask))
            if answer is None:
                break
            is_answered = True
            told = _list(answer, "events")[:MISSING_EVENTS]
            verified = await self.verifier.verify(told, room.rules, room.room_id)
            fresh = [event for event in verified.events if event.event_id not in found]
            found.update((event.event_id, event) for event in fresh)
            ends = await self._with_unknown_prev_events(room, fresh, found)
            if not ends or len(told) < MISSING_EVENTS:
                break
        return Missing(list(found.values()), is_answered)

    async def _with_unknown_prev_events(
        self, room: LiveRoom, events: Sequence[Event], found: Collection[str]
    ) -> list[Event]:
        prev = {id_ for event in events for id_ in event.prev_events if id_ not in found}
        unknown = prev.difference(await self.known(room, prev))
        return [event for event in events if not unknown.isdisjoint(event.prev_events)]

    async def fetch_auth(self, origin: str, room: LiveRoom, event_id: str) -> None:
        """Store the auth chain of an event. server-server-api#get_matrixfederationv1event_auth"""
        path = path_to(f"{V1}/event_auth", room.room_id, event_id)
        answer = await self._ask(self.client.get(origin, path, CHAIN))
        await self._store(room, _list(answer, "auth_chain"))

    async def fetch_missing_auth(
        self, room: LiveRoom, events: Sequence[Event], origins: Mapping[str, str]
    ) -> None:
        """Store what events cite and we lack; `origins` are who sent them, by their ids."""
        cited = {id_ for event in events for id_ in event.auth_events}
        missing = cited.difference(origins, await self.known(room, cited))
        for event in events:
            if not missing.isdisjoint(event.auth_events):
                await self.fetch_auth(origins[event.event_id], room, event.event_id)
                missing -= (await self.known(room, missing)).keys()

    async def state_after(self, origin: str, room: LiveRoom, event_id: str) -> State | None:
        """The state after an event that we lack, all of its events stored; None if nobody says.

        server-server-api#get_matrixfederationv1state_idsroomid
        """
        path = path_to(f"{V1}/state_ids", room.room_id, query=[("event_id", event_id)])
        answer = await self._ask(self.client.get(origin, path, CHAIN))
        state_ids = [id_ for id_ in _list(answer, "pdu_ids") if is_event_id(id_)]
        chain_ids = [id_ for id_ in _list(answer, "auth_chain_ids") if is_event_id(id_)]
        if not state_ids:
            return None
        wanted = {*state_ids, *chain_ids, event_id}
        missing = wanted.difference(await self.known(room, wanted))
        await self._fetch(origin, room, event_id, missing)
        known = await self.known(room, [*state_ids, event_id])
        if event_id not in known:
            return None
        return _state_of(state_ids, known, known[event_id])

    async def _fetch(
        self, origin: str, room: LiveRoom, event_id: str, missing: Collection[str]
    ) -> None:
        """Store the missing events of a state; the whole state is asked for if many are."""
        if len(missing) <= FETCHED_ONE_BY_ONE:
            await self.fetch_events(origin, room, missing)
            return
        try:
            await self.fetch_state(origin, room, event_id, missing)
        except MatrixError as error:
            log.info("a gap stays", reason=error.message)
        await self.fetch_events(origin, room, [event_id])

    async def fetch_state(
        self, origin: str, room: LiveRoom, event_id: str, missing: Container[str]
    ) -> None:
        """Store those of the state before an event that are missing. Raises MatrixError, RoomGone.

        server-server-api#get_matrixfederationv1stateroomid
        """
        path = path_to(f"{V1}/state", room.room_id, query=[("event_id", event_id)])
        async with self._big:
            answer = await self.client.get_as(origin, path, _State, BIG)
            await self.store_all(room, [*answer.auth_chain, *answer.pdus], missing)

    async def store_all(
        self, room: LiveRoom, pdus: Sequence[Raw], among: Container[str] | None = None
    ) -> dict[int, str]:
        """Store PDUs, in slices: a big room costs the bytes of an answer and little more.

        Gives the ids of those that are signed rightly, by their places in `pdus`. Raises RoomGone.
        """
        order = _by_depth(pdus)
        ids: dict[int, str] = {}
        storing: asyncio.Task[None] | None = None
        try:
            for start in range(0, len(order), A_SLICE):
                part = order[start : start + A_SLICE]
                verified = await self.verifier.verify(
                    [pdus[place] for place in part], room.rules, room.room_id, among=among
                )
                for place, event in zip(verified.places, verified.events, strict=True):
                    ids[part[place]] = event.event_id
                # While a slice is written the next one is verified.
                if storing is not None:
                    await storing
                storing = asyncio.create_task(self._outliers.store(room, verified.events))
            if storing is not None:
                await storing
        finally:
            if storing is not None:
                storing.cancel()
        return ids

    async def fetch_events(self, origin: str, room: LiveRoom, event_ids: Iterable[str]) -> None:
        """Store events by id. server-server-api#get_matrixfederationv1eventeventid"""
        at_once = asyncio.Semaphore(AT_ONCE)

        async def fetch(event_id: str) -> list[Any]:
            async with at_once:
                path = path_to(f"{V1}/event", event_id)
                return _list(await self._ask(self.client.get(origin, path)), "pdus")

        answers = await asyncio.gather(*(fetch(event_id) for event_id in event_ids))
        await self._store(room, [pdu for answer in answers for pdu in answer])

    async def _store(self, room: LiveRoom, pdus: Sequence[Any]) -> None:
        verified = await self.verifier.verify(pdus, room.rules, room.room_id)
        if verified.events:
            await self._outliers.store(room, verified.events)

    async def _ask(self, request: Any) -> JsonObject | None:
        """The answer, None if there is none."""
        try:
            answer: JsonObject = await request
        except MatrixError as error:
            log.info("a gap stays", reason=error.message)
            return None
        return answer


def _by_depth(pdus: Sequence[Raw]) -> list[int]:
    """Their places, ordered so that what an event cites comes before it: it is less deep."""

    def depth(place: int) -> int:
        try:
            return _depth_of(pdus[place]).depth
        except BAD_JSON:
            return 0

    return sorted(range(len(pdus)), key=depth)


def _list(answer: JsonObject | None, name: str) -> list[Any]:
    value = None if answer is None else answer.get(name)
    return value if isinstance(value, list) else []


def _state_of(
    state_ids: Sequence[str], known: dict[str, KnownEvent], last: KnownEvent
) -> State | None:
    """The accepted state events among these, and `last` if it is one."""
    entries = {}
    for event_id in (*state_ids, last.event_id):
        one = known.get(event_id)
        if one is None or one.state_key is None or one.flags & Flag.REJECTED:
            continue
        entries[one.type, one.state_key] = event_id
    return Map(entries) if entries else None
