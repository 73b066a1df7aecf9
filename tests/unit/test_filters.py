"""Filters: parsing with named errors, the matchers against a plain reading of the specification."""

from __future__ import annotations

import fnmatch
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.event_fields import EventFields, split_path
from homeserver.protocol.filters import (
    EVERY_ROOM_EVENT,
    EVERYTHING,
    FilterError,
    compile_event_filter,
    parse_filter,
    parse_room_event_filter,
)


def no_content() -> dict[str, Any]:
    raise AssertionError("the content was not needed")


def test_an_empty_filter_matches_all() -> None:
    assert parse_filter("{}").matches_all
    assert EVERYTHING.matches_all
    assert EVERY_ROOM_EVENT.matches_all
    assert EVERYTHING.timeline.event_allowed("m.room.message", "@a:b", no_content)


def test_limits_and_lazy_loading_alone_still_match_all() -> None:
    parsed = parse_filter(
        {"room": {"timeline": {"limit": 5, "lazy_load_members": True}, "include_leave": True}}
    )
    assert parsed.matches_all
    assert parsed.include_leave
    assert parsed.timeline.lazy_load_members
    assert not parsed.state.lazy_load_members


@pytest.mark.parametrize(
    "restriction",
    [
        {"event_fields": ["content.body"]},
        {"event_format": "federation"},
        {"presence": {"not_types": ["*"]}},
        {"account_data": {"types": []}},
        {"room": {"rooms": []}},
        {"room": {"ephemeral": {"not_senders": ["@a:b"]}}},
        {"room": {"state": {"not_rooms": ["!a:b"]}}},
        {"room": {"timeline": {"contains_url": False}}},
        {"room": {"account_data": {"related_by_rel_types": ["m.thread"]}}},
    ],
)
def test_any_restriction_is_noticed(restriction: dict[str, Any]) -> None:
    assert not parse_filter(restriction).matches_all


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ('{"room": {"timeline": {"limit": "ten"}}}', "room.timeline.limit"),
        ('{"room": {"timeline": {"limit": -1}}}', "room.timeline.limit"),
        ('{"presence": {"types": "m.presence"}}', "presence.types"),
        ('{"room": {"state": {"senders": ["alice"]}}}', "room.state.senders"),
        ('{"room": {"rooms": ["#alias:b"]}}', "room.rooms"),
        ('{"event_format": "other"}', "event_format"),
        ('{"room": {"state": {"types": [1]}}}', "room.state.types"),
        ('{"room": []}', "room"),
        ("[]", "object"),
        ('{"room"', "JSON"),
        ("\ud800", "JSON"),
        ('{"x": ' + "[" * 3000 + "]" * 3000 + "}", "JSON"),
    ],
)
def test_an_error_names_the_field(source: str, field: str) -> None:
    with pytest.raises(FilterError, match=field):
        parse_filter(source)


def test_a_decoded_body_is_checked_like_text() -> None:
    with pytest.raises(FilterError, match=r"room\.timeline\.not_types"):
        parse_filter({"room": {"timeline": {"not_types": 3}}})
    with pytest.raises(FilterError, match="contains_url"):
        parse_room_event_filter({"contains_url": "yes"})


def test_unknown_fields_are_ignored() -> None:
    assert parse_filter({"org.example": {"a": 1}, "room": {"x": 2}}).matches_all


def test_the_same_text_is_parsed_once() -> None:
    text = '{"room": {"timeline": {"types": ["m.room.*"]}}}'
    assert parse_filter(text) is parse_filter(text)
    assert parse_room_event_filter('{"limit":3}') is parse_room_event_filter('{"limit":3}')


def test_a_huge_filter_is_parsed_but_not_remembered() -> None:
    text = '{"room": {"timeline": {"types": ["' + "x" * 5000 + '"]}}}'
    assert parse_filter(text) is not parse_filter(text)


def test_exclusion_wins_over_inclusion() -> None:
    matcher = parse_room_event_filter(
        {"types": ["m.room.*"], "not_types": ["m.room.member"], "not_senders": ["@spam:b"]}
    )
    assert matcher.event_allowed("m.room.message", "@a:b", no_content)
    assert not matcher.event_allowed("m.room.member", "@a:b", no_content)
    assert not matcher.event_allowed("m.room.message", "@spam:b", no_content)
    assert not matcher.event_allowed("m.reaction", "@a:b", no_content)


def test_an_empty_list_includes_nothing() -> None:
    assert not parse_room_event_filter({"types": []}).type_allowed("m.room.message")
    assert not parse_room_event_filter({"senders": []}).event_allowed("a", "@a:b", no_content)


def test_contains_url_looks_for_the_key() -> None:
    with_url = parse_room_event_filter({"contains_url": True})
    without = parse_room_event_filter({"contains_url": False})
    assert with_url.event_allowed("m.room.message", "@a:b", lambda: {"url": "mxc://b/c"})
    assert not with_url.event_allowed("m.room.message", "@a:b", dict)
    assert not without.event_allowed("m.room.message", "@a:b", lambda: {"url": "mxc://b/c"})
    assert without.event_allowed("m.room.message", "@a:b", dict)


def test_rooms_of_the_filter_and_of_its_sections() -> None:
    parsed = parse_filter(
        {"room": {"rooms": ["!a:b", "!c:d"], "not_rooms": ["!c:d"], "state": {"rooms": ["!e:f"]}}}
    )
    assert parsed.room_allowed("!a:b")
    assert not parsed.room_allowed("!c:d")
    assert not parsed.room_allowed("!e:f")
    assert parsed.state.room_allowed("!e:f")
    assert not parsed.state.room_allowed("!a:b")


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 10), (0, 0), (7, 7), (100, 100), (10**15, 100)]
)
def test_the_limit_is_clamped(asked: int | None, given: int) -> None:
    definition = {} if asked is None else {"limit": asked}
    assert parse_room_event_filter(definition).limit(default=10, maximum=100) == given


type_names = st.text(alphabet="ab.*", max_size=8)


@given(st.lists(type_names, max_size=3), st.lists(type_names, max_size=3), type_names)
def test_wildcards_mean_any_sequence(included: list[str], excluded: list[str], name: str) -> None:
    matcher = parse_room_event_filter({"types": included, "not_types": excluded})
    expected = any(fnmatch.fnmatchcase(name, glob) for glob in included) and not any(
        fnmatch.fnmatchcase(name, glob) for glob in excluded
    )
    assert matcher.type_allowed(name) is expected


def test_other_pattern_characters_are_literal() -> None:
    matcher = parse_room_event_filter({"types": ["a?[b].*"]})
    assert matcher.type_allowed("a?[b].x\ny")
    assert not matcher.type_allowed("axb.x")


def test_many_wildcards_cannot_make_matching_slow() -> None:
    matcher = parse_room_event_filter({"types": ["*a" * 60 + "*b", "a" + "*" * 200 + "c"]})
    started = time.perf_counter()
    assert not matcher.type_allowed("a" * 255)
    assert time.perf_counter() - started < 0.1


def test_the_definition_is_the_specifications_json() -> None:
    matcher = compile_event_filter(
        parse_filter({"presence": {"senders": ["@a:b"]}}).presence.definition
    )
    assert matcher.senders.allows("@a:b")
    assert not matcher.senders.allows("@c:d")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to", ("content", "m.relates_to")),
        (r"content.m\\foo", ("content", "m\\foo")),
        (r"a\x.b", ("a\\x", "b")),
        ("a\\", ("a\\",)),
        ("", ("",)),
        ("a..b", ("a", "", "b")),
    ],
)
def test_a_path_splits_at_unescaped_dots(path: str, names: tuple[str, ...]) -> None:
    assert split_path(path) == names


@given(st.lists(st.text(alphabet="a.\\x", max_size=5), min_size=1, max_size=4))
def test_an_escaped_path_splits_back(names: list[str]) -> None:
    path = ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in names)
    assert split_path(path) == tuple(names)


def test_a_projection_keeps_what_was_asked() -> None:
    event = {
        "type": "m.room.message",
        "content": {"body": "hi", "m.relates_to": {"rel_type": "m.thread"}, "x": 1},
        "sender": "@a:b",
    }
    fields = EventFields(["content.body", r"content.m\.relates_to.rel_type", "type", "missing.x"])
    assert fields.project(event) == {
        "type": "m.room.message",
        "content": {"body": "hi", "m.relates_to": {"rel_type": "m.thread"}},
    }


@pytest.mark.parametrize("paths", [["content", "content.body"], ["content.body", "content"]])
def test_the_wider_of_two_paths_counts(paths: list[str]) -> None:
    event = {"content": {"body": 1, "x": 2}, "type": "t"}
    assert EventFields(paths).project(event) == {"content": {"body": 1, "x": 2}}
