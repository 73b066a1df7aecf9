"""The identifier grammar of the appendices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.identifiers import (
    fits,
    is_compliant_user_id,
    is_event_id,
    is_room_alias,
    is_room_id,
    is_server_name,
    is_signing_key_id,
    is_user_id,
    is_valid_new_localpart,
    localpart_of,
    server_name_of,
)
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.strategies import loose_json_values

HASH = "acR1l0raoZnm60CBwAVgqbZqoO-mYU81xysh1u7XcJk"


def test_the_parts_of_an_id() -> None:
    assert server_name_of("@u:h:8448") == "h:8448"
    assert localpart_of("@u:h:8448") == "u"
    assert server_name_of("!" + HASH) == ""


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("matrix.org", True),
        ("matrix.org:8888", True),
        ("1.2.3.4", True),
        ("1.2.3.4:1234", True),
        ("[1234:5678::abcd]", True),
        ("[1234:5678::abcd]:5678", True),
        ("[1.2.3.4]", False),
        ("localhost", True),
        ("1.2.3.256", False),
        ("[12345::]", False),
        ("[::1", False),
        ("a_b.org", False),
        ("", False),
        ("host:", False),
        ("host:123456", False),
        ("höst", False),
        ("host\n", False),
        ("a" * 256, False),
        (None, False),
    ],
)
def test_server_names(name: Any, valid: bool) -> None:
    assert is_server_name(name) is valid


@pytest.mark.parametrize(
    ("user_id", "valid"),
    [
        ("@alice:example.org", True),
        ("@:example.org", True),  # historical: "and the empty string"
        ("@Älice Ω!:example.org", True),
        ("@a\u0001b:example.org", True),
        ("@a\0b:example.org", False),
        ("@a\ud800:example.org", False),
        ("alice:example.org", False),
        ("@alice", False),
        ("@alice:", False),
        ("@a:b:c:d", False),
        ("@" + "a" * 242 + ":example.org", True),
        ("@" + "a" * 243 + ":example.org", False),
        ("@" + "ä" * 122 + ":example.org", False),
        (7, False),
    ],
)
def test_user_ids_of_events(user_id: Any, valid: bool) -> None:
    assert is_user_id(user_id) is valid


@pytest.mark.parametrize(
    ("localpart", "compliant"),
    [("alice", True), ("A!~", True), ("", False), ("a b", False), ("ü", False), ("\x7f", False)],
)
def test_historical_localparts_are_not_told_outside_of_events(
    localpart: str, compliant: bool
) -> None:
    user_id = f"@{localpart}:example.org"
    assert is_user_id(user_id)
    assert is_compliant_user_id(user_id) is compliant


@pytest.mark.parametrize(
    ("localpart", "valid"),
    [("alice.b_c=d-e/f+9", True), ("", False), ("Alice", False), ("a b", False), ("a\n", False)],
)
def test_localparts_of_new_users(localpart: str, valid: bool) -> None:
    assert is_valid_new_localpart(localpart) is valid


def test_room_ids_by_version() -> None:
    v11, v12 = ROOM_VERSIONS["11"], ROOM_VERSIONS["12"]
    assert is_room_id("!abc:example.org", v11)
    assert not is_room_id("!abc:example.org", v12)
    assert is_room_id("!" + HASH, v12)
    assert not is_room_id("!" + HASH, v11)
    assert is_room_id("!abc:example.org")
    assert is_room_id("!" + HASH)
    assert not is_room_id("!" + HASH + "x", v12)
    assert not is_room_id("!abc")


def test_event_ids_by_version() -> None:
    v1, v3, v4 = (ROOM_VERSIONS[version] for version in "134")
    standard = HASH.replace("-", "/")
    assert is_event_id("$a:b", v1)
    assert not is_event_id("$a", v1)
    assert is_event_id("$" + standard, v3)
    assert not is_event_id("$" + HASH, v3)
    assert is_event_id("$" + HASH, v4)
    assert not is_event_id("$" + standard, v4)
    assert all(is_event_id(event_id) for event_id in ("$a:b", "$" + HASH, "$" + standard))
    assert not any(is_event_id(value) for value in ("$", "a", None, "$" + "ä" * 200))


def test_other_ids() -> None:
    assert is_room_alias("#räume:example.org")
    assert not is_room_alias("#x:")
    assert is_signing_key_id("ed25519:a_B1")
    assert not is_signing_key_id("ed25519:a-b")


@given(st.text(max_size=300))
def test_lengths_are_counted_in_bytes(text: str) -> None:
    assert fits(text) is (len(text.encode("utf-8", "surrogatepass")) <= 255)


@given(loose_json_values | st.text())
def test_no_value_makes_a_check_fail(value: Any) -> None:
    for check in (is_user_id, is_room_id, is_event_id, is_room_alias, is_server_name):
        assert check(value) in (True, False)
    for rules in ROOM_VERSIONS.values():
        assert is_room_id(value, rules) in (True, False)
        assert is_event_id(value, rules) in (True, False)
