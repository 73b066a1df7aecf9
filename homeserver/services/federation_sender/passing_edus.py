"""EDUs that are sent if the destination is there, and forgotten otherwise: typing, receipts,
presence. The newest replaces what it makes obsolete.

server-server-api#typing-notifications, #receipts, #presence
"""

from __future__ import annotations

from collections.abc import Iterator

from homeserver.json_types import JsonObject
from homeserver.protocol.presence import UserPresence
from homeserver.store.receipts import ReceiptRow

MAX_KEPT = 1000


class PassingEdus:
    """What waits for one destination."""

    __slots__ = ("_presence", "_receipts", "_typing")

    def __init__(self) -> None:
        self._typing: dict[tuple[str, str], bool] = {}
        self._receipts: dict[tuple[str, str, str], ReceiptRow] = {}
        self._presence: dict[str, UserPresence] = {}

    def __bool__(self) -> bool:
        return bool(self._typing or self._receipts or self._presence)

    def clear(self) -> None:
        """The destination isn't there."""
        self._typing.clear()
        self._receipts.clear()
        self._presence.clear()

    def add_typing(self, room_id: str, user_id: str, is_typing: bool) -> None:
        if len(self._typing) < MAX_KEPT:
            self._typing[room_id, user_id] = is_typing

    def add_receipt(self, room_id: str, row: ReceiptRow) -> None:
        if len(self._receipts) < MAX_KEPT:
            self._receipts[room_id, row.user_id, row.thread_id] = row

    def add_presence(self, presence: UserPresence) -> None:
        if len(self._presence) < MAX_KEPT:
            self._presence[presence.user_id] = presence

    def take(self, now: int, limit: int) -> list[JsonObject]:
        """At most `limit` EDUs, which wait no more."""
        edus: list[JsonObject] = []
        while self._typing and len(edus) < limit:
            (room_id, user_id), is_typing = self._typing.popitem()
            content = {"room_id": room_id, "user_id": user_id, "typing": is_typing}
            edus.append(edu("m.typing", content))
        if self._presence and len(edus) < limit:
            push = [
                {"user_id": user_id, **_presence_content(presence, now)}
                for user_id, presence in self._presence.items()
            ]
            self._presence.clear()
            edus.append(edu("m.presence", {"push": push}))
        edus.extend(self._take_receipts(limit - len(edus)))
        return edus

    def _take_receipts(self, limit: int) -> Iterator[JsonObject]:
        """One EDU holds one receipt per user and room; those of further threads come after it."""
        for _ in range(limit):
            if not self._receipts:
                return
            content: dict[str, dict[str, dict[str, JsonObject]]] = {}
            taken: set[tuple[str, str]] = set()
            for room_id, user_id, thread_id in list(self._receipts):
                if (room_id, user_id) in taken:
                    continue
                taken.add((room_id, user_id))
                row = self._receipts.pop((room_id, user_id, thread_id))
                data: JsonObject = {"ts": row.ts}
                if thread_id:
                    data["thread_id"] = thread_id
                receipt = {"event_ids": [row.event_id], "data": data}
                content.setdefault(room_id, {}).setdefault("m.read", {})[user_id] = receipt
            yield edu("m.receipt", content)


def edu(edu_type: str, content: JsonObject) -> JsonObject:
    """server-server-api#edus"""
    return {"edu_type": edu_type, "content": content}


def _presence_content(presence: UserPresence, now: int) -> JsonObject:
    content: JsonObject = {"last_active_ago": 0, **presence.content(now)}
    return content
