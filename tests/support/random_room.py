"""Random rooms that fork and merge, the same for the same seed: for properties and for the oracle.

Everything that anybody attempts is recorded with its verdict; what is allowed becomes part of the
room. At each merge the states to be resolved are recorded, with the resolution that we came to.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules import check_event
from homeserver.protocol.auth_rules.membership import membership_of
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.state_resolution import AuthGraph, resolve
from tests.support.room import ALICE, BOB, CAROL, DAVE, Branch, Room

EVE = "@eve:third.net"
USERS = [ALICE, BOB, CAROL, DAVE, EVE]
SCALARS = ["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"]
StateIds = Mapping[StateKey, str]


@dataclass
class Attempt:
    """An event, the state that it was judged by, and the rule that it breaks."""

    event: Event
    state: StateIds
    reason: str | None


@dataclass
class History:
    """All that happened in a random room."""

    room: Room
    attempts: list[Attempt] = field(default_factory=list)
    resolutions: list[tuple[list[StateIds], StateIds]] = field(default_factory=list)
    graph: AuthGraph = field(default_factory=AuthGraph)


def random_history(seed: int, version: str, steps: int = 40) -> History:
    """A room of that version with about that many attempts."""
    return _Play(random.Random(seed), version).play(steps)


class _Play:
    def __init__(self, chance: random.Random, version: str) -> None:
        self.chance = chance
        content: dict[str, Any] = {}
        if chance.random() < 0.3:
            content["additional_creators"] = chance.sample([BOB, CAROL], chance.randint(0, 2))
        bare = chance.random() < 0.2
        join_rule = chance.choice(["public", "public", "invite", None])
        room = Room(version, join_rule, bare=bare, **content)
        self.history = History(room, graph=AuthGraph(room.events.values()))
        self.branches: list[Branch] = [room.fork()]

    def play(self, steps: int) -> History:
        for user_id in USERS[1:]:
            if self.chance.random() < 0.8:
                self.attempt(self.branches[0], "m.room.member", user_id, member("join"), user_id)
        for _ in range(steps):
            self.step()
        if len(self.branches) > 1:
            self.merge(self.branches)
        return self.history

    def step(self) -> None:
        branch = self.chance.choice(self.branches)
        what = self.chance.random()
        if what < 0.12 and len(self.branches) < 5:
            self.branches.append(branch.fork())
        elif what < 0.18 and len(self.branches) > 1:
            count = self.chance.randint(2, len(self.branches))
            self.merge(self.chance.sample(self.branches, count))
        else:
            actions = [self.membership] * 5 + [self.power] * 3 + [self.join_rule] * 2
            self.chance.choice([*actions, self.other_state, self.other_state])(branch)

    def merge(self, branches: list[Branch]) -> None:
        room = self.history.room
        states = [dict(branch.state) for branch in branches]
        resolved = resolve(room.rules, states, self.history.graph, room.events)
        self.history.resolutions.append((list(states), resolved))
        merged = branches[0].merged(branches[1:], resolved)
        self.branches = [b for b in self.branches if b not in branches] + [merged]
        if self.chance.random() < 0.5:
            self.branches.append(merged.fork())

    def attempt(
        self,
        branch: Branch,
        event_type: str,
        sender: str,
        content: JsonObject,
        state_key: str | None,
    ) -> None:
        ts = 1_700_000_000_000 + self.chance.randint(0, 60)
        event = branch.make(event_type, sender, content, state_key, origin_server_ts=ts)
        reason = None
        try:
            check_event(branch.rules, event, branch.state_events)
        except Rejected as rejected:
            reason = rejected.reason
        self.history.attempts.append(Attempt(event, dict(branch.state), reason))
        if reason is None:
            branch.add(event)
            if event.is_state:
                self.history.graph.add(event.event_id, event.key, event.auth_events)

    def membership(self, branch: Branch) -> None:
        sender, target = self.somebody(branch), self.chance.choice(USERS)
        kind = self.chance.choice(["join", "join", "leave", "invite", "ban", "kick", "knock"])
        if kind in ("join", "leave", "knock"):
            sender = target
        content = member("leave" if kind == "kick" else kind)
        if kind == "join" and self.chance.random() < 0.3:
            content["join_authorised_via_users_server"] = self.chance.choice(USERS)
        self.attempt(branch, "m.room.member", sender, content, target)

    def power(self, branch: Branch) -> None:
        key = ("m.room.power_levels", "")
        content = dict(branch.get(*key).content) if key in branch.state else {}
        for _ in range(self.chance.randint(1, 2)):
            self.change_power(content)
        self.attempt(branch, "m.room.power_levels", self.somebody(branch), content, "")

    def change_power(self, content: JsonObject) -> None:
        level = self.chance.choice([0, 25, 50, 75, 100])
        what = self.chance.random()
        if what < 0.6:
            users = dict(content.get("users", {}))
            users[self.chance.choice(USERS)] = level
            content["users"] = users
        elif what < 0.75:
            name = self.chance.choice(["events", "notifications"])
            entry = self.chance.choice(["m.room.topic", "m.room.join_rules", "room"])
            content[name] = {**content.get(name, {}), entry: level}
        elif what < 0.85:
            content.pop(self.chance.choice([*SCALARS, "events"]), None)
        else:
            content[self.chance.choice(SCALARS)] = level

    def join_rule(self, branch: Branch) -> None:
        rules = ["public", "invite", "knock", "restricted", "knock_restricted"]
        content = {"join_rule": self.chance.choice(rules)}
        self.attempt(branch, "m.room.join_rules", self.somebody(branch), content, "")

    def other_state(self, branch: Branch) -> None:
        event_type = self.chance.choice(
            ["m.room.topic", "m.room.name", "m.room.aliases", "m.room.third_party_invite"]
        )
        sender = self.somebody(branch)
        state_keys = ["", sender, "h.org", "other.org", self.chance.choice(USERS)]
        content = {"n": self.chance.randint(0, 9)}
        self.attempt(branch, event_type, sender, content, self.chance.choice(state_keys))

    def somebody(self, branch: Branch) -> str:
        """Mostly a joined member, often ALICE, who has power for sure."""
        joined = [user for user in USERS if membership_of(branch.state_events, user) == "join"]
        return self.chance.choice([*joined * 3, ALICE, *USERS])


def member(membership: str) -> JsonObject:
    return {"membership": membership}
