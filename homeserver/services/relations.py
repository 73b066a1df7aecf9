"""What is related to an event, the threads of a room, and which relations may be stated.

client-server-api#forming-relationships-between-events
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.errors import DuplicateAnnotation, UnknownError
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import encode_pdu
from homeserver.protocol.client_events import client_json, with_room_id
from homeserver.protocol.redaction import redact
from homeserver.protocol.relations import ANNOTATION, THREAD, may_be_thread_root, relation_of
from homeserver.requester import Requester
from homeserver.store import relations as relation_store
from homeserver.store.events import HIGHEST_ORDER, LOWEST_ORDER
from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.reading.client_forms import viewer_of
from homeserver.stream.reading.places import place_of, place_token
from homeserver.stream.reading.readers import Reader
from homeserver.stream.reading.rooms import Reading
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import encode, json_object

MAX_RELATED = 1000
MAX_HOPS = 3
"""How many levels of relations `recurse` follows."""


class RelationsRequest(Struct, frozen=True):
    """The parameters of `/relations`; `start` and `to` are tokens."""

    event_id: str
    rel_type: str | None
    type: str | None
    start: str | None
    to: str | None
    backwards: bool
    limit: int
    recurse: bool


class Relations:
    """Children of events, as their readers may see them."""

    def __init__(self, reading: Reading, ignored: IgnoredUsers) -> None:
        self._reading = reading
        self._ignored = ignored

    async def of_event(
        self, requester: Requester, room_id: str, request: RelationsRequest
    ) -> bytes:
        """A page of what is related to an event. Raises Forbidden, NotFound, InvalidParam."""
        reader = await self._reading.readers.open(requester, room_id)
        await self._reading.event(reader, request.event_id)
        async with self._reading.database.connection() as connection:
            found = await relation_store.page(
                connection,
                self._asked(reader, request),
                await self._reading.bundles.eyes(viewer_of(reader)),
            )
        page = found[: request.limit]
        events = await self._reading.states.events(event_id for event_id, _ in page)
        forms = await self._reading.forms.of(reader, events)
        parts = [(b'"chunk"', b"[" + b",".join(forms) + b"]")]
        if len(found) > request.limit:
            last = page[-1][1] if page else LOWEST_ORDER
            place = last if request.backwards else last + 1
            parts.append((b'"next_batch"', encode(place_token(place))))
        if request.start is not None:
            parts.append((b'"prev_batch"', encode(request.start)))
        if request.recurse:
            parts.append((b'"recursion_depth"', encode(MAX_HOPS)))
        return json_object(parts)

    def _asked(self, reader: Reader, request: RelationsRequest) -> relation_store.Asked:
        newest = self._reading.pages.newest()
        bounds = [
            None if token is None else place_of(token, newest)
            for token in (request.start, request.to)
        ]
        start, to = bounds if request.backwards else bounds[::-1]
        return relation_store.Asked(
            parent_id=request.event_id,
            room_number=reader.room.number,
            rel_type=request.rel_type,
            type=request.type,
            hops=MAX_HOPS if request.recurse else 1,
            after=LOWEST_ORDER if to is None else to - 1,
            before=HIGHEST_ORDER if start is None else start,
            limit=request.limit + 1,
            backwards=request.backwards,
        )

    async def ids_of_related(
        self, requester: Requester, room_id: str, event_id: str, rel_types: Sequence[str]
    ) -> list[str]:
        """The events that relate to one by these types (`*`: any), as far as a user sees them.

        At most MAX_RELATED. Raises Forbidden.
        """
        reader = await self._reading.readers.open(requester, room_id)
        await self._reading.readers.learn_history(reader)
        eyes = await self._reading.bundles.eyes(viewer_of(reader))
        found: dict[str, None] = {}
        async with self._reading.database.connection() as connection:
            for rel_type in [None] if "*" in rel_types else rel_types:
                asked = RelationsRequest(
                    event_id, rel_type, None, None, None, True, MAX_RELATED, False
                )
                page = await relation_store.page(connection, self._asked(reader, asked), eyes)
                found.update((related_id, None) for related_id, _ in page)
        return list(found)

    async def threads(
        self,
        requester: Requester,
        room_id: str,
        start: str | None,
        limit: int,
        *,
        participated: bool,
    ) -> bytes:
        """Thread roots, the one with the newest event first. Raises Forbidden, InvalidParam."""
        reader = await self._reading.readers.open(requester, room_id)
        before = HIGHEST_ORDER
        if start is not None:
            before = place_of(start, self._reading.pages.newest())
        await self._reading.readers.learn_history(reader)
        async with self._reading.database.connection() as connection:
            found = await relation_store.threads(
                connection,
                await self._reading.bundles.eyes(viewer_of(reader)),
                participated=participated,
                before=before,
                limit=limit + 1,
            )
        page = found[:limit]
        roots = await self._reading.states.events(event_id for event_id, _ in page)
        visible = [
            stored
            for stored in roots
            if reader.allows(stored) and may_be_thread_root(stored.event.content)
        ]
        parts = [(b'"chunk"', b"[" + b",".join(await self._roots(reader, visible)) + b"]")]
        if len(found) > limit:
            parts.append((b'"next_batch"', encode(place_token(page[-1][1]))))
        return json_object(parts)

    async def _roots(self, reader: Reader, roots: Sequence[StoredEvent]) -> list[bytes]:
        """ "If the thread root event was sent by an ignored user, the event is returned redacted
        to the caller." """
        forms = await self._reading.forms.of(reader, roots)
        ignored = await self._ignored.of(reader.user_id)
        return [
            _redacted(stored, reader.room.room_id) if stored.sender in ignored else form
            for stored, form in zip(roots, forms, strict=True)
        ]

    async def check(
        self, requester: Requester, room_id: str, type_: str, content: JsonObject
    ) -> None:
        """Whether a user may send an event that relates to another in this way.

        Raises UnknownError (a thread on what is itself related), DuplicateAnnotation.
        """
        relation = relation_of(content)
        if relation is None or relation.rel_type not in (THREAD, ANNOTATION):
            return
        if relation.rel_type == THREAD:
            await self._check_root(room_id, relation.event_id)
        elif relation.key is not None and "\0" not in relation.key:
            async with self._reading.database.connection() as connection:
                stands = await relation_store.has_annotated(
                    connection, relation.event_id, requester.user_id, type_, relation.key
                )
            if stands:
                raise DuplicateAnnotation("You have already sent this reaction")

    async def _check_root(self, room_id: str, event_id: str) -> None:
        room = await self._reading.rooms.get(room_id)
        if room is None:
            return
        root = await self._reading.event_of(room, event_id)
        if root is not None and not may_be_thread_root(root.event.content):
            # "servers should use `M_UNKNOWN` alongside the HTTP 400 status code"
            raise UnknownError("A thread can't start at an event that is related to another")


def _redacted(stored: StoredEvent, room_id: str) -> bytes:
    pruned = encode_pdu(redact(stored.event.pdu, stored.rules), stored.rules)
    return with_room_id(client_json(pruned, stored.event_id, stored.rules), room_id)
