"""The numbered list of authorisation rules, judged against a state of the room.

Rules of this file: the order is the specification's (rooms/v1 to v12, "Authorisation rules"); the
sentence stands above its line, with the room versions that it holds for unless it holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.protocol.auth_rules.membership import check_membership, membership_of
from homeserver.protocol.auth_rules.power_level_changes import check_power_levels
from homeserver.protocol.auth_rules.selection import CREATE, POWER_LEVELS
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.identifiers import is_user_id, server_name_of
from homeserver.protocol.power_levels import PowerLevels, power_levels_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion


def check_event(rules: RoomVersion, event: Event, state: Mapping[StateKey, Event]) -> None:
    """Raises Rejected unless the state of the room allows the event.

    `state` must hold what `auth_event_keys` names, as far as it exists, and the create event.
    """
    # 1. "If type is m.room.create"
    if event.type == "m.room.create":
        _check_create(rules, event)
        return
    create = _accepted_create(event, state)
    # 3. (v1-v11) 4. (v12) "If the content of the m.room.create event in the room state has the
    # property m.federate set to false, and the sender domain of the event does not match the sender
    # domain of the create event, reject."
    if create.content.get("m.federate") is False and event.server_name != create.server_name:
        raise Rejected("the room is not federated, and the sender is of another server")
    # 4. (v1-v5) "If type is m.room.aliases"
    if event.type == "m.room.aliases" and rules.aliases_rule:
        _check_aliases(event)
        return
    power = power_levels_of(rules, create, state.get(POWER_LEVELS))
    # 5. "If type is m.room.member"
    if event.type == "m.room.member":
        check_membership(rules, event, state, power)
        return
    # 6. "If the sender's current membership state is not join, reject."
    if membership_of(state, event.sender) != "join":
        raise Rejected("the sender is not joined to the room")
    _check_power(rules, event, state, power)


def _check_create(rules: RoomVersion, event: Event) -> None:
    """Rule 1."""
    # "If it has any prev_events, reject."
    if event.prev_events:
        raise Rejected("m.room.create has prev_events")
    if rules.room_id_is_create_event_id:
        # (v12) "If the event has a room_id, reject."
        if "room_id" in event.pdu:
            raise Rejected("m.room.create has a room_id")
    # "If the domain of the room_id does not match the domain of the sender, reject."
    elif server_name_of(event.room_id) != event.server_name:
        raise Rejected("the domains of m.room.create's room_id and sender differ")
    # "If content.room_version is present and is not a recognised version, reject."
    version = event.content.get("room_version", rules.identifier)
    if not isinstance(version, str) or version not in ROOM_VERSIONS:
        raise Rejected("m.room.create has an unknown room_version")
    # (v1-v10) "If content has no creator property, reject."
    if not rules.implicit_creator and "creator" not in event.content:
        raise Rejected("m.room.create has no creator")
    # (v12) "If additional_creators is present in content and is not an array of strings where each
    # string passes the same user ID validation applied to sender, reject."
    if rules.privileged_creators and "additional_creators" in event.content:
        additional = event.content["additional_creators"]
        if not isinstance(additional, list) or not all(map(is_user_id, additional)):
            raise Rejected("additional_creators is not an array of user ids")


def _accepted_create(event: Event, state: Mapping[StateKey, Event]) -> Event:
    """Rule 2.4 (v1-v11: "no m.room.create event among the entries") and rule 2 of version 12."""
    create = state.get(CREATE)
    if create is None:
        raise Rejected("there is no m.room.create")
    # (v12) "If the event's room_id is not an event ID for an accepted (not rejected) m.room.create
    # event, with the sigil ! instead of $, reject."
    if create.rejected or create.room_id != event.room_id:
        raise Rejected("the room_id is not that of an accepted m.room.create")
    return create


def _check_aliases(event: Event) -> None:
    """Rule 4 of versions 1 to 5."""
    # "If event has no state_key, reject."
    if event.state_key is None:
        raise Rejected("m.room.aliases has no state_key")
    # "If sender's domain doesn't match state_key, reject."
    if event.state_key != event.server_name:
        raise Rejected("the sender's domain doesn't match the state_key of m.room.aliases")


def _check_power(
    rules: RoomVersion, event: Event, state: Mapping[StateKey, Event], power: PowerLevels
) -> None:
    """Rules 7 to 12, for events of joined members."""
    sender_power = power.user(event.sender)
    # 7. "If type is m.room.third_party_invite: Allow if and only if sender's current power level is
    # greater than or equal to the invite level."
    if event.type == "m.room.third_party_invite":
        if sender_power < power.invite:
            raise Rejected("the sender's power level is less than the invite level")
        return
    # 8. "If the event type's required power level is greater than the sender's power level,
    # reject."
    if power.event(event.type, event.is_state) > sender_power:
        raise Rejected(f"the sender's power level is less than {event.type} requires")
    # 9. "If the event has a state_key that starts with an @ and does not match the sender, reject."
    state_key = event.state_key
    if state_key is not None and state_key.startswith("@") and state_key != event.sender:
        raise Rejected("the state_key is the user id of somebody else")
    # 10. "If type is m.room.power_levels"
    if event.type == "m.room.power_levels":
        check_power_levels(rules, event, state, sender_power)
    # 11. (v1, v2) "If type is m.room.redaction"
    elif event.type == "m.room.redaction" and rules.redaction_rule:
        _check_redaction(event, sender_power, power)


def _check_redaction(event: Event, sender_power: int, power: PowerLevels) -> None:
    """Rule 11 of versions 1 and 2."""
    # "If the sender's power level is greater than or equal to the redact level, allow."
    if sender_power >= power.redact:
        return
    # "If the domain of the event_id of the event being redacted is the same as the domain of the
    # event_id of the m.room.redaction, allow."
    if event.redacts and server_name_of(event.redacts) == server_name_of(event.event_id):
        return
    raise Rejected("the sender's power level is less than the redact level")
