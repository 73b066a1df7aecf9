"""The server-default push rules, exactly as the specification lists them, in its order.

Rules of this file: data only; `Own` stands where the specification has "[the user's Matrix ID]".
Beyond the specification: the poll rules of MSC3930, the thread rules of MSC4306 (in a kind of
their own between `content` and `room`), and the mention rules that specification 1.17 removed.
client-server-api#predefined-rules
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Any

from msgspec import Struct

from homeserver.json_types import JsonObject

KINDS = ("override", "content", "postcontent", "room", "sender", "underride")
"""In the order in which they are checked."""

OWN_KINDS = ("override", "content", "room", "sender", "underride")
"""The kinds that users have rules of."""

MASTER = ".m.rule.master"


class Own(Enum):
    """Stands in a default rule for what differs from user to user."""

    USER_ID = "user id"
    LOCALPART = "localpart"


class DefaultRule(Struct, frozen=True, eq=False):
    kind: str
    rule_id: str
    conditions: tuple[JsonObject, ...]
    actions: tuple[Any, ...]
    enabled: bool = True
    pattern: Own | None = None
    not_with_mentions: bool = False
    """It was disabled for events that have `m.mentions`, the mentions by intention."""


Defaults = tuple[DefaultRule, ...]


def _match(key: str, pattern: Any) -> JsonObject:
    return {"kind": "event_match", "key": key, "pattern": pattern}


_HIGHLIGHT = {"set_tweak": "highlight"}
_NOTIFY = ("notify",)
_NOTIFY_SOUND = ("notify", {"set_tweak": "sound", "value": "default"})
_TWO_MEMBERS = {"kind": "room_member_count", "is": "2"}
_POLL = "org.matrix.msc3381.poll"
_POLL_RULE = ".org.matrix.msc3930.rule.poll"
_THREAD_RULE = ".io.element.msc4306.rule"
_SENDER_MAY_NOTIFY_ROOM = {"kind": "sender_notification_permission", "key": "room"}


def _override(rule_id: str, actions: tuple[Any, ...], *conditions: JsonObject) -> DefaultRule:
    return DefaultRule("override", rule_id, conditions, actions)


def _underride(rule_id: str, actions: tuple[Any, ...], *conditions: JsonObject) -> DefaultRule:
    return DefaultRule("underride", rule_id, conditions, actions)


_OVERRIDES = (
    DefaultRule("override", MASTER, (), (), enabled=False),
    _override(".m.rule.suppress_notices", (), _match("content.msgtype", "m.notice")),
    _override(
        ".m.rule.invite_for_me",
        _NOTIFY_SOUND,
        _match("type", "m.room.member"),
        _match("content.membership", "invite"),
        _match("state_key", Own.USER_ID),
    ),
    _override(".m.rule.member_event", (), _match("type", "m.room.member")),
    _override(
        ".m.rule.is_user_mention",
        (*_NOTIFY_SOUND, _HIGHLIGHT),
        {
            "kind": "event_property_contains",
            "key": r"content.m\.mentions.user_ids",
            "value": Own.USER_ID,
        },
    ),
    _override(
        ".m.rule.is_room_mention",
        ("notify", _HIGHLIGHT),
        {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
        _SENDER_MAY_NOTIFY_ROOM,
    ),
    _override(
        ".m.rule.tombstone",
        ("notify", _HIGHLIGHT),
        _match("type", "m.room.tombstone"),
        _match("state_key", ""),
    ),
    _override(".m.rule.reaction", (), _match("type", "m.reaction")),
    _override(
        ".m.rule.room.server_acl",
        (),
        _match("type", "m.room.server_acl"),
        _match("state_key", ""),
    ),
    _override(
        ".m.rule.suppress_edits",
        (),
        {
            "kind": "event_property_is",
            "key": r"content.m\.relates_to.rel_type",
            "value": "m.replace",
        },
    ),
)

_UNDERRIDES = (
    _underride(
        ".m.rule.call",
        ("notify", {"set_tweak": "sound", "value": "ring"}),
        _match("type", "m.call.invite"),
    ),
    _underride(
        ".m.rule.encrypted_room_one_to_one",
        _NOTIFY_SOUND,
        _TWO_MEMBERS,
        _match("type", "m.room.encrypted"),
    ),
    _underride(
        ".m.rule.room_one_to_one", _NOTIFY_SOUND, _TWO_MEMBERS, _match("type", "m.room.message")
    ),
    _underride(".m.rule.message", _NOTIFY, _match("type", "m.room.message")),
    _underride(".m.rule.encrypted", _NOTIFY, _match("type", "m.room.encrypted")),
)

_POLLS = (
    _override(f"{_POLL_RULE}_response", (), _match("type", f"{_POLL}.response")),
    _underride(
        f"{_POLL_RULE}_start_one_to_one",
        _NOTIFY_SOUND,
        _TWO_MEMBERS,
        _match("type", f"{_POLL}.start"),
    ),
    _underride(f"{_POLL_RULE}_start", _NOTIFY, _match("type", f"{_POLL}.start")),
    _underride(
        f"{_POLL_RULE}_end_one_to_one", _NOTIFY_SOUND, _TWO_MEMBERS, _match("type", f"{_POLL}.end")
    ),
    _underride(f"{_POLL_RULE}_end", _NOTIFY, _match("type", f"{_POLL}.end")),
)


def _thread_rule(name: str, actions: tuple[Any, ...], subscribed: bool) -> DefaultRule:
    condition = {"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}
    return DefaultRule("postcontent", f"{_THREAD_RULE}.{name}", (condition,), actions)


_THREADS = (
    _thread_rule("unsubscribed_thread", (), subscribed=False),
    _thread_rule("subscribed_thread", _NOTIFY_SOUND, subscribed=True),
)

_LEGACY_MENTIONS = (
    DefaultRule(
        "override",
        ".m.rule.contains_display_name",
        ({"kind": "contains_display_name"},),
        (*_NOTIFY_SOUND, _HIGHLIGHT),
        not_with_mentions=True,
    ),
    DefaultRule(
        "override",
        ".m.rule.roomnotif",
        (_match("content.body", "@room"), _SENDER_MAY_NOTIFY_ROOM),
        ("notify", _HIGHLIGHT),
        not_with_mentions=True,
    ),
    DefaultRule(
        "content",
        ".m.rule.contains_user_name",
        (),
        (*_NOTIFY_SOUND, _HIGHLIGHT),
        pattern=Own.LOCALPART,
        not_with_mentions=True,
    ),
)

_AFTER = {
    ".m.rule.is_user_mention": ".m.rule.contains_display_name",
    ".m.rule.is_room_mention": ".m.rule.roomnotif",
}


@lru_cache
def default_rules(
    *, polls: bool = True, thread_subscriptions: bool = False, legacy_mentions: bool = False
) -> Defaults:
    """The server-default rules, the most important first; one tuple for the same choice."""
    legacy = {rule.rule_id: rule for rule in _LEGACY_MENTIONS if legacy_mentions}
    rules: list[DefaultRule] = []
    for rule in (*_OVERRIDES, *_UNDERRIDES):
        rules.append(rule)
        if _AFTER.get(rule.rule_id) in legacy:
            rules.append(legacy.pop(_AFTER[rule.rule_id]))
    rules += legacy.values()
    rules += _POLLS if polls else ()
    rules += _THREADS if thread_subscriptions else ()
    return tuple(sorted(rules, key=lambda rule: KINDS.index(rule.kind)))
