"""What a client knows that does nothing but fold the answers of /sync."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from homeserver.json_types import JsonObject

StateKey = tuple[str, str]


@dataclass
class RoomModel:
    """A joined room. `timeline` is unbroken: a gap throws away what was before it."""

    timeline: list[str] = field(default_factory=list)
    state: dict[StateKey, str] = field(default_factory=dict)
    contents: dict[StateKey, JsonObject] = field(default_factory=dict)
    account_data: dict[str, JsonObject] = field(default_factory=dict)
    receipts: dict[tuple[str, str], str] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)
    joined_count: int | None = None
    unread: JsonObject = field(default_factory=dict)

    def fold(self, answer: JsonObject, state_name: str) -> None:
        timeline = answer["timeline"]
        events = timeline["events"]
        if timeline["limited"]:
            self.timeline = []
        for event in events:
            assert event["event_id"] not in self.timeline, "an event was told twice"
            self.timeline.append(event["event_id"])
        shown = answer.get(state_name, {}).get("events", [])
        folded = [*shown, *(events if state_name == "state" else [])]
        for event in folded:
            if "state_key" in event:
                key = (event["type"], event["state_key"])
                self.state[key] = event["event_id"]
                self.contents[key] = event["content"]
        for event in answer.get("account_data", {}).get("events", []):
            self.account_data[event["type"]] = event["content"]
        for event in answer.get("ephemeral", {}).get("events", []):
            self.fold_ephemeral(event)
        self.unread = answer.get("unread_notifications", self.unread)
        counted = answer.get("summary", {}).get("m.joined_member_count")
        self.joined_count = self.joined_count if counted is None else counted

    def fold_ephemeral(self, event: JsonObject) -> None:
        if event["type"] == "m.typing":
            self.typing = sorted(event["content"]["user_ids"])
            return
        for event_id, by_type in event["content"].items():
            for kind, users in by_type.items():
                for user_id in users:
                    self.receipts[(user_id, kind)] = event_id


@dataclass
class ClientModel:
    """A device's view of everything, after one chain of syncs."""

    state_name: str = "state"
    rooms: dict[str, RoomModel] = field(default_factory=dict)
    invited: set[str] = field(default_factory=set)
    account_data: dict[str, JsonObject] = field(default_factory=dict)

    def folded(self, answer: JsonObject) -> ClientModel:
        """The view after one more answer; this one stays as it is."""
        after = deepcopy(self)
        rooms: Any = answer.get("rooms", {})
        for room_id, room in rooms.get("join", {}).items():
            after.invited.discard(room_id)
            after.rooms.setdefault(room_id, RoomModel()).fold(room, self.state_name)
        for room_id in rooms.get("invite", {}):
            after.rooms.pop(room_id, None)
            after.invited.add(room_id)
        for room_id in rooms.get("leave", {}):
            after.rooms.pop(room_id, None)
            after.invited.discard(room_id)
        for event in answer.get("account_data", {}).get("events", []):
            after.account_data[event["type"]] = event["content"]
        return after
