"""`rooms.join` of a sync: gathered for all rooms at once, then encoded room by room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import field
from msgspec.structs import replace

from homeserver.protocol.event_types import MEMBER
from homeserver.store.account_data import AccountDataRow
from homeserver.store.database import Database
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.sections.account_data import account_data_events
from homeserver.stream.sections.cited_members import CitedMembers
from homeserver.stream.sections.ephemeral import ephemeral_events
from homeserver.stream.sections.event_form import state_events
from homeserver.stream.sections.lazy_members import SentMembers
from homeserver.stream.sections.ready_rooms import ReadyRooms, is_plain
from homeserver.stream.sections.room_state import Shown, StateHistory, without_other_members
from homeserver.stream.sections.shared_window import SharedWindow
from homeserver.stream.sections.summary import summary
from homeserver.stream.sections.timeline import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    Timeline,
    Window,
    upto_order,
)
from homeserver.stream.sections.windows import SeenWindow, Windows
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import SyncRequest, encode, events_object, json_object
from homeserver.stream.unread import Unread, unread_members

ROOMS_PER_SLICE = 20
"""How many rooms are encoded before the event loop gets its turn."""


class RoomAnswer(SeenWindow):
    """What is gathered for one room before anything is encoded."""

    account_data: Sequence[AccountDataRow] = ()
    newly_joined: bool = False
    shown: Shown = field(default_factory=dict)


class JoinedRooms:
    """The section's gatherer and encoder."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        sent_members: SentMembers,
        windows: Windows,
        unread: Unread,
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._windows = windows
        self._unread = unread
        self._state = StateHistory(database)
        self._cited = CitedMembers(database, rooms)
        self._sent_members = sent_members
        self._ready = ReadyRooms(rooms, unread, windows.ignored)

    def start_again(self, device: tuple[str, str | None]) -> None:
        """Forget which members a device was told of."""
        self._sent_members.start_again(device)

    async def read(
        self,
        request: SyncRequest,
        room_ids: Sequence[str],
        account_data: dict[str, list[AccountDataRow]],
        upto: int,
    ) -> bytes | None:
        """The JSON of `rooms.join`, or None if nothing is to be told. `upto`: stream position."""
        if is_plain(request) and account_data.keys() <= {""}:
            ready = await self._ready.read(request, room_ids, upto)
            if ready is not None:
                return ready
        rooms = await self._rooms.get_many(room_ids)
        if not request.filter.state.lazy_load_members:
            # Who wants all members is told of the room once we know them.
            rooms = {room_id: room for room_id, room in rooms.items() if not room.is_partial}
        answers = [
            await self._gather(request, room, account_data.get(room.room_id, ()), upto)
            for room in rooms.values()
        ]
        await self._windows.hide(request.user_id, answers)
        await self._windows.bundle(request, answers)
        for answer in answers:
            answer.shown = await self._shown(request, answer, upto)
        events = await self._load_state_events(answers)
        await self._rooms.load_receipts(rooms.values())
        await self._unread.prepare(request.user_id, rooms.values())
        members: list[tuple[bytes, bytes]] = []
        for index, answer in enumerate(answers):
            if index % ROOMS_PER_SLICE == ROOMS_PER_SLICE - 1:
                await asyncio.sleep(0)
            encoded = self._encode(request, answer, events, upto)
            if encoded is not None:
                members.append((encode(answer.room.room_id), encoded))
        return json_object(members) if members else None

    async def _gather(
        self,
        request: SyncRequest,
        room: LiveRoom,
        account_data: Sequence[AccountDataRow],
        upto: int,
    ) -> RoomAnswer:
        row = room.members.get(request.user_id)
        since = request.since
        joined_from = row.joined_from if row is not None and row.joined_from is not None else 0
        newly_joined = since is not None and joined_from > since
        if since is not None and room.entry is not None:
            lazy = request.filter.state.lazy_load_members
            told_from = room.corrected_from if lazy else room.complete_from
            newly_joined = newly_joined or told_from > since
        scratch = since is None or newly_joined
        after = None if scratch else upto_order(since or 0)
        matcher = request.filter.timeline
        shared = await self._windows.read(
            Window(room, after, upto_order(upto)), matcher, matcher.limit(DEFAULT_LIMIT, MAX_LIMIT)
        )
        if newly_joined and not shared.timeline.limited:
            # The client may hold events from before it was away: what it is told now stands alone.
            shared = SharedWindow(replace(shared.timeline, limited=True), matcher)
        return RoomAnswer(room, shared, account_data=account_data, newly_joined=newly_joined)

    async def _shown(self, request: SyncRequest, answer: RoomAnswer, upto: int) -> Shown:
        timeline = answer.timeline
        after = request.state_after is not None
        if request.full_state and timeline.window.after is not None:
            timeline = replace(timeline, window=replace(timeline.window, after=None))
        key = (after, request.full_state)
        shown = answer.window.shown.get(key)
        if shown is None:
            shown = answer.window.shown[key] = await self._state.shown(timeline, after=after)
        if request.filter.state.lazy_load_members:
            shown = await self._lazy(request, answer, timeline, shown, upto)
        return shown

    async def _lazy(
        self,
        request: SyncRequest,
        answer: RoomAnswer,
        timeline: Timeline,
        shown: Shown,
        upto: int,
    ) -> Shown:
        """Member events only of those who speak in the timeline, each once per device."""
        room = answer.room
        senders = set(answer.window.senders)
        scratch = timeline.window.after is None
        if scratch:
            senders.add(request.user_id)
        kept = without_other_members(shown, senders | {request.user_id})
        kept |= await self._cited.of(room, timeline.events, senders)
        if not scratch and senders:
            after = request.state_after is not None
            moment = timeline.window.upto + 1 if after else timeline.start
            state = await self._state.at(room, moment)
            for user_id in senders:
                event_id = state.get((MEMBER, user_id))
                if event_id is not None:
                    kept.setdefault((MEMBER, user_id), event_id)
        return self._without_repeats(request, room.room_id, kept, scratch, upto)

    def _without_repeats(
        self, request: SyncRequest, room_id: str, shown: Shown, scratch: bool, upto: int
    ) -> Shown:
        device = (request.user_id, request.device_id)
        keep_all = scratch or request.filter.state.include_redundant_members
        for key, event_id in list(shown.items()):
            if key[0] != MEMBER:
                continue
            event = (key[1], event_id)
            if not keep_all and self._sent_members.knows(
                device, room_id, event, request.since or 0
            ):
                del shown[key]
            else:
                self._sent_members.record(device, room_id, event, upto)
        return shown

    async def _load_state_events(self, answers: Sequence[RoomAnswer]) -> dict[str, StoredEvent]:
        """All state events that will be shown: from memory, else in one query for all rooms."""
        wanted = [event_id for answer in answers for event_id in answer.shown.values()]
        if not wanted:
            return {}
        cache = self._rooms.events
        found = {e: stored for e in wanted if (stored := cache.peek(e)) is not None}
        if len(found) < len(set(wanted)):
            async with self._database.connection() as connection:
                missing = {e for e in wanted if e not in found}
                found |= await cache.get_many(connection, missing, self._rooms.rules_of)
        return found

    def _encode(
        self,
        request: SyncRequest,
        answer: RoomAnswer,
        events: dict[str, StoredEvent],
        upto: int,
    ) -> bytes | None:
        timeline = answer.timeline
        room = answer.room
        ephemeral = ephemeral_events(request, room, new=answer.newly_joined)
        data = account_data_events(request.filter.room_account_data, answer.account_data)
        found = [events[event_id] for event_id in answer.shown.values() if event_id in events]
        state = state_events(request, room.room_id, found)
        unread = self._unread.of(request.user_id, room)
        news = timeline.events or ephemeral or data or state or timeline.limited
        news = news or (unread is not None and unread.changed_at > (request.since or 0))
        news = news or _completed(answer, request)
        if not news and not request.from_scratch and not answer.newly_joined:
            return None
        state_name = b'"state"' if request.state_after is None else encode(request.state_after)
        members = [
            (b'"timeline"', answer.window.encode(request, answer.history, answer.bundles)),
            (state_name, events_object(state)),
            (b'"account_data"', events_object(data)),
            (b'"ephemeral"', events_object(ephemeral)),
        ]
        if unread is not None:
            threaded = request.filter.timeline.unread_thread_notifications
            members += unread_members(unread, threaded=threaded)
        if self._members_changed(answer, request):
            members.append((b'"summary"', summary(room, request.user_id)))
        return json_object(members)

    def _members_changed(self, answer: RoomAnswer, request: SyncRequest) -> bool:
        if request.from_scratch or answer.timeline.window.after is None:
            return True
        if _completed(answer, request):
            return True
        return answer.window.has_members or any(key[0] == MEMBER for key in answer.shown)


def _completed(answer: RoomAnswer, request: SyncRequest) -> bool:
    """Have we learned since then how many are in the room?"""
    room = answer.room
    return (
        room.entry is not None and not room.is_partial and room.complete_from > (request.since or 0)
    )
