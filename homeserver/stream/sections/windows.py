"""Timelines of rooms for one user: shared where they can be, without what the user may not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from homeserver.protocol.filters import EventMatcher
from homeserver.protocol.history_visibility import VisibleHistory
from homeserver.store.database import Database
from homeserver.store.events import HIGHEST_ORDER, ORDER_STEP
from homeserver.stream.bundles import Bundles, Ranges, Viewer
from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.sections.shared_window import SharedWindow
from homeserver.stream.sections.timeline import (
    Timeline,
    Window,
    from_database,
    from_memory,
    order_of,
)
from homeserver.stream.sync_request import SyncRequest
from homeserver.stream.visibility import Visibility

WINDOWS_PER_ROOM = 50
"""Members who were away come back with tokens of their own; a room in which nothing happens would
hold a window for each of them."""


class SeenWindow(Struct):
    """A room's window as one user sees it; `history` only where they weren't a member all along."""

    room: LiveRoom
    window: SharedWindow
    history: VisibleHistory | None = None
    bundles: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def timeline(self) -> Timeline:
        return self.window.timeline


class Windows:
    """Reads windows: mostly from memory, and for a second reader from what the first one made."""

    def __init__(
        self, database: Database, rooms: LiveRooms, bundles: Bundles, ignored: IgnoredUsers
    ) -> None:
        self.database = database
        self._rooms = rooms
        self._visibility = Visibility(database, rooms)
        self._bundles = bundles
        self.ignored = ignored

    async def read(self, window: Window, matcher: EventMatcher, limit: int) -> SharedWindow:
        """The room's timeline over this window."""
        room = window.room
        current = not room.timeline or room.timeline[-1].order <= window.upto
        key = (window.after, id(matcher), limit)
        known = room.windows.get(key)
        if current and isinstance(known, SharedWindow) and known.matcher is matcher:
            return known
        timeline = from_memory(window, matcher, limit)
        if timeline is None:
            timeline = await from_database(window, matcher, limit, self.database, self._rooms)
            return SharedWindow(timeline, matcher)
        shared = SharedWindow(timeline, matcher)
        if current:
            if len(room.windows) >= WINDOWS_PER_ROOM:
                del room.windows[next(iter(room.windows))]
            room.windows[key] = shared
        return shared

    async def hide(self, user_id: str, seen: Sequence[SeenWindow]) -> None:
        """Take out what the user may or will not see: no query for members of old."""
        await self._hide_ignored(user_id, seen)
        unsure = [each for each in seen if _reaches_before_join(user_id, each)]
        if not unsure:
            return
        histories = await self._visibility.histories([each.room for each in unsure], user_id)
        for each in unsure:
            each.history = history = histories[each.room.room_id]
            timeline = each.timeline
            kept = [stored for stored in timeline.events if history.allows(order_of(stored))]
            if len(kept) != len(timeline.events):
                start = order_of(kept[0]) if kept else timeline.window.upto + 1
                visible = replace(timeline, events=kept, limited=True, start=start, has_holes=True)
                each.window = SharedWindow(visible, each.window.matcher)

    async def _hide_ignored(self, user_id: str, seen: Sequence[SeenWindow]) -> None:
        """ "Servers must still send state events sent by ignored users to clients." """
        ignored = await self.ignored.of(user_id)
        if not ignored:
            return
        for each in seen:
            if not ignored.isdisjoint(each.window.senders):
                events = each.timeline.events
                kept = [s for s in events if s.state_key is not None or s.sender not in ignored]
                each.window = SharedWindow(replace(each.timeline, events=kept), each.window.matcher)

    async def bundle(self, request: SyncRequest, seen: Sequence[SeenWindow]) -> None:
        """Find what is related to the events of timelines that don't tell it all themselves.

        "[...] when the relevant section has a `limited` value of `true`"
        """
        limited = [each for each in seen if each.timeline.limited]
        if not limited:
            return
        viewer = Viewer(
            request.user_id, {e.room.number: _visible(request.user_id, e) for e in limited}
        )
        bundles = await self._bundles.of(
            viewer,
            {each.room.number: each.timeline.events for each in limited},
            lambda stored: stored.client_at(request.now),
        )
        if bundles:
            for each in limited:
                each.bundles = bundles


def _visible(user_id: str, seen: SeenWindow) -> Ranges:
    if seen.history is not None:
        return seen.history.ranges()
    row = seen.room.members.get(user_id)
    if row is None or row.joined_from is None:
        return ()
    return [(row.joined_from * ORDER_STEP, HIGHEST_ORDER)]


def _reaches_before_join(user_id: str, seen: SeenWindow) -> bool:
    first = seen.window.first_order
    if first is None:
        return False
    row = seen.room.members.get(user_id)
    return row is None or row.joined_from is None or first < row.joined_from * ORDER_STEP
