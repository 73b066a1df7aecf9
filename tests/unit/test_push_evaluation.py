"""Evaluation: each condition by examples, whole rule sets against a plain interpreter of the JSON
that clients are served, and the room at once against each member on their own."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.json_types import JsonObject
from homeserver.protocol.event_fields import split_path
from homeserver.protocol.events import Event
from homeserver.protocol.push_conditions import (
    NOBODY,
    PushFacts,
    Reader,
    RoomFacts,
    compile_condition,
)
from homeserver.protocol.push_defaults import KINDS, default_rules
from homeserver.protocol.push_evaluation import (
    NOTHING,
    CompiledRules,
    Outcome,
    RoomReaders,
    compiled_defaults,
    compiled_rules,
    evaluate_user,
    outcome_of,
)
from homeserver.protocol.push_rules import (
    NO_CHANGES,
    OwnRule,
    UserRules,
    encode_rules,
    put_rule,
    ruleset,
    set_enabled,
)
from homeserver.protocol.room_versions import ROOM_VERSIONS

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
ROOM = "!room:example.org"
DEFAULTS = default_rules()
EVERYTHING = default_rules(thread_subscriptions=True, legacy_mentions=True)
MANY = RoomFacts(member_count=5)


def event(
    content: JsonObject, event_type: str = "m.room.message", state_key: str | None = None
) -> Event:
    return Event(
        rules=ROOM_VERSIONS["12"],
        event_id="$event",
        room_id=ROOM,
        type=event_type,
        sender=ALICE,
        state_key=state_key,
        content=content,
        depth=1,
        origin_server_ts=1,
        prev_events=(),
        auth_events=(),
        redacts=None,
        json=b"{}",
    )


def facts(content: JsonObject, event_type: str = "m.room.message", **more: Any) -> PushFacts:
    room = more.pop("room", MANY)
    return PushFacts(event(content, event_type, more.pop("state_key", None)), room, **more)


def holds(condition: JsonObject, about: PushFacts, reader: Reader = NOBODY) -> bool:
    return compile_condition(condition)(about, reader)


def match(key: str, pattern: Any) -> JsonObject:
    return {"kind": "event_match", "key": key, "pattern": pattern}


@pytest.mark.parametrize(
    ("condition", "content", "expected"),
    [
        (match("content.topic", "lunc?*"), {"topic": "Lunch plans"}, True),
        (match("content.topic", "lunc?*"), {"topic": " lunch"}, False),
        (match("content.topic", "*"), {"topic": None}, False),
        (match("content.topic", "*"), {}, False),
        (match("content.topic", ""), {"topic": ""}, True),
        (match("content.a.b", "x"), {"a": {"b": "X"}}, True),
        (match("content.a.b", "x"), {"a.b": "x"}, False),
        (match(r"content.a\.b", "x"), {"a.b": "x"}, True),
        (match("content.body", "cake"), {"body": "the cake is a lie"}, True),
        (match("content.body", "cake"), {"body": "pancakes"}, False),
        (match("content.body", "*"), {"body": 1}, False),
        (match(r"content\.body", "*"), {"body": "x"}, False),
        (match("room_id", ROOM), {}, True),
        (match("sender", "@al*"), {}, True),
        (match("event_id", "$event"), {}, True),
        (match("state_key", "*"), {}, False),
        (match("depth", "*"), {}, False),
        (match("content.topic", 5), {"topic": "5"}, False),
        ({"kind": "event_match", "key": "type"}, {}, False),
        ({"kind": "event_match", "pattern": "x"}, {}, False),
        ({"kind": "unknown"}, {}, False),
        ({"kind": ["event_match"]}, {}, False),
        ({}, {}, False),
    ],
)
def test_event_match(condition: JsonObject, content: JsonObject, expected: bool) -> None:
    assert holds(condition, facts(content)) is expected


@pytest.mark.parametrize(
    ("value", "found", "expected"),
    [
        (True, True, True),
        (True, "true", False),
        (True, 1, False),
        (1, True, False),
        (1, 1.0, False),
        (0, False, False),
        ("A", "a", False),
        (None, None, True),
        ([], [], False),
        ({}, {}, False),
        (1.5, 1.5, False),
        (2**53, 2**53, False),
        (2**53 - 1, 2**53 - 1, True),
    ],
)
def test_exact_values(value: Any, found: Any, expected: bool) -> None:
    is_ = {"kind": "event_property_is", "key": "content.x", "value": value}
    contains = {"kind": "event_property_contains", "key": "content.x", "value": value}
    assert holds(is_, facts({"x": found})) is expected
    assert holds(contains, facts({"x": ["other", [], found]})) is expected
    assert not holds(is_, facts({}))
    assert not holds(contains, facts({"x": found}))
    assert not holds({**is_, "key": None}, facts({"x": found}))
    assert not holds({**contains, "key": None}, facts({"x": [found]}))


def test_a_value_condition_without_value_never_matches() -> None:
    assert not holds({"kind": "event_property_is", "key": "content.x"}, facts({}))
    assert not holds({"kind": "event_property_contains", "key": "content.x"}, facts({"x": [None]}))


@pytest.mark.parametrize(
    ("is_", "counts"),
    [
        ("2", [2]),
        ("==2", [2]),
        ("<2", [0, 1]),
        (">2", [3, 4]),
        (">=2", [2, 3, 4]),
        ("<=2", [0, 1, 2]),
        ("=2", []),
        ("two", []),
        ("", []),
        (" 2", []),
        ("2" * 400, []),
        (2, []),
        (None, []),
    ],
)
def test_room_member_count(is_: Any, counts: list[int]) -> None:
    condition = {"kind": "room_member_count", "is": is_}
    matched = [n for n in range(5) if holds(condition, facts({}, room=RoomFacts(n)))]
    assert matched == counts


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("Alice", "hello ALICE!", True),
        ("Alice", "malice", False),
        ("A*", "alice", False),
        ("A*", "I say a*!", True),
        ("", "anything", False),
        (None, "anything", False),
        ("Zoë", "zoË?", True),
        ("@lice", "x @lice x", True),
    ],
)
def test_contains_display_name(name: str | None, body: str, expected: bool) -> None:
    condition = {"kind": "contains_display_name"}
    assert holds(condition, facts({"body": body}), Reader(BOB, name)) is expected
    assert not holds(condition, facts({"formatted_body": body}), Reader(BOB, name))


def test_sender_notification_permission() -> None:
    condition = {"kind": "sender_notification_permission", "key": "room"}
    assert not holds(condition, facts({}, room=RoomFacts(5, 49)))
    assert holds(condition, facts({}, room=RoomFacts(5, 50)))
    assert holds(condition, facts({}, room=RoomFacts(5, 20, {"room": 20})))
    assert not holds(condition, facts({}, room=RoomFacts(5, 50, {"room": 51})))
    assert holds(condition, facts({}, room=RoomFacts(5, float("inf"), {"room": 2**53 - 1})))
    assert not holds({"kind": "sender_notification_permission"}, facts({}, room=RoomFacts(5, 99)))


@pytest.mark.parametrize("subscribed", [True, False])
def test_thread_subscription(subscribed: bool) -> None:
    condition = {"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}
    threaded = facts({}, thread_root="$root")
    assert holds(condition, threaded, Reader(BOB, subscribed=subscribed))
    assert not holds(condition, threaded, Reader(BOB, subscribed=not subscribed))
    assert not holds(condition, facts({}), Reader(BOB, subscribed=subscribed))
    assert not holds({**condition, "subscribed": "yes"}, threaded, Reader(BOB))


SOUND = {"set_tweak": "sound", "value": "default"}
HIGHLIGHT = {"set_tweak": "highlight"}


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (facts({"body": "hi"}), Outcome(True, False, ("notify",))),
        (facts({"body": "hi"}, room=RoomFacts(2)), Outcome(True, False, ("notify", SOUND))),
        (facts({"body": "hi", "msgtype": "m.notice"}), NOTHING),
        (facts({}, "m.room.encrypted"), Outcome(True, False, ("notify",))),
        (
            facts({}, "m.room.encrypted", room=RoomFacts(2)),
            Outcome(True, False, ("notify", SOUND)),
        ),
        (facts({"m.relates_to": {"rel_type": "m.replace"}}, "m.room.encrypted"), NOTHING),
        (facts({"body": "bob"}), Outcome(True, False, ("notify",))),
        (
            facts({"m.mentions": {"user_ids": [BOB]}}),
            Outcome(True, True, ("notify", SOUND, HIGHLIGHT)),
        ),
        (facts({"m.mentions": {"user_ids": [CAROL]}}), Outcome(True, False, ("notify",))),
        (facts({"m.mentions": {"room": True}}), Outcome(True, False, ("notify",))),
        (
            facts({"m.mentions": {"room": True}}, room=RoomFacts(5, 50)),
            Outcome(True, True, ("notify", HIGHLIGHT)),
        ),
        (
            facts({"membership": "invite"}, "m.room.member", state_key=BOB),
            Outcome(True, False, ("notify", SOUND)),
        ),
        (facts({"membership": "invite"}, "m.room.member", state_key=CAROL), NOTHING),
        (facts({"membership": "join"}, "m.room.member", state_key=BOB), NOTHING),
        (
            facts({}, "m.room.tombstone", state_key=""),
            Outcome(True, True, ("notify", HIGHLIGHT)),
        ),
        (facts({}, "m.room.tombstone"), NOTHING),
        (facts({"m.relates_to": {"rel_type": "m.annotation"}}, "m.reaction"), NOTHING),
        (facts({}, "m.room.server_acl", state_key=""), NOTHING),
        (
            facts({}, "m.call.invite"),
            Outcome(True, False, ("notify", {"set_tweak": "sound", "value": "ring"})),
        ),
        (facts({}, "m.room.topic", state_key=""), NOTHING),
        (facts({}, "org.matrix.msc3381.poll.start"), Outcome(True, False, ("notify",))),
        (facts({}, "org.matrix.msc3381.poll.response"), NOTHING),
    ],
)
def test_the_default_rules(about: PushFacts, expected: Outcome) -> None:
    assert evaluate_user(about, BOB, compiled_defaults(DEFAULTS), "Bob") == expected
    assert evaluate_user(about, ALICE, compiled_defaults(DEFAULTS), "Alice") == NOTHING


def test_legacy_mentions_are_off_for_events_with_intentional_ones() -> None:
    rules = compiled_defaults(EVERYTHING)
    for body in ("ping Bobby", "ping bob", "@room"):
        legacy = facts({"body": body}, room=RoomFacts(5, 100))
        assert evaluate_user(legacy, BOB, rules, "Bobby").highlight
        by_intention = facts({"body": body, "m.mentions": {}}, room=RoomFacts(5, 100))
        assert not evaluate_user(by_intention, BOB, rules, "Bobby").highlight


def test_threads_notify_their_subscribers_only() -> None:
    rules = compiled_defaults(EVERYTHING)
    reply = facts({"body": "x"}, thread_root="$root", subscribers={BOB})
    assert evaluate_user(reply, BOB, rules, None) == Outcome(True, False, ("notify", SOUND))
    assert evaluate_user(reply, CAROL, rules, None) == NOTHING
    mention = facts({"m.mentions": {"user_ids": [CAROL]}}, thread_root="$root")
    assert evaluate_user(mention, CAROL, rules, None).highlight


def test_the_kinds_are_asked_in_order() -> None:
    rules = NO_CHANGES
    order: list[str] = []
    for kind, rule in (
        ("underride", OwnRule("u", ["notify", {"set_tweak": "underride"}], conditions=[])),
        ("sender", OwnRule(ALICE, ["notify", {"set_tweak": "sender"}])),
        ("room", OwnRule(ROOM, ["notify", {"set_tweak": "room"}])),
        ("content", OwnRule("c", ["notify", {"set_tweak": "content"}], pattern="cake")),
        ("override", OwnRule("o", ["notify", {"set_tweak": "override"}], conditions=[])),
    ):
        rules = put_rule(rules, kind, rule)
        outcome = CompiledRules(rules, DEFAULTS).evaluate(facts({"body": "cake"}), Reader(BOB))
        order += outcome.tweaks
    assert order == ["underride", "sender", "room", "content", "override"]


def test_the_master_rule_beats_own_rules() -> None:
    rules = put_rule(NO_CHANGES, "override", OwnRule("o", ["notify"], conditions=[]))
    rules = set_enabled(rules, DEFAULTS, "override", ".m.rule.master", True)
    assert evaluate_user(facts({}), BOB, CompiledRules(rules, DEFAULTS), None) == NOTHING


def test_a_muted_room_still_tells_of_mentions() -> None:
    rules = CompiledRules(put_rule(NO_CHANGES, "room", OwnRule(ROOM, [])), DEFAULTS)
    assert evaluate_user(facts({"body": "x"}), BOB, rules, None) == NOTHING
    mention = facts({"m.mentions": {"user_ids": [BOB]}})
    assert evaluate_user(mention, BOB, rules, None).highlight


def test_ignored_senders_notify_nobody_who_ignores_them() -> None:
    about = facts({"body": "x"}, ignored_by={BOB})
    assert evaluate_user(about, BOB, compiled_defaults(DEFAULTS), None) == NOTHING
    assert evaluate_user(about, CAROL, compiled_defaults(DEFAULTS), None).notify


@pytest.mark.parametrize(
    ("actions", "highlight"),
    [
        (["notify", {"set_tweak": "highlight"}], True),
        (["notify", {"set_tweak": "highlight", "value": True}], True),
        (["notify", {"set_tweak": "highlight", "value": False}], False),
        (["notify"], False),
        ([{"set_tweak": "highlight"}], False),
        (["dont_notify", {"set_tweak": "highlight"}], False),
    ],
)
def test_highlights(actions: list[Any], highlight: bool) -> None:
    assert outcome_of(actions).highlight is highlight
    assert outcome_of(actions).notify is ("notify" in actions)


def test_equal_rule_sets_are_one_object() -> None:
    one = put_rule(NO_CHANGES, "room", OwnRule(ROOM, []))
    other = put_rule(NO_CHANGES, "room", OwnRule(ROOM, []))
    assert compiled_rules(encode_rules(one), DEFAULTS) is compiled_rules(
        encode_rules(other), DEFAULTS
    )


def test_types_are_not_remembered_without_bound() -> None:
    rules = CompiledRules(NO_CHANGES, DEFAULTS)
    for number in range(1000):
        assert rules.evaluate(facts({}, f"type{number}"), NOBODY) == NOTHING
    assert len(rules._by_type) < 100


def interpret(served: JsonObject, about: PushFacts, reader: Reader) -> tuple[bool, bool]:
    """What a client would make of the rules it is served: notify, highlight."""
    for kind in KINDS:
        for rule in served.get(kind, []):
            if rule["enabled"] and rule_matches(kind, rule, about, reader):
                highlights = [
                    action.get("value", True)
                    for action in rule["actions"]
                    if isinstance(action, dict) and action["set_tweak"] == "highlight"
                ]
                notify = "notify" in rule["actions"]
                return notify, notify and highlights[-1:] == [True]
    return False, False


def rule_matches(kind: str, rule: JsonObject, about: PushFacts, reader: Reader) -> bool:
    if rule["rule_id"] in (
        ".m.rule.contains_display_name",
        ".m.rule.contains_user_name",
        ".m.rule.roomnotif",
    ) and ("m.mentions" in about.content):
        return False
    if kind == "room":
        return bool(rule["rule_id"] == about.room_id)
    if kind == "sender":
        return bool(rule["rule_id"] == about.sender)
    if kind == "content":
        return plain_words(rule["pattern"], about)
    return all(plain_condition(condition, about, reader) for condition in rule["conditions"])


def plain_words(pattern: str, about: PushFacts) -> bool:
    body = about.content.get("body")
    if not isinstance(body, str):
        return False
    glob = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.I | re.S)
    words = [-1, *(i for i, letter in enumerate(body) if letter not in WORD), len(body)]
    places = sorted(
        {place + shift for place in words for shift in (0, 1)} & set(range(len(body) + 1))
    )
    return any(glob.fullmatch(body, i, j) for i in places for j in places if i <= j)


WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"


def plain_condition(condition: JsonObject, about: PushFacts, reader: Reader) -> bool:
    value: Any = about.properties
    for name in split_path(str(condition.get("key", ""))):
        value = value.get(name) if isinstance(value, dict) else None
    if condition["kind"] == "event_match":
        if condition["key"] == "content.body":
            return plain_words(condition["pattern"], about)
        pattern = re.escape(condition["pattern"]).replace(r"\*", ".*")
        return isinstance(value, str) and bool(re.fullmatch(pattern, value, re.IGNORECASE))
    if condition["kind"] == "event_property_is":
        return type(value) is type(condition["value"]) and value == condition["value"]
    if condition["kind"] == "event_property_contains":
        return isinstance(value, list) and condition["value"] in value
    if condition["kind"] == "contains_display_name":
        return bool(reader.display_name) and plain_words(str(reader.display_name), about)
    if condition["kind"] == "room_member_count":
        return about.room.member_count == int(condition["is"])
    if condition["kind"] == "sender_notification_permission":
        return about.room.sender_power_level >= about.room.notification_levels.get("room", 50)
    if condition["kind"] == "io.element.msc4306.thread_subscription":
        return about.thread_root is not None and condition["subscribed"] is reader.subscribed
    return False


USERS = [f"@{name}:b.c" for name in ("ann", "ben", "eve", "Ann2", "sßi", "zoe")]
NAMES = dict(zip(USERS, ["Ann", None, "", "ann b", "Sſİ", "zo"], strict=True))
bodies = st.lists(
    st.sampled_from(["ann", "ANN", "b", "Sſİ", "ssi", "cake", "zo", "@room", "-", "ann2"]),
    max_size=4,
).map(" ".join)
contents = st.fixed_dictionaries(
    {},
    optional={
        "body": bodies | st.integers(0, 1),
        "msgtype": st.sampled_from(["m.text", "m.notice"]),
        "membership": st.sampled_from(["invite", "join"]),
        "m.mentions": st.fixed_dictionaries(
            {},
            optional={
                "user_ids": st.lists(st.sampled_from([*USERS, "@far:away"]), max_size=3),
                "room": st.sampled_from([True, False, "true"]),
            },
        ),
        "m.relates_to": st.just({"rel_type": "m.replace"}),
    },
)
own_conditions = st.sampled_from(
    [
        {"kind": "contains_display_name"},
        {"kind": "event_match", "key": "content.body", "pattern": "cake"},
        {"kind": "event_match", "key": "type", "pattern": "m.room.m*"},
        {"kind": "event_match", "key": "state_key", "pattern": "@ben:b.c"},
        {"kind": "event_property_is", "key": "type", "value": "m.room.topic"},
        {"kind": "room_member_count", "is": "2"},
        {"kind": "unheard_of"},
    ]
)
own_rules = st.builds(
    OwnRule,
    rule_id=st.sampled_from(["a", "b", ROOM, *USERS]),
    actions=st.sampled_from([[], ["notify"], ["notify", HIGHLIGHT]]),
    enabled=st.booleans(),
    conditions=st.lists(own_conditions, max_size=2),
    pattern=st.sampled_from(["cake", "a*", "?nn"]),
)


@st.composite
def rule_sets(draw: st.DrawFn) -> UserRules:
    rules = NO_CHANGES
    for kind in draw(
        st.lists(st.sampled_from([k for k in KINDS if k != "postcontent"]), max_size=4)
    ):
        rules = put_rule(rules, kind, draw(own_rules))
    for rule in draw(st.lists(st.sampled_from(EVERYTHING), max_size=2)):
        rules = set_enabled(rules, EVERYTHING, rule.kind, rule.rule_id, draw(st.booleans()))
    return rules


@st.composite
def events(draw: st.DrawFn) -> PushFacts:
    made = event(
        draw(contents),
        draw(
            st.sampled_from(["m.room.message", "m.room.member", "m.room.topic", "m.room.encrypted"])
        ),
        draw(st.sampled_from([None, "", *USERS])),
    )
    some_users = st.sets(st.sampled_from([*USERS, "@far:away"]), max_size=2)
    return PushFacts(
        msgspec.structs.replace(made, sender=draw(st.sampled_from([*USERS, ALICE]))),
        RoomFacts(draw(st.integers(2, 3)), draw(st.sampled_from([0, 50]))),
        draw(st.sampled_from([None, "$root"])),
        draw(some_users),
        draw(some_users),
    )


@settings(max_examples=120, deadline=None)
@given(
    st.lists(rule_sets(), min_size=6, max_size=6), events(), st.sampled_from([DEFAULTS, EVERYTHING])
)
def test_the_room_at_once_equals_each_member_and_a_plain_interpreter(
    sets: list[UserRules], about: PushFacts, legacy: bool
) -> None:
    defaults = EVERYTHING if legacy else DEFAULTS
    readers = RoomReaders(compiled_defaults(defaults), NAMES.get)
    for user_id, rules in zip(USERS, sets, strict=True):
        compiled = compiled_rules(encode_rules(rules), defaults)
        readers.put(user_id, compiled_defaults(defaults) if rules == NO_CHANGES else compiled)
    together = readers.evaluate_room(about)
    for user_id, rules in zip(USERS, sets, strict=True):
        assert together.of(user_id) == readers.evaluate(about, user_id)
        expected = (False, False)
        if user_id != about.sender and user_id not in about.ignored_by:
            reader = Reader(user_id, NAMES[user_id], user_id in about.subscribers)
            expected = interpret(ruleset(rules, defaults, user_id), about, reader)
        assert (together.of(user_id).notify, together.of(user_id).highlight) == expected
    assert all(outcome != together.default for outcome in together.differences.values())
    assert set(together.differences) <= set(USERS)


@pytest.mark.parametrize(
    ("about", "concerned"),
    [
        (facts({"m.mentions": {"user_ids": [BOB, "@far:away"]}}), {BOB}),
        (facts({"membership": "invite"}, "m.room.member", state_key=BOB), {BOB}),
        (facts({"body": "x"}, thread_root="$root", subscribers={BOB, "@far:away"}), {BOB}),
        (facts({"body": "hey bobby"}), {BOB}),
        (facts({"body": "hey BOB"}), {BOB}),
        (facts({"body": "x"}, ignored_by={BOB, "@far:away"}), {BOB}),
        (facts({"body": "x"}), set()),
    ],
)
def test_only_the_concerned_differ(about: PushFacts, concerned: set[str]) -> None:
    names = {BOB: "Bobby", CAROL: "Carol"}
    readers = RoomReaders(compiled_defaults(EVERYTHING), names.get)
    readers.put(BOB, compiled_defaults(EVERYTHING))
    readers.put(CAROL, compiled_defaults(EVERYTHING))
    together = readers.evaluate_room(about)
    assert set(together.differences) == concerned
    for user_id in (BOB, CAROL):
        assert together.of(user_id) == readers.evaluate(about, user_id)


def test_the_sender_is_never_notified() -> None:
    readers = RoomReaders(compiled_defaults(DEFAULTS), NAMES.get)
    readers.put(ALICE, compiled_defaults(DEFAULTS))
    assert readers.evaluate_room(facts({"body": "x"})).of(ALICE) == NOTHING


def test_members_come_and_go() -> None:
    default = compiled_defaults(DEFAULTS)
    muted = CompiledRules(put_rule(NO_CHANGES, "room", OwnRule(ROOM, [])), DEFAULTS)
    readers = RoomReaders(default, NAMES.get)
    readers.put(BOB, muted)
    readers.put(CAROL, default)
    about = facts({"body": "x"})
    assert readers.evaluate_room(about).differences == {BOB: NOTHING}
    assert len(readers) == 2
    readers.put(BOB, default)
    assert readers.evaluate_room(about).differences == {}
    readers.put(BOB, muted)
    readers.remove(BOB)
    readers.remove("@nobody:b.c")
    assert readers.evaluate_room(about).differences == {}
    assert BOB not in readers
