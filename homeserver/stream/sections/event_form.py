"""An event in the format that a filter asks for: `event_format`. client-server-api#filtering"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.client_events import age, with_unsigned
from homeserver.protocol.history_visibility import VisibleHistory
from homeserver.stream.sections.timeline import allowed, order_of
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import SyncRequest


def event_form(request: SyncRequest, stored: StoredEvent, history: VisibleHistory | None) -> bytes:
    """An event of the timeline as its reader may see it."""
    if request.filter.federation_format:
        return stored.federation_for(history, order_of(stored))
    return stored.client_for(history, order_of(stored))


def state_events(request: SyncRequest, room_id: str, events: Sequence[StoredEvent]) -> list[bytes]:
    """The events of a room's `state`, as far as the filter lets them through."""
    matcher = request.filter.state
    if not matcher.matches_all:
        if not matcher.room_allowed(room_id):
            return []
        events = [stored for stored in events if allowed(matcher, stored)]
    return [_with_age(request, stored) for stored in events[: matcher.definition.limit]]


def _with_age(request: SyncRequest, stored: StoredEvent) -> bytes:
    if not request.filter.federation_format:
        return stored.client_at(request.now)
    fragment = age(max(0, request.now - stored.origin_server_ts))
    return with_unsigned(stored.federation_for(None, 0), fragment)
