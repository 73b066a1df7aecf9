"""Which push rule an event meets: for one reader, or for all the readers of a room at once.

Rules of this file: rules are compiled once per set (equal sets are one object) and once more per
event type. A room is evaluated by evaluating each *set* for nobody in particular, and then those
readers one by one for whom a condition about the reader could hold: the mentioned, the invited,
the subscribed, those whose name is in the body of an event that some rule looks for names in.
client-server-api#push-rules
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.globs import folded
from homeserver.protocol.identifiers import localpart_of
from homeserver.protocol.push_conditions import (
    NOBODY,
    Condition,
    PushFacts,
    Reader,
    compile_condition,
    reads_names,
    type_test,
)
from homeserver.protocol.push_defaults import KINDS, MASTER, DefaultRule, Defaults, Own
from homeserver.protocol.push_rules import (
    NO_CHANGES,
    UNCHANGED,
    Changed,
    OwnRule,
    UserRules,
    decode_rules,
    parse_actions,
)
from homeserver.protocol.push_sets import DEFAULT_SET, rules_in_room, set_number

_REMEMBERED_TYPES = 64


class Outcome(Struct, frozen=True):
    """What an event does for a reader. `tweaks` are for the push gateway."""

    notify: bool
    highlight: bool
    actions: tuple[Any, ...] = ()

    @property
    def tweaks(self) -> JsonObject:
        """client-server-api#actions: "`set_tweak` [...] sets an entry in the `tweaks`"."""
        tweaks = [action for action in self.actions if isinstance(action, dict)]
        return {tweak["set_tweak"]: tweak.get("value", True) for tweak in tweaks}


NOTHING = Outcome(notify=False, highlight=False)


class _Rule(Struct, frozen=True):
    """An enabled rule: the tests of the event's type, and the other conditions."""

    outcome: Outcome
    type_tests: tuple[Callable[[str], bool], ...]
    conditions: tuple[Condition, ...]


_Candidate = tuple[tuple[Condition, ...], Outcome]


class CompiledRules:
    """All the rules of a user, ready to be evaluated; compared by identity."""

    __slots__ = ("_after", "_before", "_by_room", "_by_sender", "_by_type", "number", "reads_names")

    def __init__(
        self, rules: UserRules, defaults: Sequence[DefaultRule], number: int = DEFAULT_SET
    ) -> None:
        """`number` is the set's name in what is stored of an event."""
        self.number = number
        self.reads_names = False
        self._before: list[_Rule] = []
        self._after: list[_Rule] = []
        for kind in KINDS:
            if kind not in ("room", "sender"):
                target = self._after if kind == "underride" else self._before
                target += self._compile_kind(kind, rules, defaults)
        self._by_room = _by_id(rules.room)
        self._by_sender = _by_id(rules.sender)
        self._by_type: dict[str, tuple[list[_Candidate], list[_Candidate]]] = {}

    def evaluate(self, facts: PushFacts, reader: Reader) -> Outcome:
        """What the first rule that matches says. The reader is not the sender.

        "If no rules match an event, the homeserver MUST NOT notify the Push Gateway"
        """
        before, after = self._by_type.get(facts.type) or self._candidates(facts.type)
        for conditions, outcome in before:
            for condition in conditions:
                if not condition(facts, reader):
                    break
            else:
                return outcome
        own = self._by_room.get(facts.room_id) or self._by_sender.get(facts.sender)
        if own is not None:
            return own
        for conditions, outcome in after:
            for condition in conditions:
                if not condition(facts, reader):
                    break
            else:
                return outcome
        return NOTHING

    def _candidates(self, event_type: str) -> tuple[list[_Candidate], list[_Candidate]]:
        if len(self._by_type) >= _REMEMBERED_TYPES:  # types are anybody's choice
            self._by_type.clear()
        found = (_of_type(self._before, event_type), _of_type(self._after, event_type))
        self._by_type[event_type] = found
        return found

    def _compile_kind(
        self, kind: str, rules: UserRules, defaults: Sequence[DefaultRule]
    ) -> list[_Rule]:
        default_rules = [
            (rule, self._default(rule, rules.changed.get(rule.rule_id, Changed())))
            for rule in defaults
            if rule.kind == kind
        ]
        own = [
            self._rule(rule.actions, _own_conditions(kind, rule))
            for rule in rules.of(kind)
            if rule.enabled
        ]
        # "[Server-default rules] operate at a lower priority than "user-defined rules", except for
        # the `.m.rule.master` rule which has always a higher priority than any other rule."
        master = [compiled for rule, compiled in default_rules if rule.rule_id == MASTER]
        others = [compiled for rule, compiled in default_rules if rule.rule_id != MASTER]
        return [rule for rule in (*master, *own, *others) if rule is not None]

    def _default(self, rule: DefaultRule, changed: Changed) -> _Rule | None:
        enabled = rule.enabled if changed.enabled is None else changed.enabled
        if not enabled:  # "Disabled rules never match."
            return None
        conditions = rule.conditions
        if rule.pattern is not None:
            conditions += (_body_condition(rule.pattern),)
        actions = rule.actions if changed.actions is None else changed.actions
        compiled = self._rule(actions, conditions)
        if rule.not_with_mentions:
            unmentioned = (_has_no_mentions, *compiled.conditions)
            return _Rule(compiled.outcome, compiled.type_tests, unmentioned)
        return compiled

    def _rule(self, actions: Iterable[Any], conditions: Iterable[JsonObject]) -> _Rule:
        tests: list[Callable[[str], bool]] = []
        others: list[Condition] = []
        for condition in conditions:
            self.reads_names = self.reads_names or reads_names(condition)
            test = type_test(condition)
            if test is not None:
                tests.append(test)
            else:
                others.append(compile_condition(condition))
        return _Rule(outcome_of(list(actions)), tuple(tests), tuple(others))


def outcome_of(actions: list[Any]) -> Outcome:
    """What a list of actions amounts to.

    "If a `highlight` tweak is given with no value, its value is defined to be `true`. If no
    highlight tweak is given at all then the value of `highlight` is defined to be false."
    """
    actions = parse_actions(actions)
    if "notify" not in actions:
        return NOTHING
    outcome = Outcome(notify=True, highlight=False, actions=tuple(actions))
    highlight = outcome.tweaks.get("highlight", False) is True
    return Outcome(notify=True, highlight=highlight, actions=outcome.actions)


def _by_id(rules: Iterable[OwnRule]) -> dict[str, Outcome]:
    return {rule.rule_id: outcome_of(rule.actions) for rule in rules if rule.enabled}


def _of_type(rules: Iterable[_Rule], event_type: str) -> list[_Candidate]:
    return [
        (rule.conditions, rule.outcome)
        for rule in rules
        if all(test(event_type) for test in rule.type_tests)
    ]


def _own_conditions(kind: str, rule: OwnRule) -> list[JsonObject]:
    if kind == "content":
        return [_body_condition(rule.pattern)]
    return rule.conditions or []


def _body_condition(pattern: str | Own | None) -> JsonObject:
    return {"kind": "event_match", "key": "content.body", "pattern": pattern}


def _has_no_mentions(facts: PushFacts, reader: Reader) -> bool:
    return "m.mentions" not in facts.content


@lru_cache(maxsize=8192)
def compiled_rules(stored: bytes, defaults: Defaults) -> CompiledRules:
    """The rules of `encode_rules`, one object for all users whose rules are equal."""
    if stored == UNCHANGED:
        return compiled_defaults(defaults)
    return CompiledRules(decode_rules(stored), defaults, set_number(stored))


@lru_cache(maxsize=8)
def compiled_defaults(defaults: Defaults) -> CompiledRules:
    """The rules of everybody who changed nothing."""
    return CompiledRules(NO_CHANGES, defaults)


def compiled_in_room(stored: bytes, room_id: str, defaults: Defaults) -> CompiledRules:
    """What can matter in a room of these rules; one object for all members with equal wishes."""
    in_room = stored if stored == UNCHANGED else rules_in_room(stored, room_id)
    return compiled_rules(in_room, defaults)


class RoomReaders:
    """The local members of a room and their rules, kept by whoever keeps the room in memory."""

    __slots__ = ("_default", "_own_sets", "_rules", "display_name")

    def __init__(self, default: CompiledRules, display_name: Callable[[str], str | None]) -> None:
        """`default` are the rules of who changed nothing; `display_name` a member's in the room."""
        self._default = default
        self._rules: dict[str, CompiledRules] = {}
        self._own_sets: dict[CompiledRules, set[str]] = {}
        self.display_name = display_name

    def put(self, user_id: str, rules: CompiledRules) -> None:
        """Adds a member, or notes that their rules changed."""
        self.remove(user_id)
        self._rules[user_id] = rules
        if rules is not self._default:
            self._own_sets.setdefault(rules, set()).add(user_id)

    def remove(self, user_id: str) -> None:
        rules = self._rules.pop(user_id, None)
        members = self._own_sets.get(rules) if rules is not None else None
        if members is not None and rules is not None:
            members.discard(user_id)
            if not members:
                del self._own_sets[rules]

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._rules

    def __len__(self) -> int:
        return len(self._rules)

    def evaluate(self, facts: PushFacts, user_id: str) -> Outcome:
        """One member on their own: what `evaluate_room` says for them, the long way."""
        return evaluate_user(facts, user_id, self._rules[user_id], self.display_name(user_id))

    def evaluate_room(self, facts: PushFacts) -> RoomOutcome:
        """All members at once: the outcome on default rules, and the members who differ from it."""
        default = self._default.evaluate(facts, NOBODY)
        sets: dict[CompiledRules, Outcome] = {}
        for rules in self._own_sets:
            outcome = rules.evaluate(facts, NOBODY)
            if outcome != default:
                sets[rules] = outcome
        personal: dict[str, Outcome] = {}
        for user_id in self._concerned(facts):
            outcome = self.evaluate(facts, user_id)
            if outcome != sets.get(self._rules[user_id], default):
                personal[user_id] = outcome
        return RoomOutcome(default, sets, personal, self)

    def rules_of(self, user_id: str) -> CompiledRules:
        """A member's rules; the default ones for who is none."""
        return self._rules.get(user_id, self._default)

    def members_on(self, rules: CompiledRules) -> Iterable[str]:
        """The members on a set of rules that isn't the default one."""
        return self._own_sets.get(rules, ())

    def _concerned(self, facts: PushFacts) -> set[str]:
        """The members for whom a condition about the reader may hold, or who are never notified."""
        rules = self._rules
        concerned = {user_id for user_id in facts.mentioned if user_id in rules}
        concerned.update(user_id for user_id in facts.subscribers if user_id in rules)
        concerned.update(user_id for user_id in facts.ignored_by if user_id in rules)
        state_key = facts.properties.get("state_key")
        concerned.update(key for key in (facts.sender, state_key) if key in rules)
        if facts.folded_body:
            concerned.update(self._named(facts.folded_body))
        return concerned

    def _named(self, folded_body: str) -> Iterable[str]:
        """The members on rules that look for names whose name might be in the body."""
        readers = (
            [self._rules]
            if self._default.reads_names
            else [members for rules, members in self._own_sets.items() if rules.reads_names]
        )
        for members in readers:
            for user_id in members:
                name = self.display_name(user_id)
                if (name and folded(name) in folded_body) or (
                    folded(localpart_of(user_id)) in folded_body
                ):
                    yield user_id


def evaluate_user(
    facts: PushFacts, user_id: str, rules: CompiledRules, display_name: str | None
) -> Outcome:
    """What the event does for one user, who need not be a member (an invited one isn't yet)."""
    # "Homeservers MUST NOT notify the Push Gateway for events that the user has sent themselves."
    if user_id == facts.sender or user_id in facts.ignored_by:
        return NOTHING
    return rules.evaluate(facts, Reader(user_id, display_name, user_id in facts.subscribers))


class RoomOutcome(Struct, frozen=True):
    """`sets` has the rule sets whose outcome, for nobody in particular, is not the `default` one;
    `personal` the members whose outcome is not the one of their set."""

    default: Outcome
    sets: Mapping[CompiledRules, Outcome]
    personal: Mapping[str, Outcome]
    readers: RoomReaders

    def of(self, user_id: str) -> Outcome:
        own = self.personal.get(user_id)
        if own is not None:
            return own
        return self.sets.get(self.readers.rules_of(user_id), self.default)

    @property
    def differences(self) -> dict[str, Outcome]:
        """Each member whose outcome is not the `default` one."""
        found = {
            user_id: outcome
            for rules, outcome in self.sets.items()
            for user_id in self.readers.members_on(rules)
        }
        found |= self.personal
        return {user_id: outcome for user_id, outcome in found.items() if outcome != self.default}
