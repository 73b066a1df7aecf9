"""One destination: what it is to be told, in order, and the task that tells it.

Rules of this file:
- Live events wait in memory. A destination that doesn't take them is *behind*: then only a
  position is kept, and from there on it is told what Postgres has, until it has caught up.
- A transaction is taken or not: what is in it is dropped from the queue when it was taken.
- A task runs only while there is something to tell.
server-server-api#transactions
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct

from homeserver.backoff import Backoff
from homeserver.clock import Clock
from homeserver.errors import MatrixError, Unavailable
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError, encode_lenient
from homeserver.remote.availability import Availability
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.remote.errors import RemoteRefusal
from homeserver.services.federation_sender.passing_edus import PassingEdus
from homeserver.services.federation_sender.stored_edus import StoredEduReader, StoredEdus

MAX_PDUS = 50
MAX_EDUS = 100
AGAIN_SECONDS = 5.0
"""After a failure of ours, not theirs."""
MAX_WAITING = 500
"""Events that wait in memory; a destination with more is behind."""
REFUSED_MS = Backoff(2_000, 3600 * 1000)
MAX_INTRODUCTIONS = 1000
INTRODUCTIONS_AT_ONCE = 5
"""Users whose devices are told in one transaction."""
TERMS = Terms(seconds=60.0, max_bytes=4 * 1024 * 1024, ignore_backoff=True)
SEND = "/_matrix/federation/v1/send"

ReadEvents = Callable[[str, int, int, int], Awaitable[list[tuple[int, bytes]]]]
"""Destination, after, up to, limit -> our events for it, oldest first, with their positions."""

log = structlog.get_logger(__name__)


class Means(Struct, frozen=True):
    """What all destinations share. `newest` gives the newest visible stream position."""

    client: FederationClient
    availability: Availability
    stored: StoredEduReader
    read_events: ReadEvents
    newest: Callable[[], int]
    clock: Clock
    server_name: str


class Destination:
    """`lists_from`: device lists were told up to this position."""

    def __init__(self, name: str, means: Means, position: int) -> None:
        self.name = name
        self.passing = PassingEdus()
        self.lists_from = position
        self.behind_from: int | None = None
        self.has_stored = False
        self._stored_changes = 0
        self._means = means
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._introductions: dict[str, int] = {}
        self._refusals = 0
        self._refused_until = 0
        self._task: asyncio.Task[None] | None = None
        self._return = asyncio.Event()
        self._is_stopped = False
        self._sent = 0
        self._started = means.clock()

    def told_upto(self, newest: int) -> int:
        """The position up to which nothing is missing there."""
        upto = newest if self.behind_from is None else self.behind_from
        if self._waiting:
            upto = min(upto, self._waiting[0][0] - 1)
        if self._introductions:
            upto = min(upto, min(self._introductions.values()) - 1)
        return min(upto, self.lists_from) if self.has_stored else upto

    def add_event(self, position: int, pdu: bytes) -> None:
        """Tell it an event, unless it is behind: then it reads the event when its turn comes."""
        if self.behind_from is None:
            self._waiting.append((position, pdu))
            if len(self._waiting) > MAX_WAITING:
                self._fall_behind()
        self.wake()

    def add_stored(self, position: int) -> None:
        """There are EDUs in Postgres for it, the newest of this position."""
        if not self.has_stored:
            self.lists_from = min(self.lists_from, position - 1)
            self.has_stored = True
        self._stored_changes += 1
        self.wake()

    def introduce(self, user_id: str, position: int) -> None:
        """Tell it the devices of a user of ours, with whom its users share a room since a position.

        After a restart this is found out again from who has joined since (`told_upto`). What is
        too much isn't told: the join itself says that these devices aren't known.
        """
        if len(self._introductions) < MAX_INTRODUCTIONS:
            self._introductions.setdefault(user_id, position)
        self.wake()

    def catch_up_from(self, position: int) -> None:
        """It has been told everything up to this position."""
        self.behind_from = self.lists_from = position
        self.has_stored = True
        self.wake()

    def is_back(self) -> None:
        """It can be reached again."""
        self._refused_until = 0
        self._return.set()
        self.wake()

    def wake(self) -> None:
        """Have the task run, if there is anything to tell."""
        if self._task is None and self._has_something and not self._is_stopped:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the sending; what waits is told after the next start."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_idle(self) -> bool:
        """Whether it has been told everything: then nothing is lost with this object."""
        return self._task is None and not self._has_something

    @property
    def _has_something(self) -> bool:
        return bool(
            self._waiting
            or self._introductions
            or self.passing
            or self.has_stored
            or self.behind_from is not None
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("sender failed", destination=self.name, exc_info=error)
            task.get_loop().call_later(AGAIN_SECONDS, self.wake)
        else:
            # Whoever called `wake` after the task's last look, and before now, found it running.
            self.wake()

    def _fall_behind(self) -> None:
        """From the first event on that it didn't take."""
        if self._waiting:
            first = self._waiting[0][0] - 1
            self.behind_from = first if self.behind_from is None else self.behind_from
            self._waiting.clear()

    async def _run(self) -> None:
        while self._has_something:
            if self._retry_at > self._means.clock():
                self._fall_behind()
                self.passing.clear()
                await self._wait_for_return()
                continue
            try:
                await self._send_once()
                self._refusals = 0
            except Unavailable as error:  # our database is away: the other server is not to blame
                log.warning("not told", destination=self.name, reason=error.message)
                await asyncio.sleep(AGAIN_SECONDS)
            except MatrixError as error:
                log.info("not told", destination=self.name, reason=error.message)
                self._failed(error)

    @property
    def _retry_at(self) -> int:
        """From when on it is told something again, 0: now."""
        return max(self._means.availability.retry_at(self.name), self._refused_until)

    def _failed(self, error: MatrixError) -> None:
        """A server that answers but takes no transactions may still be asked for other things."""
        if isinstance(error, RemoteRefusal) and not error.is_trouble:
            self._refusals += 1
            self._refused_until = self._means.clock() + int(REFUSED_MS.after(self._refusals))
        else:
            self._means.availability.failed(self.name)

    async def _wait_for_return(self) -> None:
        self._return.clear()
        seconds = (self._retry_at - self._means.clock()) / 1000
        try:
            async with asyncio.timeout(max(seconds, 0.05)):
                await self._return.wait()
        except TimeoutError:
            pass

    async def _send_once(self) -> None:
        """One transaction. Raises Unreachable, RemoteRefusal."""
        upto = self._means.newest()
        behind = self.behind_from
        pdus = await self._next_pdus(upto)
        changes = self._stored_changes
        users = list(self._introductions)[:INTRODUCTIONS_AT_ONCE]
        stored, edus = None, list[JsonObject]()
        if users:  # first, so that what changes meanwhile comes after it
            edus += (await self._means.stored.introductions(users))[:MAX_EDUS]
        elif self.has_stored:
            stored = await self._means.stored.read(self.name, self.lists_from, upto)
            edus += stored.edus
        edus += self.passing.take(self._means.clock(), MAX_EDUS - len(edus))
        if pdus or edus:
            await self._put(pdus, edus)
        for user_id in users:
            self._introductions.pop(user_id, None)
        if behind is None:
            for _ in pdus:
                self._waiting.popleft()
        else:
            self._caught_up(pdus, upto)
        if stored is not None:
            await self._stored_were_taken(stored, changes)

    async def _next_pdus(self, upto: int) -> list[tuple[int, bytes]]:
        if self.behind_from is None:
            return [self._waiting[index] for index in range(min(MAX_PDUS, len(self._waiting)))]
        return await self._means.read_events(self.name, self.behind_from, upto, MAX_PDUS)

    def _caught_up(self, pdus: list[tuple[int, bytes]], upto: int) -> None:
        """No await between the look at the newest position and being live again."""
        if len(pdus) == MAX_PDUS:
            self.behind_from = pdus[-1][0]
        elif self._means.newest() == upto:
            self.behind_from = None
        else:
            self.behind_from = upto

    async def _stored_were_taken(self, stored: StoredEdus, changes: int) -> None:
        """`changes`: how often `add_stored` had been called when they were read."""
        self.lists_from = stored.lists_upto
        if stored.to_device_upto is not None:
            await self._means.stored.delete_to_device(self.name, stored.to_device_upto)
        if stored.is_all and changes == self._stored_changes:
            self.has_stored = False

    async def _put(self, pdus: list[tuple[int, bytes]], edus: list[JsonObject]) -> None:
        self._sent += 1
        path = path_to(SEND, f"{self._started}-{self._sent}")
        try:
            body = canonical_transaction(
                self._means.server_name, self._means.clock(), [pdu for _, pdu in pdus], edus
            )
        except CanonicalJsonError as error:
            log.error("EDUs that can't be sent", destination=self.name, reason=str(error))
            body = canonical_transaction(
                self._means.server_name, self._means.clock(), [pdu for _, pdu in pdus], []
            )
        await self._means.client.put_canonical(self.name, path, body, TERMS)


def canonical_transaction(
    origin: str, now: int, pdus: list[bytes], edus: list[JsonObject]
) -> bytes:
    """The body of a transaction as canonical JSON, made of PDUs that are canonical already."""
    encoded = encode_lenient({"edus": edus, "origin": origin, "origin_server_ts": now})
    return encoded[:-1] + b',"pdus":[' + b",".join(pdus) + b"]}"
