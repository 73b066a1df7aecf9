"""Redaction: what remains of an event whose content is gone (each room version's "Redactions").

The event id, the reference hash and the signatures of an event cover just this part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.room_versions import RoomVersion

_KEPT = (
    "event_id",
    "type",
    "room_id",
    "sender",
    "state_key",
    "content",
    "hashes",
    "signatures",
    "depth",
    "prev_events",
    "auth_events",
    "origin_server_ts",
)
_KEPT_BEFORE_V11 = ("prev_state", "origin", "membership")
_POWER_LEVELS = (
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
)

_Prune = Callable[[JsonObject], JsonObject]


def redact(pdu: JsonObject, rules: RoomVersion) -> JsonObject:
    """A pruned copy of a PDU; its event id stays the same. Anything may stand in `pdu`."""
    content = pdu.get("content")
    event_type = pdu.get("type")
    prune = _content_rules(rules).get(event_type) if isinstance(event_type, str) else None
    kept = {key: pdu[key] for key in _kept_keys(rules) if key in pdu}
    kept["content"] = prune(content) if prune and isinstance(content, dict) else {}
    return kept


def redact_content(event_type: str, content: JsonObject, rules: RoomVersion) -> JsonObject:
    """What remains of the `content` of an event of that type."""
    prune = _content_rules(rules).get(event_type)
    return prune(content) if prune else {}


@cache
def _kept_keys(rules: RoomVersion) -> frozenset[str]:
    return frozenset(_KEPT if rules.updated_redaction else _KEPT + _KEPT_BEFORE_V11)


@cache
def _content_rules(rules: RoomVersion) -> Mapping[str, _Prune]:
    """Per event type, the function that prunes its content."""
    updated = rules.updated_redaction
    kept: dict[str, _Prune] = {
        "m.room.create": dict if updated else _keep("creator"),
        "m.room.join_rules": _keep("join_rule", *["allow"] * rules.redaction_keeps_allow),
        "m.room.power_levels": _keep(*_POWER_LEVELS, *["invite"] * updated),
        "m.room.history_visibility": _keep("history_visibility"),
        "m.room.member": _member_rule(rules),
    }
    if rules.redaction_keeps_aliases:
        kept["m.room.aliases"] = _keep("aliases")
    if updated:
        kept["m.room.redaction"] = _keep("redacts")
    return kept


def _keep(*keys: str) -> _Prune:
    return lambda content: {key: content[key] for key in keys if key in content}


def _member_rule(rules: RoomVersion) -> _Prune:
    keys = ["membership"]
    if rules.redaction_keeps_join_authorisation:
        keys.append("join_authorised_via_users_server")
    keep, keep_signed_key = _keep(*keys), _keep("signed")
    if not rules.updated_redaction:
        return keep

    def keep_signed(content: JsonObject) -> JsonObject:
        """ "Additionally, it allows the `signed` key of the `third_party_invite` key." An object
        without it stays as an empty one, as everywhere in the field: event ids depend on it.
        """
        kept = keep(content)
        invite: Any = content.get("third_party_invite")
        if isinstance(invite, dict):
            kept["third_party_invite"] = keep_signed_key(invite)
        return kept

    return keep_signed
