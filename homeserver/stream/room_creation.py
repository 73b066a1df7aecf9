"""From a `createRoom` request to the events of the new room.

client-server-api#post_matrixclientv3createroom
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import msgspec

from homeserver.errors import BadJson, InvalidParam, InvalidRoomState, UnsupportedRoomVersion
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.stream.drafts import Draft
from homeserver.stream.memberships import member_content

Preset = Literal["private_chat", "public_chat", "trusted_private_chat"]

CREATOR_LEVEL = 100
TOMBSTONE_LEVEL = 150
JOIN_RULES: dict[str, str] = {
    "private_chat": "invite",
    "trusted_private_chat": "invite",
    "public_chat": "public",
}
GUEST_ACCESS: dict[str, JsonObject] = {
    "private_chat": {"guest_access": "can_join"},
    "trusted_private_chat": {"guest_access": "can_join"},
    # "forbidden", which is what a room without the event has. Servers leave it out.
    "public_chat": {},
}


class StateEvent(msgspec.Struct):
    type: str
    content: JsonObject
    state_key: str = ""


class CreateRoom(msgspec.Struct):
    """The request body. Fields that the specification doesn't name are ignored."""

    visibility: Literal["public", "private"] = "private"
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] = []
    invite_3pid: list[JsonObject] = []
    room_version: str | None = None
    creation_content: JsonObject = {}
    initial_state: list[StateEvent] = []
    preset: Preset | None = None
    is_direct: bool = False
    power_level_content_override: JsonObject = {}

    @property
    def effective_preset(self) -> Preset:
        # "A visibility of `public` equates to a preset of `public_chat`"
        if self.preset is not None:
            return self.preset
        return "public_chat" if self.visibility == "public" else "private_chat"


def room_version(request: CreateRoom, default: str) -> str:
    """The version of the new room. Raises UnsupportedRoomVersion."""
    version = default if request.room_version is None else request.room_version
    if version not in ROOM_VERSIONS:
        raise UnsupportedRoomVersion(f"This server doesn't know room version {version!r}")
    return version


def room_drafts(
    request: CreateRoom,
    version: str,
    creator: str,
    profile: JsonObject,
    canonical_alias: str | None,
) -> list[Draft]:
    """The events of the new room in the order that the specification gives, invites left out.

    Raises InvalidParam, BadJson, InvalidRoomState.
    """
    rules = ROOM_VERSIONS[version]
    _check_invites(request)
    created = _create_content(request, rules, creator)
    levels = _power_levels(request, rules, creator)
    if rules.privileged_creators and request.room_version is None:
        _leave_out_creators(levels, {creator, *created.get("additional_creators", [])})
    drafts = [
        _state(creator, "m.room.create", created),
        _state(creator, "m.room.member", member_content("join", profile), creator),
        _state(creator, "m.room.power_levels", levels),
    ]
    if canonical_alias is not None:
        drafts.append(_state(creator, "m.room.canonical_alias", {"alias": canonical_alias}))
    drafts.extend(_preset_state(request, creator))
    named = [("m.room.name", request.name), ("m.room.topic", request.topic)]
    overridden = {event_type for event_type, value in named if value is not None}
    for event in request.initial_state:
        if event.type == "m.room.create":
            raise InvalidRoomState("`initial_state` can't hold an `m.room.create` event")
        if event.type not in overridden:
            drafts.append(_state(creator, event.type, event.content, event.state_key))
    if request.name is not None:
        drafts.append(_state(creator, "m.room.name", {"name": request.name}))
    if request.topic is not None:
        drafts.append(_state(creator, "m.room.topic", topic_content(request.topic)))
    return drafts


def topic_content(topic: str) -> JsonObject:
    """A topic in plain text, in its old and its extensible form (v1.15)."""
    return {
        "topic": topic,
        "m.topic": {"m.text": [{"body": topic, "mimetype": "text/plain"}]},
    }


def _state(sender: str, event_type: str, content: JsonObject, state_key: str = "") -> Draft:
    return Draft(sender=sender, type=event_type, content=content, state_key=state_key)


def _check_invites(request: CreateRoom) -> None:
    for user_id in request.invite:
        if not is_user_id(user_id):
            raise InvalidParam(f"`invite` holds {user_id!r}, which is not a user id")


def _create_content(request: CreateRoom, rules: RoomVersion, creator: str) -> JsonObject:
    # The specification: "The server will overwrite the following keys: `creator`, `room_version`."
    content = {**request.creation_content, "room_version": rules.identifier}
    content.pop("creator", None)
    if not rules.implicit_creator:
        content["creator"] = creator
    federate = content.get("m.federate", True)
    if not isinstance(federate, bool):
        raise BadJson("`creation_content.m.federate` must be true or false")
    if rules.privileged_creators:
        _add_creators(request, content)
    return content


def _add_creators(request: CreateRoom, content: JsonObject) -> None:
    additional = content.get("additional_creators", [])
    if not isinstance(additional, list) or not all(is_user_id(user_id) for user_id in additional):
        raise InvalidParam("`creation_content.additional_creators` must be a list of user ids")
    if request.effective_preset == "trusted_private_chat":
        # The server SHOULD "combine `additional_creators` [...] and the `invite` array [...]".
        additional = list(dict.fromkeys([*additional, *request.invite]))
    if additional:
        content["additional_creators"] = additional


def _power_levels(request: CreateRoom, rules: RoomVersion, creator: str) -> JsonObject:
    users: dict[str, Any] = {}
    if not rules.privileged_creators:
        users[creator] = CREATOR_LEVEL
        if request.effective_preset == "trusted_private_chat":
            # "All invitees are given the same power level as the room creator."
            users.update(dict.fromkeys(request.invite, CREATOR_LEVEL))
    content: JsonObject = {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50,
            "m.room.avatar": 50,
            "m.room.tombstone": TOMBSTONE_LEVEL if rules.privileged_creators else 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0 if request.effective_preset != "public_chat" else 50,
    }
    content.update(request.power_level_content_override)
    return content


def _leave_out_creators(levels: JsonObject, creators: Collection[str]) -> None:
    """Take the creators out of `users`, where they must not be since room version 12.

    A client that leaves the version to the server may be older than that, and give itself the
    power that it has anyway (matrix-bot-sdk does, for spaces). Who asks for version 12 is refused.
    """
    users = levels.get("users")
    if isinstance(users, dict):
        levels["users"] = {user: level for user, level in users.items() if user not in creators}


def _preset_state(request: CreateRoom, creator: str) -> list[Draft]:
    """What the preset brings, where `initial_state` doesn't say something else."""
    preset = request.effective_preset
    given = {(event.type, event.state_key) for event in request.initial_state}
    wanted: list[tuple[str, JsonObject]] = [
        ("m.room.join_rules", {"join_rule": JOIN_RULES[preset]}),
        ("m.room.history_visibility", {"history_visibility": "shared"}),
        ("m.room.guest_access", GUEST_ACCESS[preset]),
    ]
    return [
        _state(creator, event_type, content)
        for event_type, content in wanted
        if content and (event_type, "") not in given
    ]
