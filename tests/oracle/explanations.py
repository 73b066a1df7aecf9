"""Where Synapse's verdict is another one, and the specification is on our side."""

from __future__ import annotations

from tests.support.random_room import Attempt
from tests.support.room import Room


def explanation(room: Room, attempt: Attempt, theirs: str | None) -> str | None:
    """The explanation of a difference between our verdict and Synapse's (None: it allows)."""
    event = attempt.event
    # Rule 11 of rooms/v1: "2. If the domain of the event_id of the event being redacted
    # is the same as [...], allow. 3. Otherwise, reject."
    nothing_redacted = event.type == "m.room.redaction" and event.redacts is None
    if room.rules.redaction_rule and nothing_redacted and theirs is None:
        return "a redaction without `redacts` (v1, v2) is refused by rule 11.3, Synapse allows it"
    return None
