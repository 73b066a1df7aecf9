"""A valid room of pure events in memory; its branches are forks that go their own way.

    room = Room("11")                       # made by ALICE, public, with power levels
    room.join(BOB)
    one, other = room.fork(), room.fork()   # both go on from here
    one.ban(ALICE, BOB)
    other.send("m.room.topic", BOB, {"topic": "mine"}, "")

Every event is signed and, unless `allowed=False`, must pass the auth rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nacl.signing

from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules import auth_event_keys, check_auth_events, check_event
from homeserver.protocol.events import Event, StateKey, Template, build_event
from homeserver.protocol.power_levels import PowerLevels, power_levels_of
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.protocol.signatures import Signer

ALICE = "@alice:h.org"
BOB = "@bob:h.org"
CAROL = "@carol:other.org"
DAVE = "@dave:other.org"
SIGNER = Signer("h.org", "ed25519:1", nacl.signing.SigningKey(b"k" * 32))
CREATE: StateKey = ("m.room.create", "")


class Branch:
    """A line of events: its head, its depth and the state after its head."""

    def __init__(self, rules: RoomVersion, events: dict[str, Event], clock: list[int]) -> None:
        self.rules = rules
        self.events = events
        self.heads: tuple[str, ...] = ()
        self.depth = 0
        self.state: dict[StateKey, str] = {}
        self._clock = clock

    def fork(self) -> Branch:
        """Another line that starts where this one is."""
        branch = Branch(self.rules, self.events, self._clock)
        branch.heads, branch.depth, branch.state = self.heads, self.depth, dict(self.state)
        return branch

    def merged(self, others: Sequence[Branch], state: Mapping[StateKey, str]) -> Branch:
        """A line that goes on from this one and others, with their resolved state."""
        branch = self.fork()
        branch.heads = tuple(dict.fromkeys(head for b in (self, *others) for head in b.heads))
        branch.depth = max(b.depth for b in (self, *others))
        branch.state = dict(state)
        return branch

    @property
    def create(self) -> Event:
        return self.events[self.state[CREATE]]

    @property
    def state_events(self) -> dict[StateKey, Event]:
        return {key: self.events[event_id] for key, event_id in self.state.items()}

    def get(self, event_type: str, state_key: str = "") -> Event:
        return self.events[self.state[event_type, state_key]]

    @property
    def power_levels(self) -> PowerLevels:
        power = self.state.get(("m.room.power_levels", ""))
        return power_levels_of(self.rules, self.create, self.events[power] if power else None)

    def make(
        self,
        event_type: str,
        sender: str,
        content: JsonObject,
        state_key: str | None = None,
        **changes: Any,
    ) -> Event:
        """An event on top of this line that isn't part of it; `changes` of its template."""
        self._clock[0] += 1
        keys = auth_event_keys(self.rules, event_type, sender, state_key, content)
        fields: dict[str, Any] = {
            "room_id": self.create.room_id if self.state else "!r:h.org",
            "type": event_type,
            "sender": sender,
            "content": content,
            "state_key": state_key,
            "origin_server_ts": 1_700_000_000_000 + self._clock[0],
            "depth": self.depth + 1,
            "prev_events": self.heads,
            "auth_events": [self.state[key] for key in keys if key in self.state],
            "event_id": f"$e{self._clock[0]}:h.org" if self.rules.event_id_in_pdu else None,
        }
        return build_event(self.rules, Template(**fields | changes), SIGNER)

    def add(self, event: Event, *, allowed: bool = True) -> Event:
        """Puts an event at the end of this line."""
        if allowed:
            check_auth_events(self.rules, event, [self.events[i] for i in event.auth_events])
            check_event(self.rules, event, self.state_events)
        self.events[event.event_id] = event
        self.heads, self.depth = (event.event_id,), event.depth
        if event.is_state and not event.rejected:
            self.state[event.key] = event.event_id
        return event

    def send(
        self,
        event_type: str,
        sender: str,
        content: JsonObject,
        state_key: str | None = None,
        *,
        allowed: bool = True,
        **changes: Any,
    ) -> Event:
        """Makes an event and adds it."""
        made = self.make(event_type, sender, content, state_key, **changes)
        return self.add(made, allowed=allowed)

    def member(
        self, sender: str, user_id: str, membership: str, *, allowed: bool = True, **content: Any
    ) -> Event:
        content = {"membership": membership, **content}
        return self.send("m.room.member", sender, content, user_id, allowed=allowed)

    def join(self, user_id: str, **content: Any) -> Event:
        return self.member(user_id, user_id, "join", **content)

    def leave(self, user_id: str) -> Event:
        return self.member(user_id, user_id, "leave")

    def invite(self, sender: str, user_id: str) -> Event:
        return self.member(sender, user_id, "invite")

    def kick(self, sender: str, user_id: str) -> Event:
        return self.member(sender, user_id, "leave")

    def ban(self, sender: str, user_id: str) -> Event:
        return self.member(sender, user_id, "ban")

    def join_rule(self, sender: str, rule: str, **content: Any) -> Event:
        return self.send("m.room.join_rules", sender, {"join_rule": rule, **content}, "")

    def topic(self, sender: str, topic: str) -> Event:
        return self.send("m.room.topic", sender, {"topic": topic}, "")

    def power(self, sender: str, users: Mapping[str, int], **levels: Any) -> Event:
        """Power levels with just these users beside the creator, if creators are listed."""
        content = {"users": {**self._creator_entry(), **users}, **levels}
        return self.send("m.room.power_levels", sender, content, "")

    def _creator_entry(self) -> dict[str, int]:
        return {} if self.rules.privileged_creators else {self.create.sender: 100}


class Room(Branch):
    """A room of a version, just made by ALICE: joined, power levels, join rule."""

    def __init__(
        self,
        version: str,
        join_rule: str | None = "public",
        *,
        bare: bool = False,
        **create_content: Any,
    ) -> None:
        super().__init__(ROOM_VERSIONS[version], {}, [0])
        if not self.rules.implicit_creator:
            create_content.setdefault("creator", ALICE)
        create_content.setdefault("room_version", version)
        self.send("m.room.create", ALICE, create_content, "")
        self.join(ALICE)
        if bare:
            return
        self.power(ALICE, {})
        if join_rule is not None:
            self.join_rule(ALICE, join_rule)
