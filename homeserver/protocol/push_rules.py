"""Push rules as users see and change them: their own rules, and what they changed of the defaults.

Rules of this file: values in, values out; a user who changed nothing is `NO_CHANGES`, and a change
that is taken back leaves nothing behind. The errors are what the endpoints answer.
client-server-api#push-rules-api
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from homeserver.errors import BadJson, InvalidParam, MissingParam, NotFound, UnknownError
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import localpart_of
from homeserver.protocol.push_defaults import KINDS, MASTER, OWN_KINDS, DefaultRule, Defaults, Own

MAX_PATTERN = 512
"""Characters of a pattern: our own limit, so that no rule can make each event slow."""

_HISTORICAL_ACTIONS = ("dont_notify", "coalesce")


class OwnRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule that the user made. The place in its list is its priority."""

    rule_id: str
    actions: list[Any]
    enabled: bool = True
    conditions: list[JsonObject] | None = None
    pattern: str | None = None


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a user changed of a default rule; None is unchanged."""

    enabled: bool | None = None
    actions: list[Any] | None = None


class UserRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is stored per user. Rules of a kind: the most important first."""

    override: tuple[OwnRule, ...] = ()
    content: tuple[OwnRule, ...] = ()
    room: tuple[OwnRule, ...] = ()
    sender: tuple[OwnRule, ...] = ()
    underride: tuple[OwnRule, ...] = ()
    changed: dict[str, Changed] = {}

    def of(self, kind: str) -> tuple[OwnRule, ...]:
        """The user's own rules of a kind."""
        rules: tuple[OwnRule, ...] = getattr(self, kind) if kind in OWN_KINDS else ()
        return rules


NO_CHANGES = UserRules()

_decoder = msgspec.json.Decoder(UserRules)


def decode_rules(stored: bytes) -> UserRules:
    return _decoder.decode(stored)


def encode_rules(rules: UserRules) -> bytes:
    """The stored form. Equal rules have equal bytes, so they can be compiled once."""
    return msgspec.json.encode(rules, order="deterministic")


UNCHANGED: Final = encode_rules(NO_CHANGES)
"""What is stored of a user who changed nothing (or took everything back)."""


def parse_rule(kind: str, rule_id: str, body: JsonObject) -> OwnRule:
    """The rule that a client puts. Raises InvalidParam, MissingParam or BadJson."""
    if kind not in OWN_KINDS:
        raise InvalidParam(f"Unknown kind of push rule: {kind!r}")
    # "If the string starts with a dot ("."), the request MUST be rejected as this is reserved for
    # server-default rules. Slashes ("/") and backslashes ("\\") are also not allowed."
    if not rule_id or rule_id.startswith("."):
        raise InvalidParam("The rule id may not be empty or start with a dot")
    if "/" in rule_id or "\\" in rule_id:
        raise InvalidParam("The rule id may not contain slashes or backslashes")
    if "actions" not in body:
        raise MissingParam("The push rule has no `actions`")
    return OwnRule(
        rule_id,
        parse_actions(body["actions"]),
        conditions=_parse_conditions(body) if kind in ("override", "underride") else None,
        pattern=_parse_pattern(body) if kind == "content" else None,
    )


def parse_actions(actions: Any) -> list[Any]:
    """The actions of a rule, without the historical ones. Raises BadJson or InvalidParam.

    "Clients and homeservers MUST ignore these actions, for instance, by stripping them from
    actions arrays they encounter." client-server-api#historical-actions
    """
    if not isinstance(actions, list):
        raise BadJson("`actions` must be an array")
    for action in actions:
        is_tweak = isinstance(action, dict) and isinstance(action.get("set_tweak"), str)
        if not is_tweak and action not in ("notify", *_HISTORICAL_ACTIONS):
            raise InvalidParam("An action must be `notify` or an object with a `set_tweak`")
    return [action for action in actions if action not in _HISTORICAL_ACTIONS]


def _parse_conditions(body: JsonObject) -> list[JsonObject]:
    conditions = body.get("conditions", [])
    if not isinstance(conditions, list):
        raise BadJson("`conditions` must be an array")
    for condition in conditions:
        if not isinstance(condition, dict) or not isinstance(condition.get("kind"), str):
            raise BadJson("A condition must be an object with a `kind`")
        _check_pattern(condition.get("pattern"))
    return conditions


def _parse_pattern(body: JsonObject) -> str:
    if "pattern" not in body:
        raise MissingParam("A content rule must have a `pattern`")
    pattern = body["pattern"]
    if not isinstance(pattern, str):
        raise BadJson("`pattern` must be a string")
    _check_pattern(pattern)
    return pattern


def _check_pattern(pattern: Any) -> None:
    if isinstance(pattern, str) and len(pattern) > MAX_PATTERN:
        raise InvalidParam(f"A pattern may have at most {MAX_PATTERN} characters")


def put_rule(
    rules: UserRules,
    kind: str,
    rule: OwnRule,
    before: str | None = None,
    after: str | None = None,
) -> UserRules:
    """Adds a rule, or changes the one that has its id. Raises UnknownError about `before`/`after`.

    client-server-api#put_matrixclientv3pushrulesglobalkindruleid
    """
    own = rules.of(kind)
    place = _index(own, rule.rule_id)
    if place is not None:
        rule = msgspec.structs.replace(rule, enabled=own[place].enabled)
        own = own[:place] + own[place + 1 :]
    # "If both `after` and `before` are provided, the new or updated rule must be the next most
    # important rule with respect to the rule identified by `before`."
    if before is not None:
        place = _relative(own, before)
    elif after is not None:
        place = _relative(own, after) + 1
    # "If neither `after` nor `before` are provided and the rule is created, it should be added as
    # the most important user defined rule among rules of the same kind."
    place = place or 0
    return _with_kind(rules, kind, (*own[:place], rule, *own[place:]))


def delete_rule(rules: UserRules, kind: str, rule_id: str) -> UserRules:
    """Raises NotFound if the user has no such rule; default rules cannot be deleted."""
    own = rules.of(kind)
    place = _index(own, rule_id)
    if place is None:
        raise _not_found()
    return _with_kind(rules, kind, own[:place] + own[place + 1 :])


def set_enabled(
    rules: UserRules, defaults: Iterable[DefaultRule], kind: str, rule_id: str, enabled: Any
) -> UserRules:
    """Enables or disables a rule of the user or a default one. Raises NotFound or BadJson."""
    if not isinstance(enabled, bool):
        raise BadJson("`enabled` must be true or false")
    default = find_default(defaults, kind, rule_id)
    if default is None:
        return _replace(rules, kind, rule_id, enabled=enabled)
    changed = rules.changed.get(rule_id, Changed())
    value = None if enabled == default.enabled else enabled
    return _with_changed(rules, rule_id, msgspec.structs.replace(changed, enabled=value))


def set_actions(
    rules: UserRules, defaults: Iterable[DefaultRule], kind: str, rule_id: str, actions: Any
) -> UserRules:
    """Sets the actions of a rule. Raises NotFound, BadJson or InvalidParam."""
    actions = parse_actions(actions)
    default = find_default(defaults, kind, rule_id)
    if default is None:
        return _replace(rules, kind, rule_id, actions=actions)
    changed = rules.changed.get(rule_id, Changed())
    value = None if actions == list(default.actions) else actions
    return _with_changed(rules, rule_id, msgspec.structs.replace(changed, actions=value))


def follow_upgrade(rules: UserRules, old_room_id: str, new_room_id: str) -> UserRules:
    """The rules that named the old room also name the new one.

    client-server-api#room-upgrades
    """
    room = list(rules.room)
    if _index(room, new_room_id) is None:
        room += [
            msgspec.structs.replace(rule, rule_id=new_room_id)
            for rule in rules.room
            if rule.rule_id == old_room_id
        ]
    override = rules.override
    for rule in rules.override:
        copy = _renamed(rule, old_room_id, new_room_id)
        if copy is not None and _index(override, copy.rule_id) is None:
            override = (*override, copy)
    return msgspec.structs.replace(rules, room=tuple(room), override=override)


def _renamed(rule: OwnRule, old_room_id: str, new_room_id: str) -> OwnRule | None:
    """A copy of an override rule that is about the old room, for the new one."""
    conditions = [
        {**condition, "pattern": new_room_id}
        if condition.get("key") == "room_id" and condition.get("pattern") == old_room_id
        else condition
        for condition in rule.conditions or ()
    ]
    if conditions == (rule.conditions or []):
        return None
    rule_id = (
        rule.rule_id.replace(old_room_id, new_room_id)
        if old_room_id in rule.rule_id
        else f"{rule.rule_id}_{new_room_id}"
    )
    return msgspec.structs.replace(rule, rule_id=rule_id, conditions=conditions)


def find_default(defaults: Iterable[DefaultRule], kind: str, rule_id: str) -> DefaultRule | None:
    for rule in defaults:
        if rule.rule_id == rule_id and rule.kind == kind:
            return rule
    return None


def get_rule(
    rules: UserRules, defaults: Iterable[DefaultRule], user_id: str, kind: str, rule_id: str
) -> JsonObject:
    """One rule as `GET` answers it. Raises NotFound."""
    own = rules.of(kind)
    place = _index(own, rule_id)
    if place is not None:
        return _own_json(own[place])
    default = find_default(defaults, kind, rule_id)
    if default is None:
        raise _not_found()
    return _default_json(default, rules.changed.get(rule_id, Changed()), user_id)


def ruleset(rules: UserRules, defaults: Sequence[DefaultRule], user_id: str) -> JsonObject:
    """The `global` ruleset: per kind all rules, the most important first.

    "[Server-default rules] operate at a lower priority than "user-defined rules", except for the
    `.m.rule.master` rule which has always a higher priority than any other rule."
    """
    result: JsonObject = {kind: [] for kind in OWN_KINDS}
    for kind in KINDS:
        of_kind = [rule for rule in defaults if rule.kind == kind]
        if not of_kind and kind not in result:
            continue
        served = [
            _default_json(rule, rules.changed.get(rule.rule_id, Changed()), user_id)
            for rule in of_kind
        ]
        master = 1 if of_kind and of_kind[0].rule_id == MASTER else 0
        own = [_own_json(rule) for rule in rules.of(kind)]
        result[kind] = served[:master] + own + served[master:]
    return result


def ruleset_json(rules: UserRules, defaults: Defaults, user_id: str) -> bytes:
    """`ruleset` as JSON; cheap for users who changed nothing."""
    if rules != NO_CHANGES:
        return msgspec.json.encode(ruleset(rules, defaults, user_id))
    return (
        _template(defaults)
        .replace(_USER_ID_IN_JSON, msgspec.json.encode(user_id))
        .replace(_LOCALPART_IN_JSON, msgspec.json.encode(localpart_of(user_id)))
    )


@lru_cache(maxsize=8)
def _template(defaults: Defaults) -> bytes:
    return msgspec.json.encode(ruleset(NO_CHANGES, defaults, _PLACEHOLDER))


_PLACEHOLDER = "@\0:\0"  # no user id has a NUL
_USER_ID_IN_JSON = msgspec.json.encode(_PLACEHOLDER)
_LOCALPART_IN_JSON = msgspec.json.encode("\0")


def _own_json(rule: OwnRule) -> JsonObject:
    served: JsonObject = {
        "rule_id": rule.rule_id,
        "default": False,
        "enabled": rule.enabled,
        "actions": rule.actions,
    }
    if rule.conditions is not None:
        served["conditions"] = rule.conditions
    if rule.pattern is not None:
        served["pattern"] = rule.pattern
    return served


def _default_json(rule: DefaultRule, changed: Changed, user_id: str) -> JsonObject:
    values = {Own.USER_ID: user_id, Own.LOCALPART: localpart_of(user_id)}
    served: JsonObject = {
        "rule_id": rule.rule_id,
        "default": True,
        "enabled": rule.enabled if changed.enabled is None else changed.enabled,
        "actions": list(rule.actions) if changed.actions is None else changed.actions,
    }
    if rule.pattern is not None:
        served["pattern"] = values[rule.pattern]
    else:
        served["conditions"] = [
            {key: values[v] if isinstance(v, Own) else v for key, v in condition.items()}
            for condition in rule.conditions
        ]
    return served


def _index(own: Sequence[OwnRule], rule_id: str) -> int | None:
    for place, rule in enumerate(own):
        if rule.rule_id == rule_id:
            return place
    return None


def _relative(own: Sequence[OwnRule], rule_id: str) -> int:
    place = _index(own, rule_id)
    if place is None:
        raise UnknownError(f"before/after rule not found: {rule_id}")
    return place


def _replace(rules: UserRules, kind: str, rule_id: str, **fields: Any) -> UserRules:
    own = rules.of(kind)
    place = _index(own, rule_id)
    if place is None:
        raise _not_found()
    rule = msgspec.structs.replace(own[place], **fields)
    return _with_kind(rules, kind, (*own[:place], rule, *own[place + 1 :]))


def _with_kind(rules: UserRules, kind: str, own: tuple[OwnRule, ...]) -> UserRules:
    return msgspec.structs.replace(rules, **{kind: own})


def _with_changed(rules: UserRules, rule_id: str, changed: Changed) -> UserRules:
    others = {key: value for key, value in rules.changed.items() if key != rule_id}
    if changed != Changed():
        others[rule_id] = changed
    return msgspec.structs.replace(rules, changed=others)


def _not_found() -> NotFound:
    return NotFound("The push rule was not found.")
