"""Keeps what can be found up to date: a follower of the log, in batches, behind everybody's back.

Rules of this file: a batch and the position up to which it reaches are one transaction, so nothing
is missed or done twice. An edited message is found by its newest valid edit; an edit itself isn't.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import msgspec
import structlog

from homeserver.errors import Unavailable
from homeserver.json_types import JsonObject
from homeserver.protocol.relations import REPLACE, relation_of
from homeserver.protocol.search_terms import terms
from homeserver.store import follower_positions
from homeserver.store import relations as relation_store
from homeserver.store import search as search_store
from homeserver.store.database import Connection, Database
from homeserver.store.relations import Parent
from homeserver.store.search import SEARCHED_TYPES, NewEvent, SearchRow
from homeserver.stream.notifier import Notifier
from homeserver.stream.writer import StreamWriter

FOLLOWER = "search"
BATCH = 200
PAUSE_SECONDS = 10.0
"""How long events gather before they are indexed, unless somebody searches."""
SEARCH_BATCHES = 10
PATIENCE_SECONDS = 3600.0

KEY_OF = {
    "m.room.message": "content.body",
    "m.room.name": "content.name",
    "m.room.topic": "content.topic",
}

log = structlog.get_logger()


class SearchIndex:
    """Follows the log."""

    def __init__(self, database: Database, writer: StreamWriter, notifier: Notifier) -> None:
        self._database = database
        self._writer = writer
        self._notifier = notifier
        self._turn = asyncio.Lock()
        self._reached = -1

    async def run(self) -> None:
        """Until it is cancelled: read on whenever something was published, a little later."""
        loop = asyncio.get_running_loop()
        with self._notifier.watch_all() as watch:
            while True:
                watch.clear()
                await self._catch_up_or_log()
                await watch.wait(loop.time() + PATIENCE_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _catch_up_or_log(self) -> None:
        try:
            await self.catch_up()
        except Unavailable:
            pass  # tried again with the next event, or in a while
        except Exception:  # one odd event must not end the follower
            log.exception("search index")

    async def freshen(self) -> None:
        """Before a search: index what is visible now, as far as a few batches reach."""
        if self._reached < self._writer.position:
            await self.catch_up(SEARCH_BATCHES)

    async def catch_up(self, batches: int | None = None) -> None:
        """Read everything that is visible now, or so many batches of it."""
        async with self._turn:
            for _ in itertools.count() if batches is None else range(batches):
                if not await self._next_batch():
                    break

    async def _next_batch(self) -> bool:
        """Index one batch; whether there may be more."""
        newest = self._writer.position
        async with self._database.transaction() as connection:
            position = await follower_positions.get(connection, FOLLOWER)
            rows = await search_store.news(connection, position, newest, BATCH)
            if rows:
                await self._index(connection, rows)
            more = len(rows) == BATCH
            reached = rows[-1].position if more else newest
            if reached > position:
                await follower_positions.put(connection, FOLLOWER, reached)
        self._reached = reached
        return more

    async def _index(self, connection: Connection, rows: Sequence[NewEvent]) -> None:
        redacted = await self._redacted(connection, rows)
        gone = [row.number for row in (*rows, *redacted) if row.redacted_by is not None]
        originals: dict[str, NewEvent] = {}
        edited: set[str] = set()
        for row in (*rows, *redacted):
            parent_id = _edits(row)
            if parent_id is not None:
                edited.add(parent_id)
            elif row.redacted_by is None:
                originals[row.event_id] = row
        missing = edited - originals.keys()
        for row in await search_store.events(connection, missing) if missing else ():
            if row.redacted_by is None and row.timeline_order is not None:
                originals[row.event_id] = row
        found = await self._rows(connection, list(originals.values()))
        # What was edited, or found its place later, is there already.
        stale = [*gone, *(row.number for row in found)]
        if stale:
            await search_store.delete(connection, stale)
        if found:
            await search_store.put(connection, found)

    async def _redacted(self, connection: Connection, rows: Iterable[NewEvent]) -> list[NewEvent]:
        """The searched events that were hit by the redactions among these."""
        targets = [_redacts(row) for row in rows if row.type == "m.room.redaction"]
        wanted = [event_id for event_id in targets if event_id is not None]
        if not wanted:
            return []
        found = await search_store.events(connection, wanted)
        return [row for row in found if row.redacted_by is not None and row.type in KEY_OF]

    async def _rows(self, connection: Connection, originals: Sequence[NewEvent]) -> list[SearchRow]:
        searched = [row for row in originals if row.type in SEARCHED_TYPES]
        parents = [Parent(r.event_id, r.room_number, r.sender, r.type) for r in searched]
        newest = await relation_store.newest_edits(connection, parents) if parents else {}
        edits = await search_store.events(connection, newest.values()) if newest else []
        texts = {row.event_id: _content(row).get("m.new_content") for row in edits}
        found = []
        for row in searched:
            content = texts.get(newest.get(row.event_id, ""))
            found_row = _search_row(row, content if isinstance(content, dict) else _content(row))
            if found_row is not None:
                found.append(found_row)
        return found


def _search_row(row: NewEvent, content: JsonObject) -> SearchRow | None:
    key = KEY_OF[row.type]
    text = content.get(key.removeprefix("content."))
    if not isinstance(text, str) or row.timeline_order is None:
        return None
    return SearchRow(
        row.number,
        row.room_number,
        key,
        row.sender,
        row.timeline_order,
        row.origin_server_ts,
        frozenset(terms(text)),
    )


class _Pdu(msgspec.Struct, gc=False):
    content: JsonObject


_decode = msgspec.json.Decoder(_Pdu).decode


def _content(row: NewEvent) -> JsonObject:
    return _decode(row.json).content


def _edits(row: NewEvent) -> str | None:
    """The event that this one edits, or edited before it was redacted."""
    if row.type != "m.room.message" or b'"m.relates_to"' not in row.json:
        return None
    relation = relation_of(_content(row))
    return relation.event_id if relation is not None and relation.rel_type == REPLACE else None


def _redacts(row: NewEvent) -> str | None:
    pdu = msgspec.json.decode(row.json)
    target = pdu.get("redacts", pdu["content"].get("redacts"))
    return target if isinstance(target, str) else None
