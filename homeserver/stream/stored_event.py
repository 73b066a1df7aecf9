"""An event in memory as the server serves it: its row, parsed when asked, encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import encode_pdu
from homeserver.protocol.client_events import (
    age,
    client_json,
    federation_json,
    pruned_client_json,
    redacted_client_json,
    replaced_state,
    with_unsigned,
)
from homeserver.protocol.events import Event, stored_event
from homeserver.protocol.history_visibility import VisibleHistory
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import RoomVersion
from homeserver.store.events import EventRow, Flag

_encode_json = msgspec.json.encode


class StoredEvent:
    """One event of ours. Equal only to itself; shared by all who serve it.

    `redaction` is the event that redacted it. `device_id` and `transaction_id` are those with which
    a local device sent it (`stream/transactions`). `has_children`: whether other events relate to
    it in a way that is bundled, None if that isn't known. What it replaced in the room's state is
    kept as bytes: a link would keep the whole history of that state alive.
    """

    __slots__ = (
        "_client",
        "_event",
        "_replaced",
        "device_id",
        "event_id",
        "flags",
        "has_children",
        "json",
        "number",
        "order",
        "origin_server_ts",
        "push",
        "redacted_by",
        "redaction",
        "replaces",
        "replaces_id",
        "rules",
        "sender",
        "state_group",
        "state_key",
        "thread_root",
        "transaction_id",
        "type",
    )

    def __init__(self, row: EventRow, rules: RoomVersion, event: Event | None = None) -> None:
        self.number = row.number
        self.order = row.timeline_order
        self.event_id = row.event_id
        self.type = row.type
        self.state_key = row.state_key
        self.sender = row.sender
        self.origin_server_ts = row.origin_server_ts
        self.state_group = row.state_group
        self.replaces = row.replaces
        self.flags = row.flags
        self.redacted_by = row.redacted_by
        self.json = row.json
        self.thread_root = row.thread_root
        self.push = row.push
        self.device_id = row.device_id
        self.transaction_id = row.transaction_id
        self.rules = rules
        self.redaction: StoredEvent | None = None
        self.has_children: bool | None = None
        self._event = event
        self._client: bytes | None = None
        self._replaced = b""
        self.replaces_id: str | None = None

    @property
    def event(self) -> Event:
        """The parsed event, as it was signed (not redacted)."""
        if self._event is None:
            self._event = stored_event(
                self.json, self.event_id, self.rules, rejected=bool(self.flags & Flag.REJECTED)
            )
        return self._event

    @property
    def content(self) -> JsonObject:
        """The content that may still be shown: pruned if the event was redacted."""
        if self.redacted_by is None:
            return self.event.content
        content: JsonObject = redact(self.event.pdu, self.rules)["content"]
        return content

    @property
    def client(self) -> bytes:
        """The client form without `room_id`, and without what only one recipient may see."""
        if self._client is None:
            self._client = self._encode(self._replaced)
        return self._client

    def transaction_of(self, user_id: str, device_id: str | None) -> str | None:
        """The transaction id with which a device sent it; None if it didn't."""
        own = device_id is not None and device_id == self.device_id and user_id == self.sender
        return self.transaction_id if own else None

    def client_at(self, now: int) -> bytes:
        """The client form with its age; `now` in milliseconds."""
        return with_unsigned(self.client, age(max(0, now - self.origin_server_ts)))

    def client_without_previous(self) -> bytes:
        """The client form for those who may not see the content of what this event replaced."""
        only_id = replaced_state(self.replaces_id, None) if self.replaces_id else b""
        return self._encode(only_id)

    def client_for(self, history: VisibleHistory | None, order: int) -> bytes:
        """The client form for a reader: pruned if its sender was erased before they came.

        State is shown as it is: without it the room would not be what it is.
        """
        if self.redaction is not None or not self._is_erased(history, order):
            return self.client
        return pruned_client_json(self.json, self.event_id, self.rules)

    def federation_for(self, history: VisibleHistory | None, order: int) -> bytes:
        """The PDU with its id and an `unsigned`, for a filter that asks for that format."""
        pdu = self.json
        if self.redacted_by is not None or self._is_erased(history, order):
            pdu = encode_pdu(redact(self.event.pdu, self.rules), self.rules)
        return federation_json(pdu, self.event_id, self.rules)

    def _is_erased(self, history: VisibleHistory | None, order: int) -> bool:
        hidden = history is not None and history.is_erased(self.sender, order)
        return hidden and self.state_key is None

    def replace(self, replaced: StoredEvent) -> None:
        """Say which state event this one replaced (again, if that one was redacted meanwhile)."""
        self.replaces_id = replaced.event_id
        self._replaced = replaced_state(replaced.event_id, _encode_json(replaced.content))
        self._client = None

    def redact_with(self, redaction: StoredEvent) -> None:
        """From now on serve this event pruned. The first redaction stays."""
        if self.redaction is None:
            self.redacted_by = redaction.number
            self.redaction = redaction
            self._client = None

    def _encode(self, replaced: bytes) -> bytes:
        if self.redacted_by is None:
            return client_json(self.json, self.event_id, self.rules, replaced)
        if self.redaction is None:
            return pruned_client_json(self.json, self.event_id, self.rules)
        because = self.redaction._as_reason()
        return redacted_client_json(self.json, self.event_id, self.rules, because, replaced)

    def _as_reason(self) -> bytes:
        """The client form of a redaction within what it redacted: without why it was redacted
        itself. Redactions of redactions may be many, or (in versions 1 and 2) go in circles.
        """
        if self.redacted_by is None:
            return client_json(self.json, self.event_id, self.rules)
        return pruned_client_json(self.json, self.event_id, self.rules)


def unplaced_row(
    event: Event, room_number: int, number: int, auth: Sequence[int], flags: int
) -> EventRow:
    """The row of an event without a place in the timeline and without a state."""
    return EventRow(
        number=number,
        room_number=room_number,
        timeline_order=None,
        event_id=event.event_id,
        type=event.type,
        state_key=event.state_key,
        sender=event.sender,
        origin_server_ts=event.origin_server_ts,
        state_group=None,
        replaces=None,
        auth_events=tuple(auth),
        flags=flags,
        redacted_by=None,
        json=event.json,
    )
