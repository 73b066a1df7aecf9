"""The one error of the pure core: an event breaks a rule of its room version."""

from __future__ import annotations


class Rejected(Exception):
    """`reason` is the text of the rule that is broken."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLarge(Rejected):
    """The event or one of its fields exceeds a size limit (client-server-api#size-limits)."""
