"""The auth events selection, and the rule "considering the event's `auth_events`".

server-server-api#auth-events-selection
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.identifiers import fits
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")


def auth_event_keys(
    rules: RoomVersion, event_type: str, sender: str, state_key: str | None, content: JsonObject
) -> list[StateKey]:
    """The keys of the state events that an event refers to, those of them that exist."""
    # "The auth_events for the m.room.create event in a room is empty"
    if event_type == "m.room.create":
        return []
    # "The current m.room.power_levels event, if any. The sender's current m.room.member event"
    keys = [POWER_LEVELS, ("m.room.member", sender)]
    # "Depending on the room version, the m.room.create event."
    if not rules.room_id_is_create_event_id:
        keys.insert(0, CREATE)
    if event_type == "m.room.member" and state_key is not None:
        keys.extend(key for key in _member_keys(rules, state_key, content) if key not in keys)
    return keys


def _member_keys(rules: RoomVersion, state_key: str, content: JsonObject) -> list[StateKey]:
    membership = content.get("membership")
    # "The target's current m.room.member event, if any."
    keys = [("m.room.member", state_key)]
    # "If membership is join, invite or knock, the current m.room.join_rules event, if any."
    if membership in ("join", "invite", "knock"):
        keys.append(JOIN_RULES)
    # "If membership is invite and content contains a third_party_invite property, the current
    # m.room.third_party_invite event with state_key matching
    # content.third_party_invite.signed.token"
    if membership == "invite":
        token = third_party_token(content)
        if token is not None:
            keys.append(("m.room.third_party_invite", token))
    # "If membership is join, content.join_authorised_via_users_server is present, and the room
    # version supports restricted rooms, then the m.room.member event with state_key matching it"
    authoriser = content.get("join_authorised_via_users_server")
    if membership == "join" and rules.restricted_joins and isinstance(authoriser, str):
        keys.append(("m.room.member", authoriser))
    return keys


def third_party_token(content: JsonObject) -> str | None:
    """`third_party_invite.signed.token`, if it is there."""
    value: Any = content
    for name in ("third_party_invite", "signed", "token"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def check_auth_events(rules: RoomVersion, event: Event, auth_events: Sequence[Event]) -> None:
    """Raises Rejected unless an event refers to auth events that it may refer to.

    `auth_events` are the events of `event.auth_events`. In room version 12 the create event, which
    the room id stands for, is not among them; `check_event` looks at it.
    """
    # "`state_key` MUST NOT exceed 255 bytes. `type` MUST NOT exceed 255 bytes."
    if not fits(event.type) or not fits(event.state_key or ""):
        raise Rejected("the type or the state key is longer than 255 bytes")
    if event.type == "m.room.create":
        return
    expected = set(auth_event_keys(rules, event.type, event.sender, event.state_key, event.content))
    seen: set[StateKey | None] = set()
    for auth_event in auth_events:
        key = auth_event.key if auth_event.is_state else None
        # "If there are duplicate entries for a given type and state_key pair, reject."
        if key in seen:
            raise Rejected(f"auth_events holds more than one {auth_event.type}")
        seen.add(key)
        # "If there are entries whose type and state_key don't match those specified by the auth
        # events selection algorithm described in the server specification, reject."
        if key not in expected:
            raise Rejected(f"auth_events holds a {auth_event.type} that isn't to be selected")
        # "If there are entries which were themselves rejected under the checks performed on
        # receipt of a PDU, reject."
        if auth_event.rejected:
            raise Rejected("auth_events holds a rejected event")
        # "If any event in auth_events has a room_id which does not match that of the event being
        # authorised, reject."
        if auth_event.room_id != event.room_id:
            raise Rejected("auth_events holds an event of another room")
    # "If there is no m.room.create event among the entries, reject." (until version 11)
    if CREATE in expected and CREATE not in seen:
        raise Rejected("auth_events holds no m.room.create")
