"""The children of a space, in order. client-server-api#spaces"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from msgspec import Struct

from homeserver.json_types import JsonObject

CHILD = "m.space.child"
SPACE = "m.space"


class Child(Struct, frozen=True):
    """A valid `m.space.child` event of a space."""

    room_id: str
    sender: str
    content: JsonObject
    origin_server_ts: int

    @property
    def via(self) -> list[str]:
        """The servers that may know the room."""
        return [server for server in self.content["via"] if isinstance(server, str)]

    @property
    def is_suggested(self) -> bool:
        return self.content.get("suggested") is True

    @property
    def stripped(self) -> JsonObject:
        """A StrippedChildStateEvent."""
        return {
            "type": CHILD,
            "state_key": self.room_id,
            "sender": self.sender,
            "content": self.content,
            "origin_server_ts": self.origin_server_ts,
        }


def is_child(content: JsonObject) -> bool:
    """ "Child rooms can be removed from a space by omitting the `via` key" """
    return isinstance(content.get("via"), list)


def in_order(children: Iterable[Child]) -> Sequence[Child]:
    """client-server-api#ordering-of-children-within-a-space"""
    return sorted(children, key=_place)


def _place(child: Child) -> tuple[bool, str, int, str]:
    """ "first order the children with a valid `order` key lexicographically by Unicode code-points
    [...]. Then, take the remaining children and order them by the `origin_server_ts` [...]. If the
    timestamps are the same, [...] lexicographically by their room IDs" """
    order = child.content.get("order")
    if not _is_order(order):
        return (True, "", child.origin_server_ts, child.room_id)
    return (False, order, child.origin_server_ts, child.room_id)


def _is_order(order: Any) -> TypeGuard[str]:
    """At most 50 ASCII characters of `\\x20` to `\\x7E`."""
    return (
        isinstance(order, str)
        and 0 < len(order) <= 50
        and all("\x20" <= character <= "\x7e" for character in order)
    )
