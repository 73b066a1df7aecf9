"""Events that are part of a room like any other, and that no client is told of.

They have no place in the timeline (`Flag.HIDDEN`); other servers get them.
"""

from __future__ import annotations

from typing import Final

from homeserver.protocol.event_types import REDACTION
from homeserver.protocol.events import Event
from homeserver.stream.redactions import Effect

DUMMY: Final = "org.matrix.dummy_event"
"""Ties forward extremities together (the name is Synapse's, which sends them too)."""


def is_hidden(event: Event, effect: Effect | None) -> bool:
    """Whether no client is told of an accepted event; `effect` is what a redaction does."""
    if event.is_state:
        return False
    # "they should not be sent to clients until both the redaction event and the event the
    # redaction affects have been received, and can be validated" (rooms/v3)
    if event.type == REDACTION:
        hits_nothing = effect is None or effect.target is None
        return hits_nothing and event.redacts != event.event_id  # which waits for nothing
    return event.type == DUMMY
