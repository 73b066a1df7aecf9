"""Which state events a sliding sync client requires of a room (MSC4186).

An entry is `[type, state_key]`; `*` stands for any, `$ME` for the user, `$LAZY` (of member events)
for those who speak in the timeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from homeserver.protocol.event_types import MEMBER
from homeserver.store.state import StateKey

ANY = "*"
ME = "$ME"
LAZY = "$LAZY"

Required = frozenset[tuple[str, str]]


class StateWish:
    """A required state, made ready for questions."""

    __slots__ = ("_everything", "_of_type", "_types_of_key", "exact", "lazy", "wildcards")

    def __init__(self, required: Required, user_id: str) -> None:
        self.lazy = (MEMBER, LAZY) in required
        entries = {
            (event_type, user_id if key == ME else key)
            for event_type, key in required
            if (event_type, key) != (MEMBER, LAZY)
        }
        self._everything = (ANY, ANY) in entries
        self._of_type = {event_type for event_type, key in entries if key == ANY}
        self._types_of_key = {key for event_type, key in entries if event_type == ANY}
        self.exact = {e for e in entries if ANY not in e}
        self.wildcards = self._everything or bool(self._of_type) or bool(self._types_of_key)

    def wants(self, key: StateKey) -> bool:
        """Whether this state event is asked for (members by `$LAZY` aside)."""
        return (
            key in self.exact
            or self._everything
            or key[0] in self._of_type
            or key[1] in self._types_of_key
        )

    def pick(self, state: Mapping[StateKey, str]) -> dict[StateKey, str]:
        """The wanted part of a state; looks at all of it only for wildcards."""
        if self.wildcards:
            return {key: event_id for key, event_id in state.items() if self.wants(key)}
        found = ((key, state.get(key)) for key in self.exact)
        return {key: event_id for key, event_id in found if event_id is not None}


def members_of(state: Mapping[StateKey, str], user_ids: Iterable[str]) -> dict[StateKey, str]:
    """The member events of these users."""
    found = (((MEMBER, user_id), state.get((MEMBER, user_id))) for user_id in user_ids)
    return {key: event_id for key, event_id in found if event_id is not None}
