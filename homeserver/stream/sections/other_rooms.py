"""`rooms.invite`, `rooms.knock` and `rooms.leave` of a sync."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from homeserver.protocol.client_events import age, membership, with_unsigned
from homeserver.protocol.history_visibility import VisibleHistory
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.store.events import ORDER_STEP
from homeserver.store.rooms import MembershipRow
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.sections.account_data import account_data_events
from homeserver.stream.sections.event_form import event_form, state_events
from homeserver.stream.sections.room_state import Shown, StateHistory
from homeserver.stream.sections.timeline import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    Timeline,
    Window,
    from_database,
    from_memory,
    order_of,
    upto_order,
)
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import SyncRequest, encode, events_object, json_object
from homeserver.stream.visibility import Visibility

Rooms = Iterable[tuple[str, MembershipRow]]


def invited_rooms(rooms: Rooms) -> bytes | None:
    """client-server-api#get_matrixclientv3sync_response-200_invited-room"""
    return _stripped(rooms, b'"invite_state"')


def knocked_rooms(rooms: Rooms) -> bytes | None:
    """client-server-api#get_matrixclientv3sync_response-200_knocked-room"""
    return _stripped(rooms, b'"knock_state"')


def _stripped(rooms: Rooms, name: bytes) -> bytes | None:
    members = [
        (encode(room_id), b"{" + name + b':{"events":' + (row.stripped_state or b"[]") + b"}}")
        for room_id, row in rooms
    ]
    return json_object(members) if members else None


class LeftRooms:
    """Rooms that the user left, or was removed from: told up to that moment, and no further."""

    def __init__(self, database: Database, rooms: LiveRooms) -> None:
        self._database = database
        self._rooms = rooms
        self._state = StateHistory(database)
        self._visibility = Visibility(database, rooms)

    async def read(
        self,
        request: SyncRequest,
        left: Sequence[tuple[str, MembershipRow]],
        account_data: dict[str, list[AccountDataRow]],
    ) -> bytes | None:
        """The JSON of `rooms.leave`, or None."""
        if not left:
            return None
        live = await self._rooms.get_many([room_id for room_id, _ in left])
        histories = await self._visibility.histories(live.values(), request.user_id)
        members = []
        for room_id, row in left:
            data = account_data_events(
                request.filter.room_account_data, account_data.get(room_id, ())
            )
            if room_id in live:
                timeline = await self._timeline(request, room_id, row, histories[room_id])
                encoded = await self._encode(request, timeline, histories[room_id], row, data)
            else:
                encoded = _never_joined(request, row, data)
            members.append((encode(room_id), encoded))
        return json_object(members)

    async def _timeline(
        self, request: SyncRequest, room_id: str, row: MembershipRow, history: VisibleHistory
    ) -> Timeline:
        room = self._rooms.peek(room_id) or (await self._rooms.get_many([room_id]))[room_id]
        after = None if request.since is None else upto_order(request.since)
        scratch = after is None or _was_away(history, after)
        window = Window(room, None if scratch else after, upto_order(row.position))
        matcher = request.filter.timeline
        limit = matcher.limit(DEFAULT_LIMIT, MAX_LIMIT)
        timeline = from_memory(window, matcher, limit)
        if timeline is None:
            timeline = await from_database(window, matcher, limit, self._database, self._rooms)
        kept = [
            stored
            for stored in timeline.events
            # How it ended they learn also of rooms of which they may see nothing else.
            if history.allows(order_of(stored)) or stored.event_id == row.event_id
        ]
        hidden = len(kept) < len(timeline.events)
        start = order_of(kept[0]) if kept else window.upto + 1
        # Who came and went since has nothing of the room yet: what they are told stands alone.
        limited = timeline.limited or hidden or (scratch and after is not None)
        holes = timeline.has_holes or hidden
        return replace(timeline, events=kept, limited=limited, start=start, has_holes=holes)

    async def _encode(
        self,
        request: SyncRequest,
        timeline: Timeline,
        history: VisibleHistory,
        row: MembershipRow,
        data: Sequence[bytes],
    ) -> bytes:
        shown: Shown = {}
        seen = _as_seen(timeline, history)
        if seen is not None:
            shown = await self._state.shown(seen, after=request.state_after is not None)
        async with self._database.connection() as connection:
            events = await self._rooms.events.get_many(
                connection, shown.values(), self._rooms.rules_of
            )
        state = state_events(request, timeline.window.room.room_id, list(events.values()))
        state_name = b'"state"' if request.state_after is None else encode(request.state_after)
        return json_object(
            [
                (b'"timeline"', _timeline_object(request, timeline, history, row)),
                (state_name, events_object(state)),
                (b'"account_data"', events_object(data)),
            ]
        )


def _as_seen(timeline: Timeline, history: VisibleHistory) -> Timeline | None:
    """The timeline up to where the reader sees the room's state: the end of their stay, though
    they may have been invited again since. None: they see nothing of it."""
    upto = timeline.window.upto
    if not history.allows(upto):
        if history.left_at is None:
            return None
        upto = min(upto, history.left_at + ORDER_STEP - 1)
    window = replace(timeline.window, upto=upto)
    return replace(timeline, window=window, start=min(timeline.start, upto + 1))


def _was_away(history: VisibleHistory, since: int) -> bool:
    """Whether a reader who has left was in the room after `since`, but not at it."""
    was_in_since = history.left_at is not None and history.left_at > since
    return was_in_since and history.membership_at(since) != "join"


def _never_joined(request: SyncRequest, row: MembershipRow, data: Sequence[bytes]) -> bytes:
    """A room that this server has nothing of but how the user left it: an invite, rejected."""
    timeline = [(b'"events"', row.stripped_state or b"[]"), (b'"limited"', b"false")]
    state_name = b'"state"' if request.state_after is None else encode(request.state_after)
    return json_object(
        [
            (b'"timeline"', json_object(timeline)),
            (state_name, events_object([])),
            (b'"account_data"', events_object(data)),
        ]
    )


def _timeline_object(
    request: SyncRequest, timeline: Timeline, history: VisibleHistory, row: MembershipRow
) -> bytes:
    def event(stored: StoredEvent) -> bytes:
        was = membership(history.membership_at(order_of(stored)))
        fragment = age(max(0, request.now - stored.origin_server_ts)) + b"," + was
        return with_unsigned(event_form(request, stored, history), fragment)

    events = [event(stored) for stored in timeline.events]
    if row.stripped_state is not None:  # the leave was no event of a room that we were in
        events.append(row.stripped_state[1:-1])
    return json_object(
        [
            (b'"events"', b"[" + b",".join(events) + b"]"),
            (b'"limited"', b"true" if timeline.limited else b"false"),
            (b'"prev_batch"', encode(timeline.prev_batch)),
        ]
    )
