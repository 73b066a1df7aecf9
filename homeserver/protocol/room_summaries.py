"""What another server says of rooms, reduced to what clients can read.

client-server-api#get_matrixclientv1room_summaryroomidoralias,
client-server-api#get_matrixclientv3publicrooms
"""

from __future__ import annotations

from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_room_id

TEXTS = (
    *("name", "topic", "avatar_url", "canonical_alias", "join_rule", "room_type"),
    *("encryption", "room_version"),
)
FLAGS = ("world_readable", "guest_can_join")
"""Required, as is `num_joined_members`."""


def readable_summary(room: Any) -> JsonObject | None:
    """The fields of a summary (of a published room) that have the right type; None: it is none.

    A client may give up on a whole list for one value that it can't read.
    """
    if not isinstance(room, dict) or not is_room_id(room.get("room_id")):
        return None
    count = room.get("num_joined_members")
    found: JsonObject = {
        "room_id": room["room_id"],
        "num_joined_members": count if type(count) is int and count >= 0 else 0,
        **{name: room.get(name) is True for name in FLAGS},
    }
    found.update((name, room[name]) for name in TEXTS if isinstance(room.get(name), str))
    allowed = room.get("allowed_room_ids")
    if isinstance(allowed, list):
        found["allowed_room_ids"] = [room_id for room_id in allowed if is_room_id(room_id)]
    return found


def readable_directory(answer: JsonObject) -> JsonObject:
    """A page of another server's directory."""
    listed = answer.get("chunk")
    rooms = map(readable_summary, listed if isinstance(listed, list) else [])
    found: JsonObject = {"chunk": [room for room in rooms if room is not None]}
    for name in ("next_batch", "prev_batch"):
        if isinstance(answer.get(name), str):
            found[name] = answer[name]
    if type(answer.get("total_room_count_estimate")) is int:
        found["total_room_count_estimate"] = answer["total_room_count_estimate"]
    return found
