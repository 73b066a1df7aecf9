"""What another server may see of a room's history: what it may not is served redacted.

server-server-api: "Events that the requesting server may not see are redacted"; the rules are
client-server-api#room-history-visibility for the server's users together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from homeserver.protocol.history_visibility import (
    Visibility,
    membership_of,
    server_may_see,
    visibility_of,
)
from homeserver.store import server_visibility as store
from homeserver.store.database import Connection
from homeserver.store.server_visibility import ServerDecidingEvent

OPEN = ("shared", "world_readable")


class ServerHistory:
    """Which orders of a room's timeline a server may see."""

    def __init__(self, events: Sequence[ServerDecidingEvent], before: Visibility) -> None:
        memberships: dict[str, str] = {}
        visibility = before
        self._orders: list[int] = []
        self._visible = [server_may_see(visibility, ())]
        for event in events:
            if event.type == "m.room.member":
                memberships[event.state_key] = membership_of(event.content)
            else:
                visibility = visibility_of(event.content)
            self._orders.append(event.timeline_order)
            self._visible.append(server_may_see(visibility, memberships.values()))

    def allows(self, order: int | None) -> bool:
        """May it see the event there? The deciding event itself, if before or after it would."""
        if order is None:
            return False
        index = bisect_right(self._orders, order)
        return self._visible[index] or (
            index > 0 and self._orders[index - 1] == order and self._visible[index - 1]
        )


async def server_history(
    connection: Connection, room_number: int, server_name: str, current: Visibility
) -> ServerHistory | None:
    """None: it may see everything. `current` is the room's history visibility now."""
    contents = await store.visibilities(connection, room_number)
    if current in OPEN and all(visibility_of(content) in OPEN for content in contents):
        return None
    events = await store.deciding_events(connection, room_number, server_name)
    first = [e for e in events if e.type != "m.room.member"][:1]
    before = visibility_of(first[0].content) if first else current
    return ServerHistory(events, before)
