"""`presence` of a sync. client-server-api#presence"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.protocol.presence import UserPresence
from homeserver.stream.live_users import LiveUser
from homeserver.stream.presence import Presence
from homeserver.stream.sync import Section
from homeserver.stream.sync_request import Part, SyncRequest, encode, events_object


def presence_section(presence: Presence) -> Section:
    """What changed in the presence of those who share a room; at first, who is there: also the
    user, though alone."""
    encoded = _Encoded()

    async def section(request: SyncRequest, user: LiveUser, upto: int) -> Sequence[Part]:
        if not presence.enabled:
            return ()
        since = request.since
        if since is None or request.full_state:
            found = {p.user_id: p for p in presence.in_rooms(user.joined_rooms())}
            own = presence.of(user.user_id)
            if own.state != "offline":
                found.setdefault(own.user_id, own)
        else:
            found = {p.user_id: p for p in presence.since(user, since, upto)}
            if user.last_membership > since:
                found |= {p.user_id: p for p in presence.in_rooms(_newly_joined(user, since))}
        events = _events(request, found.values(), encoded)
        return (Part("presence", events_object(events)),) if events else ()

    return section


def _newly_joined(user: LiveUser, since: int) -> Iterable[str]:
    return (
        room_id
        for room_id, row in user.rooms.items()
        if row.membership == "join" and (row.joined_from or 0) > since
    )


class _Encoded:
    """The events that are told in the present second, encoded once for all who are told.

    When many come online at once, each is told of all the others.
    """

    __slots__ = ("_events", "_second")

    def __init__(self) -> None:
        self._events: dict[str, tuple[UserPresence, bytes]] = {}
        self._second = 0

    def event(self, presence: UserPresence, now: int) -> bytes:
        if now // 1000 != self._second:
            self._events.clear()
            self._second = now // 1000
        known = self._events.get(presence.user_id)
        if known is not None and known[0] is presence:
            return known[1]
        content = presence.content(now)
        event = encode({"type": "m.presence", "sender": presence.user_id, "content": content})
        self._events[presence.user_id] = presence, event
        return event


def _events(request: SyncRequest, found: Iterable[UserPresence], encoded: _Encoded) -> list[bytes]:
    matcher = request.filter.presence
    return [
        encoded.event(p, request.now)
        for p in found
        if matcher.matches_all or matcher.event_allowed("m.presence", p.user_id, dict)
    ]
