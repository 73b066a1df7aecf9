"""Push rule sets: what users put, change, delete and are served; the default set word by word."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import (
    BadJson,
    InvalidParam,
    MatrixError,
    MissingParam,
    NotFound,
    UnknownError,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.push_defaults import default_rules
from homeserver.protocol.push_rules import (
    NO_CHANGES,
    OwnRule,
    UserRules,
    decode_rules,
    delete_rule,
    encode_rules,
    follow_upgrade,
    get_rule,
    parse_actions,
    parse_rule,
    put_rule,
    ruleset,
    ruleset_json,
    set_actions,
    set_enabled,
)

ALICE = "@alice:example.org"
DEFAULTS = default_rules()
SPECIFIED = default_rules(polls=False)


def ids(rules: UserRules, kind: str) -> list[str]:
    return [rule["rule_id"] for rule in ruleset(rules, DEFAULTS, ALICE)[kind]]


def own(rules: UserRules, kind: str) -> list[str]:
    return [rule.rule_id for rule in rules.of(kind)]


def with_rules(kind: str, *rule_ids: str) -> UserRules:
    rules = NO_CHANGES
    for rule_id in reversed(rule_ids):
        rules = put_rule(rules, kind, OwnRule(rule_id, ["notify"]))
    return rules


def test_the_default_overrides_in_their_order() -> None:
    served = ruleset(NO_CHANGES, SPECIFIED, ALICE)
    assert [rule["rule_id"] for rule in served["override"]] == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ]
    assert [rule["rule_id"] for rule in served["underride"]] == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ]
    assert served["content"] == served["room"] == served["sender"] == []
    assert "postcontent" not in served


def test_the_own_user_id_is_filled_in() -> None:
    invite = get_rule(NO_CHANGES, DEFAULTS, ALICE, "override", ".m.rule.invite_for_me")
    assert invite == {
        "rule_id": ".m.rule.invite_for_me",
        "default": True,
        "enabled": True,
        "conditions": [
            {"key": "type", "kind": "event_match", "pattern": "m.room.member"},
            {"key": "content.membership", "kind": "event_match", "pattern": "invite"},
            {"key": "state_key", "kind": "event_match", "pattern": ALICE},
        ],
        "actions": ["notify", {"set_tweak": "sound", "value": "default"}],
    }
    mention = get_rule(NO_CHANGES, DEFAULTS, ALICE, "override", ".m.rule.is_user_mention")
    assert mention["conditions"] == [
        {
            "kind": "event_property_contains",
            "key": "content.m\\.mentions.user_ids",
            "value": ALICE,
        }
    ]


def test_polls_threads_and_legacy_mentions_are_added_where_asked_for() -> None:
    rules = default_rules(thread_subscriptions=True, legacy_mentions=True)
    served = ruleset(NO_CHANGES, rules, ALICE)
    assert [rule["rule_id"] for rule in served["postcontent"]] == [
        ".io.element.msc4306.rule.unsubscribed_thread",
        ".io.element.msc4306.rule.subscribed_thread",
    ]
    assert served["content"][0]["rule_id"] == ".m.rule.contains_user_name"
    assert served["content"][0]["pattern"] == "alice"
    overrides = [rule["rule_id"] for rule in served["override"]]
    assert overrides[4:8] == [
        ".m.rule.is_user_mention",
        ".m.rule.contains_display_name",
        ".m.rule.is_room_mention",
        ".m.rule.roomnotif",
    ]
    assert ".org.matrix.msc3930.rule.poll_response" in overrides
    assert default_rules() is default_rules()


def test_every_served_ruleset_is_json() -> None:
    rules = default_rules(thread_subscriptions=True, legacy_mentions=True)
    assert msgspec.json.decode(msgspec.json.encode(ruleset(NO_CHANGES, rules, ALICE)))


@pytest.mark.parametrize("rules", [NO_CHANGES, UserRules(room=(OwnRule("!r:b", []),))])
def test_the_encoded_ruleset_is_the_same(rules: UserRules) -> None:
    for defaults in (DEFAULTS, default_rules(legacy_mentions=True)):
        encoded = msgspec.json.decode(ruleset_json(rules, defaults, ALICE))
        assert encoded == ruleset(rules, defaults, ALICE)


def test_own_rules_stand_before_the_defaults_but_after_the_master() -> None:
    rules = with_rules("override", "mine")
    assert ids(rules, "override")[:3] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]
    assert ids(with_rules("underride", "mine"), "underride")[:2] == ["mine", ".m.rule.call"]


def test_a_new_rule_is_the_most_important() -> None:
    rules = put_rule(with_rules("content", "a", "b"), "content", OwnRule("c", []))
    assert own(rules, "content") == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("before", "after", "order"),
    [
        ("b", None, ["a", "new", "b", "c"]),
        (None, "b", ["a", "b", "new", "c"]),
        ("a", None, ["new", "a", "b", "c"]),
        (None, "c", ["a", "b", "c", "new"]),
        ("c", "a", ["a", "b", "new", "c"]),
    ],
)
def test_before_and_after(before: str | None, after: str | None, order: list[str]) -> None:
    rules = put_rule(with_rules("room", "a", "b", "c"), "room", OwnRule("new", []), before, after)
    assert own(rules, "room") == order


def test_a_changed_rule_keeps_its_place_and_whether_it_is_enabled() -> None:
    rules = set_enabled(with_rules("room", "a", "b", "c"), DEFAULTS, "room", "b", False)
    rules = put_rule(rules, "room", OwnRule("b", []))
    assert own(rules, "room") == ["a", "b", "c"]
    assert rules.room[1] == OwnRule("b", [], enabled=False)
    assert own(put_rule(rules, "room", OwnRule("b", []), after="c"), "room") == ["a", "c", "b"]
    assert own(put_rule(rules, "room", OwnRule("b", []), before="a"), "room") == ["b", "a", "c"]


@pytest.mark.parametrize("relative", ["missing", ".m.rule.master"])
def test_a_rule_cannot_stand_beside_a_missing_or_default_one(relative: str) -> None:
    with pytest.raises(UnknownError, match=re.escape(f"before/after rule not found: {relative}")):
        put_rule(with_rules("override", "a"), "override", OwnRule("b", []), before=relative)
    with pytest.raises(UnknownError):
        put_rule(with_rules("override", "a"), "override", OwnRule("b", []), after=relative)


def test_deleting() -> None:
    rules = delete_rule(with_rules("sender", "@a:b", "@c:d"), "sender", "@a:b")
    assert own(rules, "sender") == ["@c:d"]
    for kind, rule_id in (("sender", "@a:b"), ("override", ".m.rule.master"), ("none", "@c:d")):
        with pytest.raises(NotFound):
            delete_rule(rules, kind, rule_id)


def test_a_change_of_a_default_that_is_taken_back_leaves_nothing() -> None:
    rules = set_enabled(NO_CHANGES, DEFAULTS, "override", ".m.rule.master", True)
    assert get_rule(rules, DEFAULTS, ALICE, "override", ".m.rule.master")["enabled"] is True
    rules = set_actions(rules, DEFAULTS, "override", ".m.rule.master", ["notify"])
    assert get_rule(rules, DEFAULTS, ALICE, "override", ".m.rule.master")["actions"] == ["notify"]
    rules = set_actions(rules, DEFAULTS, "override", ".m.rule.master", [])
    assert set_enabled(rules, DEFAULTS, "override", ".m.rule.master", False) == NO_CHANGES


def test_a_default_rule_is_found_under_its_kind_only() -> None:
    with pytest.raises(NotFound):
        set_enabled(NO_CHANGES, DEFAULTS, "underride", ".m.rule.master", True)
    with pytest.raises(NotFound):
        set_actions(NO_CHANGES, DEFAULTS, "content", "missing", [])
    with pytest.raises(NotFound):
        get_rule(NO_CHANGES, DEFAULTS, ALICE, "nonsense", ".m.rule.master")


def test_the_actions_of_an_own_rule_are_set() -> None:
    rules = set_actions(with_rules("room", "a"), DEFAULTS, "room", "a", ["dont_notify"])
    assert rules.room[0].actions == []


@pytest.mark.parametrize("enabled", [None, "true", 1, {}])
def test_enabled_is_true_or_false(enabled: Any) -> None:
    with pytest.raises(BadJson):
        set_enabled(NO_CHANGES, DEFAULTS, "override", ".m.rule.master", enabled)


@pytest.mark.parametrize(
    ("kind", "rule_id", "body", "error"),
    [
        ("postcontent", "a", {"actions": []}, InvalidParam),
        ("override", ".dot", {"actions": []}, InvalidParam),
        ("override", "", {"actions": []}, InvalidParam),
        ("override", "a/b", {"actions": []}, InvalidParam),
        ("override", "a\\b", {"actions": []}, InvalidParam),
        ("override", "a", {}, MissingParam),
        ("override", "a", {"actions": "notify"}, BadJson),
        ("override", "a", {"actions": ["shout"]}, InvalidParam),
        ("override", "a", {"actions": [{"tweak": "x"}]}, InvalidParam),
        ("override", "a", {"actions": [[]]}, InvalidParam),
        ("override", "a", {"actions": [], "conditions": {}}, BadJson),
        ("underride", "a", {"actions": [], "conditions": ["x"]}, BadJson),
        ("underride", "a", {"actions": [], "conditions": [{"kind": 1}]}, BadJson),
        ("content", "a", {"actions": []}, MissingParam),
        ("content", "a", {"actions": [], "pattern": 5}, BadJson),
        ("content", "a", {"actions": [], "pattern": "x" * 513}, InvalidParam),
        (
            "override",
            "a",
            {"actions": [], "conditions": [{"kind": "event_match", "pattern": "x" * 513}]},
            InvalidParam,
        ),
    ],
)
def test_a_rule_that_is_refused(
    kind: str, rule_id: str, body: JsonObject, error: type[MatrixError]
) -> None:
    with pytest.raises(error):
        parse_rule(kind, rule_id, body)


def test_a_rule_is_served_as_it_was_put() -> None:
    body = {
        "actions": ["notify", "coalesce", {"set_tweak": "sound", "value": "beer.wav"}],
        "conditions": [{"kind": "org.example.unknown", "x": 1}],
    }
    rules = put_rule(NO_CHANGES, "override", parse_rule("override", "a", body))
    assert get_rule(rules, DEFAULTS, ALICE, "override", "a") == {
        "rule_id": "a",
        "default": False,
        "enabled": True,
        "actions": ["notify", {"set_tweak": "sound", "value": "beer.wav"}],
        "conditions": [{"kind": "org.example.unknown", "x": 1}],
    }
    content = parse_rule("content", "c", {"actions": [], "pattern": "cake*lie"})
    rules = put_rule(rules, "content", content)
    assert get_rule(rules, DEFAULTS, ALICE, "content", "c")["pattern"] == "cake*lie"


def test_historical_actions_are_ignored() -> None:
    assert parse_actions(["dont_notify", "notify", "coalesce"]) == ["notify"]


def test_rules_follow_a_room_to_its_upgrade() -> None:
    condition = {"kind": "event_match", "key": "room_id", "pattern": "!old:b"}
    rules = with_rules("room", "!old:b", "!other:b")
    muted = OwnRule("!old:b", [], conditions=[condition])
    rules = put_rule(rules, "override", muted)
    rules = put_rule(rules, "override", OwnRule("named", [], conditions=[condition]))
    rules = follow_upgrade(rules, "!old:b", "!new:b")
    assert own(rules, "room") == ["!old:b", "!other:b", "!new:b"]
    assert own(rules, "override") == ["named", "!old:b", "named_!new:b", "!new:b"]
    assert rules.override[3].conditions == [{**condition, "pattern": "!new:b"}]
    assert follow_upgrade(rules, "!old:b", "!new:b") == rules


def test_only_these_defaults_notify() -> None:
    actions = {
        rule["rule_id"]: rule["actions"]
        for kind in ("override", "underride")
        for rule in ruleset(NO_CHANGES, SPECIFIED, ALICE)[kind]
    }
    sound = {"set_tweak": "sound", "value": "default"}
    highlight = {"set_tweak": "highlight"}
    notifying = {
        ".m.rule.invite_for_me": ["notify", sound],
        ".m.rule.is_user_mention": ["notify", sound, highlight],
        ".m.rule.is_room_mention": ["notify", highlight],
        ".m.rule.tombstone": ["notify", highlight],
        ".m.rule.call": ["notify", {"set_tweak": "sound", "value": "ring"}],
        ".m.rule.encrypted_room_one_to_one": ["notify", sound],
        ".m.rule.room_one_to_one": ["notify", sound],
        ".m.rule.message": ["notify"],
        ".m.rule.encrypted": ["notify"],
    }
    assert {rule_id: found for rule_id, found in actions.items() if found} == notifying


kinds = st.sampled_from(["override", "content", "room", "sender", "underride"])
names = st.sampled_from(["a", "b", "c", ".m.rule.master", ".m.rule.call"])
operations = st.one_of(
    st.tuples(st.just("put"), kinds, names, st.none() | names, st.none() | names),
    st.tuples(st.just("delete"), kinds, names, st.none(), st.none()),
    st.tuples(st.just("enable"), kinds, names, st.booleans(), st.none()),
    st.tuples(st.just("act"), kinds, names, st.sampled_from([[], ["notify"]]), st.none()),
)


@given(st.lists(operations, max_size=20))
def test_any_operations_keep_the_rules_whole(todo: list[tuple[str, str, str, Any, Any]]) -> None:
    rules = NO_CHANGES
    for name, kind, rule_id, one, two in todo:
        try:
            if name == "put":
                body = {"actions": [], "pattern": "x"}
                rules = put_rule(rules, kind, parse_rule(kind, rule_id, body), one, two)
            elif name == "delete":
                rules = delete_rule(rules, kind, rule_id)
            elif name == "enable":
                rules = set_enabled(rules, DEFAULTS, kind, rule_id, one)
                assert get_rule(rules, DEFAULTS, ALICE, kind, rule_id)["enabled"] is one
            else:
                rules = set_actions(rules, DEFAULTS, kind, rule_id, one)
                assert get_rule(rules, DEFAULTS, ALICE, kind, rule_id)["actions"] == one
        except MatrixError:
            continue
    assert decode_rules(encode_rules(rules)) == rules
    for kind in ("override", "content", "room", "sender", "underride"):
        assert len(set(ids(rules, kind))) == len(ids(rules, kind))
        assert set(own(rules, kind)) <= {"a", "b", "c"}
