"""`summary` of a joined room: how many are in it, and whom a nameless room is called after."""

from __future__ import annotations

from homeserver.json_types import JsonObject
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.sync_request import encode

HERO_LIMIT = 5


def summary(room: LiveRoom, user_id: str) -> bytes:
    """client-server-api#get_matrixclientv3sync_response-200_roomsummary"""
    content: JsonObject = {
        "m.joined_member_count": room.joined_count,
        "m.invited_member_count": room.invited_count,
    }
    named = ("m.room.name", "") in room.state or ("m.room.canonical_alias", "") in room.state
    if not named:
        content["m.heroes"] = heroes(room, user_id)
    return encode(content)


def heroes(room: LiveRoom, user_id: str) -> list[str]:
    """The first five others who are joined or invited, else the first five who left."""
    present: list[str] = []
    gone: list[str] = []
    for row in room.members.values():
        if row.user_id == user_id:
            continue
        if row.membership in ("join", "invite"):
            present.append(row.user_id)
            if len(present) == HERO_LIMIT:
                return present
        elif row.membership in ("leave", "ban") and len(gone) < HERO_LIMIT:
            gone.append(row.user_id)
    return present or gone
