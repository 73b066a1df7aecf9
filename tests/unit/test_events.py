"""Events: ids, formats by version, limits, and our own signing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import encode_valid
from homeserver.protocol.events import (
    Template,
    add_signature,
    build_event,
    parse_event,
    required_signers,
    sign_pdu,
    stored_event,
    unsigned_pdu,
)
from homeserver.protocol.redaction import redact
from homeserver.protocol.rejection import Rejected, TooLarge
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.protocol.signatures import (
    Signer,
    decode_base64,
    encode_base64,
    has_valid_content_hash,
    is_signature,
    pdu_message,
    signature_of,
)
from tests.support.strategies import json_objects, loose_json_values, room_versions

SIGNER = Signer("h.org", "ed25519:1", nacl.signing.SigningKey(b"k" * 32))
HASH = "acR1l0raoZnm60CBwAVgqbZqoO1mYU81xysh1u7XcJk"
VERSIONS = list(ROOM_VERSIONS.values())
by_version = pytest.mark.parametrize("rules", VERSIONS, ids=lambda rules: rules.identifier)


def template(rules: RoomVersion, **changes: Any) -> Template:
    v12 = rules.room_id_is_create_event_id
    event_id = "$e:h.org" if rules.event_id_in_pdu else None
    fields: dict[str, Any] = {
        "room_id": "!" + HASH if v12 else "!r:h.org",
        "type": "m.room.message",
        "sender": "@u:h.org",
        "content": {"body": "hello", "msgtype": "m.text"},
        "origin_server_ts": 1_700_000_000_000,
        "depth": 5,
        "prev_events": ["$p:h.org" if event_id else "$" + HASH],
        "auth_events": ["$a:h.org" if event_id else "$" + HASH],
        "event_id": event_id,
    }
    return Template(**fields | changes)


@by_version
def test_an_own_event_is_hashed_signed_and_can_be_parsed(rules: RoomVersion) -> None:
    event = build_event(rules, template(rules), SIGNER)
    parsed = parse_event(event.pdu, rules, event_id=event.event_id)
    stored = stored_event(event.json, event.event_id, rules)
    for field in event.__struct_fields__:
        assert getattr(parsed, field) == getattr(event, field) == getattr(stored, field), field
    assert has_valid_content_hash(event.pdu, rules)
    signature = signature_of(event.pdu, "h.org", "ed25519:1")
    assert is_signature(pdu_message(event.pdu, rules), signature, SIGNER.key.verify_key)


@by_version
def test_the_event_id_has_the_form_of_its_version(rules: RoomVersion) -> None:
    event = build_event(rules, template(rules), SIGNER)
    digest = hashlib.sha256(pdu_message(event.pdu, rules)).digest()
    if rules.identifier in ("1", "2"):
        assert event.event_id == "$e:h.org"
    elif rules.identifier == "3":
        assert event.event_id == "$" + encode_base64(digest)
    else:
        assert event.event_id == "$" + encode_base64(digest).replace("+", "-").replace("/", "_")


@by_version
def test_references_are_pairs_in_versions_1_and_2(rules: RoomVersion) -> None:
    given_template = template(rules, reference_hashes={"$p:h.org": "abc"})
    event = build_event(rules, given_template, SIGNER)
    assert event.prev_events == tuple(given_template.prev_events)
    if rules.event_id_in_pdu:
        assert event.pdu["prev_events"] == [["$p:h.org", {"sha256": "abc"}]]
        assert event.pdu["auth_events"] == [["$a:h.org", {}]]
    else:
        assert event.pdu["prev_events"] == ["$" + HASH]
        assert "event_id" not in event.pdu


@by_version
def test_a_create_event_names_its_room(rules: RoomVersion) -> None:
    v12 = rules.room_id_is_create_event_id
    create = template(rules, type="m.room.create", state_key="", content={}, room_id="!r:h.org")
    event = build_event(rules, create, SIGNER)
    assert ("room_id" in event.pdu) is not v12
    assert event.room_id == ("!" + event.event_id[1:] if v12 else "!r:h.org")
    assert stored_event(event.json, event.event_id, rules).room_id == event.room_id
    assert event.key == ("m.room.create", "")


@by_version
def test_redacts_stands_where_the_version_keeps_it(rules: RoomVersion) -> None:
    target = "$x:h.org" if rules.event_id_in_pdu else "$" + HASH
    redaction = template(rules, type="m.room.redaction", content={"reason": "r"}, redacts=target)
    event = build_event(rules, redaction, SIGNER)
    in_content = int(rules.identifier) >= 11
    assert (event.content.get("redacts") == target) is in_content
    assert (event.pdu.get("redacts") == target) is not in_content
    assert event.redacts == target == stored_event(event.json, event.event_id, rules).redacts


@by_version
def test_a_redacted_event_keeps_its_id_and_its_signature(rules: RoomVersion) -> None:
    event = build_event(rules, template(rules), SIGNER)
    redacted = event.redacted()
    assert redacted.content == {}
    assert parse_event(redacted.pdu, rules).event_id == event.event_id
    assert pdu_message(redacted.pdu, rules) == pdu_message(event.pdu, rules)
    assert not has_valid_content_hash(redacted.pdu, rules)
    assert redact(event.pdu, rules) == redacted.pdu


@by_version
def test_a_further_signature_changes_neither_the_id_nor_the_first_one(rules: RoomVersion) -> None:
    event = build_event(rules, template(rules), SIGNER)
    other = Signer("other", "ed25519:2", nacl.signing.SigningKey(b"o" * 32))
    signed = add_signature(event, other)
    assert signed.event_id == event.event_id
    assert signed.pdu["signatures"].keys() == {"h.org", "other"}
    assert signed.pdu["signatures"]["h.org"] == event.pdu["signatures"]["h.org"]
    assert parse_event(signed.pdu, rules).json == signed.json


Change = Callable[[JsonObject], object]


def put(key: str, value: Any) -> Change:
    return lambda pdu: pdu.__setitem__(key, value)


BROKEN: list[tuple[Change, str]] = [
    (lambda pdu: pdu.pop("sender"), "`sender` must be a string"),
    (put("sender", "u:h.org"), "`sender` is not a user id"),
    (put("sender", "@" + "u" * 255 + ":h.org"), "`sender` is longer than 255 bytes"),
    (put("type", "t" * 256), "`type` is longer than 255 bytes"),
    (put("type", None), "`type` must be a string"),
    (put("state_key", "ä" * 256), "`state_key` is longer than 255 bytes"),
    (put("state_key", None), "`state_key` must be a string"),
    (put("room_id", 1), "`room_id` must be a string"),
    (put("room_id", "r"), "`room_id` is not a room id"),
    (lambda pdu: pdu.pop("room_id"), "`room_id` is not a room id"),
    (put("content", []), "`content` must be an object"),
    (lambda pdu: pdu.pop("hashes"), "`hashes` must be an object"),
    (put("signatures", None), "`signatures` must be an object"),
    (put("signatures", {"h": "x"}), "`signatures` must be an object of objects"),
    (put("depth", -1), "`depth` must be"),
    (put("depth", True), "`depth` must be"),
    (put("depth", "5"), "`depth` must be"),
    (put("depth", 2**63), "`depth` must be|integer is beyond"),
    (put("origin_server_ts", "now"), "`origin_server_ts` must be"),
    (lambda pdu: pdu.pop("origin_server_ts"), "`origin_server_ts` must be"),
    (put("prev_events", {}), "`prev_events` must be a list"),
    (lambda pdu: pdu.pop("auth_events"), "`auth_events` must be a list"),
    (put("prev_events", ["x"]), "`prev_events` holds something that refers to no event"),
    (put("auth_events", [["$a:b"]]), "`auth_events` holds something that refers to no event"),
    (lambda pdu: pdu["prev_events"].extend(pdu["prev_events"] * 20), "more than 20 events"),
    (lambda pdu: pdu["auth_events"].extend(pdu["auth_events"] * 10), "more than 10 events"),
    (put("content", {"body": "x" * 65_536}), "at most 65536 are allowed"),
    (put("content", {"body": "\ud800"}), "not canonical JSON"),
    (put("content", {"body": float("nan")}), "not canonical JSON"),
]


@by_version
@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_pdu_of_the_wrong_form_is_rejected(
    rules: RoomVersion, change: Change, reason: str
) -> None:
    pdu = build_event(rules, template(rules), SIGNER).pdu
    change(pdu)
    with pytest.raises(Rejected, match=reason):
        parse_event(pdu, rules)


@by_version
def test_backfilled_events_may_refer_to_more(rules: RoomVersion) -> None:
    pdu = build_event(rules, template(rules), SIGNER).pdu
    pdu["prev_events"] *= 30
    pdu["auth_events"] *= 30
    assert len(parse_event(pdu, rules, is_history=True).prev_events) == 30


@pytest.mark.parametrize("content", [{"level": 1.5}, {"big": 2**53}])
def test_numbers_outside_of_canonical_json_are_refused_from_version_6_on(
    content: JsonObject,
) -> None:
    for rules in VERSIONS:
        pdu = build_event(rules, template(rules), SIGNER).pdu | {"content": content}
        if int(rules.identifier) >= 6:
            with pytest.raises(Rejected, match="canonical JSON"):
                parse_event(pdu, rules)
        else:
            assert parse_event(pdu, rules).content == content


def test_depth_is_clamped_at_the_limit() -> None:
    for version, limit in (("6", 2**53 - 1), ("12", 2**53 - 1)):
        rules = ROOM_VERSIONS[version]
        assert unsigned_pdu(rules, template(rules, depth=limit + 1))["depth"] == limit


@by_version
def test_our_own_event_keeps_the_limits_too(rules: RoomVersion) -> None:
    with pytest.raises(TooLarge):
        build_event(rules, template(rules, content={"body": "x" * 65_400}), SIGNER)
    with pytest.raises(TooLarge):
        build_event(rules, template(rules, state_key="k" * 256), SIGNER)


@by_version
def test_an_event_that_was_not_asked_for_is_rejected(rules: RoomVersion) -> None:
    event = build_event(rules, template(rules), SIGNER)
    with pytest.raises(Rejected, match="another id"):
        parse_event(event.pdu, rules, event_id="$other")


def test_unsigned_is_dropped() -> None:
    rules = ROOM_VERSIONS["12"]
    event = build_event(rules, template(rules), SIGNER)
    assert parse_event(event.pdu | {"unsigned": {"age": 1}}, rules).json == event.json


def test_who_must_have_signed() -> None:
    v1, v8 = ROOM_VERSIONS["1"], ROOM_VERSIONS["8"]
    assert required_signers(build_event(v1, template(v1, event_id="$e:other"), SIGNER)) == {
        "h.org",
        "other",
    }
    join = {"membership": "join", "join_authorised_via_users_server": "@x:third"}
    member = template(v8, type="m.room.member", state_key="@u:h.org", content=join)
    assert required_signers(build_event(v8, member, SIGNER)) == {"h.org", "third"}
    invite = {"membership": "invite", "third_party_invite": {}}
    member = template(v8, type="m.room.member", state_key="@u:h.org", content=invite)
    assert required_signers(build_event(v8, member, SIGNER)) == set()


def test_a_template_of_another_server_is_signed_as_it_is() -> None:
    rules = ROOM_VERSIONS["11"]
    pdu = unsigned_pdu(rules, template(rules)) | {"origin": "there", "unsigned": {"age": 1}}
    event = sign_pdu(pdu, rules, SIGNER)
    assert event.pdu["origin"] == "there"
    assert "unsigned" not in event.pdu
    assert (
        decode_base64(event.event_id[1:]) == hashlib.sha256(pdu_message(event.pdu, rules)).digest()
    )


@given(json_objects, room_versions)
def test_any_content_survives_building_and_parsing(content: JsonObject, rules: RoomVersion) -> None:
    event = build_event(rules, template(rules, content=content), SIGNER)
    assert parse_event(event.pdu, rules).content == content == event.content
    assert encode_valid(event.pdu) == event.json


@given(st.data(), room_versions)
def test_a_pdu_with_arbitrary_fields_is_parsed_or_rejected(
    data: st.DataObject, rules: RoomVersion
) -> None:
    pdu = build_event(rules, template(rules), SIGNER).pdu
    for key in data.draw(st.lists(st.sampled_from(sorted(pdu)), max_size=3)):
        pdu[key] = data.draw(loose_json_values)
    try:
        event = parse_event(pdu, rules)
    except Rejected as rejected:
        assert rejected.reason
    else:
        assert stored_event(event.json, event.event_id, rules).json == event.json
