"""What a user was notified of. client-server-api#listing-notifications"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from homeserver.errors import InvalidParam
from homeserver.json_types import JsonObject
from homeserver.protocol.push_evaluation import Outcome
from homeserver.protocol.push_outcomes import HIGHLIGHT, NOTIFY
from homeserver.store import notable_events as notable_store
from homeserver.store.database import Database
from homeserver.store.events import HIGHEST_ORDER, ORDER_STEP
from homeserver.store.notable_events import NotableEvent
from homeserver.stream.core import StreamCore
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.push_rules import UserPush
from homeserver.stream.stored_event import StoredEvent

PAGES = 20
"""So many pages of events are looked at for one page of notifications."""


class _Notified(Struct, frozen=True):
    event: NotableEvent
    room_id: str
    bits: int


class Notifications:
    """Lists them from the newest back, in the rooms that the user is in."""

    def __init__(self, database: Database, stream: StreamCore) -> None:
        self._database = database
        self._stream = stream

    async def page(
        self, user_id: str, token: str | None, limit: int, *, only_highlights: bool, now: int
    ) -> JsonObject:
        """The answer of `GET /notifications`. Raises InvalidParam for a token of somebody else."""
        found, next_order = await self._find(user_id, _order(token), limit, only_highlights)
        rooms = await self._stream.rooms.get_many({notified.room_id for notified in found})
        await self._stream.unread.prepare(user_id, rooms.values())
        ids = [notified.event.event_id for notified in found]
        async with self._database.connection() as connection:
            stored = await self._stream.rooms.events.get_many(
                connection, ids, self._stream.rooms.rules_of
            )
        listed = [
            await self._shown(user_id, notified, rooms[notified.room_id], event, now)
            for notified in found
            if (event := stored.get(notified.event.event_id)) and notified.room_id in rooms
        ]
        answer: JsonObject = {"notifications": listed}
        if next_order is not None:
            answer["next_token"] = str(next_order)
        return answer

    async def _find(
        self, user_id: str, before: int, limit: int, only_highlights: bool
    ) -> tuple[list[_Notified], int | None]:
        """Those below an order, and the order to go on from (None: there is nothing more)."""
        user = await self._stream.users.get(user_id)
        push = await self._stream.push_rules.get(user_id)
        joined = {r.room_number: i for i, r in user.rooms.items() if r.membership == "join"}
        bounds = [
            (row.room_number, (row.joined_from or 0) * ORDER_STEP)
            for row in user.rooms.values()
            if row.membership == "join"
        ]
        wanted = NOTIFY | HIGHLIGHT if only_highlights else NOTIFY
        found: list[_Notified] = []
        size = limit + 1
        for _ in range(PAGES):
            async with self._database.connection() as connection:
                events = await notable_store.before(connection, user_id, bounds, before, size)
            found += _matching(user_id, push, joined, events, wanted)
            if len(found) > limit:
                return found[:limit], found[limit - 1].event.order
            if len(events) < size:
                return found, None
            before = events[-1].order
        return found, before

    async def _shown(
        self, user_id: str, notified: _Notified, room: LiveRoom, stored: StoredEvent, now: int
    ) -> JsonObject:
        outcome = await self._stream.push_evaluator.evaluate_again(room, stored, user_id)
        unread = self._stream.unread.of(user_id, room)
        event: JsonObject = msgspec.json.decode(stored.client_at(now))
        return {
            "actions": _actions(outcome, notified.bits),
            "event": {**event, "room_id": room.room_id},
            "profile_tag": "",
            "read": unread is not None
            and unread.has_read(notified.event.thread, notified.event.order),
            "room_id": room.room_id,
            "ts": stored.origin_server_ts,
        }


def _matching(
    user_id: str,
    push: UserPush,
    joined: dict[int, str],
    events: Sequence[NotableEvent],
    wanted: int,
) -> list[_Notified]:
    found = []
    for event in events:
        room_id = joined[event.room_number]
        number = push.set_at(room_id, event.position) if event.outcomes.sets else 0
        bits = event.outcomes.of(user_id, number)
        if bits & wanted == wanted:
            found.append(_Notified(event, room_id, bits))
    return found


def _actions(outcome: Outcome, bits: int) -> list[object]:
    """The actions of the rule that matches today, or what is known of the one that did."""
    if outcome.notify:
        return list(outcome.actions)
    return ["notify", {"set_tweak": "highlight"}] if bits & HIGHLIGHT else ["notify"]


def _order(token: str | None) -> int:
    if not token:
        return HIGHEST_ORDER
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidParam("`from` is not a token that /notifications gave you as `next_token`")
    return int(token)
