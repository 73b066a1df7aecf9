"""What somebody who is not in a room is told of it: with an invite, a knock, in a summary.

client-server-api#stripped-state
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from homeserver.protocol.events import Event
from homeserver.store.state import StateKey

STRIPPED_KEYS: tuple[StateKey, ...] = tuple(
    (event_type, "")
    for event_type in (
        "m.room.create",
        "m.room.name",
        "m.room.avatar",
        "m.room.topic",
        "m.room.join_rules",
        "m.room.canonical_alias",
        "m.room.encryption",
    )
)


def stripped_state(events: Iterable[Event]) -> bytes:
    """These state events as a JSON array of stripped state events."""
    return msgspec.json.encode(
        [
            {
                "type": event.type,
                "state_key": event.state_key,
                "sender": event.sender,
                "content": event.content,
            }
            for event in events
        ]
    )


def stripped_from_pdus(pdus: Iterable[Any]) -> bytes:
    """Stripped state of what another server sent, PDUs or (by older servers) stripped events.

    Whatever is no state event is left out.
    """
    return msgspec.json.encode(
        [
            {name: pdu[name] for name in ("type", "state_key", "sender", "content")}
            for pdu in pdus
            if isinstance(pdu, dict)
            and all(isinstance(pdu.get(name), str) for name in ("type", "state_key", "sender"))
            and isinstance(pdu.get("content"), dict)
        ]
    )
