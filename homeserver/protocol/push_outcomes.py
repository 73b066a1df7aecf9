"""What an event does for the members of its room, as small as it is kept with the event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from homeserver.protocol.push_evaluation import Outcome, RoomOutcome

MAIN: Final = "main"
"""The name of the main timeline where threads are named."""


NOTIFY: Final = 1
HIGHLIGHT: Final = 2
BITS: Final = 3


class PushOutcomes(Struct, frozen=True):
    """Outcomes as the bits NOTIFY and HIGHLIGHT.

    `default` for who is on the default push rules, `sets` for the rule sets (by number) that say
    otherwise, `personal` for the local members for whom it differs from what their set says.
    """

    default: int = 0
    sets: Mapping[int, int] = field(default_factory=dict)
    personal: Mapping[str, int] = field(default_factory=dict)

    def of(self, user_id: str, set_number: int) -> int:
        """The outcome for a member who is on a set."""
        if self.personal and user_id in self.personal:
            return self.personal[user_id]
        return self.sets.get(set_number, self.default) if self.sets else self.default

    @property
    def stored_sets(self) -> list[int]:
        """Each set's number, whose lowest two bits are free, with its outcome in them."""
        return [number | outcome for number, outcome in self.sets.items()]

    @property
    def stored_personal(self) -> list[str]:
        """Each user id behind its outcome, a digit."""
        return [f"{outcome}{user_id}" for user_id, outcome in self.personal.items()]


_SIMPLE = tuple(PushOutcomes(bits) for bits in range(4))
NO_PUSH: Final = _SIMPLE[0]


def push_outcomes(
    default: int, sets: Iterable[int] | None, personal: Iterable[str] | None
) -> PushOutcomes:
    """The outcomes from their stored forms. Those without differences are shared objects."""
    if not sets and not personal:
        return _SIMPLE[default & BITS]
    return PushOutcomes(
        default & BITS,
        {number & ~BITS: number & BITS for number in sets or ()},
        {entry[1:]: int(entry[0]) for entry in personal or ()},
    )


def outcomes_of_room(outcome: RoomOutcome, sender: str) -> PushOutcomes:
    """What is kept of an evaluation; the sender is never notified anyway."""
    default = outcome_bits(outcome.default)
    sets = {rules.number: outcome_bits(found) for rules, found in outcome.sets.items()}
    personal = {u: outcome_bits(o) for u, o in outcome.personal.items() if u != sender}
    sets = {number: bits for number, bits in sets.items() if bits != default}
    if not sets and not personal:
        return _SIMPLE[default]
    return PushOutcomes(default, sets, personal)


def outcome_bits(outcome: Outcome) -> int:
    if not outcome.notify:
        return 0
    return NOTIFY | HIGHLIGHT if outcome.highlight else NOTIFY
