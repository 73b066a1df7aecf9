"""The authorisation rules of every room version.

`selection`: which state an event refers to in `auth_events`, and whether it refers to the right
one. `rules`: the numbered list that judges an event against a state; its longer chapters are
`membership`, `third_party_invites` and `power_level_changes`. `redactions`: whether a redaction
takes effect. All of them raise `Rejected` with the rule that is broken, and nothing else, whatever
an event holds.
"""

from homeserver.protocol.auth_rules.redactions import may_redact
from homeserver.protocol.auth_rules.rules import check_event
from homeserver.protocol.auth_rules.selection import auth_event_keys, check_auth_events
from homeserver.protocol.events import StateKey

__all__ = ["StateKey", "auth_event_keys", "check_auth_events", "check_event", "may_redact"]
