"""The conditions of push rules, compiled to functions of (what is known of the event, the reader).

Rules of this file: a condition that isn't understood never matches ("Unrecognised conditions MUST
NOT match any events"); the reader is only looked at by the conditions that are about the reader,
and what these say of `NOBODY` is so of whoever isn't mentioned, named, invited or subscribed.
client-server-api#conditions-1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct, field

from homeserver.json_types import JsonObject
from homeserver.protocol.event_fields import split_path
from homeserver.protocol.events import Event
from homeserver.protocol.globs import folded, whole_glob, word, word_glob
from homeserver.protocol.identifiers import localpart_of
from homeserver.protocol.push_defaults import Own

_MISSING: Any = object()
_DEFAULT_NOTIFICATION_LEVEL = 50
_COUNT = re.compile(r"(==|<|>|>=|<=)?([0-9]{1,15})")
_MAX_INTEGER = 2**53 - 1


class Reader(Struct, frozen=True):
    """The user whose rules are asked; `user_id` None is nobody in particular.

    `display_name` is the one in the room. `subscribed`: to the thread of the event (MSC4306).
    """

    user_id: str | None
    display_name: str | None = None
    subscribed: bool = False


NOBODY = Reader(None)


class RoomFacts(Struct, frozen=True):
    """What the conditions ask about the room, by its state at the event.

    `notification_levels` is `content.notifications` of the power levels, as integers.
    """

    member_count: int
    sender_power_level: float = 0
    notification_levels: Mapping[str, int] = field(default_factory=dict)


class PushFacts:
    """What the conditions ask about an event, the same for every reader; looked up once.

    `thread_root` is the root of the thread that the event is in, `subscribers` are the readers who
    are subscribed to it (MSC4306), `ignored_by` the readers who ignore the sender.
    """

    __slots__ = (
        "body",
        "content",
        "folded_body",
        "ignored_by",
        "mentioned",
        "properties",
        "room",
        "room_id",
        "sender",
        "subscribers",
        "thread_root",
        "type",
    )

    def __init__(
        self,
        event: Event,
        room: RoomFacts,
        thread_root: str | None = None,
        subscribers: Collection[str] = (),
        ignored_by: Collection[str] = (),
    ) -> None:
        self.type = event.type
        self.sender = event.sender
        self.room_id = event.room_id
        self.content = event.content
        self.properties = event_properties(event)
        body = event.content.get("body")
        self.body = body if isinstance(body, str) else None
        self.folded_body = None if self.body is None else folded(self.body)
        self.mentioned = mentioned_users(event.content)
        self.room = room
        self.thread_root = thread_root
        self.subscribers = subscribers
        self.ignored_by = ignored_by


Condition = Callable[[PushFacts, Reader], bool]


def mentioned_users(content: JsonObject) -> frozenset[str]:
    """The user ids of `m.mentions`."""
    mentions = content.get("m.mentions")
    user_ids = mentions.get("user_ids") if isinstance(mentions, dict) else None
    if not isinstance(user_ids, list):
        return frozenset()
    return frozenset(user_id for user_id in user_ids if isinstance(user_id, str))


def event_properties(event: Event) -> JsonObject:
    """The properties that conditions name by their paths: those of the client form."""
    properties: JsonObject = {
        "type": event.type,
        "sender": event.sender,
        "room_id": event.room_id,
        "event_id": event.event_id,
        "content": event.content,
        "origin_server_ts": event.origin_server_ts,
    }
    if event.state_key is not None:
        properties["state_key"] = event.state_key
    if event.redacts is not None:
        properties["redacts"] = event.redacts
    return properties


def compile_condition(condition: JsonObject) -> Condition:
    """The function that decides it; `never` if something about the condition is wrong."""
    compiler = _COMPILERS.get(condition["kind"]) if isinstance(condition.get("kind"), str) else None
    return compiler(condition) if compiler else never


def never(facts: PushFacts, reader: Reader) -> bool:
    return False


def type_test(condition: JsonObject) -> Callable[[str], bool] | None:
    """For a condition about the event's type alone: the test of a type. Otherwise None."""
    if condition.get("key") != "type":
        return None
    kind, pattern, value = (condition.get(key) for key in ("kind", "pattern", "value"))
    if kind == "event_match" and isinstance(pattern, str):
        return whole_glob(pattern).matches
    if kind == "event_property_is":
        return lambda event_type: bool(event_type == value)
    return None


def reads_names(condition: JsonObject) -> bool:
    """Does it look for the reader's name in the body, so that any reader may be concerned?"""
    return condition.get("kind") == "contains_display_name" or (
        condition.get("key") == "content.body" and isinstance(condition.get("pattern"), Own)
    )


def _event_match(condition: JsonObject) -> Condition:
    key, pattern = condition.get("key"), condition.get("pattern")
    if not isinstance(key, str):
        return never
    if pattern is Own.USER_ID and key == "state_key":
        return _state_key_is_reader
    if pattern is Own.LOCALPART and key == "content.body":
        return _body_has_localpart
    if not isinstance(pattern, str):
        return never
    # "As a special case, if `key` is `content.body`, then `pattern` must instead match any
    # substring of the value of the property which starts and ends at a word boundary."
    if split_path(key) == ("content", "body"):
        in_words = word_glob(pattern).matches
        return lambda facts, _reader: (
            facts.body is not None and in_words(facts.body, facts.folded_body)
        )
    get = _getter(key)
    # "The match is performed case-insensitively, and must match the entire value"
    is_whole = whole_glob(pattern).matches

    def matches(facts: PushFacts, reader: Reader) -> bool:
        # "If the property [...] is completely absent from the event, or does not have a string
        # value, then the condition will not match, even if `pattern` is `*`."
        value = get(facts.properties)
        return isinstance(value, str) and is_whole(value)

    return matches


def _state_key_is_reader(facts: PushFacts, reader: Reader) -> bool:
    return reader.user_id is not None and facts.properties.get("state_key") == reader.user_id


def _body_has_localpart(facts: PushFacts, reader: Reader) -> bool:
    return reader.user_id is not None and _body_has(facts, localpart_of(reader.user_id))


def _event_property_is(condition: JsonObject) -> Condition:
    key, value = condition.get("key"), condition.get("value", _MISSING)
    if not isinstance(key, str) or not _is_simple(value):
        return never
    get = _getter(key)
    return lambda facts, _reader: _is_same(get(facts.properties), value)


def _event_property_contains(condition: JsonObject) -> Condition:
    key, value = condition.get("key"), condition.get("value", _MISSING)
    if not isinstance(key, str):
        return never
    if value is Own.USER_ID and key == r"content.m\.mentions.user_ids":
        return lambda facts, reader: reader.user_id in facts.mentioned
    if not _is_simple(value):
        return never
    get = _getter(key)

    def contains(facts: PushFacts, reader: Reader) -> bool:
        values = get(facts.properties)
        return isinstance(values, list) and any(_is_same(item, value) for item in values)

    return contains


def _contains_display_name(condition: JsonObject) -> Condition:
    return lambda facts, reader: bool(reader.display_name) and _body_has(facts, reader.display_name)


def _body_has(facts: PushFacts, name: str | None) -> bool:
    """Whether the name stands in the body, between word boundaries, in any case."""
    return bool(name and facts.body) and word(str(name)).matches(str(facts.body), facts.folded_body)


def _room_member_count(condition: JsonObject) -> Condition:
    wanted = condition.get("is")
    parsed = _COUNT.fullmatch(wanted) if isinstance(wanted, str) else None
    if parsed is None:
        return never
    # "If no prefix is present", it says, the parameter means that the counts are equal.
    sign, count = parsed[1] or "==", int(parsed[2])
    checks: dict[str, Condition] = {
        "==": lambda facts, _reader: facts.room.member_count == count,
        "<": lambda facts, _reader: facts.room.member_count < count,
        ">": lambda facts, _reader: facts.room.member_count > count,
        ">=": lambda facts, _reader: facts.room.member_count >= count,
        "<=": lambda facts, _reader: facts.room.member_count <= count,
    }
    return checks[sign]


def _sender_notification_permission(condition: JsonObject) -> Condition:
    key = condition.get("key")
    if not isinstance(key, str):
        return never
    return lambda facts, _reader: (
        facts.room.sender_power_level
        >= facts.room.notification_levels.get(key, _DEFAULT_NOTIFICATION_LEVEL)
    )


def _thread_subscription(condition: JsonObject) -> Condition:
    """MSC4306: the event is part of a thread, and the reader is (or is not) subscribed to it."""
    subscribed = condition.get("subscribed")
    if not isinstance(subscribed, bool):
        return never
    return lambda facts, reader: facts.thread_root is not None and reader.subscribed is subscribed


_COMPILERS: Mapping[str, Callable[[JsonObject], Condition]] = {
    "event_match": _event_match,
    "event_property_is": _event_property_is,
    "event_property_contains": _event_property_contains,
    "contains_display_name": _contains_display_name,
    "room_member_count": _room_member_count,
    "sender_notification_permission": _sender_notification_permission,
    "io.element.msc4306.thread_subscription": _thread_subscription,
}


def _getter(key: str) -> Callable[[JsonObject], Any]:
    """Follows a dot-separated path; `_MISSING` where it leads nowhere."""
    names = split_path(key)
    if len(names) == 1:
        name = names[0]
        return lambda properties: properties.get(name, _MISSING)

    def get(properties: JsonObject) -> Any:
        value: Any = properties
        for name in names:
            if not isinstance(value, dict):
                return _MISSING
            value = value.get(name, _MISSING)
        return value

    return get


def _is_simple(value: Any) -> bool:
    """ "strings, integers in the range of `[-(2**53)+1, (2**53)-1]`, booleans, and `null`" """
    if isinstance(value, int) and not isinstance(value, bool):
        return -_MAX_INTEGER <= value <= _MAX_INTEGER
    return value is None or isinstance(value, str | bool)


def _is_same(value: Any, wanted: Any) -> bool:
    """Exactly equal, of the same JSON type: `1` is neither `true` nor `1.0`."""
    return type(value) is type(wanted) and bool(value == wanted)
