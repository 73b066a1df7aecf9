"""Redaction keeps exactly what each room version says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from homeserver.json_types import JsonObject
from homeserver.protocol.redaction import redact, redact_content
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.protocol.signatures import reference_hash
from tests.support.strategies import json_objects, room_versions

EVERYWHERE = {
    "event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures",
    "depth", "prev_events", "auth_events", "origin_server_ts",
}  # fmt: skip
BEFORE_11 = {"prev_state", "origin", "membership"}
LEVELS = {
    "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default",
}  # fmt: skip

# Event type, the versions from which on (and until which) a set of content keys is kept.
KEPT_CONTENT: list[tuple[str, int, int, set[str]]] = [
    ("m.room.member", 1, 8, {"membership"}),
    ("m.room.member", 9, 12, {"membership", "join_authorised_via_users_server"}),
    ("m.room.create", 1, 10, {"creator"}),
    ("m.room.create", 11, 12, {"creator", "room_version", "additional_creators", "anything"}),
    ("m.room.join_rules", 1, 7, {"join_rule"}),
    ("m.room.join_rules", 8, 12, {"join_rule", "allow"}),
    ("m.room.power_levels", 1, 10, LEVELS),
    ("m.room.power_levels", 11, 12, LEVELS | {"invite"}),
    ("m.room.aliases", 1, 5, {"aliases"}),
    ("m.room.aliases", 6, 12, set()),
    ("m.room.history_visibility", 1, 12, {"history_visibility"}),
    ("m.room.redaction", 1, 10, set()),
    ("m.room.redaction", 11, 12, {"redacts"}),
    ("m.room.message", 1, 12, set()),
    ("m.room.name", 1, 12, set()),
]
ALL_CONTENT_KEYS = set().union(*(keys for *_, keys in KEPT_CONTENT)) | {"notifications", "body"}
CASES = [
    (version, event_type, keys)
    for event_type, first, last, keys in KEPT_CONTENT
    for version in range(first, last + 1)
]


@pytest.mark.parametrize(("version", "event_type", "kept"), CASES)
def test_the_content_keys_that_are_kept(version: int, event_type: str, kept: set[str]) -> None:
    content = dict.fromkeys(ALL_CONTENT_KEYS, 1)
    rules = ROOM_VERSIONS[str(version)]
    expected = ALL_CONTENT_KEYS if kept and "anything" in kept else kept
    assert set(redact_content(event_type, content, rules)) == expected
    assert set(redact({"type": event_type, "content": content}, rules)["content"]) == expected


@pytest.mark.parametrize("rules", ROOM_VERSIONS.values(), ids=lambda rules: rules.identifier)
def test_the_top_level_keys_that_are_kept(rules: RoomVersion) -> None:
    pdu = dict.fromkeys(EVERYWHERE | BEFORE_11 | {"unsigned", "redacts", "age_ts", "x"}, 1)
    expected = EVERYWHERE if int(rules.identifier) >= 11 else EVERYWHERE | BEFORE_11
    assert set(redact(pdu, rules)) == expected


@pytest.mark.parametrize(
    ("invite", "kept"),
    [
        ({"signed": {"token": "t"}, "display_name": "x"}, {"signed": {"token": "t"}}),
        ({"display_name": "x"}, {}),
        ({}, {}),
        ("no object", None),
    ],
)
def test_a_third_party_invite_keeps_what_is_signed_from_version_11(invite: Any, kept: Any) -> None:
    content = {"membership": "invite", "third_party_invite": invite}
    for version, expected in (("10", None), ("11", kept), ("12", kept)):
        pruned = redact_content("m.room.member", content, ROOM_VERSIONS[version])
        assert pruned.get("third_party_invite") == expected


@given(json_objects, json_objects, room_versions)
def test_redaction_is_idempotent_and_keeps_the_reference_hash(
    pdu: JsonObject, content: JsonObject, rules: RoomVersion
) -> None:
    for event_type in ("m.room.member", "m.room.power_levels", "m.room.create", "m.room.message"):
        pdu |= {"type": event_type, "content": content}
        redacted = redact(pdu, rules)
        assert redact(redacted, rules) == redacted
        assert reference_hash(redacted, rules) == reference_hash(pdu, rules)


@given(json_objects, room_versions)
def test_any_object_can_be_redacted(pdu: JsonObject, rules: RoomVersion) -> None:
    before = dict(pdu)
    assert redact(pdu, rules)["content"] == {}
    assert pdu == before
