"""Forward extremities that pile up are tied together by events that nobody is shown.

A room in which servers rarely hear of each other grows ever more of them, and each further event
has to resolve all their states. An event of ours that refers to them makes one of many. It isn't
sent by itself: other servers fetch it with the next event that somebody really sends.
server-server-api#pdus
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import structlog

from homeserver.clock import Clock
from homeserver.errors import MatrixError
from homeserver.lru_cache import LruCache
from homeserver.protocol.events import sign_pdu
from homeserver.stream.changes import Change, EventChange
from homeserver.stream.drafts import Draft
from homeserver.stream.hidden_events import DUMMY
from homeserver.stream.incoming import Incoming
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.room_power import room_power
from homeserver.stream.send import Sender

TOO_MANY = 10
AGAIN_MS = 60_000
"""So often at most in one room."""
ROOMS = 10_000

log = structlog.get_logger(__name__)


class Extremities:
    """Ties them together: at once for who wants to send (`merge`), or in the background (`run`)."""

    def __init__(self, rooms: LiveRooms, sender: Sender, incoming: Incoming, clock: Clock) -> None:
        self._rooms = rooms
        self._sender = sender
        self._incoming = incoming
        self._clock = clock
        self._due: dict[str, int] = {}
        self._tried: LruCache[str, int] = LruCache(ROOMS)
        self._work = asyncio.Event()

    def published(self, changes: Sequence[Change]) -> None:
        """Note the rooms that have too many (called by the writer)."""
        for change in changes:
            if not isinstance(change, EventChange) or change.head is None:
                continue
            if len(change.head.forward_extremities) > TOO_MANY and change.room_id not in self._due:
                self._due[change.room_id] = (self._tried.get(change.room_id) or 0) + AGAIN_MS
                self._work.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._work.clear()
            await self._tie_what_is_due()
            wait = min(self._due.values(), default=None)
            seconds = None if wait is None else max(0, wait - self._clock()) / 1000
            try:
                await asyncio.wait_for(self._work.wait(), seconds)
            except TimeoutError:
                continue

    async def _tie_what_is_due(self) -> None:
        now = self._clock()
        for room_id in [room_id for room_id, due in self._due.items() if due <= now]:
            del self._due[room_id]
            self._tried.put(room_id, now)
            try:
                await self.merge(room_id, 1)
            except MatrixError as error:
                log.info("extremities stay", room_id=room_id, reason=error.message)

    async def merge(self, room_id: str, at_most: int) -> None:
        """Leave at most so many forward extremities, if there is a user of ours who may send.

        Raises what the room's rules refuse with.
        """
        before = sys.maxsize
        while True:
            room = await self._rooms.get(room_id)
            if room is None or room.is_partial:
                return
            count = len(room.head.forward_extremities)
            if count <= at_most or count >= before:  # enough, or the last one was not accepted
                return
            before = count
            sender = await self._somebody(room)
            if sender is None:
                return
            await self._tie(room, sender)

    async def _tie(self, room: LiveRoom, user_id: str) -> None:
        """One event on as many of them as one may refer to.

        It comes in like one from outside: there the state before it is found from its prev_events,
        which may be fewer than the room's extremities.
        """
        template = await self._sender.template(room.room_id, Draft(user_id, DUMMY, {}))
        if room.rules.event_id_in_pdu:
            template["event_id"] = self._sender.new_event_id()
        signer = self._sender.signer
        await self._incoming.take_event(signer.server_name, sign_pdu(template, room.rules, signer))

    async def _somebody(self, room: LiveRoom) -> str | None:
        """A user of ours who may send it."""
        power = await room_power(self._rooms, room)
        needed = power.event(DUMMY, is_state=False)
        able = (user_id for user_id in room.joined_local if power.user(user_id) >= needed)
        return min(able, default=None)
