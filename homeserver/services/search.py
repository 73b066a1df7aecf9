"""Finding what was said, in the rooms that one is or was in.

client-server-api#server-side-search
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from homeserver.errors import InvalidParam
from homeserver.json_types import BAD_JSON, JsonObject
from homeserver.protocol.filters import EventMatcher, RoomEventFilter, compile_event_filter
from homeserver.protocol.search_terms import highlights, query_terms
from homeserver.requester import Requester
from homeserver.store import search as search_store
from homeserver.store import timeline as timeline_store
from homeserver.store.search import Hit, Place
from homeserver.stream.core import StreamCore
from homeserver.stream.reading.many_rooms import ManyRooms, SeenRoom
from homeserver.stream.reading.places import place_token
from homeserver.stream.reading.readers import Reader
from homeserver.stream.sections.timeline import allowed, order_of
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.visibility import Visibility

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
MAX_CONTEXT = 20
Key = Literal["content.body", "content.name", "content.topic"]
TYPE_OF_KEY: dict[Key, str] = {
    "content.body": "m.room.message",
    "content.name": "m.room.name",
    "content.topic": "m.room.topic",
}
Amount = Annotated[int, Meta(ge=0)]


class EventContext(Struct, frozen=True):
    before_limit: Amount = 5
    after_limit: Amount = 5
    include_profile: bool = False


class Group(Struct, frozen=True):
    key: Literal["room_id", "sender"]


class Groupings(Struct, frozen=True):
    group_by: list[Group] = []


class RoomEventsCriteria(Struct, frozen=True):
    search_term: str
    keys: list[Key] | None = None
    filter: RoomEventFilter | None = None
    order_by: Literal["rank", "recent"] = "rank"
    event_context: EventContext | None = None
    include_state: bool = False
    groupings: Groupings | None = None


class Categories(Struct, frozen=True):
    room_events: RoomEventsCriteria | None = None


class SearchRequest(Struct, frozen=True):
    """The body of `/search`."""

    search_categories: Categories


class NextBatch(Struct, frozen=True, array_like=True):
    """What a `next_batch` says: the last hit that was told, to which group it goes on, and how
    many hits there were."""

    rank: float = 0.0
    origin_server_ts: int = 0
    number: int = 0
    key: Literal["", "room_id", "sender"] = ""
    value: str = ""
    total: int = 0

    @property
    def place(self) -> Place | None:
        return Place(self.rank, self.origin_server_ts, self.number) if self.number else None


class Found(Struct, frozen=True):
    """A hit with its event and what surrounds it."""

    hit: Hit
    stored: StoredEvent
    before: Sequence[StoredEvent]
    after: Sequence[StoredEvent]


class Search:
    """Searches. The number of queries doesn't depend on the number of rooms or results."""

    def __init__(self, stream: StreamCore) -> None:
        self._stream = stream
        self._reading = stream.reading
        visibility = Visibility(stream.reading.database, stream.rooms)
        self._many_rooms = ManyRooms(stream.reading, stream.users, visibility)

    async def search(
        self, requester: Requester, categories: Categories, token: str | None
    ) -> JsonObject:
        """`{"search_categories": ...}`. Raises InvalidParam for a token that isn't ours."""
        criteria = categories.room_events
        if criteria is None:
            return {"search_categories": {}}
        batch = _decoded(token)
        matcher = compile_event_filter(criteria.filter)
        rooms = await self._many_rooms.of(requester)
        chosen = {
            number: seen
            for number, seen in rooms.items()
            if matcher.room_allowed(seen.room_id)
            and (batch.key != "room_id" or seen.room_id == batch.value)
        }
        limit = matcher.limit(DEFAULT_LIMIT, MAX_LIMIT)
        hits = await self._hits(requester, criteria, matcher, chosen, batch, limit)
        numbers = {hit.room_number for hit in hits}
        readers = await self._many_rooms.readers(requester, [chosen[n] for n in numbers])
        found = await self._look(readers, criteria, matcher, hits)
        answer = await self._answer(readers, criteria, found)
        # Test suites expect that a full page has a `next_batch`, also if it is the last; the page
        # after it is empty then.
        total = hits[0].total if hits else batch.total
        answer["count"] = total
        answer["highlights"] = highlights(criteria.search_term)
        following = _following(batch, hits[-1].place, total) if 0 < limit == len(hits) else None
        if following is not None:
            answer["next_batch"] = _token(following)
        if criteria.groupings is not None and criteria.groupings.group_by:
            answer["groups"] = _groups(criteria.groupings, found, rooms, following)
        return {"search_categories": {"room_events": answer}}

    async def _hits(
        self,
        requester: Requester,
        criteria: RoomEventsCriteria,
        matcher: EventMatcher,
        rooms: Mapping[int, SeenRoom],
        batch: NextBatch,
        limit: int,
    ) -> list[Hit]:
        wanted = query_terms(criteria.search_term)
        spans = [(n, *span) for n, seen in rooms.items() for span in seen.history.ranges()]
        if not wanted or not spans or not limit:
            return []
        definition = matcher.definition
        senders = None if definition.senders is None else list(definition.senders)
        if batch.key == "sender":
            senders = [batch.value]
        ignored = await self._stream.ignored_users.of(requester.user_id)
        search = search_store.Search(
            terms=wanted,
            keys=[
                key
                for key in (criteria.keys or TYPE_OF_KEY)
                if matcher.types.allows(TYPE_OF_KEY[key])
            ],
            rooms=[span[0] for span in spans],
            firsts=[span[1] for span in spans],
            lasts=[span[2] for span in spans],
            senders=senders,
            not_senders=[*(definition.not_senders or ()), *ignored],
            recent_first=criteria.order_by == "recent",
            beyond=batch.place,
            limit=limit,
        )
        async with self._reading.database.connection() as connection:
            return await search_store.search(connection, search)

    async def _look(
        self,
        readers: Mapping[int, Reader],
        criteria: RoomEventsCriteria,
        matcher: EventMatcher,
        hits: Sequence[Hit],
    ) -> list[Found]:
        """The events of the hits, with their contexts; without those redacted a moment ago."""
        hits = [hit for hit in hits if hit.room_number in readers]
        events = await self._reading.states.events(hit.event_id for hit in hits)
        by_id = {stored.event_id: stored for stored in events}
        known = [
            (hit, by_id[hit.event_id])
            for hit in hits
            if hit.event_id in by_id and by_id[hit.event_id].redacted_by is None
        ]
        known = [(hit, stored) for hit, stored in known if allowed(matcher, stored)]
        contexts = await self._contexts(readers, criteria.event_context, known)
        return [
            Found(hit, stored, before, after)
            for (hit, stored), (before, after) in zip(known, contexts, strict=True)
        ]

    async def _contexts(
        self,
        readers: Mapping[int, Reader],
        wanted: EventContext | None,
        known: Sequence[tuple[Hit, StoredEvent]],
    ) -> list[tuple[list[StoredEvent], list[StoredEvent]]]:
        """What stands before each hit (the nearest first) and after it; one query for all."""
        contexts: list[tuple[list[StoredEvent], list[StoredEvent]]] = [([], []) for _ in known]
        if wanted is None or not known:
            return contexts
        places = [(hit.room_number, order_of(stored)) for hit, stored in known]
        async with self._reading.database.connection() as connection:
            rows = await timeline_store.around(
                connection,
                places,
                min(wanted.before_limit, MAX_CONTEXT),
                min(wanted.after_limit, MAX_CONTEXT),
            )
            events = await self._reading.rooms.events.adopt(
                connection, [row for _, row in rows], self._reading.rooms.rules_of
            )
        for (index, _), stored in zip(rows, events, strict=True):
            number, order = places[index]
            if readers[number].allows(stored):
                contexts[index][0 if order_of(stored) < order else 1].append(stored)
        return contexts

    async def _answer(
        self,
        readers: Mapping[int, Reader],
        criteria: RoomEventsCriteria,
        found: Sequence[Found],
    ) -> dict[str, Any]:
        events: dict[int, dict[str, StoredEvent]] = {}
        for one in found:
            of_room = events.setdefault(one.hit.room_number, {})
            of_room.update((s.event_id, s) for s in (one.stored, *one.before, *one.after))
        forms = await self._many_rooms.forms(
            readers, {number: list(of_room.values()) for number, of_room in events.items()}
        )
        context = criteria.event_context
        results = [
            _result(one, forms, None if context is None else _context(one, forms)) for one in found
        ]
        if context is not None and context.include_profile:
            for one, result in zip(found, results, strict=True):
                result["context"]["profile_info"] = await self._profiles(readers, one)
        answer: dict[str, Any] = {"results": results}
        if criteria.include_state:
            answer["state"] = {
                reader.room.room_id: await self._state(reader) for reader in readers.values()
            }
        return answer

    async def _state(self, reader: Reader) -> list[Raw]:
        if not reader.sees_state:
            return []
        state = await self._reading.states.of(reader)
        events = await self._reading.states.events(state.values())
        return [Raw(event) for event in await self._reading.forms.of_state(reader, events)]

    async def _profiles(self, readers: Mapping[int, Reader], found: Found) -> JsonObject:
        around = (*found.before, found.stored, *found.after)
        members = await self._reading.states.members_for(
            readers[found.hit.room_number],
            {stored.sender for stored in around},
            max(map(order_of, around)) + 1,
        )
        return {
            stored.state_key or "": {
                field: stored.content[field]
                for field in ("displayname", "avatar_url")
                if isinstance(stored.content.get(field), str)
            }
            for stored in members
        }


def _result(found: Found, forms: Mapping[str, bytes], context: JsonObject | None) -> dict[str, Any]:
    # Test suites expect `user_id`, the old name of `sender`, with what is found.
    form = forms[found.stored.event_id]
    with_user_id = b'%b,"user_id":%b}' % (form[:-1], msgspec.json.encode(found.hit.sender))
    result: dict[str, Any] = {"rank": found.hit.place.rank, "result": Raw(with_user_id)}
    if context is not None:
        result["context"] = context
    return result


def _context(found: Found, forms: Mapping[str, bytes]) -> JsonObject:
    orders = [order_of(s) for s in (found.stored, *found.before, *found.after)]
    return {
        "start": place_token(min(orders)),
        "end": place_token(max(orders) + 1),
        "events_before": [Raw(forms[stored.event_id]) for stored in found.before],
        "events_after": [Raw(forms[stored.event_id]) for stored in found.after],
    }


def _groups(
    groupings: Groupings,
    found: Sequence[Found],
    rooms: Mapping[int, SeenRoom],
    following: NextBatch | None,
) -> JsonObject:
    """The results by room or by sender, each group with a token for more of it, if there is."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for key in dict.fromkeys(group.key for group in groupings.group_by):
        by_value = groups.setdefault(key, {})
        for one in found:
            hit = one.hit
            value = hit.sender if key == "sender" else rooms[hit.room_number].room_id
            group = by_value.setdefault(value, {"order": len(by_value), "results": []})
            group["results"].append(hit.event_id)
        if following is not None:
            for value, group in by_value.items():
                batch = replace(following, key=key, value=value, total=0)
                group["next_batch"] = _token(batch)
    return groups


def _following(batch: NextBatch, last: Place, total: int) -> NextBatch:
    ts, number = last.origin_server_ts, last.number
    return replace(batch, rank=last.rank, origin_server_ts=ts, number=number, total=total)


def _token(batch: NextBatch) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(batch)).decode()


def _decoded(token: str | None) -> NextBatch:
    if token is None:
        return NextBatch()
    try:
        batch = msgspec.json.decode(base64.urlsafe_b64decode(token), type=NextBatch)
    except BAD_JSON:
        batch = NextBatch()
    if not (0 < batch.number < 2**62 and abs(batch.origin_server_ts) < 2**62):
        raise InvalidParam("This is not a token that this server gave you")
    return batch
