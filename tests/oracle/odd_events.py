"""Events as nobody should send them, judged by the state of a random room.

Levels that are none, user ids that are none, third-party invites signed and not, auth events that
don't belong there: each is judged by us and by Synapse.
"""

from __future__ import annotations

import random
from typing import Any

import nacl.signing

from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules import auth_event_keys, check_auth_events, check_event
from homeserver.protocol.events import Event, StateKey, parse_event
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.signatures import encoded_verify_key, sign_json
from tests.support.random_room import USERS, Attempt, History
from tests.support.room import Branch

SCALARS = ["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"]
LEVELS: list[Any] = [0, 25, 50, 100, -1, "50", " +7 ", "-3", "x", "", None, [], {}, "5.5"]
LOOSE_LEVELS: list[Any] = [*LEVELS, 12.7, 1e3, 2**60]
CONTENT_TYPES = [
    f"m.room.{name}"
    for name in (
        "member", "create", "join_rules", "power_levels", "aliases", "history_visibility",
        "redaction",
    )
]  # fmt: skip
CONTENT_KEYS = [
    *SCALARS, "membership", "creator", "join_rule", "allow", "events", "users", "aliases",
    "history_visibility", "redacts", "third_party_invite", "join_authorised_via_users_server",
    "body", "notifications", "room_version",
]  # fmt: skip
# Without `room_id`: from a v12 create event Synapse takes it away, and such an event is rejected.
TOP_KEYS = [
    "event_id", "sender", "state_key", "hashes", "signatures", "depth", "prev_events",
    "prev_state", "auth_events", "origin", "origin_server_ts", "membership", "redacts", "age_ts",
]  # fmt: skip
KEY = nacl.signing.SigningKey(b"3" * 32)


class OddEvents:
    """Makes odd events on branches of a room."""

    def __init__(self, chance: random.Random, history: History) -> None:
        self.chance = chance
        self.history = history
        strict = history.room.rules.strict_canonical_json
        self.levels = LEVELS if strict else LOOSE_LEVELS

    def attempt(self, branch: Branch) -> Attempt:
        """An event of any kind, its state and the rule that it breaks."""
        kinds = [self.power_levels, self.member, self.third_party_invite, self.restricted_join]
        event_type, sender, content, state_key = self.chance.choice([*kinds, self.any])(branch)
        if event_type == "m.room.power_levels":
            # We ourselves never send floats: put them into the finished PDU.
            event = branch.make(event_type, sender, {}, state_key)
            event = parse_event(event.pdu | {"content": content}, branch.rules)
        else:
            event = branch.make(event_type, sender, content, state_key)
        return self.judged(event, branch)

    def judged(self, event: Event, branch: Branch) -> Attempt:
        reason = None
        try:
            check_event(branch.rules, event, branch.state_events)
        except Rejected as rejected:
            reason = rejected.reason
        return Attempt(event, dict(branch.state), reason)

    def sender(self, branch: Branch) -> str:
        return self.chance.choice([branch.create.sender] * 3 + USERS)

    def power_levels(self, branch: Branch) -> Any:
        names = self.chance.sample(SCALARS, self.chance.randint(0, 2))
        content: JsonObject = {name: self.level() for name in names}
        for name in ("users", "events", "notifications"):
            if self.chance.random() < 0.5:
                keys = USERS if name == "users" else ["m.room.topic", "m.room.name", "room"]
                content[name] = {
                    key: self.level() for key in self.chance.sample(keys, self.chance.randint(0, 2))
                }
        if self.chance.random() < 0.1:
            content["users"] = {self.chance.choice(["bob", "@bob", "", "#a:b"]): 5}
        return "m.room.power_levels", self.sender(branch), content, ""

    def level(self) -> Any:
        return self.chance.choice([50, self.chance.choice(self.levels)])

    def member(self, branch: Branch) -> Any:
        membership = self.chance.choice(["join", "leave", "invite", "ban", "knock", "x", ""])
        target = self.chance.choice(USERS)
        sender = self.chance.choice([target, self.sender(branch)])
        return "m.room.member", sender, {"membership": membership}, target

    def restricted_join(self, branch: Branch) -> Any:
        content: JsonObject = {"membership": "join"}
        if self.chance.random() < 0.8:
            content["join_authorised_via_users_server"] = self.chance.choice(USERS)
        user_id = self.chance.choice(USERS)
        return "m.room.member", user_id, content, user_id

    def third_party_invite(self, branch: Branch) -> Any:
        """An invite by a token that the room may know, with a signature that may be right."""
        sender, target = self.sender(branch), self.chance.choice(USERS)
        token = self.chance.choice(["known", "known", "unknown"])
        signed: JsonObject = {"mxid": self.chance.choice([target, target, USERS[0]])}
        if self.chance.random() < 0.9:
            signed["token"] = token
        signed = sign_json(signed, "id.org", "ed25519:0", KEY)
        if self.chance.random() < 0.2:
            signed["signatures"]["id.org"]["ed25519:0"] = "A" * 86
        content = {"membership": "invite", "third_party_invite": {"signed": signed}}
        return "m.room.member", sender, content, target

    def add_third_party_invite(self, branch: Branch) -> None:
        """Makes the token `known`, by the creator, whether it is joined or not."""
        content: JsonObject = {"public_key": encoded_verify_key(KEY)}
        if self.chance.random() < 0.3:
            content = {"public_keys": [content]}
        sender = branch.create.sender
        branch.send("m.room.third_party_invite", sender, content, "known", allowed=False)

    def any(self, branch: Branch) -> Any:
        event_type = self.chance.choice(
            ["m.room.topic", "m.room.redaction", "m.room.aliases", "m.room.message", "org.x"]
        )
        state_key = self.chance.choice([None, "", *USERS, "h.org", "other.org", "@"])
        return event_type, self.sender(branch), {}, state_key

    def pdu(self) -> JsonObject:
        """Keys that redaction keeps in one version or another, with values of any type."""
        values: list[Any] = [1, "x", None, [], {}, {"a": 1}, {"signed": {}}, {"signed": 1, "b": 2}]
        content = {key: self.chance.choice(values) for key in self.chance.sample(CONTENT_KEYS, 8)}
        pdu = {key: self.chance.choice(values) for key in self.chance.sample(TOP_KEYS, 8)}
        event_type = self.chance.choice([*CONTENT_TYPES, "m.room.message"])
        return {**pdu, "type": event_type, "content": content}

    def odd_auth_events(self, branch: Branch) -> tuple[Event, str | None]:
        """An event whose auth events aren't quite the ones that were to be selected."""
        kinds = [self.any, self.member, self.restricted_join, self.third_party_invite]
        event_type, sender, content, state_key = self.chance.choice(kinds)(branch)
        if event_type == "m.room.member" and "third_party_invite" in content:
            # Without a token Synapse's selection fails; the invite is refused anyway.
            content["third_party_invite"]["signed"].setdefault("token", "known")
        keys = auth_event_keys(branch.rules, event_type, sender, state_key, content)
        chosen = [key for key in keys if key in branch.state and self.chance.random() < 0.9]
        if self.chance.random() < 0.3:
            others: list[StateKey] = [*branch.state, ("m.room.third_party_invite", "known")]
            others += [("m.room.member", user_id) for user_id in USERS if user_id != sender]
            chosen.append(self.chance.choice([key for key in others if key in branch.state]))
        ids = [branch.state[key] for key in chosen]
        if self.chance.random() < 0.2:
            again = [e.event_id for e in branch.events.values() if e.is_state and e.key in chosen]
            ids.append(self.chance.choice(again or [branch.create.event_id]))
        event = branch.make(event_type, sender, content, state_key, auth_events=ids)
        try:
            check_auth_events(branch.rules, event, [branch.events[id_] for id_ in ids])
        except Rejected as rejected:
            return event, rejected.reason
        return event, None
