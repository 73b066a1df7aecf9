"""Who reads a room, and what of it they may see: the door of every endpoint that reads.

Rules of this file:
- Members read everything that history visibility lets them see, and the current state.
- Who left reads what they could see then, and the state as it was when they left.
- Everybody reads what is `world_readable` of a room that is so now.
- Somebody invited reads what `invited` visibility shows them, but no state.
client-server-api#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.errors import Forbidden
from homeserver.protocol.history_visibility import VisibleHistory, visibility_of
from homeserver.requester import Requester
from homeserver.store.events import HIGHEST_ORDER
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.visibility import Visibility

NOT_A_MEMBER = "You aren't a member of this room and may not read it"
NOBODY = "-"
Span = tuple[int, int]
"""Timeline orders `after < order < before`."""


class Reader(Struct):
    """A user (at a device) in front of a room that they may read.

    From the order `certain_from` on a member sees everything; what lies before it is told by
    `history`, which is loaded when it is needed (`Readers.learn_history`). `state_before` is the
    place whose state they may see, None for the current one.
    """

    room: LiveRoom
    user_id: str
    device_id: str | None
    membership: str
    certain_from: int
    history: VisibleHistory | None = None
    state_before: int | None = None
    sees_state: bool = True
    is_stranger: bool = False

    @property
    def is_joined(self) -> bool:
        return self.membership == "join"

    def is_certain(self, order: int) -> bool:
        """Whether `allows` and `membership_at` can tell about this order from memory."""
        return order >= self.certain_from or self.history is not None

    def allows(self, stored: StoredEvent) -> bool:
        """May they see this event? What is in no timeline is nobody's to see."""
        return stored.order is not None and self.allows_order(stored.order)

    def allows_order(self, order: int) -> bool:
        """May they see the event of this place of the timeline?"""
        if order >= self.certain_from:
            return True
        return self.history is not None and self.history.allows(order)

    def membership_at(self, order: int) -> str | None:
        """Their membership at an event, None where it isn't loaded."""
        if order >= self.certain_from:
            return "join"
        return None if self.history is None else self.history.membership_at(order)

    def visible(self) -> list[tuple[int, int]]:
        """The orders that they may see, as far as it is known; both ends included."""
        if self.history is None:
            return [(self.certain_from, HIGHEST_ORDER)]
        return self.history.ranges()

    def spans(self, span: Span) -> Sequence[Span]:
        """The parts of a span that may hold anything for them, in order."""
        if span[0] + 1 >= span[1]:
            return []
        if self.history is None or self.history.sees_all:
            return [span]
        parts = []
        for first, last in self.history.ranges():
            after, before = max(first - 1, span[0]), min(last + 1, span[1], HIGHEST_ORDER)
            if after + 1 < before:
                parts.append((after, before))
        return parts


class Readers:
    """Lets readers in."""

    def __init__(self, rooms: LiveRooms, visibility: Visibility) -> None:
        self._rooms = rooms
        self._visibility = visibility

    async def open(self, requester: Requester, room_id: str) -> Reader:
        """The requester as a reader of a room; no query for a member of a room in memory.

        Raises Forbidden, also for a room that this server doesn't know.
        """
        room = await self._rooms.get(room_id)
        if room is None:
            raise Forbidden(NOT_A_MEMBER)
        user_id = requester.user_id
        certain_from = self._visibility.sees_from(room, user_id)
        if certain_from is not None:
            return Reader(room, user_id, requester.device_id, "join", certain_from)
        return await self._let_in(room, requester)

    async def _let_in(self, room: LiveRoom, requester: Requester) -> Reader:
        row = room.members.get(requester.user_id)
        reader = Reader(
            room,
            requester.user_id,
            requester.device_id,
            "leave" if row is None else row.membership,
            HIGHEST_ORDER,
            # Who forgot a room is a stranger to it.
            is_stranger=row is None or row.forgotten,
        )
        history = await self.learn_history(reader)
        if reader.is_joined:
            return reader
        if history.left_at is not None:
            reader.state_before = history.left_at + 1
        elif not await self.is_world_readable(room):
            if reader.membership != "invite" or history.sees_nothing:
                raise Forbidden(NOT_A_MEMBER)
            reader.sees_state = False
        return reader

    async def learn_history(self, reader: Reader) -> VisibleHistory:
        """Make a reader certain about all orders; one query, if it isn't known yet."""
        if reader.history is None:
            user_id = NOBODY if reader.is_stranger else reader.user_id
            histories = await self._visibility.histories([reader.room], user_id)
            reader.history = histories[reader.room.room_id]
        return reader.history

    async def learn_history_again(self, reader: Reader) -> None:
        """After older history has come in."""
        reader.history = None
        await self.learn_history(reader)

    async def learn_about(self, reader: Reader, events: Sequence[StoredEvent]) -> None:
        """Make a reader certain about these events."""
        if any(s.order is not None and not reader.is_certain(s.order) for s in events):
            await self.learn_history(reader)

    async def is_world_readable(self, room: LiveRoom) -> bool:
        """Whether anybody may look into the room as it is now."""
        event_id = room.state.get(("m.room.history_visibility", ""))
        if event_id is None:
            return False
        stored = await self._rooms.event(event_id)
        return stored is not None and visibility_of(stored.content) == "world_readable"
