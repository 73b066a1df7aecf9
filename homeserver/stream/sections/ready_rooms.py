"""Rooms whose news is the same for everybody: told from what the first of them was told.

Rules of this file: it only recognises the plain case (a member of old, nothing of one's own in it,
nothing beside the timeline) and answers None otherwise; `JoinedRooms` knows all cases.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.sections.shared_window import SharedWindow
from homeserver.stream.sections.timeline import DEFAULT_LIMIT, MAX_LIMIT, upto_order
from homeserver.stream.sync_request import SyncRequest, encode
from homeserver.stream.unread import Unread, unread_members


def is_plain(request: SyncRequest) -> bool:
    """Whether a sync asks for nothing that differs from client to client."""
    state = request.filter.state
    return (
        not request.from_scratch
        and request.filter.matches_all
        and not state.lazy_load_members
        and state.definition.limit is None
    )


class ReadyRooms:
    """The `rooms.join` of a plain sync, if all its rooms are in the plain case."""

    def __init__(self, rooms: LiveRooms, unread: Unread, ignored: IgnoredUsers) -> None:
        self._rooms = rooms
        self._unread = unread
        self._ignored = ignored

    async def read(self, request: SyncRequest, room_ids: Sequence[str], upto: int) -> bytes | None:
        """The JSON of `rooms.join`; None if a room needs a closer look."""
        if await self._ignored.of(request.user_id):
            return None
        members = []
        for room_id in room_ids:
            room = self._room(request, room_id, upto)
            if room is None:
                return None
            members.append(encode(room_id) + b":" + room)
        return b"{" + b",".join(members) + b"}"

    def _room(self, request: SyncRequest, room_id: str, upto: int) -> bytes | None:
        since = request.since or 0
        room = self._rooms.peek(room_id)
        if room is None or room.typing_position > since or room.newest_receipt > since:
            return None
        row = room.members.get(request.user_id)
        if row is None or row.joined_from is None or row.joined_from > since:
            return None
        if room.complete_from > since:
            return None
        matcher = request.filter.timeline
        limit = matcher.limit(DEFAULT_LIMIT, MAX_LIMIT)
        window = room.windows.get((upto_order(since), id(matcher), limit))
        if not isinstance(window, SharedWindow) or window.matcher is not matcher:
            return None
        if room.timeline and room.timeline[-1].order > upto_order(upto):
            return None
        body = window.plain_body(request)
        unread = None if body is None else self._unread.of(request.user_id, room)
        if body is None or unread is None:
            return None
        threaded = matcher.unread_thread_notifications
        counts = [name + b":" + json for name, json in unread_members(unread, threaded=threaded)]
        return b"{" + b",".join((body, *counts)) + b"}"
