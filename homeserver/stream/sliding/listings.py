"""The rooms of each user in the order of lists, kept from request to request.

Rules of this file: a listing is brought up to date with the rooms that changed since, not made
anew; it is thrown away when the user's memberships change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec import Struct

from homeserver.protocol.spaces import CHILD, is_child
from homeserver.stream.changes import Change
from homeserver.stream.facts import ListedRooms
from homeserver.stream.invite_permission import Wanted
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sliding.lists import Candidate, by_bump, candidate, candidates


class Listing(Struct):
    """A user's rooms, the most recently active first, as of a stream position."""

    position: int
    last_membership: int
    rooms: list[Candidate]
    by_id: dict[str, Candidate]
    wanted: Wanted


class Listings:
    """The listings of at most `capacity` users."""

    def __init__(self, rooms: LiveRooms, listed: ListedRooms, *, capacity: int) -> None:
        self.rooms = rooms
        self._listed = listed
        self._capacity = capacity
        self._listings: OrderedDict[str, Listing] = OrderedDict()

    async def of(self, user: LiveUser, wanted: Wanted, position: int) -> Listing:
        """The user's rooms as of a position that was visible before the call."""
        listing = self._listings.get(user.user_id)
        if (
            listing is None
            or listing.last_membership != user.last_membership
            or listing.wanted != wanted
            or listing.position < self.rooms.changed_floor
        ):
            return await self._make(user, wanted, position)
        self._listings.move_to_end(user.user_id)
        await self._follow(listing, user, position)
        return listing

    async def _make(self, user: LiveUser, wanted: Wanted, position: int) -> Listing:
        last_membership = user.last_membership
        numbers = [row.room_number for row in user.rooms.values() if row.membership == "join"]
        rooms = candidates(user, await self._listed.get_many(numbers), wanted)
        by_id = {room.room_id: room for room in rooms}
        listing = Listing(position, last_membership, rooms, by_id, wanted)
        self._listings[user.user_id] = listing
        if len(self._listings) > self._capacity:
            self._listings.popitem(last=False)
        return listing

    async def _follow(self, listing: Listing, user: LiveUser, position: int) -> None:
        changed = [r for r, _ in self.rooms.changed_since(listing.position) if r in listing.by_id]
        if changed:
            rows = [user.rooms[room_id] for room_id in changed]
            facts = await self._listed.get_many([row.room_number for row in rows])
            for room_id, row in zip(changed, rows, strict=True):
                listing.by_id[room_id] = candidate(room_id, row, facts.get(row.room_number))
            listing.rooms = sorted(listing.by_id.values(), key=by_bump, reverse=True)
        listing.position = position

    async def children(self, user: LiveUser, spaces: Iterable[str]) -> dict[str, frozenset[str]]:
        """The rooms in those of these spaces that the user is in."""
        joined = user.joined_rooms()
        live = await self.rooms.get_many([space for space in spaces if space in joined])
        children = {
            room_id: [event_id for key, event_id in room.state.items() if key[0] == CHILD]
            for room_id, room in live.items()
        }
        events = await self.rooms.get_events(chain.from_iterable(children.values()))
        return {
            space: frozenset(
                event.state_key
                for event_id in ids
                if (event := events.get(event_id)) is not None
                and event.state_key is not None
                and is_child(event.content)
            )
            for space, ids in children.items()
        }

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed: what is in memory is read again (called by the writer)."""
        self._listings.clear()
