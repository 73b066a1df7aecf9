"""History visibility: which events of a room a user, or another server, may see.

Rules of this file: the rules judge one event by the state *before* it; `VisibleHistory` applies
them once to the few events of a room that decide (the `m.room.history_visibility` events and the
reader's own `m.room.member` events), so that a page of events costs a binary search each and no
query. client-server-api#room-history-visibility
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from homeserver.json_types import JsonObject

Visibility = Literal["world_readable", "shared", "invited", "joined"]

_VISIBILITIES: dict[Any, Visibility] = {
    "world_readable": "world_readable",
    "shared": "shared",
    "invited": "invited",
    "joined": "joined",
}
_BEGINNING = -(2**63)
_NOBODY: Mapping[str, int] = {}


def visibility_of(content: JsonObject | None) -> Visibility:
    """The value of an `m.room.history_visibility` content; None where the room has no such event.

    "By default if no `history_visibility` is set, or if the value is not understood, the
    visibility is assumed to be `shared`."
    """
    value = content.get("history_visibility") if content else None
    return _VISIBILITIES.get(value, "shared") if isinstance(value, str) else "shared"


def membership_of(content: JsonObject | None) -> str:
    """The value of an `m.room.member` content; `leave` where there is none."""
    value = content.get("membership") if content else None
    return value if isinstance(value, str) else "leave"


def may_see(visibility: Visibility, membership: str, joined_later: bool) -> bool:
    """The five rules, for an event before which visibility and the reader's membership were these.

    `joined_later`: did the reader join at any point after the event was sent?
    """
    # "1. If the `history_visibility` was set to `world_readable`, allow."
    # "2. If the user's `membership` was `join`, allow."
    if visibility == "world_readable" or membership == "join":
        return True
    # "3. If `history_visibility` was set to `shared`, and the user joined the room at any point
    # after the event was sent, allow."
    if visibility == "shared":
        return joined_later
    # "4. If the user's `membership` was `invite`, and the `history_visibility` was set to
    # `invited`, allow."
    # "5. Otherwise, deny."
    return visibility == "invited" and membership == "invite"


def server_may_see(visibility: Visibility, memberships: Iterable[str]) -> bool:
    """May a server that takes part in the room see an event before which its users had these
    memberships? What it may not see is sent to it redacted, so that the graph stays whole.

    A server is trusted to apply the rules to its own users; it gets what any of them could see,
    now or after joining.
    """
    if visibility in ("world_readable", "shared"):
        return True
    return any(
        value == "join" or (value == "invite" and visibility == "invited") for value in memberships
    )


class Change(Struct, frozen=True):
    """One deciding event: at `position` the visibility, or the reader's membership, became this."""

    position: int
    visibility: Visibility | None = None
    membership: str | None = None


class VisibleHistory:
    """What one reader may see of one room, by position in the room's order.

    Positions are any integers that order the room's events, the same for the changes and for the
    events that are asked about.
    """

    __slots__ = ("_erased", "_memberships", "_positions", "_starts", "_visible", "left_at")

    def __init__(
        self,
        changes: Sequence[Change],
        visibility: Visibility = "shared",
        membership: str = "leave",
        *,
        erased: Mapping[str, int] = _NOBODY,
    ) -> None:
        """`changes` in ascending order; `visibility` and `membership` are what held before them.

        `erased`: the positions from which on the events of users are shown redacted.
        """
        self._erased = erased
        joins = [change.position for change in changes if change.membership == "join"]
        last_join = joins[-1] if joins else _BEGINNING
        self._positions = [_BEGINNING]
        self._memberships = [membership]
        self._starts = [_BEGINNING]
        self._visible = [may_see(visibility, membership, bool(joins))]
        self.left_at: int | None = None
        """Where the reader last ceased to be joined; None if they never were."""
        for change in changes:
            joined_later = change.position < last_join
            before = may_see(visibility, membership, joined_later)
            if membership == "join" and change.membership not in (None, "join"):
                self.left_at = change.position
            visibility = change.visibility or visibility
            membership = change.membership or membership
            after = may_see(visibility, membership, joined_later)
            # "For `m.room.history_visibility` events themselves, the user should be allowed to see
            # the event if the `history_visibility` before *or* after the event would allow them to
            # see it. [...] Likewise, for the user's own `m.room.member` events"
            self._extend(change.position, before or after)
            self._extend(change.position + 1, after)
            self._positions.append(change.position)
            self._memberships.append(membership)

    def _extend(self, start: int, visible: bool) -> None:
        if start == self._starts[-1]:  # two deciding events side by side: the second one knows
            self._starts.pop()
            self._visible.pop()
        if not self._visible or visible != self._visible[-1]:
            self._starts.append(start)
            self._visible.append(visible)

    @property
    def sees_all(self) -> bool:
        """Nothing of the room is hidden: the common case, no event needs to be asked about."""
        return self._visible == [True]

    @property
    def sees_nothing(self) -> bool:
        return self._visible == [False]

    def allows(self, position: int) -> bool:
        """May the reader see the event at this position?"""
        return self._visible[bisect_right(self._starts, position) - 1]

    def is_erased(self, sender: str, position: int) -> bool:
        """Is the event of a user who was erased to be shown redacted?

        "[...] any users (or servers) which join the room after the erasure request are served
        redacted copies of the events sent by this account. Users which had visibility on those
        events prior to the erasure are still able to see unredacted copies."
        client-server-api#account-deactivation
        """
        since = self._erased.get(sender)
        if since is None:
            return False
        return "join" not in (self.membership_at(position), self.membership_at(since))

    def ranges(self) -> list[tuple[int, int]]:
        """The visible ranges of positions, ascending, both ends included, for use in a query."""
        ends = [*(start - 1 for start in self._starts[1:]), 2**63 - 1]
        spans = zip(self._starts, ends, self._visible, strict=True)
        return [(start, end) for start, end, visible in spans if visible]

    def membership_at(self, position: int) -> str:
        """The reader's membership at the event, for its `unsigned.membership`.

        "[...] the value of the `membership` property of the requesting user's `m.room.member`
        state at the point of the event, including any changes caused by the event. If the user
        had yet to join the room at the time of the event [...] this property is set to `leave`."
        """
        return self._memberships[bisect_right(self._positions, position) - 1]
