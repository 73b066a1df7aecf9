"""What is left of a user's push rules in one room, so that members with the same wishes share it.

Rules of this file: two sets are equal in a room if no event of it can tell them apart by what is
looked at here. Who muted a hundred other rooms is on the same set as who changed nothing.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import msgspec

from homeserver.json_types import JsonObject
from homeserver.protocol.globs import folded
from homeserver.protocol.push_rules import (
    UNCHANGED,
    OwnRule,
    UserRules,
    decode_rules,
    encode_rules,
)

_GLOB = frozenset("*?")
_OUTCOME_BITS = 3

DEFAULT_SET = 0
"""The number of the set of who changed nothing."""


def set_number(stored: bytes) -> int:
    """The name of a rule set in what is stored of an event: 62 bits, the lowest two are free."""
    if stored == UNCHANGED:
        return DEFAULT_SET
    number = int.from_bytes(blake2b(stored, digest_size=8).digest(), signed=True)
    return number & ~_OUTCOME_BITS


@lru_cache(maxsize=16384)
def rules_in_room(stored: bytes, room_id: str) -> bytes:
    """Of the rules that a user changed (`encode_rules`) those that can matter in a room."""
    rules = decode_rules(stored)
    return encode_rules(
        msgspec.structs.replace(
            rules,
            override=_conditional(rules.override, room_id),
            underride=_conditional(rules.underride, room_id),
            content=tuple(_unnamed(rule) for rule in rules.content if rule.enabled),
            room=_of_room(rules, room_id),
            sender=tuple(rule for rule in rules.sender if rule.enabled),
        )
    )


@lru_cache(maxsize=16384)
def number_in_room(stored: bytes, room_id: str) -> int:
    """The number of the set that a user with these rules is on in a room."""
    return set_number(stored if stored == UNCHANGED else rules_in_room(stored, room_id))


def _of_room(rules: UserRules, room_id: str) -> tuple[OwnRule, ...]:
    return tuple(rule for rule in rules.room if rule.enabled and rule.rule_id == room_id)


def _conditional(rules: tuple[OwnRule, ...], room_id: str) -> tuple[OwnRule, ...]:
    return tuple(
        _unnamed(rule)
        for rule in rules
        if rule.enabled and not any(_is_of_other(c, room_id) for c in rule.conditions or ())
    )


def _unnamed(rule: OwnRule) -> OwnRule:
    return msgspec.structs.replace(rule, rule_id="")


def _is_of_other(condition: JsonObject, room_id: str) -> bool:
    """Whether this condition says that the rule is about one room, and not this one."""
    pattern = condition.get("pattern")
    return (
        condition.get("kind") == "event_match"
        and condition.get("key") == "room_id"
        and isinstance(pattern, str)
        and _GLOB.isdisjoint(pattern)
        and folded(pattern) != folded(room_id)
    )
