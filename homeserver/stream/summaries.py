"""Rooms as the directory, space hierarchies and room summaries describe them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.store.listings import Listing
from homeserver.stream.live_users import LiveUser


def published_room(listing: Listing) -> JsonObject:
    """A PublishedRoomsChunk (client-server-api#get_matrixclientv3publicrooms)."""
    facts = listing.facts
    told = {
        "room_id": listing.room_id,
        "num_joined_members": listing.joined_members,
        "world_readable": facts.history_visibility == "world_readable",
        "guest_can_join": facts.guest_access == "can_join",
        # "The default join rule is `invite`" for a room without the event.
        "join_rule": facts.join_rule or "invite",
        "name": facts.name,
        "topic": facts.topic,
        "canonical_alias": _starting_with("#", facts.canonical_alias),
        "avatar_url": _starting_with("mxc://", facts.avatar_url),
        "room_type": facts.room_type,
    }
    return {key: value for key, value in told.items() if value is not None}


def room_summary(listing: Listing) -> JsonObject:
    """A RoomSummary (client-server-api#get_matrixclientv1room_summaryroomidoralias)."""
    facts = listing.facts
    told = published_room(listing) | {"room_version": listing.version}
    if facts.encryption is not None:
        told["encryption"] = facts.encryption
    if facts.allowed_rooms is not None:
        told["allowed_room_ids"] = facts.allowed_room_ids
    return told


def _starting_with(start: str, text: str | None) -> str | None:
    """Rooms may hold anything in these fields; clients are told only what is of the right kind."""
    return text if text is not None and text.startswith(start) else None


class Visitor(Struct, frozen=True):
    """Who looks at rooms from outside: the memberships of a user, none of somebody unknown."""

    memberships: Mapping[str, str]

    def may_preview(self, listing: Listing) -> bool:
        """Whether they may learn what a summary tells of a room.

        client-server-api#get_matrixclientv1roomsroomidhierarchy has the list of conditions.
        """
        facts = listing.facts
        membership = self.memberships.get(listing.room_id, "leave")
        if membership in ("join", "invite") or facts.history_visibility == "world_readable":
            return True
        if membership == "ban":
            return False
        rules = ROOM_VERSIONS[listing.version]
        if facts.join_rule == "public" or (facts.join_rule == "knock" and rules.knocking):
            return True
        if facts.join_rule == "knock_restricted" and rules.knock_restricted:
            return True
        if facts.join_rule == "restricted" and rules.restricted_joins:
            return any(self.memberships.get(r) == "join" for r in facts.allowed_room_ids)
        return False

    def may_see(self, summary: JsonObject) -> bool:
        """The same by what another server says of a room that this server isn't in.

        That server can't know which of our users asks; it tells what any of them may be told.
        """
        membership = self.memberships.get(summary["room_id"], "leave")
        if membership in ("join", "invite") or summary.get("world_readable") is True:
            return True
        # "When not present, the room is assumed to be `public`."
        join_rule = summary.get("join_rule", "public")
        if join_rule == "restricted":
            allowed = summary.get("allowed_room_ids")
            rooms = [r for r in allowed if isinstance(r, str)] if isinstance(allowed, list) else []
            return any(self.memberships.get(room_id) == "join" for room_id in rooms)
        return membership != "ban" and join_rule in ("public", "knock", "knock_restricted")


NOBODY = Visitor({})


def visitor(user: LiveUser) -> Visitor:
    """A local user as one who looks at rooms."""
    return Visitor({room_id: row.membership for room_id, row in user.rooms.items()})
