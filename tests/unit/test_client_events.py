"""Client forms of stored PDUs, compared as decoded JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import encode_valid
from homeserver.protocol.client_events import (
    age,
    client_json,
    federation_json,
    membership,
    redacted_client_json,
    relations,
    replaced_state,
    stripped_state,
    transaction_id,
    with_room_id,
    with_unsigned,
)
from homeserver.protocol.room_versions import ROOM_VERSIONS

V10, V11, V12 = (ROOM_VERSIONS[version] for version in ("10", "11", "12"))
EVENT_ID = "$" + "e" * 43


def pdu(**changes: Any) -> bytes:
    event = {
        "auth_events": ["$a"],
        "content": {"body": 'héllo "you"', "msgtype": "m.text"},
        "depth": 7,
        "hashes": {"sha256": "x"},
        "origin_server_ts": 1700000000000,
        "prev_events": ["$p"],
        "room_id": "!room:example.org",
        "sender": "@alice:example.org",
        "signatures": {"example.org": {"ed25519:1": "s"}},
        "type": "m.room.message",
        **changes,
    }
    return encode_valid({key: value for key, value in event.items() if value is not None})


def test_a_message_has_the_client_fields_and_no_others() -> None:
    assert json.loads(client_json(pdu(), EVENT_ID, V12)) == {
        "content": {"body": 'héllo "you"', "msgtype": "m.text"},
        "event_id": EVENT_ID,
        "origin_server_ts": 1700000000000,
        "sender": "@alice:example.org",
        "type": "m.room.message",
        "unsigned": {},
    }


@pytest.mark.parametrize("state_key", ["", "@bob:example.org", 'q"\\\n'])
def test_a_state_event_has_its_state_key(state_key: str) -> None:
    event = json.loads(client_json(pdu(state_key=state_key), EVENT_ID, V12))
    assert event["state_key"] == state_key


def test_fragments_are_appended_to_unsigned() -> None:
    plain = client_json(pdu(), EVENT_ID, V12)
    own = with_unsigned(plain, membership("join") + b"," + age(-5))
    assert json.loads(own)["unsigned"] == {"membership": "join", "age": -5}
    both = with_unsigned(own, transaction_id('a"b'))
    assert json.loads(both)["unsigned"] == {
        "membership": "join",
        "age": -5,
        "transaction_id": 'a"b',
    }
    assert with_unsigned(plain, b"") is plain


def test_a_fragment_ending_in_an_empty_object_is_followed_by_a_comma() -> None:
    event = client_json(pdu(), EVENT_ID, V12, relations(b"{}"))
    assert json.loads(with_unsigned(event, age(1)))["unsigned"] == {"m.relations": {}, "age": 1}


def test_replaced_state_with_and_without_the_right_to_see_it() -> None:
    seen = client_json(pdu(state_key=""), EVENT_ID, V12, replaced_state("$old", b'{"name":"x"}'))
    assert json.loads(seen)["unsigned"] == {"replaces_state": "$old", "prev_content": {"name": "x"}}
    hidden = client_json(pdu(state_key=""), EVENT_ID, V12, replaced_state("$old", None))
    assert json.loads(hidden)["unsigned"] == {"replaces_state": "$old"}


def test_an_unusual_membership_is_escaped() -> None:
    assert membership('a"') == b'"membership":"a\\""'


def test_the_room_id_is_added_on_request() -> None:
    event = json.loads(with_room_id(client_json(pdu(), EVENT_ID, V12), "!room:example.org"))
    assert event["room_id"] == "!room:example.org"
    assert event["event_id"] == EVENT_ID


@pytest.mark.parametrize(
    ("rules", "changes"),
    [
        (V10, {"redacts": "$target", "content": {"reason": "spam"}}),
        (V10, {"redacts": "$target", "content": {"reason": "spam", "redacts": "$other"}}),
        (V11, {"content": {"reason": "spam", "redacts": "$target"}}),
        (V12, {"redacts": "$other", "content": {"reason": "spam", "redacts": "$target"}}),
    ],
)
def test_redacts_stands_at_both_places(rules: Any, changes: dict[str, Any]) -> None:
    event = json.loads(client_json(pdu(type="m.room.redaction", **changes), EVENT_ID, rules))
    assert event["redacts"] == "$target"
    assert event["content"] == {"reason": "spam", "redacts": "$target"}


def test_redacts_of_other_events_is_not_invented() -> None:
    event = json.loads(client_json(pdu(content={"redacts": "$x"}), EVENT_ID, V11))
    assert "redacts" not in event
    bare = json.loads(client_json(pdu(type="m.room.redaction"), EVENT_ID, V10))
    assert "redacts" not in bare
    assert "redacts" not in bare["content"]


def test_a_redacted_event_is_pruned_and_says_why() -> None:
    because = client_json(pdu(type="m.room.redaction", redacts="$t"), "$redaction", V10)
    event = json.loads(redacted_client_json(pdu(), EVENT_ID, V10, because, age(3)))
    assert event["content"] == {}
    assert event["unsigned"]["age"] == 3
    assert event["unsigned"]["redacted_because"]["event_id"] == "$redaction"
    member = pdu(type="m.room.member", state_key="@a:b", content={"membership": "join", "x": 1})
    kept = json.loads(redacted_client_json(member, EVENT_ID, V10, because))
    assert kept["content"] == {"membership": "join"}
    assert kept["state_key"] == "@a:b"


def test_a_redacted_redaction_keeps_what_its_room_version_keeps() -> None:
    old = pdu(type="m.room.redaction", redacts="$t", content={"reason": "x"})
    event = json.loads(redacted_client_json(old, EVENT_ID, V10, b"{}"))
    assert "redacts" not in event
    assert event["content"] == {}
    new = pdu(type="m.room.redaction", content={"redacts": "$t", "reason": "x"})
    event = json.loads(redacted_client_json(new, EVENT_ID, V11, b"{}"))
    assert event["redacts"] == "$t"
    assert event["content"] == {"redacts": "$t"}


def test_stripped_state_has_four_fields() -> None:
    stripped = json.loads(
        stripped_state(pdu(type="m.room.name", state_key="", content={"name": "x"}))
    )
    assert stripped == {
        "content": {"name": "x"},
        "sender": "@alice:example.org",
        "state_key": "",
        "type": "m.room.name",
    }


def test_the_federation_format_is_the_pdu_with_its_id() -> None:
    source = pdu()
    event = json.loads(with_unsigned(federation_json(source, EVENT_ID, V12), age(2)))
    assert event == {**json.loads(source), "event_id": EVENT_ID, "unsigned": {"age": 2}}


def test_a_pdu_of_version_1_has_its_id_already() -> None:
    source = pdu(event_id="$1:example.org")
    assert federation_json(source, "$1:example.org", ROOM_VERSIONS["1"]).count(b"event_id") == 1


def test_large_numbers_of_old_rooms_survive() -> None:
    content = b'{"n":100000000000000000000000000000,"f":1e+30,"redacts":"$x"}'
    source = pdu(type="m.room.redaction", redacts="$t", content={"a": 1})
    source = source.replace(b'{"a":1}', content)
    event = json.loads(client_json(source, EVENT_ID, ROOM_VERSIONS["1"]))
    assert event["content"] == {"n": 10**29, "f": 1e30, "redacts": "$t"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=6), json_values, max_size=4),
    st.text(max_size=8),
    st.none() | st.text(max_size=8),
)
def test_any_event_is_served_as_it_was_sent(
    content: dict[str, Any], event_type: str, state_key: str | None
) -> None:
    source = pdu(content=content, type="x" + event_type, state_key=state_key)
    event = msgspec.json.decode(client_json(source, EVENT_ID, V12))
    assert event["content"] == content
    assert event["type"] == "x" + event_type
    assert event.get("state_key") == state_key
    assert event["unsigned"] == {}
