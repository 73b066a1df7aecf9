"""A user's presence and how clients see it. client-server-api#presence"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from homeserver.json_types import JsonObject

State = Literal["online", "unavailable", "offline"]

ACTIVE_MS = 60_000
"""For so long after doing something a user is "currently active"."""


class UserPresence(Struct, frozen=True):
    """A user's presence as of a stream position. `last_active_ts` in milliseconds, 0: unknown."""

    user_id: str
    state: State
    status_msg: str | None
    last_active_ts: int
    position: int

    def content(self, now: int) -> JsonObject:
        """The content of the `m.presence` event. client-server-api#mpresence"""
        content: JsonObject = {"presence": self.state}
        if self.last_active_ts:
            ago = max(0, now - self.last_active_ts)
            content["last_active_ago"] = ago
            if self.state == "online":
                content["currently_active"] = ago < ACTIVE_MS
        if self.status_msg is not None:
            content["status_msg"] = self.status_msg
        return content
