"""Follows the log to learn which events carry which media; redacted ones take theirs along.

Rules of this file: it reads from Postgres behind the log, from its own position on, so that it
costs the hot path nothing. Where nothing was found its position is written down now and then only:
looking through the same events again does no harm. Encrypted events can't be read: their media are
never deleted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from homeserver.protocol.mxc import Mxc, mxcs_in
from homeserver.services.media.contents import Contents
from homeserver.services.media.ground import Ground
from homeserver.services.media.hot import HotFiles
from homeserver.store import media, media_links
from homeserver.store.media_links import Link, Seen

PERIOD_SECONDS = 2.0
BATCH = 500
POSITIONS_AT_ONCE = 20_000
WRITE_SECONDS = 60.0

log = structlog.get_logger()


class _Content(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"{}")
    redacts: object = None


class Links:
    """The follower. `newest` gives the stream's newest visible position."""

    def __init__(
        self, ground: Ground, contents: Contents, hot: HotFiles, newest: Callable[[], int]
    ) -> None:
        self._ground = ground
        self._contents = contents
        self._hot = hot
        self._newest = newest
        self._position = -1
        self._written_at = 0.0

    async def run(self) -> None:
        """Follow from time to time, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                while self._position < self._newest():
                    await self._step()
            except Exception as error:
                log.warning("following media failed", exc_info=error)

    async def _step(self) -> None:
        """Look through the next batch of events."""
        async with self._ground.database.connection() as connection:
            if self._position < 0:
                self._position = await media_links.position(connection)
            after = self._position
            upto = max(after, min(self._newest(), after + POSITIONS_AT_ONCE))
            events = await media_links.events_between(connection, after, upto, BATCH)
        if len(events) == BATCH:
            upto = events[-1].position
        now = asyncio.get_running_loop().time()
        if events or now - self._written_at > WRITE_SECONDS:
            await self._take_in(events, upto)
            self._written_at = now
        self._position = upto

    async def _take_in(self, events: Sequence[Seen], upto: int) -> None:
        deleted: list[Mxc] = []
        async with self._ground.database.transaction() as connection:
            if links := [link for event in events for link in _links(event)]:
                await media_links.insert(connection, links)
            if targets := _targets(events):
                redacted = await media_links.redacted_among(connection, targets)
                gone = await media_links.delete(connection, redacted)
                if gone and self._ground.config.delete_redacted:
                    ours = self._ground.server_name
                    mxcs = await media_links.deletable(connection, gone, ours)
                    deleted = await media.delete(connection, mxcs)
            await media_links.move(connection, upto)
        if deleted:
            self._hot.clear()
            await self._contents.sweep()
            log.info("media of redacted events deleted", count=len(deleted))


def _links(event: Seen) -> Iterable[Link]:
    """What an event carries. An encrypted one shows nothing of it."""
    content = msgspec.json.decode(_decoded(event).content)
    return [Link(event.event_id, mxc, event.sender) for mxc in mxcs_in(content)]


def _targets(events: Iterable[Seen]) -> list[str]:
    """The events that the redactions among `events` are about, and those redacted already."""
    found = [event.event_id for event in events if event.is_redacted]
    for event in events:
        if event.type == "m.room.redaction":
            decoded = _decoded(event)
            content = msgspec.json.decode(decoded.content)
            # Since room version 11 it is in the content.
            target = content.get("redacts") or decoded.redacts
            if isinstance(target, str):
                found.append(target)
    return found


def _decoded(event: Seen) -> _Content:
    return msgspec.json.decode(event.json, type=_Content)
