"""Whether a redaction takes effect (rooms/v3#handling-redactions)."""

from __future__ import annotations

from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import PowerLevels


def may_redact(redaction: Event, target: Event, power: PowerLevels) -> bool:
    """Whether an accepted `m.room.redaction` is to be applied to the event that it names.

    `power` are the power levels in the state that the redaction was judged by.
    """
    if redaction.redacts != target.event_id or redaction.room_id != target.room_id:
        return False
    # (v1, v2) the auth rules have decided already.
    if redaction.rules.redaction_rule:
        return True
    # "1. The power level of the redaction event's sender is greater than or equal to the redact
    # level. 2. The domain of the redaction event's sender matches that of the original event's
    # sender."
    return (
        power.user(redaction.sender) >= power.redact or redaction.server_name == target.server_name
    )
