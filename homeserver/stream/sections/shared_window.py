"""What all members who sync over the same stretch of a room have in common.

Rules of this file: a shared window is made for the first of them, kept in `LiveRoom.windows` and
thrown away with the room's next change; nothing of one user goes into it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from homeserver.protocol.client_events import (
    age,
    membership,
    relations,
    with_unsigned,
)
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.filters import EventMatcher
from homeserver.protocol.history_visibility import VisibleHistory
from homeserver.store.events import ORDER_STEP
from homeserver.stream.sections.room_state import Shown
from homeserver.stream.sections.timeline import Timeline, order_of
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import SyncRequest, encode, json_object
from homeserver.stream.transactions import own_fragment


class SharedWindow:
    """A timeline with what follows from it: its first order, its senders, its encoding."""

    __slots__ = (
        "_encoded",
        "_encoded_second",
        "_owners",
        "_plain",
        "first_order",
        "has_members",
        "matcher",
        "senders",
        "shown",
        "timeline",
    )

    def __init__(self, timeline: Timeline, matcher: EventMatcher) -> None:
        events = timeline.events
        self.timeline = timeline
        self.matcher = matcher
        self.first_order = order_of(events[0]) if events else None
        self.senders = frozenset(stored.sender for stored in events)
        self.has_members = any(s.type == MEMBER and s.state_key is not None for s in events)
        self.shown: dict[tuple[bool, bool], Shown] = {}
        self._owners = frozenset((s.sender, s.device_id) for s in events if s.device_id is not None)
        self._encoded = b""
        self._encoded_second = -1
        self._plain: tuple[int, str | None, bytes] = (-1, None, b"")

    def encode(
        self, request: SyncRequest, history: VisibleHistory | None, bundles: Mapping[str, bytes]
    ) -> bytes:
        """The `timeline` object for a user; `history` is None if they were a member all along."""
        timeline = self.timeline
        return json_object(
            (
                (b'"events"', self.events(request, history, bundles)),
                (b'"limited"', b"true" if timeline.limited else b"false"),
                (b'"prev_batch"', encode(timeline.prev_batch)),
            )
        )

    def plain_body(self, request: SyncRequest) -> bytes | None:
        """The members of a room that has news in its timeline only; None if that isn't so.

        Whether there is state to show must have been found out before.
        """
        shown = self.shown.get((request.state_after is not None, False))
        own = (request.user_id, request.device_id) in self._owners
        beside = shown is None or shown or self.has_members or self.timeline.limited
        if own or beside or not self.timeline.events:
            return None
        second = request.now // 1000
        if self._plain[:2] != (second, request.state_after):
            state_name = encode(request.state_after or "state")
            body = b'"timeline":%b,%b:{"events":[]},"account_data":{"events":[]},' % (
                self.encode(request, None, {}),
                state_name,
            )
            self._plain = (second, request.state_after, body + b'"ephemeral":{"events":[]}')
        return self._plain[2]

    def events(
        self, request: SyncRequest, history: VisibleHistory | None, bundles: Mapping[str, bytes]
    ) -> bytes:
        """The events as a JSON array; `bundles` has what is related to events, by their ids.

        They are encoded once a second at most, except for whom they hold something of their own.
        """
        own = (request.user_id, request.device_id) in self._owners
        projected = request.filter.event_fields is not None or request.filter.federation_format
        bundled = bundles and any(s.event_id in bundles for s in self.timeline.events)
        if history is not None or own or projected or bundled:
            return self._encode(request, history, own, bundles)
        second = request.now // 1000
        if self._encoded_second != second:
            self._encoded = self._encode(request, None, False, {})
            self._encoded_second = second
        return self._encoded

    def _encode(
        self,
        request: SyncRequest,
        history: VisibleHistory | None,
        own: bool,
        bundles: Mapping[str, bytes],
    ) -> bytes:
        events = [
            _event(request, stored, history, own, bundles.get(stored.event_id))
            for stored in self.timeline.events
        ]
        fields = request.filter.event_fields
        if fields is not None:
            events = [encode(fields.project(msgspec.json.decode(event))) for event in events]
        return b"[" + b",".join(events) + b"]"


def _event(
    request: SyncRequest,
    stored: StoredEvent,
    history: VisibleHistory | None,
    own: bool,
    bundled: bytes | None,
) -> bytes:
    was = "join" if history is None else history.membership_at(order_of(stored))
    fragment = age(max(0, request.now - stored.origin_server_ts)) + b"," + membership(was)
    sent = stored.transaction_of(request.user_id, request.device_id) if own else None
    if sent is not None:
        fragment += b"," + own_fragment(sent)
    if bundled is not None:
        fragment += b"," + relations(bundled)
    return with_unsigned(_form(request, stored, history), fragment)


def _form(request: SyncRequest, stored: StoredEvent, history: VisibleHistory | None) -> bytes:
    """Without `prev_content` if the user may not see the event that was replaced."""
    if request.filter.federation_format:
        return stored.federation_for(history, order_of(stored))
    if history is None or stored.replaces is None or history.allows(stored.replaces * ORDER_STEP):
        return stored.client_for(history, order_of(stored))
    return stored.client_without_previous()
