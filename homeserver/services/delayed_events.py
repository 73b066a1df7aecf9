"""Events that are sent later, unless something happens first (MSC4140).

Rules of this file: every delayed event is in memory and in the table; each has a timer. It is sent
with its own id as transaction id and only then forgotten, so a crash neither loses nor repeats it.
A delayed state event is cancelled when somebody else changes the same piece of state.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from homeserver.backoff import Backoff
from homeserver.clock import Clock
from homeserver.errors import (
    Forbidden,
    LimitExceeded,
    MatrixError,
    NotFound,
    Unavailable,
    UserSuspended,
)
from homeserver.json_types import JsonObject
from homeserver.store import accounts as account_store
from homeserver.store import delayed_events as delayed_store
from homeserver.store.database import Database
from homeserver.store.delayed_events import DelayedEvent
from homeserver.stream.changes import Change, EventChange
from homeserver.stream.client_state import ClientState
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft, Transaction
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.transactions import DELAYED

MAX_DELAY_MS = 24 * 3600 * 1000
MAX_PER_USER = 100
RETRY_SECONDS = 5.0
BACKOFF_SECONDS = Backoff(5.0, 3600.0)
"""After a fault of ours."""
STATUS = "org.matrix.msc4140"

log = structlog.get_logger()

StateSlot = tuple[str, str, str]
"""Room, type, state key."""


class DelayTooLong(MatrixError):
    """MSC4140's `M_MAX_DELAY_EXCEEDED`, under its unstable name."""

    def __init__(self) -> None:
        fields: dict[str, Any] = {
            f"{STATUS}.errcode": "M_MAX_DELAY_EXCEEDED",
            f"{STATUS}.max_delay": MAX_DELAY_MS,
        }
        super().__init__(f"An event can be delayed by {MAX_DELAY_MS} ms at most", **fields)


class _Waiting(Struct):
    """`is_ending`: it is being sent, or deleted."""

    event: DelayedEvent
    timer: asyncio.TimerHandle | None = None
    is_ending: bool = False
    failures: int = 0


class DelayedEvents:
    """Keeps, lists, restarts, cancels and sends them."""

    def __init__(
        self, database: Database, stream: StreamCore, client_state: ClientState, now: Clock
    ) -> None:
        self._database = database
        self._stream = stream
        self._client_state = client_state
        self._now = now
        self._waiting: dict[str, _Waiting] = {}
        self._by_slot: dict[StateSlot, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with what was to be sent; what is overdue is sent at once."""
        async with self._database.connection() as connection:
            events = await delayed_store.load(connection)
        for event in events:
            self._add(event)
        self._stream.writer.on_publish(self.published)

    async def stop(self) -> None:
        """Send nothing more; it is all in the table."""
        for waiting in self._waiting.values():
            if waiting.timer is not None:
                waiting.timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def schedule(
        self, room_id: str, draft: Draft, delay: int, transaction: Transaction | None
    ) -> str:
        """Send an event after so many milliseconds; returns its delay id.

        With a transaction that it came with before, the delay id is the one of then.
        Raises DelayTooLong, LimitExceeded, Forbidden.
        """
        if delay > MAX_DELAY_MS:
            raise DelayTooLong
        room = await self._stream.rooms.get(room_id)
        if room is None or room.membership_of(draft.sender) != "join":
            raise Forbidden("You are not in this room")
        own = self._of(draft.sender)
        for event in own:
            if transaction is not None and _is_from(event, transaction):
                return event.delay_id
        if len(own) >= MAX_PER_USER:
            raise LimitExceeded(
                max(1, min(event.due for event in own) - self._now()),
                "You have too many delayed events",
            )
        event = self._made(room_id, draft, delay, transaction)
        self._add(event)
        try:
            async with self._database.connection() as connection:
                await delayed_store.insert(connection, event)
        except Unavailable:
            self._spawn([event.delay_id])  # it may have been written down all the same
            raise
        if event.delay_id not in self._waiting:  # overtaken, or sent, before it was written down
            self._run(self._delete_surely([event.delay_id]))
        return event.delay_id

    def _made(
        self, room_id: str, draft: Draft, delay: int, transaction: Transaction | None
    ) -> DelayedEvent:
        return DelayedEvent(
            delay_id=secrets.token_urlsafe(24),
            user_id=draft.sender,
            device_id="" if transaction is None else transaction.device_id,
            transaction_id=None if transaction is None else transaction.transaction_id,
            room_id=room_id,
            type=draft.type,
            state_key=draft.state_key,
            redacts=draft.redacts,
            content=msgspec.json.encode(draft.content),
            delay=delay,
            running_since=self._now(),
        )

    def listed(self, user_id: str) -> list[JsonObject]:
        """A user's delayed events, the one that is due first at first."""
        return [_shown(event) for event in sorted(self._of(user_id), key=lambda e: e.due)]

    def one(self, user_id: str, delay_id: str) -> JsonObject:
        """One of a user's delayed events. Raises NotFound."""
        event = self._require(delay_id).event
        if event.user_id != user_id:
            raise NotFound(NOT_THERE)
        return _shown(event)

    async def restart(self, delay_id: str) -> None:
        """Its time runs anew. Raises NotFound."""
        waiting = self._require(delay_id)
        event = replace(waiting.event, running_since=self._now())
        self._take(delay_id)
        self._add(event)
        async with self._database.connection() as connection:
            await delayed_store.restart(connection, delay_id, event.running_since)

    async def cancel(self, delay_id: str) -> None:
        """It is never sent. Raises NotFound."""
        self._require(delay_id)
        await self._forget([delay_id])

    async def send_now(self, delay_id: str) -> None:
        """It is sent at once. Raises NotFound, and what sending raises: then it is gone, too."""
        waiting = self._require(delay_id)
        try:
            await self._send(waiting)
        except Unavailable:
            self._renew_timer(waiting)
            raise
        except MatrixError:
            await self._forget([delay_id])
            raise
        await self._forget([delay_id])

    async def account_ended(self, user_id: str, erase: bool) -> None:
        """Who has no account any more sends nothing any more."""
        await self._forget([event.delay_id for event in self._of(user_id)])

    def published(self, changes: Sequence[Change]) -> None:
        """Cancel the state events that somebody else forestalled (called by the writer)."""
        if not self._by_slot:
            return
        overtaken: list[str] = []
        for change in changes:
            if isinstance(change, EventChange) and change.state_changes:
                overtaken += self._overtaken(change)
        if overtaken:
            self._spawn(overtaken)

    def _overtaken(self, change: EventChange) -> list[str]:
        sender = change.stored.sender
        return [
            delay_id
            for state_change in change.state_changes
            for delay_id in self._by_slot.get((change.room_id, *state_change.key), ())
            if self._waiting[delay_id].event.user_id != sender
        ]

    def _spawn(self, overtaken: Iterable[str]) -> None:
        gone = [delay_id for delay_id in overtaken if self._take(delay_id) is not None]
        self._run(self._delete_surely(gone))

    def _of(self, user_id: str) -> list[DelayedEvent]:
        return [w.event for w in self._waiting.values() if w.event.user_id == user_id]

    def _require(self, delay_id: str) -> _Waiting:
        waiting = self._waiting.get(delay_id)
        if waiting is None or waiting.is_ending:
            raise NotFound(NOT_THERE)
        return waiting

    def _add(self, event: DelayedEvent) -> None:
        waiting = self._waiting[event.delay_id] = _Waiting(event)
        if event.state_key is not None:
            self._by_slot.setdefault(_slot(event), set()).add(event.delay_id)
        self._set_timer(waiting, max(0, event.due - self._now()) / 1000)

    def _set_timer(self, waiting: _Waiting, seconds: float) -> None:
        def ring() -> None:
            self._run(self._fire(waiting.event.delay_id))

        waiting.timer = asyncio.get_running_loop().call_later(seconds, ring)

    def _renew_timer(self, waiting: _Waiting) -> None:
        """It may have rung while the event was in somebody's hands, who gives it back."""
        now = asyncio.get_running_loop().time()
        if waiting.timer is None or waiting.timer.when() <= now:
            self._set_timer(waiting, RETRY_SECONDS)

    def _take(self, delay_id: str) -> DelayedEvent | None:
        """Out of memory: whoever takes it decides what becomes of it."""
        waiting = self._waiting.pop(delay_id, None)
        if waiting is None:
            return None
        if waiting.timer is not None:
            waiting.timer.cancel()
        event = waiting.event
        if event.state_key is not None:
            slot = self._by_slot.get(_slot(event), set())
            slot.discard(delay_id)
            if not slot:
                self._by_slot.pop(_slot(event), None)
        return event

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fire(self, delay_id: str) -> None:
        """Its time has come."""
        waiting = self._waiting.get(delay_id)
        if waiting is None or waiting.is_ending:
            return
        room_id = waiting.event.room_id
        try:
            try:
                await self._send(waiting)
            except Unavailable:
                raise
            except MatrixError as error:
                log.info("a delayed event could not be sent", room_id=room_id, error=str(error))
            await self._forget([delay_id])
        except Unavailable:
            self._set_timer(waiting, RETRY_SECONDS)
        except Exception:
            # A fault of ours: it is tried again, less and less often.
            log.exception("sending a delayed event failed", room_id=room_id)
            waiting.failures += 1
            self._set_timer(waiting, BACKOFF_SECONDS.after(waiting.failures))

    async def _send(self, waiting: _Waiting) -> None:
        waiting.is_ending = True
        try:
            await self._send_event(waiting.event)
        finally:
            waiting.is_ending = False

    async def _require_may_send(self, user_id: str) -> None:
        """Raises Forbidden, UserSuspended: what a user may not do now, nor does it later."""
        async with self._database.connection() as connection:
            account = await account_store.find(connection, user_id)
        if account is None or account.is_deactivated or account.is_locked:
            raise Forbidden("The account that this was from may not send any more")
        if account.is_suspended:
            raise UserSuspended("You cannot do this while your account is suspended")

    async def _send_event(self, event: DelayedEvent) -> None:
        await self._require_may_send(event.user_id)
        draft = Draft(
            event.user_id,
            event.type,
            msgspec.json.decode(event.content),
            event.state_key,
            event.redacts,
        )

        async def send(transaction: Transaction) -> StoredEvent:
            if event.state_key is not None:
                return await self._client_state.send(event.room_id, draft, transaction)
            return await self._stream.sender.send(event.room_id, draft, transaction)

        await self._stream.transactions.once(
            Transaction(event.user_id, event.device_id, event.delay_id), DELAYED, send
        )

    async def _forget(self, delay_ids: Iterable[str]) -> None:
        """Out of the table, then out of memory. Raises Unavailable: then all is as it was."""
        known = {d: self._waiting[d] for d in delay_ids if d in self._waiting}
        for waiting in known.values():
            waiting.is_ending = True
        try:
            await self._delete(list(known))
        except BaseException:
            for waiting in known.values():
                waiting.is_ending = False
                self._renew_timer(waiting)
            raise
        for delay_id in known:
            self._take(delay_id)

    async def _delete_surely(self, delay_ids: Sequence[str]) -> None:
        """What was overtaken must not come back with the next start."""
        while True:
            try:
                return await self._delete(delay_ids)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def _delete(self, delay_ids: Sequence[str]) -> None:
        if delay_ids:
            async with self._database.connection() as connection:
                await delayed_store.delete(connection, delay_ids)


NOT_THERE = "There is no such delayed event"


def _slot(event: DelayedEvent) -> StateSlot:
    return (event.room_id, event.type, event.state_key or "")


def _is_from(event: DelayedEvent, transaction: Transaction) -> bool:
    return (event.device_id, event.transaction_id) == (
        transaction.device_id,
        transaction.transaction_id,
    )


def _shown(event: DelayedEvent) -> JsonObject:
    shown: JsonObject = {
        "delay_id": event.delay_id,
        "room_id": event.room_id,
        "type": event.type,
        # The proposal's names, and those that it had before, which clients read.
        "delay_ms": event.delay,
        "delay": event.delay,
        "delayed_since_ts": event.running_since,
        "running_since": event.running_since,
        "content": msgspec.json.decode(event.content),
    }
    if event.state_key is not None:
        shown["state_key"] = event.state_key
    return shown
