"""EDUs of other servers: each type goes to whoever deals with it. server-server-api#edus"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeGuard

import structlog

from homeserver.clock import Clock
from homeserver.errors import MatrixError, Unavailable
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import (
    is_compliant_user_id,
    is_event_id,
    is_room_id,
    server_name_of,
)
from homeserver.protocol.presence import UserPresence
from homeserver.protocol.push_outcomes import MAIN
from homeserver.protocol.relations import relation_of
from homeserver.store import relations as relation_store
from homeserver.store.database import Database
from homeserver.store.events import LOWEST_ORDER
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.changes import ReceiptChange
from homeserver.stream.core import StreamCore
from homeserver.stream.incoming import Incoming
from homeserver.stream.live_room import LiveRoom, has_read_unthreaded
from homeserver.stream.stored_event import StoredEvent

TYPING_SECONDS = 60.0
"""Who doesn't stop typing is told again before that (by Synapse after 40 seconds)."""
LATEST_TS = 2**63 - 1
MAX_THREADS_AHEAD = 50
"""Who has receipts for so many threads of a room gets no more for threads that we don't know."""

TakeEdu = Callable[[str, JsonObject], Awaitable[None]]
"""Deals with the content of an EDU from a server (the first argument)."""

log = structlog.get_logger(__name__)


class IncomingEdus:
    """Typing, receipts and presence are dealt with here, other types by whom `give_to` names."""

    def __init__(
        self, database: Database, stream: StreamCore, incoming: Incoming, clock: Clock
    ) -> None:
        self._database = database
        self._stream = stream
        self._incoming = incoming
        self._clock = clock
        self._takers: dict[str, TakeEdu] = {
            "m.typing": self._typing,
            "m.receipt": self._receipts,
            "m.presence": self._presence,
        }

    def give_to(self, edu_type: str, take: TakeEdu) -> None:
        """From now on EDUs of this type go there."""
        self._takers[edu_type] = take

    async def take(self, origin: str, edus: Sequence[Any]) -> None:
        """Deal with the EDUs of a transaction, in order. A bad one is left out.

        Raises Unavailable: the server is to send them again.
        """
        for edu in edus:
            if not isinstance(edu, dict):
                continue
            edu_type, content = edu.get("edu_type"), edu.get("content")
            take = self._takers.get(edu_type) if isinstance(edu_type, str) else None
            if take is None or not isinstance(content, dict):
                continue
            try:
                await take(origin, content)
            except Unavailable:
                raise
            except MatrixError as error:
                log.info("EDU left out", origin=origin, type=edu_type, reason=error.message)
            except Exception:  # one bad EDU must not keep back those after it, again and again
                log.exception("EDU not taken", origin=origin, type=edu_type)

    async def _typing(self, origin: str, content: JsonObject) -> None:
        """server-server-api#typing-notifications"""
        room = await self._room(origin, content.get("room_id"))
        user_id = content.get("user_id")
        if room is None or not _is_of(user_id, origin) or not _is_in(room, user_id):
            return
        if content.get("typing") is True:
            self._stream.typing.start(room.room_id, user_id, TYPING_SECONDS)
        else:
            self._stream.typing.stop(room.room_id, user_id)

    async def _receipts(self, origin: str, content: JsonObject) -> None:
        """server-server-api#receipts"""
        for room_id, by_type in content.items():
            room = await self._room(origin, room_id)
            reads = by_type.get("m.read") if isinstance(by_type, dict) else None
            if room is None or not isinstance(reads, dict):
                continue
            for user_id, receipt in reads.items():
                if _is_of(user_id, origin) and _is_in(room, user_id):
                    await self._receipt(room, user_id, receipt)

    async def _receipt(self, room: LiveRoom, user_id: str, receipt: Any) -> None:
        event_ids = receipt.get("event_ids") if isinstance(receipt, dict) else None
        data = receipt.get("data") if isinstance(receipt, dict) else None
        if not isinstance(event_ids, list) or not event_ids or not is_event_id(event_ids[0]):
            return
        data = data if isinstance(data, dict) else {}
        ts, thread_id = data.get("ts"), data.get("thread_id", "")
        if type(ts) is not int or not 0 <= ts <= LATEST_TS:
            return
        if thread_id not in ("", MAIN) and not is_event_id(thread_id):
            return
        await self._stream.rooms.load_receipts([room])
        stored = self._stream.rooms.events.peek(event_ids[0])
        if thread_id not in ("", MAIN):
            stored = stored or await self._stream.rooms.event(event_ids[0])
            if stored is not None and stored.event.room_id != room.room_id:
                return
            if not await self._may_be_in(room, stored, user_id, thread_id):
                return
        if thread_id and has_read_unthreaded(room, user_id, "m.read", event_ids[0]):
            return
        order = LOWEST_ORDER if stored is None or stored.order is None else stored.order
        position = self._stream.writer.allocate()
        row = ReceiptRow(
            room.number, user_id, "m.read", thread_id, event_ids[0], order, ts, position
        )
        await self._stream.writer.append(ReceiptChange(position, room.room_id, row))

    async def _may_be_in(
        self, room: LiveRoom, stored: StoredEvent | None, user_id: str, thread_id: str
    ) -> bool:
        """Whether a receipt for an event (None: one that we lack) may be one for this thread.

        The receipt may come before the thread: then it stands for when that comes, but a server
        can't make any number of them.
        """
        if stored is not None:
            if stored.thread_root == thread_id:
                return True
            # The root belongs to its thread too, and what reacts to it.
            relation = relation_of(stored.event.content)
            if thread_id not in (stored.event_id, None if relation is None else relation.event_id):
                return False
        async with self._database.connection() as connection:
            if await relation_store.is_thread_root(connection, room.number, thread_id):
                return True
        threads = sum(1 for whose, _, thread in room.receipts or () if whose == user_id and thread)
        return threads < MAX_THREADS_AHEAD

    async def _presence(self, origin: str, content: JsonObject) -> None:
        """server-server-api#presence"""
        push = content.get("push")
        if not self._stream.presence.enabled or not isinstance(push, list):
            return
        told = [
            self._told_presence(one)
            for one in push
            if isinstance(one, dict) and _is_of(one.get("user_id"), origin)
        ]
        self._stream.presence.set_remote(origin, [one for one in told if one is not None])

    def _told_presence(self, told: JsonObject) -> UserPresence | None:
        state, status_msg = told.get("presence"), told.get("status_msg")
        ago = told.get("last_active_ago", 0)
        if state not in ("online", "unavailable", "offline") or type(ago) is not int:
            return None
        last_active = max(0, self._clock() - max(0, ago))
        text = status_msg if isinstance(status_msg, str) and "\0" not in status_msg else None
        return UserPresence(told["user_id"], state, text, last_active, 0)

    async def _room(self, origin: str, room_id: Any) -> LiveRoom | None:
        """The room, if we are in it and it lets that server take part."""
        room = await self._stream.rooms.get(room_id) if is_room_id(room_id) else None
        if room is None or not room.joined_local:
            return None
        return room if await self._incoming.is_allowed(room, origin) else None


def _is_in(room: LiveRoom, user_id: str) -> bool:
    """Is a remote user in the room? Their server is believed while we lack the room's members."""
    row = room.members.get(user_id)
    if row is None and room.is_partial:
        return bool(room.joined_servers[server_name_of(user_id)])
    return row is not None and row.membership == "join"


def _is_of(user_id: Any, origin: str) -> TypeGuard[str]:
    return is_compliant_user_id(user_id) and server_name_of(user_id) == origin
